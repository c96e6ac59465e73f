"""Rendered scenes: small images whose region captions are true by construction.

A scene is a pure function of its seed, bit for bit on every machine: all draws come from the raw
stream of PCG64 (which numpy promises never to change, unlike the methods of `Generator`), and all
geometry is integer arithmetic in quarter pixels. Scenes in which "the nearest object" or its
direction could be argued about are rejected before anything is drawn.

Legend: K candidate layouts, O objects of a scene.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from sca_bench import scene_grammar
from sca_bench.data.region_set import RegionSet
from sca_bench.formats.rle import encode_mask
from sca_bench.settings.splits import Split
from sca_bench.specs.readers import ReaderSpec
from sca_bench.types import BoxXYXY, ImageRecord, Region

IMAGE_SIDE_PX = 96

_Q = 4
"""Quarter pixels per pixel: the unit of all geometry below."""
_CANDIDATES = 128
_FAR = 2**40
_RADII_Q = {"small": (38, 46), "large": (60, 72)}
"""Smallest and largest radius in quarter pixels: 9.5-11.5 px and 15-18 px."""
_EXTENT_PERCENT = {"circle": 100, "square": 107, "triangle": 100, "cross": 106}
"""Farthest point of a shape from its centre, in percent of its radius."""
_GAP_Q = _Q
_PERIOD_PX = 6
_RGB = {
    "red": (212, 48, 44),
    "green": (48, 168, 72),
    "blue": (52, 92, 216),
    "yellow": (228, 200, 52),
    "purple": (168, 60, 196),
}
_JITTER = 12
_DARK_PERCENT = 35
"""Brightness of stripes and dots relative to the object's colour."""

_GRID_Y_Q, _GRID_X_Q = np.mgrid[:IMAGE_SIDE_PX, :IMAGE_SIDE_PX].astype(np.int64) * _Q + _Q // 2
_ROWS, _COLUMNS = np.mgrid[:IMAGE_SIDE_PX, :IMAGE_SIDE_PX].astype(np.int64)
_SCENE = "scene_"


class ScenesSplit(Split):
    """Rendered scenes `first_seed ... first_seed + num_images - 1`."""

    dataset: Literal["scenes"]
    num_images: int = Field(ge=1)
    """How many scenes."""
    first_seed: int = Field(ge=0)
    """Seed of the first scene; a scene is a pure function of its seed."""
    captions: Literal["full", "shape", "colour_shape", "subject"] = "full"
    """The whole caption, or a class name in its place: 4, 20 or 120 classes."""

    def most_images(self) -> int:
        """Return how many scenes it is."""
        return self.num_images

    def first_images(self, count: int) -> Self:
        """Return the settings of its first scenes."""
        return self.model_copy(update={"num_images": min(self.num_images, count)})

    def in_words(self) -> str:
        """Return its seeds, and what stands for captions."""
        whole = f"scenes {self.first_seed}-{self.first_seed + self.num_images - 1}"
        return whole if self.captions == "full" else f"{whole} ({self.captions})"


SPEC = ReaderSpec(
    name="scenes",
    title="rendered scenes",
    settings=ScenesSplit,
    read="sca_bench.data.readers.scenes:read_scenes",
    summary="Rendered scenes whose captions are true by construction; nothing to download",
    class_of="sca_bench.scene_grammar:class_of",
    masks="the renderer",
    revision=scene_grammar.WORLD_VERSION,
    revision_key="world",
    licence="Apache-2.0",
    source="this package",
    example="sca_bench.contract.examples:scenes",
)


@dataclass(frozen=True, slots=True)
class SceneRegion:
    """One object of a scene.

    Attributes:
        box_xyxy: Tight box of the mask in pixels; right and bottom are exclusive edges.
        mask: (96, 96) bool; masks of a scene never touch.
        caption: The one true caption.
        slots: Slot -> word(s), the composite neighbour slot included.
    """

    box_xyxy: BoxXYXY
    mask: NDArray[np.bool_]
    caption: str
    slots: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Scene:
    """A rendered image, (96, 96, 3) uint8 RGB, and its two to four regions."""

    image: NDArray[np.uint8]
    regions: list[SceneRegion]


