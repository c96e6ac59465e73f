import json

import pytest

from sca_bench.errors import InputError
from sca_bench.metrics.rows import (
    CaptionRow,
    PredictionRow,
    check_rows,
    prediction_line,
    read_references,
    read_rows,
    read_some_rows,
)

GOOD = {"region_id": "r1", "image_id": 7, "caption": "a dog", "references": ["a dog", "dogs"]}


def _write(tmp_path, text, name="rows.jsonl"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_reads_lines(tmp_path):
    second = GOOD | {"region_id": 2, "slots": {"colour": "red"}, "score": 0.5}
    path = _write(tmp_path, json.dumps(GOOD) + "\r\n\n" + json.dumps(second) + "\n")
    assert read_rows(path) == [
        CaptionRow("r1", "7", "a dog", ("a dog", "dogs")),
        CaptionRow("2", "7", "a dog", ("a dog", "dogs"), {"colour": "red"}),
    ]


def test_reads_a_list_and_a_byte_order_mark(tmp_path):
    path = _write(tmp_path, b"\xef\xbb\xbf" + json.dumps([GOOD]).encode(), "rows.json")
    assert [row.region_id for row in read_rows(path)] == ["r1"]


def test_a_raw_line_separator_inside_a_caption_is_no_line_end(tmp_path):
    row = GOOD | {"caption": "a\u2028b\x85c"}
    path = _write(tmp_path, json.dumps(row, ensure_ascii=False) + "\n")
    assert read_rows(path)[0].caption == "a\u2028b\x85c"


SURE = {"log_prob": -0.12345678, "predicted_ious": (0.9, 0.87654321, 0.5), "seconds": 0.00123456}
RECORDED = (
    '{"region_id": "r1", "image_id": "7", "caption": "a dög", "references": ["a dog", "dogs"], '
    '"box_xyxy": [0.0, 1.234, 20.5, 30.0], "log_prob": -0.123457, '
    '"predicted_ious": [0.9, 0.876543, 0.5], "seconds": 0.001235'
)
"""A line as runs have written it from the first release on, without its end."""


@pytest.mark.parametrize(
    ("more", "end"),
    [
        ({}, "}\n"),
        ({"slots": {"colour": "red"}}, ', "slots": {"colour": "red"}}\n'),
        (
            {"slots": {"colour": "red"}, "learnt_from": ("a cat",)},
            ', "slots": {"colour": "red"}, "learnt_from": ["a cat"]}\n',
        ),
    ],
)
def test_what_a_run_writes_is_read_again(tmp_path, more, end):
    box = (0.0, 1.2341, 20.5, 30.0)
    row = PredictionRow("r1", "7", "a dög", ("a dog", "dogs"), box_xyxy=box, **more, **SURE)
    assert prediction_line(row) == RECORDED + end
    (found,) = read_rows(_write(tmp_path, prediction_line(row)))
    rounded = (0.0, 1.234, 20.5, 30.0)
    assert found == CaptionRow("r1", "7", "a dög", ("a dog", "dogs"), box_xyxy=rounded, **more)


def test_rows_stay_small(tmp_path):
    """238,069 regions lie in memory at once: no dictionary each, and no numbers nobody reads."""
    path = _write(tmp_path, "".join(json.dumps(GOOD | {"region_id": n}) + "\n" for n in range(2)))
    first, second = read_rows(path)
    assert not hasattr(first, "__dict__")
    assert first.slots is second.slots


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learnt_from": "a cat"}, "line 2: learnt_from: is a string, expected a list"),
        ({"learnt_from": []}, "line 2: learnt_from: is empty"),
        ({"region_id": None}, "line 2: region_id: is null"),
        ({"region_id": True}, "line 2: region_id: is a boolean"),
        ({"region_id": ""}, "line 2: region_id: is an empty string"),
        ({"image_id": 1.5}, "line 2: image_id: is a number"),
        ({"caption": ["a"]}, "line 2: caption: is a list, expected a string"),
        ({"references": "a dog"}, "line 2: references: is a string, expected a list"),
        ({"references": []}, "line 2: references: is empty"),
        ({"references": ["a", 3]}, r"line 2: references\[1\]: is a number"),
        ({"slots": ["red"]}, "line 2: slots: is a list"),
        ({"slots": {"colour": 3}}, "line 2: slots.colour: is a number"),
        ({}, "line 2: region_id: 'r1' appears twice, first in line 1"),
    ],
)
def test_a_fault_names_line_and_key(tmp_path, change, message):
    changed = GOOD | change
    path = _write(tmp_path, json.dumps(GOOD) + "\n" + json.dumps(changed))
    with pytest.raises(InputError, match=message) as caught:
        read_rows(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["region_id", "image_id", "caption", "references"])
def test_a_missing_key(tmp_path, key):
    record = {name: value for name, value in GOOD.items() if name != key}
    with pytest.raises(InputError, match=f"line 1: {key}: is missing"):
        read_rows(_write(tmp_path, json.dumps(record)))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("rows.jsonl", "", "holds no records"),
        ("rows.json", " \n", "holds no records"),
        ("rows.json", "[]", "holds no records"),
        ("rows.json", "{}", "holds an object, expected a list"),
        ("rows.json", "[3]", "record 1: is a number, expected an object"),
        ("rows.json", '[\n{"a" 1}]', "line 2 column 6: is not JSON"),
        ("rows.jsonl", '{"region_id": }', r"line 1: is not JSON: .* \(column 15\)"),
        ("rows.jsonl", "[" * 100_000, "line 1: is nested more than 100 levels deep"),
        ("rows.jsonl", '"a dog"', "line 1: is a string"),
        ("rows.jsonl", b'{"caption": "\xff"}', "is not UTF-8"),
        ("rows.csv", "a,b", "is neither .jsonl nor .json"),
    ],
)
def test_a_fault_of_the_file(tmp_path, name, text, message):
    with pytest.raises(InputError, match=message):
        read_rows(_write(tmp_path, text, name))


