"""The image encoder that a cell puts into the place of SAM's own."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from sca_bench.errors import InputError
from sca_bench.models.seeding import seeded
from sca_bench.settings import EncoderSettings
from sca_bench.specs.encoders import TYPE_KEY, EncoderSpec
from sca_bench.specs.sam_dims import SamDims


class ImageEncoder(Protocol):
    """What makes an image embedding: a torch module, or a file in another format."""

    def __call__(self, pixel_values_B3HW: Tensor) -> Tensor:
        """Return the embeddings (B, C, h, w) of normalised, padded images."""
        ...


def put_in_encoder(
    spec: EncoderSpec, settings: EncoderSettings, dims: SamDims, *, random_seed: int = 0
) -> ImageEncoder:
    """Build an encoder that brings its own code, and check what it yields on one blank image.

    Args:
        spec: The encoder; with `build`.
        settings: The cell's `encoder` settings.
        dims: Sizes of the SAM whose embedding it is to make.
        random_seed: Seed of weights that it draws; the global generator is left as it was.

    Returns:
        The encoder, frozen and in evaluation mode where it is a torch module.

    Raises:
        InputError: It cannot be built, or yields another shape than the SAM takes.
    """
    try:
        with seeded(random_seed):
            encoder: ImageEncoder = spec.load()(settings, dims)
        if isinstance(encoder, nn.Module):
            encoder.eval().requires_grad_(False)
        with torch.no_grad():
            made = encoder(torch.zeros(1, 3, dims.image_size, dims.image_size))
    except InputError:
        raise
    except Exception as error:  # of another package's code, as a rule
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise InputError(None, TYPE_KEY, f"{spec.name} cannot be built ({reason})") from error
    wanted = (1, dims.embed_dim, dims.grid, dims.grid)
    shape = tuple(made.shape) if isinstance(made, Tensor) else type(made).__name__
    if shape != wanted:
        problem = f"{spec.name} yields {shape} for an image of {dims.image_size} px,"
        fix = "sam.size must name the SAM whose embedding it makes"
        raise InputError(None, TYPE_KEY, f"{problem} expected {wanted}", fix)
    return encoder
