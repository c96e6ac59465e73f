import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sca_bench.boxes import (
    BoxFault,
    centre_points,
    clip_box,
    fit_box,
    mirror_boxes,
    resized_hw,
    scale_boxes,
    tight_box,
    xywh_to_xyxy,
)

SIDES = st.integers(1, 3000)
COORDINATES = st.floats(-4000, 4000)
SIZES = st.tuples(SIDES, SIDES)


@st.composite
def boxes_inside(draw):
    height, width = draw(SIZES)
    x = sorted(draw(st.tuples(st.floats(0, width), st.floats(0, width))))
    y = sorted(draw(st.tuples(st.floats(0, height), st.floats(0, height))))
    return (x[0], y[0], x[1], y[1]), height, width


def test_xywh_becomes_xyxy():
    assert xywh_to_xyxy(3, 5, 10, 20) == (3.0, 5.0, 13.0, 25.0)


@pytest.mark.parametrize(
    ("box_xyxy", "min_side_px", "expected"),
    [
        ((1, 2, 5, 7), 0, (1, 2, 5, 7)),
        ((-3, -2, 5, 7), 0, (0, 0, 5, 7)),
        ((15, 5, 40, 40), 0, (15, 5, 20, 10)),
        ((5, 5, 5, 8), 0, BoxFault.DEGENERATE),
        ((5, 8, 7, 6), 0, BoxFault.DEGENERATE),
        ((20, 0, 25, 5), 0, BoxFault.OUTSIDE),
        ((0, 10, 5, 12), 0, BoxFault.OUTSIDE),
        ((-9, 0, 0, 5), 0, BoxFault.OUTSIDE),
        ((0, -5, 5, 0), 0, BoxFault.OUTSIDE),
        ((0, 0, 4, 9), 4, BoxFault.TOO_SMALL),
        ((0, 0, 9, 4), 4, BoxFault.TOO_SMALL),
        ((0, 0, 4.01, 4.01), 4, (0, 0, 4.01, 4.01)),
        ((17, 0, 30, 9), 4, BoxFault.TOO_SMALL),
    ],
)
def test_a_box_fits_its_image_or_says_why_not(box_xyxy, min_side_px, expected):
    assert fit_box(box_xyxy, 20, 10, min_side_px) == expected


@given(st.tuples(*[COORDINATES] * 4), SIZES)
def test_a_fitted_box_lies_inside_with_area_and_fits_again(box_xyxy, size):
    height, width = size
    fitted = fit_box(box_xyxy, width, height)
    if isinstance(fitted, BoxFault):
        clipped = clip_box(box_xyxy, width, height)
        assert not (clipped[2] > clipped[0] and clipped[3] > clipped[1])
    else:
        left, top, right, bottom = fitted
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert fit_box(fitted, width, height) == fitted


@given(boxes_inside(), st.integers(1, 1024))
def test_scaling_to_the_input_and_back_is_the_identity(case, image_size):
    box_xyxy, height, width = case
    input_hw = resized_hw(height, width, image_size)
    box_xyxy_input = scale_boxes([box_xyxy], (height, width), input_hw)
    assert box_xyxy_input[0, 2] <= input_hw[1] + 1e-9
    assert box_xyxy_input[0, 3] <= input_hw[0] + 1e-9
    back = scale_boxes(box_xyxy_input, input_hw, (height, width))
    np.testing.assert_allclose(back[0], box_xyxy, atol=1e-9 * 3000)


def test_scaling_uses_each_axis_own_ratio():
    scaled = scale_boxes([[10, 10, 20, 20]], (100, 200), (50, 400))
    assert scaled.tolist() == [[20.0, 5.0, 40.0, 10.0]]


@given(boxes_inside())
def test_mirroring_twice_is_the_identity_and_keeps_the_area(case):
    box_xyxy, _, width = case
    mirrored = mirror_boxes([box_xyxy], width)
    np.testing.assert_allclose(mirror_boxes(mirrored, width)[0], box_xyxy, atol=1e-9 * 3000)
    assert mirrored[0, 2] - mirrored[0, 0] == pytest.approx(box_xyxy[2] - box_xyxy[0], abs=1e-6)


def test_mirroring_swaps_the_sides():
    assert mirror_boxes([[0, 1, 3, 4]], 10).tolist() == [[7.0, 1.0, 10.0, 4.0]]


def test_centres():
    assert centre_points([[0, 0, 4, 2], [1, 1, 2, 4]]).tolist() == [[2.0, 1.0], [1.5, 2.5]]


@pytest.mark.parametrize(
    ("height", "width", "image_size", "expected"),
    [
        (480, 640, 1024, (768, 1024)),
        (640, 427, 1024, (1024, 683)),
        (96, 96, 96, (96, 96)),
        (3, 2, 5, (5, 3)),
        (1, 5000, 1024, (1, 1024)),
    ],
)
def test_the_longest_side_is_resized_and_rounded_half_up(height, width, image_size, expected):
    assert resized_hw(height, width, image_size) == expected


@given(boxes_inside())
def test_the_tight_box_of_a_filled_box_is_the_box(case):
    box_xyxy, height, width = case
    left, top, right, bottom = (int(side) for side in box_xyxy)
    mask_HW = np.zeros((height, width), dtype=bool)
    mask_HW[top:bottom, left:right] = True
    if mask_HW.any():
        assert tight_box(mask_HW) == (left, top, right, bottom)
    else:
        with pytest.raises(ValueError, match="empty mask"):
            tight_box(mask_HW)
