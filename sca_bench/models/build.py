"""Builds the SCA captioner from the settings of a cell."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sca_bench.errors import InputError
from sca_bench.models.designs.parts import Design
from sca_bench.models.sam.image_encoder import put_in_encoder
from sca_bench.models.sam.region_encoder import RegionEncoder
from sca_bench.models.sam.sam import Sam, build_sam
from sca_bench.models.sca import TASKS, ScaCaptioner, check_selection
from sca_bench.models.text_decoder.decoder import TextDecoder
from sca_bench.models.text_decoder.loading import load_text_decoder
from sca_bench.settings import CellSettings
from sca_bench.specs.encoders import in_sam, sam_dims
from sca_bench.variants import get_variant, where_optional


@dataclass
class SamParts:
    """What cells of a group share in memory that use SAM and no text decoder of this package.

    Attributes:
        sam: Frozen SAM.
    """

    sam: Sam

    def region_encoder(
        self, *, image_grid: int | None = None, embedding_dtype: str = "float32"
    ) -> RegionEncoder:
        """Return the frozen half of a captioner, from images and prompts to SAM's features.

        Args:
            image_grid: As for `RegionEncoder`; `mixer.image_grid` of the cell.
            embedding_dtype: `features.encoder_dtype` of the cell.

        Raises:
            InputError: The grid is finer than SAM's own.
        """
        if image_grid is not None and image_grid > self.sam.dims.grid:
            problem = f"{image_grid} is finer than SAM's own grid of {self.sam.dims.grid}"
            raise InputError(None, "mixer.image_grid", problem)
        dtype: torch.dtype = getattr(torch, embedding_dtype)
        return RegionEncoder(self.sam, image_grid=image_grid, embedding_dtype=dtype)


@dataclass
class FrozenParts(SamParts):
    """What several cells of SCA's designs share in memory.

    Attributes:
        text_decoder: The text decoder as it was loaded; a cell that trains it gets a copy.
    """

    text_decoder: TextDecoder


@where_optional
def load_frozen_parts(settings: CellSettings) -> FrozenParts:
    """Load SAM and the text decoder of a cell; the global random generator is not touched.

    Args:
        settings: Of any cell of the group: `sam`, `encoder` and `text_decoder.weights` are read.

    Raises:
        InputError: Weights cannot be read or do not fit.
    """
    sam = load_sam_parts(settings).sam
    return FrozenParts(sam, load_text_decoder(settings.text_decoder.weights))


@where_optional
def load_sam_parts(settings: CellSettings) -> SamParts:
    """Load SAM alone, for captioners that bring their own text decoder.

    Args:
        settings: Of any cell of the group: `sam` and `encoder` are read.

    Raises:
        InputError: Weights cannot be read or do not fit.
    """
    given, dims = settings.sam, sam_dims(settings.sam.size)
    spec, encoder = in_sam(settings.encoder.type), None
    if spec.build:
        seed = given.random_seed
        encoder = put_in_encoder(spec, settings.encoder, dims, random_seed=seed)
    sam = build_sam(
        given.size,
        weights=given.weights,
        random_seed=given.random_seed,
        image_encoder=encoder,
        untrained_encoder=spec.draws_weights,
    )
    return SamParts(sam)


@where_optional
def build_sca(settings: CellSettings, parts: FrozenParts | None = None) -> ScaCaptioner:
    """Build the captioner of one cell, of whichever design `settings.variant` names.

    New modules draw their weights from the global random generator, in a fixed order, so a seed
    set just before the call decides them.

    Args:
        settings: The cell.
        parts: Frozen parts shared with other cells; loaded here when None.

    Raises:
        InputError: Weights cannot be read or do not fit, sizes contradict each other, or a setting
            has no meaning for the design.
    """
    shared = parts is not None
    parts = parts if parts is not None else load_frozen_parts(settings)
    mixer, dims = settings.mixer, parts.sam.dims
    spec = get_variant(settings.variant)
    if spec.needs_boxes:
        _refuse_points(settings)
    text_decoder = parts.text_decoder
    if settings.text_decoder.trainable and shared:
        text_decoder = copy.deepcopy(text_decoder)
    own = {"options": settings.options} if spec.options else {}
    design: Design = spec.load_design()(mixer, dims, **own)
    candidates = dims.num_mask_tokens - 1
    check_selection(design.queries.heads(candidates), candidates, settings.eval.select)
    projection = build_projection(settings.prefix.projection, dims.embed_dim, text_decoder.width)
    num_task_tokens = settings.prefix.num_task_tokens
    task_tokens = None
    if num_task_tokens:
        task_tokens = nn.Embedding(len(TASKS) * num_task_tokens, text_decoder.width)
    for part in (design.text_mixer, design.queries, projection, task_tokens):
        init_weights(part, mixer.init_std)
    return ScaCaptioner(
        parts.region_encoder(
            image_grid=mixer.image_grid, embedding_dtype=settings.features.encoder_dtype
        ),
        design,
        projection,
        task_tokens,
        text_decoder,
        variant=settings.variant,
        as_published=mixer.as_published,
        select=settings.eval.select,
        prefix_gain=settings.prefix.gain,
        query_dropout=mixer.dropout,
        label_smoothing=settings.train.label_smoothing,
        loss_over="images" if "loss" in settings.train.as_published else "tokens",
        max_caption_tokens=settings.train.max_caption_tokens,
        train_text_decoder=settings.text_decoder.trainable,
        dropout_in_training=settings.text_decoder.dropout_in_training,
        checkpoint_text_decoder=settings.text_decoder.gradient_checkpointing,
    )


def build_projection(kind: str, in_width: int, out_width: int) -> nn.Module:
    """Build what takes query outputs to the text decoder's width.

    Args:
        kind: `linear`, one layer; or `mlp`, three with GELU between them.
        in_width: Channels C of the query outputs.
        out_width: Width D of the text decoder.
    """
    if kind == "linear":
        return nn.Linear(in_width, out_width)
    return nn.Sequential(
        nn.Linear(in_width, out_width),
        nn.GELU(),
        nn.Linear(out_width, out_width),
        nn.GELU(),
        nn.Linear(out_width, out_width),
    )


def _refuse_points(settings: CellSettings) -> None:
    with_box = ("box", "box_point")
    for key, prompt in (
        ("train.prompt", settings.train.prompt),
        ("eval.prompt", settings.eval.prompt),
    ):
        if prompt not in with_box:
            problem = f"{prompt!r} gives {settings.variant} no box to look into"
            raise InputError(None, key, problem, f"set it to {' or '.join(with_box)}")


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
