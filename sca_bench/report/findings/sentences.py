"""One comparison in words: what was claimed, what came out, and what is known where it is open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sca_bench.report.findings.cell_words import Phrase, Sides
from sca_bench.report.findings.claims import ClaimResult
from sca_bench.report.findings.headline import Number, Sentence
from sca_bench.report.names import (
    count_words,
    difference_unit,
    higher_is_better,
    in_sentence,
    metric_label,
    metric_maximum,
    show_about,
    show_bearable,
)
from sca_bench.report.read.samples import LEVEL
from sca_bench.report.read.suite_data import CellRuns
from sca_bench.stats.compare import Comparison

_LEVEL = f"{LEVEL:.0%}".replace("%", " %")
ALPHA = 1 - LEVEL
_MOST_HOLES = 3
_MOST_REASON = 160
"""Characters of the reason why a run has no result; its record has all of it."""


def points_of(metric: str) -> str:
    """Return in what differences of a metric are counted: `points of CIDEr-D`, `words`."""
    if metric_maximum(metric) is None:
        return difference_unit(metric)
    return f"points of {metric_label(metric)}"


@dataclass
class _Numbers:
    """Writes the numbers of one comparison, and remembers those that it wrote."""

    claim: ClaimResult
    comparison: Comparison
    written: list[Number] = field(default_factory=list)

    @property
    def half(self) -> float | None:
        """Half the width of the interval."""
        low, high = self.comparison.low, self.comparison.high
        return None if low is None or high is None else (high - low) / 2

    def show(self, column: str, value: float, *, turned: bool = False, signed: bool = True) -> str:
        """Return a difference as its interval lets it be written.

        Args:
            column: Where `claims.csv` has it.
            value: As there.
            turned: Whether the sentence names the right side first.
            signed: Whether its sign is written.
        """
        seen = -value if turned else value
        text = show_bearable(
            seen if signed else abs(seen), self.half, metric=self.claim.metric, signed=signed
        )
        self.written.append(Number(column, value, text))
        return text

    def difference(self, turned: bool = False, *, signed: bool = True) -> str:
        return self.show("difference", self.comparison.difference, turned=turned, signed=signed)

    def interval(self, turned: bool = False, *, signed: bool = True) -> str:
        """Return `95 % between -25 and +46`, or why there is none."""
        one = self.comparison
        if one.low is None or one.high is None:
            return "no interval, since there are fewer than two images"
        ends = [("low", one.low), ("high", one.high)]
        low, high = (
            self.show(name, end, turned=turned, signed=signed)
            for name, end in (ends[::-1] if turned else ends)
        )
        near = ", approximate" if one.approximate else ""
        return f"{_LEVEL} between {low} and {high}{near}"

    def margin(self) -> str:
        """Return the margin of a claim of `no better than`."""
        assert self.claim.decision is not None
        value = self.claim.decision.margin
        text = show_bearable(value, value, metric=self.claim.metric)
        self.written.append(Number("margin", value, text))
        return text

    def count(self, column: str, value: int, noun: str) -> str:
        """Return a count in words."""
        text = count_words(value, noun)
        self.written.append(Number(column, value, text.partition(" ")[0]))
        return text


def sentence_of(claim: ClaimResult, sides: Sides, scope: str, comparable: bool) -> Sentence:
    """Return a claim with what came out of it.

    Args:
        claim: The claim and its verdict.
        sides: Its sides in words.
        scope: What a contradiction holds for, such as `at tiny scale`.
        comparable: Whether the protocol is comparable with the paper's.
    """
    clause = claim.text or _clause(claim, sides)
    scoped = claim.verdict == "contradicted" and not comparable
    if claim.comparison is None or claim.decision is None:
        label, text, known = _without_numbers(claim, clause)
        return _made_of(claim, text, known, label=label, claim=clause)
    numbers = _Numbers(claim, claim.comparison)
    where = f" {scope}" if scoped and scope else ""
    text = _stated(claim, numbers, where) if claim.text else _made(claim, numbers, sides, where)
    known = _known(numbers) if claim.verdict == "undecided" else ""
    known = " ".join(filter(None, (known, _lost_runs(claim.sides))))
    label = f"not {scope}" if where else claim.verdict
    made = _made_of(claim, text, known, numbers, label=label, claim=clause)
    return replace(made, scoped=scoped, comparable=comparable)


def _made_of(
    result: ClaimResult,
    text: str,
    known: str,
    numbers: _Numbers | None = None,
    *,
    label: str = "",
    claim: str = "",
) -> Sentence:
    left, right = (tuple(dict.fromkeys(c.entry.name for c in side)) for side in result.sides)
    return Sentence(
        result.id,
        result.verdict,
        label,
        claim,
        _sentence(text),
        known,
        numbers=tuple(numbers.written) if numbers is not None else (),
        metric=result.metric,
        left=left,
        right=right,
    )


def _is_turned(claim: ClaimResult) -> bool:
    """Whether the right side is named first: `a < b` says that b beats a."""
    return claim.comparator == "<"


def _subjects(claim: ClaimResult, sides: Sides) -> tuple[Phrase, Phrase]:
    return (sides.right, sides.left) if _is_turned(claim) else (sides.left, sides.right)


def _verb(claim: ClaimResult, one: Phrase) -> tuple[str, str]:
    """Return `beat` as it stands after a name, and after `to` or `not`."""
    if higher_is_better(claim.metric):
        return one.verb("beat", "beats"), "beat"
    more = f"higher in {metric_label(claim.metric)} than"
    return f"{one.verb('are', 'is')} {more}", f"be {more}"


def _degree(claim: ClaimResult) -> str:
    """Return the adjective of a claim about a margin."""
    better = higher_is_better(claim.metric)
    words = ("better", "worse") if better else ("higher", "lower")
    return words[claim.comparator == ">="]


def _clause(claim: ClaimResult, sides: Sides) -> str:
    """Return what a claim says, as a clause of text, without numbers of what came out."""
    one, other = _subjects(claim, sides)
    if claim.comparator in (">", "<"):
        metric = f" in {metric_label(claim.metric)}" if higher_is_better(claim.metric) else ""
        return f"{one.text} {_verb(claim, one)[0]} {other.text}{metric}{sides.both}"
    degree = _degree(claim)
    is_ = one.verb("are", "is")
    metric = metric_label(claim.metric)
    return f"{one.text} {is_} hardly {degree} than {other.text} in {metric}{sides.both}"


def _made(claim: ClaimResult, numbers: _Numbers, sides: Sides, where: str) -> str:
    """Return the sentence of a claim that has no words of its own."""
    one, other = _subjects(claim, sides)
    turned, unit, both = _is_turned(claim), points_of(claim.metric), sides.both
    if claim.comparator in ("<=", ">="):
        return _about_margin(claim, numbers, sides, where)
    after, bare = _verb(claim, one)
    if claim.verdict == "reproduced":
        by = numbers.difference(turned, signed=False)
        interval = numbers.interval(turned, signed=False)
        return f"{one.text} {after} {other.text} by {by} {unit}{both} ({interval})"
    difference, interval = numbers.difference(turned), numbers.interval(turned)
    if claim.verdict == "contradicted":
        does = f"{one.verb('do', 'does')} not {bare}"
        if bare.startswith("be "):
            does = f"{one.verb('are', 'is')} not {bare.removeprefix('be ')}"
        said = f"{one.text} {does} {other.text}{where}{both}"
        return f"{said}, the opposite is shown: {difference} {unit} ({interval})"
    shown = f"{one.text} {one.verb('are', 'is')} not shown to {bare} {other.text}{both}"
    return f"{shown}: {difference} {unit}, {interval}"


def _about_margin(claim: ClaimResult, numbers: _Numbers, sides: Sides, where: str) -> str:
    """Return the sentence of a claim of non-superiority, or of non-inferiority."""
    one, other = sides.left, sides.right
    unit, is_, degree = points_of(claim.metric), one.verb("are", "is"), _degree(claim)
    than = f"{numbers.margin()} {unit} {degree} than {other.text}"
    found = f"{numbers.difference()}, {numbers.interval()}"
    if claim.verdict == "reproduced":
        return f"{one.text} {is_} at most {than}{sides.both}: {found}"
    if claim.verdict == "contradicted":
        return f"{one.text} {is_} more than {than}{where}{sides.both}: {found}"
    return f"{one.text} {is_} not shown to be at most {than}{sides.both}: {found}"


def _stated(claim: ClaimResult, numbers: _Numbers, where: str) -> str:
    """Return the sentence of a claim in the suite's own words."""
    unit = points_of(claim.metric)
    found = f"{numbers.difference()} {unit}, {numbers.interval()}"
    if claim.comparator in ("<=", ">="):
        found += f", margin {numbers.margin()}"
    if claim.verdict == "reproduced":
        return f"{claim.text}: {found}"
    if claim.verdict == "contradicted":
        return f"it does not hold{where} that {claim.text}, the opposite is shown: {found}"
    return f"it is not shown that {claim.text}: {found}"


