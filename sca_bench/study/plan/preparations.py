"""Which cells are prepared together: those whose frozen features come from the same passes."""

from __future__ import annotations

from typing import Any

from sca_bench.study.keys.cell import RunSplit
from sca_bench.study.plan.plan import Group, Job
from sca_bench.types import FAMILIES


def preparations(groups: list[Group]) -> list[tuple[Group, tuple[RunSplit, ...]]]:
    """Return what is to be prepared: cells, and the splits whose frozen features they share.

    Whoever reads the same images of the same SAM with the same prompts stands in one preparation,
    whatever is read of it and by which kind of captioner, so that each image is encoded once.
    """
    readers: dict[Any, dict[str, tuple[Group, Job]]] = {}
    for group in groups:
        for job in group.jobs:
            for split in _prepared_splits(job):
                keys = (job.cell.identity.features_key(split, family) for family in FAMILIES)
                mode = job.cell.settings.features.cache
                reading = readers.setdefault((split, mode, *keys), {})
                reading.setdefault(job.cell.cell_id, (group, job))
    together: dict[frozenset[str], tuple[list[tuple[Group, Job]], list[RunSplit]]] = {}
    for (split, *_), reading in readers.items():
        together.setdefault(frozenset(reading), (list(reading.values()), []))[1].append(split)
    return [
        (Group(first.key, first.seed, (job, *(other for _, other in rest))), tuple(splits))
        for ((first, job), *rest), splits in together.values()
    ]


def _prepared_splits(job: Job) -> tuple[RunSplit, ...]:
    """Return the splits to prepare for a run; one where nothing can be kept, to check its input."""
    kept = tuple(split for split in job.splits if job.cell.identity.caches(split))
    return kept or job.splits[:1]
