"""The hook that says how far a group is: seldom, and without asking the device for anything."""

import math
from types import SimpleNamespace

import pytest

from sca_bench.engine.worker.hooks import HeartbeatHook
from sca_bench.study.runs import heartbeat
from sca_bench.study.runs.heartbeat import Pulse, read_heartbeats


class Losses:
    """Losses of which only the last one that was looked at may be read."""

    def __init__(self, last):
        self.last = last

    def fault(self):
        raise AssertionError("it waits for the device")


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(s=0.0)
    time = SimpleNamespace(time=lambda: now.s, monotonic=lambda: now.s)
    monkeypatch.setattr(heartbeat, "time", time)
    return now


def test_steps_validation_and_captions_are_told(tmp_path, clock):
    Pulse(tmp_path).beat("training")
    members = [SimpleNamespace(losses=Losses(last)) for last in (1.0, 2.0, math.nan)]
    runner = SimpleNamespace(
        model=SimpleNamespace(alive=members),
        iter=0,
        max_iters=250,
        val_dataloader=[0] * 3,
        test_dataloader=[0] * 15,
    )
    hook = HeartbeatHook(SimpleNamespace(runs_dir=str(tmp_path), attempt="demo-s0"))

    def told():
        (found,) = read_heartbeats(tmp_path, "demo-s0")
        return found.phase, found.step, found.steps, found.loss

    hook.before_train(runner)
    assert told() == ("training", 0, 250, None)
    for step in range(20):
        hook.after_train_iter(runner, step)
    assert told() == ("training", 0, 250, None), "not at every step"
    clock.s += 3.0
    hook.after_train_iter(runner, 20)
    assert told() == ("training", 21, 250, 1.5)
    clock.s += 1.0
    hook.after_val_iter(runner, 0)
    assert told() == ("validating", 1, 3, None)
    clock.s += 1.0
    hook.after_test_iter(runner, 4)
    assert told() == ("captioning", 5, 15, None)
