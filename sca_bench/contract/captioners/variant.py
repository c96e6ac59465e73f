"""What a captioner that a `VariantSpec` describes must keep to, from its building to its answers.

    from sca_bench.contract import VariantContract

    class TestMine(VariantContract):
        spec = my_package.SPEC

Every variant is built with the tiny settings of `contract.captioners.cell` and the changes that its
`example` gives. Tests of what is trained stand in `contract.captioners.training`, those of keys in
`contract.captioners.keys`.

Shape legend as in `sca_bench.batch`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sca_bench.batch import RegionBatch
from sca_bench.captioner import RegionCaptioner, SharesPrefix
from sca_bench.contract.broken import Broken, expect, skip
from sca_bench.contract.captioners.captioner import CaptionerContract
from sca_bench.contract.captioners.cell import CAPTIONS
from sca_bench.contract.captioners.keys import KeyContract
from sca_bench.contract.captioners.tensors import different, some, tensors_of
from sca_bench.contract.captioners.toy import with_padding, with_regions_in_order
from sca_bench.contract.captioners.training import TrainingContract
from sca_bench.engine.worker.rng import RngStream
from sca_bench.plugins import Registry
from sca_bench.types import Trains
from sca_bench.variants import VARIANTS, VariantSpec


class VariantContract(TrainingContract, KeyContract, CaptionerContract):
    """Tests of one variant; see the module.

    Attributes:
        spec: The variant.
    """

    spec: VariantSpec
    code = ("builder", "parts", "design")

    @classmethod
    def registry(cls) -> Registry[Any]:
        """Return the registry of variants."""
        return VARIANTS

    @property
    def looks(self) -> bool:  # type: ignore[override]
        """Whether it reads pixels."""
        return self.spec.looks

    @property
    def trains(self) -> Trains:  # type: ignore[override]
        """How it learns."""
        return self.spec.trains

    def captioner(self) -> RegionCaptioner:
        """Return the captioner of the tiny settings, ready to caption."""
        return self.built(self.settings())

    def batch(self, seed: int = 0) -> RegionBatch:
        """Return a batch as the engine gives it: without SAM's input where none is asked for."""
        batch = super().batch(seed)
        asks = self.spec.needs_pixels or not self.looks
        return batch if asks else replace(batch, pixel_values_B3HW=None)

    # --- what is answered ---------------------------------------------------------------------

    def test_padded_regions_leave_real_ones_unchanged(self) -> None:
        """More padding, with other boxes in it, changes no answer."""
        captioner, batch = self.captioner(), self.batch()
        before = self._generate(captioner, batch)
        after = self._generate(captioner, with_padding(batch))
        rule = "the same answers with more padded regions, and other boxes in them"
        fix = "read real regions only: `batch.real(...)`, or mask by `region_mask_BR`"
        self._same(before, after, rule, fix, atol=self.log_prob_atol)

    def test_permuted_regions_permute_the_answers(self) -> None:
        """The order of an image's regions decides the order of the answers and nothing else."""
        captioner, batch, order = self.captioner(), self.batch(), (2, 0, 1)
        before = {one.region_id: one for one in self._generate(captioner, batch)}
        moved = with_regions_in_order(batch, order)
        after = self._generate(captioner, moved)
        rule = "the same answer for a region, wherever it stands among its image's regions"
        fix = "compute each region from its own box, not from its neighbours or its place"
        expected = [before[region_id] for region_id in moved.region_ids]
        self._same(expected, after, rule, fix, atol=self.log_prob_atol)

    def test_the_answer_does_not_depend_on_the_references(self) -> None:
        """Batches carry captions, for training; an answer must not be read from them."""
        if not self.looks:
            skip("it reads no pixels, so it may answer from what is known of a region")
        captioner, batch = self.captioner(), self.batch()
        before = self._generate(captioner, batch)
        after = self._generate(captioner, replace(batch, captions=list(CAPTIONS[::-1])))
        rule = "the same answers, whatever captions the batch carries"
        fix = "do not read `batch.captions` in `generate`"
        self._same(before, after, rule, fix, atol=0.0)

    def test_pixels_are_read_only_where_that_is_said(self) -> None:
        """What says `needs_pixels=False` answers without SAM's input, which nobody makes then."""
        if self.spec.needs_pixels or not self.looks:
            skip("it does not say needs_pixels=False of images that it reads")
        rule = "answers from `batch.original_images`, since needs_pixels=False"
        fix = "read no `batch.pixel_values_B3HW`, or leave needs_pixels out"
        try:
            self._generate(self.captioner(), self.batch())
        except (AttributeError, TypeError, ValueError) as error:
            raise Broken(rule, f"{type(error).__name__}: {error}", fix) from error

    def test_frozen_features_may_come_from_elsewhere(self) -> None:
        """Features that the engine computed before serve as those it computes itself."""
        captioner, batch = self.captioner(), self.batch()
        if not isinstance(captioner, SharesPrefix):
            skip("it shares no frozen features")
        given = self.as_engine_gives(captioner, batch)
        without_pixels = replace(given, pixel_values_B3HW=None)
        if self.spec.needs_originals is False:
            without_pixels = replace(without_pixels, original_images=None)
        with torch.no_grad():
            first = list(captioner.generate(given, self.decoding))
            second = list(captioner.generate(without_pixels, self.decoding))
        rule = "the same answers from `batch.features` alone, without pixels"
        fix = "read `batch.features` where they are given, and name all families in `features`"
        self._same(first, second, rule, fix, atol=0.0)

    # --- random streams -----------------------------------------------------------------------

    def test_one_seed_gives_the_same_weights(self) -> None:
        """Building twice with one seed gives equal tensors, whatever was drawn before."""
        settings = self.settings()
        first = tensors_of(self.built(settings))
        torch.rand(5), np.random.rand(5), random.random()
        second = tensors_of(self.built(settings))
        rule = "the same tensors for the same seed"
        moved = different(first, second)
        fix = "draw from torch's generator only, which the engine seeds before it builds"
        expect(not moved, rule, f"others in {some(moved)}", fix)

    def test_the_seed_decides_what_is_drawn(self) -> None:
        """Building does not seed torch's generator itself, which would make all seeds alike."""
        settings, states = self.settings(), []
        parts = self.spec.load_parts(settings)
        for seed in (0, 1):
            stream = RngStream(seed, torch.device("cpu"))
            with stream.active():
                self.spec.load()(settings, parts)
            states.append(stream.state["cpu"])
        rule = "another seed leaves torch's generator in another state"
        fix = "do not call torch.manual_seed; use torch.random.fork_rng where weights of their own"
        fix += " seed are meant"
        expect(not torch.equal(*states), rule, "the same state: it was seeded inside", fix)

    def test_random_streams_of_others_stay_as_they_are(self) -> None:
        """Loading parts and captioning leave all generators alone; building those but torch's."""
        settings, batch = self.settings(), self.batch()
        before = _streams()
        parts = self.spec.load_parts(settings)
        self._unmoved(before, "loading `parts`")
        captioner = self.built(settings, parts=parts)  # inside a stream of its own
        self._unmoved(before, "building")
        self._generate(captioner, batch)
        self._unmoved(before, "`generate`")

    def _unmoved(self, before: Mapping[str, Any], what: str) -> None:
        moved = [name for name, state in _streams().items() if not _equal(state, before[name])]
        rule = f"{what} leaves the global random generators as they were"
        fix = "draw nothing, or draw from a generator of your own with a seed from the settings"
        expect(not moved, rule, f"{', '.join(moved)} moved on", fix)


def _streams() -> dict[str, Any]:
    numpy_state: Any = np.random.get_state()
    return {
        "torch's generator": torch.get_rng_state(),
        "numpy's generator": (numpy_state[1].tobytes(), numpy_state[2:]),
        "Python's generator": random.getstate(),
    }


def _equal(one: Any, other: Any) -> bool:
    return torch.equal(one, other) if isinstance(one, Tensor) else bool(one == other)
