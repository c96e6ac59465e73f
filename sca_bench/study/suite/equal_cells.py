"""Names of one and the same cell: one cell with a note, or refused where a layer made them equal.

Two names are of one cell where nothing that its variant reads differs between them. Where the file
says so itself (an axis that the variant ignores, a cell that repeats another) that is one cell.
Where a flag, a rule or a profile brought it about, one of the names says what is not so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from sca_bench.errors import InputError
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.study.keys.fingerprint import path_settings
from sca_bench.study.suite import merge as m
from sca_bench.study.suite.axes import cell_name
from sca_bench.study.suite.resolve import ResolvedCell, Resolver
from sca_bench.study.suite.yaml_values import same_value, show_value

_MADE_EQUAL = ("flag", "adjust", "profile")


def join_equal(cells: Sequence[ResolvedCell], resolver: Resolver) -> tuple[ResolvedCell, ...]:
    """Return the cells, each once.

    Files are compared by what they are called; whether two hold the same is known to the plan.

    Raises:
        InputError: A flag, a rule or a profile made one cell of two.
    """
    groups: dict[str, list[ResolvedCell]] = {}
    for cell in cells:
        groups.setdefault(identity_of(cell).cell_key, []).append(cell)
    taken = {group[0].name for group in groups.values()}
    joined = []
    for group in groups.values():
        one = group[0] if len(group) == 1 else _joined(group, resolver)
        if one.name != group[0].name and one.name in taken:
            one = replace(one, name=group[0].name, also=tuple(c.name for c in group[1:]))
        taken.add(one.name)
        joined.append(one)
    return tuple(joined)


def is_read(identity: CellIdentity, key: str) -> bool:
    """Say whether a setting, or any part of it, can move a number of a cell."""
    if m.kind_at(key) in ("cost", "label"):
        return False
    of_key = {path for path in identity.values if _is_part(path, key)}
    # One that is in no key is a later setting at its default, or a path that is not given.
    return not of_key or any(_is_part(path, key) for path in identity.key_values)


def _is_part(path: str, key: str) -> bool:
    return f"{path}.".startswith(f"{key}.") or key.startswith(f"{path}.")


def identity_of(cell: ResolvedCell) -> CellIdentity:
    """Return what a cell is before its files are opened: they count by what they are called."""
    return CellIdentity(cell.settings, dict(path_settings(cell.settings)))


def _joined(group: Sequence[ResolvedCell], resolver: Resolver) -> ResolvedCell:
    first, *others = group
    unread: dict[str, None] = {}
    for other in others:
        unread |= dict.fromkeys(_unread(first, other, resolver))
    on_axes = [cell for cell in group if cell.coordinates]
    values: dict[str, list[Any]] = {}
    for cell in on_axes:
        for key, value in cell.coordinates.items():
            known = values.setdefault(key, [])
            known += [] if any(same_value(value, v) for v in known) else [value]
    coordinates = {key: found[0] for key, found in values.items() if len(found) == 1}
    name = first.name
    if any(cell.coordinates != coordinates for cell in on_axes):
        name = cell_name(coordinates, resolver.spec.suite)
    names = [cell.name for cell in group]
    return replace(
        first,
        name=name,
        coordinates=coordinates,
        control=all(cell.control for cell in group),
        also=tuple(other for other in names if other != name),
        ignored={key: tuple(found) for key, found in values.items() if len(found) > 1},
        note=f"one cell for {' and '.join(names)}: {_why(first, unread)}",
    )


def _why(cell: ResolvedCell, unread: Iterable[str]) -> str:
    unread = list(unread)
    costs = [key for key in unread if m.kind_at(key) in ("cost", "label")]
    reads = [key for key in unread if key not in costs]
    parts = [f"{cell.settings.variant} does not read {', '.join(reads)}"] if reads else []
    parts += [f"no number depends on {', '.join(costs)}"] if costs else []
    return "; ".join(parts) or "they differ in no setting"


def _unread(one: ResolvedCell, other: ResolvedCell, resolver: Resolver) -> list[str]:
    """Return the settings that tell two names of a cell apart, although nobody reads them.

    Raises:
        InputError: They say different things, and only a layer over the file made them equal.
    """
    values = [cell.settings.model_dump(mode="json") for cell in (one, other)]
    identity = identity_of(one)
    unread = []
    for cell, lacking in ((one, other), (other, one)):
        for key, value in cell.stated.items():
            if key in lacking.stated and same_value(value, lacking.stated[key]):
                continue
            if m.get(values[0], key) != m.get(values[1], key) or not is_read(identity, key):
                unread.append(key)
            elif key not in lacking.stated:
                _refuse_made_equal(cell, lacking, key, resolver)
            else:
                raise _two_words_for_one(cell, lacking, key, m.get(values[0], key), resolver)
    return unread


def _refuse_made_equal(
    cell: ResolvedCell, other: ResolvedCell, key: str, resolver: Resolver
) -> None:
    """Refuse a cell whose difference to another is what that one got from a layer over the file.

    With one axis at a time, the point that a profile starts from may stand on several axes.
    """
    said = m.nest(key, cell.stated[key])
    layers = [other.origin[path] for path, _ in m.leaves(said) if path in other.origin]
    found = next((layer for layer in layers if layer.kind in _MADE_EQUAL), None)
    if found is None or (found.kind == "profile" and cell.coordinates and other.coordinates):
        return
    place = f"{resolver.path}: {resolver.place(cell.name, key, cell.coordinates)}"
    what = f"{key}={show_value(cell.stated[key])}"
    problem = f"gives cell {other.name} the {what} that {place} states for {cell.name}"
    fix = "so both are one cell: leave it out, or one of them"
    raise InputError(found.address, what if found.kind == "flag" else "", problem, fix)


def _two_words_for_one(
    cell: ResolvedCell, other: ResolvedCell, key: str, value: Any, resolver: Resolver
) -> InputError:
    """Return the error for two values of the file that came to mean the same."""
    words = [show_value(one.stated[key]) for one in (cell, other)]
    problem = (
        f"{' and '.join(words)} are both {show_value(value)}, so {cell.name} and {other.name} are "
        "one cell"
    )
    names = (name for word in words for name in re.findall(r"\{(\w+)\}", word))
    flags = ", ".join(f"--set paths.{n}" for n in dict.fromkeys(names) if n in resolver.given_paths)
    fix = f"give {flags} other files" if flags else "leave one of the two out"
    place = resolver.place(other.name, key, other.coordinates)
    return InputError(resolver.path, place, problem, fix)