def _known(numbers: _Numbers) -> str:
    """Return what is known of a difference that is not decided."""
    one, decision, half = numbers.comparison, numbers.claim.decision, numbers.half
    if one.low is None or one.high is None or half is None:
        return ""
    if not one.covers_seeds:
        return "One seed decides nothing: the interval says nothing of other seeds."
    parts = []
    if decision is not None and decision.p is not None and decision.p < ALPHA:
        adjusted = 1.0 if decision.p_adjusted is None else decision.p_adjusted
        p = show_about(adjusted)
        numbers.written.append(Number("p_holm", adjusted, p))
        parts.append(
            "By itself it would be decided; after the correction for all claims of its family it "
            f"is not (p = {p})."
        )
    column, most = max((("low", one.low), ("high", one.high)), key=lambda end: abs(end[1]))
    parts.append(f"Differences above {numbers.show(column, most, signed=False)} are ruled out;")
    trained = any(part.trained for part in one.parts)
    few = min(one.num_seeds)
    regions = numbers.count("regions", one.num_regions, "region")
    by = f"{regions} alone"
    if trained:
        side = "left" if few == one.num_seeds[0] else "right"
        by = f"{numbers.count(f'seeds_{side}', few, 'seed')} and {regions}"
    apart = numbers.show("half_width", half, signed=False)
    parts.append(f"{by} cannot tell less than {apart} apart.")
    return " ".join(parts)


