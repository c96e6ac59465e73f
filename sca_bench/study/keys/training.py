"""What was trained, by content: the stages of a cell, and where finished weights lie.

A training is addressed like a cell, but without what only evaluation reads: cells that differ in
prompt or decoding share one training, and cells that begin with the same pretraining share that.
`stages/<training id>/seed-<n>.json` in the runs folder says which run holds the weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sca_bench.files import file_sha256, write_atomic
from sca_bench.settings import CellSettings, EvalSettings, StageSettings
from sca_bench.study.runs.store import Store, is_trained, trained_path


def stages_of(settings: CellSettings) -> Iterator[tuple[str, CellSettings]]:
    """Yield the stages before a cell's own training, in order: name, and settings of a cell.

    A stage is a cell of its own kind: the same model, other data and recipe, never evaluated. Its
    test split stays that of the cell, which must not share an image with what a stage trains on.
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


@dataclass(frozen=True)
class Trained:
    """Finished weights of one training and seed.

    Attributes:
        cell_id: The run that trained them (a stage's run has the training's own key as id).
        seed: Its seed.
        steps: Optimiser steps of this training alone.
        weights_sha256: Digest of the weights file.
    """

    cell_id: str
    seed: int
    steps: int
    weights_sha256: str


_POINTER = TypeAdapter(Trained)


class TrainedIndex:
    """Finds and announces finished weights in a runs folder."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, training_id: str, seed: int) -> Trained | None:
        """Return the weights of a training, or None where there are none (any more)."""
        path = self._path(training_id, seed)
        try:
            found = _POINTER.validate_json(path.read_bytes(), strict=True)
        except (OSError, ValidationError):
            return None  # only a pointer: what is lost is trained again
        return found if is_trained(self.folder(found)) else None

    def folder(self, found: Trained) -> Path:
        """Return the folder of the run that holds the weights."""
        return self._store.run_dir(found.cell_id, found.seed)

    def announce(self, training_id: str, cell_id: str, seed: int, steps: int) -> Trained:
        """Say that a run has finished a training."""
        weights = trained_path(self._store.run_dir(cell_id, seed))
        found = Trained(cell_id, seed, steps, file_sha256(weights))
        write_atomic(self._path(training_id, seed), json.dumps(asdict(found)) + "\n")
        return found

    def lineage(self, name: str, found: Trained) -> list[dict[str, Any]]:
        """Return the chain of trainings up to these weights, the first one first."""
        record = self._store.record(found.cell_id, found.seed)
        before = list(record.lineage) if record is not None else []
        return [*before, {"stage": name, **asdict(found)}]

    def _path(self, training_id: str, seed: int) -> Path:
        return self._store.root / "stages" / training_id / f"seed-{seed}.json"
