"""`describe`: everything that is known of a name, whatever kinds of things have it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from sca_bench.cli.lookup.kinds import REGISTRIES, facts_of, specs_of
from sca_bench.cli.lookup.setting_text import describe_setting
from sca_bench.cli.lookup.tables import suite_files
from sca_bench.errors import InputError, at, did_you_mean
from sca_bench.plugins import attribute
from sca_bench.settings.sentences import sentence_of
from sca_bench.study.suite import merge as m
from sca_bench.study.suite.profiles import load_profile, profile_names, read_mapping
from sca_bench.study.suite.yaml_values import show_value

Facts = Mapping[str, str]


def describe(console: Console, name: str, profile: str) -> None:
    """Print what is known of a name, kind by kind.

    Args:
        console: Where it goes.
        name: What is asked for: of a registry, a suite or its file, a profile, or a setting.
        profile: Whose defaults to show.

    Raises:
        InputError: Nothing has that name.
    """
    with at("--profile"):
        load_profile(profile)
    is_setting = name in m.known_paths()
    found = list(_found(name, _FIRST))
    if not found and not is_setting:
        found = list(_found(name, _LAST))
    for number, facts in enumerate(found):
        if number:
            console.print("")
        width = max(19, *(len(label) + 1 for label in facts))
        for label, text in facts.items():
            line = f"{label + ':':<{width}} {text}"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if is_setting:
        if found:
            console.print("")
        describe_setting(console, name, profile)
    elif not found:
        registered = [other for kind in REGISTRIES for other in specs_of(kind)]
        known = [*registered, *_suites(), *profile_names(), *m.known_paths()]
        see = "list settings` or `list metrics"
        raise InputError("describe", name, "nothing has that name", did_you_mean(name, known, see))


_FIRST, _LAST = ("variants", "metrics", "datasets", "encoders"), ("plots",)
"""Kinds that are looked through first, and those whose specs take longer to load: only where
nothing else has the name. A design is a variant of the same name, which says all of it."""


def _found(name: str, kinds: tuple[str, ...]) -> Iterator[Facts]:
    """Yield what is to be said of each thing of a name, but for settings."""
    for kind in kinds:
        spec = specs_of(kind).get(name)
        if spec is not None:
            yield {kind.removesuffix("s"): name, **facts_of(spec), **_own_settings(spec)}
    if kinds != _FIRST:
        return
    if name in profile_names():
        yield _profile(name)
    file = _suites().get(name) or Path(name)
    if file.suffix in (".yaml", ".yml"):
        yield _suite(file)


def _suites() -> dict[str, Path]:
    """Return every suite's file by its path and by its name."""
    files = suite_files()
    return {**{path.stem: path for path in files.values()}, **files}


def _own_settings(spec: Any) -> Facts:
    """Return the settings that a spec's own class brings, each with its sentence."""
    brought = getattr(spec, "options", "") or getattr(spec, "settings", None)
    if not brought:
        return {}
    model = attribute(brought) if isinstance(brought, str) else brought
    facts = {}
    for field, info in getattr(model, "model_fields", {}).items():
        default = "" if info.is_required() else info.get_default(call_default_factory=True)
        is_plain = isinstance(default, str | int | float | bool | tuple) and default not in ("", ())
        shown = f" ({show_value(default)})" if is_plain else ""
        facts[f"  {field}"] = f"{sentence_of(model, field)}{shown}".strip() or "-"
    return {"its settings": ", ".join(model.model_fields) or "none", **facts} if facts else {}


def _profile(name: str) -> Facts:
    scale = load_profile(name)
    facts = {"profile": name, "what": scale.statement}
    if scale.above:
        facts["extends"] = ", ".join(scale.above)
    for key, spec in scale.paths.items():
        facts[f"paths.{key}"] = " ".join(filter(None, (spec.default or "to be given", spec.get)))
    for key, value in scale.needs.items():
        facts[f"needs {key}"] = f"{value:g}"
    for path, value in m.leaves(scale.base):
        facts[path] = show_value(value)
    return facts


def _suite(file: Path) -> Facts:
    from sca_bench.study.suite.suite import header_of

    content = read_mapping(file, "suite, question, ...")
    kind = "sweep" if "sweep" in content else "suite"
    facts = {kind: str(content.get(kind, "")), "question": str(content.get("question", ""))}
    facts["file"] = str(file)
    if content.get("paper"):
        facts["repeats"] = f"{content['paper']} of the paper"
    for axis, values in (content.get("axes") or content.get("space") or {}).items():
        facts[f"axis {axis}"] = show_value(values)
    cells = [str(cell.get("name", "")) for cell in content.get("cells") or ()]
    facts |= {"other cells": ", ".join(cells)} if cells else {}
    facts["seeds"] = show_value(content.get("seeds", [0]))
    facts["metrics"] = ", ".join(map(str, content.get("metrics", ["cider_d"])))
    for claim in content.get("claims") or ():
        facts[f"claim {claim.get('id', '')}"] = str(claim.get("says", ""))
    profiles = [str(content.get("profile", "tiny")), *(content.get("profiles") or {})]
    facts["profiles"] = ", ".join(dict.fromkeys(profiles))
    facts["about"] = " ".join(header_of(file).split())
    command = "sweep" if kind == "sweep" else "run"
    facts["run it"] = f"python -m sca_bench {command} {file}"
    return facts
