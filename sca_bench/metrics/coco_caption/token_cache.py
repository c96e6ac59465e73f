"""Tokens of captions that were met before, so that only new captions go to the tokenizer."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sca_bench.metrics.coco_caption.java import Java
from sca_bench.metrics.coco_caption.ptb_tokenizer import normalise, ptb_tokenize

# Captions kept: about 250 bytes each, 100 MiB in all.
_KEPT_CAPTIONS = 400_000
# The tokenizer looks past the end of a line in one case: after a dot that may belong to an initial
# or to one of these abbreviations. Whether it stays on the word depends on the next caption (a
# capital, a number), for pycocoevalcap as well. A last word that ends in a dot and is not plainly
# a word is taken for one of these, too.
_OPEN = re.compile(
    r"(?:^|\s)(?![A-Za-z]{2,}\.\s*$)\S*\.\s*$"
    r"|(?:^|\s)(?:art|ca|figs?|nos?|op|pp|prop)\.\s*$",
    re.IGNORECASE,
)
_NEUTRAL = "the"  # Has the tokenizer leave a dot as the end of all captions does.

_Key = str | tuple[str, str]


class TokenCache:
    """Penn Treebank tokens by caption; the newest 400,000 captions are kept.

    Tokens equal those of all captions in one go (`ptb_tokenizer.ptb_tokenize`).

    Args:
        timeout_s: Seconds after which the tokenizer is given up.
        most: Captions kept at most.
    """

    def __init__(self, timeout_s: float = 600.0, most: int = _KEPT_CAPTIONS) -> None:
        self._timeout_s, self._most = timeout_s, most
        self._known: dict[_Key, str] = {}

    def __len__(self) -> int:
        return len(self._known)

    def tokenize(self, java: Java, *lists: Sequence[str]) -> list[list[str]]:
        """Tokenise lists of captions, each as if it were alone; at most one process is started.

        Args:
            java: The Java to run the tokenizer with.
            *lists: Any strings, empty ones included.

        Returns:
            For each list one string per caption, tokens joined by single spaces.

        Raises:
            NotComputed: See `sca_bench.metrics.coco_caption.ptb_tokenizer.ptb_tokenize`.
        """
        keys = [_keys([normalise(caption) for caption in captions]) for captions in lists]
        tokens_of_key = {key: self._known.get(key) for part in keys for key in part}
        unknown = [key for key, tokens in tokens_of_key.items() if tokens is None]
        lines: list[str] = []
        indices = []
        for key in unknown:
            indices.append(len(lines))
            if isinstance(key, str):
                lines.append(key)
            else:
                lines += [key[0], *key[1].split("\n")]
        tokens = ptb_tokenize(java, lines, self._timeout_s)
        for key, index in zip(unknown, indices, strict=True):
            tokens_of_key[key] = self._known[key] = tokens[index]
        while len(self._known) > self._most:
            del self._known[next(iter(self._known))]
        return [[tokens_of_key[key] or "" for key in part] for part in keys]


def _keys(lines: list[str]) -> list[_Key]:
    """Return each line, with what follows it where that may matter."""
    keys: list[_Key] = list(lines)
    for index, line in enumerate(lines):
        if line.rstrip().endswith(".") and _OPEN.search(line):
            after = index + 1
            while after < len(lines) and not lines[after].strip():
                after += 1
            follower = lines[index + 1 : after + 1] if after < len(lines) else [_NEUTRAL]
            keys[index] = (line, "\n".join(follower))
    return keys
