"""Detections at their edges: touching boxes, ties, exact thresholds, and what no file may hold."""

import json

import numpy as np
import pytest

from sca_bench.errors import InputError
from sca_bench.metrics.detection.dense_captions import (
    average_precision,
    dense_captions_map,
    iou_matrix,
    merge_regions,
)
from sca_bench.metrics.detection.detections import (
    DescribedBox,
    Detection,
    read_described_boxes,
    read_detections,
)


def described(name, box, image="1"):
    return DescribedBox(name, image, box, (name,))


def test_iou_of_touching_apart_inside_and_equal_boxes():
    one = np.array([[0.0, 0.0, 10.0, 10.0]])
    others = np.array([
        [0.0, 0.0, 10.0, 10.0],
        [10.0, 0.0, 20.0, 10.0],
        [0.0, 12.0, 10.0, 22.0],
        [20.0, 20.0, 30.0, 30.0],
        [2.0, 4.0, 7.0, 8.0],
        [5.0, 0.0, 15.0, 20.0],
    ])  # fmt: skip
    expected = [1.0, 0.0, 0.0, 0.0, 0.2, 50 / 250]
    assert iou_matrix(one, others)[0].tolist() == pytest.approx(expected)
    assert iou_matrix(others, one)[:, 0].tolist() == pytest.approx(expected)
    assert iou_matrix(one, others).shape == (1, 6)


def test_regions_are_merged_from_an_overlap_of_seven_tenths_on():
    whole, seven, less = (0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 7.0, 10.0), (0.0, 0.0, 6.9, 10.0)
    assert len(merge_regions([described("a", whole), described("b", seven)])) == 1
    assert len(merge_regions([described("a", whole), described("b", less)])) == 2
    assert merge_regions([]) == []


def test_of_equal_neighbours_the_first_region_is_merged_first():
    """In a chain of four each middle one has three near: the second takes the first and third."""
    boxes = [(float(x), 0.0, x + 10.0, 10.0) for x in (0, 1, 2, 3)]
    merged = merge_regions([described(name, box) for name, box in zip("abcd", boxes, strict=True)])
    assert [region.references for region in merged] == [("a", "b", "c"), ("d",)]
    assert [region.box_xyxy for region in merged] == [
        pytest.approx((1.0, 0.0, 11.0, 10.0)),
        pytest.approx((3.0, 0.0, 13.0, 10.0)),
    ]


@pytest.mark.parametrize(
    ("right", "num_regions", "expected"),
    [
        ([], 3, 0.0),
        ([True], 0, 0.0),
        ([False, False], 2, 0.0),
        ([True], 1, 1.0),
        ([True], 2, 0.51),  # the recalls 0, 0.01, ... 0.50
        ([False, True], 1, 0.5),
        ([True, False, True], 2, (51 + 49 * 2 / 3) / 100),
        ([False, True, True], 2, 2 / 3),  # the best precision at a recall or beyond
        ([True] * 7, 100, 0.08),  # 7 of 100 found reach the recall 0.07
    ],
)
def test_average_precision_by_hand(right, num_regions, expected):
    found = average_precision(np.array(right, dtype=bool), num_regions)
    assert found == pytest.approx(expected)


def always(value):
    return lambda references, captions: [value] * len(captions)


def test_a_caption_agrees_by_more_and_a_box_overlaps_by_no_less_than_the_threshold():
    region = described("a", (0.0, 0.0, 10.0, 10.0))
    thirty = Detection("1", (0.0, 0.0, 3.0, 10.0), "x", 1.0)
    found = dense_captions_map([thirty], [region], always(0.25))
    right = {pair for pair, value in found.average_precision.items() if value}
    assert right == {(0.3, agreed) for agreed in (0.0, 0.05, 0.1, 0.15, 0.2)}
    assert found.detection_value == pytest.approx(1 / 5)
    assert found.value == pytest.approx(5 / 30)
    below = Detection("1", (0.0, 0.0, 2.9, 10.0), "x", 1.0)
    assert dense_captions_map([below], [region], always(1.0)).value == 0.0
    nothing = dense_captions_map([thirty], [region], always(0.0))
    assert (nothing.value, nothing.detection_value) == (0.0, pytest.approx(1 / 5))


def test_a_detection_takes_the_region_that_it_overlaps_most_and_of_equal_ones_the_first():
    left, right = described("l", (0.0, 0.0, 10.0, 10.0)), described("r", (10.0, 0.0, 20.0, 10.0))
    asked = []

    def agree(references, captions):
        asked.extend(references)
        return [1.0] * len(captions)

    between = Detection("1", (5.0, 0.0, 15.0, 10.0), "x", 1.0)
    more_right = Detection("1", (6.0, 0.0, 16.0, 10.0), "x", 0.5)
    assert dense_captions_map([between, more_right], [left, right], agree).num_merged == 2
    assert asked == [("l",), ("r",)]


