"""Scores are printed as papers print them, counts with their nouns, times in words."""

from types import SimpleNamespace

import pytest

from sca_bench.cli.run import _print_scores
from sca_bench.cli.sweep import _shown
from sca_bench.output import in_words, num_text, text_console
from sca_bench.study.runs.record import RunRecord, Score
from sca_bench.study.runs.store import Store


def test_run_ends_with_means_times_100(tmp_path, capsys):
    store = Store(tmp_path)
    for seed, value in ((0, 8.9), (1, 9.1)):
        fields = {"settings": {}, "variant": "sca", "revision": "1", "status": "done"}
        scores = {"cider_d": Score(value=value)}
        store.save(RunRecord(cell_id="abc", seed=seed, scores=scores, **fields))
    suite = SimpleNamespace(metrics=("cider_d",), seeds=(0, 1, 2))
    plan = SimpleNamespace(suite=suite, cells=[SimpleNamespace(name="one", cell_id="abc")])
    _print_scores(text_console(), plan, store)
    out = capsys.readouterr().out
    assert "CIDEr-D (mean)" in out
    assert "900.0" in out
    assert "2 done, 1 missing" in out


@pytest.mark.parametrize(
    ("value", "metric", "text"),
    [
        (1.498, "cider_d", "149.8"),
        (0.727, "exact_match", "72.7"),
        (4.25, "caption_length", "4.2"),
        (258608, "cost.num_trainable_params", "258,608"),
        (0.01234567, "cost.step_s", "0.01235"),
    ],
)
def test_a_sweep_prints_scores_times_100_and_costs_as_they_are(value, metric, text):
    assert _shown(value, metric) == text


def test_counts_and_times_are_in_words():
    assert [num_text(n, "run") for n in (0, 1, 1000)] == ["0 runs", "1 run", "1,000 runs"]
    assert in_words(724) == "12 min 04 s"
