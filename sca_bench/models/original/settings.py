"""The settings that build a captioner anew: what a checkpoint says about a suite's base."""

from __future__ import annotations

from typing import Any

from torch import nn

from sca_bench.errors import InputError
from sca_bench.models.original.classes import OriginalClass
from sca_bench.models.original.config import mixer_sizes
from sca_bench.models.sca import TASKS, ScaCaptioner
from sca_bench.settings import TrainSettings
from sca_bench.specs.encoders import sam_sizes
from sca_bench.variants import get_variant


def settings_of(model: ScaCaptioner, original: OriginalClass) -> dict[str, Any]:
    """Return the settings (`variant`, `sam.size`, `mixer`, `prefix`, ...) of a loaded checkpoint.

    Args:
        model: The captioner.
        original: The class that wrote the checkpoint.

    Raises:
        InputError: SAM has sizes of its own.
    """
    dims = model.region_encoder.sam.dims
    sizes = [name for name, known in sam_sizes().items() if known == dims]
    if not sizes:
        known = ", ".join(sam_sizes())
        raise InputError(None, "vision_config", "no sam.size has these sizes", f"known: {known}")
    mixer: dict[str, Any] = {}
    if model.text_mixer is not None:
        heads, mlp_dim, downsample_rate = mixer_sizes(model.text_mixer)
        mixer = {
            "num_layers": len(model.text_mixer.layers),
            "num_heads": heads,
            "mlp_dim": mlp_dim,
            "attention_downsample_rate": downsample_rate,
        }
    queries: Any = model.caption_query_tokens
    mixer |= {name: getattr(queries, name) for name in original.mixer_settings}
    if get_variant(model.variant).as_published:
        mixer["as_published"] = model.as_published
    task_rows = 0 if model.task_tokens is None else model.task_tokens.num_embeddings
    settings: dict[str, Any] = {"variant": model.variant, "sam": {"size": sizes[0]}}
    if mixer:
        settings["mixer"] = mixer
    settings["prefix"] = {
        "num_task_tokens": task_rows // len(TASKS),
        "projection": "linear" if isinstance(model.projection, nn.Linear) else "mlp",
    }
    if model.label_smoothing != TrainSettings().label_smoothing:
        settings["train"] = {"label_smoothing": model.label_smoothing}
    candidates = dims.num_mask_tokens - 1
    if queries.heads(candidates) not in (1, candidates):
        # No head belongs to a mask candidate, so there is nothing to choose by.
        settings["eval"] = {"select": "first"}
    return settings


def fold_gain(model: ScaCaptioner) -> float:
    """Multiply the prefix's constant factor into what it multiplies; return the factor.

    The original's layout has no such factor. The prefix stays the same up to rounding.
    """
    gain = model.prefix_gain
    layers = [m for m in model.projection.modules() if isinstance(m, nn.Linear)]
    for part in (layers[-1], model.task_tokens):
        for parameter in part.parameters() if part is not None else ():
            parameter.data.mul_(gain)
    model.prefix_gain = 1.0
    return gain
