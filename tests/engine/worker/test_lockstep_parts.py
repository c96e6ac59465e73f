"""The parts of lockstep by themselves, around captioners of two numbers: steps, logs, checkpoints.

What whole trainings promise is in test_lockstep_bars.py and test_group.py.
"""

import json
import math
import os
import pickle
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import ParamSchedulerHook
from mmengine.runner.priority import get_priority

from sca_bench.batch import KeptRows
from sca_bench.captioner import CastsFrozen, Decoding
from sca_bench.contract.captioners.toy import toy_batch
from sca_bench.engine.features.bank import Frozen
from sca_bench.engine.features.split_bank import sams_shapes
from sca_bench.engine.process import ToldToStop
from sca_bench.engine.worker import cell_group
from sca_bench.engine.worker import hooks as hooks_module
from sca_bench.engine.worker.cell_group import CellGroup, Member, autocast
from sca_bench.engine.worker.hooks import (
    CheckpointHook,
    LogHook,
    PruneHook,
    load_checkpoint,
    save_checkpoint,
    validation_values,
)
from sca_bench.engine.worker.mmengine_runner import build_optimiser, build_schedule
from sca_bench.engine.worker.rng import RngStream
from sca_bench.engine.worker.step_timer import StepClock
from sca_bench.errors import CellError, InputError
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.study.runs.store import checkpoint_path
from sca_bench.variants import get_variant

CPU = torch.device("cpu")


@pytest.fixture
def runner_of(tmp_path):
    """Return a function that makes what hooks read of a runner, around a group."""

    def build(group, max_iters=6):
        wrappers = {m.key: build_optimiser(m, CPU) for m in group.members}
        schedulers = {
            m.key: build_schedule(wrappers[m.key], m.settings.train) for m in group.members
        }
        return SimpleNamespace(
            model=group,
            iter=0,
            max_iters=max_iters,
            optim_wrapper=wrappers,
            param_schedulers=schedulers,
            train_loop=SimpleNamespace(stop_training=False),
        )

    return build


@pytest.fixture
def folders(tmp_path):
    made = {f"cell{n}": tmp_path / "cells" / f"cell{n}" / "seed-0" for n in range(3)}
    for folder in made.values():
        folder.mkdir(parents=True)
    return made


def log_of(folder):
    path = folder / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def numbers(group):
    return [member.captioner.numbers.tolist() for member in group.members]


# --- steps ------------------------------------------------------------------------------------


def test_each_cell_steps_in_its_own_random_stream(group_of, runner_of):
    """As if it were alone, and the outer stream stays where it is."""
    batch = toy_batch()
    together = group_of(3)
    wrappers = runner_of(together).optim_wrapper
    before = torch.get_rng_state()
    for _ in range(3):
        losses = together.train_step(batch, wrappers)
    assert torch.equal(torch.get_rng_state(), before)
    assert list(losses) == ["cell0", "cell1", "cell2"]
    assert len({tuple(pair) for pair in numbers(together)}) == 3
    for n in range(3):
        alone = group_of(3)
        for other in alone.members:
            other.error = "" if other.key == f"cell{n}" else "left"
        alone_wrappers = runner_of(alone).optim_wrapper
        for _ in range(3):
            found = alone.train_step(batch, alone_wrappers)
        assert list(found) == [f"cell{n}"]
        assert found[f"cell{n}"] == losses[f"cell{n}"]
        assert numbers(alone)[n] == numbers(together)[n]
    assert together.counters["train_steps"] == 3
    assert not any(loss.requires_grad for loss in losses.values())


def test_a_step_is_a_step_of_adamw_with_no_gradient_left(group_of, runner_of):
    """The first step of AdamW goes by the rate, whatever the gradient; decay is 1e-4 of it."""
    group = group_of(1, weight_decay=0.0)
    (member,) = group.members
    group.train_step(toy_batch(), runner_of(group).optim_wrapper)
    moved = torch.tensor(numbers(group)[0]) - torch.tensor([1.0, -2.0])
    assert moved.abs().tolist() == pytest.approx([0.1, 0.1], rel=1e-5)
    assert all(p.grad is None or not p.grad.any() for p in member.captioner.parameters())
    assert member.clock.total_s > 0
    assert member.cpu_s > 0
    assert len(group.shared_clock.seconds()) == 1


