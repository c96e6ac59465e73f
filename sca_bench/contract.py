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

Shape legend as in `sca_bench.batch`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sca_bench.batch import RegionBatch
from sca_bench.boxes import resized_hw, scale_boxes
from sca_bench.captioner import Decoding, RegionCaptioner, fault_of_captioner
from sca_bench.errors import InputError
from sca_bench.types import Prediction, Trains

_SIZES_HW = ((60, 96), (90, 40))
"""Original sizes of the two images: one wide, one high, neither of the model's size."""
_BOXES_XYXY = (
    ((4.0, 6.0, 40.0, 50.0), (30.0, 10.0, 90.0, 30.0), (2.0, 40.0, 25.0, 58.0)),
    ((5.0, 20.0, 35.0, 80.0),),
)


def toy_batch(image_size: int = 96, seed: int = 0) -> RegionBatch:
    """Return two images of coloured noise with three regions and one.

    Args:
        image_size: Side of the square model input in pixels.
        seed: Of the pixels; boxes and sizes are always the same.

    Returns:
        A batch with boxes, model input and original images, padded to three regions an image.
    """
    generator = torch.Generator().manual_seed(seed)
    pixels_B3SS = torch.zeros(2, 3, image_size, image_size)
    boxes_BR4 = torch.zeros(2, 3, 4)
    originals, sizes = [], []
    for index, ((height, width), boxes) in enumerate(zip(_SIZES_HW, _BOXES_XYXY, strict=True)):
        coarse_13hw = torch.rand(1, 3, 6, 6, generator=generator)
        image_13HW = F.interpolate(coarse_13hw, (height, width), mode="bilinear")
        originals.append((255 * image_13HW[0]).byte().permute(1, 2, 0).contiguous())
        input_hw = resized_hw(height, width, image_size)
        sizes.append(input_hw)
        shown_3hw = F.interpolate(image_13HW, input_hw, mode="bilinear")[0]
        pixels_B3SS[index, :, : input_hw[0], : input_hw[1]] = 4 * shown_3hw - 2
        scaled = scale_boxes(boxes, (height, width), input_hw)
        boxes_BR4[index, : len(boxes)] = torch.from_numpy(scaled).float()
    return RegionBatch(
        image_ids=["wide", "high"],
        region_ids=["wide-0", "wide-1", "wide-2", "high-0"],
        region_mask_BR=torch.tensor([[True, True, True], [True, False, False]]),
        boxes_xyxy_input_BR4=boxes_BR4,
        pixel_values_B3HW=pixels_B3SS,
        input_sizes_hw=sizes,
        original_images=originals,
        views=[0, 0],
    )


