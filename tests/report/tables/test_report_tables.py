"""Numbers in the tables against hand-computed ones; holes; the refusal to mix signatures."""

# ruff: noqa: RUF001 - the tables are typeset with the signs for times and for empty

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from report_fake_runs import build, manifest, record, regions, signature
from scipy.stats import t as student

from sca_bench.errors import InputError
from sca_bench.report import ScoreRow, ScoreTable, write_report
from sca_bench.report.figures.forest import forest
from sca_bench.report.findings.differences import differences
from sca_bench.report.findings.paper import Paper
from sca_bench.report.names import expand_metrics, short_axes
from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import collect
from sca_bench.report.tables.claim_table import interval_table
from sca_bench.report.tables.markdown import escape
from sca_bench.report.tables.tables import Footnotes, Table, score_table, slot_table
from sca_bench.stats.power import noise_floor
from sca_bench.stats.variance import SeedPart
from sca_bench.study.runs.record import Score, SuiteManifest
from sca_bench.study.runs.store import Store

Runs = tuple[Store, SuiteManifest]


def fields(table: Table, name: str) -> dict[str, str]:
    """One row as column label -> text."""
    for row in table.rows:
        if row.entries[0].text.startswith(name):
            return {c.label: e.text for c, e in zip(table.columns, row.entries, strict=True)}
    raise AssertionError(f"no row {name}")


def markdown_row(text: str, section: str, name: str) -> list[str]:
    part = text.split(f"## {section}")[1].split("\n## ")[0]
    line = next(line for line in part.splitlines() if line.startswith(f"| {name}"))
    return [field.strip() for field in line.strip("|").split("|")]


def test_row_of_a_cell(runs: Runs) -> None:
    row = fields(score_table(collect(*runs), Footnotes()), "depth-2")
    # CIDEr-D 8.6 and 9.0: mean 8.8, sample sd sqrt(2 * 0.2**2 / 1) = 0.2828.
    assert row["CIDEr-D"] == "880.0 ± 28.3"
    assert row["BLEU-1"] == "80.5 ± 0.7"
    assert row["BLEU-4"] == "50.5 ± 0.7"
    assert row["Exact match"] == "51.0 ± 1.4"
    assert row["mixer.num_layers"] == "2"
    assert row["Seeds"] == "2 of 2"
    assert row["Trainable"] == "200,000"
    assert row["Total"] == "1,000,000"
    assert row["Step time"] == "55.0"
    assert row["Peak memory"] == "512"
    assert row["Own compute"] == "45.0"
    assert row["Shared compute"] == "7.5"
    assert row["Captions"] == "12.0"


def test_units_are_in_the_header(whole_report: Path) -> None:
    text = (whole_report / "table.md").read_text(encoding="utf-8")
    for header in (
        "CIDEr-D (×100, max 1000)",
        "Exact match (×100, max 100)",
        "Step time (ms, median)",
        "Peak memory (MiB)",
        "Own compute (s)",
        "Shared compute (s)",
        "Captions (per s)",
    ):
        assert header in text


def test_controls_are_marked_and_last(runs: Runs) -> None:
    table = score_table(collect(*runs), Footnotes())
    assert [(row.entries[0].text, row.control) for row in table.rows] == [
        ("depth-1", False),
        ("depth-2", False),
        ("depth-4", False),
        ("permuted captions (control)", True),
        ("most frequent caption (control)", True),
        ("noise floor (A/A)", True),
    ]


def test_the_noise_floor_is_that_of_pairs_of_cells(runs: Runs) -> None:
    """Seeds of every depth lie .4 apart: of a mean of two, variance .04, with one degree each."""
    store, suite = runs
    table = score_table(collect(*runs), Footnotes())
    column = [column.label for column in table.columns].index("CIDEr-D")
    floor = student.ppf(0.975, 2) * 0.08**0.5
    assert table.rows[-1].entries[column].text == f"± {100 * floor:.1f}"

    changed = record(suite.cells[2], 1)  # depth-2: 8.6 and, now, 8.6
    changed.scores["cider_d"] = Score(value=8.6, signature=signature("cider_d"))
    store.save(changed)
    table = score_table(collect(*runs), Footnotes())
    alone = student.ppf(0.975, 1) * 0.04**0.5  # beside it, the other cell's seeds are all there is
    ends = sorted((100 * floor, 100 * alone))
    assert table.rows[-1].entries[column].text == f"± {ends[0]:.1f} to {ends[1]:.1f}"


