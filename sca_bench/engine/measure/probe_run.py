"""A probe run of a group, timed: the same processes, parts and loops, with few images and steps.

What a run does once is kept apart from what it does for every image, step or caption, so that the
full size follows by multiplication. Runs inside a worker process, beside as many neighbours as the
full run will have.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from mmengine.hooks import Hook

from sca_bench.data.pipeline.dataset import ViewDataset
from sca_bench.devices.gpu import wait_for
from sca_bench.engine import loaders
from sca_bench.engine.forecast.costs import SplitSize
from sca_bench.engine.job import CellJob, GroupJob, Outcome
from sca_bench.engine.thumbnails import write_thumbnails
from sca_bench.engine.worker.cell_group import CellGroup
from sca_bench.engine.worker.group_run import GroupRun
from sca_bench.engine.worker.pool import Task
from sca_bench.engine.worker.prepare import prepare
from sca_bench.files import write_atomic
from sca_bench.specs.encoders import sam_dims
from sca_bench.study.keys.cell import RunSplit

_T = TypeVar("_T")
STEPS, _WARM_UP = 20, 4
_TRAIN_IMAGES = 96
_BATCHES = 2
"""Batches of each evaluation."""
_EVALUATED: tuple[RunSplit, ...] = ("val", "captioned")


def figures_path(outcome: Path) -> Path:
    """Return where a probing worker leaves its figures."""
    return outcome.with_suffix(".figures.json")


def small_job(job: GroupJob, runs_dir: Path, sizes: dict[RunSplit, SplitSize]) -> GroupJob:
    """Return a group's job with few images and steps, in a runs folder of its own.

    Args:
        job: The job of the full run.
        runs_dir: Where the probe run works.
        sizes: Size of each of the splits.
    """
    cells = [_small_cell(cell, sizes) for cell in job.cells]
    return replace(job, runs_dir=str(runs_dir), cells=cells)


def _small_cell(cell: CellJob, sizes: dict[RunSplit, SplitSize]) -> CellJob:
    settings = cell.settings
    images = _TRAIN_IMAGES if cell.identity.encoder.scale == "small" else 0
    counts = {"train": max(images, settings.train.images_per_batch)}
    for split in _EVALUATED:
        if split in sizes:
            per_image = max(1.0, sizes[split].regions / sizes[split].images)
            batch = max(1, round(settings.runtime.regions_at_a_time / per_image))
            counts[cell.identity.data_split(split)] = _BATCHES * batch
    splits = {name: getattr(settings.data, name) for name in counts}
    changed = {name: split and split.first_images(counts[name]) for name, split in splits.items()}
    trains = cell.identity.spec.trains == "gradient" and not cell.reuses
    steps = STEPS if trains and settings.train.steps else 0
    train = settings.train.model_copy(update={"steps": steps, "val_every": STEPS})
    runtime = settings.runtime.model_copy(update={"checkpoint_every": STEPS - 1, "cache_dir": ""})
    small = settings.model_copy(
        update={
            "data": settings.data.model_copy(update=changed),
            "train": train,
            "runtime": runtime,
            "eval": settings.eval.model_copy(update={"also_train": False}),
            "pretraining": (),
        }
    )
    identity = replace(cell.identity, settings=small)
    return replace(cell, identity=identity, starts_from="", reuses=False, training_id="")


def measure_reading(job: GroupJob, _unused: Outcome, outcome: Path) -> None:
    """Read all splits of a job at full size; leave the time and the sizes."""
    began, lead = time.time(), job.cells[0].identity
    settings = lead.settings
    load_s, sets = _timed(lambda: loaders.load_splits(lead))
    sizes: dict[str, Any] = {}
    for name, region_set in sets.items():
        views, rows = len(region_set.images), len(region_set.regions)
        if name == "train" and settings.data.lsj_scale is None and settings.data.flip != "never":
            side = sam_dims(settings.sam.size).image_size
            dataset = loaders.make_dataset(
                sets, name, lead, image_size=side, seed=0, with_pixels=False
            )
            shown = ViewDataset(dataset).keys
            views, rows = len(shown), sum(len(region_set.regions_of(image)) for image, _ in shown)
        most = settings.train.regions_per_image
        num_drawn = sum(min(most, len(region_set.regions_of(image))) for image in region_set.images)
        sizes[name] = SplitSize(
            images=len(region_set.images),
            regions=len(region_set.regions),
            views=views,
            rows=rows,
            drawn=num_drawn / len(region_set.images),
        ).model_dump()
    _leave(outcome, {"began": began, "load_s": load_s, "sizes": sizes})


def measure_preparation(job: GroupJob, _unused: Outcome, outcome: Path) -> None:
    """Prepare a probe run; leave the time of a preparation and of one image's features."""
    began, done = time.time(), Outcome()
    load_s, sets = _timed(lambda: loaders.load_splits(job.cells[0].identity))
    thumbnails_s, _ = _timed(
        lambda: write_thumbnails(
            sets["captioned"], Path(job.runs_dir) / f"thumbnails-{job.attempt}"
        )
    )
    whole_s, _ = _timed(lambda: prepare(job, done, outcome.with_suffix(".progress")))
    most = max(done.filled.values(), key=lambda took: took["images"], default=None)
    features_s = sum(took["seconds"] for took in done.filled.values())
    rest_s = whole_s - load_s - thumbnails_s - features_s
    _leave(
        outcome,
        {
            "began": began,
            "prepare_s": max(0.0, rest_s),
            "thumbnail_s": thumbnails_s / len(sets["captioned"].images),
            "feature_s": most["seconds"] / most["images"] if most and most["images"] else 0.0,
            "bytes": most["bytes"] / most["images"] if most and most["images"] else 0.0,
        },
    )


