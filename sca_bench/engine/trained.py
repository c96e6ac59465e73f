"""The trained part of a run: written once, as safetensors, without any frozen weight."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from sca_bench.study.store import TRAINED


def save_trained(captioner: Any, run_dir: Path) -> None:
    """Write the trainable tensors of a captioner."""
    state = {k: v.detach().cpu().contiguous() for k, v in captioner.trainable_state().items()}
    temporary = run_dir / f".{TRAINED}.{os.getpid()}.tmp"
    save_file(state, temporary)
    temporary.replace(run_dir / TRAINED)


def load_trained(captioner: Any, run_dir: Path) -> bool:
    """Load the trainable tensors of a finished training; False where there are none."""
    path = run_dir / TRAINED
    if not path.exists():
        return False
    captioner.load_trainable_state(load_file(path), where=path)
    return True
