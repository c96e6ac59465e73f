"""Which cells of a suite a selector means, and whether the two sides of a claim balance.

A side of a claim that leaves axes open means every cell there, and stands for their mean: a main
effect, as in a factorial experiment. That says something of the named axes alone only where both
sides are averaged over the same levels of all others.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sca_bench.errors import InputError, did_you_mean
from sca_bench.settings import CellSettings, items_of
from sca_bench.study.suite import merge as m
from sca_bench.study.suite.axes import axis_points, cell_name
from sca_bench.study.suite.claims import (
    CELL,
    VARIANT,
    Claim,
    Side,
    parse_claim,
    parse_coordinates,
)
from sca_bench.study.suite.resolve import ResolvedCell
from sca_bench.study.suite.schema import ClaimEntry, Patch, SuiteFile
from sca_bench.study.suite.yaml_values import same_value, show_value

_MOST_NAMES = 8
"""Names of cells that one error lists."""


@dataclass(frozen=True, slots=True)
class Point:
    """A cell as a selector sees it.

    Attributes:
        name: The cell's name.
        coordinates: Axis -> its value there; empty for a cell beside the axes.
        variant: Its variant.
        control: Whether it is a control.
        also: Other names of it.
        ignored: Axis that moves no number of it -> the values there that it stands for.
    """

    name: str
    coordinates: Mapping[str, Any]
    variant: str
    control: bool = False
    also: tuple[str, ...] = ()
    ignored: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    @property
    def known(self) -> dict[str, Any]:
        """All that it can be selected by, but for its names."""
        return {VARIANT: self.variant, **self.coordinates}

    def at_each_level(self) -> Iterator[Point]:
        """Yield it once for every place on the axes that it stands for."""
        for levels in itertools.product(*self.ignored.values()):
            here = dict(zip(self.ignored, levels, strict=True))
            yield replace(self, coordinates={**self.coordinates, **here}, ignored={})


class NoSuchCell(InputError):
    """A side of a claim means no cell."""


def point_of(cell: ResolvedCell) -> Point:
    """Return a resolved cell as a selector sees it."""
    variant = cell.settings.variant
    return Point(cell.name, cell.coordinates, variant, cell.control, cell.also, cell.ignored)


def points_of(spec: SuiteFile, patch: Patch) -> list[Point]:
    """Return the cells of a suite in one profile, without resolving their settings."""
    axes = spec.axes if patch.axes is None else patch.axes
    explicit = spec.cells if patch.cells is None else patch.cells
    variant = str(patch.base.get(VARIANT, spec.base.get(VARIANT, "sca")))
    on_axes = axis_points(axes, spec.one_at_a_time, spec.unless) if axes or not explicit else []
    return [
        *(Point(cell_name(c, spec.suite), c, str(c.get(VARIANT, variant))) for c in on_axes),
        *(
            Point(cell.name, {}, str(cell.set.get(VARIANT, variant)), cell.control)
            for cell in explicit
        ),
    ]


def axes_of(points: Iterable[Point]) -> list[str]:
    """Return the axes on which cells stand, in order."""
    each = ((*point.coordinates, *point.ignored) for point in points)
    return list(dict.fromkeys(axis for axes in each for axis in axes))


def select(where: Mapping[str, Any], points: Sequence[Point]) -> list[Point]:
    """Return the cells that coordinates mean; several where they leave an axis open.

    A cell that stands for several values of an open axis comes once for each. Cells that stand on
    all the axes named go first: `variant=sca` is the axis' cell, not every cell of that variant.
    Controls are meant where nothing else is.

    Args:
        where: Axis -> value; an axis by its last part, too, where no other axis ends so. `cell` is
            a cell's name, `variant` its variant.
        points: The cells to choose from.

    Raises:
        InputError: An axis is named twice.
    """
    wanted = _in_full(where, axes_of(points))
    each = (level for point in points for level in point.at_each_level())
    matching = [point for point in each if _matches(wanted, point)]
    matching = [p for p in matching if wanted.keys() <= p.coordinates.keys()] or matching
    meant = [point for point in matching if not point.control] or matching
    return list({point.name: point for point in meant}.values()) if CELL in wanted else meant


def find(text: str, points: Sequence[Point], key: str) -> list[Point]:
    """Return the cells that a name, or coordinates as in a claim, means.

    Args:
        text: What is given; blanks around its commas do not count.
        points: The cells to choose from.
        key: The file's key (or the flag) that it stands in, for errors.

    Raises:
        InputError: A value in it is a number that may mean two things.
    """
    named = by_name(text, [name for point in points for name in (point.name, *point.also)])
    if named:
        return [point for point in points if {point.name, *point.also} & set(named)]
    where = parse_coordinates(text, key)
    return list({p.name: p for p in select(where, points)}.values()) if where else []


def by_name(text: str, names: Iterable[str]) -> list[str]:
    """Return the one of some names that a text is, or else those that differ in blanks alone."""
    known = list(names)
    wanted = without_blanks(text)
    return [text] if text in known else [n for n in known if without_blanks(n) == wanted]


def without_blanks(text: str) -> str:
    """Return a name without the blanks around its commas."""
    return re.sub(r"\s*,\s*", ",", text.strip())


def claim_cells(
    claim: Claim, points: Sequence[Point], key: str = ""
) -> tuple[tuple[Point, ...], tuple[Point, ...]]:
    """Return the cells of a claim's left and right side, which balance.

    Args:
        claim: The claim.
        points: The cells to choose from.
        key: The file's key that holds it, for errors.

    Raises:
        NoSuchCell: A side means none.
        InputError: A side's cells have no mean, the sides do not balance, or are the same.
    """
    left, right = (_cells_of(side, points, key) for side in (claim.left, claim.right))
    if len({cell.name for cell in left}) == len({cell.name for cell in right}) == 1:
        left, right = left[:1], right[:1]  # one cell, whatever it stands for
    axes = axes_of(points)
    sides = [(claim.left, left), (claim.right, right)]
    several = len(left) > 1 or len(right) > 1
    if several:
        for side, cells in sides:
            _check_mean(side, cells, key)
    open_left, open_right = (
        [_levels(cell, _in_full(side.where, axes)) for cell in cells] for side, cells in sides
    )
    alike = open_left[0].keys() == open_right[0].keys()
    if (several or alike) and _texts(open_left) != _texts(open_right):
        raise _unbalanced(sides, open_left, open_right, key)
    if both := [cell for cell in left if cell.name in {other.name for other in right}]:
        problem = f"reads {_names(both)} on both sides: {claim.left} and {claim.right}"
        raise InputError(None, key, problem, "name cells that differ")
    return left, right


def averaged_axes(claim: Claim, left: Sequence[Point]) -> list[str]:
    """Return the axes over which a claim's sides are averaged; none where each is one cell."""
    axes = axes_of(left)
    named = _in_full(claim.left.where, axes)
    return [axis for axis in axes if len(left) > 1 and axis not in named]


