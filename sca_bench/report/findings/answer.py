"""The headline of a suite: its claims in words, how sure they are, what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sca_bench.output import in_words, num_text
from sca_bench.report.findings.best import findings_without_claims, results_of
from sca_bench.report.findings.cell_words import Sides, sides_in_words
from sca_bench.report.findings.claims import ClaimResult, claim_results
from sca_bench.report.findings.differences import Differences, differences
from sca_bench.report.findings.headline import AnswerRegion, Headline, Number, Sentence
from sca_bench.report.findings.paper import COMPARABLE, Paper, paper_claim, read_paper, verdict_of
from sca_bench.report.findings.ranking import Rankings
from sca_bench.report.findings.sentences import points_of, sentence_of
from sca_bench.report.names import (
    count_words,
    metric_maximum,
    show_bearable,
)
from sca_bench.report.read.samples import LEVEL, Samples
from sca_bench.report.read.split import split_word
from sca_bench.report.read.suite_data import SuiteData, collect
from sca_bench.stats.power import noise_floor
from sca_bench.study.runs.record import SuiteManifest
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.claims import parse_claim

_SCOPES = {
    "tiny": "at tiny scale",
    "small": "at small scale",
    "paper": "under this protocol",
    "photos": "on these photos",
}
"""Profile -> what a finding holds for."""
NUM_REGIONS = 3
FIGURE = "headline_figure"
"""The plot that answers."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A headline with the comparisons that its sentences are made of, in the same order."""

    headline: Headline
    results: tuple[ClaimResult, ...]


def scope_of(profile: str) -> str:
    """Return what a finding in a profile holds for, in words."""
    return _SCOPES.get(profile, f"in profile {profile}")


def read_headline(store: Store, manifest: SuiteManifest, reports_dir: Path) -> Headline:
    """Return the answer of a suite in words, from its records; no figure is drawn.

    Args:
        store: The runs folder.
        manifest: The suite.
        reports_dir: Folder whose `published.csv` is read, else that beside the package.

    Raises:
        InputError: A claim cannot be read, numbers of one metric have different signatures, or a
            file of the paper's numbers is malformed.
    """
    data = collect(store, manifest)
    samples = Samples(data)
    claims = claim_results(data, samples)
    paper = read_paper(data, Path(reports_dir))
    return answer_of(data, samples, claims, paper).headline


def answer_of(
    data: SuiteData,
    samples: Samples,
    claims: Sequence[ClaimResult],
    paper: Paper,
    compared: Differences | None = None,
) -> Answer:
    """Return the answer of a suite in words.

    Args:
        data: The suite.
        samples: Its region scores.
        claims: Its claims with their verdicts.
        paper: The paper's numbers, which say whether the protocols compare.
        compared: Its cells beside the reference, where somebody has compared them.

    Raises:
        InputError: A file of the paper's numbers lacks a row that the suite names.
    """
    scope = scope_of(data.manifest.profile)
    if claims:
        results = list(claims)
        sentences = [
            sentence_of(one, _sides(one, data), scope, is_comparable(data, paper, one))
            for one in claims
        ]
    else:
        ranking = Rankings(data, samples).of(data.main_metric)
        compared = compared or differences(data, samples, data.main_metric)
        found = findings_without_claims(data, ranking, compared)
        results, sentences = results_of(found), [one.sentence for one in found]
    sure, numbers = _how_sure(data, results)
    headline = Headline(
        data.manifest.question,
        tuple(sentences),
        sure,
        _cost(data),
        _units(sentences),
        scope,
        FIGURE,
        _regions(samples, results),
        numbers,
    )
    return Answer(headline, tuple(results))


def is_comparable(data: SuiteData, paper: Paper, claim: ClaimResult) -> bool:
    """Whether the paper has numbers of its own for a claim, under a protocol that compares."""
    printed = paper_claim(data, paper, claim.id, claim.metric, claim.sides)
    if printed is None or printed.differences is None:
        return False
    return verdict_of(printed.differences) == COMPARABLE


