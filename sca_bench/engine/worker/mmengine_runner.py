"""All contact with mmengine's runner: how one is put together, and what of it is not trusted.

Own: checkpoints (trainable parameters only, atomic, with every random state), seeking the data
order instead of replaying it, log files, tracking. From mmengine: the loops, the hook points, the
optimiser wrappers, the schedulers, the evaluator.
"""

from __future__ import annotations

import logging
import multiprocessing
import re
from pathlib import Path
from typing import Any

import torch
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.optim import (
    AmpOptimWrapper,
    CosineAnnealingLR,
    LinearLR,
    OptimWrapper,
    OptimWrapperDict,
    _ParamScheduler,
)
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.runner import IterBasedTrainLoop, Runner, TestLoop, ValLoop
from mmengine.visualization import Visualizer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sca_bench.devices.gpu import is_gpu
from sca_bench.engine.worker.cell_group import CellGroup, Member
from sca_bench.settings import CellSettings, TrainSettings


class SeekingTrainLoop(IterBasedTrainLoop):  # type: ignore[misc]
    """An iteration loop that starts at step `start`; its data order is seeked, not replayed."""

    def __init__(self, *args: Any, start: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._start = start

    def run(self) -> nn.Module:
        """Train until the last step, or until no cell is left."""
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        self._iter = self._start
        validates = self._start % self.val_interval == 0 or self._start == self._max_iters
        resumed = self._start > 0 and validates
        if self.runner.val_loop is not None and resumed and not self.stop_training:
            self.runner.val_loop.run()  # a checkpoint is older than the validation of its step
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            due = self._iter % self.val_interval == 0 or self._iter == self._max_iters
            if self.runner.val_loop is not None and due and not self.stop_training:
                self.runner.val_loop.run()
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model  # type: ignore[no-any-return]


class _EvaluatesWhoIsLeft:
    """An evaluation loop that ends with the last cell of its group.

    A batch may have no rows: the last cell failed on it. Mmengine's own loops look at the last row.
    """

    evaluates = ""
    """What mmengine calls it in its hooks: `val` or `test`."""

    @torch.no_grad()
    def run(self) -> dict[str, float]:
        """Evaluate every batch, while a cell is left; return the metrics."""
        runner, evaluator = self.runner, self.evaluator  # type: ignore[attr-defined]
        group: CellGroup = runner.model
        step = getattr(group, f"{self.evaluates}_step")
        runner.call_hook(f"before_{self.evaluates}")
        runner.call_hook(f"before_{self.evaluates}_epoch")
        group.eval()
        for index, batch in enumerate(self.dataloader):  # type: ignore[attr-defined]
            runner.call_hook(f"before_{self.evaluates}_iter", batch_idx=index, data_batch=batch)
            rows = step(batch)
            evaluator.process(data_samples=rows, data_batch=batch)
            done = {"batch_idx": index, "data_batch": batch, "outputs": rows}
            runner.call_hook(f"after_{self.evaluates}_iter", **done)
            if not group.alive:
                break
        metrics: dict[str, float] = evaluator.evaluate(len(self.dataloader.dataset))  # type: ignore[attr-defined]
        runner.call_hook(f"after_{self.evaluates}_epoch", metrics=metrics)
        runner.call_hook(f"after_{self.evaluates}")
        return metrics


class ValidationLoop(_EvaluatesWhoIsLeft, ValLoop):  # type: ignore[misc]
    """Validation between steps."""

    evaluates = "val"


class CaptioningLoop(_EvaluatesWhoIsLeft, TestLoop):  # type: ignore[misc]
    """Captions of a split."""

    evaluates = "test"


class GroupRunner(Runner):  # type: ignore[misc]
    """A runner that neither probes compilers for its log nor writes a configuration dump."""

    def _log_env(self, env_cfg: dict[str, Any]) -> None:
        self.logger.info("environment: see record.json")

    def wrap_model(self, model_wrapper_cfg: Any, model: nn.Module) -> nn.Module:
        """Leave the cells on the device that `runtime.device` named."""
        return model

    def _init_model_weights(self) -> None:
        """Every cell was built with its weights; mmengine would read each one's mean back twice."""

    def dump_config(self) -> None:
        """The resolved settings lie in record.json."""


class _QuietClip:
    """Clipping without reading the norm back to the host at every step."""

    def _clip_grad(self) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]  # type: ignore[attr-defined]
        with_gradient = [p for p in parameters if p.grad is not None]
        torch.nn.utils.clip_grad_norm_(with_gradient, **self.clip_grad_kwargs)  # type: ignore[attr-defined]


