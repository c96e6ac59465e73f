"""The model that mmengine's runner sees: several cells over one frozen prefix, in lockstep.

One step computes the frozen features of the batch once (or takes them from a bank) and then lets
every cell make its own forward, backward, clipping and update, inside its own random stream. A cell
that fails is recorded and leaves; the others go on.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from mmengine.model import BaseModel
from torch import Tensor, nn

from sca_bench.batch import RegionBatch
from sca_bench.captioner import (
    CastsFrozen,
    CompilesBlocks,
    Decoding,
    RegionCaptioner,
    SharesPrefix,
    TrainableCaptioner,
)
from sca_bench.devices.gpu import free_unused_memory
from sca_bench.engine.features.bank import FeatureBank, Frozen
from sca_bench.engine.features.split_bank import sams_shapes
from sca_bench.engine.process import cpu_threads
from sca_bench.engine.worker.loss_watch import LossWatch
from sca_bench.engine.worker.rng import RngStream
from sca_bench.engine.worker.step_timer import StepClock
from sca_bench.errors import CellError, InputError
from sca_bench.lifetime import scratch
from sca_bench.settings import CellSettings
from sca_bench.study.keys.cell import CellIdentity, RunSplit, families_of
from sca_bench.study.keys.stack import stack_key
from sca_bench.types import Prediction

_COMPILED = "TORCHINDUCTOR_CACHE_DIR"
_AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Member:
    """One cell inside a group.

    Attributes:
        key: The run's key in its job.
        captioner: Its model.
        identity: Its settings and inputs.
        rng: Its random stream.
        error: Why it left the group; empty while it is in it.
        pruned: Whether it left because a sweep has no more use for it.
        losses: The losses of its latest steps.
        clock: Times its own part of every step.
        cpu_s: CPU seconds (all threads) of its own part of all steps.
    """

    key: str
    captioner: RegionCaptioner
    identity: CellIdentity
    rng: RngStream
    error: str = ""
    pruned: bool = False
    losses: LossWatch = field(default_factory=LossWatch)
    clock: StepClock = field(default_factory=StepClock)
    cpu_s: float = 0.0

    @property
    def settings(self) -> CellSettings:
        """Its settings."""
        return self.identity.settings


class MemberPrediction(NamedTuple):
    """What one member says of one region.

    Attributes:
        member: The member's key.
        prediction: What it says.
        loss: Its loss on the batch that the region is in; None where captions alone are asked for.
    """

    member: str
    prediction: Prediction
    loss: float | None


def _keep_compiled_code() -> None:
    """Have torch keep compiled code where it is found again, unless the user has said where."""
    named = os.environ.get(_COMPILED, "")
    if not named or Path(named).is_relative_to(tempfile.gettempdir()):
        os.environ[_COMPILED] = str(scratch.lasting() / f"torchinductor_{os.getuid()}")


def fault_text(error: Exception) -> str:
    """Return an exception as the reason of a run that failed."""
    return str(error) if isinstance(error, CellError) else f"{type(error).__name__}: {error}"


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Return the mixed-precision context of a training precision; nothing for fp32 and tf32."""
    if precision not in _AMP:
        return contextlib.nullcontext()
    context = torch.autocast(device.type, dtype=_AMP[precision])
    return cast("contextlib.AbstractContextManager[Any]", context)


def cast_frozen(members: Iterable[Member], precision: str) -> None:
    """Let captioners that can do so cast what is frozen once, in place of at every use.

    All members must have been built: one that trains a shared part has its own copy by then.
    """
    if precision not in _AMP:
        return
    for member in members:
        if isinstance(member.captioner, CastsFrozen):
            member.captioner.cast_frozen(_AMP[precision])


def _drop_gradients(member: Member) -> None:
    if isinstance(member.captioner, nn.Module):
        for parameter in member.captioner.parameters():
            parameter.grad = None


