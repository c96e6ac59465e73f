"""The tables of statistics: claims with their verdicts, and every cell beside the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sca_bench.report.findings.claims import ClaimResult
from sca_bench.report.findings.differences import CellDifference, Differences
from sca_bench.report.findings.headline import Sentence
from sca_bench.report.names import (
    NO_VALUE,
    difference_unit,
    metric_label,
    metric_maximum,
    metric_unit,
    show_about,
    show_bearable,
    show_number,
)
from sca_bench.report.read.samples import LEVEL, NUM_RESAMPLES
from sca_bench.report.tables.tables import (
    Column,
    Entry,
    Footnotes,
    Row,
    SignificanceMarks,
    Table,
    Tone,
    name_entry,
    seeds_entry,
)
from sca_bench.stats.compare import Comparison, Estimate
from sca_bench.stats.power import noise_floor

_INTERVAL = f"{LEVEL:.0%} interval".replace("%", " %")
ALPHA = 1 - LEVEL
ONE_SEED = "one seed: the interval covers images only, and says nothing of other seeds"
APPROXIMATE = "approximate"
FLOOR = "Noise floor: what seeds alone make these two cells differ by, at most, in 95 % of cases."
"""What the noise floor is, in a caption."""
COUNTS = "it counts in Holm's correction with p = 1"
MANY_SEEDS, MANY_TIMES = 50, 20
"""More seeds than anybody trains, and times as many regions as anybody has."""
_NOT_FEASIBLE = " (not feasible)"


def claim_table(
    claims: Sequence[ClaimResult],
    notes: Footnotes,
    published: Mapping[str, Entry] | None = None,
    sentences: Sequence[Sentence] = (),
) -> Table | None:
    """Return every claim with its verdict, or None where the suite has no claims.

    Args:
        claims: The claims.
        notes: Footnotes so far.
        published: Id of a claim -> the paper's own difference; a column of its own where given.
        sentences: The claims in words (`findings.answer`); their ids stand for them without.
    """
    if not claims:
        return None
    words = {one.claim_id: one for one in sentences}
    units = list(dict.fromkeys(difference_unit(claim.metric) for claim in claims))
    columns = (
        Column("Claim", numeric=False),
        Column("Verdict", numeric=False),
        Column("Says", numeric=False, extra=True),
        Column("Left − right", units[0] if len(units) == 1 else "unit in each row"),  # noqa: RUF001
        Column(_INTERVAL),
        Column("p", "Holm"),
        *([Column("Left − right, paper", "×100", True, True)] if published else []),  # noqa: RUF001
        *([Column("Name", numeric=False, extra=True)] if words else []),
    )
    rows = []
    for claim in claims:
        said = words.get(claim.id)
        name = claim.id if said is None else f"{said.claim[:1].upper()}{said.claim[1:]}"
        entries = [Entry(name), _verdict(claim, said, notes), Entry(claim.says)]
        hole = f"{claim.id}: {claim.hole} ({COUNTS})" if claim.hole else ""
        mark = notes.mark([hole, claim.note])
        if claim.comparison is None or claim.decision is None:
            entries += [Entry(NO_VALUE, mark), Entry(NO_VALUE), Entry(NO_VALUE)]
        else:
            difference = _bearable(claim.comparison, claim.metric)
            unit = "" if len(units) == 1 else f" ({difference_unit(claim.metric)})"
            entries += [
                Entry(difference + unit, mark),
                _ends(claim.comparison, notes, claim.metric, signed=True),
                Entry(show_p(claim.decision.p_adjusted)),
            ]
        if published:
            entries.append(published.get(claim.id, Entry(NO_VALUE)))
        if words:
            entries.append(Entry(claim.id))
        rows.append(Row(tuple(entries)))
    averaged = any(len(claim.sides[0]) > 1 for claim in claims)
    return Table(
        "claims",
        "Claims",
        "Claims and verdicts",
        "Verdicts hold for this profile's cells and data; p after Holm's correction.",
        columns,
        tuple(rows),
        _method(bool(published), averaged),
    )


def _method(published: bool, averaged: bool) -> str:
    text = (
        "Reproduced: the interval of the "
        "difference lies on the claimed side, also after Holm's correction for the number of "
        "claims (a claim without numbers counts with p = 1). Contradicted: it lies on the other "
        "side; where the protocol is not comparable with the paper's, the verdict names the scale "
        "that it holds for instead (not at tiny scale). "
        "Undecided: neither; the table says about what a decision would take, at the "
        "observed difference and 80 % power. A claim with <= or >= is compared with its margin "
        "instead of zero. It is reproduced if the difference is shown to stay below the margin, "
        "and contradicted if it is shown to exceed it. The interval covers test images "
        "(resampled, all regions of an image together) and training seeds. With one seed of a "
        "trained cell it covers images only, and the verdict stays undecided. Numbers are rounded "
        "to two digits of half their interval; claims.csv has all digits."
    )
    if averaged:
        text += (
            " A claim that leaves an axis open is about a main effect: the means over all cells of "
            "that axis, each with equal weight; its note names them."
        )
    if published:
        text += (
            " Paper: the same difference of printed numbers, or its direction where the protocols "
            "are not comparable; its note says of which."
        )
    return text


def _verdict(claim: ClaimResult, said: Sentence | None, notes: Footnotes) -> Entry:
    decision, comparison = claim.decision, claim.comparison
    tone: Tone = "incomparable" if claim.verdict == "not comparable" else claim.verdict
    if said is not None and said.scoped:
        tone = "scoped"
    if decision is None or comparison is None:
        text = f"{claim.verdict}: no numbers" if claim.verdict == "undecided" else claim.verdict
        return Entry(text, tone=tone)
    text = claim.verdict if said is None else said.label
    if claim.verdict == "undecided":
        text = f"{text}: {needs(claim)}"
    if decision.margin:
        margin = show_bearable(decision.margin, decision.margin, metric=claim.metric)
        text += f" (margin {margin})"
    return Entry(text, _near(comparison, notes), tone=tone)


def needs(claim: ClaimResult) -> str:
    """Return what a decision on an undecided claim would take, in words."""
    decision, comparison = claim.decision, claim.comparison
    if decision is None or comparison is None:
        return "there are no numbers"
    if not comparison.covers_seeds:
        return "needs at least two seeds a cell"
    needed = decision.needed
    ways = []
    if needed is not None and needed.seeds is not None:
        trained = [part.num_seeds for part in comparison.parts if part.trained]
        more = max(1, needed.seeds - min(trained or comparison.num_seeds))
        ways.append((_about(more, "more seed") + " a cell", more > MANY_SEEDS))
    if needed is not None and needed.regions is not None:
        more = max(1, needed.regions - comparison.num_regions)
        ways.append((_about(more, "more region"), more > MANY_TIMES * comparison.num_regions))
    if not ways:
        return "neither more seeds alone nor more regions alone would decide"
    nobody = all(too_many for _, too_many in ways)
    each = [way + _NOT_FEASIBLE * (too_many and not nobody) for way, too_many in ways]
    return f"needs {' or '.join(each)}{_NOT_FEASIBLE * nobody}"


def _about(more: int, noun: str) -> str:
    """Return a number that is only roughly known."""
    return f"about {show_about(more)} {noun}{'s' if more > 1 else ''}"


def interval_table(shown: Differences, notes: Footnotes) -> Table:
    """Return every cell's main metric with its interval, and its distance to the reference."""
    metric = shown.metric
    columns = (
        Column("Cell", numeric=False),
        Column(metric_label(metric), metric_unit(metric)),
        Column(_INTERVAL),
        Column("Minus reference", difference_unit(metric)),
        Column(f"{_INTERVAL} of the difference"),
        Column("p", "Holm"),
        Column("Noise floor", difference_unit(metric)),
        Column("Regions"),
        Column("Images"),
        Column("Seeds", "done of planned"),
    )
    rows = tuple(
        Row(
            (name_entry(one.cell, notes), *_entries(one, shown, notes)),
            one.cell.entry.control,
            one.cell.entry.name,
        )
        for one in shown.cells
    )
    title = f"{metric_label(metric)} with its interval, and the difference from the reference"
    caption = "No reference cell."
    if shown.reference is not None:
        caption = f"Reference: {shown.reference.entry.name}; * marks p < {ALPHA:.2f} after Holm."
    return Table("interval", "Interval", title, caption, columns, rows, _interval_method(shown))