class ClippedOptimWrapper(_QuietClip, OptimWrapper):  # type: ignore[misc]
    """`OptimWrapper` with quiet clipping."""

    def scaled(self, loss: Tensor) -> Tensor:
        """Return what `backward` begins at, for a backward pass of several cells."""
        return self.scale_loss(loss)  # type: ignore[no-any-return]


class ClippedAmpOptimWrapper(_QuietClip, AmpOptimWrapper):  # type: ignore[misc]
    """`AmpOptimWrapper` (loss scaling for fp16) with quiet clipping, and a scaler of today's class.

    mmengine makes one of a class that torch has deprecated.

    Args:
        device: Where the losses are.
        **kwargs: Those of `OptimWrapper`.
    """

    def __init__(self, device: torch.device, **kwargs: Any) -> None:
        OptimWrapper.__init__(self, **kwargs)  # in place of mmengine's, which makes that scaler
        self.loss_scaler = torch.amp.GradScaler(device.type)
        self._scale_update_param = None
        self.cast_dtype = torch.float16

    def scaled(self, loss: Tensor) -> Tensor:
        """Return what `backward` begins at, for a backward pass of several cells."""
        scaled: Tensor = self.loss_scaler.scale(self.scale_loss(loss))
        return scaled


_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_NAMED_AS_NORM = re.compile(r"Norm(\d[dD])?$")


def _scales_a_norm(module: nn.Module, parameter: nn.Parameter) -> bool:
    """Say whether a parameter is a norm's. Language models bring norms of classes of their own."""
    named = parameter.ndim <= 1 and _NAMED_AS_NORM.search(type(module).__name__)
    return isinstance(module, _NORMS) or bool(named)


