"""Where finished weights lie: `stages/<training id>/seed-<n>.json` says which run trained them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sca_bench.digests import file_sha256
from sca_bench.files import write_atomic
from sca_bench.study.runs.store import Store, is_trained, trained_path


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
            trained = _POINTER.validate_json(path.read_bytes(), strict=True)
        except (OSError, ValidationError):
            return None  # only a pointer: what is lost is trained again
        return trained if is_trained(self.folder(trained)) else None

    def folder(self, trained: Trained) -> Path:
        """Return the folder of the run that holds the weights."""
        return self._store.run_dir(trained.cell_id, trained.seed)

    def announce(self, training_id: str, cell_id: str, seed: int, steps: int) -> Trained:
        """Say that a run has finished a training."""
        weights = trained_path(self._store.run_dir(cell_id, seed))
        trained = Trained(cell_id, seed, steps, file_sha256(weights))
        write_atomic(self._path(training_id, seed), json.dumps(asdict(trained)) + "\n")
        return trained

    def lineage(self, name: str, trained: Trained) -> list[dict[str, Any]]:
        """Return the chain of trainings up to these weights, the first one first."""
        record = self._store.record(trained.cell_id, trained.seed)
        before = list(record.lineage) if record is not None else []
        return [*before, {"stage": name, **asdict(trained)}]

    def _path(self, training_id: str, seed: int) -> Path:
        return self._store.root / "stages" / training_id / f"seed-{seed}.json"
