"""Probe runs of groups, measured for real; and a run that stops before what does not fit."""

from pathlib import Path

import pytest

from sca_bench.cli import main
from sca_bench.engine.forecast.costs import SplitSize
from sca_bench.engine.measure.main import measure_plan
from sca_bench.engine.measure.probe import Memory, Prober
from sca_bench.study.plan.plan import make_plan
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.suite import load_suite


@pytest.mark.filterwarnings("ignore")  # mlflow's own imports warn in ways that change by version
def test_a_probe_measures_every_kind_of_group_once(suite_file, workers, tmp_path, monkeypatch):
    changes = {"data.train.num_images": 30, "runtime.jobs": 2}
    suite = load_suite(suite_file(axes="{train.learning_rate: [0.01, 0.02]}", changes=changes))
    store = Store(tmp_path / "runs")
    plan = make_plan(suite, store)
    said = []
    found = measure_plan(plan, store, probe=True, count=False, say=said.append)
    assert said == ["measuring 1 kinds of groups by short runs on this machine ..."]
    (probe,) = found.probes.values()  # both groups have one shape
    for name in ("load_s", "thumbnail_s", "feature_s", "run_s", "step_s", "val_s", "caption_s"):
        assert getattr(probe, name) > 0, name
    assert probe.bytes > 1000
    assert {size.images for size in found.sizes.values()} == {30, 2, 3}
    assert found.overheads.score_s > 0
    assert found.overheads.mirror_s > 0
    assert not list(store.root.glob("cells/*"))  # a probe leaves nothing but what it knows
    monkeypatch.setattr(Prober, "_measure", None)
    assert measure_plan(plan, store, probe=True, count=False, say=said.append) == found
    assert len(said) == 1


def test_what_a_closed_folder_does_not_take_is_known_until_the_end():
    memory = Memory(Path("/proc/nowhere/probes.json"), "machine")
    known = SplitSize(images=1, regions=2, views=1, rows=2, drawn=2.0)
    memory.put("split", "key", known.model_dump())
    assert memory.get("split", "key", SplitSize) == known


@pytest.mark.parametrize("text", ["{", "[]", '{"machine/split/key": {"images": "many"}}', "\udcff"])
def test_what_is_no_memory_is_measured_again(tmp_path, text):
    path = tmp_path / "probes.json"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    assert Memory(path, "machine").get("split", "key", SplitSize) is None


@pytest.mark.filterwarnings("ignore")
def test_a_budget_stops_before_what_does_not_fit(suite_file, workers, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = suite_file(axes="{mixer.num_layers: [1]}")
    words = ["run", str(path), "--no-mlflow"]
    assert main([*words, "--budget", "1s"]) == 1
    out = capfd.readouterr().out
    assert "NOT STARTED num_layers=1 seed 0: its group takes about" in out
    assert "0 runs finished" in out
    assert "run the same command again, with more of a --budget" in out
    assert main([*words, "--budget", "1h"]) == 0
    assert "1 run finished" in capfd.readouterr().out
