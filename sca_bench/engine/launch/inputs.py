"""What `run` reads, opened and judged before it: data, overlaps, pictures, subsets, weights.

By the functions that a run's preparation calls. What takes long is left out, and named: a file that
nobody has looked into is not all right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from sca_bench.data.index.lookup import index_folder
from sca_bench.data.pipeline.dataset import PLAIN, RegionDataset
from sca_bench.data.region_set import RegionSet
from sca_bench.devices.gpu import resolve_device
from sca_bench.engine.job import CellJob, GroupJob, Outcome, group_job
from sca_bench.engine.worker.prepare import build_members, open_data
from sca_bench.errors import InputError, at
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.subsets import subset_rows
from sca_bench.models.text_decoder.loading import RANDOM_PREFIX
from sca_bench.settings import CellSettings
from sca_bench.specs.encoders import in_sam, of_sam
from sca_bench.study.keys.cell import SPLITS, CellIdentity
from sca_bench.study.keys.fingerprint import path_settings
from sca_bench.study.plan.plan import Plan
from sca_bench.study.plan.preparations import preparations
from sca_bench.study.runs.store import Store
from sca_bench.walk import bytes_of
from sca_bench.weight_paths import resolve

MOST_PICTURES = 200
"""Pictures of a split that are decoded, spread over it."""
MOST_BYTES = 256 * 2**20
"""Size up to which weights, and annotations without an index, are read."""
_MIB = 2**20
_RANDOM = "random"
_BUILT_FROM = {
    *(
        "variant",
        "options",
        "sam",
        "encoder",
        "mixer",
        "prefix",
        "text_decoder",
        "baseline",
        "crop",
    ),
    *("start_from", "features"),
}
"""Sections of a cell's settings that its captioner is built from."""


@dataclass
class Judged:
    """What came of looking at the inputs of a plan.

    Attributes:
        read: A line on each split that was read.
        faults: What a run would refuse, and which of its cells would fail.
        unjudged: What was not looked into, and why.
    """

    read: dict[str, None] = field(default_factory=dict)
    faults: dict[str, None] = field(default_factory=dict)
    unjudged: dict[str, None] = field(default_factory=dict)


def judge_inputs(plan: Plan, store: Store) -> Judged:
    """Open what the runs that are left of a plan read.

    Args:
        plan: The plan; runs that lack a file are left out.
        store: The runs folder; nothing is written into it.
    """
    judged = Judged()
    first = {job.cell.cell_id: job for job in reversed(plan.left)}  # a seed is no input
    if not first:
        return judged
    device = "cpu"
    with _noting(judged), at(plan.suite.file):
        device = resolve_device(plan.left[0].cell.settings.runtime.device)
    seen: set[object] = set()
    for group, splits in preparations(Plan.grouped(first.values())):
        job = group_job(
            group, runs_dir=store.root, suite=plan.suite, threads=1, device=device, command=""
        )
        _judge_data(replace(job, splits=splits), plan.suite.subsets, seen, judged)
        _judge_weights(job, seen, judged)
    return judged


@contextmanager
def _noting(judged: Judged) -> Iterator[None]:
    """Take a fault down instead of stopping at it."""
    try:
        yield
    except InputError as error:
        judged.faults[str(error)] = None
    except Exception as error:  # what a worker would end with
        judged.faults[" ".join(f"{type(error).__name__}: {error}".split())[:500]] = None


def _judge_data(
    job: GroupJob, subsets: Mapping[str, str], seen: set[object], judged: Judged
) -> None:
    """Read the splits of a group, some of their pictures, and the subsets that are scored."""
    reads = [_what_is_read(cell.identity) for cell in job.cells]
    if seen.issuperset(reads):
        return
    seen.update(reads)
    large = [text for cell in job.cells for text in _large_data(cell.settings)]
    if large:
        judged.unjudged.update(dict.fromkeys(large))
        return
    outcome, identity = Outcome(), job.cells[0].identity
    with _noting(judged), at(job.where):
        sets, datasets = open_data(job, outcome)
        judged.read.update(dict.fromkeys(outcome.messages))
        for split, dataset in datasets.items():
            shown = (identity.split_images(split), identity.prompt(split))
            if shown not in seen:
                seen.add(shown)
                _judge_pictures(f"data.{identity.data_split(split)}", dataset, judged)
        if not job.is_stage:
            rows = list(_rows(sets["captioned"]))
            for which in subsets.values():
                subset_rows(rows, which)


