"""Do the shipped weights belong to the recipes of this source tree?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from sca_bench.digests import file_sha256
from sca_bench.embedded.build import (
    digest,
    first_losses,
    names,
    read_manifest,
    recipe_settings,
)
from sca_bench.errors import InputError
from sca_bench.weight_paths import WEIGHTS_DIR

LOSS_TOLERANCE = 1e-3


def verify(
    folder: Path = WEIGHTS_DIR, *, losses: bool = True, only: str | None = None
) -> Iterator[str]:
    """Check a weights folder against the recipes; yield one line per weights name.

    Args:
        folder: Folder with the weights and their manifest.
        losses: Run the first training steps again and compare their losses, too.
        only: Name of the weights to check; all where None.

    Raises:
        InputError: A file is missing or changed, or was made by another recipe; no such weights.
    """
    if only is not None:
        recipe_settings(only)
    manifest = read_manifest(folder)
    for name in names() if only is None else (only,):
        entry = manifest.get(name)
        if entry is None:
            raise InputError(folder, name, "not in the manifest", "build it again")
        if entry["digest"] != digest(recipe_settings(name)):
            raise InputError(folder, name, "was made by another recipe", "build it again")
        for file, sha256 in entry["files"].items():
            path = folder / file
            if not path.is_file():
                raise InputError(path, "", "missing", "build it again")
            if file_sha256(path) != sha256:
                raise InputError(path, "", "has changed since it was built", "build it again")
        line = f"{name}: recipe and {len(entry['files'])} files agree"
        if losses:
            recorded = entry["first_losses"]
            again = first_losses(name, len(recorded))
            for old, new in zip(recorded, again, strict=True):
                if not math.isclose(old, new, rel_tol=LOSS_TOLERANCE):
                    problem = f"the recipe's losses are {again}, recorded are {recorded}"
                    raise InputError(folder, name, problem, "build it again")
            line += f", the first {len(again)} losses repeat"
        yield line
