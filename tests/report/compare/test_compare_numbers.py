"""`compare` gives a report's numbers, cell by cell, and refuses what no report would compare."""

import json
from dataclasses import replace

import pytest
from report_fake_runs import CIDER, build, manifest, record, save_run

from sca_bench.errors import InputError
from sca_bench.report.compare.changed import with_captions
from sca_bench.report.compare.compared import compare_sides, finding_of, worse_pairs
from sca_bench.report.compare.sides import find_side
from sca_bench.report.findings.differences import differences
from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import collect
from sca_bench.stats.compare import Comparison
from sca_bench.study.runs.store import Store


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A runs folder that tests only read."""
    folder = tmp_path_factory.mktemp("compare") / "runs"
    build(folder)
    return folder


def compared(root, a, b, *metrics, root_b=None, **more):
    sides = find_side(Store(root), a), find_side(Store(root_b or root), b)
    return compare_sides(*sides, metrics, **more)


def entry(name):
    return next(cell for cell in manifest().cells if cell.name == name)


def reported(root, cell, metric="cider_d"):
    """Return the report's difference of a cell from the reference, which is depth-1."""
    data = collect(Store(root), Store(root).manifests()[0])
    found = differences(data, Samples(data), metric)
    assert found.reference.entry.name == "depth-1"
    return next(one.comparison for one in found.cells if one.cell.entry.name == cell)


@pytest.mark.parametrize("cell", ["depth-2", "depth-4", "permuted captions"])
def test_the_numbers_are_those_of_a_report_to_the_last_digit(root, cell):
    found = compared(root, "mixer_layers/depth-1", f"mixer_layers/{cell}", "cider_d")
    (pair,) = found.pairs
    assert pair.main.comparison == reported(root, cell)
    assert pair.main.a == pytest.approx(sum(CIDER["depth-1"]) / 2, abs=1e-12)


def test_images_that_region_scores_name_give_the_same_numbers(tmp_path):
    """Runs of today say the images of their regions beside the scores; older ones do not."""
    store, suite = build(tmp_path / "runs")
    before = compared(store.root, "mixer_layers/depth-1", "mixer_layers/depth-2", "cider_d")
    for cell in suite.cells:
        for seed in suite.seeds:
            path = store.run_dir(cell.cell_id, seed) / "region_scores.json"
            stored = json.loads(path.read_text())
            stored["image_ids"] = [name.partition("/")[0] for name in stored["region_ids"]]
            path.write_text(json.dumps(stored))
            (path.parent / "predictions.jsonl").unlink()
    after = compared(store.root, "mixer_layers/depth-1", "mixer_layers/depth-2", "cider_d")
    assert after.pairs[0].main == before.pairs[0].main


def test_a_name_of_a_suite_means_the_seeds_that_its_report_has(tmp_path):
    store, suite = build(tmp_path / "runs")
    save_run(store, entry("depth-2"), 0, record(entry("depth-2"), 0).model_copy(update={"seed": 7}))
    named = find_side(store, "mixer_layers/depth-2")
    assert [run.seed for run in named.cells[0].runs] == suite.seeds
    by_id = find_side(store, "c-depth-2")
    assert [run.seed for run in by_id.cells[0].runs] == [*suite.seeds, 7]
    one = find_side(store, "mixer_layers/depth-2/1")
    assert [run.seed for run in one.cells[0].runs] == [1]


def test_one_seed_of_a_trained_cell_says_nothing_of_seeds(root):
    found = compared(root, "mixer_layers/permuted captions/0", "mixer_layers/depth-2/0")
    row = found.pairs[0].main
    assert row.finding == "better"
    assert not row.comparison.covers_seeds
    assert any("one seed" in note for note in row.notes)


def test_a_run_beside_itself_is_the_same_and_says_so(root):
    found = compared(root, "mixer_layers/depth-2", "c-depth-2")
    assert found.pairs[0].changes.regions == ()
    assert found.pairs[0].main.comparison.difference == 0
    assert any("not independent" in note for note in found.notes)
    assert found.pairs[0].main.finding == "same"


def suites(tmp_path, **changes):
    """Return two runs folders of one suite; the other code's cells have other ids."""
    one, _ = build(tmp_path / "one")
    cells = [
        cell.model_copy(update={"cell_id": f"{cell.cell_id}-b"})
        for cell in manifest().cells
        if cell.name not in changes.get("without", ())
    ]
    other, _ = build(tmp_path / "other", manifest(cells=cells))
    return one.root, other.root


