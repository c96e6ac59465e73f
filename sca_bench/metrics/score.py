"""Scores rows by any of the registered metrics; one metric's failure leaves the others."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sca_bench.errors import NotComputed
from sca_bench.metrics.coco_caption.ptb_tokenizer import TOKENIZER
from sca_bench.metrics.protocol import Context, ImageSource, Scored
from sca_bench.metrics.registry import (
    MetricSpec,
    corpus_value,
    get_metric,
    spec_of_value,
    values_of,
)
from sca_bench.metrics.rows import CaptionRow, check_rows
from sca_bench.metrics.shared import Shared
from sca_bench.metrics.signature import Signature, region_set_hash
from sca_bench.metrics.value_names import ValueName
from sca_bench.plugins import attribute

TOLERANCE = 1e-9
"""Largest difference from another program's value that `score --check` lets pass."""
_OF_SUMS = 1e-6
"""Largest difference between a corpus value and that of its regions' statistics, summed."""
_Doubts = Callable[[Mapping[str, float | None], Sequence[CaptionRow]], Iterable[str]]


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """Scores of one system.

    Attributes:
        values: Value by name (`value_names`), in natural units (0-1, CIDEr-D 0-10); None where not
            computed.
        per_region: Key -> one value per row, in the order of the rows. Keys whose value is computed
            from a part of the rows only (`slot_by_objects/2/...`) have none. A corpus-level value
            (METEOR, BLEU) is not the mean of its regions' values.
        statistics: What corpus values are made of, by `MetricSpec.statistics_name`: (regions, K),
            where a metric gave them.
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
        device: Where metrics with a model compute, as `runtime.device` names it.
    """

    def __init__(self, timeout_s: float = 600.0, device: str = "auto") -> None:
        self.shared, self._device = Shared(timeout_s), device
        self._memory: dict[str, Any] = {}

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
        """End the METEOR process, if there is one, and close and forget what was kept."""
        for kept in self._memory.values():
            if callable(close := getattr(kept, "close", None)):
                with contextlib.suppress(Exception):
                    close()
        self._memory.clear()
        self.shared.close()

    @property
    def meteor_pid(self) -> int | None:
        """Process id of the METEOR process, if one runs."""
        return self.shared.meteor_pid

    def prepare(self, metrics: Sequence[str], images: ImageSource | None = None) -> None:
        """Begin in the background what takes metrics long to begin; see `score`."""
        for name in metrics:
            spec = get_metric(name)
            if spec.prepare and not spec.fault:
                with contextlib.suppress(Exception, SystemExit):  # the computation says it
                    attribute(spec.prepare)(
                        Context(name, images, self._memory, self.shared, self._device)
                    )

    def read_ahead(self, systems: Iterable[Sequence[CaptionRow]], metrics: Sequence[str]) -> None:
        """Have the captions of several systems cut into words by one start of the tokenizer.

        Each system's tokens are those it has alone. What fails is left to `score`, which says it.
        """
        if any(get_metric(name).tokenizer == TOKENIZER for name in metrics):
            with contextlib.suppress(NotComputed):
                self.shared.read_ahead(systems)

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

        def context(name: str) -> Context:
            return Context(name, images, self._memory, self.shared, self._device)

        self.prepare(metrics, images)
        # What was begun in the background goes on while the others are computed.
        for name, spec in sorted(specs.items(), key=lambda item: bool(item[1].prepare)):
            try:
                run.add_all(spec, _computed(spec, rows, context(name)))
            except Exception as error:  # whatever a scorer or model raises: the others go on
                known = isinstance(error, NotComputed)
                reason = str(error) if known else f"{type(error).__name__}: {error}"
                for key in values_of(name):
                    run.result.values[key] = None
                    run.result.not_computed[key] = reason
        run.remark(specs.values())
        return run.result

    def check(self, rows: Sequence[CaptionRow], result: ScoreResult) -> dict[str, float]:
        """Compute a result's values again by other programs: pycocoevalcap's own, METEOR's jar.

        Args:
            rows: The rows scored.
            result: What `score` returned for them.

        Returns:
            For each value that was computed and that another program computes, too, the largest
            absolute difference over regions and corpus.

        Raises:
            NotComputed: A program that gave a value before fails now.
        """
        rows = list(rows)
        programs: dict[str, MetricSpec] = {}
        for key, value in result.values.items():
            spec = spec_of_value(key)
            if value is not None and spec is not None and spec.reference:
                programs.setdefault(spec.reference, spec)
        largest: dict[str, float] = {}
        for address, spec in programs.items():
            context = Context(spec.name, None, self._memory, self.shared, self._device)
            for one in attribute(address)(rows, context):
                value, ours = result.values.get(one.key), result.per_region.get(one.key, [])
                if value is not None:
                    pairs = zip(ours, one.per_region, strict=True)
                    largest[one.key] = max(abs(value - one.value), *(abs(a - b) for a, b in pairs))
        return largest


