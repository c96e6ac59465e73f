"""The two namings of SAM's tensors: Meta's, which this package uses, and transformers'.

Checkpoints of transformers' SamModel and of the original SCA code base follow transformers' names.
Between the two lies a pure renaming: no tensor is split, joined or transposed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from sca_bench.errors import InputError

PE_BUFFER = "shared_image_embedding.positional_embedding"
Renames = tuple[tuple[str, str], ...]
"""Patterns of names, each with what stands in its place; they are applied in order."""
ALIASES = {"prompt_encoder.shared_embedding.positional_embedding": PE_BUFFER}
"""Second names under which transformers' layout may hold a tensor again."""

_MIXER = (
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"\.norm_final_attn\.", ".layer_norm_final_attn."),
)
_RENAMES: Renames = (
    (r"^image_encoder\.", "vision_encoder."),
    (r"^prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix$", PE_BUFFER),
    (r"^prompt_encoder\.point_embeddings\.", "prompt_encoder.point_embed."),
    (r"^prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"^prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"^prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"^prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"^prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    (r"^mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"^mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"^mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    (r"(_mlps\.\d+|iou_prediction_head)\.layers\.0\.", r"\1.proj_in."),
    (r"(_mlps\.\d+|iou_prediction_head)\.layers\.1\.", r"\1.layers.0."),
    (r"(_mlps\.\d+|iou_prediction_head)\.layers\.2\.", r"\1.proj_out."),
)


def transformers_name(name: str, renamed: Renames) -> str:
    """Return transformers' name of a SAM tensor that Meta calls `name`; others are unchanged.

    Args:
        name: Meta's name.
        renamed: `EncoderSpec.renamed` of SAM's image encoder.
    """
    for pattern, replacement in (*_RENAMES, *renamed):
        name = re.sub(pattern, replacement, name)
    if name.startswith("mask_decoder."):
        for pattern, replacement in _MIXER:
            name = re.sub(pattern, replacement, name)
    return name


def has_transformers_names(tensors: Iterable[str]) -> bool:
    """Say whether names of SAM tensors are transformers' (both layouts hold the same buffer)."""
    names = set(tensors)
    return PE_BUFFER in names or not names.isdisjoint(ALIASES)


def check_aliases(tensors: Mapping[str, Tensor], aliases: Mapping[str, str]) -> None:
    """Check that tensors held under two names are equal.

    Raises:
        InputError: They differ; nothing says which one is meant.
    """
    for alias, name in aliases.items():
        if name in tensors and alias in tensors and not torch.equal(tensors[name], tensors[alias]):
            raise InputError(None, alias, f"differs from {name}, though the two are one")


def to_meta_names(
    tensors: Mapping[str, Tensor], meta_names: Iterable[str], renamed: Renames
) -> dict[str, Tensor]:
    """Rename SAM tensors from transformers' names to Meta's; names of neither stay as they are.

    Args:
        tensors: By transformers' names, second names allowed.
        meta_names: Meta's names of the tensors that the model has.
        renamed: `EncoderSpec.renamed` of SAM's image encoder.

    Raises:
        InputError: A tensor that is held twice differs.
    """
    check_aliases(tensors, ALIASES)
    back = {transformers_name(name, renamed): name for name in meta_names}
    plain = {ALIASES.get(name, name): tensor for name, tensor in tensors.items()}
    return {back.get(name, name): tensor for name, tensor in plain.items()}