def _entries(one: CellDifference, shown: Differences, notes: Footnotes) -> list[Entry]:
    alone, comparison, metric = one.estimate, one.comparison, shown.metric
    single = alone is not None and not alone.covers_seeds
    mark = notes.mark([one.hole, one.note, ONE_SEED if single else ""])
    if alone is None:
        return [
            Entry(NO_VALUE, mark),
            *(Entry(NO_VALUE) for _ in range(7)),
            seeds_entry(one.cell, notes),
        ]
    if comparison is not None:
        note = notes.mark(["" if comparison.covers_seeds else ONE_SEED])
        beside = [
            Entry(_bearable(comparison, metric) + significance(one), note),
            _ends(comparison, notes, metric, signed=True),
            Entry(show_p(one.p_adjusted)),
            Entry(_floor(comparison, metric)),
        ]
    else:
        word = "reference" if one.cell is shown.reference else NO_VALUE
        beside = [Entry(word, notes.mark([one.unpaired])), *(Entry(NO_VALUE) for _ in range(3))]
    return [
        Entry(show_bearable(alone.value, _half(alone), metric=metric), mark),
        _ends(alone, notes, metric, signed=False),
        *beside,
        Entry(show_number(alone.num_regions, 0)),
        Entry(show_number(alone.num_images, 0)),
        seeds_entry(one.cell, notes),
    ]


