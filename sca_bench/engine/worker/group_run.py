"""One attempt at a group of cells: trained in lockstep, captioned, recorded."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from sca_bench.captioner import Decoding, PreparesBatches, SharesPrefix
from sca_bench.data.pipeline.dataset import ViewDataset
from sca_bench.devices.gpu import is_gpu
from sca_bench.engine import loaders
from sca_bench.engine.caption_batch import regions_at_a_time
from sca_bench.engine.features.bank import FeatureBank
from sca_bench.engine.features.cache import Cache
from sca_bench.engine.features.split_bank import needs_pixels, open_bank
from sca_bench.engine.job import CellJob, GroupJob, Outcome
from sca_bench.engine.process import ToldToStop, looking
from sca_bench.engine.provenance import now
from sca_bench.engine.thumbnails import images_folder
from sca_bench.engine.worker.cell_group import CellGroup, Member, cast_frozen, fault_text
from sca_bench.engine.worker.fit_once import fit_once
from sca_bench.engine.worker.hooks import CheckpointHook, HeartbeatHook, LogHook, PruneHook
from sca_bench.engine.worker.mmengine_runner import build_runner
from sca_bench.engine.worker.predictions import ValidationSummary, WritePredictions, check_complete
from sca_bench.engine.worker.prepare import build_member
from sca_bench.engine.worker.run_record import cost_of, new_record
from sca_bench.engine.worker.sam_masks import masks_file, write_masks
from sca_bench.engine.worker.trained_weights import load_indexed, load_trained, save_trained
from sca_bench.errors import CellError, InputError
from sca_bench.files import delete
from sca_bench.specs.encoders import sam_dims
from sca_bench.study.keys.cell import CellIdentity, RunSplit, families_of
from sca_bench.study.keys.stack import stack_key
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.store import (
    PREDICTIONS,
    TRAIN_PREDICTIONS,
    Store,
    checkpoint_step,
    drop_checkpoints,
    is_trained,
    keep_log_until,
)
from sca_bench.study.runs.trained_index import TrainedIndex


class GroupRun:
    """One attempt at a group: data, cells, the loop, records."""

    def __init__(self, job: GroupJob, outcome: Outcome) -> None:
        self.job, self.outcome = job, outcome
        self.store = Store(job.runs_dir)
        self.device = torch.device(job.device)
        # What the cells of a group share, its first one says.
        self.lead: CellIdentity = job.cells[0].identity
        self.first = self.lead.settings
        self.seed = job.order_seed
        self.started = now()
        self.folders = {c.key: self.store.run_dir(c.cell_id, c.seed) for c in job.cells}
        self.start = min(checkpoint_step(folder) for folder in self.folders.values())
        self.timings: dict[str, float] = {}
        self.index = TrainedIndex(self.store)
        self.lineages: dict[str, list[dict[str, Any]]] = {}
        self.masks_file = ""
        self.frozen_threads: set[int] = set()
        self.apart: set[str] = set()

    def run(self) -> None:
        """Train (where there is something to train), caption, write records."""
        self.sets = loaders.load_splits(self.lead)
        self.image_size = sam_dims(self.first.sam.size).image_size
        group = self._group()
        for cell, member in zip(self.job.cells, group.members, strict=True):
            self.lineages[cell.key] = []
            try:
                self.lineages[cell.key] = self._start_from(cell, member)
            except CellError as error:
                group.fail(member, str(error))
            with group.failing_alone(cell.key):
                self.store.save(self._record(cell))
        if self.lead.spec.trains == "gradient" and not self.job.cells[0].reuses:
            self._timed("train_s", lambda: self._train(group))
        self._fit(group)
        if not self.job.is_stage:
            self._timed("generate_s", lambda: self._caption(group))
            self._write_masks(group)
        self.outcome.count(group.counters)
        self.outcome.messages += group.notes
        for cell, member in zip(self.job.cells, group.members, strict=True):
            with group.failing_alone(cell.key):
                self._close(cell, group, member)
            if member.error:
                left = self.outcome.pruned if member.pruned else self.outcome.failed
                left[cell.key] = member.error

    def _close(self, cell: CellJob, group: CellGroup, member: Member) -> None:
        record = self._record(cell)
        record.status = "done"
        if member.error:
            record.status = "pruned" if member.pruned else "failed"
        record.error = member.error
        record.provenance["finished"] = now()
        captioned: tuple[RunSplit, ...] = () if self.job.is_stage else ("captioned",)
        if captioned and self.first.eval.also_train:
            captioned += ("train",)
        num_captions = sum(len(self.sets[split].regions) for split in captioned)
        took = self.job.prepared_s
        record.cost = cost_of(group, member, self.timings, num_captions, took)
        record.counters = dict(group.counters)
        record.masks_file = self.masks_file
        if not member.error:  # the weights are on the disk; nobody would come back for these
            drop_checkpoints(self.folders[cell.key])
        self.store.save(record)

    def _record(self, cell: CellJob) -> RunRecord:
        lineage = self.lineages[cell.key]
        return new_record(
            self.job,
            cell,
            self.sets,
            self.started,
            self.start,
            lineage,
            sorted(self.frozen_threads),
            eval_regions=self.caption_regions["captioned"],
            stacked_with=self._stacked_with(cell),
        )

    def _stacked_with(self, cell: CellJob) -> list[str] | None:
        key = stack_key(cell.identity)
        if not key or cell.reuses:
            return None
        if cell.key in self.apart:
            return []
        others = (other for other in self.job.cells if other.key != cell.key)
        return [other.key for other in others if stack_key(other.identity) == key]

    def _start_from(self, cell: CellJob, member: Member) -> list[dict[str, Any]]:
        """Give a member the weights it starts from, or those it reuses; return their lineage."""
        wanted, name = cell.starts_from, "pretraining"
        if cell.reuses:
            wanted, name = cell.training_id, "training"
        if not wanted:
            return []
        before = self.store.record(cell.cell_id, cell.seed)
        begun = self.start > 0 or is_trained(self.folders[cell.key])
        if begun and not cell.reuses and before is not None and before.lineage:
            return list(before.lineage)  # what it did start from, whatever has become of that
        trained = self.index.find(wanted, cell.seed)
        if trained is None and begun and not cell.reuses:
            return []  # its record was deleted; its own checkpoint is all it needs
        if trained is None:
            problem = f"the weights of training {wanted} are gone"
            raise InputError(self.store.root, cell.name, problem, "run the suite again")
        load_indexed(member.captioner, trained, self.index.folder(trained))
        stage = self.store.record(trained.cell_id, trained.seed)
        return self.index.lineage((stage.stage if stage else "") or name, trained)

    def _group(self) -> CellGroup:
        spec = self.lead.spec
        parts = spec.load_parts(self.first)
        members = [build_member(c, parts, self.device) for c in self.job.cells]
        cast_frozen(members, self.first.train.precision)
        banks: dict[RunSplit, FeatureBank] = {}
        if isinstance(members[0].captioner, SharesPrefix):
            cache = Cache.of(Path(self.job.runs_dir), self.first.runtime)
            families = families_of(member.identity for member in members)
            for split in self.sets:
                if split in self.job.splits and self.lead.caches(split):
                    banks[split] = open_bank(cache, self.lead, split, self.sets[split], families)
        if isinstance(members[0].captioner, SharesPrefix):
            if banks.keys() != set(self.job.splits) & self.sets.keys():
                self.frozen_threads.add(self.job.frozen_threads or self.job.threads)
            self.frozen_threads.update(*(bank.threads for bank in banks.values()))
        decoding = Decoding(self.first.eval.num_beams, self.first.eval.max_new_tokens)
        group = CellGroup(members, self.device, banks, decoding, self.job.frozen_threads)
        self.apart = group.apart
        self.needs_pixels = [s for s in self.sets if spec.takes_pixels and s not in banks]
        for split, bank in banks.items():
            if needs_pixels(bank, ViewDataset(self._dataset(split))):
                self.needs_pixels.append(split)
        captioners = [member.captioner for member in members]
        self.caption_regions = {
            split: regions_at_a_time(
                self.first.runtime,
                captioners,
                decoding,
                self.device,
                # Validation's loss is a mean over batches, so their size is no matter of memory.
                kept=split != "val" and split in banks and split not in self.needs_pixels,
            )
            for split in self.sets
        }
        return group

    def _dataset(self, split: RunSplit, training: bool | None = None) -> Any:
        return loaders.make_dataset(
            self.sets,
            split,
            self.lead,
            image_size=self.image_size,
            seed=self.seed,
            with_pixels=split in self.needs_pixels,
            training=training,
        )

    def _runner(
        self,
        group: CellGroup,
        *,
        training: bool,
        captions: WritePredictions | None = None,
    ) -> Any:
        train = val = None
        if training:
            train = loaders.train_loader(
                self._dataset("train"),
                self.first,
                seed=self.seed,
                start=self.start,
                **self._on_the_way(group, "train"),
            )
            if "val" in self.sets:
                val = self._eval_loader(group, "val")
        regions = self.sets["val"].regions if "val" in self.sets else ()
        runtime = self.first.runtime
        self.checkpoints = CheckpointHook(self.folders, runtime.checkpoint_every, self.start)
        phase = "training" if training else self.lead.data_split(group.captioning)
        work_dir = Path(self.job.runs_dir) / "attempts" / self.job.attempt
        return build_runner(
            group,
            name=f"{self.job.attempt}-{phase}",
            work_dir=work_dir,
            seed=self.seed,
            train_loader=train,
            val_loader=val,
            test_loader=self._eval_loader(group, group.captioning, False),
            val_metric=ValidationSummary(regions),
            test_metric=captions or WritePredictions(self.sets["captioned"].regions, self.folders),
            hooks=[
                LogHook(self.folders, runtime.log_every),
                self.checkpoints,
                *([PruneHook(work_dir)] if self.job.asks_pruner and training else []),
                HeartbeatHook(self.job),
            ],
            start=self.start,
        )

    def _eval_loader(
        self, group: CellGroup, split: RunSplit, training: bool | None = None
    ) -> DataLoader[Any]:
        dataset, more = self._dataset(split, training), self._on_the_way(group, split)
        return loaders.eval_loader(dataset, self.first, self.caption_regions[split], **more)

    def _on_the_way(self, group: CellGroup, split: RunSplit) -> dict[str, Any]:
        """Return what a loader is told of a batch's way to the device."""
        pinned, bank = is_gpu(self.device), group.banks.get(split)
        ahead: list[loaders.Ahead] = [partial(bank.attach, pinned=pinned)] if bank else []
        captioner = group.members[0].captioner
        alike = len({member.identity.spec.name for member in group.members}) == 1
        if alike and isinstance(captioner, PreparesBatches):
            ahead.append(captioner.preparation())
        return {"pin_memory": pinned, "ahead": loaders.InOrder(tuple(ahead)) if ahead else None}

    def _train(self, group: CellGroup) -> None:
        if all(is_trained(folder) for folder in self.folders.values()):
            for member in group.members:
                try:
                    load_trained(member.captioner, self.folders[member.key])
                except CellError as error:
                    group.fail(member, str(error))
            self._announce(group)
            return  # only the captions are missing
        for member in group.alive:
            with group.failing_alone(member.key):
                keep_log_until(self.folders[member.key], self.start)
        if self.first.train.steps and group.alive:
            self._train_or_keep(group)
        for member in group.alive:
            with group.failing_alone(member.key):
                save_trained(member.captioner, self.folders[member.key])
        self._announce(group)

    def _train_or_keep(self, group: CellGroup) -> None:
        """Make every step; where this process is told to stop, keep what those made gave."""
        runner = self._runner(group, training=True)
        with looking():
            try:
                runner.train()
            except ToldToStop as stop:
                self.checkpoints.save(runner, stop.step)
                raise
            except CellError as error:  # of a loader, which reads kept features
                group.fail_together(error)

    def _announce(self, group: CellGroup) -> None:
        """Tell the runs folder what was trained, for the runs that start from it or reuse it."""
        for cell, member in zip(self.job.cells, group.members, strict=True):
            if not member.error and cell.training_id:
                steps = member.settings.train.steps
                with group.failing_alone(member.key):
                    self.index.announce(cell.training_id, cell.cell_id, cell.seed, steps)

    def _fit(self, group: CellGroup) -> None:
        for member in group.alive:
            with group.failing_alone(member.key):
                fit_once(
                    member.captioner,
                    group,
                    self.sets["train"],
                    lambda: self._dataset("train"),
                    self.first,
                )

    def _caption(self, group: CellGroup) -> None:
        self._caption_split(group, "captioned", PREDICTIONS)
        if self.first.eval.also_train:
            self._caption_split(group, "train", TRAIN_PREDICTIONS)

    def _caption_split(self, group: CellGroup, split: RunSplit, name: str) -> None:
        if not group.alive:
            return
        for member in group.alive:
            with group.failing_alone(member.key):
                delete(self.folders[member.key] / name)
        group.captioning = split
        learnt: dict[str, Any] = {}
        if split == "train" and self.first.data.permute_captions:
            drawn = self._dataset(split)
            learnt = {r.region_id: drawn.references_of(r) for r in self.sets[split].regions}
        captions = WritePredictions(
            self.sets[split].regions, self.folders, name, learnt, group.failing_alone
        )
        try:
            self._runner(group, training=False, captions=captions).test()
        except CellError as error:  # of a loader, which reads kept features
            group.fail_together(error)
        for member in group.alive:
            try:
                check_complete(self.folders[member.key], name)
            except CellError as error:
                group.fail(member, str(error))

    def _write_masks(self, group: CellGroup) -> None:
        """Keep SAM's masks of the thumbnails' regions; a picture less is no reason to fail."""
        root, captioned = self.store.root, self.sets["captioned"]
        path = masks_file(root, captioned, self.lead)
        member = next(iter(group.alive), None)
        try:
            if member is not None and write_masks(
                path,
                member.captioner,
                group.banks.get("captioned"),
                self._dataset("captioned"),
                images_folder(root, captioned, self.lead),
                self.first,
                self.device,
            ):
                self.masks_file = path.relative_to(root).as_posix()
        except Exception as error:
            traceback.print_exc()
            self.outcome.messages.append(f"{path} is not written ({fault_text(error)})")

    def _timed(self, name: str, action: Callable[[], None]) -> None:
        started = time.perf_counter()
        action()
        self.timings[name] = time.perf_counter() - started
