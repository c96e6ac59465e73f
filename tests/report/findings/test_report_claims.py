"""Reading claims, and the observed difference behind each."""

import json
from pathlib import Path

import numpy as np
import pytest
from report_fake_runs import SEEDS, axis_manifest, build, cider, record, signature
from safetensors.numpy import save_file

from sca_bench.errors import InputError, at
from sca_bench.metrics.registry import corpus_value
from sca_bench.report.figures.forest import forest
from sca_bench.report.findings.claims import ClaimResult, claim_results
from sca_bench.report.findings.differences import differences
from sca_bench.report.findings.paper import Paper
from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import collect
from sca_bench.report.tables.claim_table import ONE_SEED, claim_table, interval_table, needs
from sca_bench.report.tables.csv import claims_csv
from sca_bench.report.tables.tables import Footnotes
from sca_bench.stats.bootstrap import cell_scores
from sca_bench.stats.compare import compare
from sca_bench.study.runs.record import Score, SuiteManifest
from sca_bench.study.runs.store import STATISTICS, Store
from sca_bench.study.suite.claims import Claim, Side, parse_claim

Runs = tuple[Store, SuiteManifest]


@pytest.mark.parametrize("how", [">", "<", ">=", "<="])
def test_parse_claim(how: str) -> None:
    says = f"cider_d(mixer.num_layers=12) {how} cider_d(mixer.num_layers = 2)"
    left, right = (
        Side("cider_d", {"mixer.num_layers": 12}),
        Side("cider_d", {"mixer.num_layers": 2}),
    )
    assert parse_claim(says) == Claim(left, how, right)  # type: ignore[arg-type]


def test_parse_values_as_in_a_suite_file() -> None:
    left = parse_claim(
        "slot/relation(train.learning_rate=1e-4, data.flip=true, eval.prompt=box) >"
        "slot/relation(cell=permuted captions)"
    )
    assert left.left.where == {
        "train.learning_rate": 1e-4,
        "data.flip": True,
        "eval.prompt": "box",
    }
    assert left.right.where == {"cell": "permuted captions"}


def test_names_with_brackets_commas_and_signs() -> None:
    claim = parse_claim(
        "slot/relation(cell=LSJ (0.1, 2.0) without flips, data.lsj_scale=[0.1, 2.0]) >="
        ' slot/relation(cell="SAM query, as published: a > b", text_decoder.learning_rate=null)'
    )
    assert claim.left.where == {
        "cell": "LSJ (0.1, 2.0) without flips",
        "data.lsj_scale": [0.1, 2.0],
    }
    assert claim.right.where == {
        "cell": "SAM query, as published: a > b",
        "text_decoder.learning_rate": None,
    }
    assert claim.comparator == ">="


@pytest.mark.parametrize(
    "says",
    [
        "",
        "cider_d(a=1)) > cider_d(a=2)",
        'cider_d(cell="open) > cider_d(a=2)',
        "cider_d(a=1)",
        "cider_d(a=1) = cider_d(a=2)",
        "cider_d(a=1) > cider_d(a=2) > cider_d(a=3)",
        "cider_d > cider_d(a=2)",
        "cider_d(a) > cider_d(a=2)",
        "cider_d(a=1, a=2) > cider_d(a=2)",
        "cider_d(a=1) > meteor(a=2)",
    ],
)
def test_unreadable_claims_name_file_and_key(says: str) -> None:
    with pytest.raises(InputError, match=r"^suite\.yaml: claims\.x: "), at("suite.yaml"):
        parse_claim(says, "claims.x")


def with_claims(suite: SuiteManifest, *says: str) -> SuiteManifest:
    claims = [{"id": f"claim-{i}", "says": text} for i, text in enumerate(says)]
    return suite.model_copy(update={"claims": claims})


def results(store: Store, suite: SuiteManifest) -> list[ClaimResult]:
    data = collect(store, suite)
    return claim_results(data, Samples(data))


def test_difference_is_that_of_the_statistics_room(runs: Runs) -> None:
    store, suite = runs
    data = collect(store, suite)
    result = claim_results(data, Samples(data))[0]
    assert (result.id, result.metric) == ("depth_helps", "cider_d")
    assert result.comparison is not None
    assert result.comparison.difference == pytest.approx(8.8 - 8.2)
    sides = []
    for cell in ("c-depth-2", "c-depth-1"):
        tables = [store.region_scores(cell, seed) for seed in (0, 1)]
        values = np.array([table["scores"]["cider_d"] for table in tables])
        images = [key.split("/")[0] for key in tables[0]["region_ids"]]
        sides.append(cell_scores(values, images))
    assert result.comparison == compare(*sides)
    assert result.comparison.covers_seeds


