"""Dense captioning mAP against values worked out by hand.

Boxes are 10 px squares at x = 0, 20, 40, ... unless said otherwise. METEOR is a table here, but for
the last test, so every number can be followed on paper. AP counts the recalls 0, 0.01, ... 0.99.
"""

import json

import numpy as np
import pytest

from sca_bench.cli import main
from sca_bench.errors import InputError
from sca_bench.metrics.detection.dense_captions import (
    IOU_THRESHOLDS,
    METEOR_THRESHOLDS,
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
from sca_bench.metrics.score_file import score_detections

METEOR = {"good": 1.0, "fair": 0.12, "poor": 0.0}


def agree(references, captions):
    return [METEOR[caption] for caption in captions]


def square(index):
    return (20.0 * index, 0.0, 20.0 * index + 10.0, 10.0)


def region(index, image="1", name=None):
    return DescribedBox(name or f"{image}.{index}", image, square(index), (f"reference {index}",))


def found(index, caption="good", score=1.0, image="1"):
    return Detection(image, square(index), caption, score)


def map_of(detections, regions):
    return dense_captions_map(detections, regions, agree).value


def test_iou():
    first = np.array([[0.0, 0, 10, 10]])
    others = np.array([[0.0, 0, 10, 10], [5, 0, 15, 10], [5, 5, 15, 15], [10, 0, 20, 10]])
    # 1, 50 of 150, 25 of 175, touching only.
    assert iou_matrix(first, others)[0] == pytest.approx([1, 1 / 3, 1 / 7, 0])


@pytest.mark.parametrize(
    ("right", "num_regions", "expected"),
    [
        ([True], 1, 1.0),
        ([False, True], 1, 0.5),  # precision 1/2 at every recall
        ([True], 2, 0.51),  # recalls 0 ... 0.50 reached with precision 1
        ([True, False, True], 2, (51 + 49 * 2 / 3) / 100),
        ([False, True, True], 2, 2 / 3),  # later precision 2/3 counts at smaller recalls too
        ([True], 100, 0.02),  # recalls 0 and 0.01
        ([True] * 7, 100, 0.08),  # 7 of 100 reach the recall 0.07, despite rounding
        ([False], 1, 0.0),
        ([], 3, 0.0),
        ([True], 0, 0.0),
    ],
)
def test_average_precision(right, num_regions, expected):
    assert average_precision(np.array(right, bool), num_regions) == pytest.approx(expected)


def test_a_perfect_answer_scores_1():
    regions = [region(0), region(1), region(0, "2")]
    detections = [found(0, score=0.2), found(1, score=0.9), found(0, image="2", score=0.5)]
    scores = dense_captions_map(detections, regions, agree)
    assert scores.value == scores.detection_value == pytest.approx(1.0)
    assert set(scores.average_precision) == {
        (i, m) for i in IOU_THRESHOLDS for m in METEOR_THRESHOLDS
    }


def test_a_caption_must_say_more_than_the_threshold():
    # METEOR 0.12 is more than 0, 0.05 and 0.1: three of six thresholds. METEOR 0 is more than none.
    assert map_of([found(0, "fair")], [region(0)]) == pytest.approx(0.5)
    poor = dense_captions_map([found(0, "poor")], [region(0)], agree)
    assert (poor.value, poor.detection_value) == (0.0, pytest.approx(1.0))


def test_a_box_must_overlap_at_least_the_threshold():
    # 10 x 10 against 20 x 10: IoU 0.5 reaches 0.3, 0.4 and 0.5, three of five thresholds.
    wide = Detection("1", (0.0, 0.0, 20.0, 10.0), "good", 1.0)
    assert map_of([wide], [region(0)]) == pytest.approx(0.6)


def test_a_duplicate_is_wrong():
    # Right, wrong: precision 1 up to recall 0.5 of two regions.
    detections = [found(0, score=0.9), found(0, score=0.8)]
    assert map_of(detections, [region(0), region(1)]) == pytest.approx(0.51)
    # The surer one takes the region even where it says the wrong thing.
    detections = [found(0, "poor", score=0.9), found(0, "good", score=0.8)]
    assert map_of(detections, [region(0)]) == 0.0


def test_the_surer_detection_takes_the_region_however_little_it_overlaps():
    barely = Detection("1", (9.0, 0.0, 19.0, 10.0), "good", 0.9)  # IoU 10 / 190
    assert map_of([barely, found(0, score=0.8)], [region(0)]) == 0.0


def test_a_detection_that_overlaps_nothing_takes_nothing():
    # Wrong, right: precision 1/2.
    assert map_of([found(5, score=0.9), found(0, score=0.8)], [region(0)]) == pytest.approx(0.5)


def test_ties_keep_the_order_of_the_file():
    right, wrong = found(0), found(5)
    assert map_of([right, wrong], [region(0)]) == pytest.approx(1.0)
    assert map_of([wrong, right], [region(0)]) == pytest.approx(0.5)


def test_detections_of_all_images_are_ranked_together():
    regions = [region(0), region(0, "2")]
    # Ranked 0.9 wrong (image 2), 0.5 right (image 1): precision 1/2 up to recall 1/2.
    detections = [found(0, score=0.5), found(3, image="2", score=0.9)]
    assert map_of(detections, regions) == pytest.approx(0.51 / 2)


def test_an_image_without_detections_is_missed():
    regions = [region(0), region(0, "empty")]
    assert map_of([found(0)], regions) == pytest.approx(0.51)


def test_no_detections_at_all_need_no_meteor():
    def never(references, captions):
        raise AssertionError("there is nothing to ask")

    assert dense_captions_map([], [region(0)], never).value == 0.0
    assert dense_captions_map([found(5)], [region(0)], never).value == 0.0


def test_regions_that_overlap_are_merged():
    # Shifts of 1 px: IoU 9/11 = 0.82 between neighbours, 8/12 = 0.67 between the outer two. The
    # middle one has most neighbours, so all three are one region.
    boxes = [(0.0, 0.0, 10.0, 10.0), (1.0, 0.0, 11.0, 10.0), (2.0, 0.0, 12.0, 10.0), square(3)]
    regions = [DescribedBox(str(i), "1", box, (f"r{i}",)) for i, box in enumerate(boxes)]
    merged = merge_regions(regions)
    assert [m.references for m in merged] == [("r0", "r1", "r2"), ("r3",)]
    assert merged[0].box_xyxy == pytest.approx((1.0, 0.0, 11.0, 10.0))
    # Their references stand together before METEOR, and they count as one.
    asked = []

    def recording(references, captions):
        asked.extend(zip(references, captions, strict=True))
        return [1.0] * len(captions)

    scores = dense_captions_map([Detection("1", boxes[1], "good", 1.0)], regions, recording)
    assert asked == [(("r0", "r1", "r2"), "good")]
    assert scores.num_merged == 2
    assert scores.value == pytest.approx(0.51)


def test_only_what_can_be_right_is_asked_about():
    asked = []

    def recording(references, captions):
        asked.extend(captions)
        return [1.0] * len(captions)

    detections = [found(0, "first", 0.9), found(0, "second", 0.8), found(5, "off", 0.7)]
    dense_captions_map(detections, [region(0)], recording)
    assert asked == ["first"]


# --- files and the command -------------------------------------------------------------------


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def regions_file(tmp_path):
    rows = [
        {"region_id": 1, "image_id": 7, "box_xyxy": [0, 0, 10, 10], "references": ["a red car"]},
        {"region_id": 2, "image_id": 7, "box_xyxy": [20, 0, 30, 10], "references": ["a dog"]},
    ]
    return write(tmp_path / "regions.jsonl", rows)


DETECTION = {"image_id": 7, "box_xyxy": [0, 0, 10, 10], "caption": "a red car", "score": 0.5}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"score": None}, "line 1: score: is null, expected a finite number"),
        ({"score": float("nan")}, "line 1: score: is a number, expected a finite number"),
        ({"box_xyxy": [0, 0, 10]}, "line 1: box_xyxy: is .0, 0, 10., expected four finite numbers"),
        ({"box_xyxy": [9, 0, 9, 10]}, "line 1: box_xyxy: .* has no area"),
        ({"caption": 3}, "line 1: caption: is a number, expected a string"),
        ({"image_id": ""}, "line 1: image_id: is an empty string"),
    ],
)
def test_a_detection_at_fault_is_named(tmp_path, change, said):
    path = write(tmp_path / "detections.jsonl", [DETECTION | change])
    with pytest.raises(InputError, match=said):
        read_detections(path)


