"""What heartbeats take of a step: `pytest -m bench -s tests/bench/test_heartbeat_share.py`.

Steps of a tenth of a second, the shortest that a suite's group of three makes on a CPU core here,
with the hook and without it in turn. What differs is far below what two loops differ by anyway, so
the hook's own time is counted as well.
"""

import statistics
import time
from types import SimpleNamespace

import pytest

from sca_bench.engine.worker.hooks import HeartbeatHook
from sca_bench.study.runs import heartbeat
from sca_bench.study.runs.heartbeat import Pulse

STEP_S, STEPS, PAIRS = 0.1, 60, 3
MOST = 1e-3
"""Share of a step that heartbeats may take."""


def runner():
    members = [SimpleNamespace(losses=SimpleNamespace(last=1.0)) for _ in range(3)]
    return SimpleNamespace(model=SimpleNamespace(alive=members), max_iters=STEPS)


def a_loop(hook):
    """Return the seconds of a loop, and those of the hook in it."""
    state, took_s, began = runner(), 0.0, time.perf_counter()
    for step in range(STEPS):
        until = time.perf_counter() + STEP_S
        while time.perf_counter() < until:
            pass
        before = time.perf_counter()
        if hook is not None:
            hook.after_train_iter(state, step)
        took_s += time.perf_counter() - before
    return time.perf_counter() - began, took_s


@pytest.mark.bench
def test_heartbeats_take_less_than_a_thousandth_of_a_step(tmp_path):
    Pulse(tmp_path).beat("training")
    ratios, shares = [], []
    for pair in range(PAIRS):
        hook = HeartbeatHook(SimpleNamespace(runs_dir=str(tmp_path), attempt=f"demo-{pair}"))
        order = (hook, None) if pair % 2 else (None, hook)
        found = {one is hook: a_loop(one) for one in order}
        ratios.append(found[True][0] / found[False][0])
        shares.append(found[True][1] / found[True][0])
    ratio, share = statistics.median(ratios), statistics.median(shares)
    writes = STEPS * STEP_S / heartbeat.EVERY_S
    print(f"\nwith : without {ratio:.5f}; hook {share:.2e} of the loop, {writes:.0f} writes each")
    assert share < MOST
