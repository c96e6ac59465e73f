"""The loop around the steps, and how a worker asks which cells go no further."""

import json
import threading
import time
from types import SimpleNamespace

import pytest
from torch.utils.data import DataLoader

from sca_bench.engine.worker.mmengine_runner import SeekingTrainLoop
from sca_bench.engine.worker.pruning import answer_request, ask_pruner


class Runner:
    """What the loop calls, written down."""

    def __init__(self, validates=True, stops_at=None):
        self.seen, self.stops_at = [], stops_at
        self.optim_wrapper = None
        self.visualizer = SimpleNamespace(dataset_meta=None)
        self.model = SimpleNamespace(train=lambda: None, train_step=self.step)
        self.val_loop = SimpleNamespace(run=lambda: self.seen.append("val")) if validates else None

    def call_hook(self, name, **more):
        if name in ("before_train", "after_train", "before_train_epoch", "after_train_epoch"):
            self.seen.append(name)
        if name == "before_train" and self.stops_at == 0:
            self.loop.stop_training = True

    def step(self, batch, optim_wrapper):
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


def test_nothing_is_answered_where_nothing_is_asked(tmp_path):
    (tmp_path / "job.json").write_text("{}")
    answer_request(tmp_path, lambda step, values: pytest.fail("nobody asked"))
    assert [path.name for path in tmp_path.iterdir()] == ["job.json"]
