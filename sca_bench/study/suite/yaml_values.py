"""Values as a suite file writes them: reading YAML safely, and writing a value back.

Plain words and numbers mean what YAML 1.2 says, whose core schema is small: `null`, `true`,
`false`, decimal numbers, `0o17`, `0x1f`, `.inf`; everything else is text, `yes`, `off` and
`2024-01-01` among it. A number that YAML 1.1 reads otherwise, such as `010` or `1:30`, is refused.

Source: YAML 1.2.2, section 10.3 (core schema).
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from sca_bench.errors import InputError
from sca_bench.reading import NO_TEXT_FIX, SUITE_BYTES, find_no_text, read_text

MOST_VALUES = 20_000
"""Keys and values that one file may hold, counted again wherever an alias repeats them."""
MOST_LEVELS = 50
"""How deep mappings and lists may stand inside each other."""
_KEPT_TREES = 256
"""So many texts are not read again; those of a suite are its files and the values of its claims."""

_SCIENTIFIC_BELOW = 1e-3  # learning rates read better as 1e-4 beside 5e-5
_MOST_DIGITS = 400  # more than any number that a float or 64 bits can hold
_TAG = "tag:yaml.org,2002:"
_PLAIN = "plain"
_MERGE = "<<"
_MERGE_KEY = object()  # no text: a quoted "<<" is a key like any other
_CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_OF_TAG: dict[str, tuple[type, ...]] = {
    "null": (type(None),),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
}
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_OTHER_BASE = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_DIGITS = re.compile(r"[-+.0-9a-fA-F_:xX]+")
_ONE_READING = re.compile(r"[-+]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")


class _Composer(yaml.SafeLoader):
    """Builds YAML's tree of nodes; plain values keep their text, and depth and size are limited."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._indices: list[Any] = []
        self._num_values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self._num_values += 1
        self._indices.append(index)
        if len(self._indices) > MOST_LEVELS or self._num_values > MOST_VALUES:
            names = (i.value if isinstance(i, yaml.ScalarNode) else i for i in self._indices[:6])
            key = ".".join(str(name) for name in names if name is not None)
            too_deep = len(self._indices) > MOST_LEVELS
            raise _too_deep(key) if too_deep else _too_many(key)
        node = super().compose_node(parent, index)
        self._indices.pop()
        return node


_Composer.yaml_implicit_resolvers = {}
_Composer.add_implicit_resolver(_PLAIN, re.compile(""), None)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that this reader, or one of YAML 1.1, would take for a number."""


_Dumper.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(f"(?:{_FLOAT.pattern}|{_OTHER_BASE.pattern})$"),
    list("-+.0123456789"),
)


def load_yaml(text: str, key: str = "") -> Any:
    """Read YAML 1.2 with anchors and `<<`, without tags other than those of plain values.

    Args:
        text: What is read.
        key: What it is the value of, for errors.

    Raises:
        yaml.YAMLError: It is not YAML.
        InputError: A key is given twice, a number may mean two things, a value holds itself, or
            there is more of it than anybody writes.
    """
    try:
        node = compose_yaml(text)
    except InputError as error:
        error.key = _below(key, error.key) if error.key else key
        raise
    return None if node is None else _Builder().value(node, key)


def compose_yaml(text: str) -> yaml.Node | None:
    """Return the tree of nodes of a YAML text, which know their lines; None for an empty one.

    A text is read once: a profile stands under many suites. Nobody changes a tree.

    Raises:
        yaml.YAMLError: It is not YAML.
        InputError: It is deeper or larger than anybody writes.
    """
    found = _composed(text)
    if isinstance(found, _Refused):
        raise InputError(None, found.key, found.problem, found.fix)
    if isinstance(found, yaml.YAMLError):
        raise found
    return found


@dataclass(frozen=True)
class _Refused:
    """What is wrong with a text; remembered too, since whoever shows a fault asks for its line."""

    key: str
    problem: str
    fix: str


@functools.lru_cache(_KEPT_TREES)
def _composed(text: str) -> yaml.Node | yaml.YAMLError | _Refused | None:
    composer = None
    try:
        composer = _Composer(text)
        node: yaml.Node | None = composer.get_single_node()
    except InputError as error:
        return _Refused(error.key, error.problem, error.fix)
    except yaml.YAMLError as error:
        return error.with_traceback(None)
    finally:
        if composer is not None:
            composer.dispose()
    return node


def dump_yaml(value: Any) -> str:
    """Write plain values as YAML that `load_yaml` reads back as they were."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=1000)
    return text


