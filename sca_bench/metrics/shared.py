"""What metrics share while one scorer lives: tokens, indexed references, Java, METEOR's process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sca_bench.errors import NotComputed
from sca_bench.metrics.coco_caption.java import Java, find_java
from sca_bench.metrics.coco_caption.meteor import Meteor
from sca_bench.metrics.coco_caption.references import ReferenceIndex
from sca_bench.metrics.coco_caption.token_cache import TokenCache
from sca_bench.metrics.rows import CaptionRow

# An index of 40,000 regions with five references takes about 150 MiB, their tokens half of it.
_KEPT_REFERENCE_SETS, _KEPT_INDICES = 4, 2


class _References:
    """Tokenised references of each region, and their index once it is asked for."""

    def __init__(self, groups: list[list[str]]) -> None:
        self.groups = groups
        self.cached_index: ReferenceIndex | None = None


@dataclass(frozen=True, slots=True)
class Tokens:
    """The Penn Treebank tokens of some rows, in their order; joined by single spaces.

    Attributes:
        captions: One text per row.
    """

    captions: list[str]
    _references: _References

    @property
    def references(self) -> list[list[str]]:
        """The references of each row."""
        return self._references.groups

    @property
    def index(self) -> ReferenceIndex:
        """The references with their n-grams and document frequencies; made on first use."""
        kept = self._references
        if kept.cached_index is None:
            kept.cached_index = ReferenceIndex(kept.groups)
        return kept.cached_index


class Shared:
    """What all metrics of one scorer share; each part is made on first use.

    Used from one thread. No value depends on what was asked before.

    Args:
        timeout_s: Seconds without an answer after which a Java program is given up.
    """

    def __init__(self, timeout_s: float = 600.0) -> None:
        self.timeout_s = timeout_s
        self._java: Java | None = None
        self._meteor: Meteor | None = None
        self._tokens = TokenCache(timeout_s)
        self._references: OrderedDict[tuple[tuple[str, ...], ...], _References] = OrderedDict()
        self._last: tuple[Sequence[CaptionRow], Tokens | NotComputed] | None = None

    def java(self) -> Java:
        """Return the Java runtime.

        Raises:
            NotComputed: There is none; says how to get one.
        """
        if self._java is None:
            self._java = find_java()
        return self._java

    def meteor(self) -> Meteor:
        """Return METEOR, whose process starts on its first call.

        Raises:
            NotComputed: There is no Java.
        """
        if self._meteor is None:
            self._meteor = Meteor(self.java(), self.timeout_s)
        return self._meteor

    @property
    def meteor_pid(self) -> int | None:
        """Process id of the METEOR process, if one runs."""
        process = self._meteor.process if self._meteor else None
        return process.pid if process else None

    def tokens(self, rows: Sequence[CaptionRow]) -> Tokens:
        """Return the tokens of captions and references; asked for again, those of the last time.

        Raises:
            NotComputed: There is no Java, or its tokenizer failed.
        """
        if self._last is None or self._last[0] is not rows:
            try:
                self._last = (rows, self._tokenise(rows))
            except NotComputed as error:
                self._last = (rows, error)
        tokens = self._last[1]
        if isinstance(tokens, NotComputed):
            raise NotComputed(str(tokens))
        return tokens

    def read_ahead(self, systems: Iterable[Sequence[CaptionRow]]) -> None:
        """Tokenise the rows of several systems in one go, each as if it were alone.

        Raises:
            NotComputed: There is no Java, or its tokenizer failed.
        """
        lists: dict[tuple[str, ...], None] = {}
        for rows in systems:
            lists[tuple(text for row in rows for text in row.references)] = None
            lists[tuple(row.caption for row in rows)] = None
        self._tokens.tokenize(self.java(), *lists)

    def close(self) -> None:
        """End the METEOR process, if there is one."""
        self._last = None
        if self._meteor is not None:
            self._meteor.close()
            self._meteor = None

    def _tokenise(self, rows: Sequence[CaptionRow]) -> Tokens:
        java = self.java()
        captions = [row.caption for row in rows]
        key = tuple(row.references for row in rows)
        if key in self._references:
            self._references.move_to_end(key)
            (tokens,) = self._tokens.tokenize(java, captions)
            return Tokens(tokens, self._references[key])
        flat = [text for group in key for text in group]
        tokenised, tokens = self._tokens.tokenize(java, flat, captions)
        texts = iter(tokenised)
        self._references[key] = _References([[next(texts) for _ in group] for group in key])
        while len(self._references) > _KEPT_REFERENCE_SETS:
            self._references.popitem(last=False)
        for old in list(self._references.values())[:-_KEPT_INDICES]:
            old.cached_index = None
        return Tokens(tokens, self._references[key])