def _what_is_read(cell: CellIdentity) -> tuple[object, ...]:
    """Return all that decides on what `open_data` does for a cell."""
    splits = tuple(cell.split_images(split) for split in SPLITS)
    prompts = (cell.prompt("train"), cell.prompt("captioned"))
    return (*splits, *prompts, cell.settings.data.permute_captions)


def _large_data(settings: CellSettings) -> Iterator[str]:
    """Yield the annotations of a cell that are too large to be read for a look."""
    data = settings.data
    for name, given in (("train", data.train), ("val", data.val), ("test", data.test)):
        for split in () if given is None else given.singles():
            sizes = {path: bytes_of(path) for path in split.files().values()}
            size = sum(sizes.values())
            if size > MOST_BYTES and index_folder(split) is None:
                largest = max(sizes, key=sizes.__getitem__)
                yield f"data.{name} ({largest}, {size / _MIB:,.0f} MiB, no index)"


def _judge_pictures(name: str, dataset: RegionDataset, judged: Judged) -> None:
    """Make the input of some pictures of a split, with their prompts, as a run would."""
    images = dataset.region_set.images.values()
    files = [index for index, record in enumerate(images) if record.path]
    some = files[:: -(-len(files) // MOST_PICTURES) or 1]
    for index in some:
        dataset.view(index, PLAIN)
    if len(some) < len(files):
        left = len(files) - len(some)
        judged.unjudged[f"{left:,} of {len(files):,} pictures of {name}"] = None


def _rows(captioned: RegionSet) -> Iterator[CaptionRow]:
    """Yield the regions of a split as rows of predictions, without captions."""
    for region in captioned.regions:
        own = (region.region_id, region.image_id)
        yield CaptionRow(*own, "", region.references, box_xyxy=region.box_xyxy)


def _judge_weights(job: GroupJob, seen: set[object], judged: Judged) -> None:
    """Build the captioners of a group that are small, with their weights."""
    small: list[CellJob] = []
    for cell in job.cells:
        built = cell.settings.model_dump_json(include=_BUILT_FROM) + cell.settings.train.precision
        if built in seen:
            continue
        seen.add(built)
        large = list(_large_weights(cell))
        judged.unjudged.update(dict.fromkeys(large))
        if not large:
            small.append(cell)
    outcome = Outcome()
    with _noting(judged), at(job.where):
        for _ in build_members(replace(job, cells=small), outcome):
            pass
    names = {cell.key: cell.name for cell in small}
    for key, reason in outcome.failed.items():
        judged.faults[f"{job.where}: {names[key]}: {reason}"] = None


def _large_weights(cell: CellJob) -> Iterator[str]:
    """Yield the weights of a captioner that are too large, or too far away, for a look."""
    settings, reads = cell.settings, cell.identity.spec.own_reads

    def is_read(key: str) -> bool:
        sections = {key.split(".")[0], key}
        return not reads or any(r in sections or r.startswith(f"{key}.") for r in reads)

    for key, value in path_settings(settings):
        if key.startswith(("data.", "pretraining.")) or not is_read(key) or value == _RANDOM:
            continue
        path = Path() if value.startswith(RANDOM_PREFIX) else resolve(value, key)
        if value.startswith(RANDOM_PREFIX) or not path.exists():
            yield f"{key} ({value})"
        elif (size := bytes_of(path)) > MOST_BYTES:
            yield f"{key} ({value}, {size / _MIB:,.0f} MiB)"
    put_in, sam = in_sam(settings.encoder.type), of_sam(settings.sam.size)
    if is_read("encoder") and put_in.build:
        if put_in.scale == "large":
            yield f"encoder.type {put_in.name}, which is large"
    elif is_read("sam") and settings.sam.weights == _RANDOM and sam.scale != "small":
        yield f"sam.size {sam.name} without weights"
    if is_read("baseline") and settings.baseline.weights == _RANDOM and settings.baseline.size:
        yield f"baseline.size {settings.baseline.size} without weights"