def parameter_groups(model: nn.Module, settings: CellSettings) -> list[dict[str, Any]]:
    """Split the trainable parameters: no weight decay on biases and norms, own decoder rate."""
    train = settings.train
    plain = {
        f"{name}.{leaf}" if name else leaf
        for name, module in model.named_modules()
        for leaf, parameter in module.named_parameters(recurse=False)
        if leaf == "bias" or _scales_a_norm(module, parameter)
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    decoder = [id(p) for p in getattr(model, "text_decoder", nn.Module()).parameters()]
    in_decoder = set(decoder)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        rate = train.learning_rate
        if id(parameter) in in_decoder:
            rate = settings.text_decoder.learning_rate or rate
        decay = 0.0 if name in plain else train.weight_decay
        groups.setdefault((rate, decay), []).append(parameter)
    return [
        {"params": params, "lr": rate, "weight_decay": decay}
        for (rate, decay), params in groups.items()
    ]


def fuses(device: torch.device) -> bool:
    """Say whether AdamW is one kernel for all tensors there, which rounds its own way."""
    return is_gpu(device)


def build_optimiser(member: Member, device: torch.device) -> Any:
    """Return AdamW in an mmengine wrapper, with clipping and, for fp16, loss scaling."""
    train = member.settings.train
    assert isinstance(member.captioner, nn.Module), "build_member lets nothing else through"
    groups = parameter_groups(member.captioner, member.settings)
    optimiser = torch.optim.AdamW(
        groups, lr=train.learning_rate, betas=train.betas, fused=fuses(device)
    )
    clip = {"max_norm": train.clip_norm}
    if train.precision == "fp16":
        return ClippedAmpOptimWrapper(device, optimizer=optimiser, clip_grad=clip)
    return ClippedOptimWrapper(optimizer=optimiser, clip_grad=clip)


class WarmUpFromZero(LRSchedulerMixin, _ParamScheduler):  # type: ignore[misc]
    """Linear warm-up as published: step 0 has rate 0, step `num_steps` the first full one.

    Source: transformers, `get_cosine_schedule_with_warmup`.
    """

    def __init__(self, optimizer: Any, num_steps: int) -> None:
        self.num_steps = num_steps
        super().__init__(optimizer, begin=0, end=num_steps + 1, by_epoch=False)

    def _get_value(self) -> list[float]:
        return [base * (self.last_step / self.num_steps) for base in self.base_values]


def build_schedule(wrapper: Any, train: TrainSettings) -> list[Any]:
    """Return linear warm-up followed by a cosine to `final_lr_ratio`, by step.

    Ours begins with the first share of the rate, and leaves at least one step after itself.
    """
    schedule: list[Any] = []
    if "warmup" in train.as_published:
        warmup = train.warmup_steps
        if warmup > 0:
            schedule.append(WarmUpFromZero(wrapper, warmup))
    else:
        warmup = min(train.warmup_steps, max(train.steps - 1, 0))
        if warmup > 0:
            schedule.append(
                LinearLR(wrapper, start_factor=1 / warmup, by_epoch=False, begin=0, end=warmup)
            )
    if warmup < train.steps:
        schedule.append(
            CosineAnnealingLR(
                wrapper,
                T_max=train.steps - warmup,
                eta_min_ratio=train.final_lr_ratio,
                by_epoch=False,
                begin=warmup,
                end=train.steps,
            )
        )
    return schedule


def build_runner(
    group: CellGroup,
    *,
    name: str,
    work_dir: Path,
    seed: int,
    train_loader: DataLoader[Any] | None,
    val_loader: DataLoader[Any] | None,
    test_loader: DataLoader[Any],
    val_metric: Any,
    test_metric: Any,
    hooks: list[Hook],
    start: int,
) -> GroupRunner:
    """Assemble the runner of one group attempt.

    Args:
        group: The cells.
        name: Unique name of the attempt (mmengine's singletons are keyed by it).
        work_dir: Where mmengine may write its text log.
        seed: Seed of whatever mmengine draws itself (nothing that enters a number).
        train_loader: None for a group that is only evaluated.
        val_loader: None where there is no validation split.
        test_loader: The split that is captioned.
        val_metric: `BaseMetric` of the validation loop.
        test_metric: `BaseMetric` of the test loop.
        hooks: Our hooks.
        start: First step, after a resume.
    """
    training: dict[str, Any] = {}
    if train_loader is not None:
        wrappers = {m.key: build_optimiser(m, group.device_) for m in group.members}
        first = group.members[0].settings.train
        training = {
            "train_dataloader": train_loader,
            "train_cfg": {
                "type": SeekingTrainLoop,
                "max_iters": first.steps,
                "val_interval": first.val_every,
                "start": start,
            },
            "optim_wrapper": OptimWrapperDict(**wrappers),
            "param_scheduler": {
                m.key: build_schedule(wrappers[m.key], m.settings.train) for m in group.members
            },
        }
        if val_loader is not None:
            training |= {
                "val_dataloader": val_loader,
                "val_cfg": {"type": ValidationLoop},
                "val_evaluator": Evaluator([val_metric]),
            }
    silent = dict.fromkeys(("timer", "logger", "checkpoint", "sampler_seed", "runtime_info"))
    return GroupRunner(
        model=group,
        work_dir=str(work_dir),
        test_dataloader=test_loader,
        test_cfg={"type": CaptioningLoop},
        test_evaluator=Evaluator([test_metric]),
        default_hooks=silent,
        custom_hooks=hooks,
        randomness={"seed": seed},
        env_cfg={"mp_cfg": {"mp_start_method": multiprocessing.get_start_method()}},
        experiment_name=name,
        visualizer=Visualizer.get_instance(name, vis_backends=None, save_dir=str(work_dir)),
        log_level=logging.WARNING,
        **training,
    )
