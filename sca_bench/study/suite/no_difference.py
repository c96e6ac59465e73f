"""What makes no difference in a suite: names of one cell, rules and flags that match nothing.

Two names are of one cell where nothing that its variant reads differs between them. Where the file
says so itself (an axis that the variant ignores, a cell that repeats another) that is one cell.
Where a flag, a rule or a profile brought it about, one of the names says what is not so.

A suite is one file for many profiles, and a rule may be there for one of them. So a rule is refused
where it matches in no profile, and mentioned where it matches in others only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sca_bench.errors import InputError, did_you_mean
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.study.keys.fingerprint import path_settings
from sca_bench.study.suite import merge as m
from sca_bench.study.suite.axes import axis_points, cell_name, is_at
from sca_bench.study.suite.profiles import load_profile, patch_of, profile_names
from sca_bench.study.suite.resolve import Layer, ResolvedCell, Resolver
from sca_bench.study.suite.schema import Adjust, Patch, SuiteFile
from sca_bench.study.suite.yaml_values import same_value, show_value

Rule = Mapping[str, Any]
_MADE_EQUAL = ("flag", "adjust", "profile")
"""What may have made two cells equal; the one that is named first is to blame."""
_MOST_SHOWN = 12


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
    if not m.moves_numbers(key, identity.settings):
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
    costs = [key for key in unread if not m.moves_numbers(key, cell.settings)]
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
    made: list[tuple[Layer, str, ResolvedCell, ResolvedCell]] = []
    for cell, lacking in ((one, other), (other, one)):
        for key, value in cell.stated.items():
            if key in lacking.stated and same_value(value, lacking.stated[key]):
                continue
            if m.get(values[0], key) != m.get(values[1], key) or not is_read(identity, key):
                unread.append(key)
            elif key not in lacking.stated:
                layer = _made_equal(cell, lacking, key)
                made += [] if layer is None else [(layer, key, cell, lacking)]
            else:
                raise _two_words_for_one(cell, lacking, key, m.get(values[0], key), resolver)
    if made:
        raise _refusal_of_equal(*min(made, key=lambda m: _MADE_EQUAL.index(m[0].kind)), resolver)
    return unread


def _made_equal(cell: ResolvedCell, other: ResolvedCell, key: str) -> Layer | None:
    """Return the layer over the file that gave another cell what tells this one from it.

    With one axis at a time, the point that a profile starts from may stand on several axes.
    """
    said = m.nest(key, cell.stated[key])
    layers = [other.origin[path] for path, _ in m.leaves(said) if path in other.origin]
    found = next((layer for layer in layers if layer.kind in _MADE_EQUAL), None)
    on_axes = cell.coordinates and other.coordinates
    return None if found is not None and found.kind == "profile" and on_axes else found


def _refusal_of_equal(
    layer: Layer, key: str, cell: ResolvedCell, other: ResolvedCell, resolver: Resolver
) -> InputError:
    place = f"{resolver.path}: {resolver.place(cell.name, key, cell.coordinates)}"
    what = f"{key}={show_value(cell.stated[key])}"
    problem = f"gives cell {other.name} the {what} that {place} states for {cell.name}"
    fix = "so both are one cell: leave it out, or one of them"
    return InputError(layer.address, what if layer.kind == "flag" else "", problem, fix)


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


def idle_rules(path: Path, spec: SuiteFile, profile: str, resolver: Resolver) -> list[str]:
    """Return a line for every rule that matches no cell of a profile.

    Args:
        path: The suite's file.
        spec: What it says.
        profile: The profile in use.
        resolver: Of that profile.

    Raises:
        InputError: A rule matches no cell of any profile.
    """
    rules: dict[str, Rule] = {f"unless.{n}": rule for n, rule in enumerate(spec.unless)}
    rules |= _numbered("adjust", spec.adjust)
    for name, patch in spec.profiles.items():
        rules |= _numbered(f"profiles.{name}.adjust", patch.adjust or ())
    if not rules:
        return []
    seen: dict[str, list[Any]] = {}
    matched = _matched(resolver, rules, seen)
    idle = _active(resolver, rules) - matched
    for name in profile_names():
        if matched == rules.keys():
            break
        if name != profile:
            matched |= _matched(_resolver(path, spec, name), rules, seen)
    for key, rule in rules.items():
        if key not in matched:
            raise _refusal(path, key, rule, seen)
    return [
        f"{key} ({_shown(rule)}) matches no cell of profile {profile}"
        for key, rule in rules.items()
        if key in idle
    ]


def idle_flags(cells: Sequence[ResolvedCell], resolver: Resolver) -> list[str]:
    """Return a line for every flag that moves nothing, since no cell reads what it sets."""
    lines = []
    for name in sorted(resolver.given_paths - resolver.used.keys()):
        lines.append(f"--set paths.{name}: no cell of the profile reads this path")
    for key, value, text in resolver.flags:
        paths = [path for path, _ in m.leaves(m.nest(key, value)) if m.holders_of(path)]
        moving = [path for path in paths if m.moves_numbers(path)]
        if moving and not any(is_read(identity_of(cell), p) for cell in cells for p in moving):
            lines.append(f"--set {text}: no cell reads it")
    return lines


def _numbered(key: str, rules: Sequence[Adjust]) -> dict[str, Rule]:
    return {f"{key}.{number}": rule.when for number, rule in enumerate(rules)}


def _resolver(path: Path, spec: SuiteFile, profile: str) -> Resolver:
    scale = load_profile(profile)
    patched, patch = patch_of(spec.profiles, profile, scale)
    return Resolver(path, spec, patch or Patch(), profile, scale, (), True, patched=patched)


def _active(resolver: Resolver, rules: Mapping[str, Rule]) -> set[str]:
    """Return the rules that count in a profile: its own `adjust` takes the place of the suite's."""
    own = _numbered(resolver.adjust_key, resolver.adjust)
    return {key for key in rules if key in own or key.startswith("unless.")}