def _in_full(where: Mapping[str, Any], axes: Collection[str]) -> dict[str, Any]:
    """Return coordinates with the whole name of every axis that is given by its last part.

    Raises:
        InputError: An axis is given both ways.
    """
    full: dict[str, Any] = {}
    for key, value in where.items():
        known = key in axes or key in (CELL, VARIANT)
        ending = [] if known else [axis for axis in axes if axis.endswith(f".{key}")]
        name = ending[0] if len(ending) == 1 else key
        if name in full:
            raise InputError(None, name, "is named twice", "name its value once")
        full[name] = value
    return full


def _matches(where: Mapping[str, Any], point: Point) -> bool:
    known = point.known
    return all(
        bool(by_name(show_value(value), (point.name, *point.also)))
        if key == CELL
        else key in known and same_value(known[key], value)
        for key, value in where.items()
    )


def _cells_of(side: Side, points: Sequence[Point], key: str) -> tuple[Point, ...]:
    try:
        cells = select(side.where, points)
    except InputError as error:
        error.key = f"{key}: {error.key}" if key else error.key
        raise
    if cells:
        return tuple(cells)
    raise NoSuchCell(None, key, f"no cell for {side}", _nearest(side.where, points))


def _nearest(where: Mapping[str, Any], points: Sequence[Point]) -> str:
    """Return what a selector that means no cell may have meant."""
    axes = axes_of(points)
    for key, value in _in_full(where, axes).items():
        if key == CELL:
            names = {name for point in points for name in (point.name, *point.also)}
            if not by_name(show_value(value), names):
                quoted = " (a name with a comma stands in quotes)"
                hint = did_you_mean(str(value), names)
                return hint + (quoted if any("," in name for name in names) else "")
            continue
        ending = [axis for axis in axes if axis.endswith(f".{key}")]
        if len(ending) > 1:
            return f"{key} may be {' or '.join(ending)}: write the whole name"
        if key != VARIANT and key not in axes:
            hint = did_you_mean(key, axes) if axes else "it has none"
            return f"{key} is no axis of the suite; {hint}"
        each = [level.known for point in points for level in point.at_each_level()]
        values = dict.fromkeys(show_value(known[key]) for known in each if key in known)
        if show_value(value) not in values:
            return f"{key} has {', '.join(values)}"
    return "no cell has all of it"


