"""Scores rows by any of the registered metrics; one metric's failure leaves the others."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sca_bench.errors import NotComputed
from sca_bench.metrics.coco_caption.check_against_reference import largest_differences
from sca_bench.metrics.coco_caption.java import Java, find_java
from sca_bench.metrics.coco_caption.meteor import Meteor
from sca_bench.metrics.coco_caption.meteor_formula import meteor_scores
from sca_bench.metrics.coco_caption.references import ReferenceIndex
from sca_bench.metrics.coco_caption.spice import corenlp_folder, spice
from sca_bench.metrics.coco_caption.token_cache import TokenCache
from sca_bench.metrics.protocol import Context, ImageSource, Scored
from sca_bench.metrics.registry import METRICS, MetricSpec, get_metric
from sca_bench.metrics.rows import CaptionRow, check_rows
from sca_bench.metrics.signature import Signature, region_set_hash
from sca_bench.metrics.value_names import ValueName, values_of

# An index of 40,000 regions with five references takes about 150 MiB, their tokens half of it.
_KEPT_REFERENCE_SETS, _KEPT_INDICES = 4, 2
_NEEDS_TOKENS = frozenset({"cider_d", "meteor", "bleu", "rouge_l", "spice"})
_Field = tuple[float, list[float]]


class _References:
    """Tokenised references of each region, and their index once it is asked for."""

    def __init__(self, groups: list[list[str]]) -> None:
        self.groups = groups
        self.cached_index: ReferenceIndex | None = None

    @property
    def index(self) -> ReferenceIndex:
        if self.cached_index is None:
            self.cached_index = ReferenceIndex(self.groups)
        return self.cached_index


_Tokens = tuple[_References, list[str]]


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """Scores of one system.

    Attributes:
        values: Value by name (`value_names`), in natural units (0-1, CIDEr-D 0-10); None where not
            computed.
        per_region: Key -> one value per row, in the order of the rows. Keys whose value is computed
            from a part of the rows only (`slot_by_objects/2/...`) have none. A corpus-level value
            (METEOR, BLEU) is not the mean of its regions' values.
        statistics: What corpus-level values are made of (`coco_caption.corpus_scores`): `bleu`,
            (regions, 10), and `meteor`, (regions, 23), where computed.
        signatures: Signature of every computed value.
        not_computed: Key -> reason of every value that is None.
        notes: What a reader should know before believing a value.
    """

    values: dict[str, float | None] = field(default_factory=dict)
    per_region: dict[str, list[float]] = field(default_factory=dict)
    statistics: dict[str, NDArray[np.float64]] = field(
        default_factory=dict, compare=False, repr=False
    )
    signatures: dict[str, Signature] = field(default_factory=dict)
    not_computed: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add_part(self, name: str, part: ScoreResult) -> None:
        """Add the values of a subset of the regions under `name/`, without its regions' values.

        Slots by the number of objects are left out: a subset need not have all of an image.
        """
        values = {k: v for k, v in part.values.items() if ValueName.parse(k).num_objects is None}
        self.values.update({f"{name}/{key}": value for key, value in values.items()})
        for key, signature in part.signatures.items():
            if key not in values:
                continue
            signed = replace(signature, metric=f"{name}/{signature.metric}")
            self.signatures[f"{name}/{key}"] = signed
        self.not_computed.update({f"{name}/{k}": reason for k, reason in part.not_computed.items()})
        self.notes.extend(f"{name}: {note}" for note in part.notes)

    def to_dict(self) -> dict[str, Any]:
        """Return values, signatures, reasons and notes as plain JSON values."""
        return {
            "values": dict(self.values),
            "signatures": {
                key: {**signature.to_dict(), "short": signature.short()}
                for key, signature in self.signatures.items()
            },
            "not_computed": dict(self.not_computed),
            "notes": list(self.notes),
        }


class Scorer:
    """Scores one system after another, with one METEOR process and the references cut up once.

    Use it as a context manager, from one thread. Values do not depend on what was scored before.
    Tokens, statistics of METEOR and scores of captions met before are kept, the newest 400,000 of
    each: some 350 MiB when full, beside the texts themselves.

    Args:
        timeout_s: Seconds without an answer after which a Java program is given up (SPICE: 36
            times as long, since it parses every caption before it answers).
    """

    def __init__(self, timeout_s: float = 600.0) -> None:
        self._timeout_s = timeout_s
        self._java: Java | None = None
        self._meteor: Meteor | None = None
        self._tokens = TokenCache(timeout_s)
        self._memory: dict[str, Any] = {}
        self._references: OrderedDict[tuple[tuple[str, ...], ...], _References] = OrderedDict()

    def __enter__(self) -> Scorer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the METEOR process, if there is one, and forget what was kept."""
        self._memory.clear()
        if self._meteor is not None:
            self._meteor.close()
            self._meteor = None

    @property
    def meteor_pid(self) -> int | None:
        """Process id of the METEOR process, if one runs."""
        process = self._meteor.process if self._meteor else None
        return process.pid if process else None

    def score(
        self,
        rows: Sequence[CaptionRow],
        metrics: Sequence[str],
        images: ImageSource | None = None,
    ) -> ScoreResult:
        """Score rows.

        Args:
            rows: One row per region.
            metrics: Names from `all_metrics`, or `exact_match_without_PHRASE`.
            images: Where pixels come from, for the metrics that look at them.

        Returns:
            A value, or a reason, for every metric named.

        Raises:
            InputError: An unknown metric, no rows, a region id twice, or no references.
        """
        rows = list(rows)
        specs = {name: get_metric(name) for name in metrics}
        check_rows(rows)
        run = _Run(rows, ScoreResult())
        families = {spec.family for spec in specs.values() if not spec.compute}
        tokens: Callable[[], _Tokens] | None = None
        if families & _NEEDS_TOKENS:
            tokens = self._tokens_once(rows, with_meteor="meteor" in families)
        bleu: dict[str, _Field] | None = None
        # METEOR last: its process loads its tables while the others are computed.
        for name, spec in sorted(specs.items(), key=lambda item: item[1].family == "meteor"):
            keys = values_of(name)
            try:
                if spec.compute or tokens is None:
                    run.add_all(spec, spec.values(rows, Context(name, images, self._memory)))
                elif spec.family == "bleu":
                    bleu = bleu or _bleu(tokens(), run.result)
                    for key in keys:
                        run.add(METRICS[key], key, *bleu[key])
                else:
                    run.add(spec, name, *self._field_score(spec, tokens, run.result))
            except Exception as error:  # whatever a scorer or model raises: the others go on
                known = isinstance(error, NotComputed)
                reason = str(error) if known else f"{type(error).__name__}: {error}"
                for key in keys:
                    run.result.values[key] = None
                    run.result.not_computed[key] = reason
        run.remark()
        return run.result

    def check(self, rows: Sequence[CaptionRow], result: ScoreResult) -> dict[str, float]:
        """Compute a result's values again with pycocoevalcap's own scorers and METEOR's jar.

        Args:
            rows: The rows scored.
            result: What `score` returned for them.

        Returns:
            For each value that the field's scorers compute, and that was computed, the largest
            absolute difference over regions and corpus.

        Raises:
            NotComputed: A scorer that gave a value before fails now.
        """
        references, captions = self._tokenise(rows, with_meteor="meteor" in result.per_region)
        assert self._java is not None
        meteor = self._meteor_process(self._java)
        return largest_differences(
            references.groups, captions, result.values, result.per_region, meteor
        )

    def _field_score(
        self, spec: MetricSpec, tokens: Callable[[], _Tokens], result: ScoreResult
    ) -> _Field:
        if spec.family == "spice":
            corenlp_folder()  # Say first what is missing for good.
        references, captions = tokens()
        if spec.family in ("cider_d", "rouge_l"):
            index = references.index
            score = index.cider_d if spec.family == "cider_d" else index.rouge_l
            value, per_region = score(captions)
            return value, per_region.tolist()
        assert self._java is not None
        if spec.family == "spice":
            return spice(self._java, references.groups, captions, 36 * self._timeout_s)
        statistics = self._meteor_process(self._java).statistics(references.groups, captions)
        result.statistics["meteor"] = statistics
        return float(meteor_scores(statistics.sum(axis=0))), meteor_scores(statistics).tolist()

    def _meteor_process(self, java: Java) -> Meteor:
        if self._meteor is None:
            self._meteor = Meteor(java, self._timeout_s)
        return self._meteor

    def _tokens_once(self, rows: Sequence[CaptionRow], with_meteor: bool) -> Callable[[], _Tokens]:
        """Return a function that tokenises on its first call and remembers tokens or failure."""
        known: list[_Tokens | NotComputed] = []

        def tokens() -> _Tokens:
            if not known:
                try:
                    known.append(self._tokenise(rows, with_meteor))
                except NotComputed as error:
                    known.append(error)
            if isinstance(known[0], NotComputed):
                raise NotComputed(str(known[0]))
            return known[0]

        return tokens

    def _tokenise(self, rows: Sequence[CaptionRow], with_meteor: bool) -> _Tokens:
        if self._java is None:
            self._java = find_java()
        if with_meteor:
            # A failure comes up again, as METEOR's own reason, when METEOR is asked for.
            with contextlib.suppress(NotComputed):
                self._meteor_process(self._java).start()
        captions = [row.caption for row in rows]
        key = tuple(row.references for row in rows)
        if key in self._references:
            self._references.move_to_end(key)
            (tokens,) = self._tokens.tokenize(self._java, captions)
            return self._references[key], tokens
        flat = [text for group in key for text in group]
        tokenised, tokens = self._tokens.tokenize(self._java, flat, captions)
        texts = iter(tokenised)
        self._references[key] = _References([[next(texts) for _ in group] for group in key])
        while len(self._references) > _KEPT_REFERENCE_SETS:
            self._references.popitem(last=False)
        for old in list(self._references.values())[:-_KEPT_INDICES]:
            old.cached_index = None
        return self._references[key], tokens


