"""Rows on disk: whole or not at all, checked before they are believed, safe with many writers."""

import errno
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from sca_bench import files
from sca_bench.engine import writers
from sca_bench.engine.features import shards
from sca_bench.engine.features.shards import DamagedRow, Rows, ShardStore


def rows(count, width=8, start=0.0):
    values = np.arange(count * width, dtype=np.float32).reshape(count, width) + np.float32(start)
    return Rows(values.view(np.uint8).reshape(count, -1), "F32", (width,))


def values(store, keys, name="a"):
    raw, dtype, shape = store.take(keys)[name]
    assert dtype == "F32"
    return raw.view(np.float32).reshape(len(keys), *shape)


def filled(folder, count=6):
    store = ShardStore(folder)
    store.append([f"k{i}" for i in range(count)], {"a": rows(count), "b": rows(count, 2)}, {"n": 1})
    store.refresh()
    return store


def test_rows_come_back_in_the_order_asked_for_and_across_shards(tmp_path):
    store = filled(tmp_path / "s")
    store.append(["other"], {"a": rows(1, start=100), "b": rows(1, 2)}, {"n": 2})
    assert "other" not in store  # not looked for yet
    store.refresh()
    assert len(store) == 7
    found = values(store, ["other", "k2", "k0"])
    assert found[:, 0].tolist() == [100.0, 16.0, 0.0]
    assert store.facts("k3") == {"n": 1}
    assert store.facts("other") == {"n": 2}
    with pytest.raises(KeyError):
        store.take(["nobody"])


def test_a_shard_is_a_safetensors_file(tmp_path):
    store = filled(tmp_path / "s")
    (path,) = store.folder.glob("*.safetensors")
    found = load_file(path)
    assert {name: array.shape for name, array in found.items()} == {"a": (6, 8), "b": (6, 2)}
    assert np.array_equal(found["a"], values(store, [f"k{i}" for i in range(6)]))


def test_a_shard_needs_a_key_for_every_row_and_a_row_for_every_key(tmp_path):
    store = ShardStore(tmp_path / "s")
    for keys, arrays in ((["x", "x"], {"a": rows(2)}), (["x"], {"a": rows(2)})):
        with pytest.raises(ValueError, match="key of its own"):
            store.append(keys, arrays, {})
    assert not (tmp_path / "s").exists()


PLACES = {"first row": 300, "last byte": -1, "header": 12, "length of the header": 0}


@pytest.mark.parametrize("place", PLACES)
def test_a_flipped_byte_of_the_rows_file_is_noticed(tmp_path, place):
    store = filled(tmp_path / "s")
    (path,) = store.folder.glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[PLACES[place]] ^= 1
    path.write_bytes(content)
    again = ShardStore(tmp_path / "s")
    again.verify()
    assert len(again.damaged) == 1
    assert len(again) == 0
    assert list((tmp_path / "s").iterdir()) == []  # it is not there for the next one either


def test_every_flipped_byte_of_the_list_of_rows_is_noticed(tmp_path):
    store = filled(tmp_path / "s", 2)
    (path,) = store.folder.glob("*.json")
    (data,) = store.folder.glob("*.safetensors")
    good, kept = path.read_bytes(), data.read_bytes()
    for place in range(len(good)):
        content = bytearray(good)
        content[place] ^= 2
        path.write_bytes(content)
        data.write_bytes(kept)
        again = ShardStore(tmp_path / "s")
        if len(again):  # white space and the like
            assert json.loads(content) == json.loads(good)
            assert np.array_equal(values(again, ["k1"]), values(store, ["k1"]))
    path.write_bytes(good)
    data.write_bytes(kept)
    assert len(ShardStore(tmp_path / "s")) == 2


@pytest.mark.parametrize(
    ("keys", "checksums"), [(["k0", "k0", "k1"], 2), (["k0", "k0"], 1), (["k0"], 2), (["k0", 1], 2)]
)
def test_a_list_of_rows_has_one_name_and_one_checksum_for_each(tmp_path, keys, checksums):
    """Whoever makes such a list on purpose gives it the checksum that fits."""
    (path,) = filled(tmp_path / "s", 2).folder.glob("*.json")
    body = json.loads(path.read_text())["body"]
    body |= {"keys": keys, "row_crc32": (body["row_crc32"] * 2)[:checksums]}
    path.write_text(json.dumps({"body": body, "crc32": shards._body_crc(body)}))
    again = ShardStore(tmp_path / "s")
    assert len(again) == 0
    assert list(again.damaged.values()) == ["its list of rows is damaged"]


def test_a_damaged_row_is_never_handed_out(tmp_path):
    filled(tmp_path / "s")
    (path,) = (tmp_path / "s").glob("*.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1  # in row 5 of array b
    path.write_bytes(content)
    store = ShardStore(tmp_path / "s")
    assert values(store, ["k4"])[0, 0] == 32.0
    with pytest.raises(DamagedRow, match="does not fit its checksum; the shard was deleted"):
        store.take(["k4", "k5"])
    assert "k4" not in store
    assert not path.exists()


def test_looking_only_deletes_nothing(tmp_path):
    filled(tmp_path / "s")
    (path,) = (tmp_path / "s").glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1])
    store = ShardStore(tmp_path / "s", delete=False)
    assert len(store) == 0
    assert "not as long" in next(iter(store.damaged.values()))
    assert path.exists()


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    store = filled(tmp_path / "s")
    before = sorted(path.name for path in store.folder.iterdir())

    publish = files.publish

    for fails in ("safetensors", "json"):

        def full(finished, path, fails=fails):
            if path.name.endswith(fails):
                raise OSError(errno.ENOSPC, "No space left on device")
            publish(finished, path)

        monkeypatch.setattr(files, "publish", full)
        with pytest.raises(OSError, match="No space left"):
            store.append(["new"], {"a": rows(1), "b": rows(1, 2)}, {})
        monkeypatch.undo()
        assert sorted(path.name for path in store.folder.iterdir()) == before
    assert len(ShardStore(store.folder)) == 6