def test_no_file(tmp_path):
    with pytest.raises(InputError, match=r"absent\.jsonl: no such file"):
        read_rows(tmp_path / "absent.jsonl")


def test_rows_made_in_memory_are_checked_too():
    row = CaptionRow("1", "1", "a", ("a",))
    check_rows([row])
    with pytest.raises(InputError, match="nothing to score"):
        check_rows([])
    with pytest.raises(InputError, match="'1' appears twice"):
        check_rows([row, row])
    with pytest.raises(InputError, match="1: references: there are none"):
        check_rows([CaptionRow("1", "1", "a", ())])


# --- ids and texts ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [7, "7", 7.0])
def test_an_id_is_one_id_however_it_is_written(tmp_path, value):
    path = _write(tmp_path, json.dumps(GOOD | {"region_id": value, "image_id": value}))
    assert (read_rows(path)[0].region_id, read_rows(path)[0].image_id) == ("7", "7")


@pytest.mark.parametrize("second", ["7", 7.0])
def test_ids_that_become_equal_are_refused(tmp_path, second):
    lines = [json.dumps(GOOD | {"region_id": value}) for value in (7, second)]
    path = _write(tmp_path, "\n".join(lines))
    with pytest.raises(InputError, match="line 2: region_id: '7' appears twice, first in line 1"):
        read_rows(path)


@pytest.mark.parametrize("value", [7.5, True, None, ""])
def test_what_is_no_id_is_refused(tmp_path, value):
    path = _write(tmp_path, json.dumps(GOOD | {"image_id": value}))
    with pytest.raises(InputError, match=r"image_id: is .*, expected a non-empty string"):
        read_rows(path)


HALF = "\ud83d a cat"


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"caption": HALF}, "caption"),
        ({"references": ["a", HALF]}, r"references\[1\]"),
        ({"slots": {"colour": HALF}}, "slots.colour"),
    ],
)
def test_half_a_character_is_refused_with_its_place(tmp_path, more, key):
    path = _write(tmp_path, json.dumps(GOOD) + "\n" + json.dumps(GOOD | {"region_id": 2} | more))
    line = rf"rows.jsonl: line 2: {key}: holds \\ud83d, half of a character \(region_id 2\)"
    with pytest.raises(InputError, match=line):
        read_rows(path)
    listed = _write(tmp_path, json.dumps([GOOD, GOOD | {"region_id": 2} | more]), "rows.json")
    with pytest.raises(InputError, match=rf"rows.json: \[1\].{key}: holds \\ud83d, half of"):
        read_rows(listed)


def test_what_a_file_lacks_comes_from_another(tmp_path):
    whole = GOOD | {"slots": {"colour": "red"}, "box_xyxy": [1, 2, 3, 4]}
    known = read_references(_write(tmp_path, json.dumps({**whole, "caption": "unread"}), "a.jsonl"))
    bare = {"region_id": "r1", "caption": "a cat"}
    path = _write(tmp_path, json.dumps(bare))
    (row,) = read_rows(path, known)
    refs, slots = ("a dog", "dogs"), {"colour": "red"}
    assert row == CaptionRow("r1", "7", "a cat", refs, slots, (1.0, 2.0, 3.0, 4.0))
    own = _write(tmp_path, json.dumps({**bare, "references": ["a cat"]}), "own.jsonl")
    assert read_rows(own, known)[0].references == ("a cat",)  # its own come first
    with pytest.raises(InputError, match="line 1: image_id: is missing"):
        read_rows(path, {})


def test_references_need_no_caption_and_stand_once(tmp_path):
    line = json.dumps({key: value for key, value in GOOD.items() if key != "caption"}) + "\n"
    assert read_references(_write(tmp_path, line))["r1"].references == ("a dog", "dogs")
    with pytest.raises(InputError, match="'r1' appears twice"):
        read_references(_write(tmp_path, line * 2))
    with pytest.raises(InputError, match="holds no records"):
        read_references(_write(tmp_path, ""))


def test_some_rows_are_those_of_all_rows_without_reading_the_others(tmp_path):
    rows = [{**GOOD, "region_id": f"r{number}"} for number in range(12)]
    lines = [json.dumps(row) + "\n" for row in rows]
    path = _write(tmp_path, "".join(lines))
    every = {row.region_id: row for row in read_rows(path)}
    assert read_some_rows(path, ["r1", "r11"]) == {name: every[name] for name in ("r1", "r11")}
    damaged = _write(tmp_path, "".join([*lines[:3], "{damaged\n", *lines[3:]]))
    assert list(read_some_rows(damaged, ["r1", "r11"])) == ["r1", "r11"]
    with pytest.raises(InputError, match="line 4"):
        read_some_rows(damaged, ["r1", "gone"])  # then all of it is read


def test_some_rows_are_found_however_their_ids_are_spelt(tmp_path):
    number = json.dumps({**GOOD, "region_id": 7})
    escaped = json.dumps({**GOOD, "region_id": "r\u00e9"})
    path = _write(tmp_path, f"{number}\n{escaped}\n")
    assert set(read_some_rows(path, ["7", "r\u00e9"])) == {"7", "r\u00e9"}
