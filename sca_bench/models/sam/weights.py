"""SAM weights in every layout people have: read, check, load; nothing is loaded half.

Files come in Meta's naming (`sam_vit_h_4b8939.pth`, `mobile_sam.pt`, or safetensors of them) or in
that of transformers' SamModel (files, or the folder that `save_pretrained` writes). Which one it is
shows in the tensors' names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from sca_bench.errors import InputError, at
from sca_bench.models.sam.hf_config import parse_sam_dims, read_json_object
from sca_bench.models.sam.tensor_names import (
    has_transformers_names,
    to_meta_names,
    transformers_name,
)
from sca_bench.pretrained.tensors import Unreadable, load_tensors
from sca_bench.specs.encoders import EncoderSpec, sam_sizes
from sca_bench.specs.sam_dims import SamDims
from sca_bench.weight_paths import resolve, shards_of

KEY = "sam.weights"
IMAGE_ENCODER_PREFIXES = ("image_encoder.", "vision_encoder.")
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""What a folder of transformers' layout may keep its weights in; the first found is read."""


def read_tensors(path: Path, key: str) -> dict[str, Tensor]:
    """Read a `.safetensors` file, or a torch file with nothing but tensors in it.

    Args:
        path: File to read.
        key: Key to name in an error.

    Raises:
        InputError: The file is absent, unreadable, or no mapping of names to tensors.
    """
    if not path.exists():
        raise InputError(None, key, f"{path} does not exist or is no file")
    try:
        tensors = load_tensors(path)
    except Unreadable as error:
        raise InputError(None, key, f"{path} cannot be read as weights ({error})") from error
    is_mapping = isinstance(tensors, dict) and all(isinstance(name, str) for name in tensors)
    if not is_mapping or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise InputError(None, key, f"{path} is no mapping of names to tensors")
    return dict(tensors)


def read_directory(directory: Path, key: str) -> dict[str, Tensor]:
    """Read the weights of a folder in transformers' layout, in one file or in shards.

    Args:
        directory: Folder to read.
        key: Key to name in an error.

    Raises:
        InputError: The folder holds no weights, or a file of them cannot be read.
    """
    file = next((directory / n for n in WEIGHT_FILES if (directory / n).is_file()), None)
    if file is None:
        raise InputError(None, key, f"{directory} holds no weights ({' or '.join(WEIGHT_FILES)})")
    shards: Iterable[Path] = [file]
    if file.suffix == ".json":
        shard_of_tensor = read_json_object(file).get("weight_map")
        if not isinstance(shard_of_tensor, dict) or not shard_of_tensor:
            raise InputError(file, "weight_map", "missing: which shard holds which tensor")
        shards_of(directory)  # all of them lie inside, or an error says which does not
        shards = [directory / str(name) for name in sorted(set(shard_of_tensor.values()))]
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        tensors.update(read_tensors(shard, key))
    return tensors


def load_strictly(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    path: Path,
    key: str,
    *,
    spell: Callable[[str], str] = str,
    fix: str = "",
) -> None:
    """Load `tensors` into `module`, which must have exactly these names and shapes.

    Args:
        module: The model to load into.
        tensors: Tensors by the module's names.
        path: Where they come from, for messages.
        key: Key to name in an error.
        spell: Turns a name of the module into that of the file, for messages.
        fix: What to do where they do not fit.

    Raises:
        InputError: Names or shapes differ; the first offending name is given.
    """
    expected = module.state_dict()
    missing = [name for name in expected if name not in tensors]
    unknown = [name for name in tensors if name not in expected]
    differ = [n for n in expected if n in tensors and tensors[n].shape != expected[n].shape]
    others = [n for n in expected if n in tensors and not _are_alike(tensors[n], expected[n])]
    problem = ""
    if missing:
        problem = (
            f"lacks {spell(missing[0])} {tuple(expected[missing[0]].shape)}"
            f" and {len(missing) - 1} more of {len(expected)} tensors"
        )
    elif unknown:
        problem = (
            f"holds {spell(unknown[0])} {tuple(tensors[unknown[0]].shape)}, which the model has"
            f" not, and {len(unknown) - 1} more such tensors"
        )
    elif differ:
        problem = (
            f"holds {spell(differ[0])} of shape {tuple(tensors[differ[0]].shape)},"
            f" but the model has {tuple(expected[differ[0]].shape)}"
        )
    elif others:
        problem = (
            f"holds {spell(others[0])} as {tensors[others[0]].dtype},"
            f" but the model has {expected[others[0]].dtype}"
        )
    if problem:
        raise InputError(None, key, f"{path} {problem}", fix)
    # On the meta device there is nothing to load into: names and shapes are checked all the same.
    if not any(tensor.is_meta for tensor in expected.values()):
        module.load_state_dict(tensors)