def test_a_cell_that_fails_leaves_and_the_others_go_on(group_of, runner_of):
    group = group_of(3)
    wrappers = runner_of(group).optim_wrapper
    group.members[1].captioner.fault = ValueError("two\nlines  and\tmore")
    losses = group.train_step(toy_batch(), wrappers)
    assert list(losses) == ["cell0", "cell2"]
    assert group.members[1].error == "ValueError: two lines and more"
    assert not group.members[1].pruned
    assert [member.key for member in group.alive] == ["cell0", "cell2"]
    assert list(group.train_step(toy_batch(), wrappers)) == ["cell0", "cell2"]
    assert len(group.members[1].captioner.seen) == 1
    assert group.members[1].cpu_s > 0
    group.fail(group.members[0], "x" * 501)
    assert group.members[0].error == "x" * 500
    assert all(p.grad is None for p in group.members[0].captioner.parameters())


def test_a_step_whose_features_fail_takes_all_out_and_gives_no_loss(
    group_of, runner_of, monkeypatch
):
    group = group_of(2)
    batch = replace(toy_batch(), captions=["a"] * 4)

    def with_features(data, split):
        raise RuntimeError("no features")

    monkeypatch.setattr(group, "with_features", with_features)
    assert group.train_step(batch, runner_of(group).optim_wrapper) == {}
    assert [member.error for member in group.members] == ["RuntimeError: no features"] * 2
    assert group.counters["train_steps"] == 0
    assert group.val_step(batch) == group.test_step(batch) == []


def test_on_a_processor_a_loss_that_is_not_finite_is_met_at_once(group_of, runner_of):
    group = group_of(2)
    group.members[1].captioner.fault = math.nan
    group.train_step(toy_batch(), runner_of(group).optim_wrapper)
    assert [member.key for member in group.alive] == ["cell0"]
    assert "nan at step 1, learning rate 0.1, regions wide-0, " in group.members[1].error


def test_what_goes_wrong_for_a_cell_costs_that_cell(group_of):
    group = group_of(3)
    with group.failing_alone("cell1"):
        raise OSError(28, "No space left on device")
    assert [member.key for member in group.alive] == ["cell0", "cell2"]
    assert "No space left on device" in group.members[1].error
    with group.failing_alone("cell2"):
        pass
    assert len(group.alive) == 2


def test_a_pruned_cell_has_left_without_a_fault(group_of):
    group = group_of(2)
    group.prune(group.members[0], "no  use")
    assert (group.members[0].pruned, group.members[0].error) == (True, "no use")
    assert group.alive == group.members[1:]
    with pytest.raises(TypeError, match="stepped, not called"):
        group(toy_batch())


@pytest.mark.parametrize(("precision", "mixed"), [("fp32", False), ("bf16", True)])
def test_every_loss_and_caption_is_computed_in_the_precision_of_training(
    group_of, runner_of, precision, mixed
):
    group = group_of(1, precision=precision)
    captioner = group.members[0].captioner
    batch = replace(toy_batch(), captions=["a"] * 4)
    group.train_step(batch, runner_of(group).optim_wrapper)
    with torch.no_grad():  # as the loop of a validation is
        group.val_step(batch)
    group.test_step(batch)
    assert [seen[0] for seen in captioner.seen] == [mixed] * 4
    assert captioner.seen[0][1]
    assert [grad for _, grad in captioner.seen[2:]] == [False, False]  # captions need no gradient
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(("precision", "kind"), [("bf16", "bfloat16"), ("fp16", "float16")])
def test_a_precision_has_its_own_type(precision, kind):
    with autocast(CPU, precision):
        assert torch.get_autocast_dtype("cpu") == getattr(torch, kind)
        assert torch.is_autocast_enabled("cpu")
    for whole in ("fp32", "tf32"):
        with autocast(torch.device("cpu"), whole):
            assert not torch.is_autocast_enabled("cpu")


