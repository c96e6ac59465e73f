"""Checkpoints in the released layout: names, strictness, and one clear line where they do not fit.

Only this file knows the names of the original code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from baselines.grit.config import SIZES
from baselines.grit.model import Grit
from sca_bench.errors import InputError, at
from sca_bench.pretrained.tensors import Unreadable, load_tensors
from sca_bench.weight_paths import resolve

KEY = "baseline.weights"
_TEXT = "roi_heads.text_decoder.textual"
_RULES = (
    (r"image_encoder\.patch_embed\.", "backbone.bottom_up.patch_embed.proj."),
    (r"image_encoder\.", "backbone.bottom_up."),
    (r"pyramid\.upsample\.", "backbone.fpn_stride_16_8."),
    (r"pyramid\.p3\.", "backbone.fpn_stride8_"),
    (r"pyramid\.p4\.", "backbone.fpn_stride16_"),
    (r"pyramid\.p5\.", "backbone.fpn_stride32_"),
    (r"pyramid\.(p6|p7)\.", r"backbone.top_block.\1."),
    (r"proposal_head\.tower\.", "proposal_generator.centernet_head.bbox_tower."),
    (r"proposal_head\.heat\.", "proposal_generator.centernet_head.agn_hm."),
    (r"proposal_head\.distances\.", "proposal_generator.centernet_head.bbox_pred."),
    (r"proposal_head\.scales\.(\d+)", r"proposal_generator.centernet_head.scales.\1.scale"),
    (r"cascade\.stages\.(\d+)\.(fc\d)\.", r"roi_heads.box_head.\1.\2."),
    (r"cascade\.stages\.(\d+)\.", r"roi_heads.box_predictor.\1."),
    (r"text_decoder\.projection\.", f"{_TEXT}.object_feature_projection.0."),
    (r"text_decoder\.projection_norm\.", f"{_TEXT}.object_feature_projection.1."),
    (r"text_decoder\.text_norm\.", f"{_TEXT}.embedding.layer_norm."),
    (r"text_decoder\.(words|positions)\.", rf"{_TEXT}.embedding.\1."),
    (r"text_decoder\.output_bias", f"{_TEXT}.output.bias"),
    (r"text_decoder\.layers\.(\d+)\.", rf"{_TEXT}.transformer.encoder.layer.\1."),
)
_LAYER_RULES = (
    (r"(\.layer\.\d+\.)(query|key|value)\.", r"\1attention.self.\2."),
    (r"(\.layer\.\d+\.)attention_out\.", r"\1attention.output.dense."),
    (r"(\.layer\.\d+\.)attention_norm\.", r"\1attention.output.LayerNorm."),
    (r"(\.layer\.\d+\.)mlp_in\.", r"\1intermediate.dense."),
    (r"(\.layer\.\d+\.)mlp_out\.", r"\1output.dense."),
    (r"(\.layer\.\d+\.)mlp_norm\.", r"\1output.LayerNorm."),
)
_TIED = (f"{_TEXT}.output.weight", f"{_TEXT}.embedding.words.weight")
_MASK_HEAD = "roi_heads.mask_head."


def original_name(name: str) -> str:
    """Return what the released checkpoints call a parameter of `Grit`."""
    for pattern, replacement in _RULES:
        renamed, count = re.subn(rf"^{pattern}", replacement, name)
        if count:
            name = renamed
            break
    for pattern, replacement in _LAYER_RULES:
        name = re.sub(pattern, replacement, name)
    return name


def original_shapes(model: Grit) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor of a released checkpoint of this model.

    That is the model's own, the output matrix that is tied to the word embedding, and the mask
    head of the checkpoints that have one.
    """
    shapes = {original_name(n): tuple(t.shape) for n, t in model.state_dict().items()}
    shapes[_TIED[0]] = shapes[_TIED[1]]
    if model.config.mask_head:
        channels = model.config.pyramid_channels
        weights = {f"mask_fcn{n}": (channels, channels, 3, 3) for n in range(1, 5)}
        weights |= {"deconv": (channels, channels, 2, 2), "predictor": (1, channels, 1, 1)}
        for name, shape in weights.items():
            shapes[f"{_MASK_HEAD}{name}.weight"] = shape
            shapes[f"{_MASK_HEAD}{name}.bias"] = shape[:1]
    return shapes


def load_checkpoint(model: Grit, path: str | Path) -> None:
    """Load a released checkpoint: `.pth` (never unpickled as objects) or `.safetensors`.

    All names and shapes must fit. A mask head is checked and then left aside.

    Raises:
        InputError: The file cannot be read or does not fit the model's size.
    """
    path = resolve(str(path), KEY)
    state = read_state(path)
    with at(path):
        load_original_state(model, state)


def read_state(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint file.

    Raises:
        InputError: No such file, or it holds no plain dictionary of tensors.
    """
    if not path.exists():
        raise InputError(None, KEY, f"'{path}': no such file", "give a released checkpoint")
    try:
        content = load_tensors(path)
    except Unreadable as error:
        problem = f"cannot be read as a checkpoint of plain tensors ({error})"
        raise InputError(path, "", problem, "download it again, or convert it") from error
    if isinstance(content, Mapping) and isinstance(content.get("model"), Mapping):
        content = content["model"]
    if not isinstance(content, Mapping) or not all(isinstance(t, Tensor) for t in content.values()):
        raise InputError(path, "", "holds no dictionary of tensors")
    return dict(content)


def load_original_state(model: Grit, state: Mapping[str, Tensor]) -> None:
    """Copy tensors with original names into a model.

    Raises:
        InputError: Names or shapes are not exactly those of the model; one line says what is wrong
            first, and which size would fit.
    """
    expected = original_shapes(model)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    _check(expected, shapes)
    if not torch.equal(state[_TIED[0]], state[_TIED[1]]):
        raise InputError(None, _TIED[0], f"differs from {_TIED[1]}, to which it is tied")
    own = {name: state[original_name(name)] for name in model.state_dict()}
    model.load_state_dict(own, strict=True)


def _check(expected: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]]) -> None:
    missing, extra = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    differ = sorted(n for n in expected.keys() & given.keys() if expected[n] != given[n])
    if not (missing or extra or differ):
        return
    parts = []
    if differ:
        name = differ[0]
        parts.append(f"{name} has shape {list(given[name])}, expected {list(expected[name])}")
    for names, what in ((missing, "missing"), (extra, "unknown")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            parts.append(f"{names[0]}{more} {what}")
    fitting = [size for size in SIZES if _shapes_of(size) == given]
    fix = f"it fits baseline.size {' or '.join(fitting)}" if fitting else ""
    problem = "does not fit baseline.size: " + ", ".join(parts)
    raise InputError(None, "", problem, fix or "is it a GRiT checkpoint of that size?")


def _shapes_of(size: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return original_shapes(Grit(SIZES[size]))
