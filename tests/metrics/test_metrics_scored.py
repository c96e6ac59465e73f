"""What becomes of a computation's values: checked, signed, kept by region; parts and boxes."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sca_bench.errors import InputError, NotComputed
from sca_bench.metrics import score as score_module
from sca_bench.metrics.caption_text.similarity import crop
from sca_bench.metrics.image_folder import FolderImages
from sca_bench.metrics.protocol import Scored
from sca_bench.metrics.registry import get_metric
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.score import Scorer, ScoreResult, _check_statistics, _Run
from sca_bench.metrics.subsets import MIN_IOU, _iou, _match, subset_rows

ROWS = [
    CaptionRow(str(n), f"i{n}", caption, ("a dog",)) for n, caption in enumerate(("a", " ", "b"))
]
EXACT = get_metric("exact_match")
BLEU = get_metric("bleu_4")
BLEU_STATISTICS = np.array([[4.0, 4, 4, 3, 2, 1, 4, 3, 2, 1]] * 3)


def test_values_of_all_rows_are_kept_by_region_and_others_are_not():
    run = _Run(ROWS, ScoreResult())
    whole = Scored("exact_match", 0.5, [1.0, 0.5, 0.0], ROWS, {"version": "9"}, ("said",))
    part = Scored("exact_match.part", 1.0, [1.0], ROWS[:1], {}, ("said", "more"))
    bare = Scored("exact_match.bare", 1.0, [], ROWS)
    run.add_all(EXACT, [whole, part, bare])
    found = run.result
    assert found.values == {"exact_match": 0.5, "exact_match.part": 1.0, "exact_match.bare": 1.0}
    assert found.per_region == {"exact_match": [1.0, 0.5, 0.0]}
    assert found.notes == ["said", "more"]
    assert found.signatures["exact_match"].version == "9"
    assert found.signatures["exact_match"].num_regions == 3
    assert found.signatures["exact_match.part"].num_regions == 1
    sets = [found.signatures[key].region_set for key in found.values]
    assert sets[0] == sets[2] != sets[1]
    assert found.statistics == {}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_value_that_is_no_number_is_refused(bad):
    for one in (Scored("m", bad, [0.0] * 3, ROWS), Scored("m", 0.0, [0.0, bad, 0.0], ROWS)):
        with pytest.raises(NotComputed, match="m: the scorer gave a value that is no number"):
            _Run(ROWS, ScoreResult()).add_all(EXACT, [one])


def test_statistics_are_kept_by_the_name_of_their_computation():
    run = _Run(ROWS, ScoreResult())
    one = Scored("bleu_4", 1.0, [1.0] * 3, ROWS, statistics=BLEU_STATISTICS)
    run.add_all(BLEU, [one, replace(one, key="bleu_4.part", rows=ROWS[:2], per_region=[1.0] * 2)])
    assert list(run.result.statistics) == [BLEU.statistics_name]
    assert run.result.statistics[BLEU.statistics_name].shape == (3, 10)


def test_statistics_must_give_the_value():
    one = Scored("bleu_4", 1.0, [1.0] * 3, ROWS, statistics=BLEU_STATISTICS)
    _check_statistics(BLEU, one)
    _check_statistics(BLEU, replace(one, value=1 + 5e-7))
    _check_statistics(EXACT, replace(one, statistics=None))
    for change, said in (
        ({"value": 1 + 1.5e-6}, "gives 1 of all regions' statistics"),
        ({"value": 1.01}, "gives 1 of all regions' statistics, and .* 1.01"),
        ({"statistics": BLEU_STATISTICS[:2]}, r"gave statistics \(2, 10\) and 3 values"),
        ({"statistics": BLEU_STATISTICS[0]}, r"gave statistics \(10,\)"),
        ({"per_region": [1.0]}, "and 1 values of regions for 3 rows"),
        ({"statistics": BLEU_STATISTICS[:, :9]}, " raised "),
    ):
        with pytest.raises(NotComputed, match=said):
            _check_statistics(BLEU, replace(one, **change))
    with pytest.raises(NotComputed, match="gave statistics, and names none"):
        _check_statistics(EXACT, one)


def test_parts_stand_under_their_name_without_regions_and_numbers_of_objects():
    signed = EXACT.sign("exact_match", ROWS)
    part = ScoreResult(
        values={"exact_match": 0.5, "slot_by_objects/2/colour": 1.0, "meteor": None},
        per_region={"exact_match": [0.5]},
        signatures={"exact_match": signed, "slot_by_objects/2/colour": signed},
        not_computed={"meteor": "no Java"},
        notes=["few"],
    )
    whole = ScoreResult(values={"exact_match": 1.0}, notes=["all"])
    whole.add_part("first", part)
    assert whole.values == {"exact_match": 1.0, "first/exact_match": 0.5, "first/meteor": None}
    assert whole.per_region == {}
    assert list(whole.signatures) == ["first/exact_match"]
    assert whole.signatures["first/exact_match"].metric == "first/exact_match"
    assert whole.not_computed == {"first/meteor": "no Java"}
    assert whole.notes == ["all", "first: few"]
    shown = whole.to_dict()
    assert list(shown) == ["values", "signatures", "not_computed", "notes"]
    signature = whole.signatures["first/exact_match"]
    expected = {**signature.to_dict(), "short": signature.short()}
    assert shown["signatures"] == {"first/exact_match": expected}


def test_rows_without_words_are_counted():
    with Scorer() as scorer:
        found = scorer.score(ROWS, ["exact_match"])
        assert found.notes == ["1 of 3 captions are empty"]
        assert scorer.score(ROWS[:1], ["exact_match"]).notes == []
        assert list(scorer.score(ROWS, ["vocabulary_size", "exact_match"]).values) == [
            "vocabulary_size",
            "exact_match",
        ]
        assert scorer.meteor_pid is None


def test_what_takes_long_is_begun_first_and_computed_last(monkeypatch):
    seen = []
    specs = {
        "slow": replace(EXACT, name="slow", prepare="here:begin"),
        "quick": replace(EXACT, name="quick"),
    }

    def found(address):
        if address == "here:begin":
            return lambda context: seen.append(f"begin {context.name}")
        return lambda rows, context: (
            seen.append(context.name) or [Scored(context.name, 1.0, [1.0] * 3, rows)]
        )

    monkeypatch.setattr(score_module, "attribute", found)
    monkeypatch.setattr(score_module, "get_metric", specs.__getitem__)
    with Scorer() as scorer:
        result = scorer.score(ROWS, ["slow", "quick"])
    assert seen == ["begin slow", "quick", "slow"]
    assert list(result.values) == ["quick", "slow"]


# --- boxes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "iou"),
    [
        ((0, 0, 10, 10), (0, 0, 10, 10), 1.0),
        ((0, 0, 10, 10), (0, 0, 9, 10), 0.9),
        ((0, 0, 10, 10), (10, 0, 20, 10), 0.0),
        ((0, 0, 10, 10), (0, 10, 10, 20), 0.0),
        ((0, 0, 10, 10), (20, 20, 30, 30), 0.0),
        ((0, 0, 10, 10), (5, 5, 15, 15), 25 / 175),
        ((0, 0, 4, 2), (1, 0, 3, 8), 4 / 20),
        ((-4, -4, 0, 0), (-2, -4, 2, 0), 8 / 24),
        ((0, 0, 0.5, 0.5), (0, 0.25, 0.5, 0.5), 0.5),
    ],
)
def test_iou_of_two_boxes(a, b, iou):
    assert _iou(a, b) == pytest.approx(iou) == _iou(b, a)


def boxed(name, box, *references):
    return CaptionRow(name, "i", "said", references or ("x",), box_xyxy=box)


WANTED = (0.0, 0.0, 10.0, 10.0)


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        ([boxed("a", (0.0, 0.0, 9.0, 10.0))], "a"),  # at least nine tenths
        ([boxed("a", (0.0, 0.0, 8.9, 10.0))], None),
        ([boxed("a", None)], None),
        ([boxed("a", (0.0, 0.0, 9.5, 10.0)), boxed("b", WANTED)], "b"),
        ([boxed("a", WANTED), boxed("b", (0.0, 0.0, 9.5, 10.0), "Y")], "a"),
        ([boxed("a", WANTED), boxed("b", WANTED)], "a"),  # of equal ones the first
        ([boxed("a", WANTED), boxed("b", WANTED, "z", " Y ")], "b"),  # that has its caption
        ([boxed("a", WANTED, "y"), boxed("b", WANTED, "y")], "a"),
        ([], None),
    ],
)
def test_the_row_that_an_annotation_means(rows, name):
    assert MIN_IOU == 0.9
    found = _match(rows, WANTED, "y")
    assert (found and found.region_id) == name
    if found:
        assert (found.references, found.caption) == (("y",), "said")


def test_ids_of_another_set_are_counted(tmp_path):
    path = tmp_path / "ids"
    path.write_text("0\n7\n8\n")
    with pytest.raises(InputError, match="7: 2 of 3 regions are not in the predictions"):
        subset_rows(ROWS, path)
    path.write_text("2\n0\n")
    assert [row.region_id for row in subset_rows(ROWS, path)] == ["2", "0"]


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((1.2, 0.0, 2.1, 2.9), (0, 3, 1, 3)),  # corners go outwards
        ((1.0, 0.0, 3.0, 2.0), (0, 2, 1, 3)),
        ((-5.0, -5.0, 99.0, 99.0), (0, 4, 0, 6)),
        ((2.0, 1.0, 2.0, 1.0), (1, 2, 2, 3)),  # one pixel at least
        ((9.0, 9.0, 12.0, 12.0), (3, 4, 5, 6)),  # the last one, from outside
        ((-9.0, -9.0, -3.0, -3.0), (0, 1, 0, 1)),
    ],
)
def test_a_box_cut_out_of_an_image(box, expected):
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    top, bottom, left, right = expected
    assert np.array_equal(crop(image, box), image[top:bottom, left:right])


@pytest.mark.parametrize(
    ("boxes", "shape"),
    [
        ([], (20, 10, 3)),  # upright
        ([(0.0, 0.0, 10.0, 20.0)], (20, 10, 3)),
        ([(0.0, 0.0, 20.0, 10.0)], (10, 20, 3)),  # as it is stored, which alone holds the box
        ([(0.0, 0.0, 20.0, 5.0), (0.0, 0.0, 5.0, 10.0)], (10, 20, 3)),
        ([(0.0, 0.0, 5.0, 5.0), None], (20, 10, 3)),
    ],
)
def test_a_picture_on_its_side_is_read_as_its_boxes_say(tmp_path, boxes, shape):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned
    Image.new("RGB", (20, 10)).save(tmp_path / "one.jpg", exif=exif)
    rows = [CaptionRow(str(n), "one", "", ("x",), box_xyxy=box) for n, box in enumerate(boxes)]
    source = FolderImages(tmp_path, [*rows, CaptionRow("o", "other", "", ("x",), box_xyxy=WANTED)])
    assert source.notes() == []
    assert source("one").shape == shape
    assert len(source.notes()) == 1
    assert source.notes()[0].startswith("images: ")


@pytest.mark.parametrize(
    ("boxes", "shape"),
    [
        ([(0.0, 0.0, 10.0, 20.0)], (20, 10, 3)),  # as it is stored
        ([(0.0, 0.0, 20.0, 10.0)], (10, 20, 3)),
        ([(0.0, 0.0, 5.0, 20.0), (0.0, 0.0, 10.0, 5.0)], (20, 10, 3)),
        ([(0.0, 0.0, 10.0, 5.0), (0.0, 0.0, 5.0, 20.0)], (20, 10, 3)),
        ([(0.0, 0.0, 5.0, 11.0)], (20, 10, 3)),  # its height alone tells
        ([(0.0, 0.0, 5.0, 5.0)], (10, 20, 3)),
    ],
)
def test_a_tall_picture_on_its_side(tmp_path, boxes, shape):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (10, 20)).save(tmp_path / "one.jpg", exif=exif)
    rows = [CaptionRow(str(n), "one", "", ("x",), box_xyxy=box) for n, box in enumerate(boxes)]
    assert FolderImages(tmp_path, rows)("one").shape == shape


@pytest.mark.parametrize("name", ["../one", "/one", "a/../../one"])
def test_no_image_is_read_from_outside(tmp_path, name):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "one.png")
    source = FolderImages(tmp_path / "images")
    with pytest.raises(InputError):
        source(name)
    with pytest.raises(InputError, match=r"no such image \(tried two.jpg, two.jpeg, two.png, "):
        source("two")
    with pytest.raises(InputError, match="is no folder"):
        FolderImages(tmp_path / "one.png")


@pytest.mark.parametrize("name", ["one.png", "one", "in/one", "in/one.png"])
def test_an_image_is_found_with_and_without_its_ending(tmp_path, name):
    for folder, side in ((tmp_path, 2), (tmp_path / "in", 3)):
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (side, side)).save(folder / "one.png")
    assert FolderImages(tmp_path)(name).shape[0] == (3 if name.startswith("in/") else 2)


def test_what_a_metric_raises_that_nobody_foresaw_is_a_reason_with_its_kind(monkeypatch):
    def computed(spec, rows, context):
        raise (
            NotComputed("as foreseen") if spec.name == "macro_recall" else ZeroDivisionError("by 0")
        )

    monkeypatch.setattr(score_module, "_computed", computed)
    with Scorer() as scorer:
        found = scorer.score(ROWS, ("exact_match", "macro_recall"))
    assert found.values == {"exact_match": None, "macro_recall": None}
    assert found.not_computed == {
        "exact_match": "ZeroDivisionError: by 0",
        "macro_recall": "as foreseen",
    }
