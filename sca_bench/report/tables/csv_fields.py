"""Any text as a field of a CSV file that no spreadsheet takes for a formula.

A spreadsheet computes a field that begins with `=`, `+`, `-` or `@`, and a formula can start
programs or send what stands beside it to a server. Some look through blanks and quotes, know the
wide forms of these signs, or begin a new field at a semicolon. So an apostrophe goes in front,
which spreadsheets take for "this is text".
"""

from __future__ import annotations

import re

from sca_bench.output import one_line

_SIGNS = "=+\\-@＝＋－＠﹦﹢﹣﹫⁼⁺⁻₌₊₋"  # noqa: RUF001
_BEGINS = rf"[\s'\"]*[{_SIGNS}]"
_GUARD = re.compile(rf"(^|;)(?={_BEGINS})")
_GUARDED = re.compile(rf"(^|;)'(?={_BEGINS})")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)? ?%?|[+-]inf", re.I)


def field(text: str, *, value: bool = False) -> str:
    """Return a text as it stands in a CSV file.

    Args:
        text: Any text.
        value: Whether it is a value, of which numbers stay numbers (`-0.3`, `-1e-5`, `+5 %`); a
            name is text whatever it looks like.

    Returns:
        The text on one line, with characters that nobody sees written as their numbers, and an
        apostrophe before what a spreadsheet would compute. `original` takes it off.
    """
    if value and _NUMBER.fullmatch(text):
        return text
    return _GUARD.sub(r"\1'", one_line(text))


def original(text: str) -> str:
    """Return the text that `field` was given (unseen characters stay written as numbers)."""
    return _GUARDED.sub(r"\1", text)