def test_validation_gives_loss_and_captions_and_a_test_captions_alone(group_of):
    group = group_of(2)
    batch = replace(toy_batch(), captions=["a"] * 4)
    with torch.no_grad():
        rows = group.val_step(batch)
    assert [row.member for row in rows] == ["cell0"] * 4 + ["cell1"] * 4
    assert [row.prediction.region_id for row in rows] == batch.region_ids * 2
    assert {row.prediction.caption for row in rows} == {"3 7"}
    assert all(isinstance(row.loss, float) and row.loss > 0 for row in rows)
    assert len({row.loss for row in rows[:4]}) == 1
    batch = replace(batch, captions=None)
    assert {row.loss for row in group.val_step(batch)} == {None}
    assert {row.loss for row in group.test_step(batch)} == {None}
    assert len(group.test_step(batch)) == 8
    group.members[0].captioner.fault = RuntimeError("no captions")
    assert [row.member for row in group.test_step(batch)] == ["cell1"] * 4
    assert group.members[0].error == "RuntimeError: no captions"


@pytest.mark.parametrize("fault", [math.nan, math.inf])
def test_a_validation_loss_that_is_not_finite_takes_its_cell_out(group_of, fault):
    group = group_of(2)
    group.members[0].captioner.fault = fault
    batch = replace(toy_batch(), captions=["a"] * 4)
    with torch.no_grad():
        assert [row.member for row in group.val_step(batch)] == ["cell1"] * 4
    assert [member.key for member in group.alive] == ["cell1"]
    assert f"loss is {fault}" in group.members[0].error
    assert batch.region_ids[0] in group.members[0].error
    group.members[1].captioner.fault = ValueError("no loss")
    with torch.no_grad():
        assert group.val_step(batch) == []
    assert group.members[1].error == "ValueError: no loss"


@pytest.mark.parametrize("number", [1, 3])
def test_frozen_features_are_computed_once_whoever_has_left(cell_settings, number, monkeypatch):
    made = []
    monkeypatch.setattr(
        cell_group, "Frozen", lambda *given: made.append(Frozen(*given)) or made[-1]
    )
    settings, spec = cell_settings(), get_variant("sca")
    parts = spec.load_parts(settings)
    members = [
        Member(
            f"cell{n}", spec.load()(settings, parts), CellIdentity(settings, {}), RngStream(n, CPU)
        )
        for n in range(number)
    ]
    group = CellGroup(members, CPU, {}, Decoding())
    batch = replace(toy_batch(), kept=KeptRows())
    found = group.with_features(batch, "train")
    assert found.kept is None  # what a loader has read is of no more use
    first = dict(group.counters)
    (frozen,) = made
    assert (frozen.settings, frozen.bank) == (settings.features, None)
    assert frozen.shapes == sams_shapes(members[0].identity) != {}
    assert first["encoder_forwards"] == 2  # images
    assert first["sam_mixer_forwards"] > 0
    assert first["train_steps"] == 0
    assert found.image_embeddings_BChw is None
    expected = members[0].captioner.frozen_features(batch, families=spec.families(settings))
    assert torch.equal(found.features.ious_NM, expected.ious_NM)
    if number > 1:
        members[0].error = "it left"
    again = group.with_features(batch, "train")
    assert group.counters == {name: 2 * count for name, count in first.items()}
    assert torch.equal(again.features.ious_NM, expected.ious_NM)
    for member in members:
        member.error = "it left"
    assert group.with_features(batch, "train").features is None


# --- the random stream and the clock ----------------------------------------------------------


def test_a_stream_goes_on_where_it_was_also_after_a_fault():
    stream = RngStream(5, CPU)
    torch.manual_seed(5)
    expected = torch.rand(4)
    with stream.active():
        first = torch.rand(2)
    torch.rand(3)
    outer = torch.get_rng_state()
    second = torch.empty(1)
    with pytest.raises(RuntimeError), stream.active():
        torch.rand(1, out=second).view(7)  # no such shape
    assert torch.equal(torch.get_rng_state(), outer)
    with stream.active():
        third = torch.rand(1)
    assert torch.equal(torch.cat([first, second, third]), expected)
    assert set(stream.state) == {"cpu"}
    assert not torch.equal(RngStream(6, CPU).state["cpu"], RngStream(5, CPU).state["cpu"])


@pytest.mark.parametrize(
    ("seconds", "last", "median"),
    [
        ([], 0, 0.0),
        ([3.0], 0, 3.0),
        ([9.0, 1.0, 2.0], 0, 2.0),  # no more than the first few: all of them
        ([9.0] * 5, 0, 9.0),
        ([9.0] * 5 + [1.0], 0, 1.0),  # the first five are left out
        ([9.0] * 5 + [1.0, 4.0, 2.0], 0, 2.0),
        ([9.0] * 5 + [1.0, 2.0], 0, 2.0),  # of two in the middle the larger
        ([9.0, 1.0, 2.0, 7.0], 2, 7.0),
        ([9.0, 1.0, 2.0, 7.0], 3, 2.0),
        ([9.0, 1.0], 50, 9.0),
    ],
)
def test_the_median_of_steps(seconds, last, median):
    clock = StepClock()
    clock._seconds = seconds
    assert clock.median_s(last) == median
    assert clock.total_s == sum(seconds)