def _check_mean(side: Side, cells: Sequence[Point], key: str) -> None:
    """Refuse a side whose cells have no mean that says anything of an axis."""
    if len(cells) == 1:
        return
    names = f"{side} means {len(cells)} cells ({_names(cells)})"
    if all(cell.control for cell in cells):
        problem = f"{names}, which are controls and have no mean"
    elif any(cell.coordinates.keys() != cells[0].coordinates.keys() for cell in cells):
        problem = f"{names}, which do not stand on the same axes"
    elif not cells[0].coordinates:
        problem = f"{names}, which stand on no axis"
    else:
        return
    raise InputError(None, key, problem, f"name one of them: {CELL}={cells[0].name}")


def _levels(cell: Point, named: Mapping[str, Any]) -> dict[str, str]:
    """Return where a cell stands on the axes that a side leaves open: none if it is named."""
    if CELL in named:
        return {}
    return {a: show_value(v) for a, v in cell.coordinates.items() if a not in named}


def _texts(levels: Iterable[Mapping[str, str]]) -> list[str]:
    return sorted(", ".join(f"{a}={v}" for a, v in sorted(level.items())) for level in levels)


def _unbalanced(
    sides: Sequence[tuple[Side, Sequence[Point]]],
    open_left: Sequence[Mapping[str, str]],
    open_right: Sequence[Mapping[str, str]],
    key: str,
) -> InputError:
    read = " against ".join(f"{side} ({_names(cells)})" for side, cells in sides)
    problem = f"does not balance: {read}"
    axes = [", ".join(levels[0]) or "no axis" for levels in (open_left, open_right)]
    if open_left[0].keys() != open_right[0].keys():
        problem += f" leaves {axes[0]} open on the left, {axes[1]} on the right"
        return InputError(None, key, problem, "name the same axes on both sides")
    left, right = _texts(open_left), _texts(open_right)
    for side, own, other in (("left", left, right), ("right", right, left)):
        lacking = [text for text in other if text not in own]
        problem += f"; the {side} side lacks {'; '.join(lacking)}" if lacking else ""
    fix = f"name {axes[0]} on both sides, or let the suite have the cells that are lacking"
    return InputError(None, key, problem, fix)


def _names(cells: Sequence[Point]) -> str:
    every = list(dict.fromkeys(cell.name for cell in cells))
    names = every[:_MOST_NAMES]
    more = len(every) - len(names)
    return "; ".join(names) + (f"; and {more} more" if more else "")


def check_selector_key(key: str, entry: str, known: Collection[str]) -> None:
    """Refuse a key of a claim that is neither a setting nor the last part of one.

    Args:
        key: The key.
        entry: The file's key that holds it, for the error.
        known: Every setting.
    """
    if key not in (CELL, VARIANT) and not any(path.endswith(f".{key}") for path in known):
        m.check_path(key, entry)


