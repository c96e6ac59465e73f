"""Builds the SCA captioner from the settings of a cell."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from torch import nn

from sca_bench.errors import InputError
from sca_bench.models.mixer import TwoWayMixer
from sca_bench.models.onnx_encoder import OnnxImageEncoder
from sca_bench.models.queries import LearnedQueries
from sca_bench.models.region_encoder import RegionEncoder
from sca_bench.models.sam import ImageEncoder, Sam, build_sam, sam_dims
from sca_bench.models.sca import TASKS, ScaCaptioner
from sca_bench.models.text_decoder import TextDecoder
from sca_bench.models.text_decoder_loading import load_text_decoder
from sca_bench.settings import CellSettings


@dataclass
class FrozenParts:
    """What several cells of a group share in memory.

    Attributes:
        sam: Frozen SAM.
        text_decoder: The text decoder as it was loaded; a cell that trains it gets a copy.
    """

    sam: Sam
    text_decoder: TextDecoder


def load_frozen_parts(settings: CellSettings, where: str = "settings") -> FrozenParts:
    """Load SAM and the text decoder of a cell; the global random generator is not touched.

    Args:
        settings: Of any cell of the group: `sam`, `encoder` and `text_decoder.weights` are read.
        where: File to name in an error.

    Raises:
        InputError: Weights cannot be read or do not fit.
    """
    dims = sam_dims(settings.sam.size, where)
    encoder: ImageEncoder | None = None
    if settings.encoder.path is not None:
        encoder = OnnxImageEncoder(
            settings.encoder.path,
            image_size=dims.image_size,
            embedding_shape=(dims.embed_dim, dims.grid, dims.grid),
            where=where,
        )
    sam = build_sam(
        dims,
        weights=settings.sam.weights,
        random_seed=settings.sam.random_seed,
        image_encoder=encoder,
        where=where,
    )
    return FrozenParts(sam, load_text_decoder(settings.text_decoder.weights, where=where))


def build_sca(
    settings: CellSettings, parts: FrozenParts | None = None, *, where: str = "settings"
) -> ScaCaptioner:
    """Build the captioner of one cell.

    New modules draw their weights from the global random generator, in a fixed order, so a seed
    set just before the call decides them.

    Args:
        settings: The cell.
        parts: Frozen parts shared with other cells; loaded here when None.
        where: File to name in an error.

    Raises:
        InputError: Weights cannot be read or do not fit, or sizes contradict each other.
    """
    shared = parts is not None
    parts = parts if parts is not None else load_frozen_parts(settings, where)
    mixer, dims = settings.mixer, parts.sam.dims
    if mixer.image_grid is not None and mixer.image_grid > dims.grid:
        raise InputError(
            where,
            "mixer.image_grid",
            f"{mixer.image_grid} is finer than SAM's own grid of {dims.grid}",
        )
    text_decoder = parts.text_decoder
    if settings.text_decoder.trainable and shared:
        text_decoder = copy.deepcopy(text_decoder)
    try:
        text_mixer = TwoWayMixer(
            mixer.num_layers,
            dims.embed_dim,
            mixer.num_heads,
            mixer.mlp_dim,
            mixer.attention_downsample_rate,
        )
    except ValueError as error:
        raise InputError(where, "mixer.num_heads", str(error)) from error
    queries = LearnedQueries(mixer.num_caption_heads, mixer.num_query_tokens, dims.embed_dim)
    projection = nn.Linear(dims.embed_dim, text_decoder.width)
    num_task_tokens = settings.prefix.num_task_tokens
    task_tokens = None
    if num_task_tokens:
        task_tokens = nn.Embedding(len(TASKS) * num_task_tokens, text_decoder.width)
    for part in (text_mixer, queries, projection, task_tokens):
        init_weights(part, mixer.init_std)
    return ScaCaptioner(
        RegionEncoder(parts.sam, image_grid=mixer.image_grid),
        queries,
        text_mixer,
        projection,
        task_tokens,
        text_decoder,
        prefix_gain=settings.prefix.gain,
        query_dropout=mixer.dropout,
        label_smoothing=settings.train.label_smoothing,
        max_caption_tokens=settings.train.max_caption_tokens,
        train_text_decoder=settings.text_decoder.trainable,
        dropout_in_training=settings.text_decoder.dropout_in_training,
    )


def init_weights(part: nn.Module | None, std: float) -> None:
    """Draw Linear and Embedding weights from N(0, std); biases 0; LayerNorms 1 and 0."""
    modules: Any = part.modules() if part is not None else ()
    for module in modules:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=std)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
