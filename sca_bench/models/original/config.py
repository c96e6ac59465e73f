"""The `config.json` of the original code base: sizes in, sizes out, everything else refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoConfig

from sca_bench.errors import InputError
from sca_bench.models.mixer import TwoWayMixer
from sca_bench.models.original.classes import STACKED, TASKS, OriginalClass
from sca_bench.models.sam.hf_config import (
    FIXED_DECODER,
    FIXED_PROMPT,
    FIXED_VISION,
    PROMPT,
    VISION,
    check_fixed,
    parse_sam_dims,
    read_json_object,
)
from sca_bench.models.sam.vit import SamImageEncoder
from sca_bench.models.sca import TASKS as TASK_NAMES
from sca_bench.models.sca import ScaCaptioner
from sca_bench.pretrained.folders import check_config
from sca_bench.reading import shown
from sca_bench.settings import MixerSettings
from sca_bench.specs.sam_dims import SamDims
from sca_bench.variants import get_variant

DECODER, TEXT = "mask_caption_decoder_config", "text_config"
_FIXED: dict[str, dict[str, object]] = {
    VISION: FIXED_VISION,
    PROMPT: FIXED_PROMPT,
    DECODER: FIXED_DECODER,
    "": {"vl_projector_norm_type": "none"},
}
"""Settings with one supported value, which is also what their absence means."""
INTENDED = "sca_bench_as_published"
"""Key this package adds, with the value false, to a model that was trained as it was meant to be
and not as the original's code has it."""


@dataclass(frozen=True)
class OriginalSizes:
    """What the configuration says, in this package's terms.

    Attributes:
        sam: Sizes of SAM; the text mixer has the SAM mixer's heads and MLP width.
        text_mixer_depth: Blocks of the text mixer.
        num_caption_tokens: Caption query tokens per head, Q.
        num_caption_heads: Captions per region, H.
        num_task_tokens: Task tokens per task, K.
        projection: `linear` or `mlp`.
        text_config: Configuration of the language model.
    """

    sam: SamDims
    text_mixer_depth: int
    num_caption_tokens: int
    num_caption_heads: int
    num_task_tokens: int
    projection: str
    text_config: Any

    def mixer_settings(self, original: OriginalClass, *, as_published: bool) -> MixerSettings:
        """Return what the design of a class is built from."""
        settings = {
            "num_query_tokens": self.num_caption_tokens,
            "num_caption_heads": self.num_caption_heads,
        }
        return MixerSettings(
            num_layers=self.text_mixer_depth,
            num_heads=self.sam.decoder_num_heads,
            mlp_dim=self.sam.decoder_mlp_dim,
            as_published=as_published,
            **{name: settings[name] for name in original.mixer_settings},
        )


def read(path: Path) -> dict[str, Any]:
    """Read the file.

    Raises:
        InputError: It is absent, no JSON object, or not of this model type.
    """
    config = read_json_object(path)
    check_config(config, path)
    if config.get("model_type") != "sca":
        raise InputError(path, "model_type", "is not 'sca': no checkpoint of the original")
    return config


def class_name(config: dict[str, Any]) -> str | None:
    """Return the class that a configuration names first; none where it names none.

    Raises:
        InputError: What stands there is no list of names.
    """
    named = config.get("architectures") or []
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise InputError(None, "architectures", f"is {shown(named)}, expected a list of names")
    return named[0] if named else None


def parse(config: dict[str, Any], original: OriginalClass) -> OriginalSizes:
    """Turn the configuration of a class into sizes; absent ones have the original's defaults.

    Raises:
        InputError: A setting has a value that is not supported here.
    """
    check_fixed(config, {"": _FIXED[""]})
    projection = config.get("vl_projector_type", "linear")
    known = ("linear", "mlp") if STACKED in original.has else ("linear",)
    if projection not in known:
        problem = f"{projection!r} is not supported, expected {' or '.join(known)}"
        raise InputError(None, "vl_projector_type", f"{problem} for {original.name}")
    sam, decoder = parse_sam_dims(config, DECODER), config.get(DECODER) or {}
    return OriginalSizes(
        sam=sam,
        text_mixer_depth=decoder.get("additional_num_hidden_layers", 2),
        num_caption_tokens=decoder.get("num_caption_tokens", 1),
        num_caption_heads=decoder.get("num_caption_heads", 1),
        num_task_tokens=config.get("num_task_tokens", 6) if TASKS in original.has else 0,
        projection=projection,
        text_config=_text_config(config.get(TEXT) or {}),
    )