def _computed(spec: MetricSpec, rows: Sequence[CaptionRow], context: Context) -> Sequence[Scored]:
    """Import a metric's computation and return what it gives for some rows.

    Raises:
        NotComputed: It cannot be computed here. Whatever another package's computation raises
            becomes a reason, too, and so does a result that is not of the protocol.
    """
    if spec.fault:
        raise NotComputed(spec.fault)
    if spec.is_own:
        own: Sequence[Scored] = attribute(spec.compute)(rows, context)
        return own
    try:
        scored = list(attribute(spec.compute)(rows, context))
    except NotComputed:
        raise
    except (Exception, SystemExit) as error:  # it may leave; the run and other metrics go on
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise NotComputed(f"{spec.compute} raised {reason}") from error
    wanted = values_of(context.name)
    for one in scored:
        if not isinstance(one, Scored):
            raise NotComputed(f"{spec.compute} gave {type(one).__name__}, expected Scored")
        part_of_it = one.key == context.name or one.key.startswith(f"{context.name}.")
        other = spec_of_value(one.key) if one.key in wanted else None
        if not part_of_it and (other is None or other.compute != spec.compute):
            raise NotComputed(f"{spec.compute} gave {one.key!r}, expected {context.name!r}")
        _check_statistics(spec, one)
    statistics = [one.statistics for one in scored if one.statistics is not None]
    if any(not np.array_equal(statistics[0], other) for other in statistics[1:]):
        raise NotComputed(f"{spec.compute} gave several statistics, expected one for all values")
    given = {one.key for one in scored}
    for key in wanted:
        if key not in given:
            raise NotComputed(f"{spec.compute} gave no value named {key!r}")
    return scored


def _check_statistics(spec: MetricSpec, one: Scored) -> None:
    """Refuse statistics of which a report would make another value than the metric's."""
    if one.statistics is None:
        return
    shape = np.shape(one.statistics)
    if not spec.statistics:
        raise NotComputed(f"{spec.compute} gave statistics, and names none: set statistics=")
    if len(shape) != 2 or shape[0] != len(one.rows) or len(one.per_region) != len(one.rows):
        raise NotComputed(
            f"{spec.compute} gave statistics {shape} and {len(one.per_region)} values of regions "
            f"for {len(one.rows)} rows, expected (rows, K) and a value of each"
        )
    try:
        value = float(
            corpus_value(one.key, np.asarray(one.statistics, np.float64).sum(0), shape[0])
        )
    except (Exception, SystemExit) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise NotComputed(f"{spec.statistics} raised {reason}") from error
    if not abs(value - one.value) <= _OF_SUMS * max(1.0, abs(one.value)):
        raise NotComputed(
            f"{spec.statistics} gives {value:g} of all regions' statistics, and {spec.compute} "
            f"{one.value:g}"
        )


class _Run:
    """The result of one call as it grows."""

    def __init__(self, rows: list[CaptionRow], result: ScoreResult) -> None:
        self.rows, self.result = rows, result
        self._region_set = region_set_hash(rows)

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
            if whole and one.statistics is not None:
                rows = np.asarray(one.statistics, dtype=np.float64)
                self.result.statistics[spec.statistics_name] = rows

    def remark(self, specs: Iterable[MetricSpec]) -> None:
        """Note what makes a value doubtful beside the others."""
        notes = self.result.notes
        for address in dict.fromkeys(spec.doubts for spec in specs if spec.doubts):
            try:
                doubts: _Doubts = attribute(address)
                notes.extend(map(str, doubts(dict(self.result.values), self.rows)))
            except (Exception, SystemExit) as error:
                notes.append(f"{address} raised {' '.join(f'{error!r}'.split())}")
        num_empty = sum(not row.caption.strip() for row in self.rows)
        if num_empty:
            notes.append(f"{num_empty} of {len(self.rows)} captions are empty")


def _finite(value: float) -> bool:
    return value == value and abs(value) != float("inf")
