"""SAM's part of a transformers `config.json`: sizes in, everything not supported refused.

transformers' SamModel and the original SCA code base describe SAM in the same three sections; only
the decoder's section has another name in each.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from sca_bench.errors import InputError
from sca_bench.reading import RECORD_BYTES, read_json, shown
from sca_bench.specs.sam_dims import IOU_HEAD_DEPTH, MASK_PROMPT_CHANNELS, SamDims

VISION, PROMPT = "vision_config", "prompt_encoder_config"
_LAYER_NORM_EPS = 1e-6
_LARGEST = 2**16
"""Of any of SAM's sizes; its largest is 5,120."""
FIXED_VISION: dict[str, object] = {
    "hidden_act": "gelu",
    "layer_norm_eps": _LAYER_NORM_EPS,
    "num_channels": 3,
    "qkv_bias": True,
    "use_abs_pos": True,
    "use_rel_pos": True,
}
FIXED_PROMPT: dict[str, object] = {
    "hidden_act": "gelu",
    "layer_norm_eps": _LAYER_NORM_EPS,
    "mask_input_channels": MASK_PROMPT_CHANNELS,
    "num_point_embeddings": 4,
}
FIXED_DECODER: dict[str, object] = {
    "attention_downsample_rate": 2,
    "hidden_act": "relu",
    "iou_head_depth": IOU_HEAD_DEPTH,
    "layer_norm_eps": _LAYER_NORM_EPS,
}
"""Settings with one supported value, which is also what their absence means."""


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object.

    Raises:
        InputError: It is absent, unreadable, or holds something else.
    """
    try:
        content = read_json(path, RECORD_BYTES)
    except OSError as error:
        raise InputError(path, "", f"cannot be read as JSON ({error})") from error
    if not isinstance(content, dict):
        raise InputError(path, "", "holds no JSON object")
    return content


def check_fixed(config: Mapping[str, Any], fixed: Mapping[str, Mapping[str, object]]) -> None:
    """Refuse values that are not supported.

    Args:
        config: The whole configuration.
        fixed: Section (empty: the top level) -> key -> the one supported value.

    Raises:
        InputError: A setting has another value.
    """
    for part, values in fixed.items():
        section = _section(config, part) if part else config
        for key, supported in values.items():
            if section.get(key, supported) != supported:
                raise InputError(
                    None,
                    f"{part}.{key}".lstrip("."),
                    f"{section[key]!r} is not supported, expected {supported!r}",
                )


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name) or {}
    if not isinstance(section, Mapping):
        raise InputError(None, name, f"is {shown(section)}, expected an object")
    return section


def _whole(section: Mapping[str, Any], part: str, key: str, default: int) -> int:
    """Return a size, which is a whole number that a SAM can have."""
    value = section.get(key, default)
    if type(value) is not int or not 1 <= value <= _LARGEST:
        problem = f"is {shown(value)}, expected a whole number from 1 to {_LARGEST:,}"
        raise InputError(None, f"{part}.{key}", problem)
    return value


def parse_sam_dims(config: Mapping[str, Any], decoder_section: str) -> SamDims:
    """Return SAM's sizes; absent ones have transformers' defaults.

    Args:
        config: The whole configuration.
        decoder_section: Name of the mask decoder's section.

    Raises:
        InputError: A setting is not supported, or widths that must agree do not.
    """
    fixed = {VISION: FIXED_VISION, PROMPT: FIXED_PROMPT, decoder_section: FIXED_DECODER}
    check_fixed(config, fixed)
    vision, prompt, decoder = (_section(config, part) for part in fixed)
    width = _whole(vision, VISION, "hidden_size", 768)
    embed_dim = _whole(decoder, decoder_section, "hidden_size", 256)
    in_vision, in_decoder = (
        partial(_whole, vision, VISION),
        partial(_whole, decoder, decoder_section),
    )
    blocks = vision.get("global_attn_indexes", (2, 5, 8, 11))
    if not isinstance(blocks, list | tuple) or any(type(block) is not int for block in blocks):
        problem = f"is {shown(blocks)}, expected a list of whole numbers"
        raise InputError(None, f"{VISION}.global_attn_indexes", problem)
    mlp_dim = {"mlp_dim": vision.get("mlp_dim") or _times(width, vision.get("mlp_ratio", 4.0))}
    for part, key, value in (
        (VISION, "output_channels", vision.get("output_channels", 256)),
        (PROMPT, "hidden_size", prompt.get("hidden_size", 256)),
    ):
        if value != embed_dim:
            raise InputError(None, f"{part}.{key}", f"{value} is not the decoder's {embed_dim}")
    return SamDims(
        image_size=in_vision("image_size", 1024),
        patch_size=in_vision("patch_size", 16),
        encoder_width=width,
        encoder_depth=in_vision("num_hidden_layers", 12),
        encoder_num_heads=in_vision("num_attention_heads", 12),
        encoder_mlp_dim=_whole(mlp_dim, VISION, "mlp_dim", 0),
        encoder_window=vision.get("window_size", 14) and in_vision("window_size", 14),
        encoder_global_blocks=tuple(blocks),
        embed_dim=embed_dim,
        decoder_depth=in_decoder("num_hidden_layers", 2),
        decoder_num_heads=in_decoder("num_attention_heads", 8),
        decoder_mlp_dim=in_decoder("mlp_dim", 2048),
        iou_head_hidden_dim=in_decoder("iou_head_hidden_dim", 256),
        num_mask_tokens=in_decoder("num_multimask_outputs", 3) + 1,
    )


def _times(width: int, ratio: object) -> object:
    """Return a width times a ratio; what is no ratio as it is, for an error."""
    if isinstance(ratio, int | float) and 0 < ratio <= _LARGEST:
        return int(width * ratio)
    return ratio
