"""The loop around the steps, and how a worker asks which cells go no further."""

import json
import logging
import multiprocessing
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModule
from torch.utils.data import DataLoader

from sca_bench.contract.captioners.toy import toy_batch
from sca_bench.engine.process import ToldToStop
from sca_bench.engine.worker.hooks import LogHook
from sca_bench.engine.worker.mmengine_runner import SeekingTrainLoop, build_runner
from sca_bench.engine.worker.pruning import answer_request, ask_pruner
from sca_bench.study.keys.cell import CellIdentity


class Runner:
    """What the loop calls, written down."""

    def __init__(self, validates=True, stops_at=None):
        self.seen, self.stops_at = [], stops_at
        self.optim_wrapper = None
        self.visualizer = SimpleNamespace(dataset_meta=None)
        self.trains = False
        self.model = SimpleNamespace(train=self.train, train_step=self.step)
        self.val_loop = SimpleNamespace(run=lambda: self.seen.append("val")) if validates else None

    def call_hook(self, name, **more):
        if name in ("before_train", "after_train", "before_train_epoch", "after_train_epoch"):
            self.seen.append(name)
        if name == "before_train" and self.stops_at == 0:
            self.loop.stop_training = True

    def train(self):
        self.trains = True

    def step(self, batch, optim_wrapper):
        assert self.trains, "a validation may have left the model in its other mode"
        self.trains = False
        number = batch.tolist()[0]
        self.seen.append(number)
        if number == self.stops_at:
            self.loop.stop_training = True


def run(start, steps, val_every, **more):
    """Run a loop whose data are the numbers of its steps; return what it did, hooks left out."""
    runner = Runner(**more)
    data = DataLoader(list(range(start + 1, steps + 1)) or [0])
    loop = SeekingTrainLoop(runner, data, max_iters=steps, val_interval=val_every, start=start)
    runner.loop = loop
    assert loop.run() is runner.model
    assert runner.seen[:2] == ["before_train", "before_train_epoch"]
    assert runner.seen[-2:] == ["after_train_epoch", "after_train"]
    return runner.seen[2:-2]


@pytest.mark.parametrize(
    ("start", "steps", "val_every", "seen"),
    [
        (0, 4, 2, [1, 2, "val", 3, 4, "val"]),
        (0, 5, 2, [1, 2, "val", 3, 4, "val", 5, "val"]),  # the last step is always validated
        (0, 2, 9, [1, 2, "val"]),
        (0, 1, 1, [1, "val"]),
        (2, 4, 2, ["val", 3, 4, "val"]),  # a checkpoint is older than the validation of its step
        (3, 5, 2, [4, "val", 5, "val"]),
        (1, 2, 1, ["val", 2, "val"]),
        (4, 4, 2, ["val"]),
        (0, 0, 2, []),
    ],
)
def test_steps_and_validations(start, steps, val_every, seen):
    assert run(start, steps, val_every) == seen
    steps_alone = [one for one in seen if one != "val"]
    assert run(start, steps, val_every, validates=False) == steps_alone


def test_nothing_is_validated_or_trained_once_no_cell_is_left():
    assert run(0, 6, 2, stops_at=2) == [1, 2]
    assert run(0, 6, 2, stops_at=3) == [1, 2, "val", 3]
    assert run(2, 6, 2, stops_at=0) == []
    assert run(0, 6, 6, stops_at=6) == [1, 2, 3, 4, 5, 6]


def test_a_loop_starts_at_the_beginning_by_default():
    runner = Runner()
    loop = SeekingTrainLoop(runner, DataLoader([1, 2]), max_iters=2, val_interval=2)
    runner.loop = loop
    loop.run()
    assert runner.seen[2:-2] == [1, 2, "val"]
    assert loop.iter == 2