def test_a_clock_measures_seconds(monkeypatch):
    ticks = iter([10.0, 12.5, 20.0, 20.25])
    monkeypatch.setattr("time.perf_counter", lambda: next(ticks))
    clock = StepClock()
    for _ in range(2):
        with clock.step(CPU):
            pass
    assert clock.seconds() == [2.5, 0.25]


# --- hooks ------------------------------------------------------------------------------------


def test_values_of_a_validation_by_cell():
    found = validation_values({"a/loss": 1.23456789, "b/loss": 2, "a/exact/match": 0.5})
    assert found == {
        "a": {"val/loss": 1.234568, "val/exact/match": 0.5},
        "b": {"val/loss": 2.0},
    }
    assert validation_values(None) == validation_values({}) == {}


@pytest.mark.parametrize(
    ("every", "last", "logged"),
    [(1, 4, [1, 2, 3, 4]), (2, 5, [1, 2, 4, 5]), (3, 6, [1, 3, 6]), (9, 4, [1, 4]), (9, 1, [1])],
)
def test_the_first_step_the_last_and_every_so_many_are_logged(
    group_of, runner_of, folders, every, last, logged
):
    group = group_of(2)
    runner = runner_of(group, max_iters=last)
    hook = LogHook(folders, every)
    for index in range(last):
        losses = group.train_step(toy_batch(), runner.optim_wrapper)
        hook.after_train_iter(runner, index)
    for member in group.members:
        rows = log_of(folders[member.key])
        assert [row["step"] for row in rows] == logged
        assert rows[-1]["loss"] == round(float(losses[member.key]), 6)
        assert rows[-1]["lr"] == pytest.approx(0.1)
        assert 0 < rows[-1]["step_s"] < 5
        assert 0 <= rows[0]["elapsed_s"] <= rows[-1]["elapsed_s"] < 60
    assert not runner.train_loop.stop_training