class _Run:
    """The result of one call as it grows."""

    def __init__(self, rows: list[CaptionRow], result: ScoreResult) -> None:
        self.rows, self.result = rows, result
        self._region_set = region_set_hash(rows)

    def add(self, spec: MetricSpec, key: str, value: float, per_region: list[float]) -> None:
        """Add a value over all rows."""
        self.add_all(spec, [Scored(key, value, per_region, self.rows)])

    def add_all(self, spec: MetricSpec, scored: Sequence[Scored]) -> None:
        """Add values, each with the rows it is computed from."""
        for one in scored:
            whole = len(one.rows) == len(self.rows)
            if not all(_finite(value) for value in (one.value, *one.per_region)):
                raise NotComputed(f"{one.key}: the scorer gave a value that is no number")
            self.result.values[one.key] = one.value
            signature = spec.sign(one.key, one.rows, self._region_set if whole else "")
            self.result.signatures[one.key] = replace(signature, **dict[str, Any](one.named))
            new = [note for note in one.notes if note not in self.result.notes]
            self.result.notes.extend(new)
            if whole and len(one.per_region) == len(self.rows):
                self.result.per_region[one.key] = one.per_region

    def remark(self) -> None:
        """Note what makes a value doubtful."""
        values, notes = self.result.values, self.result.notes
        cider = values.get("cider_d")
        if cider is not None and len(self.rows) == 1:
            notes.append("cider_d: one region only, so every word's weight is log 1 = 0")
        elif cider is not None and cider < 0.01:
            for other in ("meteor", "rouge_l", "bleu_1"):
                if (values.get(other) or 0.0) > 0.1:
                    notes.append(
                        f"cider_d is {cider:.4f} while {other} is {values[other]:.3f}: are the "
                        "references the right ones, and do they differ from region to region?"
                    )
                    break
        num_empty = sum(not row.caption.strip() for row in self.rows)
        if num_empty:
            notes.append(f"{num_empty} of {len(self.rows)} captions are empty")


def _bleu(tokens: _Tokens, result: ScoreResult) -> dict[str, _Field]:
    references, captions = tokens
    values, per_region, result.statistics["bleu"] = references.index.bleu(captions)
    return {f"bleu_{n}": (float(values[n - 1]), per_region[:, n - 1].tolist()) for n in range(1, 5)}


def _finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")
