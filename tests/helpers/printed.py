"""What README and the pages of `docs/` print: code blocks, with what is said in front of each.

A comment in the line before a block says what becomes of it:

* `<!-- file: NAME -->`: the block is that file;
* `<!-- not run: REASON -->`: why no test runs its commands; the reason names the test that covers
  them, or says what is not here;
* `<!-- run -->` and `<!-- tests -->` of the README: `.ci/run` and the judge run them.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
_BLOCK = re.compile(
    r"(?:<!-- (?P<mark>[^>]*) -->\n)?```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """One fenced block.

    Attributes:
        page: The page's path from the repository's root.
        line: Where it begins, from 1.
        kind: Its language.
        mark: What the comment before it says; empty where there is none.
        text: What stands in it.
    """

    page: str
    line: int
    kind: str
    mark: str
    text: str

    def commands(self) -> list[list[str]]:
        """Return the command lines in it as words, comments left out."""
        joined = self.text.replace("\\\n", " ")
        return [
            words for line in joined.splitlines() if (words := shlex.split(line, comments=True))
        ]


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    name = page.relative_to(ROOT).as_posix()
    return [
        Block(
            name,
            text[: found.start()].count("\n") + 1,
            found["kind"],
            found["mark"] or "",
            found["text"],
        )
        for found in _BLOCK.finditer(text)
    ]


def all_blocks(kind: str = "") -> list[Block]:
    """Return the blocks of all pages, of one language perhaps."""
    return [block for page in PAGES for block in blocks(page) if kind in ("", block.kind)]


def file_block(page: str, name: str) -> str:
    """Return what a page says a file holds."""
    (found,) = (b for b in blocks(ROOT / page) if b.mark == f"file: {name}")
    return found.text


def prose(page: Path) -> str:
    """Return a page's text without code, comments and links' targets."""
    text = re.sub(r"^```.*?^```$|<!--.*?-->", "", page.read_text("utf-8"), flags=re.M | re.S)
    return re.sub(r"`[^`\n]*`|\]\([^)\n]*\)", "", text)