def test_a_missing_key_and_a_region_twice_are_named(tmp_path, regions_file):
    path = write(tmp_path / "detections.jsonl", [{k: DETECTION[k] for k in ("image_id", "score")}])
    with pytest.raises(InputError, match="line 1: box_xyxy: is missing; every record needs"):
        read_detections(path)
    twice = tmp_path / "twice.jsonl"
    twice.write_text(regions_file.read_text() * 2, encoding="utf-8")
    with pytest.raises(InputError, match="line 3: region_id: '1' appears twice"):
        read_described_boxes(twice)


def test_detections_of_other_images_are_refused(tmp_path, regions_file):
    path = write(tmp_path / "detections.jsonl", [DETECTION | {"image_id": 8}])
    with pytest.raises(InputError, match="image_id '8' has no region in"):
        score_detections(path, regions_file)


@pytest.mark.usefixtures("java")
def test_the_command(tmp_path, regions_file, capsys):
    path = write(tmp_path / "detections.jsonl", [DETECTION])
    words = ["score", str(path), "--regions", str(regions_file)]
    assert main([*words, "--metrics", "cider_d"]) == 2
    assert "'cider_d' does not score detections" in capsys.readouterr().err
    assert main([*words, "--metrics", "dense_captions_map"]) == 0
    said = json.loads(capsys.readouterr().out)
    # One of two regions, with METEOR 1.
    assert said["values"] == {"dense_captions_map": pytest.approx(0.51)}
    assert said["detection_map"] == pytest.approx(0.51)
    assert (said["num_regions"], said["num_merged_regions"], said["num_images"]) == (2, 2, 1)
    assert "METEOR" in said["signatures"]["dense_captions_map"]["scorer"]


def test_given_regions_are_no_detections(tmp_path, capsys):
    rows = [{"region_id": 1, "image_id": 7, "caption": "a", "references": ["a"]}]
    path = write(tmp_path / "predictions.jsonl", rows)
    assert main(["score", str(path), "--metrics", "dense_captions_map"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["values"] == {"dense_captions_map": None}
    assert "--regions" in said["not_computed"]["dense_captions_map"]
