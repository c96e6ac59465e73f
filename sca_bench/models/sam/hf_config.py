"""SAM's part of a transformers `config.json`: sizes in, everything not supported refused.

transformers' SamModel and the original SCA code base describe SAM in the same three sections; only
the decoder's section has another name in each.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sca_bench.errors import InputError
from sca_bench.reading import RECORD_BYTES, named_file, read_json
from sca_bench.specs.sam_dims import IOU_HEAD_DEPTH, MASK_PROMPT_CHANNELS, SamDims

VISION, PROMPT = "vision_config", "prompt_encoder_config"
_LAYER_NORM_EPS = 1e-6
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
    with named_file(path):
        content = read_json(path, RECORD_BYTES)
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
        section = config.get(part) or {} if part else config
        for key, supported in values.items():
            if section.get(key, supported) != supported:
                raise InputError(
                    None,
                    f"{part}.{key}".lstrip("."),
                    f"{section[key]!r} is not supported, expected {supported!r}",
                )


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
    vision, prompt, decoder = (config.get(part) or {} for part in fixed)
    width = vision.get("hidden_size", 768)
    embed_dim = decoder.get("hidden_size", 256)
    for part, key, value in (
        (VISION, "output_channels", vision.get("output_channels", 256)),
        (PROMPT, "hidden_size", prompt.get("hidden_size", 256)),
    ):
        if value != embed_dim:
            raise InputError(None, f"{part}.{key}", f"{value} is not the decoder's {embed_dim}")
    return SamDims(
        image_size=vision.get("image_size", 1024),
        patch_size=vision.get("patch_size", 16),
        encoder_width=width,
        encoder_depth=vision.get("num_hidden_layers", 12),
        encoder_num_heads=vision.get("num_attention_heads", 12),
        encoder_mlp_dim=vision.get("mlp_dim") or int(width * vision.get("mlp_ratio", 4.0)),
        encoder_window=vision.get("window_size", 14),
        encoder_global_blocks=tuple(vision.get("global_attn_indexes", (2, 5, 8, 11))),
        embed_dim=embed_dim,
        decoder_depth=decoder.get("num_hidden_layers", 2),
        decoder_num_heads=decoder.get("num_attention_heads", 8),
        decoder_mlp_dim=decoder.get("mlp_dim", 2048),
        iou_head_hidden_dim=decoder.get("iou_head_hidden_dim", 256),
        num_mask_tokens=decoder.get("num_multimask_outputs", 3) + 1,
    )
