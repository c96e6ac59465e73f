"""The answer of a suite on a terminal: its sentences, wrapped to the terminal's width."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from sca_bench.output import one_line

if TYPE_CHECKING:
    from rich.console import Console

_INDENT = "  "


def print_sentences(sentences: Iterable[str], console: Console) -> None:
    """Print sentences, indented; each is one line where nobody looks at a terminal.

    Args:
        sentences: Whole sentences, whose names may come from anybody.
        console: Where to.
    """
    for sentence in sentences:
        for line in _lines(f"- {sentence}", console):
            console.print(f"{_INDENT}{line}", highlight=False, markup=False, soft_wrap=True)


def _lines(text: str, console: Console) -> list[str]:
    """Return a text in lines; those after the first stand under its words."""
    if not console.is_terminal:
        return [text]
    from rich.text import Text

    width = max(20, console.width - len(_INDENT) - len("- "))
    mark, words = text[:2], one_line(text[2:])
    lines = [line.plain.rstrip() for line in Text(words).wrap(console, width)]
    return [f"{'  ' if number else mark}{line}" for number, line in enumerate(lines)]