def _are_alike(one: Tensor, other: Tensor) -> bool:
    """Say whether two tensors hold numbers of one kind, in whatever precision."""
    kinds = [(t.is_floating_point(), t.is_complex(), t.dtype is torch.bool) for t in (one, other)]
    return kinds[0] == kinds[1]


def load_sam_weights(
    sam: nn.Module,
    dims: SamDims,
    weights: str,
    encoder: EncoderSpec,
    *,
    skip_image_encoder: bool = False,
) -> None:
    """Load SAM weights, whichever of the namings they have.

    Args:
        sam: The model to load into.
        dims: Its sizes; those of a `config.json` beside the weights must be the same.
        weights: `embedded:NAME`, a `.safetensors` / `.pth` file, or a transformers folder.
        encoder: The image encoder that SAM brings itself.
        skip_image_encoder: Leave the image encoder's tensors unread, and the model's image encoder
            as it is.

    Raises:
        InputError: The weights cannot be read, or their names, shapes or sizes do not fit.
    """
    path = resolve(weights, KEY)
    config_dims = transformers_dims(path)
    if config_dims is not None:
        _check_sizes(config_dims, dims, path, skip_image_encoder)
    tensors = read_sam(path)
    if skip_image_encoder:
        tensors = {n: t for n, t in tensors.items() if not n.startswith(IMAGE_ENCODER_PREFIXES)}
    spell: Callable[[str], str] = str
    if has_transformers_names(tensors):
        spell = partial(transformers_name, renamed=encoder.renamed)
        with at(path):
            tensors = to_meta_names(tensors, sam.state_dict(), encoder.renamed)
    tensors = without_unused(tensors, encoder)
    if skip_image_encoder:
        own = IMAGE_ENCODER_PREFIXES[0]
        tensors |= {n: t for n, t in sam.state_dict().items() if n.startswith(own)}
    fix = "sam.size must name the SAM that the weights belong to"
    load_strictly(sam, tensors, path, KEY, spell=spell, fix=fix)


def read_sam(path: Path) -> dict[str, Tensor]:
    """Read SAM weights from a file or folder, under the names they have there.

    Raises:
        InputError: They cannot be read.
    """
    return read_directory(path, KEY) if path.is_dir() else read_tensors(path, KEY)


def without_unused(tensors: Mapping[str, Tensor], encoder: EncoderSpec) -> dict[str, Tensor]:
    """Return SAM's tensors without those of its image encoder that nothing reads."""
    unused = tuple(IMAGE_ENCODER_PREFIXES[0] + name for name in encoder.unused)
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(unused)}


def transformers_dims(path: Path) -> SamDims | None:
    """Return the sizes in the `config.json` of SAM weights in transformers' layout.

    Args:
        path: A folder, or a weight file that may lie in one.

    Returns:
        None for a file without such a configuration beside it.

    Raises:
        InputError: A folder has none, or one of another model; a setting is not supported.
    """
    inside = path.is_dir()
    config_path = path / "config.json" if inside else path.parent / "config.json"
    if not inside and (path.name not in WEIGHT_FILES or not config_path.is_file()):
        return None
    if not config_path.is_file():
        problem = f"{path} is a folder without config.json"
        raise InputError(None, KEY, problem, "name a weight file, or a transformers SAM folder")
    config = read_json_object(config_path)
    if config.get("model_type") != "sam":
        problem = f"{config_path} says model_type {config.get('model_type')!r}, expected 'sam'"
        is_sca = config.get("model_type") == "sca"
        fix = "`python -m sca_bench weights import` takes SCA checkpoints apart" if is_sca else ""
        raise InputError(None, KEY, problem, fix)
    with at(config_path):
        return parse_sam_dims(config, "mask_decoder_config")


def _check_sizes(config: SamDims, wanted: SamDims, path: Path, skip_image_encoder: bool) -> None:
    for field in fields(SamDims):
        if skip_image_encoder and field.name.startswith("encoder_"):
            continue
        theirs, ours = getattr(config, field.name), getattr(wanted, field.name)
        if theirs != ours:
            fitting = [name for name, dims in sam_sizes().items() if dims == config]
            fix = f"it is sam.size: {fitting[0]}" if fitting else "no sam.size has its sizes"
            problem = f"the configuration of {path} has {field.name} {theirs}, but sam.size {ours}"
            raise InputError(None, KEY, problem, fix)