def _write_beyond_a_quota(folder):
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = ShardStore(folder)
    store.append(["small"], {"a": rows(1)}, {})
    try:
        store.append([f"b{i}" for i in range(500)], {"a": rows(500)}, {})
    except OSError:
        os._exit(7)
    os._exit(0)


def test_a_real_quota_stops_a_shard_and_spares_the_others(tmp_path):
    process = multiprocessing.get_context("fork").Process(
        target=_write_beyond_a_quota, args=(tmp_path / "s",)
    )
    process.start()
    process.join(60)
    assert process.exitcode == 7
    store = ShardStore(tmp_path / "s")
    assert "small" in store
    assert len(store) == 1
    assert len(list((tmp_path / "s").iterdir())) == 2


def _append_for_ever(folder, started):
    store = ShardStore(folder)
    for number in range(10**9):
        keys = [f"{os.getpid()}-{number}-{i}" for i in range(50)]
        store.append(keys, {"a": rows(50, 5000, start=number)}, {})
        started.set()


def test_kill_during_writes_leaves_only_whole_shards(tmp_path):
    """Several times, at moments that differ; what a dead writer left is cleaned away."""
    context = multiprocessing.get_context("fork")
    for attempt in range(4):
        started = context.Event()
        process = context.Process(target=_append_for_ever, args=(tmp_path / "s", started))
        process.start()
        assert started.wait(60)
        time.sleep(0.01 * attempt)
        process.kill()
        process.join(60)
    store = ShardStore(tmp_path / "s")
    assert store.damaged == {}
    assert store.verify() == len(store) > 0
    store.clean()
    names = [path.name for path in (tmp_path / "s").iterdir()]
    assert not [name for name in names if name.startswith(".")]
    assert len(names) == 2 * (len(store) // 50)


def _append(folder, name):
    store = ShardStore(folder)
    for number in range(10):
        store.append([f"{name}{number}", f"both{number}"], {"a": rows(2, start=number)}, {})


def test_several_writers_of_one_store(tmp_path):
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_append, args=(tmp_path / "s", n)) for n in "xyz"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    store = ShardStore(tmp_path / "s")
    assert store.verify() == 60
    assert len(store) == 40  # ten keys were written by all three
    for number in range(10):
        assert values(store, [f"y{number}", f"both{number}"])[:, 0].tolist() == [number, number + 8]


def test_a_writer_at_work_is_not_cleaned_away(tmp_path):
    store = filled(tmp_path / "s")
    mine = store.folder / f".shard-1-{shards._HOST}-{os.getpid()}.safetensors.tmp"
    mine.write_bytes(b"half")
    elsewhere = store.folder / ".shard-1-elsewhere-1.safetensors.tmp"
    elsewhere.write_bytes(b"half")
    gone = store.folder / f".shard-1-{shards._HOST}-999999999.json.tmp"
    gone.write_bytes(b"half")
    store.clean()
    assert mine.exists()
    assert elsewhere.exists()
    assert not gone.exists()
    day_old = time.time() - 2 * 86400
    os.utime(elsewhere, (day_old, day_old))
    store.clean()
    assert not elsewhere.exists()


def _open_with_few_descriptors(folder):
    soft = len(list(Path("/proc/self/fd").iterdir())) + shards._MOST_MAPPED + 12
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, soft))
    store = ShardStore(folder)
    keys = [f"k{i}" for i in range(200)]
    right = all(values(store, [key])[0, 0] == i for i, key in enumerate(keys))
    whole = len(store.take(keys)["a"].raw) == store.verify() == 200
    os._exit(0 if right and whole and not store.damaged else 7)


def test_more_shards_than_a_process_may_open_files(tmp_path):
    store = ShardStore(tmp_path / "s")
    for number in range(200):
        store.append([f"k{number}"], {"a": rows(1, start=number)}, {})
    process = multiprocessing.get_context("fork").Process(
        target=_open_with_few_descriptors, args=(tmp_path / "s",)
    )
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert len(list((tmp_path / "s").glob("*.json"))) == 200


def test_a_file_that_cannot_be_read_is_not_taken_for_damaged(tmp_path, monkeypatch):
    store = filled(tmp_path / "s")

    def broken(shard):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(shards, "_map", broken)
    with pytest.raises(OSError, match="Input/output error"):
        ShardStore(tmp_path / "s").verify()
    monkeypatch.undo()
    assert ShardStore(tmp_path / "s").verify() == len(store) == 6


def test_a_writer_that_has_ended_and_waits_to_be_collected_writes_no_more(tmp_path):
    writer = subprocess.Popen([sys.executable, "-c", "pass"])
    path = tmp_path / f".shard-0-{writers.HOST}-{writer.pid}.safetensors.{writer.pid}.tmp"
    path.touch()
    os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is not collected
    assert writers.is_abandoned(path)
    own = path.with_name(path.name.replace(str(writer.pid), str(os.getpid())))
    assert not writers.is_abandoned(own)
    writer.wait()
    assert writers.is_abandoned(path)
