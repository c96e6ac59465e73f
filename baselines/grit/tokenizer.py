"""Tokenizers: bert-base-uncased from a local folder, or the words of rendered scenes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from transformers import AutoTokenizer

from baselines.grit.config import TINY_WORDS, TextDecoderConfig
from sca_bench.errors import InputError, at
from sca_bench.pretrained.folders import check_folder
from sca_bench.weight_paths import resolve

KEY = "baseline.tokenizer"


class Tokenizer(Protocol):
    """What the captioner asks of a tokenizer."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids, without special tokens."""
        ...


class WordTokenizer:
    """One token per word; words it does not know become `[UNK]`, which is not written out."""

    def __init__(self, words: Sequence[str]) -> None:
        self._words = tuple(words)
        self._ids = {word: index for index, word in enumerate(words)}
        self._special = {i for i, word in enumerate(words) if word.startswith("[")}

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        unknown = self._ids["[UNK]"]
        return [self._ids.get(word, unknown) for word in text.lower().split()]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids."""
        return " ".join(self._words[i] for i in ids if i not in self._special)


class BertTokenizer:
    """A transformers tokenizer read from a local folder.

    Args:
        folder: Holds `vocab.txt` or `tokenizer.json` of bert-base-uncased.
        config: The text decoder it must fit.

    Raises:
        InputError: No such folder, or a tokenizer of another size or with other special tokens.
    """

    def __init__(self, folder: str | Path, config: TextDecoderConfig) -> None:
        with at(folder):
            path = resolve(str(folder), KEY)
        if not path.is_dir():
            problem = "is no folder; a local copy of bert-base-uncased is needed"
            raise InputError(path, KEY, problem, "give a folder with its vocab.txt")
        check_folder(path)
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                path, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:  # transformers raises of many kinds on what it cannot read
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise InputError(path, KEY, f"cannot be read as a tokenizer ({reason})") from error
        # transformers answers a missing vocabulary with a tokenizer of 5 tokens, and says nothing.
        size = len(self._tokenizer)
        if size != config.vocab_size:
            problem = f"has {size} tokens, the text decoder {config.vocab_size}"
            raise InputError(path, KEY, problem, "give the folder of bert-base-uncased")
        if self._tokenizer.sep_token_id != config.end_token:
            problem = f"ends captions with token {self._tokenizer.sep_token_id}"
            raise InputError(path, KEY, problem, f"the text decoder expects {config.end_token}")

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text."""
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text


def load_tokenizer(folder: str | None, config: TextDecoderConfig) -> Tokenizer:
    """Return the tokenizer of a text decoder; the tiny one brings its own words.

    Raises:
        InputError: None was given where one is needed, or it does not fit.
    """
    if folder is not None:
        return BertTokenizer(folder, config)
    if config.vocab_size == len(TINY_WORDS):
        return WordTokenizer(TINY_WORDS)
    fix = "give a folder with bert-base-uncased's vocab.txt"
    raise InputError(None, KEY, "missing; GRiT reads and writes bert-base-uncased tokens", fix)
