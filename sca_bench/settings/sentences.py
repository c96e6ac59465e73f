"""What a setting does, in the words that stand below it in the code.

The text below a field of a settings class is its sentence, as pydantic's attribute docstrings are.
It is read from the source when somebody asks, so that no command that asks for none waits for it.
"""

from __future__ import annotations

import ast
import functools
import inspect
import sys
from collections.abc import Mapping

from pydantic import BaseModel


def sentence_of(model: type[BaseModel], field: str) -> str:
    """Return what a field of a model does, in one line; empty where nothing is said.

    Args:
        model: The settings class.
        field: Name of one of its fields; a class further up may have brought it, or describe it.
    """
    if said := model.model_fields[field].description:
        return " ".join(said.split())
    for holder in model.__mro__:
        if field in vars(holder).get("__annotations__", {}):
            said = _sentences(holder.__module__).get(holder.__qualname__, {}).get(field, "")
            if said:
                return said
    return ""


def heading_of(model: type[BaseModel]) -> str:
    """Return the first line of what a settings class says of itself."""
    own = vars(model).get("__doc__") or ""
    return inspect.cleandoc(own).partition("\n\n")[0].replace("\n", " ")


@functools.cache
def _sentences(module: str) -> Mapping[str, Mapping[str, str]]:
    """Return class -> field -> its sentence, for a module whose source is there."""
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError, SyntaxError):
        return {}
    found: dict[str, dict[str, str]] = {}
    _collect(tree.body, "", found)
    return found


def _collect(body: list[ast.stmt], above: str, found: dict[str, dict[str, str]]) -> None:
    for node in body:
        if not isinstance(node, ast.ClassDef):
            continue
        own = found.setdefault(f"{above}{node.name}", {})
        for field, text in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
                and isinstance(text.value.value, str)
            ):
                own[field.target.id] = " ".join(text.value.value.split())
        _collect(node.body, f"{above}{node.name}.", found)
