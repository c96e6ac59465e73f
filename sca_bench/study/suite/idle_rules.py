"""Rules and flags of a suite that match nothing: `unless`, `adjust`, `--set`.

A suite is one file for many profiles, and a rule may be there for one of them. So a rule is refused
where it matches in no profile, and mentioned where it matches in others only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sca_bench.errors import InputError, did_you_mean
from sca_bench.study.suite import merge as m
from sca_bench.study.suite.axes import axis_points, is_at
from sca_bench.study.suite.equal_cells import identity_of, is_read
from sca_bench.study.suite.profiles import load_profile, patch_of, profile_names
from sca_bench.study.suite.resolve import ResolvedCell, Resolver
from sca_bench.study.suite.schema import Adjust, Patch, SuiteFile
from sca_bench.study.suite.yaml_values import same_value, show_value

Rule = Mapping[str, Any]
_MOST_SHOWN = 12


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
    identities = [identity_of(cell) for cell in cells] if resolver.flags else []
    for key, value, text in resolver.flags:
        paths = [path for path, _ in m.leaves(m.nest(key, value)) if path in m.known_paths()]
        moving = [path for path in paths if m.kind_at(path) not in ("cost", "label")]
        if moving and not any(is_read(one, path) for path in moving for one in identities):
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
