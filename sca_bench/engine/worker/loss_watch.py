"""The losses of one cell's latest steps, and what is to be said of one that is not finite."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

_MOST_IDS = 32


class _Step(NamedTuple):
    number: int
    loss: Tensor
    region_ids: Sequence[str]
    rate: float


@dataclass
class LossWatch:
    """Losses as they come, on their device; they are looked at together, when it is waited for.

    Attributes:
        step: How many steps were made, those of earlier attempts included.
        rate: Learning rate of the latest step, the highest one where parts have several.
        last: Loss of the latest step that was looked at.
    """

    step: int = 0
    rate: float = math.nan
    last: float = math.nan
    _new: list[_Step] = field(default_factory=list)

    def add(self, loss: Tensor, region_ids: Sequence[str], rate: float) -> None:
        """Take the loss of a step, before anything waits for it.

        Args:
            loss: A scalar without history.
            region_ids: The regions that it is of.
            rate: The learning rate that the step used.
        """
        self.step, self.rate = self.step + 1, rate
        self._new.append(_Step(self.step, loss, region_ids, rate))

    def fault(self) -> str:
        """Return what is wrong with the first new loss that is not finite; empty if all are."""
        new, self._new = self._new, []
        if not new:
            return ""
        losses = torch.stack([step.loss.float() for step in new]).tolist()
        self.last = losses[-1]
        for step, loss in zip(new, losses, strict=True):
            if not math.isfinite(loss):
                what = f"loss is {loss} at step"
                return LossWatch(step.number, step.rate).text(what, step.region_ids)
        return ""

    def text(self, what: str, region_ids: Sequence[str]) -> str:
        """Return a line that names the step, the learning rate and the regions."""
        shown = ", ".join(region_ids[:_MOST_IDS])
        more = len(region_ids) - _MOST_IDS
        rest = f" and {more} more" if more > 0 else ""
        return f"{what} {self.step}, learning rate {self.rate:g}, regions {shown}{rest}"
