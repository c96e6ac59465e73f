"""Rendered scenes: the same bytes everywhere, and captions that are true of the pixels."""

import hashlib
import random

import numpy as np
import pytest

from sca_bench import scene_grammar
from sca_bench.data.readers.scenes import IMAGE_SIDE_PX, render_scene, scene_regions

SCENES = [render_scene(seed) for seed in range(60)]
REGIONS = [(scene, region) for scene in SCENES for region in scene.regions]


def centre(region):
    """Centre of an object from its box alone: a triangle's lies at two thirds of its height."""
    left, top, right, bottom = region.box_xyxy
    share = 2 / 3 if region.slots["shape"] == "triangle" else 1 / 2
    return np.array([(left + right) / 2, top + share * (bottom - top)])


def test_regions_are_the_same_without_pixels():
    for seed in (0, 7, 100_003, 900_149):
        drawn, alone = render_scene(seed).regions, scene_regions(seed)
        for one, other in zip(drawn, alone, strict=True):
            assert (one.mask == other.mask).all()
            assert (one.box_xyxy, one.caption) == (other.box_xyxy, other.caption)
            assert dict(one.slots) == dict(other.slots)
    with pytest.raises(ValueError, match="must not be negative"):
        scene_regions(-1)


def test_pixels_boxes_and_captions_never_change_unnoticed():
    digest = hashlib.sha256(scene_grammar.WORLD_VERSION.encode())
    for seed in (*range(12), 1_000_000, 2**40):
        scene = render_scene(seed)
        digest.update(scene.image.tobytes())
        for region in scene.regions:
            digest.update(np.packbits(region.mask).tobytes())
            digest.update(f"{region.box_xyxy} {region.caption}".encode())
    assert digest.hexdigest() == "4b0af7c0fd5fcc353ae7bcdb8d5854117cf53874d57585e0ffb42f1da30e0732"


def test_a_scene_depends_on_its_seed_alone():
    np.random.seed(3)
    random.seed(3)
    numpy_state, python_state = np.random.get_state()[1].copy(), random.getstate()
    assert (render_scene(7).image == SCENES[7].image).all()
    assert (render_scene(7).image != render_scene(8).image).any()
    assert (np.random.get_state()[1] == numpy_state).all()
    assert random.getstate() == python_state


def test_types_and_sizes():
    for scene in SCENES:
        assert scene.image.shape == (IMAGE_SIDE_PX, IMAGE_SIDE_PX, 3)
        assert scene.image.dtype == np.uint8
        assert 2 <= len(scene.regions) <= 4
        assert all(region.mask.dtype == bool for region in scene.regions)


def test_masks_do_not_touch_and_boxes_are_tight():
    for scene in SCENES:
        grown_once = np.zeros((IMAGE_SIDE_PX, IMAGE_SIDE_PX), dtype=int)
        for region in scene.regions:
            mask = region.mask
            rows, columns = np.nonzero(mask)
            left, top, right, bottom = region.box_xyxy
            assert (left, top) == (columns.min(), rows.min())
            assert (right, bottom) == (columns.max() + 1, rows.max() + 1)
            grown = mask.copy()
            grown[1:] |= mask[:-1]
            grown[:, 1:] |= mask[:, :-1]
            grown_once += grown
        assert grown_once.max() == 1


def test_captions_say_their_slots():
    for _, region in REGIONS:
        assert region.caption == scene_grammar.make_caption(region.slots)
        assert scene_grammar.parse(region.caption) == dict(region.slots)


def test_the_neighbour_is_clearly_the_nearest_and_lies_where_the_caption_says():
    for scene in SCENES:
        centres = [centre(region) for region in scene.regions]
        for index, region in enumerate(scene.regions):
            steps = [c - centres[index] for i, c in enumerate(centres) if i != index]
            others = [r for i, r in enumerate(scene.regions) if i != index]
            distances = np.array([np.hypot(*step) for step in steps])
            ranked = np.sort(distances)
            assert len(ranked) == 1 or ranked[1] > 1.15 * ranked[0]
            nearest = int(distances.argmin())
            neighbour, (dx, dy) = others[nearest].slots, steps[nearest]
            assert region.slots["neighbour_colour"] == neighbour["colour"]
            assert region.slots["neighbour_shape"] == neighbour["shape"]
            if abs(dx) > abs(dy):
                expected = "left of" if dx > 0 else "right of"
            else:
                expected = "above" if dy > 0 else "below"
            assert region.slots["relation"] == expected


def test_colours_and_textures_are_what_the_pixels_show():
    hues = {"red": 0b100, "green": 0b010, "blue": 0b001, "yellow": 0b110, "purple": 0b101}
    for scene, region in REGIONS:
        pixels = scene.image[region.mask].astype(int)
        brightness = pixels.sum(1)
        bright = pixels[brightness > 0.7 * brightness.max()].mean(0)
        strong = bright > 0.65 * bright.max()
        assert hues[region.slots["colour"]] == int("".join("01"[int(s)] for s in strong), 2)
        dark_share = (brightness < 0.6 * brightness.max()).mean()
        low, high = {"plain": (0, 0), "striped": (0.3, 0.7), "dotted": (0.1, 0.42)}[
            region.slots["texture"]
        ]
        assert low <= dark_share <= high


def test_sizes_are_far_apart():
    heights = {size: [] for size in scene_grammar.SIZES}
    for _, region in REGIONS:
        left, top, right, bottom = region.box_xyxy
        heights[region.slots["size"]].append(max(right - left, bottom - top))
    # A large square's side is 1.5 radii, a small circle's 2.
    assert max(heights["small"]) <= 24
    assert min(heights["large"]) >= 22


def test_every_word_is_used():
    for slot, words in scene_grammar.WORDS.items():
        assert {region.slots[slot] for _, region in REGIONS} == set(words)


def test_a_negative_seed_is_refused():
    with pytest.raises(ValueError, match="-1"):
        render_scene(-1)
