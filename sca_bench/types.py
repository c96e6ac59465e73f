"""The plain nouns that every room shares. No torch here: light commands import this module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Family = Literal["mixed", "prompts", "images", "mask_boxes"]
"""A kind of frozen features: what the SAM mixer yields per region, what goes into it per region,
what the image encoder yields per image, or the boxes around SAM's masks. A design reads one or
more; a cache keeps each apart."""
FAMILIES: tuple[Family, ...] = ("mixed", "prompts", "images", "mask_boxes")

Prompt = Literal["box", "point", "box_point", "random_point", "mask_point", "sam_mask_point"]
"""The box, its centre, both, a random point in the box, in the region's mask, in SAM's own mask."""

Trains = Literal["gradient", "once", "never"]
"""How a captioner learns: by gradient steps, by one look at the training split, or not at all."""

BoxXYXY = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of a split.

    Attributes:
        image_id: Unique inside its `RegionSet`.
        width: Original width in pixels.
        height: Original height in pixels.
        path: File that holds it; empty for rendered scenes, which have no file.
    """

    image_id: str
    width: int
    height: int
    path: str = ""


@dataclass(frozen=True, slots=True)
class Region:
    """One box in one image, with its reference captions.

    Attributes:
        region_id: Unique inside its `RegionSet`.
        image_id: The image it lies in.
        box_xyxy: Left, top, right, bottom in original pixels; right > left, bottom > top.
        references: One or more reference captions, as the data set gives them.
        slots: For worlds whose captions follow a grammar: slot name -> word(s). Empty elsewhere.
        segmentation: Its mask in original pixels as JSON of one of COCO's forms, unread, as the
            data set gives it (`rle.read_mask` reads it); empty where there is none.
        has_box: Whether the data set says how large it is. Where it names a point alone,
            `box_xyxy` is the square of one pixel around that point, for the prompt `point` only.
    """

    region_id: str
    image_id: str
    box_xyxy: BoxXYXY
    references: tuple[str, ...]
    slots: Mapping[str, str] = field(default_factory=dict)
    segmentation: str = ""
    has_box: bool = True


@dataclass(frozen=True, slots=True)
class Prediction:
    """One caption for one region, as it is written to `predictions.jsonl`.

    Attributes:
        region_id: The region it answers.
        caption: The caption kept (of several heads: the one with the highest predicted IoU).
        log_prob: Mean log-probability per generated token, end token included.
        predicted_ious: SAM's predicted IoU of each mask candidate.
        seconds: Wall time of the generation call divided by its regions.
    """

    region_id: str
    caption: str
    log_prob: float
    predicted_ious: tuple[float, ...]
    seconds: float