class _Builder:
    """Turns nodes into plain values, and knows where each stands."""

    def __init__(self) -> None:
        self._above: list[yaml.Node] = []
        self._num_values = 0

    def value(self, node: yaml.Node, key: str) -> Any:
        """Return what a node means; `key` is its place."""
        self._num_values += 1
        if self._num_values > MOST_VALUES:
            raise _too_many(key)
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node, key)
        _check_tag(node, ("map", "seq"), key)
        if any(node is above for above in self._above):
            line = _line(self._above[-1])
            problem = f"is an alias of what it stands in (line {line})"
            raise InputError(None, key, problem, "write its value out")
        if len(self._above) >= MOST_LEVELS:
            raise _too_deep(key)
        self._above.append(node)
        built: Any
        if isinstance(node, yaml.SequenceNode):
            built = [self.value(item, _below(key, i)) for i, item in enumerate(node.value)]
        else:
            built = self._mapping(node, key)
        self._above.pop()
        return built

    def _mapping(self, node: yaml.Node, key: str) -> dict[Any, Any]:
        lines: dict[Any, int] = {}
        merged: dict[Any, Any] = {}
        values: dict[Any, Any] = {}
        for name_node, value_node in node.value:
            line = _line(name_node)
            if not isinstance(name_node, yaml.ScalarNode):
                raise InputError(None, key, f"line {line}: a list or mapping is no key")
            merges = name_node.tag == _PLAIN and name_node.value == _MERGE
            name = _MERGE_KEY if merges else _scalar(name_node, key)
            where = _below(key, name_node.value)
            if name in lines:
                problem = f"is given twice, on lines {lines[name]} and {line}"
                fix = "write <<: [*one, *two]" if merges else "keep one of them"
                raise InputError(None, where, problem, fix)
            lines[name] = line
            if merges:
                merged = self._merged(value_node, where)
            else:
                values[name] = self.value(value_node, where)
        return {**merged, **values}

    def _merged(self, node: yaml.Node, key: str) -> dict[Any, Any]:
        """Return what `<<` brings in: one mapping, or several of which the first counts most."""
        value = self.value(node, key)
        layers = value if isinstance(value, list) else [value]
        if not all(isinstance(layer, dict) for layer in layers):
            raise InputError(None, key, "expected a mapping, or a list of mappings")
        merged: dict[Any, Any] = {}
        for layer in layers:
            merged = {**merged, **{k: v for k, v in layer.items() if k not in merged}}
        return merged


def _scalar(node: yaml.ScalarNode, key: str) -> Any:
    if no_text := find_no_text(node.value):
        raise InputError(None, key, no_text.problem, NO_TEXT_FIX)
    if node.tag == f"{_TAG}str":
        return node.value
    _check_tag(node, (_PLAIN, *_OF_TAG), key)
    value = _plain(node.value, key)
    if node.tag == _PLAIN:
        return value
    if type(value) not in _OF_TAG[node.tag.removeprefix(_TAG)]:
        raise InputError(None, key, f"{node.value!r} is not what its tag says", "leave the tag out")
    return float(value) if node.tag == f"{_TAG}float" else value


