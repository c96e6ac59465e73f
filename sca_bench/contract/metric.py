"""What a metric must keep to, as tests that a third party's own tests inherit.

    from sca_bench.contract import MetricContract

    class TestMine(MetricContract):
        spec = my_package.SPEC

The rows are captions of a made-up world beside their references, with boxes, slots and pictures. A
metric that wants others gives them by overriding `rows` and `images`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sca_bench.contract.broken import expect, skip
from sca_bench.contract.spec import SpecContract
from sca_bench.metrics.protocol import ImageSource
from sca_bench.metrics.registry import METRICS, MetricSpec
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.score import Scorer, ScoreResult
from sca_bench.plugins import Registry
from sca_bench.scene_grammar import parse

_WORLD = (
    ("a large plain red square", "a large plain red square"),
    ("a small striped blue circle", "a small plain blue circle"),
    ("a small plain green cross", "a large plain green square"),
    ("a large plain yellow triangle above a small plain red circle",) * 2,
    ("a small plain red circle", "a large striped yellow triangle"),
    ("a large striped green square left of a small plain blue cross", "a large striped green"),
    ("a small plain blue cross", "a small plain blue cross right of a large green square"),
    ("a large plain blue circle", "a large plain red square"),
)
"""A reference and a caption of each region; two regions lie in each image."""
_TOLERANCE = 1e-9


class MetricContract(SpecContract):
    """Tests of one metric; see the module.

    Attributes:
        spec: The metric.
    """

    spec: MetricSpec
    code = ("compute", "statistics", "prepare", "reference", "doubts")

    @classmethod
    def registry(cls) -> Registry[Any]:
        """Return the registry of metrics."""
        return METRICS

    def rows(self) -> list[CaptionRow]:
        """Return the rows that are scored: eight regions in four images."""
        return [
            CaptionRow(
                region_id=f"region-{place}",
                image_id=f"image-{place // 2}",
                caption=caption,
                references=(reference,),
                slots=parse(reference),
                box_xyxy=(4.0, 4.0, 20.0 + place, 24.0),
            )
            for place, (reference, caption) in enumerate(_WORLD)
        ]

    def images(self) -> ImageSource | None:
        """Return where pixels come from: pictures of noise, each by its id."""
        return _noise

    def scorer(self) -> AbstractContextManager[Scorer]:
        """Return a scorer that has scored nothing; it is closed when the test ends."""
        return Scorer()

    # --- the value ----------------------------------------------------------------------------

    def test_it_gives_a_value_in_its_range(self) -> None:
        """A finite value for the rows, and no larger than `maximum` says."""
        self._in_range(self._scored(self.rows()))

    def test_it_needs_what_it_says(self) -> None:
        """Without pictures it is computed all the same, unless `needs` speaks of something."""
        if self.spec.needs:
            skip(f"it says that it needs {self.spec.needs}")
        with self.scorer() as scorer:
            result = scorer.score(self.rows(), [self.spec.name], None)
        reason = "; ".join(dict.fromkeys(result.not_computed.values()))
        fix = "say in `needs` what has to be there beside the rows"
        expect(not reason, "a value from the rows alone, since `needs` is empty", reason, fix)

    def test_regions_have_a_value_each_or_none(self) -> None:
        """As many values of regions as rows, or none; each finite."""
        rows = self.rows()
        for key, values in self._scored(rows).per_region.items():
            rule = f"{key}: {len(rows)} finite values, one a row in the order of rows"
            fix = "give one value a row in `Scored.per_region`, or leave it empty"
            right = len(values) == len(rows) and all(map(math.isfinite, values))
            expect(right, rule, values, fix)

    def test_a_mean_of_regions_is_their_mean(self) -> None:
        """Where `level` is `region`, the value is the mean of its regions' values."""
        result = self._scored(self.rows())
        values = result.per_region.get(self.spec.name)
        if self.spec.level != "region" or not values:
            skip("its value is not made of single regions' values")
        mean, value = sum(values) / len(values), result.values[self.spec.name]
        rule = "a value that is the mean of its regions' values (level='region')"
        fix = "say level='corpus' where it is computed over all regions together"
        expect(_near(value or 0.0, mean), rule, f"{value}, their mean is {mean}", fix)

    def test_no_row_comes_before_another(self) -> None:
        """Rows in another order give the same value, and values of regions in that order."""
        rows = self.rows()
        one, places = self._scored(rows), list(range(len(rows)))
        fix = "let neither the order of rows nor the place of one matter"
        for order in (places[::-1], places[1::2] + places[::2]):
            other = self._scored([rows[place] for place in order])
            self._same_values(one, other, "the same value for rows in another order", fix)
            for key, values in one.per_region.items():
                expected = [values[place] for place in order]
                rule = f"{key}: values of regions that follow their rows"
                found = other.per_region[key]
                same = all(_near(a, b) for a, b in zip(expected, found, strict=True))
                expect(same, rule, f"{found}, expected {expected}", fix)

    def test_the_same_value_twice(self) -> None:
        """Nothing is drawn at random."""
        one, other = self._scored(self.rows()), self._scored(self.rows())
        self._same_values(one, other, "the same value a second time", "draw nothing at random", 0.0)

    def test_what_was_scored_before_does_not_matter(self) -> None:
        """A scorer that scored another system before gives the same value as a new one."""
        rows = self.rows()
        others = [replace(row, caption=rows[-1 - n].caption) for n, row in enumerate(rows)]
        fresh = self._scored(rows)
        with self.scorer() as scorer:
            scorer.score(others, [self.spec.name], self.images())
            used = scorer.score(rows, [self.spec.name], self.images())
        rule = "the same value from a scorer that scored another system before"
        fix = "keep nothing in `context.memory` or elsewhere that a value depends on"
        self._same_values(fresh, used, rule, fix)

    def test_better_captions_have_better_values(self) -> None:
        """References as captions are no worse than captions that belong to other regions."""
        rows, better = self.rows(), self.spec.higher_is_better
        if better is None:
            skip("neither more nor less of it is better")
        right = self._scored([replace(row, caption=row.references[0]) for row in rows])
        wrong = self._scored(
            [replace(row, caption=rows[n - 1].references[0]) for n, row in enumerate(rows)]
        )
        key = self.spec.name if self.spec.name in right.values else next(iter(right.values))
        of_right, of_wrong = (one.values[key] or 0.0 for one in (right, wrong))
        ahead = of_right - of_wrong if better else of_wrong - of_right
        rule = "a value for the references themselves that is no worse than for those of others"
        fix = "turn `higher_is_better` round, or set it to None"
        expect(ahead >= -_TOLERANCE, rule, f"{of_right:.4g} and {of_wrong:.4g}", fix)

    # --- rows that are out of the ordinary ----------------------------------------------------

    def test_one_region_is_enough(self) -> None:
        """A file of one region has a value, or a reason."""
        self._in_range(self._scored(self.rows()[:1]))

    def test_an_empty_caption_has_a_value(self) -> None:
        """A captioner may say nothing."""
        rows = self.rows()
        self._in_range(self._scored([replace(rows[0], caption=""), *rows[1:]]))

    def test_any_text_has_a_value(self) -> None:
        """Captions may hold any text: other scripts, emoji, quotation marks, a line separator."""
        rows = self.rows()
        texts = (
            "\u00e9t\u00e9 \U0001f600",
            '"a, b"; \u2028 c',
            "\u732b \u0645\u0631\u062d\u0628\u0627",
            ". . .",
        )
        odd = [replace(row, caption=text) for row, text in zip(rows, texts, strict=False)]
        self._in_range(self._scored([*odd, *rows[len(odd) :]]))

    def test_captions_may_come_twice(self) -> None:
        """Rows that are equal but for their ids have equal values."""
        rows = self.rows()
        again = [replace(row, region_id=f"{row.region_id}-again") for row in rows]
        result = self._scored([*rows, *again])
        self._in_range(result)
        for key, values in result.per_region.items():
            pairs = zip(values[: len(rows)], values[len(rows) :], strict=True)
            rule = f"{key}: equal values for rows that are equal but for their ids"
            fix = "let ids say which rows belong together and nothing else"
            expect(all(_near(a, b) for a, b in pairs), rule, values, fix)

    def _scored(self, rows: Sequence[CaptionRow]) -> ScoreResult:
        name = self.spec.name
        with self.scorer() as scorer:
            result = scorer.score(rows, [name], self.images())
        reason = "; ".join(dict.fromkeys(result.not_computed.values()))
        if reason and self.spec.needs:
            skip(reason)
        rule = "a value, since `needs` says of nothing that it has to be there"
        fix = "give a value for every list of rows, or say in `needs` what is missing"
        expect(not reason, rule, reason, fix)
        return result

    def _in_range(self, result: ScoreResult) -> None:
        top = self.spec.maximum
        if self.spec.unit:
            return  # a length or a count; that it is finite, the scorer has seen
        named = {name: value for name, value in result.values.items() if value is not None}
        values = {
            **named,
            **{f"{k} of a region": max(v) for k, v in result.per_region.items() if v},
        }
        for key, value in values.items():
            rule = f"{key}: a value between {-top:g} and {top:g} (`maximum`)"
            fix = "correct `maximum`, or say in `unit` what is counted"
            expect(abs(value) <= top + _TOLERANCE, rule, f"{value:.6g}", fix)

    @staticmethod
    def _same_values(
        one: ScoreResult, other: ScoreResult, rule: str, fix: str, atol: float = _TOLERANCE
    ) -> None:
        expect(one.values.keys() == other.values.keys(), rule, sorted(other.values), fix)
        for key, value in one.values.items():
            then = other.values[key]
            apart = 0.0 if value is None or then is None else abs(value - then)
            same = (value is None) == (then is None) and apart <= atol
            expect(same, rule, f"{key}: {value}, then {then}", fix)


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= _TOLERANCE


def _noise(image_id: str) -> NDArray[np.uint8]:
    seed = sum(image_id.encode())
    return np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
