"""The trained part of a run: written once, as safetensors, without any frozen weight."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from sca_bench.errors import InputError
from sca_bench.study.store import TRAINED, trained_path
from sca_bench.study.training import Trained, file_sha256


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
