"""What every captioner must keep to, as tests that a third party's own tests inherit.

    from sca_bench.contract import CaptionerContract

    class TestMine(CaptionerContract):
        def captioner(self):
            return my_package.build(settings, parts)

        def broken(self):
            yield lambda: my_package.build(settings_that_name_a_missing_file)

pytest collects the class and runs, against the captioner and a small made-up batch: every region
answered once and in order, the same answer a second time, the same answer whatever is captioned
beside a region, an answer that depends on the pixels, no answer for no region, one clear line for
weights that cannot be used, and all that training asks for, such as being a `torch.nn.Module`.
Override `batch` where the captioner needs other input, `looks` where it reads no pixels, `trains`
where it has a `loss` and is not trained, and `log_prob_atol` where its arithmetic is coarse.
Nothing here imports pytest, so any runner that calls methods named `test_*` will do.

A captioner that a `VariantSpec` describes has more to keep to: see `contract.captioners.variant`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch

from sca_bench.batch import RegionBatch
from sca_bench.captioner import Decoding, RegionCaptioner, fault_of_captioner
from sca_bench.contract.broken import Broken, expect
from sca_bench.contract.captioners.toy import image_of, toy_batch, without_regions
from sca_bench.errors import InputError
from sca_bench.types import Prediction, Trains


class CaptionerContract:
    """Tests that every captioner passes; see the module.

    Attributes:
        looks: Whether the captioner reads pixels.
        trains: How it learns (`VariantSpec.trains`); where None, by gradient if it has a `loss`.
        decoding: How it is asked to decode.
        log_prob_atol: By how much log-probabilities may differ with what stands beside a region.
    """

    looks = True
    trains: Trains | None = None
    decoding = Decoding(num_beams=1, max_new_tokens=8)
    log_prob_atol = 1e-4

    def captioner(self) -> RegionCaptioner:
        """Return the captioner, ready to caption; called once a test."""
        raise NotImplementedError

    def batch(self, seed: int = 0) -> RegionBatch:
        """Return a batch of at least two images; another `seed` changes pixels and nothing else."""
        return toy_batch(seed=seed)

    def broken(self) -> Iterable[Callable[[], object]]:
        """Yield functions that build the captioner from input that cannot be used."""
        return ()

    def test_every_region_is_answered_once_and_in_order(self) -> None:
        """One prediction per real region, in row-major order, with finite figures."""
        batch = self.batch()
        predictions = self._generate(self.captioner(), batch)
        ids = [prediction.region_id for prediction in predictions]
        rule = f"one prediction a real region, in the batch's order: {batch.region_ids}"
        expect(ids == batch.region_ids, rule, ids, "answer `batch.region_ids`, one by one")
        for one in predictions:
            expect(isinstance(one.caption, str), "a caption that is a text", one, "return a str")
            blanks = "a caption without blanks around it"
            expect(one.caption == one.caption.strip(), blanks, one, "strip the caption")
            probability = "a finite log-probability of 0 or less"
            fix = "give the mean log-probability of the tokens, or 0.0 where there is none"
            expect(math.isfinite(one.log_prob) and one.log_prob <= 0, probability, one, fix)
            expect(one.seconds >= 0, "seconds of 0 or more", one, "give the time that it took")

    def test_the_same_answer_twice(self) -> None:
        """Nothing is drawn at random and nothing is remembered."""
        captioner, batch = self.captioner(), self.batch()
        first = self._generate(captioner, batch)
        torch.rand(3)  # a captioner that draws from the global generator moves on here
        again = self._generate(captioner, batch)
        fix = "draw nothing at random and keep nothing from call to call in `generate`"
        self._same(first, again, "the same answer a second time", fix, atol=0.0)

    def test_the_answer_does_not_depend_on_what_stands_beside_it(self) -> None:
        """A batch of images equals its single images: neither batch nor padding counts."""
        captioner, batch = self.captioner(), self.batch()
        together = self._generate(captioner, batch)
        alone = [
            prediction
            for index in range(len(batch.image_ids))
            for prediction in self._generate(captioner, image_of(batch, index))
        ]
        fix = "compute each region from its own image and box alone"
        rule = "a batch that is answered as its single images are"
        self._same(together, alone, rule, fix, atol=self.log_prob_atol)

    def test_the_pixels_matter(self) -> None:
        """Other pixels under the same boxes change some caption or its log-probability."""
        captioner = self.captioner()
        before, after = (self._generate(captioner, self.batch(seed)) for seed in (0, 1))
        changed = [
            a.caption != b.caption or abs(a.log_prob - b.log_prob) > self.log_prob_atol
            for a, b in zip(before, after, strict=True)
        ]
        if self.looks:
            expect(
                any(changed),
                "other pixels change some caption or its log-probability",
                "the same captions and log-probabilities",
                "read the image; where that is not meant, say looks=False",
            )
        else:
            expect(
                not any(changed),
                "captions that do not change with pixels, since looks=False",
                f"{sum(changed)} of {len(changed)} changed",
                "say looks=True (the default), so that pixels are part of its key",
            )

    def test_no_region_no_answer(self) -> None:
        """A batch whose images have no region gives an empty list."""
        predictions = self._generate(self.captioner(), without_regions(self.batch()))
        rule = "an empty list for a batch without regions"
        expect(predictions == [], rule, predictions, "answer `batch.region_ids` only")

    def test_what_is_trained_can_be_trained(self) -> None:
        """What is trained by gradient is a `torch.nn.Module` with all that training asks for."""
        captioner = self.captioner()
        trains = self.trains or ("gradient" if hasattr(captioner, "loss") else "never")
        fault = fault_of_captioner(captioner, trains)
        rule = f"a captioner that learns as `trains` says ({trains})"
        expect(not fault, rule, fault, "add what is missing, or say how it learns in `trains`")

    def test_unusable_input_is_one_clear_line(self) -> None:
        """What cannot be used is an `InputError` of one line that says where, and what to do."""
        for build in self.broken():
            error = _error_of(build)
            line = str(error)
            fix = "raise InputError(where, key, problem, fix)"
            expect("\n" not in line, "an error of one line", repr(line), fix)
            expect(error.where or error.key, "an error that names a file or setting", line, fix)
            expect(error.key or error.fix, "an error that names a key or a fix", line, fix)

    def _generate(self, captioner: RegionCaptioner, batch: RegionBatch) -> list[Prediction]:
        with torch.no_grad():
            return list(captioner.generate(batch, self.decoding))

    @staticmethod
    def _same(
        first: list[Prediction], second: list[Prediction], rule: str, fix: str, *, atol: float
    ) -> None:
        ids = [[one.region_id for one in answer] for answer in (first, second)]
        expect(ids[0] == ids[1], rule, f"the regions {ids[0]}, then {ids[1]}", fix)
        for a, b in zip(first, second, strict=True):
            was = f"{a.region_id}: {a.caption!r}, then {b.caption!r}"
            expect(a.caption == b.caption, rule, was, fix)
            apart = abs(a.log_prob - b.log_prob)
            was = f"{a.region_id}: log-probabilities {apart:.2e} apart (at most {atol:.0e})"
            expect(apart <= atol, rule, was, fix)


def _error_of(build: Callable[[], object]) -> InputError:
    try:
        made = build()
    except InputError as error:
        return error
    rule = "an InputError for input that cannot be used"
    raise Broken(rule, f"{made!r} was built", "check what is given before anything is built")
