"""Which tests share one Holm correction: claims of a family, and cells that are no controls."""

import pytest
from report_fake_runs import signature

from sca_bench.report.findings.claims import claim_results
from sca_bench.report.findings.differences import differences
from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import collect
from sca_bench.report.tables.claim_table import interval_table
from sca_bench.report.tables.tables import Footnotes
from sca_bench.study.runs.record import Score, SuiteManifest
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