def _interval_method(shown: Differences) -> str:
    text = (
        f"Intervals cover test images ({NUM_RESAMPLES:,} resamples, document frequencies held "
        "fixed) and training seeds (t distribution, degrees of freedom between Satterthwaite's "
        "and Cochran's). With one seed of a trained cell they cover images only. A score's own "
        "interval is cut where its scale ends. "
    )
    if shown.reference is not None:
        text += (
            "p: two-sided, after Holm's correction for "
            "the number of cells that are no controls (one without a p counts with p = 1). "
        )
    return text + floor_text(shown)


def floor_text(shown: Differences) -> str:
    """Return what the noise floor is, and what A/A comparisons say."""
    pairs = shown.pairs
    if not pairs.num_pairs:
        return "Noise floor: not known, since no trained cell has two seeds."
    return (
        f"{FLOOR} As a check, {pairs.num_pairs} pairs of runs that differ in the seed alone (A/A) "
        f"were compared over images: {pairs.outside} of the intervals exclude zero. If seeds "
        "changed nothing, about one in twenty would."
    )


def within_scale(low: float, high: float, metric: str) -> tuple[float, float]:
    """Return the ends of an interval of a score (natural units), cut where its scale ends."""
    most = metric_maximum(metric)
    return max(low, 0.0), high if most is None else min(high, most)


def significance(one: CellDifference) -> str:
    """Return `*` where a cell differs from the reference after Holm's correction."""
    return "*" if one.p_adjusted is not None and one.p_adjusted < ALPHA else ""


def show_p(p: float | None) -> str:
    """Return a p value with three decimals, or that it is below .001."""
    if p is None:
        return NO_VALUE
    return "< .001" if p < 0.001 else f"{p:.3f}".lstrip("0") if p < 1 else "1"


def _half(of: Estimate | Comparison) -> float | None:
    return None if of.low is None or of.high is None else (of.high - of.low) / 2


def _bearable(of: Comparison, metric: str) -> str:
    """Return a difference rounded to what its interval lets it bear."""
    return show_bearable(of.difference, _half(of), metric=metric, signed=True)


def _ends(of: Estimate | Comparison, notes: Footnotes, metric: str, signed: bool) -> Entry:
    """Return an interval in words; one that is only approximate says so, and why in a note."""
    low, high = of.low, of.high
    if low is None or high is None:
        return Entry(NO_VALUE, notes.mark(["no interval: fewer than two test images"]))
    half = _half(of)
    if not signed:
        low, high = within_scale(low, high, metric)
    ends = (show_bearable(end, half, metric=metric, signed=signed) for end in (low, high))
    text = " to ".join(ends)
    if not of.approximate:
        return Entry(text)
    return Entry(f"{text}, {APPROXIMATE}", _near(of, notes))


def _near(of: Estimate | Comparison, notes: Footnotes) -> tuple[int, ...]:
    """Return the note that says why an interval, and what follows from it, is approximate."""
    return notes.mark([f"{APPROXIMATE}: {of.approximate}" if of.approximate else ""])


def _floor(comparison: Comparison, metric: str) -> str:
    floor = noise_floor(comparison.parts)
    shown = "" if floor is None else show_bearable(floor, _half(comparison), metric=metric)
    return f"± {shown}" if shown else NO_VALUE


def significance_marks(compared: Differences) -> SignificanceMarks:
    """Return the signs of significance after the main metric of each cell."""
    if compared.reference is None:
        return SignificanceMarks()
    signs = {one.cell.entry.name: significance(one) for one in compared.cells}
    says = (
        f"* differs from {compared.reference.entry.name}, p < {ALPHA:.2f} after Holm over the cells"
    )
    named = {name: sign for name, sign in signs.items() if sign}
    return SignificanceMarks(metric_label(compared.metric), named, says if named else "")
