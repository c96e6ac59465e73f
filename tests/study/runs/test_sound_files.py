"""What tells a sound file of weights, or a checkpoint, from a damaged one, byte by byte."""

import errno
import hashlib
import io
import json
import struct
import zipfile

import numpy as np
import pytest
from safetensors.numpy import load, save

from sca_bench.errors import InputError
from sca_bench.study.runs import soundness
from sca_bench.study.runs.soundness import (
    Damaged,
    check_checkpoint,
    check_weights,
    is_set_aside,
    run_name,
    seal_checkpoint,
    seal_weights,
    set_aside,
    unusable,
)

RUN = "abc/seed-7"
TENSORS = {"b": np.arange(3.0, dtype=np.float32), "a": np.ones((2, 2), np.float16)}


def header_of(content):
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def with_header(entries, data):
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.fixture
def sealed():
    return b"".join(seal_weights(save(TENSORS), RUN))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "trainable.safetensors"


# --- weights ----------------------------------------------------------------------------------


def test_sealed_weights_say_whose_they_are_and_what_they_hold(sealed, path):
    entries, data = header_of(sealed)
    assert struct.unpack("<Q", sealed[:8])[0] % 8 == 0  # as safetensors aligns its data
    metadata = entries.pop("__metadata__")
    plain, same = header_of(save(TENSORS, {"format": "pt"}))
    plain.pop("__metadata__")
    assert (entries, data) == (plain, same)
    text = json.dumps([RUN, entries], sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(text + data).hexdigest()
    assert metadata == {"sca_bench.sha256": digest, "sca_bench.run": RUN}
    assert {name: value.tolist() for name, value in load(sealed).items()} == {
        name: value.tolist() for name, value in TENSORS.items()
    }
    path.write_bytes(sealed)
    for run in ("", RUN):
        assert check_weights(path, run)
        assert check_weights(path, run, thorough=False)
    again = b"".join(seal_weights(sealed, RUN))  # a seal over a seal
    assert again == sealed
    with pytest.raises(Damaged, match="it holds the weights of abc/seed-7, not of abc/seed-8"):
        check_weights(path, "abc/seed-8")


def test_only_a_thorough_look_reads_the_data(sealed, path):
    path.write_bytes(sealed[:-1] + bytes([sealed[-1] ^ 1]))
    assert check_weights(path, RUN, thorough=False)
    with pytest.raises(Damaged, match=r"^its content does not fit its checksum$"):
        check_weights(path, RUN)


def test_large_data_are_read_block_by_block(path, monkeypatch):
    monkeypatch.setattr(soundness, "_BLOCK", 7)
    path.write_bytes(b"".join(seal_weights(save({"a": np.arange(50.0)}), RUN)))
    assert check_weights(path, RUN)
    content = path.read_bytes()
    path.write_bytes(content[:-20] + b"\1" + content[-19:])
    with pytest.raises(Damaged):
        check_weights(path, RUN)


def test_weights_of_older_runs_have_no_digest(path):
    path.write_bytes(save(TENSORS))
    assert not check_weights(path, RUN)
    path.write_bytes(save(TENSORS, {"format": "pt"}))
    assert not check_weights(path, RUN)
    path.write_bytes(save({}))
    assert not check_weights(path)


def test_headers_that_are_damaged(sealed, path):
    entries, data = header_of(sealed)
    metadata = entries["__metadata__"]
    tensors = {key: value for key, value in entries.items() if key != "__metadata__"}

    def said(content):
        path.write_bytes(content)
        with pytest.raises(Damaged) as caught:
            check_weights(path, RUN, thorough=False)
        return str(caught.value)

    for key in metadata:
        half = {name: text for name, text in metadata.items() if name != key}
        assert said(with_header({"__metadata__": half, **tensors}, data)) == "its header is damaged"
    for wrong in ({"n": 1}, ["x"], "x", {"n": None}):
        damaged = with_header({"__metadata__": wrong, **tensors}, data)
        assert said(damaged) == "its header is damaged"
    for wrong in ({}, {"data_offsets": [0]}, {"data_offsets": ["a", "b"]}, 3, None):
        damaged = with_header({"__metadata__": metadata, "a": wrong}, data)
        assert said(damaged) == "its header is damaged"
    for content in (b"[]", b"3", b"{", b"\xff\xfe"):
        assert said(struct.pack("<Q", len(content)) + content) == "its header is damaged"
    assert said(b"") == "it is torn"
    assert said(sealed[:7]) == "it is torn"
    assert said(sealed[:8]) == "it is torn"
    size = len(data)
    assert said(sealed[:-1]) == f"it is torn: {size - 1} of {size} bytes of data"
    assert said(sealed + b"1") == f"it is torn: {size + 1} of {size} bytes of data"
    end = f"it is torn: {size} of 1,234,567 bytes of data"
    tensors["a"]["data_offsets"][1] = 1_234_567
    assert said(with_header({"__metadata__": metadata, **tensors}, data)) == end


def test_no_header_is_longer_than_the_library_takes(sealed, path, monkeypatch):
    length = struct.unpack("<Q", sealed[:8])[0]
    path.write_bytes(sealed)
    monkeypatch.setattr(soundness, "_LONGEST_HEADER", length)
    assert check_weights(path)
    monkeypatch.setattr(soundness, "_LONGEST_HEADER", length - 1)
    with pytest.raises(Damaged, match=r"^it is torn$"):
        check_weights(path)
    path.write_bytes(sealed[: 8 + length])
    monkeypatch.setattr(soundness, "_LONGEST_HEADER", length)
    with pytest.raises(Damaged, match="it is torn: 0 of "):
        check_weights(path)


def test_what_is_no_file_was_never_written(path):
    with pytest.raises(FileNotFoundError):
        check_weights(path)
    path.mkdir()
    for check in (check_weights, check_checkpoint):
        with pytest.raises(Damaged, match=r"^it is no regular file \(a folder\)$"):
            check(path)


# --- checkpoints ------------------------------------------------------------------------------


ENDING = b"PK\5\6" + struct.pack("<4H2LH", 0, 0, 1, 1, 46, 0, 0)
"""Of a zip file with one entry, whose description is none."""


def zipped(comment=b""):
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as made:
        made.writestr("archive/data.pkl", b"numbers" * 9)
        made.comment = comment
    return held.getvalue()


def test_a_sealed_checkpoint_is_a_zip_whose_comment_says_whose_it_is(path):
    held = io.BytesIO(zipped())
    seal_checkpoint(held, RUN)
    content = held.getvalue()
    path.write_bytes(content)
    with zipfile.ZipFile(path) as opened:
        comment = opened.comment
        assert opened.read("archive/data.pkl") == b"numbers" * 9
    digest = hashlib.sha256(RUN.encode() + content[: -len(comment)]).hexdigest()
    assert comment == f"sca_bench sha256={digest} run={RUN}".encode()
    assert check_checkpoint(path)
    assert check_checkpoint(path, RUN)
    with pytest.raises(Damaged, match=r"^it is a checkpoint of abc/seed-7, not of other/seed-0$"):
        check_checkpoint(path, "other/seed-0")
    for place in (0, len(content) // 2, len(content) - len(comment) - 1):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(Damaged, match=r"^its content does not fit its checksum$"):
            check_checkpoint(path, RUN)


def test_checkpoints_are_read_block_by_block(path, monkeypatch):
    for block in (1, 7, 10_000):
        monkeypatch.setattr(soundness, "_BLOCK", block)
        held = io.BytesIO(zipped())
        seal_checkpoint(held, RUN)
        path.write_bytes(held.getvalue())
        assert check_checkpoint(path, RUN)


def test_checkpoints_of_older_runs_are_checked_as_zip_files(path):
    path.write_bytes(zipped())
    assert not check_checkpoint(path, RUN)
    content = zipped()
    for damaged, said in (
        (content[:-1], "^it is torn, or no checkpoint$"),
        (content[:-30], "^it is torn, or no checkpoint$"),
        (b"", "^it is torn, or no checkpoint$"),
        (zipped(b"some other program's"), "^it is torn, or no checkpoint$"),
        (b"x" * 46 + ENDING, r"^it is torn, or no checkpoint \(.+\)$"),
        (content.replace(b"numbers", b"NUMBERS", 1), "^archive/data.pkl in it does not fit its ch"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(Damaged, match=said):
            check_checkpoint(path, RUN)


# --- what becomes of them ---------------------------------------------------------------------


def test_a_damaged_file_is_set_aside_until_another_takes_its_place(path):
    assert not is_set_aside(path)
    path.write_bytes(b"1")
    aside = set_aside(path)
    assert aside == path.with_name("trainable.safetensors.damaged")
    assert aside.read_bytes() == b"1"
    assert is_set_aside(path)
    path.write_bytes(b"2")
    assert not is_set_aside(path)
    assert run_name(path.parent / "abc" / "seed-7") == RUN


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("first\nsecond"), "ValueError: first"),
        (ValueError(""), "ValueError: no reason given"),
        (KeyError(), "KeyError: no reason given"),
        (MemoryError(), "MemoryError: no reason given"),
        (OSError(errno.EIO, "Input/output error"), "OSError: EIO, Input/output error"),
        (OSError(98765, "Odd"), "OSError: 98765, Odd"),
        (OSError("plain"), "OSError: plain"),
        (InputError("a", "b", "c"), "InputError: a: b: c"),
    ],
)
def test_what_cannot_be_read_now_is_kept_and_said(path, error, said):
    path.write_bytes(b"1")
    kept = "nothing was deleted, run again once that is put right"
    assert unusable(path, error) == f"{path}: cannot be read ({said}); {kept}"
    assert path.read_bytes() == b"1"
    line = f"{path}: damaged: torn; set aside as {path.name}.damaged, run again"
    assert unusable(path, Damaged("torn")) == line
    assert is_set_aside(path)
