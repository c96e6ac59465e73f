"""Untrained weights."""

from __future__ import annotations

import torch
from torch import nn

from baselines.grit.model import Grit

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
