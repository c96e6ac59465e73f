"""Checkpoints of others taken apart into what a suite names: SAM, text decoder, trained tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.utils import logging as transformers_logging

from sca_bench.digests import folder_digests, write_once
from sca_bench.errors import InputError, at
from sca_bench.files import write_atomic
from sca_bench.models.original import config as original_config
from sca_bench.models.original import settings
from sca_bench.models.original.classes import get_class
from sca_bench.models.original.layout import load_original
from sca_bench.models.sam.detect_size import read_sized_sam
from sca_bench.models.sam.hf_config import read_json_object
from sca_bench.models.text_decoder.loading import save_text_decoder
from sca_bench.settings import unread_data
from sca_bench.study.suite.merge import check_keys, validate
from sca_bench.study.suite.yaml_values import dump_yaml

CARD = "import.json"
SAM, TEXT_DECODER = "sam.safetensors", "text_decoder"
TRAINED, SETTINGS = "trainable.safetensors", "settings.yaml"

Facts = dict[str, Any]


def import_weights(source: Path, out: Path) -> list[str]:
    """Take a checkpoint apart.

    Args:
        source: A SAM weight file (Meta's names or transformers'), a folder of transformers'
            SamModel, or a checkpoint folder of the original SCA.
        out: New folder for `sam.safetensors` and, for SCA, `text_decoder/` and
            `trainable.safetensors`; with `settings.yaml`, a fragment for a suite, and
            `import.json`. Once written, the same import finds it and leaves it alone.

    Returns:
        Lines for the user: what was written, and what to put into a suite.

    Raises:
        InputError: The source is none of these or does not fit; the folder holds other content.
    """
    write = _writer(source, out)
    origin = {"source": source.name, "files": folder_digests(source)}
    card, is_new = write_once(out, CARD, origin, write)
    counts = ", ".join(f"{part} {count:,}" for part, count in card["parameters"].items())
    lines = [f"{out}: {'written' if is_new else 'imported before, unchanged'}; {card['kind']}"]
    lines.append(f"parameters: {counts}")
    lines += card["notes"]
    lines.append(f"put this into a suite ({out / SETTINGS}):")
    return lines + (out / SETTINGS).read_text(encoding="utf-8").splitlines()


def _writer(source: Path, out: Path) -> Callable[[Path], Facts]:
    """Return what will take the source apart, by what the source is."""
    if not source.exists():
        raise InputError(source, "", "no such file or folder", "check the path")
    config = source / "config.json"
    if not source.is_dir():
        return lambda folder: _import_sam(source, folder, out)
    kind = read_json_object(config).get("model_type")
    if kind == "sam":
        return lambda folder: _import_sam(source, folder, out)
    if kind == "sca":
        return lambda folder: _import_sca(source, folder, out)
    problem = f"{kind!r} is neither 'sam' (transformers' SamModel) nor 'sca' (the original SCA)"
    raise InputError(config, "model_type", problem, "text decoders need no import: name the folder")


def _import_sam(source: Path, folder: Path, out: Path) -> Facts:
    with at(source):
        size, tensors = read_sized_sam(source)
    _save(tensors, folder / SAM)
    fragment = {"sam": {"size": size, "weights": str(out.resolve() / SAM)}}
    _save_settings(fragment, folder, f"SAM {size}, imported from {source.name}")
    return {
        "kind": f"SAM {size}",
        "original_class": "",
        "parameters": {"sam": sum(t.numel() for t in tensors.values() if t.is_floating_point())},
        "notes": [],
    }


def _import_sca(source: Path, folder: Path, out: Path) -> Facts:
    config = original_config.read(source / "config.json")
    with at(source / "config.json"), _quiet_transformers():
        original = get_class((config.get("architectures") or [None])[0])
        model = load_original(source)
        fragment = settings.settings_of(model, original)
    resolved_out = out.resolve()
    fragment["sam"]["weights"] = str(resolved_out / SAM)
    fragment["text_decoder"] = {"weights": str(resolved_out / TEXT_DECODER)}
    fragment["start_from"] = str(resolved_out / TRAINED)
    _save(model.region_encoder.sam.state_dict(), folder / SAM)
    save_text_decoder(model.text_decoder, folder / TEXT_DECODER)
    _save(model.trainable_state(), folder / TRAINED)
    title = f"{original.name}, imported from {source.name}"
    _save_settings(fragment, folder, f"{title}; evaluate it as it is with train: {{steps: 0}}")
    notes = []
    if model.text_decoder.tokenizer is None:
        fix = "put the tokenizer files it was trained with there before a run"
        notes.append(f"{out / TEXT_DECODER}: the checkpoint came without a tokenizer; {fix}")
    return {
        "kind": f"SCA checkpoint ({original.name})",
        "original_class": original.name,
        "parameters": {
            "sam": _count(model.region_encoder.sam),
            "text_decoder": _count(model.text_decoder),
            "trained": sum(t.numel() for t in model.trainable_state().values()),
        },
        "notes": notes,
    }


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep back the warning that a tokenizer lies beside a model type transformers knows not."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    # Clones: safetensors refuses tensors that share memory or are not contiguous.
    save_file({n: t.detach().cpu().clone().contiguous() for n, t in tensors.items()}, path)


def _save_settings(fragment: dict[str, Any], folder: Path, title: str) -> None:
    """Write a `base:` of a suite; keys and values are checked as a suite's are."""
    with at(folder / SETTINGS):
        check_keys(fragment, "base.")
        validate({**fragment, "data": unread_data().model_dump()}, {})
    text = dump_yaml({"base": fragment})
    write_atomic(folder / SETTINGS, f"# {title}\n{text}")


def _count(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())
