"""SAM weights in Meta's key layout: read, check, load; nothing is loaded half."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sca_bench.embedded.paths import resolve
from sca_bench.errors import InputError

IMAGE_ENCODER_PREFIX = "image_encoder."


def read_tensors(path: Path, where: str, key: str) -> dict[str, Tensor]:
    """Read a `.safetensors` file, or a torch file with nothing but tensors in it.

    Args:
        path: File to read.
        where: File to name in an error.
        key: Key to name in an error.

    Raises:
        InputError: The file is absent, unreadable, or no mapping of names to tensors.
    """
    if not path.is_file():
        raise InputError(where, key, f"{path} does not exist or is no file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):
            reason = "it is damaged, or holds more than tensors, which is never loaded"
        raise InputError(where, key, f"{path} cannot be read as weights ({reason})") from error
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise InputError(where, key, f"{path} is no mapping of names to tensors")
    return tensors


def load_strictly(
    module: nn.Module, tensors: Mapping[str, Tensor], path: Path, where: str, key: str
) -> None:
    """Load `tensors` into `module`, which must have exactly these names and shapes.

    Raises:
        InputError: Names or shapes differ; the first offending name is given.
    """
    expected = module.state_dict()
    missing = [name for name in expected if name not in tensors]
    if missing:
        raise InputError(
            where,
            key,
            f"{path} lacks {missing[0]} {tuple(expected[missing[0]].shape)}"
            f" and {len(missing) - 1} more of {len(expected)} tensors",
        )
    unknown = [name for name in tensors if name not in expected]
    if unknown:
        raise InputError(
            where,
            key,
            f"{path} holds {unknown[0]} {tuple(tensors[unknown[0]].shape)}, which the model has"
            f" not, and {len(unknown) - 1} more such tensors",
        )
    for name, tensor in expected.items():
        if tensors[name].shape != tensor.shape:
            raise InputError(
                where,
                key,
                f"{path} holds {name} of shape {tuple(tensors[name].shape)},"
                f" but the model has {tuple(tensor.shape)}",
            )
    # On the meta device there is nothing to load into: names and shapes are checked all the same.
    if not any(tensor.is_meta for tensor in expected.values()):
        module.load_state_dict(tensors)


def load_sam_weights(
    sam: nn.Module, weights: str, *, where: str = "settings", skip_image_encoder: bool = False
) -> None:
    """Load SAM weights in Meta's layout.

    Args:
        sam: The model to load into.
        weights: `embedded:NAME`, or a `.safetensors` / `.pth` file.
        where: File to name in an error.
        skip_image_encoder: Leave `image_encoder.*` keys of the file unread, and the model's image
            encoder as it is.

    Raises:
        InputError: The file cannot be read, or its names or shapes do not fit.
    """
    key = "sam.weights"
    path = resolve(weights, where, key)
    tensors = read_tensors(path, where, key)
    if skip_image_encoder:
        own = {n: t for n, t in sam.state_dict().items() if n.startswith(IMAGE_ENCODER_PREFIX)}
        rest = {n: t for n, t in tensors.items() if not n.startswith(IMAGE_ENCODER_PREFIX)}
        tensors = {**rest, **own}
    load_strictly(sam, tensors, path, where, key)
