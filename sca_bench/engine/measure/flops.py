"""What a cell computes, counted on tensors without content: operations, memory, bytes of features.

Attention is counted as its two matrix products, whichever kernel will run it; element-wise work,
normalisation and softmax are not counted, as is usual.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sca_bench.batch import RegionFeatures
from sca_bench.engine.features.bank import bytes_of_rows
from sca_bench.engine.forecast.costs import CellWork
from sca_bench.engine.measure.step_memory import (
    PROMPT_TOKENS,
    bare_captioner,
    estimate_step,
    give_contents_up,
    own_loss,
)
from sca_bench.models.sca import ScaCaptioner
from sca_bench.settings import CellSettings
from sca_bench.types import FAMILIES

_GIB = 2**30
_FAMILIES = tuple(family for family in FAMILIES if family != "mask_boxes")


def work_of(settings: CellSettings) -> CellWork | None:
    """Count what one cell computes; None for a variant without gradient steps.

    Raises:
        InputError: The cell cannot be built, or is no SCA design.
    """
    sized = estimate_step(settings)
    if sized is None:
        return None
    captioner, bare = bare_captioner(settings)
    trained = sized.num_trainable_params * 4 / _GIB
    with FakeTensorMode(), sdpa_kernel(SDPBackend.MATH):
        give_contents_up(captioner)
        return CellWork(
            **_frozen(captioner, bare),
            **_own(captioner, bare),
            trained_gib=trained,
            frozen_gib=sized.memory_gib["weights"] - trained,
            step_gib=sized.memory_gib["one step"],
        )


def _frozen(captioner: ScaCaptioner, settings: CellSettings) -> dict[str, Any]:
    """Count the frozen half: one image, and one region of it."""
    sam = captioner.region_encoder.sam
    side = sam.dims.image_size
    with FlopCounterMode(display=False) as encoder, torch.no_grad():
        embeddings = sam.encode_images(torch.empty(1, 3, side, side))
    with FlopCounterMode(display=False) as mixer:
        features = _features(captioner, embeddings, 1)
    size = bytes_of_rows(features, _FAMILIES, settings.features)
    return {
        "encoder_image": float(encoder.get_total_flops()),
        "mixer_region": float(mixer.get_total_flops()),
        "row_bytes": size,
    }


def _features(captioner: ScaCaptioner, embeddings: torch.Tensor, count: int) -> RegionFeatures:
    encoder = captioner.region_encoder
    with torch.no_grad():
        features: RegionFeatures = encoder.from_embeddings(
            embeddings,
            torch.zeros(count, dtype=torch.long),
            torch.empty(count, PROMPT_TOKENS, encoder.sam.dims.embed_dim),
            boxes_xyxy_input_N4=torch.empty(count, 4),
            families=FAMILIES,
        )
    return features


def _own(captioner: ScaCaptioner, settings: CellSettings) -> dict[str, float]:
    """Count a training step of the cell's own part, and one region's caption."""
    train, sam = settings.train, captioner.region_encoder.sam
    count = train.images_per_batch * train.regions_per_image
    embeddings = torch.empty(1, sam.dims.embed_dim, sam.dims.grid, sam.dims.grid)
    features = _features(captioner, embeddings, count)
    captioner.train()
    with FlopCounterMode(display=False) as step:
        own_loss(captioner, settings, features).backward()
    _forget_gradients(captioner)
    captioner.eval()
    one = _features(captioner, embeddings, 1)
    decoder = captioner.text_decoder
    length = settings.eval.max_new_tokens
    with FlopCounterMode(display=False) as caption:
        prefix = captioner.prefix(captioner.query_outputs(one), ["caption"])
        # With kept keys and values every token passes once, and is scored against the vocabulary.
        tokens = torch.zeros(len(prefix), length, dtype=torch.long)
        for _ in range(settings.eval.num_beams):
            decoder.logits(prefix, tokens[:, :-1])
    return {
        "own_step": float(step.get_total_flops()),
        "caption_region": float(caption.get_total_flops()),
    }


def _forget_gradients(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.grad = None