def test_verdicts(runs: Runs) -> None:
    store, suite = runs
    says = (
        "cider_d(mixer.num_layers=2) > cider_d(cell=permuted captions)",
        "cider_d(mixer.num_layers=2) < cider_d(cell=permuted captions)",
        "cider_d(cell=permuted captions) <= cider_d(mixer.num_layers=2)",
        "cider_d(mixer.num_layers=4) > cider_d(mixer.num_layers=1)",
        "cider_d(mixer.num_layers=8) > cider_d(mixer.num_layers=1)",
    )
    found = results(store, with_claims(suite, *says))
    assert [one.verdict for one in found] == [
        "reproduced",
        "contradicted",
        "reproduced",
        "undecided",
        "undecided",
    ]
    assert found[2].decision is not None
    assert found[2].decision.margin == pytest.approx(0.01 * 8.8)  # share of the right side
    assert needs(found[3]).startswith("needs about ")
    assert needs(found[4]) == "there are no numbers"


def test_a_margin_and_a_family_come_from_the_suite(runs: Runs) -> None:
    store, suite = runs
    says = "cider_d(mixer.num_layers=1) <= cider_d(mixer.num_layers=2)"
    alone = {"id": "a", "says": says, "margin": 3.0, "family": "one"}
    beside = [{"id": str(i), "says": says, "family": "other"} for i in range(5)]
    claims = suite.model_copy(update={"claims": [alone, *beside]})
    first, *others = results(store, claims)
    assert first.decision is not None
    assert first.decision.margin == 3.0
    assert first.decision.p_adjusted == first.decision.p
    assert first.verdict == "reproduced"
    for other in others:
        assert other.decision is not None
        assert other.decision.p is not None
        assert other.decision.p_adjusted == pytest.approx(min(1.0, 5 * other.decision.p))


def test_one_seed_of_a_trained_cell_decides_nothing(runs: Runs) -> None:
    store, suite = runs
    says = "cider_d(mixer.num_layers=2) > cider_d(cell=permuted captions)"
    one_seed = with_claims(suite, says).model_copy(update={"seeds": [0]})
    found = results(store, one_seed)[0]
    assert found.verdict == "undecided"
    assert found.comparison is not None
    assert found.comparison.low is not None
    assert found.comparison.low > 0  # over images alone it would be clear
    assert needs(found) == "needs at least two seeds a cell"


def test_sides_of_different_signatures_are_not_comparable(runs: Runs) -> None:
    store, suite = runs
    for seed in suite.seeds:
        changed = record(suite.cells[1], seed)
        whole = changed.scores["cider_d"]
        other = {**whole.signature, "region_set": "cd34" * 16}
        changed.scores["cider_d"] = whole.model_copy(update={"signature": other})
        store.save(changed)
    found = results(store, suite)[0]
    assert found.verdict == "not comparable"
    assert found.hole.startswith("signatures differ: region_set ")
    assert found.comparison is None


def test_claims_that_cannot_be_looked_at_say_why(runs: Runs) -> None:
    store, suite = runs
    (store.run_dir("c-depth-4", 0) / "region_scores.json").unlink()
    (store.run_dir("c-depth-4", 1) / "region_scores.json").unlink()
    says = (
        "cider_d(mixer.num_layers=24) > cider_d(mixer.num_layers=2)",
        "cider_d(variant=sca) > cider_d(mixer.num_layers=2)",
        "cider_d(mixer.num_layers=2) > cider_d(mixer.num_layers=4)",
        "cider_d(cell=permuted captions) < cider_d(mixer.num_layers=2)",
    )
    holes = [claim.hole for claim in results(store, with_claims(suite, *says))]
    assert holes == [
        "profile tiny has no cell for cider_d(mixer.num_layers=24)",
        "does not balance: cider_d(variant=sca) (depth-1; depth-2; depth-4) against "
        "cider_d(mixer.num_layers=2) (depth-2) leaves mixer.num_layers open on the left, no axis "
        "on the right",
        "right side: no region scores of this metric",
        "",
    ]


