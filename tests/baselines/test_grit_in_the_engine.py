"""GRiT through the ordinary loop: with weights it only captions, from scratch it trains."""

import pytest
import torch
from grit_parts import cell_settings
from safetensors.torch import load_file

from sca_bench import variants
from sca_bench.data.pipeline import dataset
from sca_bench.engine.job import CellJob, GroupJob, new_attempt
from sca_bench.engine.worker import hooks
from sca_bench.reading import read_jsonl
from sca_bench.study.keys.cell import CellIdentity, Revisions
from sca_bench.study.keys.fingerprint import Fingerprints
from sca_bench.study.runs.store import PREDICTIONS, Store


class Point:
    def __init__(self, spec):
        self.spec, self.value = spec, spec.builder

    def load(self):
        return self.spec


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Register both variants, whatever is installed."""
    import baselines.grit as grit

    points = [Point(grit.SPEC), Point(grit.FROM_SCRATCH)]
    monkeypatch.setattr(variants.VARIANTS, "find", lambda group: points)


@pytest.fixture
def run(tmp_path, run_group):
    """Prepare and run one cell; return the store and the cell's id."""

    def made(settings, runs="runs"):
        identity = CellIdentity(settings, Fingerprints().inputs(settings))
        key = identity.cell_key
        (tmp_path / runs / "cells" / key / "seed-0").mkdir(parents=True, exist_ok=True)
        cell = CellJob(key, key, 0, identity)
        folder = str(tmp_path / runs)
        job = GroupJob(folder, [cell], "suite.yaml", new_attempt("test"), 1, "cpu", "pytest")
        assert not run_group(job).failed
        return Store(folder), key

    return made


def small(variant, **sections):
    settings = cell_settings(variant).model_dump(mode="json", exclude_unset=True)
    settings["sam"] = {"size": "tiny", "weights": "random"}
    settings["runtime"] = {"device": "cpu", "threads": 1, "log_every": 1}
    settings["eval"] = {"max_new_tokens": 6}
    return type(cell_settings()).model_validate({**settings, **sections})


def test_untrained_it_captions_every_region(run):
    store, cell = run(small("grit"))
    record = store.record(cell, 0)
    assert record.status == "done"
    assert record.counters["train_steps"] == 0
    rows = read_jsonl(store.run_dir(cell, 0) / PREDICTIONS)
    assert len(rows) >= 2
    assert all(row["predicted_ious"] == [1.0] for row in rows)


def test_from_scratch_it_trains(run):
    train = {"steps": 3, "images_per_batch": 2, "warmup_steps": 1, "learning_rate": 1e-3}
    store, cell = run(small("grit_from_scratch", train=train))
    record = store.record(cell, 0)
    assert record.counters["train_steps"] == 3
    assert 0 < record.cost["num_trainable_params"] < record.cost["num_total_params"]
    losses = [row["loss"] for row in store.log(cell, 0) if "loss" in row]
    assert len(losses) == 3
    assert torch.isfinite(torch.tensor(losses)).all()
    assert losses[-1] < losses[0]


def test_no_input_of_sam_is_made_for_it(run, monkeypatch):
    """It reads original images; SAM's input was made and moved for it all the same (issue 17)."""
    shown = []
    made = dataset.RegionDataset._sample

    def sample(self, *given):
        shown.append(made(self, *given))
        return shown[-1]

    monkeypatch.setattr(dataset.RegionDataset, "_sample", sample)
    train = {"steps": 1, "images_per_batch": 2, "warmup_steps": 0, "learning_rate": 1e-3}
    run(small("grit_from_scratch", train=train))
    assert len(shown) > 2
    assert all(one.original_HW3 is not None and one.raw_pixels is None for one in shown)


def test_trained_again_or_resumed_it_is_the_same_model(run, monkeypatch):
    """It shares no group, so alone and repeated are all that its bits can be held to."""
    train = {"steps": 6, "images_per_batch": 2, "warmup_steps": 1, "learning_rate": 1e-3}
    runtime = {"device": "cpu", "threads": 1, "checkpoint_every": 2}
    settings = small("grit_from_scratch", train=train, runtime=runtime)

    def trained(runs):
        store, cell = run(settings, runs)
        weights = load_file(store.run_dir(cell, 0) / "trainable.safetensors")
        return weights, store.record(cell, 0).provenance

    straight, _ = trained("straight")
    repeated, _ = trained("repeated")
    after = hooks.LogHook.after_train_iter

    def die(self, runner, batch_idx, **rest):
        after(self, runner, batch_idx, **rest)
        if batch_idx == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(hooks.LogHook, "after_train_iter", die)
    with pytest.raises(KeyboardInterrupt):
        trained("broken")
    monkeypatch.setattr(hooks.LogHook, "after_train_iter", after)
    resumed, provenance = trained("broken")
    assert provenance["resumed_at_step"] == 4
    for found in (repeated, resumed):
        assert [name for name in straight if not torch.equal(straight[name], found[name])] == []


def test_settings_of_sam_and_its_mixer_leave_the_key(tmp_path):
    def key(**sections):
        return CellIdentity(small("grit", **sections), {}).cell_key

    assert key(mixer={"num_layers": 3}, sam={"size": "tiny", "random_seed": 4}) == key()
    assert key(eval={"max_new_tokens": 7}) != key()
    assert key(train={"steps": 5, "label_smoothing": 0.3}) == key()


NEW = {"grit": {"sam.size", "train.precision"}, "grit_from_scratch": {"sam.size"}}


@pytest.mark.parametrize("variant", NEW)
def test_what_the_engine_reads_for_it_is_in_the_key(variant):
    """It captions in the precision of training; boxes come in the frame of SAM's input."""

    def cell(**sections):
        return CellIdentity(small(variant, **sections), {})

    assert cell(train={"precision": "bf16"}).cell_key != cell().cell_key
    assert cell(sam={"size": "vit_b"}).cell_key != cell().cell_key
    older = CellIdentity(cell().settings, {}, Revisions("2", "3"))
    assert cell().key_values.keys() - older.key_values.keys() == NEW[variant]


def test_another_precision_gives_other_captions(run):
    said = []
    for precision in ("fp32", "bf16"):
        store, cell = run(small("grit", train={"precision": precision}))
        said.append([row["log_prob"] for row in read_jsonl(store.run_dir(cell, 0) / PREDICTIONS)])
    assert said[0] != said[1]