def _plain(text: str, key: str) -> Any:
    """Return what a value without quotes means.

    Raises:
        InputError: YAML 1.1 and 1.2 read it as different numbers, or no computer holds it.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    value = _number(text, key)
    if not _ONE_READING.fullmatch(text):
        _refuse_two_readings(text, value, key)
    return value


def _number(text: str, key: str) -> Any:
    """Return the number that YAML 1.2 reads, or the text where it reads none."""
    if _NO_NUMBER.fullmatch(text):
        return float(text.replace(".", ""))
    whole = _DECIMAL.fullmatch(text) or _OTHER_BASE.fullmatch(text)
    if whole is None and not _FLOAT.fullmatch(text):
        return text
    if len(text) > _MOST_DIGITS:
        raise InputError(None, key, f"a number of {len(text)} digits", "write a smaller one")
    value = int(text, 10 if _DECIMAL.fullmatch(text) else 0) if whole else float(text)
    beyond = abs(value) >= 2**63 if isinstance(value, int) else math.isinf(value)
    if beyond:
        what = "64 bits" if whole else "a floating-point number"
        raise InputError(None, key, f"{text} is more than {what} can hold", "write a smaller one")
    return value if whole else value + 0.0  # -0.0 becomes 0.0


def _refuse_two_readings(text: str, value: Any, key: str) -> None:
    """Refuse a number on which YAML 1.1 and 1.2 disagree.

    Numbers that only 1.2 knows, such as `1e-3`, have one reading; `08` is meant as `07` is.
    """
    old = _reading_1_1(text)
    if isinstance(old, str) and not _LEADING_ZERO.fullmatch(text):
        return
    if not isinstance(value, str) and not isinstance(old, str) and value == old:
        return
    was, reads = ("text" if isinstance(v, str) else show_value(v) for v in (old, value))
    problem = f"{text} is {was} in YAML 1.1 and {reads} in YAML 1.2"
    fix = f"write the number you mean in plain decimals, or '{text}' in quotes for the text"
    raise InputError(None, key, problem, fix)


def _reading_1_1(text: str) -> Any:
    """Return the number that YAML 1.1 makes of a plain value, or its text."""
    if not _DIGITS.fullmatch(text):
        return text
    try:
        found = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):  # such as `0b_`, or a month that there is not
        return text
    return found if isinstance(found, int | float) else text


def _check_tag(node: yaml.Node, known: tuple[str, ...], key: str) -> None:
    if node.tag.removeprefix(_TAG) not in known:
        tag = node.tag.replace(_TAG, "!!")
        problem = f"line {_line(node)}: not YAML without tags ({tag})"
        raise InputError(None, key, problem, "leave the tag out")


def _below(key: str, name: Any) -> str:
    return f"{key}.{name}" if key else str(name)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _too_many(key: str) -> InputError:
    problem = (
        f"more than {MOST_VALUES:,} values in one file, aliases counted as often as they stand"
    )
    return InputError(None, key, problem, "shorten its lists")


def _too_deep(key: str) -> InputError:
    problem = f"more than {MOST_LEVELS} levels of mappings and lists inside each other"
    return InputError(None, key, problem, "no setting stands so deep")


def show_value(value: Any) -> str:
    """Return a coordinate or setting in the form a suite file has it; null reads `none`."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        small = 0 < abs(value) < _SCIENTIFIC_BELOW
        return f"{Decimal(repr(value)).normalize():e}" if small else repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(show_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {show_value(v)}" for k, v in sorted(value.items())) + "}"
    return str(value)


def same_value(a: Any, b: Any) -> bool:
    """Say whether two values of suite files mean the same; 1 is 1.0, but true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, int | float) and isinstance(b, int | float):
        return a == b
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same_value, a, b))
    return show_value(a) == show_value(b)


# --- on which line a fault stands ----------------------------------------------------------------

_BASE = "base"
"""Where a suite states the settings that faults call by their own path."""
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
            if key and (line := line_of(path, key) or line_of(path, f"{_BASE}.{key}", least=2)):
                said = f" (line {line})"
                fault.fix, fault.problem = (
                    (f"{fault.fix}{said}", fault.problem)
                    if fault.fix
                    else ("", f"{fault.problem}{said}")
                )
        raise


def line_of(path: Path, key: str, least: int = 1) -> int:
    """Return the line of a dotted key, or of the deepest part of it that is there; 0 for none.

    Args:
        path: The file.
        key: The key.
        least: How many of its parts have to be there.
    """
    try:
        node = compose_yaml(read_text(path, SUITE_BYTES))
    except (OSError, yaml.YAMLError, InputError):
        return 0
    line = num_found = 0
    while key and node is not None:
        found = _step(node, key)
        if found is None:
            break
        line, node, key = found
        num_found += 1
    return line if num_found >= least else 0


def _step(node: yaml.Node, key: str) -> tuple[int, yaml.Node, str] | None:
    """Return line and value of the first part of a key, and what is left of the key."""
    if isinstance(node, yaml.MappingNode):
        names = [(str(name.value), name, value) for name, value in node.value]
    elif isinstance(node, yaml.SequenceNode):
        names = [(str(number), item, item) for number, item in enumerate(node.value)]
        names += [(name, item, item) for item in node.value for name in _names_of_item(item)]
    else:
        return None
    fitting = [n for n in names if key == n[0] or key.startswith(f"{n[0]}.")]
    if not fitting:
        return None
    name, at, value = max(fitting, key=lambda n: len(n[0]))
    return int(at.start_mark.line) + 1, value, key[len(name) + 1 :]


def _names_of_item(item: yaml.Node) -> list[str]:
    pairs = item.value if isinstance(item, yaml.MappingNode) else []
    return [str(value.value) for name, value in pairs if name.value in _NAMES]