def check_claims(spec: SuiteFile, used: Patch, cells: Sequence[ResolvedCell]) -> None:
    """Check which cells the claims of a suite read, in every profile that states its own.

    A claim that a profile takes over from the suite may be about cells that this profile lacks, as
    long as some profile has them; a report then says that there are no numbers.

    Args:
        spec: The suite as written.
        used: What the profile in use changes of it.
        cells: The cells of that profile.

    Raises:
        InputError: A claim means no cell, does not balance, compares what cannot be compared, or
            is stated twice.
    """
    layers = {"": Patch(), **spec.profiles}
    used_name = next((name for name, patch in layers.items() if patch is used), "")
    points = {name: points_of(spec, patch) for name, patch in layers.items()}
    points[used_name] = [point_of(cell) for cell in cells]
    settings = {cell.name: cell.settings for cell in cells}
    for name, patch in layers.items():
        is_own = not name or patch.claims is not None
        if not is_own and name != used_name:
            continue
        prefix = f"profiles.{name}." if name and is_own else ""
        stated: dict[tuple[object, ...], str] = {}
        for claim in spec.claims if patch.claims is None else patch.claims:
            key = f"{prefix}claims.{claim.id}"
            parsed = parse_claim(claim.says, key)
            try:
                left, right = claim_cells(parsed, points[name], key)
            except NoSuchCell:
                if prefix or not _has_cells(parsed, points.values()):
                    raise
                continue
            same = _statement(claim, parsed, left, right)
            if same in stated:
                problem = f"says what {stated[same]} says already"
                raise InputError(None, key, problem, "leave one of them out")
            stated[same] = claim.id
            if name == used_name:
                read = [settings[point.name] for point in (*left, *right)]
                _check_protocol(parsed, read, axes_of(points[name]), key)


def _has_cells(claim: Claim, profiles: Iterable[Sequence[Point]]) -> bool:
    sides = (claim.left, claim.right)
    return any(all(select(side.where, points) for side in sides) for points in profiles)


def _statement(
    claim: ClaimEntry, parsed: Claim, left: Sequence[Point], right: Sequence[Point]
) -> tuple[object, ...]:
    """Return what a claim says whichever way round it is written."""
    names = [tuple(sorted(point.name for point in side)) for side in (left, right)]
    if parsed.comparator[0] == "<":
        names.reverse()
    facts = (parsed.left.metric, parsed.comparator[1:], claim.margin, claim.family)
    return (*facts, *names)


def _check_protocol(
    claim: Claim, read: Sequence[CellSettings], axes: Collection[str], key: str
) -> None:
    """Refuse a claim whose cells are not scored on the same regions.

    Nor may a mean be one over several protocols, but for what the claim compares.
    """
    regions = [_regions(settings) for settings in read]
    if differing := _differing(regions):
        problem = f"compares cells that are scored on other regions ({', '.join(differing)})"
        raise InputError(None, key, problem, "compare cells of one captioned split")
    if len(read) == 2:
        return
    named = _in_full(claim.left.where, axes).keys() | _in_full(claim.right.where, axes).keys()
    protocols = [
        {f"eval.{name}": getattr(settings.eval, name) for name in _PROTOCOL} for settings in read
    ]
    differing = [name for name in _differing(protocols) if name not in named]
    if differing:
        problem = f"averages over cells that are captioned unalike ({', '.join(differing)})"
        raise InputError(None, key, problem, "name its value on both sides")


_PROTOCOL = ("prompt", "num_beams", "max_new_tokens")
"""Settings of `eval` that a score's signature holds, beside the split."""


def _regions(settings: CellSettings) -> dict[str, object]:
    """Return what decides on which regions a cell is scored, but for the content of files."""
    name = settings.eval.split
    split = getattr(settings.data, name)
    given = {f"data.{name}.{k}": v for k, kind, v in items_of(split) if kind == "result"}
    return {key: value for key, value in given.items() if not key.endswith(".task")}


def _differing(facts: Sequence[Mapping[str, object]]) -> list[str]:
    keys = dict.fromkeys(key for each in facts for key in each)
    return [key for key in keys if any(each.get(key) != facts[0].get(key) for each in facts)]