def test_different_regions_are_not_paired(runs: Runs) -> None:
    store, suite = runs
    for seed in suite.seeds:
        path = store.run_dir("c-depth-1", seed) / "region_scores.json"
        stored = store.region_scores("c-depth-1", seed)
        stored["region_ids"].pop()
        stored["scores"]["cider_d"].pop()
        path.write_text(json.dumps(stored), encoding="utf-8")
    found = results(store, suite)[0]
    assert found.comparison is None
    assert "different regions" in found.hole


def test_failed_side_is_a_hole(runs: Runs) -> None:
    store, suite = runs
    for seed in suite.seeds:
        store.save(record(suite.cells[1], seed).model_copy(update={"status": "failed"}))
    found = results(store, suite)[0]
    assert (found.verdict, found.hole) == ("undecided", "right side: no finished run")


def test_corpus_scores_are_resampled_from_their_statistics(runs: Runs) -> None:
    """BLEU's interval is of the corpus score where the statistics of the regions were kept."""
    store, suite = runs
    draw = np.random.default_rng(3)
    kept = {}
    for cell in ("c-depth-1", "c-depth-2"):
        for seed in suite.seeds:
            folder = store.run_dir(cell, seed)
            lengths = draw.integers(4, 9, size=(30, 1))
            guesses = np.maximum(lengths - np.arange(4), 0)
            right = draw.integers(0, guesses + 1)
            rows = np.hstack([lengths, lengths + draw.integers(-1, 2, (30, 1)), guesses, right])
            kept[cell, seed] = rows.astype(np.float64)
            save_file({"bleu": kept[cell, seed]}, folder / STATISTICS)
            path = folder / "region_scores.json"
            stored = store.region_scores(cell, seed)
            stored["scores"]["bleu_4"] = [0.5] * 30
            path.write_text(json.dumps(stored), encoding="utf-8")
    says = "bleu_4(mixer.num_layers=2) > bleu_4(mixer.num_layers=1)"
    found = results(store, with_claims(suite, says))[0]
    assert found.comparison is not None
    means = {
        cell: np.mean([corpus_value("bleu_4", kept[cell, s].sum(0), 30) for s in suite.seeds])
        for cell in ("c-depth-1", "c-depth-2")
    }
    assert found.comparison.difference == pytest.approx(means["c-depth-2"] - means["c-depth-1"])
    assert found.note == ""
    (store.run_dir("c-depth-1", 0) / STATISTICS).write_bytes(b"torn")
    found = results(store, with_claims(suite, says))[0]
    left = np.mean([corpus_value("bleu_4", kept["c-depth-1", 1].sum(0), 30)])
    assert found.comparison is not None
    assert found.comparison.difference == pytest.approx(means["c-depth-2"] - left)
    assert found.note.startswith("seed 0 is left out (damaged: region_statistics.safetensors: ")


def test_a_cell_of_one_seed_is_marked_wherever_its_interval_stands(runs: Runs) -> None:
    store, suite = runs
    store.save(record(suite.cells[2], 1).model_copy(update={"status": "failed", "error": "torn"}))
    data = collect(store, suite)
    paper, notes = Paper(""), Footnotes()
    found = differences(data, Samples(data), "cider_d")
    table = interval_table(found, notes)
    marked = [row.entries[0].text for row in table.rows if 1 + notes.texts.index(ONE_SEED) in
              (n for entry in row.entries for n in entry.notes)]  # fmt: skip
    assert marked == ["depth-2"]
    cells = forest(data, paper, [], found)
    assert cells is not None
    assert [row.images_only for row in cells.facts.rows] == [True, False]


def test_a_difference_between_signatures_is_shown_nowhere(runs: Runs) -> None:
    store, suite = runs
    for seed in suite.seeds:
        changed = record(suite.cells[2], seed)
        whole = changed.scores["cider_d"]
        other = {**whole.signature, "region_set": "cd34" * 16}
        changed.scores["cider_d"] = whole.model_copy(update={"signature": other})
        store.save(changed)
    data = collect(store, suite)
    found = {one.cell.entry.name: one for one in differences(data, Samples(data), "cider_d").cells}
    assert found["depth-2"].comparison is None
    assert found["depth-2"].unpaired.startswith("signatures differ: region_set")
    assert found["depth-4"].comparison is not None