def compose(model: ScaCaptioner, original: OriginalClass) -> dict[str, Any]:
    """Return the configuration of a captioner.

    Raises:
        InputError: The captioner has something that the original cannot express.
    """
    dims, mixer = model.region_encoder.sam.dims, model.text_mixer
    own = model.region_encoder.sam.image_encoder
    stacked = STACKED in original.has
    sizes = (dims.decoder_num_heads, dims.decoder_mlp_dim, 2)
    for fits, key, problem in (
        (isinstance(own, SamImageEncoder), "encoder", "only SAM's own image encoder can be stored"),
        (model.prefix_gain == 1.0, "prefix.gain", "must be 1"),
        (
            stacked or isinstance(model.projection, nn.Linear),
            "prefix.projection",
            f"must be linear in {original.name}",
        ),
        (model.region_encoder.image_grid in (None, dims.grid), "mixer.image_grid", "must be unset"),
        (
            mixer is None or mixer_sizes(mixer) == sizes,
            "mixer",
            "heads and MLP width must be those of the SAM mixer, and downsampling 2",
        ),
    ):
        if not fits:
            raise InputError(None, key, f"the original's layout cannot express this: {problem}")
    config: dict[str, Any] = {
        "architectures": [original.name],
        "model_type": "sca",
        "use_decoder_only_language_model": True,
        "vl_projector_type": "linear" if isinstance(model.projection, nn.Linear) else "mlp",
        **_FIXED[""],
        VISION: {
            **_FIXED[VISION],
            "hidden_size": dims.encoder_width,
            "output_channels": dims.embed_dim,
            "num_hidden_layers": dims.encoder_depth,
            "num_attention_heads": dims.encoder_num_heads,
            "image_size": dims.image_size,
            "patch_size": dims.patch_size,
            "window_size": dims.encoder_window,
            "global_attn_indexes": list(dims.encoder_global_blocks),
            "num_pos_feats": dims.embed_dim // 2,
            "mlp_dim": dims.encoder_mlp_dim,
            "mlp_ratio": dims.encoder_mlp_dim / dims.encoder_width,
        },
        PROMPT: {
            **_FIXED[PROMPT],
            "hidden_size": dims.embed_dim,
            "image_size": dims.image_size,
            "patch_size": dims.patch_size,
            "image_embedding_size": dims.grid,
        },
        DECODER: {
            **_FIXED[DECODER],
            "hidden_size": dims.embed_dim,
            "mlp_dim": dims.decoder_mlp_dim,
            "num_hidden_layers": dims.decoder_depth,
            "num_attention_heads": dims.decoder_num_heads,
            "num_multimask_outputs": dims.num_mask_tokens - 1,
            "iou_head_hidden_dim": dims.iou_head_hidden_dim,
            **_caption_sizes(model, original),
        },
        TEXT: model.text_decoder.language_model.config.to_dict(),
    }
    if model.task_tokens is not None:
        config["num_task_tokens"] = model.task_tokens.num_embeddings // len(TASK_NAMES)
    if get_variant(original.variant).as_published and not model.as_published:
        config[INTENDED] = False
    return config


def _caption_sizes(model: ScaCaptioner, original: OriginalClass) -> dict[str, int]:
    """Return the sizes of the parts that caption; only of those the class has."""
    names = {"num_query_tokens": "num_caption_tokens", "num_caption_heads": "num_caption_heads"}
    queries: Any = model.caption_query_tokens
    sizes = {names[name]: getattr(queries, name) for name in original.mixer_settings}
    if model.text_mixer is not None:
        sizes["additional_num_hidden_layers"] = len(model.text_mixer.layers)
    return sizes


def mixer_sizes(mixer: TwoWayMixer) -> tuple[int, int, int]:
    """Return a mixer's heads, MLP width and attention downsampling rate."""
    block: Any = mixer.layers[0]
    inner_dim = block.cross_attn_token_to_image.q_proj.out_features
    return (
        block.self_attn.num_heads,
        block.mlp.lin1.out_features,
        mixer.embedding_dim // inner_dim,
    )


def _text_config(section: dict[str, Any]) -> Any:
    model_type = section.get("model_type", "")
    try:
        defaults = AutoConfig.for_model(model_type).to_dict()
    except (ValueError, TypeError) as error:
        raise InputError(None, f"{TEXT}.model_type", f"{model_type!r} is unknown") from error
    # Older files also carry generation defaults, which are no business of the architecture.
    known = set(defaults) | {"rope_theta", "rope_scaling"}
    skipped = {"architectures", "model_type", "transformers_version", "dtype"}
    given = {k: v for k, v in section.items() if k in known - skipped}
    try:
        return AutoConfig.for_model(model_type, **given)
    except Exception as error:  # transformers raises of many kinds on what is no configuration
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(None, TEXT, f"is none of {model_type} ({reason})") from error