def test_every_difference_has_the_noise_floor_of_its_own_pair(runs: Runs) -> None:
    store, suite = runs
    for seed, value in enumerate((7.6, 9.2)):
        path = store.run_dir("c-depth-2", seed) / "region_scores.json"
        stored = store.region_scores("c-depth-2", seed)
        shift = value - sum(stored["scores"]["cider_d"]) / 30
        stored["scores"]["cider_d"] = [v + shift for v in stored["scores"]["cider_d"]]
        path.write_text(json.dumps(stored), encoding="utf-8")
    data = collect(store, suite)
    found = differences(data, Samples(data), "cider_d")
    table = interval_table(found, Footnotes())
    column = [column.label for column in table.columns].index("Noise floor")
    shown = {row.entries[0].text: row.entries[column].text for row in table.rows}
    parts = {
        "depth-2": (0.64, 0.04),
        "depth-4": (0.04, 0.04),
    }  # of means: squares of .8, .2, halved
    for name, own in parts.items():
        floor = noise_floor([SeedPart(2, True, 2 * variance) for variance in own])
        assert floor is not None
        assert abs(float(shown[name].removeprefix("± ")) - 100 * floor) <= 5  # rounded to tens
    assert shown["depth-1"] == "–"
    cells = forest(data, Paper(""), [], found)
    assert cells is not None
    drawn = [row.noise for row in cells.facts.rows]
    assert [f"± {round(noise, -1):.0f}" for noise in drawn if noise] == [
        shown["depth-2"],
        shown["depth-4"],
    ]


def test_markdown_shows_names_as_they_are_written() -> None:
    written = {"<b>&amp;": "\\<b>\\&amp;", "&#38; x": "\\&#38; x", "R&D; a & b": "R\\&D; a & b"}
    assert {name: escape(name) for name in written} == written


def test_markdown_opens_with_question_statement_interval_and_claims(whole_report: Path) -> None:
    text = (whole_report / "table.md").read_text(encoding="utf-8")
    order = [
        "# How deep must the text feature mixer be?",
        "profile **tiny**",
        "> SAM was pre-trained on rendered scenes",
        "## Claims and verdicts",
        "## CIDEr-D with its interval",
        "## Scores and costs",
        "## Slot accuracy",
        "## Accuracy by number of objects",
    ]
    assert "degrees of freedom between Satterthwaite's and Cochran's" in text
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    row = markdown_row(text, "CIDEr-D with its interval", "depth-1")
    assert row[1] == "820"  # the mean over both seeds' regions is the mean of the corpus values
    ends, near = row[2].split(", ")
    assert near.startswith("approximate[^")  # two seeds, ten images
    low, high = (float(end.replace(",", "")) for end in ends.split(" to "))
    assert low < 820.0 < high
    assert row[3:] == ["reference", "–", "–", "–"]
    assert "30 regions, 10 images, 2 seeds a cell. Reference: depth-1;" in text
    row = markdown_row(text, "CIDEr-D with its interval", "depth-2")
    assert row[3].rstrip("*") == "+60"
    assert "Noise floor: what seeds alone make" in text
    assert "]: approximate: two seeds say little of how far seeds lie apart and 10 test" in text


def test_interval_of_equal_images_has_no_width(tmp_path: Path) -> None:
    store, suite = build(tmp_path / "runs")
    ids = [row["region_id"] for row in regions()]
    path = store.run_dir("c-depth-1", 0) / "region_scores.json"
    text = pd.Series({"region_ids": ids, "scores": {"cider_d": [8.0] * len(ids)}}).to_json()
    path.write_text(text, encoding="utf-8")
    one_seed = suite.model_copy(update={"seeds": [0]})
    data = collect(store, one_seed)
    one = differences(data, Samples(data), "cider_d").cells[0]
    assert one.estimate is not None
    ends = (one.estimate.low, one.estimate.value, one.estimate.high)
    assert ends == pytest.approx((8.0, 8.0, 8.0))
    assert (one.estimate.num_regions, one.estimate.num_images) == (30, 10)
    assert not one.estimate.covers_seeds
    assert one.note == ""


def test_corpus_score_that_is_no_mean_is_said(runs: Runs) -> None:
    store, suite = runs
    changed = record(suite.cells[1], 0)
    changed.scores["cider_d"] = Score(value=7.0, signature=signature("cider_d"))
    store.save(changed)
    data = collect(store, suite)
    assert "not the corpus score" in Samples(data).of(data.cells[0], "cider_d").note