@pytest.mark.parametrize("fault", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_takes_its_cell_out(group_of, runner_of, folders, fault):
    group = group_of(2)
    runner = runner_of(group)
    hook = LogHook(folders, 1)
    group.members[0].captioner.fault = fault
    group.train_step(toy_batch(), runner.optim_wrapper)
    hook.after_train_iter(runner, 0)
    assert [member.key for member in group.alive] == ["cell1"]
    assert "loss is" in group.members[0].error
    assert "step 1" in group.members[0].error
    assert not runner.train_loop.stop_training
    assert (len(log_of(folders["cell0"])), len(log_of(folders["cell1"]))) == (0, 1)
    group.members[1].captioner.fault = fault
    group.train_step(toy_batch(), runner.optim_wrapper)
    hook.after_train_iter(runner, 1)
    assert runner.train_loop.stop_training


def test_the_rate_that_is_logged_is_that_of_the_first_group(group_of, runner_of, folders):
    """Which is the cell's own; a trained text decoder may have another."""
    runner = runner_of(group_of(1))
    runner.model.train_step(toy_batch(), runner.optim_wrapper)
    (member,) = runner.model.members
    runner.optim_wrapper[member.key] = SimpleNamespace(get_lr=lambda: {"lr": [0.3, 0.7]})
    LogHook(folders, 1).after_train_iter(runner, 0)
    member.clock._seconds = [0.12345678]
    LogHook(folders, 1).after_train_iter(runner, 1)
    rows = log_of(folders["cell0"])
    assert [row["lr"] for row in rows] == [0.3, 0.3]
    assert rows[1]["step_s"] == 0.123457


def test_seconds_since_the_start_are_logged_to_a_thousandth(
    group_of, runner_of, folders, monkeypatch
):
    runner = runner_of(group_of(1))
    runner.model.train_step(toy_batch(), runner.optim_wrapper)
    ticks = iter([10.0, 11.23456])
    monkeypatch.setattr(hooks_module, "time", SimpleNamespace(perf_counter=lambda: next(ticks)))
    LogHook(folders, 1).after_train_iter(runner, 0)
    assert [row["elapsed_s"] for row in log_of(folders["cell0"])] == [1.235]


def test_a_step_is_logged_then_the_schedule_moves_then_it_is_kept():
    """So that the rate logged is the one used, and a checkpoint has the one that comes next."""
    order = [LogHook.priority, ParamSchedulerHook.priority, CheckpointHook.priority]
    assert order == sorted(order, key=get_priority)
    assert len({get_priority(one) for one in order}) == 3
    assert get_priority(LogHook.priority) < get_priority(PruneHook.priority)
    assert get_priority(PruneHook.priority) < get_priority(CheckpointHook.priority)


def test_a_validation_is_logged_with_its_step(group_of, runner_of, folders):
    runner = runner_of(group_of(2))
    runner.iter = 3
    metrics = {"cell0/loss": 0.25, "cell1/loss": 0.5, "cell1/exact_match": 1.0}
    LogHook(folders, 1).after_val_epoch(runner, metrics)
    assert log_of(folders["cell0"]) == [{"step": 3, "val/loss": 0.25}]
    assert log_of(folders["cell1"]) == [{"step": 3, "val/loss": 0.5, "val/exact_match": 1.0}]
    LogHook(folders, 1).after_val_epoch(runner, {"cell0/loss": 0.125})
    assert log_of(folders["cell0"])[1:] == [{"step": 3, "val/loss": 0.125}]
    assert log_of(folders["cell1"])[1:] == [{"step": 3}]
    assert not runner.train_loop.stop_training


def test_what_is_pruned_leaves_after_a_validation_but_not_the_last(
    group_of, runner_of, tmp_path, monkeypatch
):
    asked = []

    def answer(folder, step, values):
        asked.append((folder, step, values))
        return {"cell1": "no use", "stranger": "not here"}

    monkeypatch.setattr("sca_bench.engine.worker.hooks.ask_pruner", answer)
    group = group_of(2)
    runner, hook = runner_of(group, max_iters=6), PruneHook(tmp_path)
    for step in (6, 7):
        runner.iter = step
        hook.after_val_epoch(runner, {"cell0/loss": 1.0})
    assert asked == []
    runner.iter = 5
    hook.after_val_epoch(runner, {"cell0/loss": 1.0, "cell1/loss": 2.0})
    assert asked == [(tmp_path, 5, {"cell0": {"val/loss": 1.0}, "cell1": {"val/loss": 2.0}})]
    assert [member.key for member in group.alive] == ["cell0"]
    assert group.members[1].pruned
    assert not runner.train_loop.stop_training
    monkeypatch.setattr(
        "sca_bench.engine.worker.hooks.ask_pruner", lambda *_: {"cell0": "nor this one"}
    )
    hook.after_val_epoch(runner, {"cell0/loss": 1.0})
    assert group.alive == []
    assert runner.train_loop.stop_training


@pytest.mark.parametrize(
    ("every", "last", "kept"), [(2, 6, 4), (2, 5, 4), (3, 6, 3), (6, 6, None), (1, 4, 3)]
)
def test_a_checkpoint_every_so_many_steps_but_none_of_the_last(
    group_of, runner_of, folders, every, last, kept
):
    """Only the newest one stays."""
    group = group_of(1)
    runner, hook = runner_of(group, max_iters=last), CheckpointHook(folders, every, 0)
    for index in range(last):
        group.train_step(toy_batch(), runner.optim_wrapper)
        hook.after_train_iter(runner, index)
    found = sorted(path.name for path in folders["cell0"].glob("*") if "checkpoint" in path.name)
    expected = [] if kept is None else [checkpoint_path(folders["cell0"], kept).name]
    assert found == expected
    if kept is not None:
        content = load_checkpoint(checkpoint_path(folders["cell0"], kept))
        assert (content["step"], content["run"]) == (kept, "cell0")
        assert content["cpu_s"] > 0


def test_a_cell_goes_on_from_its_checkpoint_as_if_it_had_not_stopped(group_of, runner_of, folders):
    """Weights, moments, schedule, random stream and CPU seconds."""

    def steps(group, runner, first, last, hook=None):
        for index in range(first, last):
            group.train_step(toy_batch(), runner.optim_wrapper)
            for parts in runner.param_schedulers.values():
                for part in parts:
                    part.step()
            if hook:
                hook.after_train_iter(runner, index)

    whole = group_of(2)
    runner = runner_of(whole)
    steps(whole, runner, 0, 3, CheckpointHook(folders, 3, 0))
    cpu_s = [load_checkpoint(checkpoint_path(folders[m.key], 3))["cpu_s"] for m in whole.members]
    steps(whole, runner, 3, 6)
    again = group_of(2)
    again_runner = runner_of(again)
    CheckpointHook(folders, 3, 3).before_train(again_runner)
    assert [member.cpu_s for member in again.members] == cpu_s
    assert not again_runner.train_loop.stop_training
    steps(again, again_runner, 3, 6)
    assert numbers(again) == numbers(whole)
    for one, other in zip(again.members, whole.members, strict=True):
        assert torch.equal(one.rng.state["cpu"], other.rng.state["cpu"])
        rates = [r.optim_wrapper[one.key].get_lr()["lr"] for r in (again_runner, runner)]
        assert rates[0] == rates[1]


def test_a_cell_without_its_own_checkpoint_leaves_with_its_schedule(group_of, runner_of, folders):
    group = group_of(3)
    runner, hook = runner_of(group), CheckpointHook(folders, 2, 0)
    hook.before_train(runner)  # a fresh start reads nothing
    assert len(group.alive) == 3
    group.train_step(toy_batch(), runner.optim_wrapper)
    hook.after_train_iter(runner, 1)
    path = checkpoint_path(folders["cell1"], 2)
    path.unlink()
    content = torch.load(checkpoint_path(folders["cell2"], 2), weights_only=True)
    torch.save({**content, "run": "another"}, checkpoint_path(folders["cell2"], 2))
    resumed = group_of(3)
    runner = runner_of(resumed)
    CheckpointHook(folders, 2, 2).before_train(runner)
    assert [member.key for member in resumed.alive] == ["cell0"]
    assert list(runner.param_schedulers) == ["cell0"]
    assert not runner.train_loop.stop_training
    assert "another" in resumed.members[2].error
    checkpoint_path(folders["cell0"], 2).unlink()
    nobody = group_of(3)
    runner = runner_of(nobody)
    CheckpointHook(folders, 2, 2).before_train(runner)
    assert nobody.alive == []
    assert runner.param_schedulers == {}
    assert runner.train_loop.stop_training


@pytest.mark.parametrize("told", [False, True])
def test_a_process_that_is_told_to_end_leaves_its_loops(
    group_of, runner_of, folders, monkeypatch, told
):
    monkeypatch.setattr("sca_bench.engine.worker.hooks.is_told_to_stop", lambda: told)
    group = group_of(1)
    runner, hook = runner_of(group, max_iters=4), CheckpointHook(folders, 2, 0)
    runner.iter = 3
    group.train_step(toy_batch(), runner.optim_wrapper)
    for leave, step in ((hook.after_train_iter, 2), (hook.after_val_iter, 3)):
        if told:
            with pytest.raises(ToldToStop) as caught:
                leave(runner, 1)
            assert caught.value.args == (step,)
        else:
            leave(runner, 1)
    assert checkpoint_path(folders["cell0"], 2).exists() != told


def test_a_cell_whose_files_cannot_be_written_leaves_alone(group_of, runner_of, folders):
    """Its log, then its checkpoint; where nobody is left, the loop ends."""
    group = group_of(2)
    runner = runner_of(group, max_iters=9)
    group.train_step(toy_batch(), runner.optim_wrapper)
    (folders["cell0"] / "log.jsonl").mkdir()
    LogHook(folders, 1).after_train_iter(runner, 0)
    assert [member.key for member in group.alive] == ["cell1"]
    assert group.members[0].error.startswith("IsADirectoryError: ")
    assert not runner.train_loop.stop_training
    checkpoint_path(folders["cell1"], 1).mkdir()
    CheckpointHook(folders, 1, 0).save(runner, 1)
    assert group.alive == []
    assert runner.train_loop.stop_training


def test_nothing_is_asked_where_nobody_is_left_or_nothing_is_known(
    group_of, runner_of, tmp_path, monkeypatch
):
    asked = []
    monkeypatch.setattr(
        "sca_bench.engine.worker.hooks.ask_pruner", lambda *given: asked.append(given) or {}
    )
    group = group_of(2)
    runner, hook = runner_of(group), PruneHook(tmp_path)
    hook.after_val_epoch(runner, {"cell1/loss": 2.0})
    assert asked == [(tmp_path, 0, {"cell1": {"val/loss": 2.0}})]
    for member in group.members:
        member.error = "it left"
    hook.after_val_epoch(runner, {"cell1/loss": 2.0})
    LogHook({}, 1).after_val_epoch(runner, {"cell1/loss": 2.0})
    assert len(asked) == 1
    assert runner.train_loop.stop_training


def test_a_group_is_a_module_that_holds_its_captioners(group_of):
    """So that whoever moves or looks through the group's modules meets them."""
    group = group_of(2)
    assert list(group.parts) == [member.captioner for member in group.members]
    own = {id(member.captioner.numbers) for member in group.members}
    assert {id(parameter) for parameter in group.parameters()} == own
    with pytest.raises(TypeError, match="is stepped, not called"):
        group(toy_batch())
    assert (group.captioning, group.frozen_threads, group.precision) == ("captioned", 0, "fp32")
    assert group.counters == {"train_steps": 0, "encoder_forwards": 0, "sam_mixer_forwards": 0}


def test_a_cell_that_leaves_gives_its_gradients_back(group_of):
    group = group_of(2)
    for member in group.members:
        member.captioner.numbers.grad = torch.ones(2)
    group.fail(group.members[0], "x" * 600 + "\n y")
    assert group.members[0].error == "x" * 500
    assert group.members[0].captioner.numbers.grad is None
    assert group.members[1].captioner.numbers.grad is not None


@pytest.mark.parametrize(("said", "kept"), [("", True), ("{tmp}", True), ("/opt/code", False)])
def test_compiled_code_lies_where_it_is_found_again_unless_the_user_says_where(
    monkeypatch, tmp_path, said, kept
):
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(cell_group.scratch, "lasting", lambda: tmp_path / "lasting")
    name = "TORCHINDUCTOR_CACHE_DIR"
    monkeypatch.setenv(name, said.format(tmp=tmp_path / "torch"))
    cell_group._keep_compiled_code()
    own = str(tmp_path / "lasting" / f"torchinductor_{os.getuid()}")
    assert os.environ[name] == (own if kept else "/opt/code")
    monkeypatch.delenv(name)
    cell_group._keep_compiled_code()
    assert os.environ[name] == own


def test_a_checkpoint_of_another_cell_is_not_put_back(group_of, runner_of, folders):
    group = group_of(1)
    runner = runner_of(group)
    group.train_step(toy_batch(), runner.optim_wrapper)
    CheckpointHook(folders, 2, 0).save(runner, 2)
    own, other = (checkpoint_path(folders[f"cell{n}"], 2) for n in (0, 1))
    assert load_checkpoint(own)["step"] == 2
    other.write_bytes(own.read_bytes())
    with pytest.raises(CellError, match=r"is a checkpoint of cell0/seed-0, not of cell1/seed-0"):
        load_checkpoint(other)
    assert not other.exists()
    assert own.exists()


@pytest.mark.parametrize("compiles", [False, True])
def test_blocks_are_compiled_where_the_settings_say_so(
    cell_settings, group_of, monkeypatch, compiles
):
    kept, compiled = [], []
    monkeypatch.setattr(cell_group, "_keep_compiled_code", lambda: kept.append(1))
    members = group_of(3).members
    for member in members[:2]:  # the third one has no such blocks
        member.captioner.compile_blocks = lambda key=member.key: compiled.append(key)
    settings = cell_settings({"runtime": {"compile": compiles}})
    for member in members:
        member.identity = CellIdentity(settings, {})
    CellGroup(members, CPU, {}, Decoding())
    assert len(kept) == compiles
    assert compiled == (["cell0", "cell1"] if compiles else [])


def test_a_stream_on_a_gpu_holds_both_generators(monkeypatch):
    """As torch's own functions would be called; there need be no GPU."""
    states = {"now": 5}

    def write(state, device):
        assert device == torch.device("cuda:1")
        states["now"] = state

    monkeypatch.setattr(torch, "manual_seed", lambda seed: states.update(now=seed))
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: states["now"])
    monkeypatch.setattr(torch.cuda, "set_rng_state", write)
    stream = RngStream(7, torch.device("cuda:1"))
    assert stream.state["cuda"] == 7
    assert states["now"] == 5
    with stream.active():
        assert states["now"] == 7
        states["now"] = 8
    assert (states["now"], stream.state["cuda"]) == (5, 8)
    assert set(stream.state) == {"cpu", "cuda"}


