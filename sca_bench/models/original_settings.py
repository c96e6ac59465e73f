"""The settings that build a captioner anew: what a checkpoint says about a suite's base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from sca_bench.errors import InputError, did_you_mean
from sca_bench.models.original_config import mixer_sizes
from sca_bench.models.sam_dims import PRESETS
from sca_bench.models.sca import TASKS, ScaCaptioner

VARIANTS = {"ScaMultitaskV2Model": "sca"}
"""The original's class -> the variant that is the same model."""


def settings_of(model: ScaCaptioner, original_class: str, where: object) -> dict[str, Any]:
    """Return variant, SAM size, mixer and prefix settings of a loaded checkpoint.

    Args:
        model: The captioner.
        original_class: The class that wrote the checkpoint.
        where: The checkpoint, to name in an error.

    Raises:
        InputError: No variant is that class, or SAM has sizes of its own.
    """
    if original_class not in VARIANTS:
        problem = f"no variant is {original_class}"
        raise InputError(where, "architectures", problem, did_you_mean(original_class, VARIANTS))
    dims = model.region_encoder.sam.dims
    sizes = [name for name, preset in PRESETS.items() if preset == dims]
    if not sizes:
        known = ", ".join(PRESETS)
        raise InputError(where, "vision_config", "no sam.size has these sizes", f"known: {known}")
    mixer: dict[str, Any] = {}
    if model.text_mixer is not None:
        heads, mlp_dim, downsample_rate = mixer_sizes(model.text_mixer)
        mixer = {
            "num_layers": len(model.text_mixer.layers),
            "num_heads": heads,
            "mlp_dim": mlp_dim,
            "attention_downsample_rate": downsample_rate,
        }
    for name in ("num_query_tokens", "num_caption_heads"):  # not every design has them
        if hasattr(model.caption_query_tokens, name):
            mixer[name] = getattr(model.caption_query_tokens, name)
    task_rows = 0 if model.task_tokens is None else model.task_tokens.num_embeddings
    return {
        "variant": VARIANTS[original_class],
        "sam": {"size": sizes[0]},
        "mixer": mixer,
        "prefix": {
            "num_task_tokens": task_rows // len(TASKS),
            "projection": "linear" if isinstance(model.projection, nn.Linear) else "mlp",
        },
    }


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


def original_class_of(config: dict[str, Any], directory: Path) -> str:
    """Return the class a checkpoint's configuration names.

    Raises:
        InputError: It names none.
    """
    named = config.get("architectures")
    if not isinstance(named, list) or not named:
        problem = "missing: it names the class that wrote the checkpoint"
        raise InputError(directory / "config.json", "architectures", problem)
    return str(named[0])