def test_slot_tables(whole_report: Path) -> None:
    text = (whole_report / "table.md").read_text(encoding="utf-8")
    assert markdown_row(text, "Slot accuracy", "depth-4")[1:] == ["90.0 ± 0.0"] * 3
    row = markdown_row(text, "Accuracy by number of objects", "depth-4")
    assert row == ["depth-4", "2", "80.0 ± 0.0"]


def test_slots_asked_for_but_not_computed_are_a_hole(runs: Runs) -> None:
    store, suite = runs
    for entry in suite.cells:
        for seed in suite.seeds:
            changed = record(entry, seed)
            changed.scores = {k: v for k, v in changed.scores.items() if "slot" not in k}
            changed.scores["slots"] = Score(value=None, reason="no row carries slots")
            store.save(changed)
    notes = Footnotes()
    table = slot_table(collect(store, suite), notes)
    assert table is not None
    assert fields(table, "depth-1")["mean of slots"] == "–"
    assert "mean of slots: not computed: no row carries slots" in notes.texts


def test_long_csv_has_one_value_a_row(whole_report: Path) -> None:
    frame = pd.read_csv(whole_report / "table.csv")
    at = (frame["cell"] == "depth-4") & (frame["metric"] == "cider_d")
    assert list(frame[at]["value"]) == [8.1, 8.5]
    assert list(frame[at]["seed"]) == [0, 1]
    assert frame[at]["signature"].str.fullmatch("[0-9a-f]{8}").all()
    assert frame[at]["signature"].nunique() == 1
    assert not frame.duplicated(["cell_id", "seed", "metric"]).any()


def test_wide_csv(whole_report: Path) -> None:
    frame = pd.read_csv(whole_report / "summary.csv").set_index("cell")
    row = frame.loc["depth-2"]
    assert row["cider_d_mean"] == pytest.approx(8.8)
    assert row["cider_d_sd"] == pytest.approx(0.282842712)
    assert row["cider_d_n"] == 2
    marked = frame["cider_d_best"]
    assert marked["depth-2"]
    assert not marked["permuted captions"]
    assert "bleu_1_best" not in frame  # its regions have no scores: nothing was compared
    assert row["mixer.num_layers"] == 2
    assert row["cost/train_s_mean"] == pytest.approx(45.0)


def test_every_kind_of_hole_is_shown(runs: Runs) -> None:
    store, suite = runs
    depth_1, depth_2, depth_4 = suite.cells[1:4]
    failed = record(depth_1, 0).model_copy(update={"status": "failed", "error": "out of memory"})
    store.save(failed)
    store.save(record(depth_1, 1).model_copy(update={"status": "killed"}))
    store.save(record(depth_2, 0).model_copy(update={"status": "running"}))
    (store.run_dir(depth_4.cell_id, 1) / "record.json").unlink()
    no_bleu = record(depth_4, 0)
    no_bleu.scores["bleu_1"] = Score(value=None, reason="no Java found")
    del no_bleu.scores["bleu_2"]
    store.save(no_bleu)
    folder = write_report(store, suite, store.root.parent / "reports")
    text = (folder / "table.md").read_text(encoding="utf-8")
    page = (folder / "index.html").read_text(encoding="utf-8")
    for said in (
        "depth-1, seed 0: failed: out of memory",
        "depth-1, seed 1: killed",
        "depth-2, seed 0: not finished: still running, or interrupted",
        "depth-4, seed 1: missing: never started",
        "BLEU-1, depth-4, seed 0: not computed: no Java found",
        "BLEU-2, depth-4, seed 0: not computed",
    ):
        assert said in text, said
        assert said in page, said
    row = markdown_row(text, "Scores and costs", "depth-1")
    assert row[1].startswith("0 of 2[^")
    assert all(field.startswith("–[^") for field in row[2:])
    # One seed: no spread, and nothing is shown to be below it.
    assert markdown_row(text, "Scores and costs", "depth-2")[2] == "**900.0**"
    frame = pd.read_csv(folder / "table.csv")
    at = (frame["cell"] == "depth-4") & (frame["metric"] == "bleu_1")
    assert frame[at]["value"].isna().all()
    assert list(frame[at]["reason"]) == ["not computed: no Java found", "missing: never started"]