def _matched(resolver: Resolver, rules: Mapping[str, Rule], seen: dict[str, list[Any]]) -> set[str]:
    """Return the rules that match a cell of a profile; add to the values that its cells have."""
    spec = resolver.spec
    points = axis_points(resolver.axes, spec.one_at_a_time) if resolver.axes else []
    found = set()
    for number, rule in enumerate(spec.unless):
        if any(is_at(point, rule) for point in points):
            found.add(f"unless.{number}")
    for key, values in resolver.axes.items():
        _add(seen, f"unless {key}", values)
    wanted = [key for rule in resolver.adjust for key in rule.when]
    for nested in _cells(resolver):
        for key in wanted:
            _add(seen, f"adjust {key}", [m.value_at(nested, key)])
    return found | {f"{resolver.adjust_key}.{number}" for number in resolver.matched}


def _cells(resolver: Resolver) -> Iterator[m.Nested]:
    """Yield the settings of a profile's cells until every rule has matched."""
    for nested in resolver.before_flags():
        yield nested
        if len(resolver.matched) == len(resolver.adjust):
            return


def _add(seen: dict[str, list[Any]], key: str, values: Sequence[Any]) -> None:
    known = seen.setdefault(key, [])
    known += [v for v in values if not any(same_value(v, other) for other in known)]


def _refusal(path: Path, key: str, rule: Rule, seen: Mapping[str, Sequence[Any]]) -> InputError:
    kind = "unless" if key.startswith("unless") else "adjust"
    place = key if kind == "unless" else f"{key}.when"
    for name, value in rule.items():
        known = seen.get(f"{kind} {name}")
        if known is None:
            axes = [k.removeprefix("unless ") for k in seen if k.startswith("unless ")]
            return InputError(path, f"{place}.{name}", "is no axis", did_you_mean(name, axes))
        if not any(same_value(value, other) for other in known):
            problem = f"no cell of any profile has {show_value(value)} there"
            texts = [show_value(other) for other in known[:_MOST_SHOWN]]
            return InputError(
                path, f"{place}.{name}", problem, did_you_mean(show_value(value), texts)
            )
    problem = f"no cell of any profile has all of {_shown(rule)}"
    return InputError(path, place, problem, "loosen the rule, or leave it out")


def _shown(rule: Rule) -> str:
    return ", ".join(f"{key}={show_value(value)}" for key, value in rule.items())
