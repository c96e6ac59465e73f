"""Which tests share one Holm correction: claims of a family, and cells that are no controls."""

import shutil

import pytest
from report_fake_runs import record, signature

from sca_bench.report.findings.claims import claim_results
from sca_bench.report.findings.differences import differences
from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import collect
from sca_bench.report.tables.claim_table import claim_table, interval_table
from sca_bench.report.tables.tables import Footnotes
from sca_bench.study.runs.record import CellEntry, Score, SuiteManifest
from sca_bench.study.runs.store import Store

Runs = tuple[Store, SuiteManifest]


def test_claims_share_one_family_unless_they_name_another(runs: Runs) -> None:
    store, suite = runs
    says = "cider_d(mixer.num_layers=2) > cider_d(cell=permuted captions)"
    claims = [
        {"id": "a", "says": says},
        {"id": "b", "says": says, "family": ""},
        {"id": "apart", "says": says, "family": "another"},
        {"id": "c", "says": says},
    ]
    data = collect(store, suite.model_copy(update={"claims": claims}))
    found = {one.id: one.decision for one in claim_results(data, Samples(data))}
    p = {decision.p for decision in found.values() if decision is not None}
    assert len(p) == 1  # one and the same comparison
    alone = p.pop()
    assert alone is not None
    assert 0 < alone < 1 / 3
    adjusted = {name: decision.p_adjusted for name, decision in found.items() if decision}
    expected = {"a": 3 * alone, "b": 3 * alone, "apart": alone, "c": 3 * alone}
    assert adjusted == pytest.approx(expected)


def test_controls_do_not_count_in_the_correction_of_the_cells(runs: Runs) -> None:
    """One control is as far from the reference as depth 4, the other has by far the smallest p."""
    store, suite = runs
    for seed in suite.seeds:
        control = store.record("c-perm", seed)
        assert control is not None
        control.scores["cider_d"] = Score(value=8.1 + 0.4 * seed, signature=signature("cider_d"))
        store.save(control)
        scores = (store.run_dir("c-depth-4", seed) / "region_scores.json").read_bytes()
        (store.run_dir("c-perm", seed) / "region_scores.json").write_bytes(scores)
    data = collect(store, suite)
    found = differences(data, Samples(data), "cider_d")
    by_name = {one.cell.entry.name: one for one in found.cells}
    p = {name: one.comparison.p for name, one in by_name.items() if one.comparison is not None}
    assert p.keys() == {"depth-2", "depth-4", "permuted captions", "most frequent caption"}
    assert p["most frequent caption"] < p["depth-2"] < p["depth-4"] == p["permuted captions"]

    assert by_name["depth-2"].p_adjusted == pytest.approx(2 * p["depth-2"])
    larger = max(2 * p["depth-2"], p["depth-4"])
    assert by_name["depth-4"].p_adjusted == pytest.approx(larger)
    assert p["depth-2"] < 1 / 4  # nothing above is cut at one
    for name in ("depth-1", "permuted captions", "most frequent caption"):
        assert by_name[name].p_adjusted is None
    table = interval_table(found, Footnotes())
    column = [one.label for one in table.columns].index("p")
    shown = [row.entries[column].text for row in table.rows if row.control]
    assert shown == ["–", "–"]  # noqa: RUF001 - the sign for an empty field


FATES = [
    "failed",
    "never started",
    "one seed left",
    "no region scores",
    "other signature",
    "no cell",
]


@pytest.mark.parametrize("fate", FATES)
def test_a_claim_stays_in_its_family_whatever_became_of_its_cells(runs: Runs, fate: str) -> None:
    """Depth 4 comes to grief: the claim on depth 2 is held to a family of two all the same."""
    store, suite = runs
    claims = [
        {"id": "kept", "says": "cider_d(mixer.num_layers=2) > cider_d(mixer.num_layers=1)"},
        {"id": "lost", "says": "cider_d(mixer.num_layers=4) > cider_d(mixer.num_layers=1)"},
    ]
    if fate == "no cell":
        claims[1]["says"] = "cider_d(mixer.num_layers=24) > cider_d(mixer.num_layers=1)"
    entry = next(cell for cell in suite.cells if cell.name == "depth-4")
    for seed in suite.seeds[1:] if fate == "one seed left" else suite.seeds:
        change(store, entry, seed, fate)
    data = collect(store, suite.model_copy(update={"claims": claims}))
    samples = Samples(data)
    kept, lost = claim_results(data, samples)
    assert kept.decision is not None
    assert kept.decision.p is not None
    assert kept.decision.p_adjusted == pytest.approx(min(1.0, 2 * kept.decision.p))
    assert lost.verdict in ("undecided", "not comparable")
    notes = Footnotes()
    table = claim_table([kept, lost], notes)
    assert table is not None
    assert "counts with p = 1" in table.method
    if lost.decision is None:
        assert [text for text in notes.texts if "lost: " in text and "p = 1" in text]
    else:
        assert lost.decision.p_adjusted == 1.0
    if fate == "no cell":
        return

    found = differences(data, samples, "cider_d")
    by_name = {one.cell.entry.name: one for one in found.cells}
    comparison = by_name["depth-2"].comparison
    assert comparison is not None
    assert comparison.p is not None
    assert by_name["depth-2"].p_adjusted == pytest.approx(min(1.0, 2 * comparison.p))
    assert by_name["depth-4"].p_adjusted is None
    assert "counts with p = 1" in interval_table(found, notes).method


def change(store: Store, entry: CellEntry, seed: int, fate: str) -> None:
    folder, run = store.run_dir(entry.cell_id, seed), record(entry, seed)
    if fate in ("failed", "one seed left"):
        store.save(run.model_copy(update={"status": "failed", "error": "torn"}))
    elif fate == "never started":
        shutil.rmtree(folder)
    elif fate == "no region scores":
        (folder / "region_scores.json").write_text("{}", encoding="utf-8")
    elif fate == "other signature":
        other = signature("cider_d", region_set="cd34" * 16)
        run.scores["cider_d"] = Score(value=8.0, signature=other)
        store.save(run)
