from types import SimpleNamespace

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam

from baselines.sam_captioner import crops


def mask_of(*pixels_xy, hw=(6, 8)):
    mask = torch.zeros(1, *hw, dtype=torch.bool)
    for x, y in pixels_xy:
        mask[0, y, x] = True
    return mask


@pytest.mark.parametrize(
    ("pixels_xy", "box_xyxy"),
    [
        ([(1, 1), (5, 4)], (1, 1, 5, 4)),  # inclusive ends, nothing added
        ([(1, 1), (2, 4)], (1, 1, 3, 4)),  # one column apart: widened to 2
        ([(3, 2)], (3, 2, 5, 4)),  # a single pixel
        ([(0, 2), (7, 2)], (0, 2, 7, 4)),  # a line
        ([(7, 5)], (7, 5, 9, 7)),  # in the corner: beyond the image
        ([], (0, 0, 2, 2)),  # nothing at all
    ],
)
def test_the_box_of_a_mask(pixels_xy, box_xyxy):
    assert tuple(crops.mask_boxes(mask_of(*pixels_xy))[0]) == box_xyxy


def test_an_empty_mask_of_a_tiny_image():
    assert crops.mask_boxes(torch.zeros(2, 1, 1, dtype=torch.bool)).tolist() == [[0, 0, 2, 2]] * 2


@pytest.mark.parametrize(
    ("box_xyxy", "margin", "widened"),
    [
        ((2, 2, 6, 4), 0.0, (2, 2, 6, 4)),
        ((4, 3, 8, 5), 0.5, (2, 2, 10, 6)),  # half the width and half the height on each side
        ((2, 2, 6, 4), 1.0, (0, 0, 10, 6)),  # cut at the image
        ((9, 7, 11, 9), 0.0, (9, 7, 11, 9)),  # without a margin even beyond the image
        ((9, 7, 11, 9), 0.1, (9, 7, 10, 8)),
    ],
)
def test_margins(box_xyxy, margin, widened):
    assert crops.widen(box_xyxy, margin, (8, 10)) == widened


@pytest.mark.parametrize(
    ("box_xyxy", "whole"),
    [
        ((1.0, 2.0, 4.0, 6.0), (1, 2, 4, 6)),
        ((1.2, 2.7, 3.1, 5.5), (1, 2, 4, 6)),  # outwards
        ((0.9999, 2.0001, 4.0002, 5.9999), (1, 2, 4, 6)),  # rounding errors of the scaling
        ((-3.0, -1.0, 20.0, 20.0), (0, 0, 10, 8)),
        ((9.5, 3.0, 9.9, 3.2), (9, 3, 11, 5)),  # at least 2 px
    ],
)
def test_prompt_boxes_in_whole_pixels(box_xyxy, whole):
    assert crops.prompt_box(box_xyxy, (8, 10)) == whole


def test_a_crop_beyond_the_image_is_black_there():
    image = np.full((6, 8, 3), 200, dtype=np.uint8)
    piece = np.asarray(crops.cut(image, (7, 5, 9, 7)))
    assert piece.shape == (2, 2, 3)
    assert piece[..., 0].tolist() == [[200, 0], [0, 0]]


def test_white_around_a_mask():
    image = np.full((2, 3, 3), 7, dtype=np.uint8)
    mask = np.array([[True, False, False], [False, True, False]])
    white = crops.on_white(image, mask)
    assert white.dtype == np.uint8
    assert white[..., 1].tolist() == [[7, 255, 255], [255, 7, 255]]
    assert (image == 7).all()


def test_masks_lose_their_padding_on_the_way_up():
    # A 4 x 4 mask over a 16 px input; the image is 8 x 16 there and 20 x 40 px in its file.
    logits = torch.full((1, 4, 4), -1.0)
    logits[0, :2, 2:] = 1.0
    logits[0, 2:] = 9.0  # below the image: padding, and next to it through interpolation alone
    masks = crops.full_masks(logits, input_hw=(8, 16), original_hw=(20, 40), side=16)
    assert masks.shape == (1, 20, 40)
    assert masks.dtype == torch.bool
    assert masks[0, :14, 22:].all()
    assert not masks[0, :14, :18].any()


def test_full_masks_equal_the_library():
    library = SimpleNamespace(image_encoder=SimpleNamespace(img_size=64))
    logits = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0))
    theirs = Sam.postprocess_masks(library, logits[None], (40, 64), (55, 88))
    ours = crops.full_masks(logits, input_hw=(40, 64), original_hw=(55, 88), side=64)
    assert torch.equal(ours, theirs[0] > 0)


def test_images_must_be_bytes():
    with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\), not torch.float32 \(3, 4, 4\)"):
        crops.image_array(torch.zeros(3, 4, 4))
