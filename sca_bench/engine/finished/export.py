"""A finished run as a checkpoint in the original's layout, with a card that says what it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sca_bench.digests import file_sha256, write_once
from sca_bench.engine.finished.caption import FinishedCaptioner
from sca_bench.engine.worker.trained_weights import find_trained
from sca_bench.errors import InputError
from sca_bench.models.original.layout import save_original
from sca_bench.models.original.settings import fold_gain
from sca_bench.models.sca import ScaCaptioner
from sca_bench.study.find_run import find_finished
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.store import Store

CARD = "export.json"


def export_run(store: Store, run: str, out: Path) -> list[str]:
    """Write a finished run as a checkpoint of the original.

    Args:
        store: The runs folder.
        run: `CELL`, `CELL/SEED` or a run folder.
        out: New folder for the checkpoint and `export.json`. Once written, the same export finds
            it and leaves it alone.

    Returns:
        Lines for the user.

    Raises:
        InputError: No such run, its weights have changed, the layout cannot express it, or the
            folder holds something else.
    """
    record, folder = find_finished(store, run)
    origin = {
        "cell_id": record.cell_id,
        "seed": record.seed,
        "trained_sha256": file_sha256(find_trained(record, folder)),
    }
    card, is_new = write_once(out, CARD, origin, lambda path: _write(record, folder, path))
    what_happened = f"{out}: {'written' if is_new else 'exported before, unchanged'}"
    lines = [f"{what_happened}; {record.variant}, cell {record.cell_id}, seed {record.seed}"]
    return lines + [str(note) for note in card["notes"]]


def _write(record: RunRecord, folder: Path, out: Path) -> dict[str, Any]:
    captioner = FinishedCaptioner(record, folder).captioner
    if not isinstance(captioner, ScaCaptioner):
        problem = f"variant {record.variant} is no SCA captioner"
        raise InputError(folder, "variant", problem, "only SCA's designs can be exported")
    notes = []
    gain = fold_gain(captioner)
    if gain != 1.0:
        notes.append(
            f"prefix.gain {gain:g} has no place in this layout: projection and task tokens are"
            " multiplied by it, so the prefix is the same up to rounding"
        )
    save_original(captioner, out)
    return {
        "run": {
            "cell_id": record.cell_id,
            "seed": record.seed,
            "variant": record.variant,
            "revision": record.revision,
            "settings": record.settings,
            "inputs": record.inputs,
            "lineage": record.lineage,
            "provenance": record.provenance,
        },
        "scores": {name: score.model_dump() for name, score in record.scores.items()},
        "notes": notes,
    }