def _without_numbers(claim: ClaimResult, clause: str) -> tuple[str, str, str]:
    """Return label, sentence and reason of a claim that has no numbers."""
    why = _lost_runs(claim.sides) or _sentence(claim.hole)
    if claim.verdict == "not comparable":
        text = f"whether {clause} cannot be said: its sides were measured in different ways"
        return claim.verdict, _sentence(text), _sentence(claim.hole)
    return "no numbers", _sentence(f"whether {clause} is not answered: there are no numbers"), why


def _lost_runs(sides: Sequence[Sequence[CellRuns]]) -> str:
    """Return which runs of the compared cells have no result and why; empty where all have one."""
    cells = {cell.entry.name: cell for side in sides for cell in side}
    lost = [
        f"{name}, seed {run.seed}: {_short(run.hole)}"
        for name, cell in cells.items()
        for run in cell.runs
        if run.hole
    ]
    if not lost:
        return ""
    more = len(lost) - _MOST_HOLES
    shown = lost[:_MOST_HOLES] + ([f"and {more} more"] if more > 0 else [])
    return f"Without a result: {'; '.join(shown)}."


def _short(reason: str) -> str:
    reason = " ".join(reason.split()).rstrip(".")
    return reason if len(reason) <= _MOST_REASON else f"{reason[: _MOST_REASON - 4]} ..."


def _sentence(text: str) -> str:
    """Return a text that begins and ends as a sentence does; a name in quotes stays as it is."""
    text = text.strip().rstrip(".")
    return f"{text[:1].upper()}{text[1:]}." if text else ""


# --- a suite that claims nothing -----------------------------------------------------------------


def best_sentence(
    result: ClaimResult, best: Phrase, tied: Sequence[str], rival: str, others: int
) -> Sentence:
    """Return which cell is best, and which cannot be told from it.

    Args:
        result: The best cell against the farthest of those that are not shown to be below it, or
            against the next one where all are.
        best: The best cell in words.
        tied: The cells that are not shown to be below it, in words.
        rival: The cell that `result` compares it with, in words.
        others: How many cells it was compared with.
    """
    comparison = result.comparison
    assert comparison is not None
    numbers = _Numbers(result, comparison)
    unit = points_of(result.metric)
    turned = higher_is_better(result.metric) is False
    known, come = "", f"{best.text} {best.verb('come', 'comes')} out best"
    if not comparison.covers_seeds:
        text = (
            f"{come}, but one seed a cell cannot tell that from chance: "
            f"{numbers.difference(turned)} {unit} to the farthest, {numbers.interval(turned)} "
            "over images alone"
        )
    elif not tied:
        text = (
            f"{best.text} {best.verb('are', 'is')} best, before the next, {rival}, by "
            f"{numbers.difference(turned, signed=False)} {unit} "
            f"({numbers.interval(turned, signed=False)})"
        )
    else:
        which = f"{in_sentence(tied)} cannot be told apart from that"
        if len(tied) == others > 1:
            which = "none of the others can be told apart from that"
        text = (
            f"{come}, but {which}: at most {numbers.difference(turned)} {unit}, "
            f"{numbers.interval(turned)}"
        )
        known = _known(numbers)
    return _made_of(result, text, known, numbers)


def reference_sentence(result: ClaimResult, cell: str, reference: str, shown: bool) -> Sentence:
    """Return the cell that lies farthest from the reference.

    Args:
        result: That cell minus the reference.
        cell: It in words.
        reference: The reference in words.
        shown: Whether the difference is shown, after Holm's correction over the cells.
    """
    assert result.comparison is not None
    numbers = _Numbers(result, result.comparison)
    tail = "" if shown else ", which is not shown to be a difference"
    text = (
        f"the largest difference to the reference, {reference}, is that of {cell}: "
        f"{numbers.difference()} {points_of(result.metric)} ({numbers.interval()}){tail}"
    )
    return _made_of(result, text, "", numbers)