def test_claims_of_other_units_are_drawn_apart(runs: Runs) -> None:
    store, suite = runs
    for entry in suite.cells:
        for seed in suite.seeds:
            changed = store.record(entry.cell_id, seed)
            stored = store.region_scores(entry.cell_id, seed)
            if changed is None or not stored:
                continue
            changed.scores["caption_length"] = Score(value=8.0, signature=signature("length"))
            store.save(changed)
            stored["scores"]["caption_length"] = [float(i % 7) for i in range(30)]
            path = store.run_dir(entry.cell_id, seed) / "region_scores.json"
            path.write_text(json.dumps(stored), encoding="utf-8")
    says = (
        "cider_d(mixer.num_layers=2) > cider_d(mixer.num_layers=1)",
        "caption_length(mixer.num_layers=2) <= caption_length(mixer.num_layers=1)",
    )
    data = collect(store, with_claims(suite, *says))
    samples = Samples(data)
    found = forest(
        data, Paper(""), claim_results(data, samples), differences(data, samples, "cider_d")
    )
    assert found is not None
    axes = [facet.axis for facet in found.facts.facets]
    assert axes[0] == "Difference in CIDEr-D (×100)"  # noqa: RUF001
    assert axes[1].endswith("(words)")


FACTORS = {"mixer.num_layers": [1, 2], "mixer.num_query_tokens": [4, 8]}
MAIN = "cider_d(mixer.num_layers=2) > cider_d(num_layers=1)"


@pytest.fixture
def factorial(tmp_path: Path) -> Runs:
    return build(tmp_path / "runs", with_claims(axis_manifest(FACTORS), MAIN))


def test_a_claim_that_leaves_an_axis_open_is_a_main_effect(factorial: Runs) -> None:
    store, suite = factorial
    data = collect(store, suite)
    found = claim_results(data, Samples(data))[0]
    names = ["num_layers=1,num_query_tokens=4", "num_layers=1,num_query_tokens=8",
             "num_layers=2,num_query_tokens=4", "num_layers=2,num_query_tokens=8"]  # fmt: skip
    one_four, one_eight, two_four, two_eight = (
        np.mean([cider(n, s) for s in SEEDS]) for n in names
    )
    assert found.comparison is not None
    expected = (two_four + two_eight) / 2 - (one_four + one_eight) / 2
    assert found.comparison.difference == pytest.approx(expected)
    assert [[cell.entry.name for cell in side] for side in found.sides] == [names[2:], names[:2]]
    assert found.note.startswith(
        "claim-0: a main effect, averaged over mixer.num_query_tokens: left the mean of 2 "
        f"cells ({names[2]}; {names[3]}), right the mean of 2 cells ({names[0]}; "
    )
    table = claim_table([found], notes := Footnotes())
    assert table is not None
    assert "about a main effect" in table.method
    assert found.note in notes.texts
    assert f'"{names[2]}; {names[3]}",' in claims_csv([found])


def test_an_averaged_cell_without_runs_leaves_no_numbers(factorial: Runs) -> None:
    store, suite = factorial
    for seed in suite.seeds:
        store.save(record(suite.cells[1], seed).model_copy(update={"status": "failed"}))
    found = results(store, suite)[0]
    assert found.comparison is None
    assert found.hole == "right side, num_layers=1,num_query_tokens=8: no finished run"


def test_averaged_cells_of_other_seeds_are_said(factorial: Runs) -> None:
    store, suite = factorial
    store.save(record(suite.cells[1], 1).model_copy(update={"status": "failed"}))
    found = results(store, suite)[0]
    assert found.comparison is not None
    assert not found.comparison.covers_seeds
    assert "not all cells have the same seeds (num_layers=2,num_query_tokens=4: 0, 1" in found.note


def test_an_averaged_cell_of_another_signature_is_not_comparable(factorial: Runs) -> None:
    store, suite = factorial
    for seed in suite.seeds:
        changed = record(suite.cells[3], seed)
        whole = changed.scores["cider_d"]
        other = {**whole.signature, "region_set": "cd34" * 16}
        changed.scores["cider_d"] = whole.model_copy(update={"signature": other})
        store.save(changed)
    assert results(store, suite)[0].verdict == "not comparable"


def test_two_names_of_one_cell_are_not_compared(runs: Runs) -> None:
    store, suite = runs
    cells = [*suite.cells[:2], suite.cells[1].model_copy(
        update={"name": "again", "coordinates": {"mixer.num_layers": 2}})]  # fmt: skip
    found = results(store, suite.model_copy(update={"cells": cells}))[0]
    assert found.comparison is None
    assert found.hole.startswith("reads depth-1 / again on both sides")