def test_suite_without_any_run_still_makes_a_report(tmp_path: Path) -> None:
    folder = write_report(Store(tmp_path / "runs"), manifest(), tmp_path / "reports")
    text = (folder / "table.md").read_text(encoding="utf-8")
    assert "depth-4, seed 1: missing: never started" in text
    assert not (folder / "metric_over_axis.png").exists()
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "No run has a score yet" in page
    assert "No finished run has left captions" in page


def row(cell: str, seed: int, metric: str = "cider_d", **changes: object) -> ScoreRow:
    return ScoreRow("s", cell, f"id-{cell}", False, seed, metric, 1.0, signature(metric, **changes))


def test_score_table_refuses_different_signatures() -> None:
    with pytest.raises(InputError) as error:
        ScoreTable([row("a", 0), row("b", 1, tokenizer="none")])
    for part in ("cider_d:", "a seed 0", "'ptb'", "b seed 1", "'none'"):
        assert part in str(error.value)


def test_score_table_refuses_a_part_only_one_states() -> None:
    with pytest.raises(InputError, match="decoding"):
        ScoreTable([row("a", 0), row("a", 1, decoding="beam 3")])


def test_score_table_keeps_metrics_apart_and_states_region_sets() -> None:
    other = row("b", 0, region_set="cd" * 32, num_regions=7)
    table = ScoreTable([row("a", 0), row("a", 0, "meteor", tokenizer="none"), other])
    assert table.region_sets("cider_d") == {"ab12ab12ab12": ["a"], "cdcdcdcdcdcd": ["b"]}
    assert table.metrics() == ["cider_d", "meteor"]


def test_report_states_region_sets_that_differ_and_refuses_other_mixtures(runs: Runs) -> None:
    store, suite = runs
    for seed in suite.seeds:
        other = record(suite.cells[3], seed)
        other.scores["cider_d"].signature["region_set"] = "cd" * 32
        store.save(other)
    notes = Footnotes()
    score_table(collect(store, suite), notes)
    assert "scored on region set cdcdcdcdcdcd" in notes.texts
    other.scores["cider_d"].signature["version"] = "1.1"
    store.save(other)
    with pytest.raises(InputError, match=rf"^{suite.file}: cider_d: .*version '1\.1'"):
        write_report(store, suite, store.root.parent / "reports")


def test_metric_groups_and_axis_names() -> None:
    assert expand_metrics(["bleu", "slots", "spice", "bleu_1"]) == [
        *("bleu_1", "bleu_2", "bleu_3", "bleu_4", "spice")
    ]
    axes = ["mixer.num_layers", "sam.size", "data.lsj_scale", "a.num_rates", "b.num_rates"]
    assert list(short_axes(axes).values()) == [
        *("number of layers", "SAM size", "LSJ scale", "a number of rates", "b number of rates")
    ]


def test_csv_text_is_plain(whole_report: Path) -> None:
    text = (whole_report / "table.csv").read_bytes()
    assert b"\r" not in text
    assert pd.read_csv(io.BytesIO(text)).columns[0] == "suite"


def test_a_captioner_that_does_not_decode_may_stand_beside_one_that_does() -> None:
    greedy = {"metric": "cider_d", "decoding": "greedy", "prompt": "box"}
    constant = greedy | {"decoding": "none", "prompt": "none"}
    rows = [
        ScoreRow("demo", name, name, False, 0, "cider_d", 1.0, signature, "")
        for name, signature in (("a", greedy), ("b", constant))
    ]
    assert len(ScoreTable(rows).frame) == 2
    beam = greedy | {"decoding": "beam 3"}
    mixed = [rows[0], ScoreRow("demo", "c", "c", False, 0, "cider_d", 1.0, beam, "")]
    with pytest.raises(InputError, match="decoding"):
        ScoreTable(mixed)
    asked = ScoreTable(mixed, may_differ=frozenset({"decoding"}))
    assert len(asked.frame) == 2


def test_scores_over_other_regions_have_a_table_of_their_own(runs, tmp_path) -> None:
    store, asked = runs
    first = next(iter(store.records()))
    scores = first.scores | {
        "train/exact_match": Score(value=0.925, signature={"metric": "exact_match"}),
        "seen/macro_recall": Score(value=0.125, signature={"metric": "macro_recall"}),
    }
    store.save(first.model_copy(update={"scores": scores}))
    text = (write_report(store, asked, tmp_path) / "table.md").read_text(encoding="utf-8")
    assert "Exact match, train" in text
    assert "92.5" in text
    assert "12.5" in text