class CellGroup(BaseModel):
    """Cells in lockstep.

    Args:
        members: The cells; all share settings that touch the frozen prefix and the data order.
        device: Where to compute.
        banks: Split name -> bank of frozen features; splits without one are computed when needed.
        decoding: How captions are generated.
        frozen_threads: CPU threads of what is computed when needed; 0 leaves them as they are.
    """

    def __init__(
        self,
        members: list[Member],
        device: torch.device,
        banks: Mapping[RunSplit, FeatureBank],
        decoding: Decoding,
        frozen_threads: int = 0,
    ) -> None:
        super().__init__()
        self.frozen_threads = frozen_threads
        self.members = members
        self.device_ = device
        self.banks = dict(banks)
        self.decoding = decoding
        self.captioning: RunSplit = "captioned"  # what `test_step` gets its batches from
        self.shared_clock = StepClock()
        self.counters = {"train_steps": 0, "encoder_forwards": 0, "sam_mixer_forwards": 0}
        self._stack_keys = {m.key: stack_key(m.identity) for m in members}
        self.apart: set[str] = set()  # members whose stack does not fit, for memory for instance
        self.notes: list[str] = []
        self.parts = nn.ModuleList(
            [m.captioner for m in members if isinstance(m.captioner, nn.Module)]
        )
        first = members[0].settings
        self.precision = first.train.precision
        if first.runtime.compile:
            _keep_compiled_code()
            for member in members:
                if isinstance(member.captioner, CompilesBlocks):
                    member.captioner.compile_blocks()

    @property
    def alive(self) -> list[Member]:
        """The members that have not left."""
        return [member for member in self.members if not member.error]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Not used: the loop calls `train_step`, `val_step` and `test_step`."""
        raise TypeError("a CellGroup is stepped, not called")

    def train_step(self, data: RegionBatch, optim_wrapper: Any) -> dict[str, Tensor]:
        """Make one step of every live member; return each one's loss."""
        batch = self._shared(data, "train")
        if batch is None:
            return {}
        self.counters["train_steps"] += 1
        losses: dict[str, Tensor] = {}
        for stack in self._stacks():
            if len(stack) > 1 and self._stacked_step(stack, batch, optim_wrapper, losses):
                continue
            for member in stack:
                self._step_alone(member, batch, optim_wrapper[member.key], losses)
            if len(stack) > 1 and not any(member.error for member in stack):
                self.apart.update(member.key for member in stack)  # together it would fail again
        return losses

    def _step_alone(
        self, member: Member, batch: RegionBatch, wrapper: Any, losses: dict[str, Tensor]
    ) -> None:
        cpu = time.process_time()
        try:
            with member.rng.active(), member.clock.step(self.device_):
                losses[member.key] = self._step(member, batch, wrapper)
        except Exception as error:
            self.fail_by(member, error)
        else:
            self._look(member)
        member.cpu_s += time.process_time() - cpu

    def _look(self, member: Member) -> None:
        if self.device_.type == "cpu":  # another one would have to be waited for
            self.check_losses(member)

    def _stacks(self) -> list[list[Member]]:
        """Return the live members: those that are stepped as one together, others by themselves."""
        stacks: dict[str, list[Member]] = {}
        for member in self.alive:
            key = self._stack_keys.get(member.key, "")
            own = not key or member.key in self.apart
            stacks.setdefault(f"alone {member.key}" if own else key, []).append(member)
        return list(stacks.values())

    def _stacked_step(
        self,
        stack: list[Member],
        batch: RegionBatch,
        wrappers: Mapping[str, Any],
        losses: dict[str, Tensor],
    ) -> bool:
        """Step members as one; where that fails nothing has happened, and False is returned."""
        before = [member.rng.state for member in stack]
        cpu, sharing = time.process_time(), len(stack)
        try:
            with contextlib.ExitStack() as clocks:
                for member in stack:
                    clocks.enter_context(member.clock.step(self.device_, sharing))
                found = self._stacked_losses(stack, batch, wrappers)
                for member, loss in zip(stack, found, strict=True):
                    with self.failing_alone(member.key), member.rng.active():
                        self._update(member, loss, batch, wrappers[member.key])
                        losses[member.key] = loss.detach()
        except Exception as error:
            self._undo(stack, before, error)
            return False
        for member in stack:
            if not member.error:
                self._look(member)
            member.cpu_s += (time.process_time() - cpu) / sharing
        return True

    def _stacked_losses(
        self, stack: list[Member], batch: RegionBatch, wrappers: Mapping[str, Any]
    ) -> Sequence[Tensor]:
        captioners: list[Any] = [member.captioner for member in stack]
        streams = [member.rng.active for member in stack]
        with self._autocast():
            losses: Sequence[Tensor] = captioners[0].stacked_losses(captioners, batch, streams)
        pairs = zip(stack, losses, strict=True)
        torch.autograd.backward([wrappers[m.key].scaled(loss) for m, loss in pairs])
        return losses

    def _undo(self, stack: list[Member], states: list[dict[str, Tensor]], error: Exception) -> None:
        """Let each member of a stack try by itself: who is at fault then fails alone."""
        traceback.print_exception(error)
        traceback.clear_frames(error.__traceback__)
        for member, state in zip(stack, states, strict=True):
            member.rng.state = state
            _drop_gradients(member)
        free_unused_memory(self.device_)
        self.notes.append(
            f"{len(stack)} cells were not stepped as one ({fault_text(error)}), but each by itself"
        )

    def _step(self, member: Member, batch: RegionBatch, wrapper: Any) -> Tensor:
        with self._autocast():
            loss = cast("TrainableCaptioner", member.captioner).loss(batch)
        wrapper.backward(wrapper.scale_loss(loss))
        self._update(member, loss, batch, wrapper)
        return loss.detach()

    @staticmethod
    def _update(member: Member, loss: Tensor, batch: RegionBatch, wrapper: Any) -> None:
        rates = wrapper.get_lr()["lr"]
        wrapper.step()
        wrapper.zero_grad()
        member.losses.add(loss.detach(), batch.region_ids, max(rates))

    def check_losses(self, member: Member) -> bool:
        """Take a member out whose loss is no longer finite; say whether it is still in the group.

        Waits for the device.
        """
        if fault := member.losses.fault():
            self.fail(member, fault)
        return not member.error

    def fail(self, member: Member, reason: str) -> None:
        """Take a member out of the group."""
        member.error = " ".join(reason.split())[:500]
        _drop_gradients(member)
        free_unused_memory(self.device_)

    def fail_by(self, member: Member, error: Exception) -> None:
        """Take a member out of the group for what was raised."""
        traceback.clear_frames(error.__traceback__)  # they hold the step's tensors
        self.fail(member, fault_text(error))

    def fail_together(self, error: Exception) -> None:
        """Take all members out for what was raised in a part that they share.

        Who left before has a reason of its own.
        """
        traceback.print_exception(error)
        for member in self.alive:
            self.fail_by(member, error)

    @contextlib.contextmanager
    def failing_alone(self, key: str) -> Iterator[None]:
        """Let what goes wrong inside cost the one member that it is done for, and no other.

        A disk that is full, for instance.
        """
        try:
            yield
        except Exception as error:
            member = next(member for member in self.members if member.key == key)
            self.fail_by(member, error)

    def prune(self, member: Member, reason: str) -> None:
        """Take a member out of the group that did not fail."""
        member.pruned = True
        self.fail(member, reason)

    def val_step(self, data: RegionBatch) -> list[MemberPrediction]:
        """Return one row per live member and region: validation loss and caption."""
        batch = self._shared(data, "val")
        rows: list[MemberPrediction] = []
        if batch is None:
            return rows
        for member in self.alive:
            try:
                loss = self._val_loss(member, batch)
                if loss is None or math.isfinite(loss):
                    rows += self._generate(member, batch, loss)
                else:
                    what = f"validation loss is {loss} after step"
                    self.fail(member, member.losses.text(what, batch.region_ids))
            except Exception as error:
                self.fail_by(member, error)
        return rows

    def _val_loss(self, member: Member, batch: RegionBatch) -> float | None:
        if not isinstance(member.captioner, TrainableCaptioner) or batch.captions is None:
            return None
        with self._autocast():
            return float(member.captioner.loss(batch))

    def test_step(self, data: RegionBatch) -> list[MemberPrediction]:
        """Return one row per live member and region."""
        batch = self._shared(data, self.captioning)
        rows: list[MemberPrediction] = []
        if batch is None:
            return rows
        for member in self.alive:
            try:
                rows += self._generate(member, batch)
            except Exception as error:
                self.fail_by(member, error)
        return rows

    def _generate(
        self, member: Member, batch: RegionBatch, loss: float | None = None
    ) -> list[MemberPrediction]:
        with torch.no_grad(), self._autocast():
            predictions = member.captioner.generate(batch, self.decoding)
        return [MemberPrediction(member.key, each, loss) for each in predictions]

    def _shared(self, data: RegionBatch, split: RunSplit) -> RegionBatch | None:
        """Return a batch with its frozen features; None, and no live member, where that failed.

        Raises:
            InputError: The user's input is wrong, which the command says by itself.
            CellError: What is kept is damaged; the next attempt begins without it.
        """
        try:
            return self.with_features(data, split)
        except (InputError, CellError):
            raise
        except Exception as error:
            self.fail_together(error)
            return None

    def with_features(self, data: RegionBatch, split: RunSplit) -> RegionBatch:
        """Return a batch of a split on the device, with the frozen features its members read.

        The group's `shared_clock` times it, once for all members.
        """
        with self.shared_clock.step(self.device_):
            return self._with_features(data, split)

    def _with_features(self, data: RegionBatch, split: RunSplit) -> RegionBatch:
        batch = data.to(self.device_)
        bank = self.banks.get(split)
        features = bank.features(batch) if bank is not None else None
        if features is not None:
            return replace(batch, features=features, kept=None)
        sharing = [m.captioner for m in self.alive if isinstance(m.captioner, SharesPrefix)]
        if not sharing:
            return batch
        lead = self.members[0]
        frozen = Frozen(lead.settings.features, bank, sams_shapes(lead.identity))
        families = families_of(member.identity for member in self.alive)
        with torch.no_grad(), self._autocast(), cpu_threads(self.frozen_threads):
            batch = frozen.embedded(sharing[0], batch)
            features = frozen.features(dict.fromkeys(families, sharing[0]), batch)
        self.counters["encoder_forwards"] += frozen.encoder_forwards
        self.counters["sam_mixer_forwards"] += frozen.sam_mixer_forwards
        return replace(batch, features=features, kept=None, image_embeddings_BChw=None)

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        return autocast(self.device_, self.precision)
