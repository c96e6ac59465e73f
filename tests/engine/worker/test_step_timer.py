"""Step times on CUDA: read late, and never more events than a few hundred at once."""

import pytest
import torch

from sca_bench.engine.worker.step_timer import StepClock


@pytest.fixture
def waits(monkeypatch):
    """Events of one second that say, in order, which of them was waited for."""
    seen = []

    class Event:
        def __init__(self, enable_timing):
            self.enabled = enable_timing

        def record(self):
            pass

        def synchronize(self):
            seen.append(self)

        def elapsed_time(self, other):
            return 1000.0

    monkeypatch.setattr(torch.cuda, "Event", Event)
    return seen


def test_events_do_not_pile_up_and_the_newest_are_not_waited_for(waits):
    clock, waiting = StepClock(), []
    for number in range(1, 2001):
        with clock.step(torch.device("cuda")):
            pass
        assert number - len(waits) <= 512
        assert number - len(waits) >= min(number, 256)
        waiting.append(number - len(waits))
    assert max(waiting) == 512
    assert min(waiting[512:]) == 257
    assert clock.total_s == 2000
    assert len(waits) == 2000
    assert clock.median_s() == 1.0


def test_a_processor_s_steps_are_timed_as_they_end():
    clock = StepClock()
    with clock.step(torch.device("cpu")):
        pass
    assert len(clock.seconds()) == 1


def test_the_first_steps_count_for_no_median_unless_the_last_are_asked_for():
    clock = StepClock()
    clock._seconds = [9.0] * 5 + [1.0, 2.0, 4.0]
    assert clock.median_s() == 2.0
    assert [clock.median_s(last) for last in (0, 1, 2, 3, 8)] == [2.0, 4.0, 4.0, 2.0, 9.0]
    assert StepClock().median_s() == 0.0