def measure_run(job: GroupJob, _unused: Outcome, outcome: Path) -> None:
    """Carry a probe run to its end; leave the time of a step, a checkpoint, an image's captions."""
    began, done = time.time(), Outcome()
    run = _TimedRun(job, done)
    whole_s, _ = _timed(run.run)
    if done.failed:
        raise RuntimeError(next(iter(done.failed.values())))
    watch, sets = run.watch, run.sets
    load_s, _ = _timed(lambda: loaders.load_splits(run.lead))
    steps = [b - a for a, b in zip(watch.steps, watch.steps[1:], strict=False)]
    steady = statistics.fmean(steps[_WARM_UP:-2]) if steps else 0.0  # others' work is in a mean
    validated = len(sets["val"].images) if "val" in sets and watch.val_s else 1
    tested = len(sets["captioned"].images) if watch.test_s else 1
    known = steady * len(watch.steps) + watch.val_s + watch.test_s + load_s
    record = run.store.record(job.cells[0].cell_id, job.cells[0].seed)
    _leave(
        outcome,
        {
            "began": began,
            "run_s": max(0.0, whole_s - known),
            "step_s": steady,
            "save_s": max(0.0, steps[-2] - steady) if steps else 0.0,
            "val_s": watch.val_s / validated,
            "caption_s": watch.test_s / tested,
            "cpu_share": watch.cpu_share if job.threads == 1 else 1.0,
            "memory_mib": record.cost["peak_memory_mib"] if record else 0.0,
        },
    )


class _Watch(Hook):  # type: ignore[misc]
    """Takes the time of steps, validation and captions; the last of all hooks."""

    priority = "LOWEST"

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.steps: list[float] = []
        self.val_s = self.test_s = 0.0
        self._since = 0.0
        self._cpu: list[float] = []

    @property
    def cpu_share(self) -> float:
        """Share of its core that a one-thread process got; what is missing, others had."""
        if len(self.steps) < 2:
            return 1.0
        wall = self.steps[-1] - self.steps[0]
        return min(1.0, (self._cpu[-1] - self._cpu[0]) / wall)

    def after_train_iter(self, runner: Any, batch_idx: int, **_: Any) -> None:
        wait_for(self._device)  # the host runs ahead of a GPU
        self.steps.append(time.perf_counter())
        self._cpu.append(time.process_time())

    def before_val(self, runner: Any) -> None:
        self._since = time.perf_counter()

    def after_val(self, runner: Any) -> None:
        self.val_s += time.perf_counter() - self._since

    def before_test(self, runner: Any) -> None:
        self._since = time.perf_counter()

    def after_test(self, runner: Any) -> None:
        self.test_s += time.perf_counter() - self._since


class _TimedRun(GroupRun):
    """A group attempt with a watch among its hooks.

    An untrained captioner may never say its end token; a trained one says it about where the
    references end, and a batch goes on as long as its longest caption. So captions are cut there.
    """

    def __init__(self, job: GroupJob, outcome: Outcome) -> None:
        super().__init__(job, outcome)
        self.watch = _Watch(self.device)

    def _group(self) -> CellGroup:
        group = super()._group()
        tokenizer = getattr(
            getattr(group.members[0].captioner, "text_decoder", None), "tokenizer", None
        )
        if tokenizer is not None:
            words = [
                text for region in self.sets["captioned"].regions for text in region.references
            ]
            ids = tokenizer(words, add_special_tokens=False)["input_ids"]
            most = min(group.decoding.max_new_tokens, max(map(len, ids)) + 1)
            group.decoding = replace(group.decoding, max_new_tokens=most)
        return group

    def _runner(self, *args: Any, **kwargs: Any) -> Any:
        runner = super()._runner(*args, **kwargs)
        runner.register_hook(self.watch, priority="LOWEST")
        return runner


def _timed(action: Callable[[], _T]) -> tuple[float, _T]:
    started = time.perf_counter()
    result = action()
    return time.perf_counter() - started, result


def _leave(outcome: Path, figures: dict[str, Any]) -> None:
    write_atomic(figures_path(outcome), json.dumps(figures))


_HERE = "sca_bench.engine.measure.probe_run"
READ = Task("read", f"{_HERE}:measure_reading")
PREPARE = Task("probe_prepare", f"{_HERE}:measure_preparation")
RUN = Task("probe_run", f"{_HERE}:measure_run")
