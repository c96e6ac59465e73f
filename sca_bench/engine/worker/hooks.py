"""Our hooks in mmengine's loop: log lines, checkpoints, and leaving when no cell is left."""

from __future__ import annotations

import json
import math
import pickle
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook

from sca_bench.engine.job import GroupJob
from sca_bench.engine.process import ToldToStop, is_told_to_stop
from sca_bench.engine.worker.cell_group import CellGroup, Member
from sca_bench.engine.worker.pruning import ask_pruner
from sca_bench.errors import CellError
from sca_bench.files import append, atomic_file
from sca_bench.pretrained.torch_files import check_torch_file
from sca_bench.study.runs.heartbeat import Pulse
from sca_bench.study.runs.soundness import (
    Damaged,
    check_checkpoint,
    run_name,
    seal_checkpoint,
    unusable,
)
from sca_bench.study.runs.store import checkpoint_path, drop_checkpoints


class HeartbeatHook(Hook):  # type: ignore[misc]
    """Say now and then how far the group is, for `status`; neither disk nor device is waited for.

    Args:
        job: The group attempt.
    """

    priority = "LOWEST"

    def __init__(self, job: GroupJob) -> None:
        self._pulse = Pulse(Path(job.runs_dir), job.attempt, is_guest=True)

    def before_train(self, runner: Any) -> None:
        """Say where the training begins."""
        self._pulse.beat("training", step=runner.iter, steps=runner.max_iters)

    def after_train_iter(self, runner: Any, batch_idx: int, **_: Any) -> None:
        """Say which step was made, and the last losses that were looked at."""
        if self._pulse.due("training"):
            group: CellGroup = runner.model
            losses = [m.losses.last for m in group.alive if math.isfinite(m.losses.last)]
            loss = round(sum(losses) / len(losses), 6) if losses else None
            steps = runner.max_iters
            self._pulse.beat("training", step=batch_idx + 1, steps=steps, loss=loss)

    def after_val_iter(self, runner: Any, batch_idx: int, **_: Any) -> None:
        """Say how far a validation is."""
        self._evaluates("validating", batch_idx, runner.val_dataloader)

    def after_test_iter(self, runner: Any, batch_idx: int, **_: Any) -> None:
        """Say how far the captions are."""
        self._evaluates("captioning", batch_idx, runner.test_dataloader)

    def _evaluates(self, phase: str, index: int, batches: Any) -> None:
        if self._pulse.due(phase):
            self._pulse.beat(phase, step=index + 1, steps=len(batches))


def validation_values(metrics: Mapping[str, float] | None) -> dict[str, dict[str, float]]:
    """Return the values of a validation by member, named as in its log."""
    by_member: dict[str, dict[str, float]] = {}
    for name, value in (metrics or {}).items():
        key, _, metric = name.partition("/")
        by_member.setdefault(key, {})[f"val/{metric}"] = round(float(value), 6)
    return by_member


class LogHook(Hook):  # type: ignore[misc]
    """Append a line to each run's `log.jsonl` every so many steps and after each validation.

    The host waits for the device only at these steps, and where a checkpoint is written. A member
    whose loss is no longer finite, or whose log cannot be written, leaves the group.
    """

    priority = "BELOW_NORMAL"  # before the schedule moves on: the rate logged is the one used

    def __init__(self, folders: dict[str, Path], every: int) -> None:
        self._folders, self._every = folders, every
        self._started = time.perf_counter()

    def after_train_iter(self, runner: Any, batch_idx: int, **_: Any) -> None:
        """Log the step, if it is one of those."""
        step = batch_idx + 1
        group: CellGroup = runner.model
        if step % self._every == 0 or step in (1, runner.max_iters):
            for member in group.alive:
                self._log(runner, group, member, step)
        for member in group.members:
            if member.error:  # its optimiser made no step, perhaps not even its first one
                runner.param_schedulers.pop(member.key, None)
        if not group.alive:
            runner.train_loop.stop_training = True

    def _log(self, runner: Any, group: CellGroup, member: Member, step: int) -> None:
        if not group.check_losses(member):
            return
        rates = runner.optim_wrapper[member.key].get_lr()["lr"]
        self._append(
            group,
            member.key,
            {
                "step": step,
                "loss": round(member.losses.last, 6),
                "lr": rates[0],
                "step_s": round(member.clock.median_s(self._every), 6),
                "elapsed_s": round(time.perf_counter() - self._started, 3),
            },
        )

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Log the validation summary of each member."""
        group: CellGroup = runner.model
        values = validation_values(metrics)
        for member in group.alive:
            self._append(group, member.key, {"step": runner.iter, **values.get(member.key, {})})
        if not group.alive:
            runner.train_loop.stop_training = True

    def _append(self, group: CellGroup, key: str, row: dict[str, Any]) -> None:
        with group.failing_alone(key):
            append(self._folders[key] / "log.jsonl", json.dumps(row) + "\n")


class PruneHook(Hook):  # type: ignore[misc]
    """Ask the parent after each validation but the last one, and let members leave.

    Args:
        folder: Folder of the attempt.
    """

    priority = "LOW"  # after the log's line about the same validation

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Wait for the parent's answer; what was trained to the end is no longer in question."""
        group: CellGroup = runner.model
        if runner.iter >= runner.max_iters or not group.alive:
            return
        values = validation_values(metrics)
        known = {m.key: values[m.key] for m in group.alive if m.key in values}
        leaving = ask_pruner(self._folder, runner.iter, known)
        for member in group.alive:
            if member.key in leaving:
                group.prune(member, leaving[member.key])
        if not group.alive:
            runner.train_loop.stop_training = True


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint so that a killed process leaves the previous one whole."""
    with atomic_file(path) as handle:
        try:
            torch.save(content, handle)
        except RuntimeError as error:  # torch's own writer covers what the disk said
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        seal_checkpoint(handle, run_name(path.parent))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU; nothing in it is executed.

    Raises:
        CellError: The file is damaged, and was set aside; or it cannot be read now, and was left
            alone.
    """
    try:
        sealed = check_checkpoint(path, run_name(path.parent))
        try:
            check_torch_file(path)
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, EOFError, ValueError) as error:
            if sealed:
                raise
            raise Damaged(f"no checkpoint ({type(error).__name__})") from error
    except Exception as error:
        raise CellError(unusable(path, error)) from error
    return content


