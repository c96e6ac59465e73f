"""Which `sam.size` SAM weights have, by their names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sca_bench.errors import InputError, at
from sca_bench.models.sam.sam import build_sam
from sca_bench.models.sam.tensor_names import has_transformers_names, to_meta_names
from sca_bench.models.sam.weights import read_sam, transformers_dims, without_unused
from sca_bench.specs.encoders import of_sam, sam_sizes


def read_sized_sam(path: Path) -> tuple[str, dict[str, Tensor]]:
    """Read SAM weights of any layout and tell their size.

    Args:
        path: A weight file, or a folder in transformers' layout.

    Returns:
        The `sam.size`, and the tensors under Meta's names.

    Raises:
        InputError: They cannot be read, or fit no size.
    """
    config_dims = transformers_dims(path)
    tensors = read_sam(path)
    differences: dict[str, list[str]] = {}
    for size, dims in sam_sizes().items():
        encoder = of_sam(size)
        with torch.device("meta"):
            expected = build_sam(size).state_dict()
        named = dict(tensors)
        if has_transformers_names(tensors):
            with at(path):
                named = to_meta_names(tensors, expected, encoder.renamed)
        named = without_unused(named, encoder)
        if _shapes(named) == _shapes(expected) and config_dims in (None, dims):
            return size, named
        pairs = _shapes(named).items() ^ _shapes(expected).items()
        differences[size] = sorted({name for name, _ in pairs}) or ["config.json"]
    near = min(differences, key=lambda size: len(differences[size]))
    problem = f"{path} fits no sam.size; nearest is {near}, which differs in {differences[near][0]}"
    raise InputError(None, "", f"{problem} and {len(differences[near]) - 1} more tensors")


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