def test_a_checkpoint_of_older_code_that_names_no_run_is_put_back(group_of, runner_of, folders):
    group = group_of(1)
    runner = runner_of(group)
    group.train_step(toy_batch(), runner.optim_wrapper)
    CheckpointHook(folders, 2, 0).save(runner, 2)
    path = checkpoint_path(folders["cell0"], 2)
    content = load_checkpoint(path)
    del content["run"]
    torch.save(content, path)
    again = group_of(1)
    CheckpointHook(folders, 2, 2).before_train(runner_of(again))
    assert again.members[0].error == ""
    assert numbers(again) == numbers(group)
    assert again.members[0].losses.step == 2


@pytest.mark.parametrize("fault", [pickle.UnpicklingError("odd"), EOFError(), ValueError("odd")])
def test_a_checkpoint_of_older_code_that_is_none_is_set_aside(
    group_of, runner_of, folders, monkeypatch, fault
):
    """What torch cannot read of one without a seal was damaged; a sealed one is whole."""

    def load(*_, **more):
        raise fault

    group = group_of(1)
    CheckpointHook(folders, 2, 0).save(runner_of(group), 2)
    path = checkpoint_path(folders["cell0"], 2)
    content = load_checkpoint(path)
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(CellError, match=f"cannot be read \\({type(fault).__name__}"):
        load_checkpoint(path)
    assert path.exists()
    torch.save(content, path)
    with pytest.raises(CellError, match=rf"damaged: no checkpoint \({type(fault).__name__}\); set"):
        load_checkpoint(path)
    assert not path.exists()


