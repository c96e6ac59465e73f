"""Metrics that count something: shown as they are, in their unit, wherever a report shows them."""

# ruff: noqa: RUF001 - the tables are typeset with the signs for times and for minus

import json

import pytest
from report_fake_runs import build, manifest, signature

from sca_bench.metrics.registry import METRICS, MetricSpec
from sca_bench.report import write_report
from sca_bench.report.figures.axis import axis_plot
from sca_bench.report.names import (
    difference_unit,
    metric_label,
    metric_scale,
    metric_unit,
    show_difference,
    show_score,
)
from sca_bench.report.read.suite_data import collect
from sca_bench.study.runs.record import Score


@pytest.mark.parametrize(
    ("metric", "label", "unit"),
    [
        ("cider_d", "CIDEr-D", "×100, max 1000"),
        ("bleu_4", "BLEU-4", "×100, max 100"),
        ("exact_match", "Exact match", "×100, max 100"),
        ("noun_recall_fuzzy", "Noun recall, fuzzy", "×100, max 100"),
        ("distinct_2", "Distinct-2", "×100, max 100"),
        ("caption_length", "Caption length", "words"),
        ("vocabulary_size", "Vocabulary size", "words"),
        ("clip_score", "CLIPScore", "×100, max 250"),
        ("first/caption_length", "Caption length, first", "words"),
        ("one_per_image/cider_d", "CIDEr-D, one per image", "×100, max 1000"),
        ("slot/colour", "colour", "×100, max 100"),
        ("slots", "mean of slots", "×100, max 100"),
        ("slot_by_objects/3/colour", "colour, 3 objects", "×100, max 100"),
    ],
)
def test_names_and_units(metric, label, unit):
    assert (metric_label(metric), metric_unit(metric)) == (label, unit)


def test_values():
    assert show_score(0.5) == show_score(0.5, metric="exact_match") == "50.0"
    assert show_score(5.25, 0.5, metric="caption_length") == "5.2 ± 0.5"
    assert show_difference(-1.5, metric="caption_length") == "−1.5"
    assert show_difference(-0.015) == "−1.5"
    assert (difference_unit("caption_length"), difference_unit("cider_d")) == ("words", "×100")


def test_a_metric_of_another_package_has_its_own_scale(monkeypatch):
    points = [type("Point", (), {"name": "seen", "value": "m:S", "load": lambda self: spec})()]
    spec = MetricSpec("bits", "", "bits", "m", compute="m:f", report_scale=1, maximum=8, label="B")
    monkeypatch.setattr(METRICS, "find", lambda group: points)
    assert (metric_label("bits"), metric_unit("bits"), metric_scale("bits")) == (
        "B",
        "×1, max 8",
        1,
    )


@pytest.fixture
def counted(tmp_path):
    """Runs whose main metric is a length: 4.5 words, and 6.5 with four layers, of every region."""
    claims = [
        {
            "id": "a",
            "says": "caption_length(mixer.num_layers=4) > caption_length(mixer.num_layers=2)",
        },
        {"id": "b", "says": "cider_d(mixer.num_layers=4) > cider_d(mixer.num_layers=2)"},
    ]
    metrics = ["caption_length", "cider_d"]
    suite = manifest(metrics=metrics, claims=claims, subsets={"first": "first_of_image"})
    store, suite = build(tmp_path / "runs", suite)
    for record in list(store.records()):
        length = 6.5 if record.cell_id == "c-depth-4" else 4.5
        own = {"caption_length": length, "first/caption_length": length + 10}
        scores = {key: Score(value=v, signature=signature(key)) for key, v in own.items()}
        store.save(record.model_copy(update={"scores": record.scores | scores}))
        path = store.run_dir(record.cell_id, record.seed) / "region_scores.json"
        stored = json.loads(path.read_text())
        stored["scores"]["caption_length"] = [length] * len(stored["region_ids"])
        path.write_text(json.dumps(stored))
    return store, suite


def test_a_report_of_a_length(counted, tmp_path):
    store, suite = counted
    text = (write_report(store, suite, tmp_path / "reports") / "table.md").read_text("utf-8")
    assert "Caption length (words)" in text
    assert "times 100 unless the column names a unit" in text
    assert "6.5 ± 0.0" in text
    assert "4.5 to 4.5" in text
    assert "+2.0 (words)" in text
    assert "Left − right (unit in each row)" in text
    assert "(×100) |" in text
    assert "Caption length, first (words)" in text
    assert "16.5 ± 0.0" in text
    assert "first: first_of_image" in text
    assert "450.0" not in text
    plot = axis_plot(collect(store, suite))
    assert {point.mean for point in plot.points} == {4.5, 6.5}