def _sides(claim: ClaimResult, data: SuiteData) -> Sides:
    return sides_in_words(parse_claim(claim.says, f"claims.{claim.id}"), data, claim.averaged)


def _units(sentences: Sequence[Sentence]) -> str:
    """Return what a point is, where a sentence counts in points."""
    if any(one.metric and metric_maximum(one.metric) is not None for one in sentences):
        return "A point is a score times 100, as papers print it."
    return ""


def _how_sure(data: SuiteData, results: Sequence[ClaimResult]) -> tuple[str, tuple[Number, ...]]:
    """Return what the intervals cover, of the first comparison, with the numbers printed."""
    result = next((one for one in results if one.comparison is not None), None)
    if result is None or result.comparison is None:
        return "", ()
    one = result.comparison
    numbers = [
        Number("regions", one.num_regions, f"{one.num_regions:,}"),
        Number("images", one.num_images, f"{one.num_images:,}"),
    ]
    regions = num_text(one.num_regions, f"{split_word(data)} region")
    where = f"{regions} of {num_text(one.num_images, 'image')}"
    level = f"{LEVEL:.0%}".replace("%", " %")
    if not any(part.trained for part in one.parts):
        return f"Intervals ({level}) cover the choice of {where}.", tuple(numbers)
    few = min(one.num_seeds)
    side = "left" if few == one.num_seeds[0] else "right"
    seeds = count_words(few, "seed")
    numbers.append(Number(f"seeds_{side}", few, seeds.partition(" ")[0]))
    if not one.covers_seeds:
        return f"Intervals ({level}) cover {where}; one seed says nothing of others.", tuple(
            numbers
        )
    text = f"Intervals ({level}) cover {where}, and {seeds} a cell."
    floor = noise_floor(one.parts)
    if floor is not None:
        half = None if one.low is None or one.high is None else (one.high - one.low) / 2
        shown = show_bearable(floor, half, metric=result.metric)
        numbers.append(Number("noise_floor", floor, shown))
        text += f" Other seeds alone move such a difference by up to {shown} "
        text += f"{points_of(result.metric)}."
    return text, tuple(numbers)


def _cost(data: SuiteData) -> str:
    """Return how many runs there are and what they computed, together."""
    done = [record for cell in data.cells for record in cell.done]
    planned = sum(len(cell.runs) for cell in data.cells)
    if not done:
        return f"No run of {planned} is done."
    parts = ("train_s", "shared_s", "generate_s")
    seconds = sum(record.cost.get(part, 0.0) for record in done for part in parts)
    runs = num_text(len(done), "run") if len(done) == planned else f"{len(done)} of {planned} runs"
    return f"{runs}, {in_words(seconds)} of compute." if seconds else f"{runs}."


def _regions(samples: Samples, results: Sequence[ClaimResult]) -> tuple[AnswerRegion, ...]:
    """Return the regions, of other images, where the first comparison's cells differ most."""
    result = next((one for one in results if one.comparison is not None), None)
    if result is None:
        return ()
    left, right = (side[0] for side in result.sides)
    ones = [samples.of(cell, result.metric) for cell in (left, right)]
    gaps = ones[0].means - ones[1].means
    order = sorted(range(len(gaps)), key=lambda i: (-abs(gaps[i]), ones[0].region_ids[i]))
    chosen: list[int] = []
    for again in (False, True):  # images that come again only where there are too few
        seen = {ones[0].image_ids[i] for i in chosen}
        for i in order:
            if len(chosen) < NUM_REGIONS and gaps[i] and i not in chosen:
                image = ones[0].image_ids[i]
                if again or image not in seen:
                    chosen.append(i)
                    seen.add(image)
    return tuple(
        AnswerRegion(
            ones[0].region_ids[i],
            ones[0].image_ids[i],
            left.entry.name,
            right.entry.name,
            float(gaps[i]),
        )
        for i in chosen
    )
