"""What the tables of statistics say in words and at the ends of a scale."""

import dataclasses

import pytest

from sca_bench.report.findings.claims import ClaimResult, claim_results
from sca_bench.report.findings.differences import differences
from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import collect
from sca_bench.report.tables.claim_table import claim_table, interval_table, needs, within_scale
from sca_bench.report.tables.tables import Footnotes
from sca_bench.stats.power import Needed
from sca_bench.study.runs.record import SuiteManifest
from sca_bench.study.runs.store import Store

Runs = tuple[Store, SuiteManifest]


@pytest.fixture
def undecided(runs: Runs) -> ClaimResult:
    """A claim that 2 seeds and 30 regions do not decide."""
    store, suite = runs
    claim = {"id": "deeper", "says": "cider_d(mixer.num_layers=4) > cider_d(mixer.num_layers=1)"}
    data = collect(store, suite.model_copy(update={"claims": [claim]}))
    found = claim_results(data, Samples(data))[0]
    assert found.verdict == "undecided"
    return found


@pytest.mark.parametrize(
    ("seeds", "regions", "said"),
    [
        (7, None, "needs about 5 more seeds a cell"),
        (3, None, "needs about 1 more seed a cell"),
        (2, None, "needs about 1 more seed a cell"),  # as many as there are: they did not decide
        (None, 130, "needs about 100 more regions"),
        (1000, 90_030, "needs about 998 more seeds a cell or about 90,000 more regions"),
        (None, None, "neither more seeds alone nor more regions alone would decide"),
    ],
)
def test_what_a_claim_needs_is_counted_beyond_what_there_is(
    undecided: ClaimResult, seeds: int | None, regions: int | None, said: str
) -> None:
    assert undecided.decision is not None
    assert undecided.comparison is not None
    assert undecided.comparison.num_seeds == (2, 2)
    assert undecided.comparison.num_regions == 30
    needed = Needed(seeds, None, regions)
    decision = dataclasses.replace(undecided.decision, needed=needed)
    claim = dataclasses.replace(undecided, decision=decision)
    assert needs(claim) == said
    table = claim_table([claim], Footnotes())
    assert table is not None
    assert table.rows[0].entries[1].text == f"undecided: {said}"


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (7.9, 8.5, "790.0 to 850.0"),
        (-0.3, 8.5, "0.0 to 850.0"),
        (7.9, 10.4, "790.0 to 1000.0"),
        (-0.3, 10.4, "0.0 to 1000.0"),
    ],
)
def test_a_scores_interval_is_cut_where_its_scale_ends_and_a_differences_is_not(
    runs: Runs, low: float, high: float, shown: str
) -> None:
    data = collect(*runs)
    found = differences(data, Samples(data), "cider_d")
    one = next(cell for cell in found.cells if cell.cell.entry.name == "depth-2")
    assert one.estimate is not None
    assert one.comparison is not None
    wide = dataclasses.replace(
        one,
        estimate=dataclasses.replace(one.estimate, low=low, high=high),
        comparison=dataclasses.replace(one.comparison, low=-11.5, high=12.5),
    )
    table = interval_table(dataclasses.replace(found, cells=(wide,)), Footnotes())
    texts = [entry.text for entry in table.rows[0].entries]
    assert texts[2] == shown
    assert texts[4].replace("−", "-") == "-1150.0 to +1250.0"  # noqa: RUF001


@pytest.mark.parametrize(
    ("metric", "ends"),
    [
        ("cider_d", (0.0, 10.0)),
        ("exact_match", (0.0, 1.0)),
        ("bleu_4", (0.0, 1.0)),
        ("caption_length", (0.0, 99.0)),  # words: a count has no upper end
    ],
)
def test_each_scale_has_its_own_ends(metric: str, ends: tuple[float, float]) -> None:
    assert within_scale(-1.0, 99.0, metric) == ends
    assert within_scale(0.25, 0.75, metric) == (0.25, 0.75)
