"""Checkpoints in the layout of the original code base: read, check, write.

The original follows the names of transformers' SamModel (`sam_names`) and keeps all sizes in
`config.json`. This is the only module that knows its other tensors' names; `original_classes` says
which classes there are.

Source: github.com/xk-huang/segment-caption-anything (Apache-2.0), read as a file format.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from sca_bench.errors import InputError, at
from sca_bench.files import make_folder, write_atomic
from sca_bench.models.build import build_projection
from sca_bench.models.designs.queries import MaskTokenQueries
from sca_bench.models.encoders.sam_vit import NAMES as VIT_NAMES
from sca_bench.models.original import config as config_json
from sca_bench.models.original.classes import (
    STACKED,
    OriginalClass,
    check_parts,
    class_of,
    get_class,
)
from sca_bench.models.sam.region_encoder import RegionEncoder
from sca_bench.models.sam.sam import build_sam
from sca_bench.models.sam.tensor_names import ALIASES, check_aliases, transformers_name
from sca_bench.models.sam.weights import read_directory
from sca_bench.models.sca import TASKS, ScaCaptioner
from sca_bench.models.seeding import seeded
from sca_bench.models.text_decoder.decoder import TextDecoder
from sca_bench.variants import get_variant

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "tokenizer.model")
LM_HEAD = "language_model.lm_head.weight"
OBSOLETE = re.compile(
    r"language_model\.transformer\.h\.\d+\.attn\.(bias|masked_bias)"
    r"|language_model\.model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq"
)
"""Buffers of old GPT-2 and Llama checkpoints that hold no weights."""

_RENAMES: tuple[tuple[str, str], ...] = (
    (r"^region_encoder\.sam\.", ""),
    (r"^text_mixer\.", "mask_decoder.additional_transformer."),
    (r"^caption_query_tokens\.tokens\.", "mask_decoder.caption_tokens."),
    (r"^projection\.", "language_project."),
    (r"^text_decoder\.language_model\.", "language_model."),
)
"""Names of this package's parts; the rest is transformers' naming of SAM (`sam_names`)."""


def original_name(name: str) -> str:
    """Return the original's name of a tensor of `ScaCaptioner.state_dict()`."""
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return transformers_name(name, VIT_NAMES)


def original_names(model: ScaCaptioner, original: OriginalClass) -> dict[str, str]:
    """Return the original's name of every tensor of a captioner, by the name it has here."""
    names = {name: original_name(name) for name in model.state_dict()}
    if STACKED in original.has and isinstance(model.projection, nn.Linear):
        # The original stacks layers even where there is one.
        for name in ("projection.weight", "projection.bias"):
            names[name] = STACKED + name.removeprefix("projection.")
    return names


def load_original(
    directory: str | Path, original_class: str | None = None, *, as_published: bool | None = None
) -> ScaCaptioner:
    """Load a checkpoint folder of the original, in evaluation mode.

    Args:
        directory: Folder with `config.json` and `model.safetensors` or `pytorch_model.bin` (also
            in shards); a tokenizer is loaded where its files are there.
        original_class: Class that wrote it; by default what `architectures` in the
            configuration says.
        as_published: Whether to repeat what the original's code does where it differs from what
            was meant (`mixer.as_published`). By default what the weights were trained with: the
            published behaviour, unless this package wrote the folder and noted otherwise.

    Raises:
        InputError: A file is missing or unreadable, the class or a setting is not supported, the
            weights are those of another class, or names, shapes or tied tensors do not fit.
    """
    directory = Path(directory)
    config_path = directory / "config.json"
    config = config_json.read(config_path)
    with at(config_path):
        original = get_class(original_class or (config.get("architectures") or [None])[0])
        sizes = config_json.parse(config, original)
    if as_published is None:
        as_published = bool(config.get(config_json.INTENDED, True))
    with at(directory):
        tensors = _read_weights(directory)
        check_parts(tensors, original)
        tokenizer = _tokenizer(directory)
        model = _assemble(sizes, original, tokenizer, str(directory), as_published=as_published)
        names = {theirs: own for own, theirs in original_names(model, original).items()}
        _check_aliases(tensors, bool(sizes.text_config.tie_word_embeddings), model)
        _check_names(tensors, names, model)
    model.load_state_dict({names[n]: t for n, t in tensors.items() if n in names})
    return model


