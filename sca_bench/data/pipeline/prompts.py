"""What a region is prompted with: its box, or a point of it. No torch.

A random point depends on a seed and its region's id alone, so it is the same whatever is evaluated
beside it, in whatever order. Shape legend: R regions, H, W original size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sca_bench.boxes import centre_points
from sca_bench.data.region_set import GroupedRegions, RegionSet
from sca_bench.errors import InputError
from sca_bench.formats.rle import mask_runs, read_mask, segmentation_rle
from sca_bench.specs.readers import READERS
from sca_bench.types import ImageRecord, Prompt, Region

WITH_BOX = ("box", "box_point", "sam_mask_point")
WITH_POINT = ("point", "box_point", "random_point", "mask_point")


def uniform_pair(seed: int, region_id: str) -> tuple[float, float]:
    """Return the two numbers in [0, 1) that belong to a region under a seed, on every machine."""
    digest = hashlib.blake2b(f"{seed}\n{region_id}".encode(), digest_size=16).digest()
    first, second = (int.from_bytes(half, "big") >> 11 for half in (digest[:8], digest[8:]))
    return first / 2**53, second / 2**53


def box_points(
    prompt: Prompt,
    boxes_xyxy_R4: NDArray[np.float64],
    regions: Sequence[Region],
    seed: int,
    *,
    mirrored: bool,
) -> NDArray[np.float64]:
    """Return one point (R, 2), x then y, in each of R boxes, in the boxes' frame.

    Args:
        prompt: `random_point`; with any other prompt the point is the centre.
        boxes_xyxy_R4: The boxes.
        regions: The regions they belong to.
        seed: Seed of the random points.
        mirrored: Whether the frame is mirrored left to right; then so are the points.
    """
    if prompt != "random_point":
        return centre_points(boxes_xyxy_R4)
    shares_R2 = np.array([uniform_pair(seed, region.region_id) for region in regions])
    shares_R2 = shares_R2.reshape(-1, 2)
    if mirrored:
        shares_R2[:, 0] = 1 - shares_R2[:, 0]
    sides_R2 = boxes_xyxy_R4[:, 2:] - boxes_xyxy_R4[:, :2]
    points_R2: NDArray[np.float64] = boxes_xyxy_R4[:, :2] + shares_R2 * sides_R2
    return points_R2


def mask_points(
    regions: Sequence[Region], image_hw: tuple[int, int], seed: int
) -> NDArray[np.float64]:
    """Return the centre of one pixel (R, 2) of each region's mask, x then y in original pixels.

    Every pixel of a mask is equally likely.

    Args:
        regions: Regions of one image, each with a mask that `check_masks` has seen.
        image_hw: Height and width of the image.
        seed: Seed of the points.
    """
    return np.array([_mask_point(region, image_hw, seed) for region in regions]).reshape(-1, 2)


def check_boxes(region_set: RegionSet, prompt: Prompt) -> None:
    """See that no region is a point alone, unless its point is all that it is prompted with.

    Raises:
        InputError: One is a point, and the prompt is drawn from its box.
    """
    for part in region_set.parts:
        check_boxes(part.region_set, prompt)
    if prompt == "point" or isinstance(region_set.regions, GroupedRegions):
        return  # an index holds boxes only
    point = next((region for region in region_set.regions if not region.has_box), None)
    if point is not None:
        problem = f"{prompt} needs a box; region {point.region_id} is a point alone"
        fix = "set train.prompt and eval.prompt to point, or give it a box or a mask"
        raise InputError(region_set.name, "eval.prompt", problem, fix)


def check_masks(region_set: RegionSet) -> None:
    """See that every region has a mask to draw a point from: here masks are read first.

    Raises:
        InputError: One has none, or what it has is no mask, or one without a pixel.
    """
    for part in region_set.parts:
        check_masks(part.region_set)
    for image_id, record in region_set.images.items() if not region_set.parts else ():
        for region in region_set.regions_of(image_id):
            problem, fix = _mask_fault(region, record)
            if problem:
                raise InputError(region_set.name, "eval.prompt", problem, fix)


def _mask_fault(region: Region, record: ImageRecord) -> tuple[str, str]:
    """Return why a region has no mask to draw a point in, and the way out; nothing where it has."""
    if not region.segmentation:
        return (
            f"mask_point needs a mask of every region; region {region.region_id} has none",
            f"use random_point, or data with masks: {_with_masks()}",
        )
    start = f"mask_point needs a mask of every region; that of region {region.region_id}"
    try:
        runs = mask_runs(segmentation_rle(region.segmentation, record.height, record.width))
    except ValueError as fault:
        return f"{start} is none: {fault}", "correct its segmentation, or use random_point"
    if not runs[1::2].any():
        return f"{start} has no pixel", "use random_point, or leave the region out"
    return "", ""


def _with_masks() -> str:
    found = [spec for spec in READERS.all().values() if spec.masks]
    return ", ".join(f"{spec.name} ({spec.masks})" for spec in found)


def _mask_point(region: Region, image_hw: tuple[int, int], seed: int) -> tuple[float, float]:
    rows, columns = np.nonzero(read_mask(region.segmentation, *image_hw))
    chosen = int(uniform_pair(seed, region.region_id)[0] * len(rows))
    return float(columns[chosen]) + 0.5, float(rows[chosen]) + 0.5
