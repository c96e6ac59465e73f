"""What SCA's designs are made of beside their queries: the text mixer, and what it reads.

Shape legend: B images, N regions, T tokens, S image tokens, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sca_bench.batch import RegionFeatures
from sca_bench.errors import InputError
from sca_bench.models.designs.queries import CaptionQueries
from sca_bench.models.mixer import TwoWayMixer
from sca_bench.models.products import fast_layers
from sca_bench.settings import MixerSettings
from sca_bench.specs.sam_dims import SamDims
from sca_bench.types import Family
from sca_bench.variants import where_optional


@dataclass(frozen=True)
class MixerContext:
    """What the text mixer reads beside the queries.

    Attributes:
        tokens_NTC: Tokens that follow the queries.
        image_tokens_NSC: Image tokens of each region; of each of B images with `image_index_N`.
        image_pe_SC: Their positional encoding.
        image_index_N: The image of each region, where image tokens come once per image.
    """

    tokens_NTC: Tensor
    image_tokens_NSC: Tensor
    image_pe_SC: Tensor
    image_index_N: Tensor | None = None


@dataclass(frozen=True)
class Design:
    """One answer to: what does the text decoder's prefix know of a region?

    Attributes:
        queries: Yields the caption queries.
        families: Frozen features that queries and context read.
        text_mixer: Mixes the queries with their context; None hands them on as they are.
        context: Yields what they are mixed with; None exactly where there is no text mixer.
    """

    queries: CaptionQueries
    families: tuple[Family, ...]
    text_mixer: TwoWayMixer | None = None
    context: Callable[[RegionFeatures], MixerContext] | None = None


def mixed_context(features: RegionFeatures) -> MixerContext:
    """Return the SAM mixer's output tokens, and the image tokens as it left them."""
    return MixerContext(
        features.need("tokens_NTC"), features.need("image_tokens_NSC"), features.need("image_pe_SC")
    )


def unmixed_tokens_context(features: RegionFeatures) -> MixerContext:
    """Return the SAM mixer's *input* tokens, yet the image tokens as it left them.

    No design means this; the first versions of the original do it (`mixer.as_published`).
    """
    prompts_NPC = features.need("prompt_tokens_NPC")
    own_NTC = features.need("own_tokens_TC").expand(len(prompts_NPC), -1, -1)
    return MixerContext(
        torch.cat([own_NTC, prompts_NPC], dim=1),
        features.need("image_tokens_NSC"),
        features.need("image_pe_SC"),
    )


@where_optional
def build_text_mixer(mixer: MixerSettings, dims: SamDims) -> TwoWayMixer:
    """Build the text mixer of a design.

    Raises:
        InputError: Sizes contradict each other.
    """
    try:
        text_mixer = TwoWayMixer(
            mixer.num_layers,
            dims.embed_dim,
            mixer.num_heads,
            mixer.mlp_dim,
            mixer.attention_downsample_rate,
        )
    except ValueError as error:
        raise InputError(None, "mixer.num_heads", str(error)) from error
    fast_layers(text_mixer)
    text_mixer.checkpoint_blocks = mixer.gradient_checkpointing
    return text_mixer


def refuse_changed(mixer: MixerSettings, reason: str, *names: str) -> None:
    """Refuse settings that a design has no use for, unless they are at their default.

    Args:
        mixer: The settings.
        reason: Why they have no meaning, beginning with the variant's name.
        names: Fields of `mixer`.

    Raises:
        InputError: One of them was changed.
    """
    for name in names:
        value, default = getattr(mixer, name), MixerSettings.model_fields[name].default
        if value != default:
            fix = f"leave it at {default} for this variant"
            raise InputError(None, f"mixer.{name}", f"{value} has no meaning: {reason}", fix)
