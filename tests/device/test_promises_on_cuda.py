"""What the engine promises holds on CUDA: alone as in a group, resumed as straight, true causes."""

import itertools

import pytest
import torch

from device.cells import job_of, make_believe, results, run, smallest
from sca_bench.engine.worker import group_run, hooks
from sca_bench.engine.worker.cell_group import CellGroup

pytestmark = pytest.mark.usefixtures("training")

STEPS = {
    "train.steps": 4,
    "train.val_every": 4,
    "runtime.checkpoint_every": 2,
    "mixer.dropout": 0.1,
    "features.cache": "encoder",
}
CELLS = ({"mixer.num_layers": 2}, {}, {"train.learning_rate": 0.003})
FULL = "CUDA out of memory. Tried to allocate 7.00 GiB"


@pytest.fixture
def made(device_kind, tmp_path):
    """Return a function: changes, one a cell -> the job of their group on the device."""
    with make_believe(device_kind) as device:

        def job(*changes, runs="runs"):
            cells = [smallest("sca", tmp_path / "files", STEPS, change) for change in changes]
            return job_of(cells, tmp_path / runs, device)

        yield job


def assert_same(one, other):
    assert (one.record.status, one.record.error) == ("done", "")
    assert one.captions == other.captions
    assert one.losses == other.losses
    assert one.weights.keys() == other.weights.keys()
    same = {name: torch.equal(one.weights[name], other.weights[name]) for name in one.weights}
    assert all(same.values()), same


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_cell_in_a_group_equals_the_cell_alone(made, precision):
    cells = [{**cell, "train.precision": precision} for cell in CELLS]
    together = made(*cells)
    assert not run(together).failed
    for number, cell in enumerate(cells):
        alone = made(cell, runs=f"alone{number}")
        run(alone)
        assert_same(results(together)[number], results(alone)[0])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_killed_and_resumed_equals_straight_through(made, precision, monkeypatch):
    cells = [{**cell, "train.precision": precision} for cell in CELLS[:2]]
    straight, broken = made(*cells), made(*cells, runs="broken")
    run(straight)
    after = hooks.LogHook.after_train_iter

    def die(self, runner, batch_idx, **rest):
        after(self, runner, batch_idx, **rest)
        if batch_idx == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(hooks.LogHook, "after_train_iter", die)
        with pytest.raises(KeyboardInterrupt):
            run(broken)
    run(broken)
    for one, other in zip(results(broken), results(straight), strict=True):
        assert one.record.provenance["resumed_at_step"] == 2
        assert_same(one, other)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_activations_computed_again_change_nothing(made, precision):
    cell = {"train.precision": precision}
    again = {"mixer.gradient_checkpointing": True, "text_decoder.gradient_checkpointing": True}
    kept, checkpointed = made(cell), made({**cell, **again}, runs="again")
    run(kept)
    run(checkpointed)
    assert_same(results(checkpointed)[0], results(kept)[0])


@pytest.fixture
def starve(monkeypatch):
    """Return a function: memory gives out in a captioner's method, at its n-th call, for a reason.

    Of the cells with so many layers only. The frame that fails holds 40 MB on the device.
    """
    build_member, faults = group_run.build_member, []

    def build(cell, parts, device):
        member = build_member(cell, parts, device)
        for depth, method, call, reason in faults:
            if cell.settings.mixer.num_layers == depth:
                inner, calls = getattr(member.captioner, method), itertools.count(1)

                def starved(*arguments, inner=inner, calls=calls, call=call, reason=reason):
                    held = torch.zeros(10_000_000, device=device)
                    if next(calls) == call:
                        raise torch.OutOfMemoryError(reason)
                    del held
                    return inner(*arguments)

                monkeypatch.setattr(member.captioner, method, starved)
        return member

    monkeypatch.setattr(group_run, "build_member", build)

    def arm(depth, method, call, reason=FULL):
        faults.append((depth, method, call, reason))

    return arm


DEEP, FLAT = {"mixer.num_layers": 2}, {"mixer.num_layers": 1}
PLACES = {
    "a step": ("loss", 3),
    "the loss of a validation": ("loss", 5),
    "the captions of a validation": ("generate", 1),
    "the captions": ("generate", 2),
}


def reasons(job):
    assert {ran.record.status for ran in results(job)} == {"failed"}
    return [ran.record.error for ran in results(job)]


@pytest.mark.parametrize("place", PLACES)
def test_memory_that_gives_out_costs_one_cell_and_is_its_reason(made, starve, place):
    alone = made(FLAT, runs="alone")
    run(alone)
    starve(2, *PLACES[place])
    job = made(DEEP, FLAT)
    outcome = run(job)
    assert outcome.failed == {job.cells[0].key: f"OutOfMemoryError: {FULL}"}
    deep, flat = results(job)
    assert (deep.record.status, deep.record.error) == ("failed", f"OutOfMemoryError: {FULL}")
    assert_same(flat, results(alone)[0])


@pytest.mark.parametrize("place", PLACES)
def test_the_last_cell_fails_for_its_true_reason_too(made, starve, place):
    starve(2, *PLACES[place], reason="of the deep one")
    starve(1, *PLACES[place], reason="of the flat one")
    job = made(DEEP, FLAT)
    assert run(job).failed.keys() == {cell.key for cell in job.cells}
    said = [f"OutOfMemoryError: of the {which} one" for which in ("deep", "flat")]
    assert reasons(job) == said


@pytest.mark.parametrize("place", [("train", 3), ("val", 1), ("captioned", 1)], ids=str)
def test_memory_that_gives_out_in_the_shared_part_is_the_reason_of_all(
    made, starve, monkeypatch, place
):
    """But for a cell that had left before, for a reason of its own."""
    split, call = place
    with_features, calls = CellGroup.with_features, itertools.count(1)

    def starved(self, data, wanted):
        if wanted == split and next(calls) == call:
            raise torch.OutOfMemoryError(FULL)
        return with_features(self, data, wanted)

    monkeypatch.setattr(CellGroup, "with_features", starved)
    starve(2, "loss", 2, reason="before the others")
    job = made(DEEP, FLAT, {"train.learning_rate": 0.003})
    assert run(job).failed.keys() == {cell.key for cell in job.cells}
    all_of_them = f"OutOfMemoryError: {FULL}"
    assert reasons(job) == ["OutOfMemoryError: before the others", all_of_them, all_of_them]


def test_what_the_failed_step_held_is_free_before_the_others_go_on(made, starve, monkeypatch):
    used, empty = [], torch.cuda.empty_cache

    def emptied():
        used.append(torch.cuda.memory_allocated())
        empty()

    monkeypatch.setattr(torch.cuda, "empty_cache", emptied)
    starve(2, "loss", 1)
    job = made(DEEP, FLAT)
    run(job)
    (at_the_failure,) = used
    assert at_the_failure < 40_000_000
