"""On which line of a YAML file a fault stands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from sca_bench.errors import InputError
from sca_bench.study.suite.yaml_values import compose_yaml

_NAMES = ("id", "name")
"""Keys by which faults call an item of a list."""


@contextmanager
def fault_lines(path: Path) -> Iterator[None]:
    """Let every fault of a file that is found inside say its line, where its key has one."""
    try:
        yield
    except InputError as error:
        for fault in (error, *error.others):
            file, _, above = fault.where.partition(": ")
            if file != str(path):
                continue
            key = ".".join(filter(None, (above, fault.key.partition(": ")[0])))
            if key and (line := line_of(path, key)):
                said = f" (line {line})"
                fault.fix, fault.problem = (
                    (f"{fault.fix}{said}", fault.problem)
                    if fault.fix
                    else ("", f"{fault.problem}{said}")
                )
        raise


def line_of(path: Path, key: str) -> int:
    """Return the line of a dotted key, or of the deepest part of it that is there; 0 for none."""
    try:
        node = compose_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, InputError):
        return 0
    line = 0
    while key and node is not None:
        found = _step(node, key)
        if found is None:
            break
        line, node, key = found
    return line


def _step(node: yaml.Node, key: str) -> tuple[int, yaml.Node, str] | None:
    """Return line and value of the first part of a key, and what is left of the key."""
    if isinstance(node, yaml.MappingNode):
        names = [(str(name.value), name, value) for name, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        names = [(str(number), item, item) for number, item in enumerate(node.value)]
        names += [(name, item, item) for item in node.value for name in _names_of(item)]
    else:
        return None
    fitting = [n for n in names if key == n[0] or key.startswith(f"{n[0]}.")]
    if not fitting:
        return None
    name, at, value = max(fitting, key=lambda n: len(n[0]))
    return int(at.start_mark.line) + 1, value, key[len(name) + 1 :]


def _names_of(item: yaml.Node) -> list[str]:
    pairs = item.value if isinstance(item, yaml.MappingNode) else []
    return [str(value.value) for name, value in pairs if name.value in _NAMES]
