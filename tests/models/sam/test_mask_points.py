"""Points drawn inside the masks that SAM predicts for boxes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from sca_bench.models.sam import mask_points
from sca_bench.models.sam.mask_points import draw_point, region_rng
from sca_bench.models.sam.region_encoder import RegionEncoder
from sca_bench.models.sam.sam import build_sam

SIZE = 16
BOX = torch.tensor([2.0, 4.0, 6.0, 9.0])


def draw(logits_hw, number=0, input_hw=(SIZE, SIZE)):
    rng = np.random.default_rng(number)
    return draw_point(logits_hw, BOX, image_size=SIZE, input_hw=input_hw, rng=rng)


def square():
    """A mask over rows 4-11 and columns 8-15 of 16 pixels, at a quarter of the resolution."""
    logits = torch.full((4, 4), -1.0)
    logits[1:3, 2:4] = 1.0
    return logits


def test_points_lie_in_the_enlarged_mask_and_reach_all_of_it():
    points = {draw(square(), number) for number in range(600)}
    assert {y for _, y in points} == set(range(4, 12))
    assert {x for x, _ in points} == set(range(8, 16))


def test_padding_is_no_part_of_a_mask():
    points = {draw(square(), number, input_hw=(6, SIZE)) for number in range(100)}
    assert {y for _, y in points} == {4.0, 5.0}


def test_an_empty_mask_gives_the_centre_of_the_box():
    assert draw(torch.full((4, 4), -1.0)) == (4.0, 6.5)
    assert draw(torch.zeros(4, 4)) == (4.0, 6.5)  # zero is outside
    assert draw(square(), input_hw=(3, SIZE)) == (4.0, 6.5)


def test_a_regions_generator_depends_on_seed_and_id_only():
    drawn = {key: region_rng(*key).integers(1 << 30) for key in [(0, "a"), (0, "b"), (1, "a")]}
    assert len(set(drawn.values())) == 3
    assert region_rng(0, "a").integers(1 << 30) == drawn[0, "a"]


@pytest.fixture
def encoder():
    sam = build_sam("tiny", random_seed=3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in sam.mask_decoder.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return RegionEncoder(sam)


def drawn_points(encoder, batch, monkeypatch):
    """The points SAM is prompted with, by region id."""
    seen = {}
    original = mask_points.points_in_sam_masks

    def spy(*args, **kwargs):
        points = original(*args, **kwargs)
        seen.update(dict(zip(kwargs["region_ids"], points[:, 0].tolist(), strict=True)))
        return points

    monkeypatch.setattr("sca_bench.models.sam.region_encoder.points_in_sam_masks", spy)
    return encoder(batch, families=("mixed", "prompts"), with_masks=True), seen


def test_the_point_lies_in_the_best_mask_of_the_box(encoder, batch, monkeypatch):
    by_box = encoder(batch, with_masks=True)
    asked = dataclasses.replace(batch, mask_point_seed=5, input_sizes_hw=[(96, 96), (60, 96)])
    _, points = drawn_points(encoder, asked, monkeypatch)
    boxes = batch.boxes_xyxy_input_BR4[batch.region_mask_BR]
    masks, best = by_box.mask_logits_NMhw, by_box.ious_NM.argmax(1)
    full = torch.nn.functional.interpolate(masks, (96, 96), mode="bilinear") > 0
    full[3:, :, 60:] = False  # below the second image is padding
    inside = 0
    for row, (x, y) in enumerate(points.values()):
        mask = full[row, best[row]]
        if mask.any():
            inside += 1
            assert mask[int(y), int(x)]
        else:
            assert [x, y] == ((boxes[row, :2] + boxes[row, 2:]) / 2).tolist()
    assert inside >= 3


def test_sam_sees_the_point_and_not_the_box(encoder, batch, monkeypatch):
    asked = dataclasses.replace(batch, mask_point_seed=5)
    found, points = drawn_points(encoder, asked, monkeypatch)
    expected = encoder(
        dataclasses.replace(
            select_points(batch, points), boxes_xyxy_input_BR4=None, mask_point_seed=None
        ),
        with_masks=True,
    )
    assert torch.equal(found.tokens_NTC, expected.tokens_NTC)
    assert torch.equal(found.ious_NM, expected.ious_NM)
    assert torch.equal(found.mask_logits_NMhw, expected.mask_logits_NMhw)
    assert found.prompt_tokens_NPC.shape[1] == 2  # the point, and SAM's "not a point"
    assert found.boxes_xyxy_input_N4 is None


def select_points(batch, points):
    given = torch.zeros(2, 3, 1, 2)
    given[batch.region_mask_BR] = torch.tensor(list(points.values()))[:, None]
    return dataclasses.replace(batch, points_xy_input_BRP2=given)


def test_a_draw_does_not_depend_on_what_else_is_in_the_batch(encoder, batch, monkeypatch):
    asked = dataclasses.replace(batch, mask_point_seed=5)
    _, points = drawn_points(encoder, asked, monkeypatch)
    second = dataclasses.replace(
        asked,
        image_ids=["i1"],
        region_ids=["r4", "r3"],
        region_mask_BR=torch.tensor([[True, True]]),
        boxes_xyxy_input_BR4=batch.boxes_xyxy_input_BR4[1:, [1, 0]],
        pixel_values_B3HW=batch.pixel_values_B3HW[1:],
        input_sizes_hw=[(96, 96)],
    )
    _, alone = drawn_points(encoder, second, monkeypatch)
    assert alone == {region_id: points[region_id] for region_id in ("r4", "r3")}
    _, other = drawn_points(encoder, dataclasses.replace(asked, mask_point_seed=6), monkeypatch)
    assert other != points


def test_it_needs_boxes_and_no_other_points(encoder, batch):
    asked = dataclasses.replace(batch, mask_point_seed=5)
    for wrong in (
        dataclasses.replace(asked, boxes_xyxy_input_BR4=None),
        dataclasses.replace(asked, points_xy_input_BRP2=torch.zeros(2, 3, 1, 2)),
    ):
        with pytest.raises(ValueError, match="needs the box, and no other point"):
            encoder(wrong)
