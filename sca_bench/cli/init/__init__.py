"""`init`: a commented suite, or a small package, to begin with."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sca_bench.cli.frame import CALL, Actions
from sca_bench.errors import InputError

if TYPE_CHECKING:
    from sca_bench.cli.frame import Commands

KINDS = {
    "suite": "a suite: one question, its cells, and what you claim of them",
}
"""What can be begun -> what it is."""


def add_parser(commands: Commands) -> None:
    """Add `init` to the command line."""
    init = commands.add_parser(
        "init",
        help="write a commented suite, or a package that adds something, to begin with",
        description="Write something small that works, with comments that say how to go on. "
        "Nothing is ever overwritten.",
        examples=("init suite my_suite",),
    )
    actions = Actions(init)
    for kind, about in KINDS.items():
        action = actions.add(kind, about, (f"init {kind} my_{kind}",))
        action.add("name", metavar="NAME", help="letters, digits and _; it begins with a letter")
        action.add("--out", metavar="DIR", default=".", help="folder to write into (here)")
    init.set_defaults(execute=command)


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Write the files of a kind and say what to do next."""
    import re

    name, out = options.name, Path(options.out)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        fix = "use letters, digits and _, a letter first"
        raise InputError(f"init {options.action}", name, "cannot be a name", fix)
    return _suite(name, out / f"{name}.yaml")


def _suite(name: str, file: Path) -> int:
    _write({file: _filled("suite.yaml", name=name, file=file)})
    print(f"next: {CALL} plan {file}")
    return 0


def _filled(template: str, **values: object) -> str:
    """Return a template with `{name}` and the like filled in."""
    text = (Path(__file__).parent / "templates" / template).read_text(encoding="utf-8")
    return text.format(**values)


def _write(files: dict[Path, str]) -> None:
    """Write new files.

    Raises:
        InputError: One is there already; then none is written.
    """
    from sca_bench.files import write_atomic

    for path in files:
        if path.exists():
            raise InputError(path, "", "is there already", "give another name, or another --out")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text)
        print(f"{path}: written")