def image_of(batch: RegionBatch, index: int) -> RegionBatch:
    """Return the batch of one of its images, without padded regions.

    Args:
        batch: A batch without features and captions.
        index: The image, 0 to B - 1.
    """
    mask_R = batch.region_mask_BR[index]
    before = int(batch.region_mask_BR[:index].sum())
    count = int(mask_R.sum())

    def rows(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor[index : index + 1, mask_R]

    def item(values: list[Any] | None) -> list[Any] | None:
        return None if values is None else [values[index]]

    pixels_B3HW = batch.pixel_values_B3HW
    return replace(
        batch,
        image_ids=[batch.image_ids[index]],
        region_ids=batch.region_ids[before : before + count],
        region_mask_BR=torch.ones(1, count, dtype=torch.bool),
        boxes_xyxy_input_BR4=rows(batch.boxes_xyxy_input_BR4),
        points_xy_input_BRP2=rows(batch.points_xy_input_BRP2),
        point_labels_BRP=rows(batch.point_labels_BRP),
        pixel_values_B3HW=None if pixels_B3HW is None else pixels_B3HW[index : index + 1],
        input_sizes_hw=item(batch.input_sizes_hw),
        original_images=item(batch.original_images),
        tasks=item(batch.tasks),
        views=item(batch.views),
    )


def without_regions(batch: RegionBatch) -> RegionBatch:
    """Return the batch with its images and none of its regions."""
    empty = torch.zeros_like(batch.region_mask_BR)
    return replace(batch, region_ids=[], region_mask_BR=empty)


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
        assert ids == batch.region_ids, f"expected {batch.region_ids}, got {ids}"
        for prediction in predictions:
            assert isinstance(prediction.caption, str), prediction
            assert prediction.caption == prediction.caption.strip(), f"outer blanks: {prediction}"
            assert math.isfinite(prediction.log_prob), prediction
            assert prediction.log_prob <= 0, f"not a log-probability: {prediction}"
            assert prediction.seconds >= 0, prediction

    def test_the_same_answer_twice(self) -> None:
        """Nothing is drawn at random and nothing is remembered."""
        captioner, batch = self.captioner(), self.batch()
        first = self._generate(captioner, batch)
        torch.rand(3)  # a captioner that draws from the global generator moves on here
        self._same(first, self._generate(captioner, batch), "a second call", atol=0.0)

    def test_the_answer_does_not_depend_on_what_stands_beside_it(self) -> None:
        """A batch of images equals its single images: neither batch nor padding counts."""
        captioner, batch = self.captioner(), self.batch()
        together = self._generate(captioner, batch)
        alone = [
            prediction
            for index in range(len(batch.image_ids))
            for prediction in self._generate(captioner, image_of(batch, index))
        ]
        self._same(together, alone, "one image at a time", atol=self.log_prob_atol)

    def test_the_pixels_matter(self) -> None:
        """Other pixels under the same boxes change some caption or its log-probability."""
        captioner = self.captioner()
        before, after = (self._generate(captioner, self.batch(seed)) for seed in (0, 1))
        changed = [
            a.caption != b.caption or abs(a.log_prob - b.log_prob) > self.log_prob_atol
            for a, b in zip(before, after, strict=True)
        ]
        if self.looks:
            assert any(changed), "other pixels change neither a caption nor its log-probability"
        else:
            assert not any(changed), "captions change with pixels that are said not to be read"

    def test_no_region_no_answer(self) -> None:
        """A batch whose images have no region gives an empty list."""
        predictions = self._generate(self.captioner(), without_regions(self.batch()))
        assert predictions == [], f"expected no prediction, got {predictions}"

    def test_what_is_trained_can_be_trained(self) -> None:
        """What is trained by gradient is a `torch.nn.Module` with all that training asks for."""
        captioner = self.captioner()
        trains = self.trains or ("gradient" if hasattr(captioner, "loss") else "never")
        fault = fault_of_captioner(captioner, trains)
        assert not fault, fault

    def test_unusable_input_is_one_clear_line(self) -> None:
        """What cannot be used is an `InputError` of one line that says where, and what to do."""
        for build in self.broken():
            error = _error_of(build)
            line = str(error)
            assert "\n" not in line, f"more than one line: {line!r}"
            assert error.where or error.key, f"names no file or setting: {line!r}"
            assert error.key or error.fix, f"names neither a key nor a fix: {line!r}"

    def _generate(self, captioner: RegionCaptioner, batch: RegionBatch) -> list[Prediction]:
        with torch.no_grad():
            return list(captioner.generate(batch, self.decoding))

    @staticmethod
    def _same(first: list[Prediction], second: list[Prediction], what: str, *, atol: float) -> None:
        for a, b in zip(first, second, strict=True):
            assert a.region_id == b.region_id, f"{what}: {a.region_id} became {b.region_id}"
            assert a.caption == b.caption, f"{what}: {a.region_id}: {a.caption!r}, {b.caption!r}"
            apart = abs(a.log_prob - b.log_prob)
            assert apart <= atol, f"{what}: {a.region_id}: log-probabilities {apart:.2e} apart"


def _error_of(build: Callable[[], object]) -> InputError:
    try:
        made = build()
    except InputError as error:
        return error
    raise AssertionError(f"{made!r} was built from input that cannot be used")
