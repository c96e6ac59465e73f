"""The answer of a suite in words: what page, terminal, Markdown and Python show first.

Plain data, no markup: whoever shows a text escapes it (names in it come from anybody).
`findings.answer` makes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SentenceVerdict = Literal["reproduced", "contradicted", "undecided", "not comparable", ""]
"""Verdict of a claim; empty for a sentence of a suite that claims nothing."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number that a sentence prints.

    Attributes:
        column: Column of `claims.csv` that holds it in full, in the sentence's row.
        value: The same here, natural units.
        shown: As the sentence prints it: a score times 100, rounded to what it can bear.
    """

    column: str
    value: float
    shown: str


@dataclass(frozen=True, slots=True)
class Sentence:
    """One finding in words.

    Attributes:
        claim_id: The claim; in a suite without claims what the sentence is about, which is in
            column `claim` of `claims.csv`, too.
        verdict: What the numbers say about the claim.
        label: The verdict in at most four words, for a badge: its own word, `no numbers`, or for a
            contradiction that is scoped `not at tiny scale`; empty without a claim.
        claim: What is claimed, a clause: `two layers beat one`; empty without a claim.
        text: The answer, one sentence with its interval.
        known: What is known although it is not decided, or why there are no numbers; empty where
            the text says all.
        scoped: Whether `contradicted` says so of this profile's scale and data only. Red is for a
            contradiction that is not scoped.
        comparable: Whether the protocol is comparable with that of the paper's own numbers; False
            where the paper has none for it.
        numbers: Every number that `text` and `known` print, but those of cells' names.
        metric: The metric compared.
        left: Names of the cells of the left side, as tables have them; empty where there are none.
        right: Those of the right side.
    """

    claim_id: str
    verdict: SentenceVerdict
    label: str
    claim: str
    text: str
    known: str = ""
    scoped: bool = False
    comparable: bool = False
    numbers: tuple[Number, ...] = ()
    metric: str = ""
    left: tuple[str, ...] = ()
    right: tuple[str, ...] = ()

    @property
    def is_alarm(self) -> bool:
        """Whether it is marked red: a contradiction under a protocol like the paper's."""
        return self.verdict == "contradicted" and not self.scoped

    @property
    def whole(self) -> str:
        """The sentence with what is known."""
        return f"{self.text} {self.known}".strip()


@dataclass(frozen=True, slots=True)
class AnswerRegion:
    """A test region on which the cells of the first sentence differ.

    Attributes:
        region_id: The region.
        image_id: Its image; the three regions lie in different ones where there are as many.
        left: Name of the cell whose caption stands for the left side.
        right: Name of that for the right side.
        difference: Left minus right of the region's own score, mean over seeds, natural units.
    """

    region_id: str
    image_id: str
    left: str
    right: str
    difference: float


@dataclass(frozen=True, slots=True)
class Headline:
    """What a suite asked, and what came out.

    Attributes:
        question: What was asked.
        sentences: One per claim, in the suite's order; for a suite without claims the best cell
            with what cannot be told from it.
        sure: How sure that is: regions, images, seeds, and what runs of one cell differ by.
        cost: What it cost: runs, compute.
        units: In which units the sentences count, said once.
        scope: What the answer holds for, such as `at tiny scale`.
        figure: Name of the plot that answers the question (`report.figures.registry`).
        regions: Three regions where the cells differ most; fewer where there are fewer.
        numbers: Numbers that `sure` prints; their row of `claims.csv` is the first that has a
            difference.
    """

    question: str
    sentences: tuple[Sentence, ...]
    sure: str = ""
    cost: str = ""
    units: str = ""
    scope: str = ""
    figure: str = ""
    regions: tuple[AnswerRegion, ...] = ()
    numbers: tuple[Number, ...] = ()

    @property
    def in_short(self) -> str:
        """The first sentence, which a line of an overview has room for."""
        return self.sentences[0].text if self.sentences else ""
