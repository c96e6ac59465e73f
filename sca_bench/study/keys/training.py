"""The stages of a cell: trainings that come before its own.

A training is addressed like a cell, but without what only evaluation reads
(`keys.cell.CellIdentity.training_key`): cells that differ in prompt or decoding share one training,
and cells that begin with the same pretraining share that.
"""

from __future__ import annotations

from collections.abc import Iterator

from sca_bench.settings import CellSettings, EvalSettings, StageSettings


def stages_of(settings: CellSettings) -> Iterator[tuple[str, CellSettings]]:
    """Yield the stages before a cell's own training, in order: name, and settings of a cell.

    A stage is a cell of its own kind: the same model, other data and recipe, never evaluated. Its
    test split stays that of the cell; which of its images a stage trains on is counted and said.
    """
    for number, stage in enumerate(settings.pretraining):
        yield stage.name, _stage_settings(settings, number, stage)


def _stage_settings(settings: CellSettings, number: int, stage: StageSettings) -> CellSettings:
    data = settings.data.model_copy(update={"val": None, **dict(stage.data)})
    return settings.model_copy(
        update={
            "pretraining": settings.pretraining[:number],
            "data": data,
            "train": stage.train,
            "eval": EvalSettings(),
        }
    )