def save_original(model: ScaCaptioner, directory: str | Path) -> None:
    """Write a captioner as a checkpoint folder of the original (`load_original` reads it back).

    Raises:
        InputError: The captioner has something that the original cannot express.
    """
    directory = Path(directory)
    with at(directory):
        original = class_of(model)
        config = config_json.compose(model, original)
    make_folder(directory)
    names = original_names(model, original)
    tensors = {names[n]: t.detach().cpu() for n, t in model.state_dict().items()}
    tensors.update({alias: tensors[name] for alias, name in ALIASES.items()})
    # safetensors refuses tensors that share memory, and tied ones must be written under both
    # names: readers that do not tie them would start from a random head otherwise.
    copies = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
    save_file(copies, directory / "model.safetensors", metadata={"format": "pt"})
    write_atomic(directory / "config.json", json.dumps(config, indent=1, sort_keys=True) + "\n")
    if model.text_decoder.tokenizer is not None:
        model.text_decoder.tokenizer.save_pretrained(directory)


def _assemble(
    sizes: config_json.OriginalSizes,
    original: OriginalClass,
    tokenizer: Any,
    name: str,
    *,
    as_published: bool,
) -> ScaCaptioner:
    with seeded(0):  # every weight is overwritten; the global generator must not move
        language_model = AutoModelForCausalLM.from_config(sizes.text_config)
        text_decoder = TextDecoder(language_model, tokenizer, name=name).eval()
        dims, width = sizes.sam, text_decoder.width
        task_tokens = None
        if sizes.num_task_tokens:
            task_tokens = nn.Embedding(len(TASKS) * sizes.num_task_tokens, width)
        mixer = sizes.mixer_settings(original, as_published=as_published)
        design = get_variant(original.variant).load_design()(mixer, dims)
        if as_published and isinstance(design.queries, MaskTokenQueries):
            design.queries.counts_images = True  # the code's own behaviour, for any batch
        return ScaCaptioner(
            RegionEncoder(build_sam(dims)),
            design,
            build_projection(sizes.projection, dims.embed_dim, width),
            task_tokens,
            text_decoder,
            variant=original.variant,
            as_published=as_published,
            label_smoothing=original.label_smoothing,
        )


def _read_weights(directory: Path) -> dict[str, Tensor]:
    tensors = read_directory(directory, "")
    return {n: t for n, t in tensors.items() if not OBSOLETE.fullmatch(n)}


def _check_aliases(tensors: dict[str, Tensor], tied: bool, model: ScaCaptioner) -> None:
    """Check that tensors with two names are equal, and give a missing one its twin."""
    pairs = dict(ALIASES)
    if tied:
        embedding = model.text_decoder.language_model.get_input_embeddings().weight
        pairs[LM_HEAD] = next(
            original_name(f"text_decoder.{name}")
            for name, parameter in model.text_decoder.named_parameters()
            if parameter is embedding
        )
    for alias, name in pairs.items():
        if name not in tensors and alias in tensors:
            tensors[name] = tensors[alias]
        if alias == LM_HEAD and name in tensors:
            tensors.setdefault(alias, tensors[name])
    check_aliases(tensors, pairs)


def _check_names(tensors: dict[str, Tensor], names: dict[str, str], model: ScaCaptioner) -> None:
    state = model.state_dict()
    for name, own in names.items():
        if name not in tensors:
            raise InputError(None, name, f"is missing, expected {tuple(state[own].shape)}")
        if tensors[name].shape != state[own].shape:
            raise InputError(
                None,
                name,
                f"has shape {tuple(tensors[name].shape)}, expected {tuple(state[own].shape)}",
            )
    unknown = sorted(set(tensors) - set(names) - set(ALIASES))
    if unknown:
        raise InputError(
            None, unknown[0], f"is unknown ({len(unknown)} such tensors); nothing was loaded"
        )


def _tokenizer(directory: Path) -> Any | None:
    if not any((directory / name).is_file() for name in TOKENIZER_FILES):
        return None
    return AutoTokenizer.from_pretrained(str(directory), local_files_only=True)
