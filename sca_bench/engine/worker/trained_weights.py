"""The trained part of a run: written once, as safetensors, without any frozen weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from sca_bench.captioner import TrainableCaptioner
from sca_bench.digests import file_sha256
from sca_bench.errors import CellError, InputError
from sca_bench.files import atomic_file
from sca_bench.models.sam.weights import read_tensors
from sca_bench.settings import CellSettings
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.soundness import Damaged, check_weights, run_name, seal_weights, unusable
from sca_bench.study.runs.store import trained_path
from sca_bench.study.runs.trained_index import Trained

_DECODER = "text_decoder."
"""Begins the names of a trained text decoder's tensors."""


def save_trained(captioner: Any, run_dir: Path) -> None:
    """Write the trainable tensors of a captioner, with their checksum and the run's name.

    They are on the disk when this returns; only then may the checkpoint before them go.
    """
    state = {k: v.detach().cpu().contiguous() for k, v in captioner.trainable_state().items()}
    parts = seal_weights(save(state), run_name(run_dir))
    with atomic_file(trained_path(run_dir)) as handle:
        for part in parts:
            handle.write(part)


def load_trained(captioner: Any, run_dir: Path) -> None:
    """Load the trainable tensors of a finished training.

    Raises:
        CellError: The file is damaged, and was set aside; or it cannot be read now, and was left
            alone.
    """
    path = trained_path(run_dir)
    try:
        sealed = check_weights(path, run_name(run_dir))
        try:
            captioner.load_trainable_state(load_file(path), where=path)
        except (SafetensorError, InputError) as error:
            if sealed:
                raise
            raise Damaged(str(error)) from error  # of an older run: sound if it loads strictly
    except Exception as error:
        raise CellError(unusable(path, error)) from error


def read_trained(path: Path) -> dict[str, Tensor]:
    """Read a run's trained tensors for somebody who only looks: nothing is renamed.

    Args:
        path: The file; its folder may have been copied, so it may be of any run.

    Raises:
        InputError: It is damaged, or cannot be read.
    """
    try:
        check_weights(path)
    except Damaged as fault:
        raise _damaged(path, fault) from fault
    except OSError:
        pass  # said below, as of any weights
    return read_tensors(path, "")


def _damaged(path: Path, fault: Damaged) -> InputError:
    fix = f"rename it to {path.name}.damaged and run the suite again to train it anew"
    return InputError(path, "", f"damaged: {fault}", fix)


def load_indexed(captioner: Any, trained: Trained, folder: Path) -> None:
    """Load weights that another run trained.

    Raises:
        InputError: They are not those that the run announced.
        CellError: They are damaged, or cannot be read now.
    """
    path = trained_path(folder)
    try:
        digest = file_sha256(path)
    except (OSError, MemoryError) as error:
        raise CellError(unusable(path, error)) from error
    if digest != trained.weights_sha256:
        try:
            check_weights(path, run_name(folder))
        except Exception as error:
            raise CellError(unusable(path, error)) from error
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
        InputError: There is none, it is another run's, or the reused one has changed since.
    """
    own = trained_path(folder)
    if own.exists():
        try:  # the header alone, which says whose they are; a folder may have been copied elsewhere
            check_weights(own, f"{record.cell_id}/seed-{record.seed}", thorough=False)
        except Damaged as fault:
            raise _damaged(own, fault) from fault
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