def test_what_the_disk_says_of_a_checkpoint_is_not_covered_by_torch(monkeypatch, folders):
    path = checkpoint_path(folders["cell0"], 2)

    def full(content, handle):
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904 - as torch's writer does

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left on device"):
        save_checkpoint(path, {})

    def broken(content, handle):
        raise RuntimeError("of torch itself")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(RuntimeError, match="of torch itself"):
        save_checkpoint(path, {})
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(("device", "emptied"), [("cpu", 0), ("cuda", 1)])
def test_what_a_cell_held_on_a_gpu_is_freed_when_it_leaves(group_of, monkeypatch, device, emptied):
    calls = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append(1))
    group = group_of(1)
    group.device_ = torch.device(device)
    group.fail(group.members[0], "it left")
    assert len(calls) == emptied


@pytest.mark.parametrize(("precision", "kind"), [("bf16", "bfloat16"), ("fp32", None)])
def test_what_is_frozen_is_cast_where_a_captioner_can_and_training_is_mixed(
    group_of, precision, kind
):
    members = group_of(2).members
    cast, able = [], members[1].captioner
    able.frozen_features, able.cast_frozen = print, cast.append
    assert [isinstance(m.captioner, CastsFrozen) for m in members] == [False, True]
    cell_group.cast_frozen(members, precision)
    assert cast == ([getattr(torch, kind)] if kind else [])


@pytest.mark.parametrize("fault", [InputError("a", "b", "c"), CellError("damaged")])
def test_what_the_user_or_the_next_attempt_puts_right_takes_nobody_out(
    group_of, monkeypatch, fault
):
    def with_features(data, split):
        raise fault

    group = group_of(2)
    monkeypatch.setattr(group, "with_features", with_features)
    for step in (lambda batch: group.train_step(batch, {}), group.val_step, group.test_step):
        with pytest.raises(type(fault)):
            step(toy_batch())
    assert len(group.alive) == 2


def test_features_that_are_kept_are_taken_and_none_is_computed(group_of):
    group, batch = group_of(1), replace(toy_batch(), kept=KeptRows())
    asked = []
    bank = SimpleNamespace(features=lambda given: asked.append(given.kept) or "features")
    group.banks = {"train": bank}
    found = group.with_features(batch, "train")
    assert (found.features, found.kept, found.region_ids) == ("features", None, batch.region_ids)
    assert asked == [batch.kept]
    assert group.with_features(batch, "val").features is None
    assert group.counters["encoder_forwards"] == 0
