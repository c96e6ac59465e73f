"""What a variant that is trained by gradient must keep to: its loss, its tensors, its company."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sca_bench.batch import RegionBatch
from sca_bench.captioner import TrainableCaptioner
from sca_bench.contract.broken import Broken, expect, skip
from sca_bench.contract.captioners.cell import CellContract
from sca_bench.contract.captioners.tensors import different, modules_in, some, tensors_of
from sca_bench.contract.captioners.toy import with_padding
from sca_bench.engine.job import CellJob, GroupJob, Outcome, new_attempt
from sca_bench.engine.worker.group_run import GroupRun
from sca_bench.engine.worker.prepare import prepare
from sca_bench.engine.worker.rng import RngStream
from sca_bench.errors import InputError
from sca_bench.metrics.rows import read_rows
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.study.keys.fingerprint import Fingerprints
from sca_bench.study.runs.store import PREDICTIONS, Store

_CPU = torch.device("cpu")
_WHERE = "trainable.safetensors"


class TrainingContract(CellContract):
    """Tests of what is trained; they skip a variant that does not learn by gradient."""

    # --- the loss -----------------------------------------------------------------------------

    def test_the_loss_is_one_finite_number(self) -> None:
        """The loss is a scalar that can be differentiated."""
        captioner = self._learner()
        loss = captioner.loss(self.as_engine_gives(captioner, self.batch()))
        rule = "a loss that is a finite scalar tensor with a gradient"
        fix = "return the mean over the batch's captions, not detached"
        got = f"shape {tuple(loss.shape)}, value {loss.tolist()}, gradient {loss.requires_grad}"
        right = loss.shape == () and bool(torch.isfinite(loss)) and loss.requires_grad
        expect(right, rule, got, fix)

    def test_the_loss_depends_on_the_captions(self) -> None:
        """Other captions give another loss."""
        batch = self.batch()
        captions = batch.captions or []
        longer = [f"{caption} left of {caption}" for caption in captions]
        others = [replace(batch, captions=texts) for texts in (captions[::-1], longer)]
        losses = self._losses(batch, *others)
        rule = "another loss for captions dealt to other regions, or for longer ones"
        got = f"{losses[0]:.6g} for all of them"
        expect(len(set(losses)) > 1, rule, got, "read `batch.captions` in `loss`")

    def test_the_loss_ignores_padded_regions(self) -> None:
        """More padding, with other boxes in it, leaves the loss as it is."""
        batch = self.batch()
        one, other = self._losses(batch, with_padding(batch))
        rule = "the same loss with more padded regions, and other boxes in them"
        fix = "average over real regions only: `batch.real(...)`, or mask by `region_mask_BR`"
        expect(abs(one - other) <= 1e-4 * max(1.0, abs(one)), rule, f"{one:.6g}, {other:.6g}", fix)

    def _losses(self, *batches: RegionBatch) -> list[float]:
        captioner = self._learner()
        with torch.no_grad():
            return [float(captioner.loss(self.as_engine_gives(captioner, b))) for b in batches]

    # --- what is trained ----------------------------------------------------------------------

    def test_frozen_parts_get_no_gradient_and_do_not_move(self) -> None:
        """Two steps leave shared parts, and whatever is not trained, as they were."""
        settings = self.settings()
        parts = self.spec.load_parts(settings)
        captioner = self._learner(parts=parts)
        shared = dict(modules_in(parts))
        before = {name: tensors_of(module) for name, module in shared.items()}
        names = trained_names(captioner)
        kept = {n: t for n, t in tensors_of(captioner).items() if n not in names}
        take_steps(captioner, self.as_engine_gives(captioner, self.batch()))
        fix = "call requires_grad_(False) on what is frozen, and eval() where it has statistics"
        for name, module in shared.items():
            rule = f"parts.{name}, which other cells share, stays as it was through two steps"
            moved = different(before[name], tensors_of(module))
            expect(not moved, rule, f"{some(moved)} moved", fix)
            reached = [n for n, p in module.named_parameters() if p.grad is not None]
            rule = f"no gradient for parts.{name}"
            expect(not reached, rule, f"one for {some(reached)}", fix)
        after = {n: t for n, t in tensors_of(captioner).items() if n not in names}
        moved = different(kept, after)
        rule = "tensors that are not trained stay as they were through two steps"
        fix = "make them parameters that are trained and saved, or leave them alone"
        expect(not moved, rule, f"{some(moved)} moved", fix)

    def test_trainable_state_holds_nothing_frozen(self) -> None:
        """`trainable_state` has what is trained, and perhaps buffers: no more than these."""
        captioner = self._learner()
        state = captioner.trainable_state()
        places = {p.data_ptr(): p.requires_grad for p in captioner.parameters()}
        frozen = [name for name, one in state.items() if places.get(one.data_ptr()) is False]
        learning = [p for p in captioner.parameters() if p.requires_grad]
        most = sum(one.numel() for one in (*learning, *captioner.buffers()))
        found = sum(one.numel() for one in state.values())
        rule = f"trained tensors only: at most {most} numbers"
        got = f"{some(frozen)} of frozen parameters" if frozen else f"{found} numbers"
        fix = "leave frozen tensors out: a run keeps what it trained, and loads the others again"
        expect(not frozen and found <= most, rule, got, fix)

    def test_save_and_load_give_the_same_captioner(self) -> None:
        """What `trainable_state` of one gives, `load_trainable_state` of another puts back."""
        first, second = self._learner(), self._learner()
        batch = self.as_engine_gives(first, self.batch())
        take_steps(first, batch)
        second.load_trainable_state(_copy(first.trainable_state()), _WHERE)
        lost = different(tensors_of(first), tensors_of(second))
        rule = "another captioner with the same tensors once it loaded `trainable_state`"
        fix = "return every parameter that requires a gradient, and every buffer that training"
        fix += " moves, and copy all of them back"
        expect(not lost, rule, f"others in {some(lost)}", fix)
        said = [
            [(p.caption, p.log_prob) for p in self._generate(c, batch)] for c in (first, second)
        ]
        expect(said[0] == said[1], "the same captions afterwards", said, fix)

    def test_tensors_that_do_not_fit_are_refused(self) -> None:
        """A foreign tensor, one that is missing and one of another shape are each an error."""
        captioner = self._learner()
        state = _copy(captioner.trainable_state())
        name = next(iter(state))
        wrong = {
            "with a foreign tensor": {**state, "no_such_tensor": torch.zeros(1)},
            f"without {name}": {n: t for n, t in state.items() if n != name},
            f"with another shape of {name}": {**state, name: torch.zeros(*state[name].shape, 2)},
        }
        fix = "compare names and shapes first, and raise InputError(where, name, problem)"
        for what, tensors in wrong.items():
            rule = f"an InputError for a file {what}"
            try:
                captioner.load_trainable_state(tensors, _WHERE)
            except InputError:
                continue
            except Exception as error:
                raise Broken(rule, f"{type(error).__name__}: {error}", fix) from error
            raise Broken(rule, "it was loaded", fix)

    def test_lockstep_equals_solo(self) -> None:
        """A cell trained beside another gets the weights and captions that it gets alone."""
        self._learner()
        changes = ({"train.learning_rate": 0.01}, {"train.learning_rate": 0.003})
        together = self._trained("together", *changes)
        fix = "keep all that training moves inside the captioner, and share only what is frozen"
        beside = together[1]  # whatever the first leaves behind, this one meets
        (alone,) = self._trained("alone", changes[1])
        lost = different(beside[0], alone[0])
        rule = "the weights of a cell alone, in a bit, from a cell beside another"
        expect(not lost, rule, f"others in {some(lost)}", fix)
        rule = "the captions of a cell alone from a cell beside another"
        expect(beside[1] == alone[1], rule, (beside[1], alone[1]), fix)

    def _trained(
        self, runs: str, *changes: Mapping[str, Any]
    ) -> list[tuple[dict[str, Tensor], list[str]]]:
        """Run cells as one group, as a worker process does; return weights and captions of each."""
        store = Store(self.folder / runs)
        cells = []
        for change in changes:
            settings = self.settings(change)
            identity = CellIdentity(settings, Fingerprints().inputs(settings))
            cells.append(CellJob(identity.cell_key, str(change), 0, identity))
            store.run_dir(identity.cell_key, 0).mkdir(parents=True)
        if len({cell.identity.prefix_key for cell in cells}) > 1:
            raise Broken("one group for two learning rates", "two", "report it as a fault of ours")
        job = GroupJob(
            str(store.root), cells, "contract", new_attempt("contract"), 1, "cpu", "test"
        )
        outcome = Outcome()
        prepare(job, outcome, store.root / "prepare.progress")
        GroupRun(job, outcome).run()
        rule = "cells that train and caption through the engine's own loop"
        fix = "see the reason; the loop calls loss, generate and trainable_state"
        expect(not outcome.failed, rule, "; ".join(outcome.failed.values()), fix)
        folders = [store.run_dir(cell.cell_id, 0) for cell in cells]
        return [(load_file(folder / _WHERE), _captions(folder)) for folder in folders]

    def _learner(self, seed: int = 0, parts: object = None) -> _Learner:
        if self.spec.trains != "gradient":
            skip(f"nothing is trained by gradient (trains={self.spec.trains!r})")
        return cast(_Learner, self.built(self.settings(), seed, parts))


class _Learner(nn.Module, TrainableCaptioner):
    """What a builder of a variant that is trained by gradient returns."""


def trained_names(captioner: nn.Module) -> set[str]:
    """Return the names of the parameters that require a gradient."""
    return {name for name, p in captioner.named_parameters() if p.requires_grad}


def take_steps(captioner: _Learner, batch: RegionBatch, count: int = 2) -> None:
    """Train every parameter that requires a gradient, as the engine does."""
    learning: Iterable[nn.Parameter] = [p for p in captioner.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learning, lr=0.01)
    captioner.train()
    with RngStream(0, _CPU).active():
        for _ in range(count):
            optimiser.zero_grad()
            captioner.loss(batch).backward()
            optimiser.step()
    captioner.eval()


def _captions(folder: Path) -> list[str]:
    return [row.caption for row in read_rows(folder / PREDICTIONS)]


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in state.items()}