class _Dice:
    """Integer draws from a stream that never changes."""

    def __init__(self, seed: int) -> None:
        self._bits = np.random.PCG64(seed)

    def integers(self, low: int, high: int, shape: tuple[int, ...]) -> Any:
        """Return draws from `low ... high`, both included (modulo bias below 1e-16)."""
        raw = self._bits.random_raw(math.prod(shape)).reshape(shape)
        return (raw % np.uint64(high - low + 1)).astype(np.int64) + low

    def one(self, low: int, high: int) -> int:
        return low + int(self._bits.random_raw()) % (high - low + 1)

    def pick(self, words: tuple[str, ...]) -> str:
        return words[self.one(0, len(words) - 1)]

    def bytes(self, count: int) -> NDArray[np.uint8]:
        raw = self._bits.random_raw((count + 7) // 8).astype("<u8")
        return raw.view(np.uint8)[:count]


def render_scene(seed: int) -> Scene:
    """Render one scene.

    Args:
        seed: Any non-negative integer; the same seed gives the same bytes everywhere.

    Raises:
        ValueError: The seed is negative.
    """
    dice = _dice(seed)
    objects = _objects(dice)
    image = _background(dice)
    regions = _regions(*objects)
    for subject, region in zip(objects[0], regions, strict=True):
        _paint(dice, image, region.mask, subject)
    return Scene(image.astype(np.uint8), regions)


def scene_regions(seed: int) -> list[SceneRegion]:
    """Return the regions of a scene without its pixels, as `render_scene` does.

    Args:
        seed: Any non-negative integer.

    Raises:
        ValueError: The seed is negative.
    """
    return _regions(*_objects(_dice(seed)))


def _dice(seed: int) -> _Dice:
    if seed < 0:
        raise ValueError(f"scene seed {seed}: must not be negative")
    return _Dice(seed)


_Objects = tuple[list[dict[str, str]], list[int], NDArray[np.int64]]


def _objects(dice: _Dice) -> _Objects:
    """Draw the objects of a scene: what they are, radii, and (O, 2) centres (x, y)."""
    num_objects = dice.one(2, 4)
    while True:
        subjects = [_draw_subject(dice) for _ in range(num_objects)]
        radii_q = [dice.one(*_RADII_Q[subject["size"]]) for subject in subjects]
        centres_q = _place(dice, subjects, radii_q)
        if centres_q is not None:
            return subjects, radii_q, centres_q


def _regions(
    subjects: list[dict[str, str]], radii_q: list[int], centres_q: NDArray[np.int64]
) -> list[SceneRegion]:
    regions = []
    for index, subject in enumerate(subjects):
        mask = _shape_mask(subject["shape"], centres_q[index], radii_q[index])
        slots = scene_grammar.with_composite(subject | _surroundings(index, centres_q, subjects))
        regions.append(
            SceneRegion(_tight_box(mask), mask, scene_grammar.make_caption(slots), slots)
        )
    return regions


def _draw_subject(dice: _Dice) -> dict[str, str]:
    kinds = ("size", "texture", "colour", "shape")
    return {kind: dice.pick(scene_grammar.WORDS[kind]) for kind in kinds}


def _place(
    dice: _Dice, subjects: list[dict[str, str]], radii_q: list[int]
) -> NDArray[np.int64] | None:
    """Return (O, 2) centres (x, y) of the first clear candidate layout, or None if none is.

    The caller then draws new objects: four large ones hardly ever fit, so crowded scenes lean a
    little towards small objects.
    """
    extents = np.array(
        [
            -(-radius * _EXTENT_PERCENT[subject["shape"]] // 100)
            for subject, radius in zip(subjects, radii_q, strict=True)
        ]
    )
    low = extents + _Q
    span = IMAGE_SIDE_PX * _Q - 2 * low + 1
    apart_sq = (extents[:, None] + extents[None, :] + _GAP_Q) ** 2
    raw = dice.integers(0, 2**31 - 1, (_CANDIDATES, len(subjects), 2))
    centres_KO2: NDArray[np.int64] = low[:, None] + raw % span[:, None]
    for first, second in combinations(range(len(subjects)), 2):
        delta = centres_KO2[:, first] - centres_KO2[:, second]
        distance_sq = (delta**2).sum(-1)
        centres_KO2 = centres_KO2[distance_sq >= apart_sq[first, second]]
    if not len(centres_KO2):
        return None
    accepted = centres_KO2[_is_clear(centres_KO2)]
    return accepted[0] if len(accepted) else None


def _is_clear(centres_KO2: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Tell in which layouts every object has one clear nearest object in one clear direction.

    Clear: the second-nearest centre is at least 1.2 times as far as the nearest, and the smaller of
    |dx| and |dy| to the nearest is at most 3/4 of the larger.
    """
    delta = centres_KO2[:, None, :, :] - centres_KO2[:, :, None, :]
    distance_sq = (delta**2).sum(-1)
    distance_sq += _FAR * np.eye(centres_KO2.shape[1], dtype=np.int64)
    nearest = distance_sq.argmin(-1)
    ranked = np.sort(distance_sq, axis=-1)
    is_clear = (100 * ranked[..., 1] >= 144 * ranked[..., 0]).all(-1)
    step = np.abs(np.take_along_axis(delta, nearest[..., None, None], axis=2)[:, :, 0])
    return np.asarray(is_clear & (4 * step.min(-1) <= 3 * step.max(-1)).all(-1))


def _surroundings(
    index: int, centres_q: NDArray[np.int64], subjects: list[dict[str, str]]
) -> dict[str, str]:
    """Return relation, neighbour colour and neighbour shape of one object."""
    distance_sq = ((centres_q - centres_q[index]) ** 2).sum(-1)
    distance_sq[index] = _FAR
    nearest = int(distance_sq.argmin())
    dx, dy = (centres_q[nearest] - centres_q[index]).tolist()
    if abs(dx) > abs(dy):
        relation = "left of" if dx > 0 else "right of"
    else:
        relation = "above" if dy > 0 else "below"
    return {
        "relation": relation,
        "neighbour_colour": subjects[nearest]["colour"],
        "neighbour_shape": subjects[nearest]["shape"],
    }


def _shape_mask(shape: str, centre_q: NDArray[np.int64], radius_q: int) -> NDArray[np.bool_]:
    dx = _GRID_X_Q - centre_q[0]
    dy = _GRID_Y_Q - centre_q[1]
    mask: NDArray[np.bool_]
    if shape == "circle":
        mask = dx**2 + dy**2 <= radius_q**2
    elif shape == "square":
        mask = 100 * np.maximum(np.abs(dx), np.abs(dy)) <= 75 * radius_q
    elif shape == "triangle":
        mask = (1000 * np.abs(dx) <= 577 * (dy + radius_q)) & (2 * dy <= radius_q)
    else:
        near, far = np.minimum(np.abs(dx), np.abs(dy)), np.maximum(np.abs(dx), np.abs(dy))
        mask = (100 * near <= 34 * radius_q) & (far <= radius_q)
    return mask


def _background(dice: _Dice) -> NDArray[np.int64]:
    """Return a grey gradient with a little noise, (96, 96, 3)."""
    side = IMAGE_SIDE_PX
    start, end = dice.one(76, 140), dice.one(76, 140)
    ramp = (_ROWS, _COLUMNS, (_ROWS + _COLUMNS) // 2)[dice.one(0, 2)]
    grey = start + (end - start) * ramp // (side - 1)
    noise = dice.bytes(side * side * 3).astype(np.int64).reshape(side, side, 3) % 17 - 8
    return np.asarray(grey[..., None] + noise)


def _paint(
    dice: _Dice, image: NDArray[np.int64], mask: NDArray[np.bool_], subject: Mapping[str, str]
) -> None:
    """Colour one object in place: a jittered colour, darkened on its stripes or dots."""
    colour = np.array(_RGB[subject["colour"]]) + dice.integers(-_JITTER, _JITTER, (3,))
    shift_x, shift_y = dice.one(0, _PERIOD_PX - 1), dice.one(0, _PERIOD_PX - 1)
    across = bool(dice.one(0, 1))
    column, row = (_COLUMNS + shift_x) % _PERIOD_PX, (_ROWS + shift_y) % _PERIOD_PX
    image[mask] = colour
    if subject["texture"] == "striped":
        image[mask & ((row if across else column) < _PERIOD_PX // 2)] = (
            colour * _DARK_PERCENT // 100
        )
    elif subject["texture"] == "dotted":
        image[mask & (row < _PERIOD_PX // 2) & (column < _PERIOD_PX // 2)] = (
            colour * _DARK_PERCENT // 100
        )


def _tight_box(mask: NDArray[np.bool_]) -> BoxXYXY:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (
        float(columns[0]),
        float(rows[0]),
        float(columns[-1] + 1),
        float(rows[-1] + 1),
    )


def read_scenes(split: ScenesSplit) -> RegionSet:
    """Return the regions of a range of scenes; pixels are rendered whenever asked for.

    Args:
        split: The range of seeds.

    Returns:
        Images `scene_SEED`, regions `scene_SEED_NUMBER`, each with its mask, and the grammar slots
        that its caption (or the class name in its place) fills.
    """
    images: dict[str, ImageRecord] = {}
    regions: list[Region] = []
    last = split.first_seed + split.num_images - 1
    for seed in range(split.first_seed, last + 1):
        image_id = f"{_SCENE}{seed}"
        images[image_id] = ImageRecord(image_id, IMAGE_SIDE_PX, IMAGE_SIDE_PX)
        regions += [
            Region(
                region_id=f"{image_id}_{number}",
                image_id=image_id,
                box_xyxy=region.box_xyxy,
                references=(caption,),
                slots=slots,
                segmentation=json.dumps(encode_mask(region.mask)),
            )
            for number, region in enumerate(scene_regions(seed))
            for caption, slots in [_caption_and_slots(region, split.captions)]
        ]
    name = f"scenes {split.first_seed}-{last}"
    return RegionSet(name, images, tuple(regions), loader=_render_image, task=split.task)


def _caption_and_slots(region: SceneRegion, captions: str) -> tuple[str, Mapping[str, str]]:
    """Return a region's caption, or the class name in its place, with the slots that it fills."""
    if captions == "full":
        return region.caption, region.slots
    return scene_grammar.class_name(region.slots, captions)


def _render_image(record: ImageRecord) -> NDArray[np.uint8]:
    return render_scene(int(record.image_id.removeprefix(_SCENE))).image
