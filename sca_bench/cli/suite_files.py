"""What `run`, `plan` and `check` do alike: load a suite, or every suite of a folder, and go on."""

from __future__ import annotations

import argparse
import math
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from sca_bench.errors import InputError, PathNotGiven, at, did_you_mean
from sca_bench.files import write_atomic
from sca_bench.metrics.registry import get_metric, values_of
from sca_bench.metrics.value_names import MEAN_OF_SLOTS, SEEN, TRAIN, ValueName
from sca_bench.output import in_words, num_text, say, text_console
from sca_bench.reading import SUITE_BYTES, named_file, read_bytes
from sca_bench.scene_grammar import SLOTS as SLOTS_OF_SCENES
from sca_bench.study.plan.manifest import check_name
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.claims import parse_claim
from sca_bench.study.suite.shipped import find_suite
from sca_bench.study.suite.suite import Suite, load_suite

_MOST_NOTES = 20
_OF_SHELL = re.compile(r"/dev/stdin|(/dev|/proc/self)/fd/[0-9]+")
"""Files that whoever started the command has opened: `<(...)` of a shell, and what is piped in."""
SuiteWork = Callable[[Suite, Store, Console], int]
"""What a command does with one suite; it returns the exit code."""


def for_each_suite(options: argparse.Namespace, work: SuiteWork) -> int:
    """Do a command's work for one suite, or for every suite of a folder.

    Args:
        options: What was given on the command line; `suite` is a file, a folder, or the name of a
            suite that comes with the package.
        work: What is done with each suite.

    Returns:
        The exit code, of a folder the worst one.

    Raises:
        InputError: The suite is wrong, or the folder holds none. A wrong suite of a folder is
            printed instead, and the others go on.
    """
    console = text_console(quiet=getattr(options, "json", False))
    folder = suite_path(options.suite, console)
    if not folder.is_dir():
        return _one(folder, console, options, work, {})
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise InputError(folder, "", "holds no suite", "name a folder with .yaml files")
    started, codes = time.monotonic(), []
    skipped: list[str] = []
    names: dict[str, Path] = {}
    for number, file in enumerate(files, start=1):
        console.print(f"[{number} of {len(files)}] {file}", highlight=False, markup=False)
        try:
            codes.append(_one(file, console, options, work, names))
        except PathNotGiven as error:
            skipped.append(str(error))
            console.print(f"skipped: {error}", highlight=False, markup=False, soft_wrap=True)
        except InputError as error:
            codes.append(2)
            for fault in (error, *error.others):
                say(fault, error=True)
    good = codes.count(0)
    console.print(
        f"{good} of {num_text(len(files), 'suite')} all right, {len(codes) - good} with failures, "
        f"{len(skipped)} skipped for want of a path, in {in_words(time.monotonic() - started)}",
        highlight=False,
        soft_wrap=True,
    )
    return max(codes, default=0)


def suite_path(given: str, console: Console) -> Path:
    """Return the file or folder that a command line names; say so where it is a shipped one.

    Raises:
        InputError: There is no such file, and no shipped suite is called so.
    """
    path = find_suite(given)
    if _OF_SHELL.fullmatch(given):
        return _kept(Path(given))
    if path != Path(given):
        line = f"{given} comes with sca_bench: {path}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return path


def _kept(opened: Path) -> Path:
    """Return a temporary file of what a shell's pipe holds, since a suite is read several times."""
    with named_file(opened):
        content = read_bytes(opened, SUITE_BYTES, pipe=True)
    path = Path(tempfile.mkdtemp()) / f"{opened.name}.yaml"
    write_atomic(path, content)
    return path