def test_cells_of_two_suites_are_paired_by_their_settings(tmp_path):
    one, other = suites(tmp_path, without=["depth-4"])
    found = compared(one, "mixer_layers", "mixer_layers", root_b=other)
    names = [pair.pair.name for pair in found.pairs]
    assert names == ["permuted captions", "depth-1", "depth-2", "most frequent caption"]
    assert found.paired.only_a == ("depth-4",)
    assert found.paired.only_b == ()
    assert found.metrics == ("cider_d",)
    assert {pair.main.finding for pair in found.pairs} <= {"none", "same"}


def test_several_cells_have_their_p_corrected(tmp_path):
    one, other = suites(tmp_path)
    for seed in (0, 1):  # one cell of B falls far behind
        path = other / "cells/c-depth-2-b" / f"seed-{seed}" / "region_scores.json"
        stored = json.loads(path.read_text())
        stored["scores"]["cider_d"] = [v - 5 for v in stored["scores"]["cider_d"]]
        path.write_text(json.dumps(stored))
    found = compared(one, "mixer_layers", "mixer_layers", root_b=other)
    rows = {pair.pair.name: pair.main for pair in found.pairs}
    assert rows["depth-2"].finding == "worse"
    assert rows["depth-2"].p == pytest.approx(5 * rows["depth-2"].comparison.p)
    assert worse_pairs(found, "cider_d") == ["depth-2"]
    assert worse_pairs(found, "cider_d", margin=6.0) == []


def comparison(difference, p, se=1.0):
    return Comparison(difference, -1.0, 1.0, se, se, 0.0, 10.0, p, (3, 3), 60, 60, True)


@pytest.mark.parametrize(
    ("difference", "p", "higher", "finding"),
    [
        (1.0, 0.01, True, "better"),
        (-1.0, 0.01, True, "worse"),
        (1.0, 0.01, False, "worse"),
        (-1.0, 0.01, False, "better"),
        (1.0, 0.01, None, "higher"),
        (-1.0, 0.01, None, "lower"),
        (1.0, 0.05, True, "none"),
        (1.0, None, True, "unknown"),
    ],
)
def test_what_can_be_said(difference, p, higher, finding):
    assert finding_of(comparison(difference, p), higher) == finding


def test_scores_that_are_equal_image_by_image_are_the_same():
    assert finding_of(comparison(0.0, 1.0, se=0.0), True) == "same"
    assert finding_of(comparison(0.0, 1.0), True) == "none"


def test_a_gate_needs_a_worse_side(root):
    found = compared(root, "mixer_layers/depth-1", "mixer_layers/depth-2")
    length = replace(found.pairs[0].main, metric="caption_length")
    pairs = (replace(found.pairs[0], rows=(length,)),)
    with pytest.raises(InputError, match="neither more nor less"):
        worse_pairs(replace(found, metrics=("caption_length",), pairs=pairs), "caption_length")


def change_record(root, cell_id, change):
    for path in (root / "cells" / cell_id).glob("seed-*/record.json"):
        found = json.loads(path.read_text())
        change(found)
        path.write_text(json.dumps(found))


def test_a_metric_that_was_measured_otherwise_is_no_row(tmp_path):
    store, _ = build(tmp_path / "runs")

    def change(found):
        found["scores"]["cider_d"]["signature"]["tokenizer"] = "other"

    change_record(store.root, "c-depth-2", change)
    with pytest.raises(InputError, match="cider_d: signatures differ: tokenizer 'ptb' against 'ot"):
        compared(store.root, "mixer_layers/depth-1", "mixer_layers/depth-2", "cider_d")


def test_another_way_to_decode_is_what_may_be_asked(tmp_path):
    store, _ = build(tmp_path / "runs")

    def change(found):
        found["scores"]["cider_d"]["signature"]["decoding"] = "3 beams"

    change_record(store.root, "c-depth-2", change)
    found = compared(store.root, "mixer_layers/depth-1", "mixer_layers/depth-2", "cider_d")
    assert any("B 3 beams" in note for note in found.pairs[0].main.notes)


