"""Files of others: what is no regular file, too large, no text or no JSON is one line."""

import json
import os
import re
import socket

import pytest

from sca_bench.errors import InputError
from sca_bench.reading import (
    MOST_LEVELS,
    RECORD_BYTES,
    find_no_text,
    open_regular,
    parse_json,
    read_bytes,
    read_json,
    read_jsonl,
    read_lines,
    read_text,
    shown,
    shown_text,
)


@pytest.fixture
def no_file(tmp_path, request, monkeypatch):
    """Return a path that is something else than a file."""
    path = tmp_path / "x"
    if request.param == "pipe":
        os.mkfifo(path)
    elif request.param == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            monkeypatch.chdir(tmp_path)  # a socket's name is short
            bound.bind("x")
    elif request.param == "folder":
        path.mkdir()
    else:
        path.symlink_to(request.param)
    return path


@pytest.mark.parametrize("no_file", ["pipe", "socket", "folder", "/dev/zero"], indirect=True)
@pytest.mark.parametrize(
    "read",
    [
        lambda path: open_regular(path, "paths.a"),
        lambda path: read_bytes(path, 10, "paths.a"),
        lambda path: read_text(path, 10, "paths.a"),
        lambda path: read_json(path, 10, "paths.a"),
        lambda path: list(read_lines(path, 10, "paths.a")),
    ],
)
def test_only_a_regular_file_is_opened(no_file, read):
    with pytest.raises(InputError, match=r"x: paths\.a: is no regular file \(a "):
        read(no_file)


@pytest.mark.parametrize("name", ["a\0b", "\ud800"])
def test_what_can_be_no_name_is_said(name):
    with pytest.raises(InputError, match=r"is no file name"):
        read_bytes(name, 10)


def test_a_missing_file_stays_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_bytes(tmp_path / "x", 10)


def test_a_file_beyond_its_limit_is_not_read(tmp_path):
    path = tmp_path / "x"
    with path.open("wb") as handle:
        handle.truncate(2**40)
    for read in (read_bytes, read_json, lambda *a: list(read_lines(*a))):
        with pytest.raises(InputError, match=r"holds 1024 GiB; a file of its kind .* 64 MiB"):
            read(path, RECORD_BYTES)


def test_a_file_that_says_nothing_of_its_size_is_limited_too():
    assert read_bytes("/proc/self/maps", RECORD_BYTES)
    with pytest.raises(InputError, match=r"may hold 100 bytes"):
        read_bytes("/proc/self/maps", 100)


def test_bytes_that_are_no_text_are_found_by_line(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"\xef\xbb\xbf{}\n{}\n\xff\n")
    for read in (read_text, read_json, lambda *a: list(read_lines(*a)), read_jsonl):
        with pytest.raises(InputError, match=r"x: line [13]: .*0xFF is not UTF-8|line 1: is not"):
            read(path, 100)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-32"])
def test_json_is_read_in_the_encodings_that_it_may_have(tmp_path, encoding):
    path = tmp_path / "x"
    path.write_bytes('{"a": "é"}'.encode(encoding))
    assert read_json(path, 100) == {"a": "é"}


@pytest.mark.parametrize(
    "text", ["[" * 10**7, '{"a":' * 10**6, '["[", ' * 10**5, "[" * 101 + "]" * 101]
)
def test_deep_json_is_refused(text):
    with pytest.raises(InputError, match=r"f: line 7: is nested more than 100 levels deep"):
        parse_json(text, "f", "line 7")


def test_what_only_looks_deep_is_read():
    deepest = "[" * MOST_LEVELS + "]" * MOST_LEVELS
    for text in (deepest, json.dumps("[{" * 10**5), json.dumps([[{}]] * 1000)):
        assert json.dumps(parse_json(text, "f")) == text