def test_a_worker_waits_for_the_answer_to_its_own_question(tmp_path):
    values, asked = {"one": {"val/loss": 0.5}}, []

    def pruner(step, given):
        asked.append((step, given))
        return {"one": f"after {step}"}

    def parent():
        while len(asked) < 2:
            answer_request(tmp_path, pruner)
            time.sleep(0.005)

    answering = threading.Thread(target=parent)
    answering.start()
    assert ask_pruner(tmp_path, 3, values) == {"one": "after 3"}
    assert ask_pruner(tmp_path, 12, values) == {"one": "after 12"}
    answering.join()
    assert asked == [(3, values), (12, values)]
    answer_request(tmp_path, pruner)  # both are answered already
    assert len(asked) == 2
    kept = {path.name: json.loads(path.read_text()) for path in tmp_path.iterdir()}
    assert kept["leaving-3.json"] == {"one": "after 3"}
    assert kept["validated-12.json"] == values


def test_a_worker_that_is_told_to_end_waits_for_no_answer(tmp_path, monkeypatch):
    told = iter([False, False, True])
    monkeypatch.setattr("sca_bench.engine.worker.pruning.is_told_to_stop", lambda: next(told))
    with pytest.raises(ToldToStop) as caught:
        ask_pruner(tmp_path, 3, {"one": {"val/loss": 0.5}})
    assert caught.value.args == (3,)
    assert list(told) == []
    assert [path.name for path in tmp_path.iterdir()] == ["validated-3.json"]


def test_questions_are_answered_in_order(tmp_path):
    asked = []
    for step in (4, 12, 8):
        (tmp_path / f"validated-{step}.json").write_text(json.dumps({"one": {"step": step}}))
    (tmp_path / "leaving-4.json").write_text("{}")
    answer_request(tmp_path, lambda step, values: asked.append((step, values)) or {"one": "x"})
    assert sorted(asked) == [(8, {"one": {"step": 8}}), (12, {"one": {"step": 12}})]
    assert json.loads((tmp_path / "leaving-12.json").read_text()) == {"one": "x"}
    assert (tmp_path / "leaving-4.json").read_text() == "{}"


def test_nothing_is_answered_where_nothing_is_asked(tmp_path):
    (tmp_path / "job.json").write_text("{}")
    answer_request(tmp_path, lambda step, values: pytest.fail("nobody asked"))
    assert [path.name for path in tmp_path.iterdir()] == ["job.json"]


class Counted(BaseMetric):
    """How many rows the loop brings, and of which members."""

    def __init__(self):
        super().__init__()
        self.rounds = []

    def process(self, data_batch, data_samples):
        if not self.results:
            self.rounds.append([])
        self.rounds[-1] += [row.member for row in data_samples]
        self.results.append(len(data_samples))

    def compute_metrics(self, results):
        rows = self.rounds[-1]
        return {f"{member}/rows": float(rows.count(member)) for member in set(rows)}


class Seen(Hook):
    """What rates every step uses."""

    priority = "NORMAL"  # before the schedule moves on

    def __init__(self):
        self.rates = []

    def after_train_iter(self, runner, batch_idx, **_):
        wrappers = runner.optim_wrapper
        self.rates.append([wrappers[m.key].get_lr()["lr"][0] for m in runner.model.members])


@pytest.fixture
def runner_of(tmp_path):
    """Return a function that builds the runner of a group around made-up loaders."""

    def build(group, name, hooks, start=0, trains=True, validates=True):
        batches = [replace(toy_batch(seed=seed), captions=["a"] * 4) for seed in range(9)]
        loader = DataLoader(batches, batch_size=1, collate_fn=lambda items: items[0])
        evaluated = DataLoader(batches[:2], batch_size=1, collate_fn=lambda items: items[0])
        val, test = Counted(), Counted()
        runner = build_runner(
            group,
            name=name,
            work_dir=tmp_path / "work",
            seed=3,
            train_loader=loader if trains else None,
            val_loader=evaluated if validates else None,
            test_loader=evaluated,
            val_metric=val,
            test_metric=test,
            hooks=hooks,
            start=start,
        )
        return runner, val, test

    return build


