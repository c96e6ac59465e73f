"""Where text decoders come from: inside the package, a directory, the hub, or untrained."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GPT2Config, LlamaConfig
from transformers.utils import logging as transformers_logging

from sca_bench.errors import InputError, did_you_mean
from sca_bench.models.seeding import seeded
from sca_bench.models.text_decoder.decoder import TextDecoder
from sca_bench.pretrained.folders import check_folder, check_size
from sca_bench.weight_paths import PREFIX, resolve

RANDOM_PREFIX = "random:"
KEY = "text_decoder.weights"
_LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
SMALLEST_VOCABULARY = 6
"""transformers answers a missing vocabulary file with a tokenizer of 1 or 5 tokens."""

RANDOM_PRESETS: dict[str, Callable[[], Any]] = {
    "gpt2": GPT2Config,
    "gpt2-large": lambda: GPT2Config(n_embd=1280, n_layer=36, n_head=20),
    "open_llama_3b_v2": lambda: LlamaConfig(
        vocab_size=32000,
        hidden_size=3200,
        intermediate_size=8640,
        num_hidden_layers=26,
        num_attention_heads=32,
        max_position_embeddings=2048,
        rms_norm_eps=1e-6,
        bos_token_id=1,
        eos_token_id=2,
    ),
}


def load_text_decoder(weights: str, *, seed: int = 0) -> TextDecoder:
    """Load a text decoder, frozen and in evaluation mode.

    Args:
        weights: `embedded:NAME`, a local directory in transformers' layout, a hub id (the local
            cache first, then the network), or untrained ones: `random:PRESET`, or `random:FOLDER`
            with the sizes of that folder's `config.json`.
        seed: Seed of the untrained weights; the global generator is left as it was.

    Raises:
        InputError: Unknown name; unreadable or incomplete weights; no usable tokenizer.
    """
    transformers_logging.disable_progress_bar()
    with seeded(seed):
        if weights.startswith(RANDOM_PREFIX):
            decoder = _random(weights)
        elif weights.startswith(PREFIX) or Path(weights).expanduser().is_dir():
            decoder = _pretrained(str(resolve(weights, KEY)), weights, local=True)
        elif re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", weights):
            decoder = _from_hub(weights)
        else:
            raise InputError(None, KEY, f"{weights!r} is neither a directory nor a hub id")
    return decoder.eval().requires_grad_(False)


def untrained_twin(weights: str) -> str:
    """Return the name of an untrained text decoder with the sizes of this one.

    Raises:
        InputError: The sizes are not known without its files.
    """
    if weights.startswith(RANDOM_PREFIX):
        return weights
    folder, preset = resolve(weights), weights.rpartition("/")[2]
    if folder.is_dir():
        return f"{RANDOM_PREFIX}{folder}"
    if preset in RANDOM_PRESETS:
        return f"{RANDOM_PREFIX}{preset}"
    problem = f"{weights!r}: its sizes are not known here"
    raise InputError(None, KEY, problem, f"known: {', '.join(RANDOM_PRESETS)}")


def _random(weights: str) -> TextDecoder:
    name = weights.removeprefix(RANDOM_PREFIX)
    if (Path(name) / "config.json").is_file():
        config = _sizes(Path(name))
    elif name in RANDOM_PRESETS:
        config = RANDOM_PRESETS[name]()
    else:
        raise InputError(None, KEY, f"{weights!r} is unknown", did_you_mean(name, RANDOM_PRESETS))
    return TextDecoder(AutoModelForCausalLM.from_config(config), None, name=weights)


def _sizes(folder: Path) -> Any:
    """Read the configuration of a folder, of whose weights nothing is read."""
    check_folder(folder)
    try:
        config = AutoConfig.from_pretrained(str(folder), **_LOCAL)
        check_size(folder, lambda: AutoModelForCausalLM.from_config(config), untrained=True)
    except InputError:
        raise
    except Exception as error:  # transformers raises of many kinds on what is no configuration
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(None, KEY, f"{str(folder)!r} cannot be built ({reason})") from error
    return config


def _from_hub(weights: str) -> TextDecoder:
    try:
        return _pretrained(weights, weights, local=True)
    except InputError as error:
        if not isinstance(error.__cause__, OSError):
            raise
    return _pretrained(weights, weights, local=False)


def _pretrained(source: str, name: str, *, local: bool) -> TextDecoder:
    try:
        if Path(source).is_dir():
            check_folder(Path(source))
            config = AutoConfig.from_pretrained(source, **_LOCAL)
            check_size(Path(source), lambda: AutoModelForCausalLM.from_config(config))
        tokenizer = AutoTokenizer.from_pretrained(
            source, local_files_only=local, trust_remote_code=False
        )
        model, report = AutoModelForCausalLM.from_pretrained(
            source,
            local_files_only=local,
            trust_remote_code=False,
            dtype=torch.get_default_dtype(),
            output_loading_info=True,
            # A directory is ours to demand safetensors of; a hub id may hold older files, which
            # transformers reads with weights_only.
            use_safetensors=True if Path(source).is_dir() else None,
        )
    except InputError:
        raise
    except Exception as error:  # transformers raises of many kinds on what is no folder of weights
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(None, KEY, f"{name!r} cannot be loaded ({reason})") from error
    lost = [*report["missing_keys"], *(row[0] for row in report["mismatched_keys"])]
    if lost:
        raise InputError(
            None,
            KEY,
            f"{name!r} lacks {sorted(lost)[0]}, or has it in another shape",
            f"{len(lost)} tensors in all",
        )
    if len(tokenizer) < SMALLEST_VOCABULARY:
        raise InputError(
            None,
            KEY,
            f"the tokenizer of {name!r} knows only {len(tokenizer)} tokens",
            "its vocabulary file is missing (vocab.json and merges.txt, or tokenizer.json)",
        )
    return TextDecoder(model, tokenizer, name=name)


def save_text_decoder(decoder: TextDecoder, folder: Path) -> None:
    """Write a text decoder as transformers does, with its tokenizer if it has one.

    It is read back and compared: a head that is tied to the embedding is stored once, and a reader
    that did not tie it again would start from a random one.

    Raises:
        InputError: What is read back is not what was written.
    """
    transformers_logging.disable_progress_bar()
    decoder.language_model.save_pretrained(folder)
    if decoder.tokenizer is not None:
        decoder.tokenizer.save_pretrained(folder)
    again = AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=torch.get_default_dtype()
    )
    state, read = decoder.language_model.state_dict(), again.state_dict()
    lost = sorted(state.keys() ^ read.keys())
    lost += [
        name for name in state.keys() & read.keys() if not torch.equal(state[name], read[name])
    ]
    if lost:
        raise InputError(folder, lost[0], "is not read back as it was written")
