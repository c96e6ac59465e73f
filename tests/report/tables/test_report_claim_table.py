"""What the tables of statistics say in words and at the ends of a scale."""

import csv
import dataclasses
import io

import pytest
from report_fake_runs import record

from sca_bench.report.figures.forest import forest
from sca_bench.report.findings.claims import ClaimResult, claim_results
from sca_bench.report.findings.differences import differences
from sca_bench.report.findings.paper import Paper
from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import collect
from sca_bench.report.tables.claim_table import claim_table, interval_table, needs, within_scale
from sca_bench.report.tables.csv import claims_csv
from sca_bench.report.tables.latex import write_latex_table
from sca_bench.report.tables.tables import Footnotes, score_table
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
        (
            1000,
            90_030,
            "needs about 1,000 more seeds a cell or about 90,000 more regions (not feasible)",
        ),
        (None, 167_201, "needs about 170,000 more regions (not feasible)"),
        (
            7,
            167_201,
            "needs about 5 more seeds a cell or about 170,000 more regions (not feasible)",
        ),
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
        (7.9, 8.5, "790 to 850"),
        (-0.3, 8.5, "0 to 850"),
        (7.9, 10.4, "790 to 1,000"),
        (-0.3, 10.4, "0 to 1,000"),
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
        estimate=dataclasses.replace(one.estimate, low=low, high=high, approximate=""),
        comparison=dataclasses.replace(one.comparison, low=-11.5, high=12.5, approximate=""),
    )
    table = interval_table(dataclasses.replace(found, cells=(wide,)), Footnotes())
    texts = [entry.text for entry in table.rows[0].entries]
    assert texts[2] == shown
    assert texts[4].replace("−", "-") == "-1,200 to +1,200"  # noqa: RUF001


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


def test_an_interval_that_is_approximate_says_so_wherever_it_stands(
    runs: Runs, undecided: ClaimResult
) -> None:
    """In both tables with the reason, in their LaTeX, in claims.csv and at the forest's rows."""
    store, suite = runs
    data = collect(store, suite)
    notes = Footnotes()
    found = differences(data, Samples(data), "cider_d")
    claims = claim_table([undecided], notes)
    assert claims is not None
    reason = (
        "two seeds say little of how far seeds lie apart and "
        "10 test images are few where scores are skewed"
    )
    for table, columns in ((claims, [4]), (interval_table(found, notes), [2, 4])):
        for column in columns:
            entries = [row.entries[column] for row in table.rows]
            marked = [entry for entry in entries if entry.text.endswith(", approximate")]
            assert len(marked) == sum(entry.text != "–" for entry in entries) > 0  # noqa: RUF001
            assert all(f"approximate: {reason}" == notes.texts[e.notes[0] - 1] for e in marked)
        text = write_latex_table(suite, table, notes)
        assert ", approximate\\textsuperscript" in text
        assert f"approximate: {reason}" in text
    rows = list(csv.DictReader(io.StringIO(claims_csv([undecided]))))
    assert rows[0]["approximate"] == reason
    drawn = forest(data, Paper(""), [undecided], found)
    assert drawn is not None
    assert all(row.label.endswith(", approximate") for row in drawn.facts.rows)

    assert undecided.comparison is not None
    three = dataclasses.replace(undecided.comparison, approximate="")
    plain = dataclasses.replace(undecided, comparison=three)
    table = claim_table([plain], Footnotes())
    assert table is not None
    assert "approximate" not in table.rows[0].entries[4].text
    assert next(csv.DictReader(io.StringIO(claims_csv([plain]))))["approximate"] == ""
    again = forest(data, Paper(""), [plain], found)
    assert again is not None
    assert "approximate" not in again.facts.rows[0].label


ORDERED = [
    {"train": {"order_seed": 0}},
    {"train": {"order_seed": 3}},
    {"train": {"order_seed": None}, "pretraining": [{"train": {"order_seed": 0}}]},
]


@pytest.mark.parametrize("settings", ORDERED)
def test_a_shared_data_order_is_named_as_variance_that_is_not_covered(
    runs: Runs, settings: dict[str, object]
) -> None:
    """At the cell's score, interval and claims, in the tables and in claims.csv; at no other."""
    store, suite = runs
    for seed in suite.seeds:
        changed = record(suite.cells[2], seed)  # depth-2
        store.save(changed.model_copy(update={"settings": {**changed.settings, **settings}}))
    data = collect(store, suite)
    samples = Samples(data)
    notes = Footnotes()
    claims = claim_results(data, samples)
    tables = [
        score_table(data, notes),
        interval_table(differences(data, samples, "cider_d"), notes),
        claim_table(claims, notes),
    ]
    number = next(n for n, text in enumerate(notes.texts, 1) if "train.order_seed" in text)
    assert "no ±, interval, p or noise floor" in notes.texts[number - 1]
    for table, named in zip(tables, ("depth-2", "depth-2", "depth_helps"), strict=True):
        assert table is not None
        marked = [
            row.entries[0].text
            for row in table.rows
            if any(number in entry.notes for entry in row.entries)
        ]
        assert marked == [named]
    rows = csv.DictReader(io.StringIO(claims_csv(claims)))
    assert "train.order_seed" in next(row["note"] for row in rows if row["claim"] == "depth_helps")


def test_seeds_of_their_own_order_are_not_named(runs: Runs) -> None:
    store, suite = runs
    for entry in suite.cells:
        for seed in suite.seeds:
            changed = record(entry, seed)
            settings = {**changed.settings, "train": {"order_seed": None}}
            store.save(changed.model_copy(update={"settings": settings}))
    notes = Footnotes()
    data = collect(store, suite)
    score_table(data, notes)
    interval_table(differences(data, Samples(data), "cider_d"), notes)
    assert not [text for text in notes.texts if "order_seed" in text]
