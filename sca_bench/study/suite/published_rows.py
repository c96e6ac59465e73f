"""Which published row stands beside which cell of a suite, checked for every profile."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sca_bench.errors import InputError, at, did_you_mean
from sca_bench.study.runs.record import PublishedClaim
from sca_bench.study.suite.claims import Side, parse_claim, parse_coordinates
from sca_bench.study.suite.published import find_published, read_published
from sca_bench.study.suite.schema import ClaimEntry, Patch, SuiteFile
from sca_bench.study.suite.sides import Point, by_name, points_of, select


@dataclass(frozen=True)
class PublishedRows:
    """A suite's `published:` in one profile.

    Attributes:
        cells: Name of a cell -> row of the suite's table; also cells of other profiles.
        claims: Id of a claim -> the rows of its two sides.
    """

    cells: dict[str, str] = field(default_factory=dict)
    claims: dict[str, PublishedClaim] = field(default_factory=dict)

    def row_of(self, names: Sequence[str]) -> str:
        """Return the row of a cell by its names; empty where it has none, or not one alone."""
        rows = self._rows(names)
        return rows[0] if len(rows) == 1 else ""

    def conflict(self, names: Sequence[str]) -> str:
        """Return what is to be said of a cell whose names have different rows; empty if none."""
        rows = self._rows(names)
        return f"{names[0]} has no one published row: {'; '.join(rows)}" if len(rows) > 1 else ""

    def _rows(self, names: Sequence[str]) -> list[str]:
        return list(dict.fromkeys(self.cells[name] for name in names if name in self.cells))


def published_rows(spec: SuiteFile, used: Patch, path: Path) -> PublishedRows:
    """Resolve and check a suite's `published:` mapping.

    Rows are checked against `published.csv` beside the package; where the package was installed
    without it, `report` checks them.

    Args:
        spec: The suite as written.
        used: What the profile in use changes, whose claims are looked up.
        path: The suite's file, for errors.

    Raises:
        InputError: A key means no cell of any profile, or several; a row does not exist.
    """
    if not spec.published:
        return PublishedRows()
    if spec.paper is None:
        raise InputError(path, "published", "needs `paper:`", "name the table, such as table_4")
    source = find_published()
    table = read_published(source) if source is not None else None
    base = _points(spec, Patch())
    layers = [base, *(_points(spec, patch) for patch in spec.profiles.values())]
    cells: dict[str, str] = {}
    for key, row in spec.published.items():
        if table is not None:
            with at(path):
                table.row(spec.paper, row, f"published.{key}")
        for name in _names(key, layers, path):
            if cells.setdefault(name, row) != row:
                problem = f"{name} has the row {cells[name]!r} already"
                raise InputError(path, f"published.{key}", problem, "name one row for it")
    # What the suite itself claims is the paper's; a profile may use its rows' names for others.
    stated = spec.claims if used.claims is None else used.claims
    claims = _claims(stated, _points(spec, used), cells) | _claims(spec.claims, base, cells)
    return PublishedRows(cells, claims)


def _points(spec: SuiteFile, patch: Patch) -> list[Point]:
    return [point for point in points_of(spec, patch) if not point.control]


def _names(key: str, layers: Iterable[list[Point]], path: Path) -> list[str]:
    """Return the names of the cells that a key of `published:` means, at most one a profile."""
    every = [points for points in layers if points]
    names = dict.fromkeys(point.name for points in every for point in points)
    if named := by_name(key, names):
        return named
    with at(path):
        where = parse_coordinates(key, f"published.{key}")
    meant: dict[str, None] = {}
    for points in every if where else ():
        here = [point.name for point in select(where or {}, points)]
        if len(here) > 1:
            problem = f"means {len(here)} cells ({', '.join(here)})"
            raise InputError(path, f"published.{key}", problem, "give all coordinates")
        meant.update(dict.fromkeys(here))
    if not meant:
        fix = did_you_mean(key, names)
        raise InputError(path, f"published.{key}", "no profile has such a cell", fix)
    return list(meant)


def _claims(
    claims: Iterable[ClaimEntry], points: list[Point], cells: dict[str, str]
) -> dict[str, PublishedClaim]:
    """Return the claims both of whose sides mean a cell with a published row."""
    published = {}
    for claim in claims:
        parsed = parse_claim(claim.says)
        left, right = (_row(side, points, cells) for side in (parsed.left, parsed.right))
        if left and right:
            published[claim.id] = PublishedClaim(says=claim.says, left=left, right=right)
    return published


def _row(side: Side, points: list[Point], cells: dict[str, str]) -> str:
    meant = select(side.where, points)
    return cells.get(meant[0].name, "") if len(meant) == 1 else ""
