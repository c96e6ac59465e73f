"""Rebuilds the shipped weights from their recipes, and writes down what came out.

The command is `python -m sca_bench weights build --out FOLDER [--only NAME]`.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from sca_bench.digests import file_sha256
from sca_bench.embedded import lm_recipe, sam_eval, sam_recipe
from sca_bench.errors import InputError, did_you_mean
from sca_bench.files import make_folder, write_atomic
from sca_bench.scene_grammar import WORLD_VERSION

MANIFEST = "manifest.json"
NUM_RECORDED_LOSSES = 3


@dataclass(frozen=True)
class _Built:
    """What one recipe yielded: files relative to the output folder, losses, measured figures."""

    files: list[str]
    losses: list[float]
    measured: dict[str, float]


def recipe_settings(name: str) -> dict[str, Any]:
    """Return everything that decides the weights `name`: recipe, sizes, world.

    Raises:
        InputError: There is no such recipe.
    """
    if name in lm_recipe.RECIPES:
        settings = lm_recipe.RECIPES[name].as_dict()
    elif name in sam_recipe.RECIPES:
        settings = sam_recipe.RECIPES[name].as_dict()
    else:
        raise InputError("weights", name, "no such recipe", did_you_mean(name, names()))
    # Through JSON, so that what is compared is what is stored.
    stored: dict[str, Any] = json.loads(json.dumps(settings | {"world": WORLD_VERSION}))
    return stored


def digest(settings: dict[str, Any]) -> str:
    """Return the SHA-256 of recipe settings, independent of the order of their keys."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def names() -> list[str]:
    """Return the names of all shipped weights."""
    return [*sam_recipe.RECIPES, *lm_recipe.RECIPES]


def first_losses(name: str, count: int = NUM_RECORDED_LOSSES) -> list[float]:
    """Run the first steps of a recipe and return their losses."""
    if name in lm_recipe.RECIPES:
        return lm_recipe.train_lm(lm_recipe.RECIPES[name], max_steps=count)[1]
    return sam_recipe.train_sam(sam_recipe.RECIPES[name], max_steps=count)[1]


def build_all(
    out_dir: Path, only: str | Iterable[str] | None = None, say: Callable[[str], None] = print
) -> Path:
    """Train the weights and write them with their manifest.

    Trainings run one after the other on one CPU thread, so that a second build gives the same
    weights up to the arithmetic of the machine. The number of threads is put back afterwards.

    Args:
        out_dir: Folder to write to; files of other recipes in it stay as they are.
        only: Name or names of the weights to build; all when None.
        say: Called with one line of progress now and then.

    Returns:
        The manifest's path.

    Raises:
        InputError: A name is unknown.
    """
    wanted = [only] if isinstance(only, str) else list(names() if only is None else only)
    settings = {name: recipe_settings(name) for name in wanted}
    make_folder(out_dir)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name in wanted:
            started = time.process_time()
            build = _build_lm if name in lm_recipe.RECIPES else _build_sam
            built = build(name, out_dir, say)
            entry = {
                "digest": digest(settings[name]),
                "recipe": settings[name],
                "files": {file: file_sha256(out_dir / file) for file in built.files},
                "first_losses": built.losses[:NUM_RECORDED_LOSSES],
                "last_loss": sum(built.losses[-20:]) / len(built.losses[-20:]),
                "measured": built.measured,
                "cpu_seconds": round(time.process_time() - started, 1),
                "made_with": {"torch": torch.__version__, "machine": platform.machine()},
            }
            _write_entry(out_dir / MANIFEST, name, entry)
            say(f"{name}: {built.measured}, {entry['cpu_seconds']} CPU-s")
    finally:
        torch.set_num_threads(threads)
    return out_dir / MANIFEST


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a weights folder.

    Raises:
        InputError: There is none, or it is no JSON.
    """
    path = folder / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise InputError(
            path,
            "",
            f"cannot be read ({error})",
            "run `python -m sca_bench weights build --out DIR`",
        ) from error
    return manifest


def _write_entry(path: Path, name: str, entry: dict[str, Any]) -> None:
    manifest = read_manifest(path.parent) if path.exists() else {}
    manifest[name] = entry
    write_atomic(path, json.dumps(manifest, indent=2, sort_keys=True) + "\n")


def _build_sam(name: str, out_dir: Path, say: Callable[[str], None]) -> _Built:
    recipe = sam_recipe.RECIPES[name]
    sam, losses = sam_recipe.train_sam(recipe, report=_reporter(name, recipe.steps, say))
    # Half precision on disk; figures are measured on what a user will load.
    halves = {key: tensor.half().contiguous() for key, tensor in sam.state_dict().items()}
    file = f"{name}.safetensors"
    write_atomic(out_dir / file, save(halves))
    sam.load_state_dict(halves)
    return _Built([file], losses, sam_eval.evaluate_sam(recipe, sam))


def _build_lm(name: str, out_dir: Path, say: Callable[[str], None]) -> _Built:
    recipe = lm_recipe.RECIPES[name]
    model, losses = lm_recipe.train_lm(recipe, report=_reporter(name, recipe.steps, say))
    folder = out_dir / name
    lm_recipe.save_lm(model, folder)
    files = [path.relative_to(out_dir).as_posix() for path in sorted(folder.iterdir())]
    return _Built(files, losses, lm_recipe.evaluate_lm(recipe, model))


def _reporter(name: str, steps: int, say: Callable[[str], None]) -> Callable[[int, float], None]:
    def report(step: int, loss: float) -> None:
        if (step + 1) % 50 == 0 or step + 1 == steps:
            say(f"{name}: step {step + 1} of {steps}, loss {loss:.4f}")

    return report