def test_images_are_apart():
    regions = [described("a", (0.0, 0.0, 9.0, 9.0), "1"), described("b", (0.0, 0.0, 9.0, 9.0), "2")]
    both = [Detection(image, (0.0, 0.0, 9.0, 9.0), "x", 0.5) for image in "12"]
    found = dense_captions_map(both, regions, always(1.0))
    assert (found.value, found.num_merged) == (1.0, 2)
    twice = [both[0], both[0]]
    assert dense_captions_map(twice, regions, always(1.0)).value == pytest.approx(0.51)
    assert dense_captions_map([both[0]], [], always(1.0)).value == 0.0


GOOD = {"image_id": 7, "box_xyxy": [0, 0, 10, 10], "caption": "a car", "score": 1}
REGION = {"region_id": 1, "image_id": 7, "box_xyxy": [0, 0.5, 10, 10], "references": ["a car"]}


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_what_is_read(tmp_path):
    path = write(tmp_path / "found.jsonl", GOOD, GOOD | {"score": -0.5, "caption": "", "more": 1})
    box = (0.0, 0.0, 10.0, 10.0)
    assert read_detections(path) == [
        Detection("7", box, "a car", 1.0),
        Detection("7", box, "", -0.5),
    ]
    assert read_detections(write(tmp_path / "none.jsonl")) == []
    path = write(tmp_path / "regions.jsonl", REGION, REGION | {"region_id": "2"})
    first, second = read_described_boxes(path)
    assert first == DescribedBox("1", "7", (0.0, 0.5, 10.0, 10.0), ("a car",))
    assert second.region_id == "2"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"box_xyxy": [0, 0, 0, 10]}, "line 2: box_xyxy: .* has no area"),
        ({"box_xyxy": [0, 0, 10, 0]}, "line 2: box_xyxy: .* has no area"),
        ({"box_xyxy": [10, 0, 0, 10]}, "line 2: box_xyxy: .* has no area"),
        ({"box_xyxy": [0, 0, 10]}, "line 2: box_xyxy: is .*, expected four finite"),
        ({"box_xyxy": [0, 0, 10, 10, 1]}, "line 2: box_xyxy: is .*, expected four finite"),
        ({"box_xyxy": [0, 0, 10, True]}, "line 2: box_xyxy: is .*, expected four finite"),
        ({"box_xyxy": [0, 0, 10, "9"]}, "line 2: box_xyxy: is .*, expected four finite"),
        ({"box_xyxy": "0 0 1 1"}, "line 2: box_xyxy: is .*, expected four finite"),
        ({"score": True}, "line 2: score: is .*, expected a finite number"),
        ({"score": None}, "line 2: score: is .*, expected a finite number"),
        ({"caption": 3}, "line 2: caption: is .*, expected a string"),
        ({"image_id": 1.5}, "line 2: image_id: "),
    ],
)
def test_what_no_detection_is(tmp_path, change, said):
    with pytest.raises(InputError, match=said):
        read_detections(write(tmp_path / "found.jsonl", GOOD, GOOD | change))


@pytest.mark.parametrize("key", GOOD)
def test_a_detection_lacks_nothing(tmp_path, key):
    record = {name: value for name, value in GOOD.items() if name != key}
    with pytest.raises(InputError, match=f"line 1: {key}: is missing"):
        read_detections(write(tmp_path / "found.jsonl", record))


@pytest.mark.parametrize("key", REGION)
def test_a_region_lacks_nothing(tmp_path, key):
    record = {name: value for name, value in REGION.items() if name != key}
    with pytest.raises(InputError, match=f"line 2: {key}: is missing"):
        read_described_boxes(write(tmp_path / "regions.jsonl", REGION | {"region_id": 9}, record))


def test_regions_are_some_and_each_has_its_own_id(tmp_path):
    with pytest.raises(InputError, match="holds no regions"):
        read_described_boxes(write(tmp_path / "regions.jsonl"))
    with pytest.raises(InputError, match="line 2: region_id: '1' appears twice"):
        read_described_boxes(write(tmp_path / "regions.jsonl", REGION, REGION))
    with pytest.raises(InputError, match="line 2: is a number, expected an object"):
        read_described_boxes(write(tmp_path / "regions.jsonl", REGION, 3))
