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
}
DEEP, FLAT = {"mixer.num_layers": 2}, {"train.learning_rate": 0.003}
PRECISIONS = ("fp32", "fp16")
AGAIN = {"mixer.gradient_checkpointing": True, "text_decoder.gradient_checkpointing": True}
FULL = "CUDA out of memory. Tried to allocate 7.00 GiB"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("promises")


@pytest.fixture
def made(device_kind, folder, request):
    """Return a function: changes, one a cell -> the job of their group on the device.

    Frozen features are kept once for all tests of a device; no runs folder is used twice, but by
    name.
    """
    always = {
        **STEPS,
        "runtime.cache_dir": str(folder / f"{device_kind}-features"),
        "runtime.deterministic": device_kind == "cuda",
    }

    def job(*changes, runs=None):
        cells = [smallest("sca", folder / "files", always, change) for change in changes]
        runs = folder / (runs or f"{request.node.name}-{next(RUNS)}")
        return job_of(cells, runs, "cuda")

    with make_believe(device_kind):
        yield job


RUNS, _DONE = itertools.count(), {}


def done(made, kind, *changes):
    """Return what is left of each cell of a group that nothing happens to, run once a device."""
    key = kind, str(changes)
    if key not in _DONE:
        job = made(*changes)
        assert not run(job).failed
        _DONE[key] = results(job)
    return _DONE[key]


def assert_same(one, other):
    assert (one.record.status, one.record.error) == ("done", "")
    assert one.captions == other.captions
    assert one.losses == other.losses
    assert one.weights.keys() == other.weights.keys()
    same = {name: torch.equal(one.weights[name], other.weights[name]) for name in one.weights}
    assert all(same.values()), same


def pair(precision):
    return [{**cell, "train.precision": precision} for cell in (DEEP, FLAT)]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_cell_in_a_group_equals_the_cell_alone(made, device_kind, precision):
    together = done(made, device_kind, *pair(precision))
    for ran, cell in zip(together, pair(precision), strict=True):
        assert_same(ran, done(made, device_kind, cell)[0])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_killed_and_resumed_equals_straight_through(made, device_kind, precision, monkeypatch):
    after, runs = hooks.LogHook.after_train_iter, f"{device_kind}-{precision}-broken"

    def die(self, runner, batch_idx, **rest):
        after(self, runner, batch_idx, **rest)
        if batch_idx == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(hooks.LogHook, "after_train_iter", die)
        with pytest.raises(KeyboardInterrupt):
            run(made(*pair(precision), runs=runs))
    resumed = made(*pair(precision), runs=runs)
    run(resumed)
    straight = done(made, device_kind, *pair(precision))
    for one, other in zip(results(resumed), straight, strict=True):
        assert one.record.provenance["resumed_at_step"] == 2
        assert_same(one, other)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_activations_computed_again_change_nothing(made, device_kind, precision):
    again = made(*({**cell, **AGAIN} for cell in pair(precision)))
    run(again)
    for one, other in zip(results(again), done(made, device_kind, *pair(precision)), strict=True):
        assert_same(one, other)


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
def test_memory_that_gives_out_costs_one_cell_and_is_its_reason(made, device_kind, starve, place):
    (alone,) = done(made, device_kind, {**FLAT, "train.precision": "fp32"})
    starve(2, *PLACES[place])
    job = made(DEEP, FLAT)
    outcome = run(job)
    assert outcome.failed == {job.cells[0].key: f"OutOfMemoryError: {FULL}"}
    deep, flat = results(job)
    assert (deep.record.status, deep.record.error) == ("failed", f"OutOfMemoryError: {FULL}")
    assert_same(flat, alone)


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
    job = made(DEEP, FLAT, {})
    assert run(job).failed.keys() == {cell.key for cell in job.cells}
    all_of_them = f"OutOfMemoryError: {FULL}"
    assert reasons(job) == ["OutOfMemoryError: before the others", all_of_them, all_of_them]


def test_what_the_failed_step_held_is_free_before_the_others_go_on(made, starve, monkeypatch):
    used, empty = [], torch.cuda.empty_cache

    def emptied():
        used.append(torch.cuda.memory_allocated())
        empty()

    monkeypatch.setattr(torch.cuda, "empty_cache", emptied)
    starve(2, "loss", 2)
    run(made(DEEP, FLAT))
    (at_the_failure,) = used
    assert at_the_failure < 40_000_000
