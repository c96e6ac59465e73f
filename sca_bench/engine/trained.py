"""The trained part of a run: written once, as safetensors, without any frozen weight."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from sca_bench.captioner import TrainableCaptioner
from sca_bench.errors import InputError
from sca_bench.models.sam_weights import read_tensors
from sca_bench.settings import CellSettings
from sca_bench.study.record import RunRecord
from sca_bench.study.store import TRAINED, trained_path
from sca_bench.study.training import Trained, file_sha256

_DECODER = "text_decoder."
"""Begins the names of a trained text decoder's tensors."""


def save_trained(captioner: Any, run_dir: Path) -> None:
    """Write the trainable tensors of a captioner."""
    state = {k: v.detach().cpu().contiguous() for k, v in captioner.trainable_state().items()}
    temporary = run_dir / f".{TRAINED}.{os.getpid()}.tmp"
    save_file(state, temporary)
    temporary.replace(run_dir / TRAINED)


def load_trained(captioner: Any, run_dir: Path) -> bool:
    """Load the trainable tensors of a finished training; False where there are none."""
    path = trained_path(run_dir)
    if not path.exists():
        return False
    captioner.load_trainable_state(load_file(path), where=path)
    return True


def load_found(captioner: Any, found: Trained, folder: Path) -> None:
    """Load weights that another run trained.

    Raises:
        InputError: They are not those that the run announced, or do not fit.
    """
    path = trained_path(folder)
    if file_sha256(path) != found.weights_sha256:
        problem = "has changed since it was trained"
        raise InputError(path, "weights_sha256", problem, f"delete {folder} to train it again")
    load_trained(captioner, folder)


def start_weights(captioner: Any, settings: CellSettings) -> None:
    """Load the trained tensors that `start_from` names, if it names any.

    A file without a text decoder's tensors leaves the decoder as `text_decoder.weights` gave it,
    so that a decoder may begin to learn where only the mixer did before. All else must be there.

    Args:
        captioner: The captioner of a cell, just built.
        settings: The cell.

    Raises:
        InputError: The file cannot be read; names or shapes are not those of the captioner; the
            variant has no trained tensors.
    """
    if settings.start_from is None:
        return
    key = "start_from"
    if not isinstance(captioner, TrainableCaptioner):
        problem = f"variant {settings.variant} has no trained tensors to start from"
        raise InputError(None, key, problem, "leave it out")
    path = Path(settings.start_from).expanduser()
    state = read_tensors(path, key)
    if not any(name.startswith(_DECODER) for name in state):
        own = captioner.trainable_state()
        state |= {name: tensor for name, tensor in own.items() if name.startswith(_DECODER)}
    captioner.load_trainable_state(state, where=path)


def find_trained(record: RunRecord, folder: Path) -> Path:
    """Return the file of a finished run's trained tensors: its own, or that of the run it reused.

    Raises:
        InputError: There is none, or the reused one has changed since.
    """
    own = trained_path(folder)
    if own.exists():
        return own
    if not record.lineage:
        raise InputError(own, "", "missing: this run has no trained tensors")
    last = record.lineage[-1]
    reused = trained_path(folder.parent.parent / last["cell_id"] / f"seed-{last['seed']}")
    if not reused.exists():
        raise InputError(reused, "", f"missing: {folder} reuses it", "run the suite again")
    if file_sha256(reused) != last["weights_sha256"]:
        raise InputError(reused, "weights_sha256", f"has changed since {folder} reused it")
    return reused
