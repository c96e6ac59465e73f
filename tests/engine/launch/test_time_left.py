"""How long a run still takes, from made-up paces and costs."""

from types import SimpleNamespace

import pytest

from sca_bench.engine.launch.progress import eta_text
from sca_bench.engine.launch.time_left import Running, pace, seconds_left
from sca_bench.study.plan.plan import START_COST


def group(step_cost, steps, captions=0.0):
    cost = START_COST + steps * step_cost + captions
    return SimpleNamespace(cost=cost, steps=steps, step_cost=step_cost)


def rows(*pairs):
    return [{"step": step, "elapsed_s": elapsed_s, "loss": 1.0} for step, elapsed_s in pairs]


def test_the_pace_leaves_out_what_came_before_the_first_step():
    assert pace([]) is None
    assert pace(rows((1, 9.0))) is None
    assert pace([*rows((1, 9.0), (21, 19.0)), {"step": 20, "val/loss": 1.0}]) == 0.5
    assert pace(rows((1, 1.0), (41, 80.0), (51, 0.5))) is None, "of a process before"
    assert pace(rows((1, 1.0), (41, 80.0), (51, 0.5), (61, 10.5))) == 1.0


def test_the_first_estimate_of_the_main_job_is_right():
    """Three seeds on two workers, the third cut in two; it said 14 minutes where 7 were left."""
    whole, half = group(10.3, 250, 150), group(5.3, 250, 75)
    at_work = [Running(whole, 15.0, 20, 250, 0.515)] * 2
    left = seconds_left(at_work, [half, half], [], 2)
    real = 230 * 0.515 + 150 * 0.05 + half.cost * 0.05
    assert left == pytest.approx(real)
    assert seconds_left([Running(whole, 15.0, 1, 250)], [half], [], 2) is None, "too early"


def test_groups_that_have_ended_and_have_just_begun_count():
    whole = group(10.0, 100)
    known = seconds_left([Running(whole, 30.0)], [], [(whole, 110.0)], 2)
    assert known == pytest.approx(80.0)
    assert seconds_left([Running(whole, 500.0)], [], [(whole, 110.0)], 2) == 0.0
    assert seconds_left([], [whole] * 3, [(whole, 110.0)], 2) == pytest.approx(220.0)
    steps_done = Running(whole, 100.0, 100, 100, 1.0)
    assert seconds_left([steps_done], [whole], [], 1) == pytest.approx(110.0)


def test_the_words_of_it():
    assert eta_text(0.12, None) == "12 %"
    assert eta_text(0.12, 61.0) == "12 %, 61 s left"
    assert eta_text(0.5, 200.0) == "50 %, about 3 min left"