def test_numbers_that_python_does_not_read_are_found_by_line():
    with pytest.raises(InputError, match=r"f: line 2: a number of 5,000 digits \(1234512345"):
        parse_json('{"a":\n' + "12345" * 1000 + "}", "f")


@pytest.mark.parametrize("text", ["", "[1,", "[1]\0", "{'a': 1}", "[1] 2", "\ufeff[1]"])
def test_what_is_no_json_is_found_by_line_and_column(text):
    with pytest.raises(InputError, match=r"f: line 1 column \d+: is not JSON: "):
        parse_json(text, "f")
    with pytest.raises(InputError, match=r"f: line 9: is not JSON: .* \(column \d+\)"):
        parse_json(text, "f", "line 9")


def test_a_key_that_stands_twice_is_refused_on_demand():
    text = '[{"a\\u001b": 1, "a\\u001b": 2}]'
    assert parse_json(text, "f") == [{"a\x1b": 2}]
    with pytest.raises(InputError, match=r"f: a\\u001b: stands twice in one object"):
        parse_json(text, "f", unique_keys=True)


def test_json_lines_lose_only_a_torn_last_line(tmp_path):
    path = tmp_path / "x.jsonl"
    for torn in (b'{"a": 2', b'{"a": "\xc3', b'{"a": 2}'):
        path.write_bytes(b'{"a": 1}\r\n\n' + torn)
        assert read_jsonl(path) == [{"a": 1}, {"a": 2}][: 2 if torn.endswith(b"}") else 1]
    for whole in (b"{\n", b"\xc3\n", b"[]\n", b"1e400\n", b"9" * 5000 + b"\n"):
        path.write_bytes(b'{"a": 1}\n' + whole)
        with pytest.raises(InputError, match=r"x\.jsonl: line 2: "):
            read_jsonl(path)


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        (r'{"a": "\ud800"}', "a", r"holds \ud800, half of a character"),
        (r'[{"id": 4, "x": ["", "\udfff b"]}]', "[0].x[1]", r"\udfff, half of a character (id 4)"),
        (r'{"id": "n", "b": {"\ud83d x": 1}}', "b", r"\ud83d, half of a character (id 'n')"),
        (r'[{"image_id": 3, "regions": [{"region_id": 9, "phrase": "\uDBFF"}]}]',
         "[0].regions[0].phrase", r"\udbff, half of a character (region_id 9)"),
        (r'"\ude00\ud83d"', "", r"holds \ude00, half of a character"),
    ],
)  # fmt: skip
def test_half_a_character_is_found_with_its_place(text, key, problem):
    with pytest.raises(InputError, match=re.escape(f"{problem}; write the whole")) as raised:
        parse_json(text, "f")
    assert raised.value.key == key
    with pytest.raises(InputError, match=r"f: line 3: "):
        parse_json(text, "f", "line 3")


@pytest.mark.parametrize("text", [r'{"a": "\ud83d\ude00"}', '{"a": "😀"}', r'["\\ud800"]', "7"])
def test_whole_characters_are_left_alone(text):
    assert parse_json(text, "f") == json.loads(text)


def test_plain_values_of_any_kind_are_looked_through():
    assert find_no_text({"a": (1, None, "x", 2.5, [True])}) is None
    assert find_no_text(("x", "\udc80")).at == (1,)
    endless = ["x"]
    endless.append(endless)
    assert find_no_text(endless) is None
    deep = ["\ud800"]
    for _ in range(10**5):
        deep = [deep]
    assert len(find_no_text(deep).at) == 10**5 + 1


def test_shown_values_are_short_and_plain():
    around = []
    around.append(around)
    for value in ("a\x1b[31m" * 10**6, [["a" * 10**7] * 100], 10**5000, around, {"a": {1: {2}}}):
        assert len(shown(value)) <= 60
        assert shown(value).isprintable()
    assert shown({"a": [1, "b"]}) == '{"a": [1, "b"]}'
    assert shown_text("a\x1b") == r"a\u001b"