def _one(
    file: Path,
    console: Console,
    options: argparse.Namespace,
    work: SuiteWork,
    names: dict[str, Path],
) -> int:
    """Do a command's work for one file; `names` are the suites of its folder so far."""
    suite = checked_suite(
        file,
        profile=options.profile,
        overrides=options.overrides,
        seeds=_seeds(options.seeds),
        allow_missing=options.command != "run",
    )
    other = names.setdefault(suite.spec.suite, file)
    if other != file:
        problem = f"{suite.spec.suite!r} is what {other} is called, too"
        raise InputError(file, "suite", problem, "rename one of them")
    print_notes(suite.notes, console)
    store = Store(options.runs_dir)
    if moved := check_name(suite.file, [suite.spec.suite], store):
        console.print(moved, highlight=False, markup=False, soft_wrap=True)
    return work(suite, store, console)


def checked_suite(
    file: Path,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    allow_missing: bool = False,
) -> Suite:
    """Read a suite as `load_suite` does, and check its metrics and what it claims of them.

    Args:
        file: The YAML file.
        profile: Profile to use; the suite's own default where None.
        overrides: `path=value` settings that win over everything.
        seeds: Seeds to use in place of the suite's.
        allow_missing: Whether named paths that nobody has given are left open.

    Raises:
        InputError: Any fault in the file or the overrides, in one line.
    """
    suite = load_suite(
        file, profile=profile, overrides=overrides, seeds=seeds, allow_missing=allow_missing
    )
    with at(suite.file):
        for metric in suite.metrics:
            get_metric(metric)
    check_claims(suite)
    return suite


def print_notes(notes: Sequence[str], console: Console) -> None:
    """Print what a suite or sweep has to say of itself before anything runs."""
    lines = [f"note: {note}" for note in notes[:_MOST_NOTES]]
    more = len(notes) - len(lines)
    for line in [*lines, f"and {more} more notes"] if more else lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [_whole(part.strip()) for part in text.split(",")]
    except ValueError:
        raise InputError("--seeds", text, "expected numbers with commas, such as 0,1,2") from None


def _whole(text: str) -> int:
    if not re.fullmatch(r"-?(0|[1-9][0-9]{0,18})", text):
        raise ValueError(text)
    return int(text)


def check_claims(suite: Suite) -> None:
    """Check what the claims of a suite say against the metrics there are.

    Raises:
        InputError: A claim is about a metric that is unknown, or that the suite is not scored by,
            or its margin is no margin of that metric.
    """
    for claim in suite.claims:
        with at(f"{suite.file}: claims.{claim.id}"):
            metric = parse_claim(claim.says).left.metric
            name = ValueName.parse(metric)
            if name.slot:
                most = 1.0
            else:
                spec = get_metric(name.metric.split(".")[0])
                most = math.inf if spec.unit else spec.maximum
            _check_scored(name, suite)
            if claim.margin is not None and claim.margin >= most:
                problem = f"{claim.margin:g} is the whole scale of {metric}, which ends at {most:g}"
                raise InputError(None, "margin", problem, "give a difference in natural units")


def _check_scored(name: ValueName, suite: Suite) -> None:
    """Refuse a value that no run of the suite will have, region by region."""
    if name.part in (TRAIN, SEEN):
        problem = "is counted as a whole, so nothing can be said of its interval"
        raise InputError(None, name.part, problem, "claim something of the captioned regions")
    if name.part and name.part not in suite.subsets:
        fix = did_you_mean(name.part, suite.subsets)
        raise InputError(None, name.part, "is no subset of the suite", fix)
    if name.slot and name.slot not in (*SLOTS_OF_SCENES, MEAN_OF_SLOTS):
        raise InputError(None, name.slot, "is no slot", did_you_mean(name.slot, SLOTS_OF_SCENES))
    own = name.metric.split(".")[0]
    values = [value for metric in suite.metrics for value in values_of(metric)]
    if own in values:
        return
    if own in suite.metrics:
        raise InputError(None, own, "is several numbers", f"name one: {', '.join(values_of(own))}")
    fix = f"add it to metrics, or claim one of {', '.join(values)}"
    raise InputError(None, own, "is none of the suite's metrics", fix)
