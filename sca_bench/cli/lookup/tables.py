"""`list` of everything but settings and runs: a name and a line each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rich.console import Console

from sca_bench.cli.lookup.kinds import REGISTRIES, specs_of, summary_of
from sca_bench.errors import InputError
from sca_bench.output import print_json, say, text_table

_COLUMNS = {
    "suites": ("suite", "question", "paper"),
    "profiles": ("profile", "what it says of itself"),
}


def print_table(console: Console, what: str, beginning: str, *, as_json: bool = False) -> None:
    """Print the names of a kind with a line each.

    Args:
        console: Where it goes.
        what: The kind, as `list` calls it.
        beginning: Only names that begin so.
        as_json: Whether as a list of objects.
    """
    rows = list(_rows(what))
    columns = _COLUMNS.get(what, (what.removesuffix("s"), "what it is"))
    if what in REGISTRIES and any(len(row) > 2 for row in rows):
        columns = (*columns, "licence")
    if as_json:
        chosen = [row for row in rows if row and row[0].startswith(beginning)]
        print_json([dict(zip(columns, row, strict=False)) for row in chosen])
        return
    table = text_table(*columns)
    for row in rows:
        if row and row[0].startswith(beginning):
            table.add_row(*row)
    if not table.row_count and beginning:
        say(f"none of the {what} begins with {beginning}", error=True)
        return
    if not table.row_count and what == "suites":
        return
    console.print(table)


def _rows(what: str) -> Iterable[tuple[str, ...]]:
    if what == "suites":
        return suite_rows()
    if what == "profiles":
        from sca_bench.study.suite.profiles import load_profile, profile_names

        return [(name, load_profile(name).statement) for name in profile_names()]
    specs = specs_of(what)
    if any(getattr(spec, "licence", "") for spec in specs.values()):
        return [(name, summary_of(spec), spec.licence or "-") for name, spec in specs.items()]
    return [(name, summary_of(spec)) for name, spec in specs.items()]


def suite_files() -> dict[str, Path]:
    """Return what every suite and sweep is called -> its file: below `ablations`, then shipped."""
    from sca_bench.study.suite.shipped import SUITES, shipped, shipped_suites

    here, came = Path(SUITES), shipped(SUITES)
    own = [*sorted(here.glob("*.yaml")), *sorted(here.glob("sweeps/*.yaml"))]
    files = {str(path): path for path in own}
    if came is not None and here.resolve() != came.resolve():
        files |= shipped_suites()
    return files


def suite_rows() -> list[tuple[str, ...]]:
    """Return a row for every suite or sweep."""
    files = suite_files()
    if not files:
        line = "no suite comes with this installation, and none is in ablations; write one with"
        say(f"{line}: python -m sca_bench init suite NAME", error=True)
    return [row for name, path in files.items() if (row := _suite_row(name, path))]


def _suite_row(name: str, path: Path) -> tuple[str, ...]:
    """Return name, question and table of a suite or sweep; what is neither is said and left out."""
    from sca_bench.study.suite.profiles import read_mapping

    kind = "sweep" if path.parent.name == "sweeps" else "suite"
    try:
        content = read_mapping(path, f"{kind}, question, ...")
        if not content.keys() & {"suite", "sweep"}:
            raise InputError(path, kind, "missing", f"expected a mapping with {kind}, question")
    except InputError as error:
        say(f"left out: {error}", error=True)
        return ()
    last = "sweep" if "sweep" in content else str(content.get("paper") or "")
    return (name, str(content.get("question", "")), last)
