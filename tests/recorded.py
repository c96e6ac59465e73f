"""The recorded checkpoints of the original that ship with the tests.

To keep a clone small, equal files are stored once: inputs in `shared`, and weights as what they
change (`changed.safetensors`) of another folder's, with what they lack (`weights.json`).
"""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from pathlib import Path

from safetensors.torch import load_file, save_file

FIXTURES = Path(__file__).parent / "parity" / "fixtures"
WEIGHTS = "weights.json"


def recorded_folders() -> list[Path]:
    """Return the folders of recorded models that ship."""
    metas = sorted(FIXTURES.glob("*/meta.json"))
    return [m.parent for m in metas if "original_class" in json.loads(m.read_text())]


def original_class(folder: Path) -> str:
    """Return the class that was recorded."""
    return json.loads((folder / "meta.json").read_text())["original_class"]


def inputs_file(folder: Path) -> Path:
    """Return the file of a folder's inputs."""
    own = folder / "inputs.safetensors"
    return own if own.is_file() else folder.parent / "shared" / "inputs.safetensors"


@functools.cache
def checkpoint(folder: Path) -> Path:
    """Return a folder with `config.json` and all weights: the folder itself, if it has them."""
    if not (folder / WEIGHTS).is_file():
        return folder
    recipe = json.loads((folder / WEIGHTS).read_text())
    tensors = load_file(folder.parent / recipe["same_as"] / "model.safetensors")
    without = tuple(recipe["without"])
    tensors = {name: t for name, t in tensors.items() if not name.startswith(without)}
    changed = folder / "changed.safetensors"
    if changed.is_file():
        tensors |= load_file(changed)
    whole = Path(_temporary().name) / folder.name
    whole.mkdir()
    save_file(tensors, whole / "model.safetensors")
    shutil.copy(folder / "config.json", whole)
    return whole


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="recorded-")
