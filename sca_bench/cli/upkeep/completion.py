"""`completion`, and what a shell is told when somebody presses Tab: names, without torch.

argcomplete asks the parser; it sets `_ARGCOMPLETE` and is imported only then. What lies in a runs
folder is read as plain JSON, since a shell asks at every key: nothing that takes long is imported
for it, and what cannot be read has no names.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sca_bench.cli.frame import RUN_HELP
from sca_bench.output import one_line

if TYPE_CHECKING:
    from sca_bench.cli.frame import Commands, Parser

SHELLS = ("bash", "zsh", "fish")
ASKED = "_ARGCOMPLETE"
"""Variable by which a shell says that it wants names, not work."""
_CALL = "sca-bench"
Names = Callable[..., Iterable[str]]
"""Gives the names that begin with `prefix`, for argcomplete."""


def add_parser(commands: Commands) -> None:
    """Add `completion` to the command line."""
    completion = commands.add_parser(
        "completion",
        help="let a shell complete commands, suites, cells and settings",
        description=f"Print what makes a shell complete {_CALL} by Tab. In bash or zsh, add"
        f' eval "$({_CALL} completion bash)" to ~/.bashrc (zsh: ~/.zshrc); in fish, add'
        f" {_CALL} completion fish | source to ~/.config/fish/config.fish.",
        examples=tuple(f"completion {shell}" for shell in SHELLS),
    )
    completion.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))
    completion.set_defaults(execute=command)


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Print the shell's code."""
    from argcomplete.shell_integration import shellcode

    print(shellcode([_CALL], shell=options.shell))
    return 0


def answer(parser: Parser) -> None:
    """Tell the shell what may stand where its cursor is, and end this process."""
    import argcomplete

    for one in _all_parsers(parser):
        for action in one._actions:
            if names := _names_for(action):
                setattr(action, "completer", names)  # noqa: B010 (argparse has no such attribute)
    argcomplete.autocomplete(parser, always_complete_options=False)


def _all_parsers(parser: Parser) -> Iterator[Parser]:
    yield parser
    for below in parser.actions_by_name().values():
        yield from _all_parsers(below)


def _names_for(action: argparse.Action) -> Names | None:
    """Return what names an argument, by what it is called; None where nothing does."""
    if action.help == RUN_HELP or action.dest in ("cell", "other", "run"):
        return run_names
    by_place: dict[str, Names] = {
        "suite": suite_names,
        "suites": report_names,
        "overrides": setting_names,
        "profile": profile_names,
        "metrics": metric_names,
        "prefix": listed_names,
        "name": described_names,
    }
    return by_place.get(action.dest)


def suite_names(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return shipped suites by name and files by path; of `status` and `list`, what was run."""
    if getattr(parsed_args, "command", "") in ("status", "list"):
        return report_names(prefix, parsed_args)
    from sca_bench.study.suite.shipped import SUITES, shipped

    found = []
    wants_sweep = getattr(parsed_args, "command", "") == "sweep"
    came = shipped(SUITES)
    if came is not None and os.sep not in prefix:
        folder = came / "sweeps" if wants_sweep else came
        found = [path.stem for path in sorted(folder.glob("*.yaml"))]
    above = Path(prefix).parent if os.sep in prefix else Path()
    with contextlib.suppress(OSError):
        for path in sorted(above.iterdir()):
            if path.suffix in (".yaml", ".yml"):
                found.append(str(path))
            elif path.is_dir() and not path.name.startswith("."):
                found.append(f"{path}{os.sep}")
    return [name for name in found if name.startswith(prefix)]


def _manifests(parsed_args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    from sca_bench.errors import InputError
    from sca_bench.reading import RECORD_BYTES, read_json

    folder = Path(getattr(parsed_args, "runs_dir", None) or "runs") / "suites"
    for path in sorted(folder.glob("*.json")):
        with contextlib.suppress(OSError, InputError):
            content = read_json(path, RECORD_BYTES)
            if isinstance(content, dict) and isinstance(content.get("suite"), str):
                yield content


def is_plain(name: str) -> bool:
    """Say whether a shell may show a name of a runs folder, which somebody else may have sent."""
    return one_line(name) == name


def _report_name(manifest: dict[str, Any]) -> str:
    suite, profile = manifest["suite"], manifest.get("profile")
    return suite if profile == manifest.get("default_profile") else f"{suite}.{profile}"


def report_names(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return the suites that were run into the runs folder."""
    names = map(_report_name, _manifests(parsed_args))
    return [name for name in names if name.startswith(prefix) and is_plain(name)]


def run_names(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return `SUITE/CELL` of a runs folder, and `SUITE/CELL/SEED` once the cell is written out."""
    found: list[str] = []
    for manifest in _manifests(parsed_args):
        suite, seeds = _report_name(manifest), manifest.get("seeds") or []
        for cell in manifest.get("cells") or []:
            own = cell.get("name") if isinstance(cell, dict) else None
            if not isinstance(own, str):
                continue
            name = own if own == suite else f"{suite}/{own}"
            found.append(name)
            if prefix.startswith(name):
                found += [f"{name}/{seed}" for seed in seeds]
    return [name for name in found if name.startswith(prefix) and is_plain(name)]


def setting_names(prefix: str, **_: Any) -> list[str]:
    """Return the settings of a suite, with the sign that their value stands behind."""
    from sca_bench.study.suite.merge import known_paths

    return [f"{path}=" for path in known_paths() if path.startswith(prefix)]


def profile_names(prefix: str, **_: Any) -> list[str]:
    """Return the profiles."""
    from sca_bench.study.suite import profiles

    return [name for name in profiles.profile_names() if name.startswith(prefix)]


def metric_names(prefix: str, **_: Any) -> list[str]:
    """Return metrics, behind those that are written already."""
    before, comma, last = prefix.rpartition(",")
    return [before + comma + name for name in _registered("metrics") if name.startswith(last)]


def _registered(kind: str) -> list[str]:
    from sca_bench.cli.lookup.kinds import specs_of

    return list(specs_of(kind))


def listed_names(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return what `list WHAT` would begin its lines with."""
    what = getattr(parsed_args, "what", "")
    if what == "runs":
        return run_names(prefix, parsed_args)
    if what == "settings":
        return [name.removesuffix("=") for name in setting_names(prefix)]
    return []


def described_names(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return what `describe` knows that is found at once: settings, metrics, variants, suites."""
    if getattr(parsed_args, "command", "") != "describe":
        return []
    settings = [name.removesuffix("=") for name in setting_names(prefix)]
    others = [*_registered("metrics"), *_registered("variants"), *profile_names("")]
    shipped = [name for name in suite_names(prefix, parsed_args) if not name.endswith(os.sep)]
    return [*settings, *(name for name in others if name.startswith(prefix)), *shipped]
