"""Untrained weights."""

from __future__ import annotations

import torch
from torch import nn

from baselines.grit.model import Grit

_STD = 0.02


def draw_weights(grit: Grit) -> None:
    """Draw new weights from the global random generator, in a fixed order.

    Linear layers, word and position embeddings and the encoder's position table are normal with
    deviation 0.02; convolutions keep torch's own scheme; relative positions start at zero.
    """
    for module in grit.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=_STD)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=_STD)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.reset_parameters()
    with torch.no_grad():
        grit.image_encoder.pos_embed.normal_(std=_STD)
