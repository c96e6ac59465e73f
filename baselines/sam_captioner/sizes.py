"""Configurations by name: the published captioners, and tiny ones for rendered scenes.

A checkpoint brings its own configuration; these are for `baseline.weights: random`, for counting
without weights, and for the recipe of the shipped tiny captioners (words of the grammar only).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import Blip2Config, BlipConfig, GitConfig

from sca_bench.errors import InputError, did_you_mean
from sca_bench.scene_grammar import VOCABULARY

TINY_IMAGE_PX = 48
"""Side of the tiny captioners' images; rendered scenes are 96 px wide, their objects 19 to 36."""
TINY_WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *VOCABULARY, "<image>")
"""Tokens of the tiny captioners' tokenizer in the order of their ids."""
TINY_PAD, TINY_START, TINY_END, TINY_IMAGE = (
    TINY_WORDS.index(word) for word in ("[PAD]", "[CLS]", "[SEP]", "<image>")
)

_LARGE_VIT = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
_TINY_VIT = {
    "hidden_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 160,
    "image_size": TINY_IMAGE_PX,
    "patch_size": 6,
    "initializer_range": 0.02,
}
_TINY_TEXT = {
    "vocab_size": len(TINY_WORDS),
    "hidden_size": 96,
    "num_attention_heads": 4,
    "bos_token_id": TINY_START,
    "eos_token_id": TINY_END,
    "pad_token_id": TINY_PAD,
}
_NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def _git(**changes: Any) -> GitConfig:
    return GitConfig(**changes)


def _blip(vision: dict[str, Any] | None = None) -> BlipConfig:
    # The class default of 8 attention heads is not that of any published captioner.
    return BlipConfig(vision_config=vision or {}, text_config={"num_attention_heads": 12})


def _blip2_opt(hidden_size: int, num_layers: int, num_heads: int, ffn_dim: int) -> Blip2Config:
    text = {
        "model_type": "opt",
        "hidden_size": hidden_size,
        "word_embed_proj_dim": hidden_size,
        "num_hidden_layers": num_layers,
        "num_attention_heads": num_heads,
        "ffn_dim": ffn_dim,
        "vocab_size": 50304,
        "eos_token_id": 50118,
    }
    return Blip2Config(text_config=text, image_token_index=50265)


def _tiny_git() -> GitConfig:
    return GitConfig(
        vision_config=_TINY_VIT,
        num_hidden_layers=2,
        intermediate_size=160,
        max_position_embeddings=24,
        tie_word_embeddings=True,
        **_NO_DROPOUT,
        **_TINY_TEXT,
    )


def _tiny_blip() -> BlipConfig:
    text = {
        **_TINY_TEXT,
        "sep_token_id": TINY_END,
        "num_hidden_layers": 1,
        "intermediate_size": 160,
        "max_position_embeddings": 24,
    }
    return BlipConfig(vision_config=_TINY_VIT, text_config=text)


def _tiny_blip2() -> Blip2Config:
    return Blip2Config(
        vision_config=_TINY_VIT,
        qformer_config={
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "vocab_size": 1,
            "max_position_embeddings": 1,
            **_NO_DROPOUT,
        },
        text_config={
            "model_type": "opt",
            **_TINY_TEXT,
            "word_embed_proj_dim": 96,
            "num_hidden_layers": 1,
            "ffn_dim": 160,
            "max_position_embeddings": 40,
            "dropout": 0.0,
        },
        num_query_tokens=8,
        image_token_index=TINY_IMAGE,
    )


SIZES: dict[str, dict[str, Callable[[], Any]]] = {
    "git": {
        "git-base": _git,
        "git-large": lambda: _git(vision_config={**_LARGE_VIT, "patch_size": 14}),
        "tiny": _tiny_git,
    },
    "blip": {
        "blip-base": _blip,
        "blip-large": lambda: _blip(_LARGE_VIT),
        "tiny": _tiny_blip,
    },
    "blip2": {
        "blip2-opt-2.7b": lambda: _blip2_opt(2560, 32, 32, 10240),
        "tiny": _tiny_blip2,
    },
}
"""Architecture -> name of a size -> function that makes the library's configuration."""


def size_config(architecture: str, size: str) -> Any:
    """Return the configuration of a size.

    Args:
        architecture: `git`, `blip` or `blip2`.
        size: A name in `SIZES`.

    Raises:
        InputError: No such size.
    """
    sizes = SIZES[architecture]
    if size not in sizes:
        problem = f"{size!r} is no size of {architecture}"
        raise InputError(None, "baseline.size", problem, did_you_mean(size, sizes))
    return sizes[size]()
