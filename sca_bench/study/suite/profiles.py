"""The shipped scales: settings that every suite builds on, and what a scale needs from its user."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from sca_bench.errors import InputError, at, did_you_mean
from sca_bench.reading import SUITE_BYTES, read_text
from sca_bench.study.suite import merge as m
from sca_bench.study.suite.schema import NamedPath, PathSpec
from sca_bench.study.suite.yaml_values import load_yaml

_Patch = TypeVar("_Patch")


def read_yaml(path: Path) -> Any:
    """Read a YAML file safely.

    Raises:
        InputError: The file is missing, is not YAML, or says something in two ways.
    """
    try:
        with at(path):
            return load_yaml(read_text(path, SUITE_BYTES))
    except FileNotFoundError:
        near = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        fix = did_you_mean(path.name, near) if near else ""
        raise InputError(path, "", "no such file", fix) from None
    except OSError as error:
        raise InputError(path, "", f"cannot be read ({error.strerror})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}" if mark else ""
        raise InputError(path, line, f"not YAML ({getattr(error, 'problem', error)})") from None


def read_mapping(path: Path, keys: str) -> dict[Any, Any]:
    """Read a YAML file that holds a mapping.

    Args:
        path: The file.
        keys: Its first keys, for people.

    Raises:
        InputError: `read_yaml`'s, or it holds something else, or nothing.
    """
    content = read_yaml(path)
    if isinstance(content, dict):
        return content
    kinds = {type(None): "is empty", list: "holds a list"}
    found = kinds.get(type(content), "holds a single value")
    raise InputError(path, "", f"{found}; expected a mapping with {keys}")


def profile_names() -> list[str]:
    """Return the names of the shipped profiles."""
    folder = resources.files("sca_bench") / "profiles"
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith("yaml"))


@dataclass(frozen=True)
class Profile:
    """One shipped scale.

    Attributes:
        base: Settings fragment that every suite builds on.
        statement: What it says about its weights and data; shown with every result.
        paths: Named files and folders it reads; those without a default the user has to give.
        needs: What a run at this scale takes of a machine, such as `gpu_memory_gib`.
        above: The profiles it extends, nearest first; a suite's patch for one of them holds for
            this one, too, unless the suite has a patch of its own.
    """

    base: dict[str, Any]
    statement: str
    paths: Mapping[str, PathSpec]
    needs: Mapping[str, float]
    above: tuple[str, ...] = ()


def load_profile(name: str) -> Profile:
    """Read a shipped profile; `extends` lays it over another one."""
    if name not in profile_names():
        raise InputError(None, "profile", repr(name), did_you_mean(name, profile_names()))
    path = Path(str(resources.files("sca_bench") / "profiles" / f"{name}.yaml"))
    content = read_yaml(path)
    base, statement = content["base"], " ".join(str(content.get("statement", "")).split())
    needs, names = content.get("needs", {}), ()
    with at(path):
        paths = {key: named_path(value, key) for key, value in content.get("paths", {}).items()}
        if parent := content.get("extends"):
            above = load_profile(parent)
            base, paths = m.merge(above.base, base), {**above.paths, **paths}
            statement, needs = statement or above.statement, {**above.needs, **needs}
            names = (parent, *above.above)
        m.check_keys(base, "base.")
    return Profile(base, statement, paths, needs, names)


def patch_of(
    patches: Mapping[str, _Patch], profile: str, scale: Profile
) -> tuple[str, _Patch | None]:
    """Return what a file says for a profile, or for the nearest one above it that it names.

    Args:
        patches: Name of a profile -> what the file says for it.
        profile: The profile in use.
        scale: What that says itself.

    Returns:
        The profile's name that it is written under, and what it says; "" and None where the file
        says nothing for any of them.
    """
    name = next((name for name in (profile, *scale.above) if name in patches), "")
    return name, patches.get(name)


def named_path(value: Any, name: str) -> PathSpec:
    """Read one entry of `paths:`.

    Raises:
        InputError: It is neither a path, nor null, nor a default with a way to get it.
    """
    try:
        spec: PathSpec = TypeAdapter(NamedPath).validate_python(value)
    except ValidationError as error:
        raise InputError(None, f"paths.{name}", str(error.errors()[0]["msg"])) from None
    return spec
