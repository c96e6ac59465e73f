"""Where image captioners come from: a folder, the hub, or untrained; nothing is loaded half."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoTokenizer, PreTrainedConfig
from transformers.utils import logging as transformers_logging

from baselines.sam_captioner.architectures import (
    ARCHITECTURES,
    KEY,
    Architecture,
    forget_generation_settings,
)
from baselines.sam_captioner.image_captioner import ImageCaptioner
from baselines.sam_captioner.sizes import size_config
from sca_bench.errors import InputError
from sca_bench.pretrained.folders import check_folder, check_size
from sca_bench.settings import BaselineSettings
from sca_bench.weight_paths import PACKAGE_PREFIX, PREFIX, resolve

RANDOM = "random"
PROCESSOR_KEY = "baseline.weights"
TOKENIZER_KEY = "baseline.tokenizer"
MAX_UNKNOWN_IDS = 128
"""So many ids of a padded embedding table may be unknown to the tokenizer; published: up to 38."""
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
_ERRORS = (Exception,)
"""transformers raises of many kinds on what it cannot read."""


def load_captioner(kind: str, settings: BaselineSettings, *, chunk: int) -> ImageCaptioner:
    """Load an image captioner, frozen and in evaluation mode.

    Args:
        kind: `git`, `blip` or `blip2`.
        settings: Weights (a folder as transformers saves it, `package:MODULE/PATH`, a hub id: the
            local cache first, then the network; or `random` with a `size`), and a tokenizer's
            folder or hub id where the weights bring none.
        chunk: Images captioned at a time.

    Raises:
        InputError: Weights, image processor or tokenizer cannot be read, belong to another kind of
            captioner, or do not fit each other.
    """
    transformers_logging.disable_progress_bar()
    weights, architecture = settings.weights, ARCHITECTURES[kind]
    if weights == RANDOM:
        return _untrained(kind, settings, chunk)
    if weights.startswith((PREFIX, PACKAGE_PREFIX)) or Path(weights).expanduser().is_dir():
        source, local = str(resolve(weights, KEY)), [True]
    elif _HUB_ID.fullmatch(weights) and not weights.startswith("."):
        source, local = weights, [True, False]
    else:
        raise InputError(None, KEY, f"{weights!r} is neither a folder nor a hub id")
    if Path(source).is_dir():
        check_folder(Path(source))
    written = _first(lambda at: _written_config(source, weights, at), local)
    _check_kind(written, architecture, weights)
    model = _first(lambda at: _model(architecture, source, weights, at), local)
    processor = _first(lambda at: _processor(architecture, source, weights, at), local)
    # A broken tokenizer is worse than none: where its files are missing the library makes one up.
    tokenizer_source = source
    if settings.tokenizer is not None:
        tokenizer_source = str(resolve(settings.tokenizer, TOKENIZER_KEY))
    tokenizer = _first(
        lambda at: _tokenizer(tokenizer_source, at),
        [True] if Path(tokenizer_source).is_dir() else [True, False],
    )
    wrapped = architecture(model)
    check_parts(wrapped, written, processor, tokenizer, weights)
    forget_generation_settings(wrapped)
    return ImageCaptioner(wrapped, processor, tokenizer, chunk=chunk, name=weights).freeze()


def _untrained(kind: str, settings: BaselineSettings, chunk: int) -> ImageCaptioner:
    architecture, size = ARCHITECTURES[kind], settings.size
    config = size_config(kind, size)
    if settings.tokenizer is None:
        problem = "missing: an untrained captioner has no words of its own"
        raise InputError(None, TOKENIZER_KEY, problem, "name the folder of a tokenizer")
    with _seeded(settings.random_seed):
        wrapped = architecture(architecture.model_class(config))
    tokenizer = _tokenizer(str(resolve(settings.tokenizer, TOKENIZER_KEY)), True)
    processor = new_processor(architecture, wrapped.image_size)
    name = f"{RANDOM} {size}"
    check_parts(wrapped, config.to_dict(), processor, tokenizer, name)
    return ImageCaptioner(wrapped, processor, tokenizer, chunk=chunk, name=name).freeze()


def new_processor(architecture: type[Architecture], side: int) -> Any:
    """Return an image processor as the architecture's published checkpoints have it.

    GIT scales the shorter side and cuts out the centre, BLIP and BLIP-2 stretch to a square.
    """
    square = {"height": side, "width": side}
    if architecture.model_type == "git":
        return architecture.image_processor(size={"shortest_edge": side}, crop_size=square)
    return architecture.image_processor(size=square)


def check_parts(
    wrapped: Architecture,
    written: Mapping[str, Any],
    processor: Any,
    tokenizer: Any,
    name: str,
) -> None:
    """Refuse parts that run together and give wrong captions.

    Args:
        wrapped: The model.
        written: Its configuration as it is written in its file.
        processor: Its image processor.
        tokenizer: Its tokenizer.
        name: The checkpoint.

    Raises:
        InputError: The processor makes images of another size or shape than the model takes, the
            tokenizer is not the model's, or `Architecture.check` finds something.
    """
    side = wrapped.image_size
    probe = Image.fromarray(np.zeros((side, 2 * side + 1, 3), dtype=np.uint8))
    made = tuple(processor(probe, return_tensors="pt").pixel_values.shape[1:])
    if made != (3, side, side):
        raise InputError(
            None,
            PROCESSOR_KEY,
            f"the image processor of {name!r} makes {made[2]} x {made[1]} pixels of an image, but"
            f" the model takes {side} x {side}",
            f"write a size (and crop_size) of {side} into its preprocessor_config.json",
        )
    known, rows = tokenizer.get_vocab(), wrapped.vocab_size
    largest = max(known.values(), default=-1)
    if largest >= rows or len(known) < max(rows - MAX_UNKNOWN_IDS, rows // 2):
        problem = f"knows {len(known)} tokens, ids up to {largest}, but {name!r} has {rows}"
        fix = (
            "use the tokenizer that belongs to the model; with 1 or 5 tokens, its vocabulary file"
            " is missing (tokenizer.json, vocab.txt, or vocab.json and merges.txt)"
        )
        raise InputError(None, TOKENIZER_KEY, problem, fix)
    special = {"start": wrapped.start_id, "end": wrapped.end_ids[0], "padding": wrapped.pad_id}
    for what, token in special.items():
        if not isinstance(token, int) or not 0 <= token < rows:
            fix = "state it in config.json (or, for the end, in generation_config.json)"
            raise InputError(None, KEY, f"{name!r} has {what} token {token!r}", fix)
    wrapped.check(written, tokenizer, name)


def _first(load: Any, places: list[bool]) -> Any:
    """Try the local cache, then the network, where both are places."""
    for local in places[:-1]:
        try:
            return load(local)
        except InputError as error:
            if not isinstance(error.__cause__, OSError):
                raise
    return load(places[-1])


def _written_config(source: str, name: str, local: bool) -> dict[str, Any]:
    try:
        config, _ = PreTrainedConfig.get_config_dict(source, local_files_only=local)
    except _ERRORS as error:
        raise InputError(None, KEY, f"{name!r} has no config.json ({_reason(error)})") from error
    return dict(config)


def _check_kind(written: Mapping[str, Any], architecture: type[Architecture], name: str) -> None:
    wanted, classes = architecture.model_class.__name__, written.get("architectures")
    model_type = written.get("model_type")
    if model_type != architecture.model_type or (classes and wanted not in classes):
        what = ", ".join(classes) if classes else f"of model_type {model_type!r}"
        problem = f"{name!r} is a {what}, but this variant takes a {wanted}"
        raise InputError(None, KEY, problem, "choose the variant that fits, or other weights")


def _model(architecture: type[Architecture], source: str, name: str, local: bool) -> Any:
    try:
        if Path(source).is_dir():
            config = architecture.model_class.config_class.from_pretrained(
                source, local_files_only=True
            )
            check_size(Path(source), lambda: architecture.model_class(config))
        model, report = architecture.model_class.from_pretrained(
            source,
            local_files_only=local,
            dtype=torch.get_default_dtype(),
            output_loading_info=True,
            trust_remote_code=False,
            weights_only=True,
            # A folder is ours to demand safetensors of; a hub id may hold older files, which
            # transformers reads with weights_only.
            use_safetensors=True if Path(source).is_dir() else None,
            # Reported below by name; the library would only point at a table it has printed.
            ignore_mismatched_sizes=True,
        )
    except InputError:
        raise
    except _ERRORS as error:
        raise InputError(None, KEY, f"{name!r} cannot be loaded ({_reason(error)})") from error
    lost = [*report["missing_keys"], *(row[0] for row in report["mismatched_keys"])]
    if lost:
        raise InputError(
            None,
            KEY,
            f"{name!r} lacks {sorted(lost)[0]}, or has it in another shape",
            f"{len(lost)} tensors in all",
        )
    return model


def _processor(architecture: type[Architecture], source: str, name: str, local: bool) -> Any:
    try:
        return architecture.image_processor.from_pretrained(source, local_files_only=local)
    except _ERRORS as error:
        raise InputError(
            None,
            PROCESSOR_KEY,
            f"{name!r} has no image processor ({_reason(error)})",
            "put preprocessor_config.json or processor_config.json beside the weights",
        ) from error


def _tokenizer(source: str, local: bool) -> Any:
    if Path(source).is_dir():
        check_folder(Path(source))
    try:
        return AutoTokenizer.from_pretrained(
            source, local_files_only=local, trust_remote_code=False
        )
    except _ERRORS as error:
        raise InputError(
            None,
            TOKENIZER_KEY,
            f"no tokenizer in {source!r} ({_reason(error)})",
            "name a folder with one, such as the weights' own",
        ) from error


def _reason(error: BaseException) -> str:
    if isinstance(error, json.JSONDecodeError):
        return "it is no JSON"
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
