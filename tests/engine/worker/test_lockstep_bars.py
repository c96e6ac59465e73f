"""What lockstep promises: a cell's weights do not show what trained beside it, not in a bit.

Every variant of the registry that trains by gradient over SAM's frozen parts is one cell of a
group; dropout is on.
"""

import pytest
import torch
from safetensors.torch import load_file

from sca_bench.engine.worker import hooks
from sca_bench.engine.worker.cell_group import CellGroup
from sca_bench.study.runs.store import Store, checkpoint_path
from sca_bench.variants import SCA_PARTS, all_variants

STEPS = 12
BESIDE = {"train.steps": STEPS, "train.val_every": STEPS, "runtime.checkpoint_every": 4}
NO_MIXER = ("sca_roi_align",)
NAMES = [
    name
    for name, spec in all_variants().items()
    if spec.trains == "gradient" and spec.parts == SCA_PARTS
]


def cell(variant, depth, **changes):
    depth_of = {} if variant in NO_MIXER else {"mixer.num_layers": depth}
    return {"variant": variant, **depth_of, **BESIDE, **changes}


EVERY = [
    cell("sca", 3),
    *(cell(name, 1 + place % 2) for place, name in enumerate(NAMES)),
    cell("sca_roi_align", 1, **{"prefix.projection": "mlp"}),
    cell("sca", 1, **{"train.learning_rate": 0.002}),
    cell("sca", 2, **{"text_decoder.gradient_checkpointing": True, "mixer.dropout": 0.3}),
]
DEPTHS = [cell("sca", depth) for depth in (1, 2, 3, 4)]


@pytest.fixture
def weights(run_group):
    """Run a job; return the trained tensors of every cell, in order, and the cells that failed."""

    def run(job):
        failed = run_group(job).failed
        store = Store(job.runs_dir)
        folders = [store.run_dir(c.cell_id, c.seed) for c in job.cells]
        paths = [folder / "trainable.safetensors" for folder in folders]
        return [load_file(path) if path.exists() else None for path in paths], failed

    return run


def assert_equal(one, two, name):
    assert one.keys() == two.keys(), name
    different = [key for key in one if not torch.equal(one[key], two[key])]
    assert not different, f"{name}: {different}"


def test_every_variant_trains_in_lockstep_as_it_does_alone(group_job, weights, tmp_path):
    assert "sca" in NAMES
    together = group_job(*EVERY, runs=tmp_path / "together")
    assert len({c.cell_id for c in together.cells}) == len(EVERY)
    assert len({cell.identity.prefix_key for cell in together.cells}) == 1
    kept, failed = weights(together)
    assert not failed
    live, failed = weights(
        group_job(*({**c, "features.cache": "off"} for c in EVERY), runs=tmp_path / "live")
    )
    assert not failed
    for place, change in enumerate(EVERY):
        alone, _ = weights(group_job(change, runs=tmp_path / f"alone{place}"))
        assert_equal(kept[place], alone[0], f"{change} beside others")
        assert_equal(live[place], kept[place], f"{change} without a cache")
    assert len({tuple(w["projection.bias"].tolist()) for w in kept if "projection.bias" in w}) > 3


def test_a_cell_resumed_inside_a_group_equals_the_cell_alone(
    group_job, weights, tmp_path, monkeypatch
):
    changes = [DEPTHS[0], DEPTHS[2], cell("sca_mask_heads", 2)]
    after = hooks.LogHook.after_train_iter

    def die(self, runner, batch_idx, **rest):
        after(self, runner, batch_idx, **rest)
        if batch_idx == 9:
            raise KeyboardInterrupt

    monkeypatch.setattr(hooks.LogHook, "after_train_iter", die)
    broken = group_job(*changes, runs=tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        weights(broken)
    monkeypatch.undo()
    store = Store(broken.runs_dir)
    folders = [store.run_dir(c.cell_id, 0) for c in broken.cells]
    assert all(checkpoint_path(folder, 8).exists() for folder in folders)
    resumed, failed = weights(group_job(*changes, runs=tmp_path / "broken"))
    assert not failed
    record = store.record(broken.cells[0].cell_id, 0)
    assert record.provenance["resumed_at_step"] == 8
    assert record.counters["train_steps"] == STEPS - 8
    assert not [path for folder in folders for path in folder.glob("checkpoint-*")]
    for place, change in enumerate(changes):
        alone, _ = weights(group_job(change, runs=tmp_path / f"alone{place}"))
        assert_equal(resumed[place], alone[0], change)


def test_cells_that_fail_leave_and_the_others_do_not_notice(
    group_job, weights, tmp_path, monkeypatch
):
    quiet, failed = weights(group_job(*DEPTHS, runs=tmp_path / "quiet"))
    assert not failed
    job = group_job(*DEPTHS, runs=tmp_path / "faults")
    diverging, greedy = job.cells[0].key, job.cells[2].key
    step = CellGroup._step

    def faulty(self, member, batch, wrapper):
        now = self.counters["train_steps"]
        if member.key == greedy and now == 8:
            raise torch.OutOfMemoryError("no memory left")
        if member.key == diverging and now == 5:
            with torch.no_grad():
                member.captioner.projection.bias.fill_(float("nan"))
        return step(self, member, batch, wrapper)

    monkeypatch.setattr(CellGroup, "_step", faulty)
    found, failed = weights(job)
    assert failed[diverging].startswith("loss is nan at step 5, learning rate 0.0")
    assert failed == {
        diverging: failed[diverging],
        greedy: "OutOfMemoryError: no memory left",
    }
    assert [w is None for w in found] == [True, False, True, False]
    for place in (1, 3):
        assert_equal(found[place], quiet[place], DEPTHS[place])
    store = Store(job.runs_dir)
    records = [store.record(c.cell_id, 0) for c in job.cells]
    assert [r.status for r in records] == ["failed", "done", "failed", "done"]
    assert {r.error for r in records if r.error} == set(failed.values())
