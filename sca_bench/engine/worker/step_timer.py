"""Timing steps without making the host wait for the device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_WARM_UP = 5
_PENDING = 256
"""Steps whose events may wait unread; older ones are long over and cost no waiting."""


class StepClock:
    """Seconds of every step; on CUDA by events that are read when somebody asks."""

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._events: list[tuple[Any, Any]] = []

    @contextmanager
    def step(self, device: torch.device) -> Iterator[None]:
        """Time one step."""
        if device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            yield
            end.record()
            self._events.append((begin, end))
            if len(self._events) > 2 * _PENDING:
                self._read(self._events[:_PENDING])
                del self._events[:_PENDING]
            return
        started = time.perf_counter()
        yield
        self._seconds.append(time.perf_counter() - started)

    def seconds(self) -> list[float]:
        """Return all step times, waiting for the device where some are still to come."""
        self._read(self._events)
        self._events.clear()
        return self._seconds

    def _read(self, events: list[tuple[Any, Any]]) -> None:
        for begin, end in events:
            end.synchronize()
            self._seconds.append(begin.elapsed_time(end) / 1000)

    @property
    def total_s(self) -> float:
        """Seconds of all steps."""
        return sum(self.seconds())

    def median_s(self, last: int = 0) -> float:
        """Return the median of the last steps, or of all but the first few; 0 before any."""
        seconds = self.seconds()
        steady = sorted(seconds[-last:] if last else seconds[_WARM_UP:] or seconds)
        return steady[len(steady) // 2] if steady else 0.0