def test_a_runner_takes_every_member_through_its_own_schedule(group_of, runner_of, tmp_path):
    """Steps, validations, logs and captions of two cells, one of which has another rate."""
    group = group_of(2, steps=4, warmup_steps=2, val_every=2)
    slow = group.members[1]
    settings = slow.settings.model_copy(
        update={"train": slow.settings.train.model_copy(update={"learning_rate": 0.01})}
    )
    slow.identity = CellIdentity(settings, {})
    folders = {member.key: tmp_path / member.key for member in group.members}
    for folder in folders.values():
        folder.mkdir()
    seen = Seen()
    before = [member.captioner.numbers.tolist() for member in group.members]
    random_state = torch.get_rng_state()
    runner, val, test = runner_of(group, "whole", [LogHook(folders, 1), seen])
    assert runner.model is group
    runner.train()
    factors = [0.5, 1.0, 1.0, 0.5]
    assert seen.rates == [pytest.approx([0.1 * f, 0.01 * f]) for f in factors]
    assert val.rounds == [(["cell0"] * 4 + ["cell1"] * 4) * 2] * 2
    assert test.rounds == []
    for member in group.members:
        text = (folders[member.key] / "log.jsonl").read_text(encoding="utf-8")
        rows = [json.loads(line) for line in text.splitlines()]
        assert [row["step"] for row in rows] == [1, 2, 2, 3, 4, 4]
        assert [row.get("val/rows") for row in rows] == [None, None, 8.0, None, None, 8.0]
        assert member.captioner.numbers.tolist() != before.pop(0)
    runner.test()
    assert test.rounds == [(["cell0"] * 4 + ["cell1"] * 4) * 2]
    assert group.counters["train_steps"] == 4
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".pth", ".py", ".yaml")]
    assert torch.is_grad_enabled()
    torch.set_rng_state(random_state)


def test_no_weight_is_read_back_before_the_first_step(group_of, runner_of, monkeypatch):
    """mmengine takes each parameter's mean twice to say which ones it initialised: none here."""
    monkeypatch.setattr(BaseModule, "init_weights", lambda self: pytest.fail("read back"))
    group = group_of(1, steps=1)
    runner_of(group, "unread", [], validates=False)[0].train()
    assert group.counters["train_steps"] == 1


def test_a_runner_goes_on_from_a_step_and_does_without_validation(group_of, runner_of):
    group = group_of(1, steps=5, val_every=2)
    runner, val, _ = runner_of(group, "resumed", [], start=3, validates=False)
    runner.train()
    assert group.counters["train_steps"] == 2
    assert val.rounds == []


def test_a_runner_that_only_captions_needs_no_optimiser(group_of, runner_of):
    group = group_of(2)
    before = [member.captioner.numbers.tolist() for member in group.members]
    runner, _, test = runner_of(group, "captions", [], trains=False)
    runner.test()
    assert len(test.rounds[0]) == 16
    assert runner.optim_wrapper is None
    assert min(handler.level for handler in runner.logger.handlers) == logging.WARNING
    assert [member.captioner.numbers.tolist() for member in group.members] == before


def test_an_evaluation_calls_what_mmengine_s_own_calls_in_its_order(group_of, runner_of):
    """Also the hooks of an epoch, which hooks of others may wait for."""
    group = group_of(1, steps=1)
    runner, *_ = runner_of(group, "hooks", [])
    seen = []
    runner.call_hook = lambda name, **more: seen.append(name)
    for name in ("test", "val"):
        getattr(runner, f"{name}_loop").run()
        rounds = [f"before_{name}_iter", f"after_{name}_iter"] * 2
        assert seen[:2] == [f"before_{name}", f"before_{name}_epoch"]
        assert seen[2:] == [*rounds, f"after_{name}_epoch", f"after_{name}"]
        seen.clear()


def test_a_runner_leaves_how_processes_start_as_it_is(group_of, runner_of):
    """mmengine sets it to `fork` where nothing is said, for the whole process."""
    before = multiprocessing.get_start_method(allow_none=True)
    try:
        for way in ("spawn", "forkserver"):
            multiprocessing.set_start_method(way, force=True)
            runner_of(group_of(1), f"started by {way}", [], trains=False)
            assert multiprocessing.get_start_method() == way
    finally:
        multiprocessing.set_start_method(before, force=True)