def other_split(root, cell_id, keep=20, **changes):
    """Let a cell have captioned the first regions only, of what its records call a split."""

    def change(found):
        for score in found["scores"].values():
            score["signature"] |= {"region_set": "cd34" * 16, "num_regions": keep, **changes}

    change_record(root, cell_id, change)
    for folder in (root / "cells" / cell_id).iterdir():
        lines = (folder / "predictions.jsonl").read_text().splitlines(keepends=True)
        (folder / "predictions.jsonl").write_text("".join(lines[:keep]))
        stored = json.loads((folder / "region_scores.json").read_text())
        stored["region_ids"] = stored["region_ids"][:keep]
        stored["scores"] = {name: v[:keep] for name, v in stored["scores"].items()}
        (folder / "region_scores.json").write_text(json.dumps(stored))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "other regions: 30 regions of A and 20 of B, 20 in both; --shared-regions compares"),
        ({"split": "val"}, "other split: A is of test, B of val: 30 regions of A and 20 of B"),
    ],
)
def test_other_regions_are_refused_with_what_is_shared(tmp_path, changes, reason):
    store, _ = build(tmp_path / "runs")
    other_split(store.root, "c-depth-2", **changes)
    with pytest.raises(InputError, match=reason):
        compared(store.root, "mixer_layers/depth-1", "mixer_layers/depth-2")


def test_shared_regions_are_scored_anew(tmp_path):
    store, _ = build(tmp_path / "runs")
    other_split(store.root, "c-depth-2")
    found = compared(
        store.root, "mixer_layers/depth-1", "mixer_layers/depth-2", "exact_match", shared=True
    )
    assert len(found.shared.region_ids) == 20
    row = found.pairs[0].main
    assert row.comparison.num_regions == 20
    said = with_captions(found.a, found.b, [(found.pairs[0].pair, found.pairs[0].changes)], 30)
    right = sum(one.caption in region.references for region in said for one in region.said_a)
    assert 0 <= row.a <= 1
    assert right <= 20 * 2
    moved = found.pairs[0].changes
    assert moved.num_regions == 20
    assert len(said) == moved.better + moved.worse


def test_other_references_are_refused(tmp_path):
    store, _ = build(tmp_path / "runs")

    def change(found):
        for score in found["scores"].values():
            score["signature"]["region_set"] = "cd34" * 16

    change_record(store.root, "c-depth-2", change)
    for path in (store.root / "cells/c-depth-2").glob("*/predictions.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        rows[3]["references"] = ["another one"]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = "other references: A and B do not have the same for 1 of 30 regions, the first is scene-"
    with pytest.raises(InputError, match=line):
        compared(store.root, "mixer_layers/depth-1", "mixer_layers/depth-2")


def test_regions_that_changed_come_with_what_was_said(root):
    found = compared(root, "mixer_layers/depth-1", "mixer_layers/permuted captions")
    pair = found.pairs[0]
    assert pair.changes.better + pair.changes.worse == 30
    shown = with_captions(found.a, found.b, [(pair.pair, pair.changes)], 6)
    assert len(shown) == 6
    assert len({region.image_id for region in shown}) == 6
    rows = {}
    for line in (root / "cells/c-depth-1/seed-0/predictions.jsonl").read_text().splitlines():
        row = json.loads(line)
        rows[row["region_id"]] = row
    for region in shown:
        own = rows[region.region_id]
        assert region.references == tuple(own["references"])
        assert own["caption"] in [said.caption for said in region.said_a]
        assert sum(said.num_seeds for said in region.said_b) == 2
        assert region.images_dir == "images/feed"


def test_right_and_wrong_are_counted_by_more_than_half_of_the_seeds(tmp_path):
    store, _ = build(tmp_path / "runs")
    right = {"c-depth-1": ([1, 1, 0], [1, 0, 0]), "c-depth-2": ([1, 0, 1], [0, 0, 1])}
    for cell_id, seeds in right.items():
        for seed, values in enumerate(seeds):
            path = store.run_dir(cell_id, seed) / "region_scores.json"
            stored = json.loads(path.read_text())
            stored["scores"]["exact_match"] = (values * 10)[:30]
            path.write_text(json.dumps(stored))
    changes = compared(store.root, "mixer_layers/depth-1", "mixer_layers/depth-2").pairs[0].changes
    # A is right in the first of each three regions, B in the third; one of two seeds is not enough.
    assert (changes.right_to_wrong, changes.wrong_to_right, changes.both_right) == (10, 10, 0)
    assert changes.of_seeds == 10
