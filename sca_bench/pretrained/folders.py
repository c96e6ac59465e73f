"""Folders of weights as transformers saves them, looked through before it loads anything.

transformers reads what a folder's JSON says: it builds whatever sizes stand there, whether the
weights have them or not, and fetches an attention from the hub where one is named.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from sca_bench.errors import InputError
from sca_bench.reading import RECORD_BYTES, open_regular, read_json, shown, shown_text
from sca_bench.walk import walk
from sca_bench.weight_paths import shards_of

CONFIG = "config.json"
_SAID = (
    CONFIG,
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "preprocessor_config.json",
    "processor_config.json",
)
"""Files that are an object each, and small."""
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
_READ = (*_WEIGHTS, ".json", ".txt", ".model", ".jinja", ".tiktoken")
_COUNT, _MOST = re.compile(r"(num|n)_\w+"), 2**21
_LAYERS, _MOST_LAYERS = re.compile(r"\w*(layers?|depths?|blocks?)"), 10_000
_ATTENTION = ("attn_implementation", "_attn_implementation", "experts_implementation")
_MOST_MODULES = 50_000
_NUMBERS_A_BYTE, _FREE = 4, 2**22
"""Numbers of a model for each byte of its weights, of which the smallest types take four to one
and a tied head is counted twice; and what any model may have."""


def check_folder(folder: Path) -> None:
    """Refuse a folder in which a file is none to read, or asks for code or for very much.

    Raises:
        InputError: It is so, or a shard lies outside of it.
    """
    try:
        for path in sorted(folder.iterdir()):
            if path.suffix in _READ:
                with open_regular(path) as handle:
                    size = os.fstat(handle.fileno()).st_size
                if size > RECORD_BYTES and path.suffix not in _WEIGHTS:
                    problem = f"holds {size:,} bytes, at most {RECORD_BYTES:,} are read"
                    raise InputError(path, "", problem)
        for path in (folder / name for name in _SAID):
            if path.exists():
                said = read_json(path, RECORD_BYTES)
                if not isinstance(said, dict):
                    raise InputError(path, "", f"is {shown(said)}, expected an object")
                if path.name == CONFIG:
                    check_config(said, path)
    except OSError as error:
        raise InputError(error.filename, "", f"cannot be read ({error.strerror})") from None
    shards_of(folder)


def check_config(config: dict[str, Any], path: object) -> None:
    """Refuse a model's configuration that names code, or counts that no model has.

    Raises:
        InputError: It is so.
    """
    for key, value in _pairs(config):
        if key in _ATTENTION and isinstance(value, str) and not re.fullmatch(r"[\w|-]*", value):
            problem = f"{shown(value)} is code of somebody else, which is never fetched or run"
            raise InputError(path, shown_text(key), problem, "leave it out")
        if isinstance(value, int) and not isinstance(value, bool):
            most = _MOST_LAYERS if _LAYERS.fullmatch(key) else _MOST
            if value > most and (most == _MOST_LAYERS or _COUNT.fullmatch(key)):
                problem = f"{shown(value)} is more than any model has (at most {most:,})"
                raise InputError(path, shown_text(key), problem)


def _pairs(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    todo: list[Any] = [config]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            yield from value.items()
            todo += value.values()
        elif isinstance(value, list):
            todo += value


def check_size(folder: Path, build: Callable[[], object], *, untrained: bool = False) -> None:
    """Refuse a folder whose configuration describes a model that its weights cannot fill.

    Args:
        folder: The folder.
        build: Builds the model from the configuration; it is called on torch's `meta` device, so
            no memory is taken, and stopped as soon as the model is too large.
        untrained: It gives the sizes of a model only, which has to fit into this machine's memory.

    Raises:
        InputError: It is so.
        Exception: Whatever `build` raises.
    """
    paths = [path for _, path in walk(folder) if path.suffix in _WEIGHTS]
    num_bytes = sum(path.stat().st_size for path in paths)
    most, held = _NUMBERS_A_BYTE * num_bytes + _FREE, f"its weights hold {num_bytes:,} bytes"
    if untrained:
        most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
        held = "this machine has no memory for more"
    counted, modules = 0, 0

    def count(_: nn.Module, __: str, tensor: torch.Tensor | None) -> None:
        nonlocal counted
        counted += tensor.numel() if tensor is not None else 0
        if counted > most:
            problem = f"describes a model of more than {most:,} numbers"
            raise InputError(folder / CONFIG, "", f"{problem}, but {held}")

    def count_module(_: nn.Module, __: str, ___: nn.Module | None) -> None:
        nonlocal modules
        modules += 1
        if modules > _MOST_MODULES:
            problem = f"describes a model of more than {_MOST_MODULES:,} modules"
            raise InputError(folder / CONFIG, "", problem, "fetch it again")

    hooks = (
        register_module_parameter_registration_hook(count),
        register_module_buffer_registration_hook(count),
        register_module_module_registration_hook(count_module),
    )
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            build()
    finally:
        for hook in hooks:
            hook.remove()
