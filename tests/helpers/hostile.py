"""Texts that do something wherever they are not escaped, and how to see whether one did."""

from __future__ import annotations

import re
import unicodedata

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    '"\'><b onmouseover="alert(3)">',
    "</style></script><!-- ]]> -->",
    "{{ 7 * 191 }} {% raw %}",
    "javascript:alert(1)",
    "&lt;b&gt; &#60; &copy",
    "=cmd|' /C calc'!A0",
    "+1",
    "-1",
    "@SUM(1)",
    "\t=1+1",
    "\r=1+2",
    "\n=1+3",
    "  =1+4",
    '"=1+5',
    "'=1+6",
    "\uff1d1+7",
    "\uff0b8 \uff0d9 \uff20x",
    "a;=1+8",
    'a,b"c\nd',
    "\\input{/etc/passwd} \\write18{id} \\csname end\\endcsname",
    "^^M^^5cinput{x} $x^2$ % # & _ { } ~",
    "[5cm] and *[3]",
    "| a | b |\n| - | - |",
    "`code` ``more``",
    "[link](https://example.org) ![image](https://example.org/x.png)",
    "<https://example.org> [^1]: note",
    "# heading",
    "x\n\n# heading\n\n- item",
    "1. item",
    "---",
    "> quoted",
    "**bold** __bold__ ~~gone~~ $math$",
    "[bold]x[/] [link=https://example.org]here[/link] [/]",
    ":smile: [red",
    "a\x1b[2J\x1b]0;title\x07\x1b]8;;https://example.org\x07b\x9b31mc\x90d\x9c",
    "a\x08\x08\x00\x7fb",
    "left\u202eright\u2066middle\u2069\u200fend",
    "zero\u200bwidth\ufeff\u00ad\u2060\u3164",
    "one\u2028two\u2029three\x85four\x0bfive\x0csix",
    "tag\U000e0041 half\ud83d",
    "_begins with an underscore",
    "caf\u00e9 \u03b1\u03b2 na\u00efve",
)
"""Each is a name, a caption or a message of somebody."""


def unseen(text: str, allowed: str = "") -> list[str]:
    """Return the characters of a text that nobody sees, but for line ends and those allowed."""
    kinds = ("Cc", "Cf", "Cs", "Zl", "Zp")
    found = {c for c in text if unicodedata.category(c) in kinds or c in "\u034f\u115f\u3164"}
    return sorted(found - {"\n", *allowed})


def begins_a_formula(field: str) -> bool:
    """Say whether a spreadsheet may compute a field, or a part of it after a semicolon."""
    parts = (unicodedata.normalize("NFKC", part) for part in field.split(";"))
    return any(re.match(r"[\s\"]*[=+\-@\t\r]", part) for part in parts)
