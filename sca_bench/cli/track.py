"""`track`: the MLflow mirror, and what the commands that write it have in common."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sca_bench.cli.frame import CALL, REPORTS, Actions, add_runs_dir
from sca_bench.errors import InputError
from sca_bench.files import name_text
from sca_bench.output import hide_secrets, num_text, one_line, say, without_secrets

if TYPE_CHECKING:
    from sca_bench.cli.frame import Commands
    from sca_bench.engine.mlflow_mirror.mirror import Mirror
    from sca_bench.report.findings.headline import Headline
    from sca_bench.study.runs.findings import SuiteFindings
    from sca_bench.study.runs.record import SuiteManifest
    from sca_bench.study.runs.store import Store


_URI_FLAG = "--tracking-uri"


def add_parser(commands: Commands) -> None:
    """Add `track` to the command line."""
    track = commands.add_parser(
        "track",
        help="the MLflow mirror",
        description="MLflow shows a mirror of the runs folder, which can be rebuilt at any time.",
        examples=("track sync",),
    )
    sync = Actions(track).add(
        "sync",
        "rebuild MLflow's mirror of every suite of a runs folder",
        ("track sync", "track sync --runs-dir runs --tracking-uri http://localhost:5000"),
    )
    sync.add("--tracking-uri", metavar="URI", help="MLflow (SQLite in the runs folder)")
    add_runs_dir(sync)
    track.set_defaults(execute=command)


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Mirror every suite of the runs folder; return 1 where one could not be mirrored."""
    import shlex

    from sca_bench.engine.launch.guard import exclusive
    from sca_bench.engine.mlflow_mirror.addresses import default_uri, is_named
    from sca_bench.engine.mlflow_mirror.mirror import sync
    from sca_bench.study.runs.store import Store

    store = Store(options.runs_dir)
    faults: list[InputError] = []
    wanted = len(store.manifests(faults=faults)) + len(faults)
    if not wanted:
        raise InputError(store.root, "", "no suite was run here", "run one first")
    with contextlib.suppress(InputError, OSError), exclusive(store.root):
        store.settle_interrupted()  # what was killed; where something runs, it does this itself
    uri = options.tracking_uri or default_uri(store)
    named = is_named(options.tracking_uri)

    def find(manifest: SuiteManifest) -> SuiteFindings | None:
        return findings_of(store, manifest)

    count = sync(store, uri, say, "the same command tries again", named=named, find=find)
    say(f"{count} of {num_text(wanted, 'suite')} mirrored")
    if count and uri.startswith("sqlite"):
        say(f"see them: mlflow ui --backend-store-uri {shlex.quote(without_secrets(uri))}")
    return 0 if count == wanted else 1


def add_mirror_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a command that mirrors its runs while they go on."""
    parser.add_argument("--tracking-uri", metavar="URI", help="MLflow (SQLite in the runs folder)")
    parser.add_argument("--no-mlflow", action="store_true", help="do not mirror to MLflow")


def mirror_of(options: argparse.Namespace) -> Mirror | None:
    """Return the MLflow mirror of a runs folder, for one command; None where none is wanted."""
    if options.no_mlflow:
        return None
    from sca_bench.engine.mlflow_mirror.addresses import default_uri, is_named
    from sca_bench.engine.mlflow_mirror.mirror import Mirror
    from sca_bench.study.runs.store import Store

    store = Store(options.runs_dir)
    uri = options.tracking_uri or default_uri(store)
    hint, named = sync_hint(store, options.tracking_uri), is_named(options.tracking_uri)
    return Mirror(store, uri, say, hint, named=named)


def findings_of(
    store: Store, manifest: SuiteManifest, answers: list[Headline] | None = None
) -> SuiteFindings | None:
    """Return what a mirror shows of a suite beside its runs: means, intervals, verdicts.

    None, with a line that says so, where that cannot be found out.

    Args:
        store: The runs folder.
        manifest: The suite.
        answers: Gets the same in words, so that whoever prints it computes nothing again.
    """
    from sca_bench.report.in_short import read_answer

    try:
        found, answer = read_answer(store, manifest, Path(REPORTS))
    except (InputError, OSError) as fault:
        say(f"  {manifest.report_name} has no verdicts in MLflow: {one_line(str(fault))}")
        return None
    if answers is not None:
        answers.append(answer)
    return found


def sync_hint(store: Store, uri: str | None) -> str:
    """Return what a message says of the command that brings a mirror up to date.

    Args:
        store: The runs folder.
        uri: What `--tracking-uri` said; nothing of it that lets somebody in is shown.
    """
    import shlex

    flag = f" --tracking-uri {shlex.quote(without_secrets(uri))}" if uri else ""
    return f"`{CALL} track sync{runs_dir_flag(store)}{flag}` brings it up to date"


def runs_dir_flag(store: Store) -> str:
    """Return the flag that names a runs folder in a command that is printed; empty for `runs`."""
    import shlex

    return "" if str(store.root) == "runs" else f" --runs-dir {shlex.quote(str(store.root))}"


def command_line(words: Sequence[str]) -> str:
    """Return the command as it was given, without what may let somebody in somewhere.

    Args:
        words: What follows `python -m sca_bench`.
    """
    import shlex

    kept: list[str] = []
    for before, word in zip(["", *words], words, strict=False):
        if _names_uri(before):
            word = "..."
        elif _names_uri(word.partition("=")[0]) and "=" in word:
            word = f"{_URI_FLAG}=..."
        kept.append(name_text(hide_secrets(without_secrets(word))))
    return f"{CALL} {shlex.join(kept)}"


def _names_uri(flag: str) -> bool:
    """Say whether a word is the flag of the tracking URI, perhaps cut short as parsers allow."""
    return len(flag) > len("--t") and _URI_FLAG.startswith(flag)
