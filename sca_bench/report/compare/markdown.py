"""A comparison as Markdown for a pull request: a table, and captions behind a fold.

GitHub reads more in a text than Markdown does: names of people, numbers of issues, addresses.
Captions and names come from anybody, so each stands as code with every sign as its number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sca_bench.output import one_line
from sca_bench.report.compare.changed import ChangedRegion
from sca_bench.report.compare.compared import Compared
from sca_bench.report.compare.words import (
    CHANGE_HEADS,
    HEADS,
    all_notes,
    answer,
    change_rows,
    changes_text,
    reference_text,
    region_text,
    shown_captions,
    shown_rows,
    side_text,
    size_text,
)

MOST_SIGNS = 60_000
"""GitHub takes a comment of 65,536."""
_PLAIN = frozenset(" ,'-/=()")
_OURS = _PLAIN | frozenset(".:;%+")
_MEANS = re.compile(r"[@#/]|www\.|GH-")


def compared_markdown(compared: Compared, regions: Sequence[ChangedRegion]) -> str:
    """Return a comparison as Markdown; captions that make it too long for a comment are left out.

    Args:
        compared: The comparison.
        regions: The regions to show, with captions.
    """
    several = len(compared.pairs) > 1
    parts = [f"**{_text(answer(compared))}**", ""]
    parts += [f"- A: {_code(side_text(compared.a))}", f"- B: {_code(side_text(compared.b))}"]
    parts += [f"- {_text(size_text(compared))}; scores times 100", ""]
    heads = [*(["cell"] if several else []), *HEADS]
    rule = [":---" if head in ("cell", "metric", "verdict") else "---:" for head in heads]
    parts += [_line(heads), _line(rule)]
    for row in shown_rows(compared):
        parts.append(_line([*([_code(row.cell)] if several else []), *map(_text, row.fields)]))
    parts.append("")
    parts += [f"- {_text(note)}" for note in all_notes(compared)]
    parts += [""] if all_notes(compared) else []
    if several:
        parts += [_line(CHANGE_HEADS), _line([":---", *["---:"] * (len(CHANGE_HEADS) - 1)])]
        parts += [_line([_code(name), *counts]) for name, *counts in change_rows(compared)] + [""]
    else:
        parts += [_text(changes_text(compared.pairs[0].changes)), ""]
    text = "\n".join(parts)
    folded = [_region(compared, region, several=several) for region in regions]
    while folded and len(text) + sum(map(len, folded)) > MOST_SIGNS:
        folded.pop()
    if folded:
        text += "\n<details>\n<summary>The captions that changed most</summary>\n\n"
        text += "| region | what became of it | reference | A | B |\n"
        text += "| :--- | :--- | :--- | :--- | :--- |\n"
        text += "".join(folded) + "\n</details>\n"
    return text


def _region(compared: Compared, region: ChangedRegion, *, several: bool) -> str:
    metric = next(p.changes.metric for p in compared.pairs if p.pair.name == region.cell)
    name = f"{region.cell}, {region.region_id}" if several else region.region_id
    sides: dict[str, list[str]] = {"A": [], "B": []}
    for said in shown_captions(region):
        words = " ".join(
            f"<b>{_signs(word.text)}</b>" if word.differs else _signs(word.text)
            for word in said.words
        )
        seeds = f"{said.seeds}: " if said.seeds else ""
        sides[said.side].append(f"{seeds}<code>{words}</code>")
    fields = [_code(name), _text(region_text(region, metric)), _code(reference_text(region))]
    return _line([*fields, *("<br>".join(said) for said in sides.values())]) + "\n"


def _line(fields: Sequence[str]) -> str:
    return f"| {' | '.join(fields)} |"


def _code(text: str) -> str:
    return f"<code>{_signs(text)}</code>"


def _signs(text: str) -> str:
    """Return text of which no sign means anything to GitHub."""
    text = one_line(text)
    return _numbered(text, _PLAIN)


def _text(text: str) -> str:
    """Return a sentence of ours; one that holds a name with signs of GitHub's stands as code."""
    if _MEANS.search(text):
        return _code(text)
    return _numbered(one_line(text), _OURS)


def _numbered(text: str, plain: frozenset[str]) -> str:
    """Return text in which signs of ASCII that are not plain stand as their numbers.

    An underscore between letters means nothing to GitHub.
    """
    between = {found.start() for found in re.finditer(r"(?<=[^\W_])_(?=[^\W_])", text)}
    return "".join(
        f"&#{ord(sign)};" if _means(sign, plain) and place not in between else sign
        for place, sign in enumerate(text)
    )


def _means(sign: str, plain: frozenset[str]) -> bool:
    return sign.isascii() and not sign.isalnum() and sign not in plain
