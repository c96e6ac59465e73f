"""Builds the captioners from the settings of a cell."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from baselines.grit.captioner import GritCaptioner
from baselines.grit.checkpoint import load_checkpoint
from baselines.grit.config import grit_config
from baselines.grit.model import Grit
from baselines.grit.tokenizer import load_tokenizer
from sca_bench.errors import InputError
from sca_bench.settings import BaselineSettings, CellSettings

RANDOM = "random"


def build(settings: CellSettings, parts: Any = None) -> GritCaptioner:
    """Build GRiT as it was trained: a released checkpoint, or untrained weights for timing.

    Args:
        settings: The cell; `baseline` is read.
        parts: Not used; nothing is shared between cells.

    Raises:
        InputError: An unknown size, or weights or tokenizer that cannot be read or do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.baseline.random_seed)
        captioner = _assemble(settings.baseline)
        draw_weights(captioner.grit)
    if settings.baseline.weights != RANDOM:
        load_checkpoint(captioner.grit, settings.baseline.weights)
    return captioner


def build_from_scratch(settings: CellSettings, parts: Any = None) -> GritCaptioner:
    """Build GRiT with new weights, to be trained on given boxes by the ordinary loop.

    They are drawn from the global random generator, so a seed set just before decides them.

    Raises:
        InputError: An unknown size, weights other than random, or no tokenizer.
    """
    if settings.baseline.weights != RANDOM:
        problem = f"{settings.baseline.weights!r}: this variant is trained from scratch"
        raise InputError(None, "baseline.weights", problem, "use random, or variant: grit")
    captioner = _assemble(
        settings.baseline,
        label_smoothing=settings.train.label_smoothing,
        loss_over="images" if "loss" in settings.train.as_published else "tokens",
        max_caption_tokens=settings.train.max_caption_tokens,
    )
    draw_weights(captioner.grit)
    for parameter in captioner.trainable_parameters().values():
        parameter.requires_grad_(True)
    return captioner


def _assemble(settings: BaselineSettings, **recipe: Any) -> GritCaptioner:
    """Put GRiT together; `recipe` is what training alone reads."""
    config = grit_config(settings.size)
    tokenizer = load_tokenizer(settings.tokenizer, config.text_decoder)
    return GritCaptioner(Grit(config), tokenizer, **recipe)


_STD = 0.02


def draw_weights(grit: Grit) -> None:
    """Draw new weights from the global random generator, in a fixed order.

    Linear layers and convolutions follow torch's own scheme (scaled by their inputs), which the
    tiny size learns from in a few hundred steps; embeddings and the encoder's position table are
    normal with deviation 0.02; relative positions start at zero.
    """
    for module in grit.modules():
        if isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=_STD)
        elif isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            module.reset_parameters()
    with torch.no_grad():
        grit.image_encoder.pos_embed.normal_(std=_STD)
