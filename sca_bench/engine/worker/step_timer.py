"""Timing steps without making the host wait for the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sca_bench.devices.gpu import Stopwatch

_WARM_UP = 5
_PENDING = 256
"""Steps on a GPU that may stay unread; older ones are long over and cost no waiting."""


class StepClock:
    """Seconds of every step; those of a GPU are read when somebody asks."""

    def __init__(self) -> None:
        self._seconds: list[float] = []
        self._unread: list[tuple[Stopwatch, int]] = []

    @contextmanager
    def step(self, device: torch.device, shared_by: int = 1) -> Iterator[None]:
        """Time one step; where several share it, an equal part of it counts."""
        watch = Stopwatch(device)
        watch.start()
        yield
        watch.stop()
        self._unread.append((watch, shared_by))
        if not watch.waits:
            self._read(1)
        elif len(self._unread) > 2 * _PENDING:
            self._read(_PENDING)

    def seconds(self) -> list[float]:
        """Return all step times, waiting for the device where some are still to come."""
        self._read(len(self._unread))
        return self._seconds

    def _read(self, count: int) -> None:
        self._seconds += [watch.seconds() / sharing for watch, sharing in self._unread[:count]]
        del self._unread[:count]

    @property
    def total_s(self) -> float:
        """Seconds of all steps."""
        return sum(self.seconds())

    def median_s(self, last: int = 0) -> float:
        """Return the median of the last steps, or of all but the first few; 0 before any."""
        seconds = self.seconds()
        steady = sorted(seconds[-last:] if last else seconds[_WARM_UP:] or seconds)
        return steady[len(steady) // 2] if steady else 0.0