class CheckpointHook(Hook):  # type: ignore[misc]
    """Keep each member's trainable parameters, optimiser, schedule and random stream.

    Args:
        folders: Member key -> folder of its run.
        every: Steps between checkpoints.
        start: Step to resume from; 0 for a fresh start.
    """

    priority = "VERY_LOW"

    def __init__(self, folders: dict[str, Path], every: int, start: int) -> None:
        self._folders, self._every, self._start = folders, every, start

    def before_train(self, runner: Any) -> None:
        """Put back what the checkpoints hold, if the group starts from some."""
        group: CellGroup = runner.model
        for member in group.alive if self._start else ():
            path = checkpoint_path(self._folders[member.key], self._start)
            try:
                content = load_checkpoint(path)
                if content.get("run", member.key) != member.key:  # older ones have no other mark
                    raise Damaged(f"it is a checkpoint of {content['run']}")
                self._restore(runner, member, content)
                member.losses.step = self._start
            except Exception as error:
                known = isinstance(error, CellError)
                group.fail(member, str(error) if known else unusable(path, error))
        for member in group.members:
            if member.error:  # it will make no step, so its schedule must make none
                runner.param_schedulers.pop(member.key)
        if not group.alive:
            runner.train_loop.stop_training = True

    def after_train_iter(self, runner: Any, batch_idx: int, **_: Any) -> None:
        """Save, if it is time."""
        step = batch_idx + 1
        if is_told_to_stop():
            raise ToldToStop(step)
        if step % self._every == 0 and step < runner.max_iters:
            self.save(runner, step)

    def after_val_iter(self, runner: Any, batch_idx: int, **_: Any) -> None:
        """Leave a validation that nobody waits for any more; it is made again."""
        if is_told_to_stop():
            raise ToldToStop(runner.iter)

    def save(self, runner: Any, step: int) -> None:
        """Keep what every live member has come to after a step.

        One that cannot be kept, and one whose loss is no longer finite, leaves the group.
        """
        group: CellGroup = runner.model
        for member in group.alive:
            if group.check_losses(member):
                with group.failing_alone(member.key):
                    self._save(runner, member, step)
        if not group.alive:
            runner.train_loop.stop_training = True

    def _save(self, runner: Any, member: Member, step: int) -> None:
        captioner: Any = member.captioner
        folder = self._folders[member.key]
        save_checkpoint(
            checkpoint_path(folder, step),
            {
                "step": step,
                "run": member.key,
                "trainable": captioner.trainable_state(),
                "optimiser": runner.optim_wrapper[member.key].state_dict(),
                "schedule": [s.state_dict() for s in runner.param_schedulers[member.key]],
                "rng": member.rng.state,
                "cpu_s": member.cpu_s,
            },
        )
        drop_checkpoints(folder, keep=step)

    @staticmethod
    def _restore(runner: Any, member: Member, content: dict[str, Any]) -> None:
        captioner: Any = member.captioner
        captioner.load_trainable_state(content["trainable"])
        runner.optim_wrapper[member.key].load_state_dict(content["optimiser"])
        for schedule, state in zip(
            runner.param_schedulers[member.key], content["schedule"], strict=True
        ):
            schedule.load_state_dict(state)
        member.rng.state = {name: state.cpu() for name, state in content["rng"].items()}
        member.cpu_s = content["cpu_s"]
