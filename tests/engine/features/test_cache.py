"""The cache of a run: limits, damage, stale images, and the command that shows it."""

import dataclasses
import gc
import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from sca_bench.cli import main
from sca_bench.digests import file_sha256
from sca_bench.engine.features import cache as cache_module
from sca_bench.engine.features.cache import Cache, store_folders
from sca_bench.engine.features.shards import Rows, ShardStore
from sca_bench.engine.features.split_bank import content_of
from sca_bench.errors import InputError
from sca_bench.formats.pixels import PictureDigests
from sca_bench.metrics.rows import read_rows
from sca_bench.study.runs.store import PREDICTIONS, Store
from sca_bench.types import ImageRecord
from sca_bench.walk import bytes_of


def result(job):
    (cell,) = job.cells
    folder = Store(job.runs_dir).run_dir(cell.cell_id, cell.seed)
    captions = [row.caption for row in read_rows(folder / PREDICTIONS)]
    return load_file(folder / "trainable.safetensors"), captions


def assert_same(one, two):
    assert one[1] == two[1]
    for name, tensor in one[0].items():
        assert torch.equal(tensor, two[0][name]), name


def store_of(root, name, mib, age_s=0.0):
    store = ShardStore(root / name)
    raw = np.zeros((1, int(mib * 2**20)), dtype=np.uint8)
    store.append(["k"], {"a": Rows(raw, "F32", (raw.shape[1] // 4,))}, {})
    used = root / name / cache_module.USED
    used.touch()
    then = time.time() - age_s
    os.utime(used, (then, then))
    return store


def test_the_least_recently_used_makes_room(tmp_path):
    for name, age in (("old", 300), ("older", 900), ("recent", 30)):
        store_of(tmp_path, name, 1, age)
    cache = Cache(tmp_path, limit_bytes=int(3.5 * 2**20), since=time.time() - 100)
    assert cache.make_room(2**20) == ""
    assert {folder.name for folder in store_folders(tmp_path)} == {"old", "recent"}
    assert cache.make_room(2 * 2**20) == ""
    assert {folder.name for folder in store_folders(tmp_path)} == {"recent"}
    reason = cache.make_room(3 * 2**20)  # what this run uses stays
    assert "cache_limit_gib of 0.00342 is reached" in reason
    assert {folder.name for folder in store_folders(tmp_path)} == {"recent"}


def test_a_store_in_use_is_not_deleted(tmp_path, capsys):
    """Neither to make room nor by hand, however long ago it was last touched."""
    store_of(tmp_path, "k", 1, 900)
    cache = Cache(tmp_path, limit_bytes=int(1.5 * 2**20), since=time.time())
    reader = Cache(tmp_path).store("k")
    assert "is reached" in cache.make_room(2**20)
    assert main(["cache", "clear", "--dir", str(tmp_path)]) == 1
    assert "in use, left as it is" in capsys.readouterr().out
    assert len(ShardStore(tmp_path / "k")) == len(reader) == 1
    del reader
    assert cache.make_room(2**20) == ""
    assert store_folders(tmp_path) == []
    assert not list(tmp_path.glob(".k.*"))


def test_a_nearly_full_disk_is_left_alone(tmp_path, monkeypatch):
    usage = dataclasses.make_dataclass("usage", ["total", "used", "free"])(1, 1, 70 * 2**20)
    monkeypatch.setattr(cache_module.shutil, "disk_usage", lambda path: usage)
    cache = Cache(tmp_path)
    assert cache.make_room(2**20) == ""
    assert "has 70 MiB left" in cache.make_room(10 * 2**20)


def test_what_does_not_fit_is_computed_with_the_same_result(group_job, run_group, tmp_path):
    """No room at all, room for some rows, room for all: one result, other counters."""
    whole = group_job({}, runs=tmp_path / "whole")
    run_group(whole)
    size = bytes_of(tmp_path / "whole" / "features") / 2**30
    forwards = []
    for share in (1e-6, 0.5):
        job = group_job({"runtime.cache_limit_gib": share * size}, runs=tmp_path / f"r{share}")
        outcome = run_group(job)
        assert not outcome.failed
        assert any("cache_limit_gib" in message for message in outcome.messages)
        assert_same(result(job), result(whole))
        assert bytes_of(Path(job.runs_dir) / "features") <= share * 2**30 * size + 4096
        (cell,) = job.cells
        counters = Store(job.runs_dir).record(cell.cell_id, 0).counters
        forwards.append(counters["encoder_forwards"])
    assert forwards[0] == 6 * 2 + 2 * 2 + 3
    assert 0 <= forwards[1] < forwards[0]


@pytest.mark.parametrize("mode", ["all", "encoder"])
def test_damage_between_runs_is_noticed_and_made_good(group_job, run_group, tmp_path, mode):
    first = group_job({"features.cache": mode}, runs=tmp_path / "runs")
    run_group(first)
    expected = result(first)
    paths = sorted((tmp_path / "runs" / "features").glob("*/*.safetensors"))
    for path in paths:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    again = group_job({"features.cache": mode, "train.order_seed": 0}, runs=tmp_path / "runs")
    outcome = run_group(again)
    assert sum("was damaged" in message for message in outcome.messages) >= len(paths) // 2
    assert_same(result(again), expected)
    third = group_job({"features.cache": mode, "runtime.log_every": 2}, runs=tmp_path / "runs")
    assert run_group(third).counters["encoder_forwards"] == 0


def test_damage_after_the_check_fails_the_run_and_the_next_one_is_right(
    group_job, run_group, tmp_path, monkeypatch
):
    from sca_bench.engine.worker import prepare as prepare_module

    first = group_job({}, runs=tmp_path / "runs")
    run_group(first)
    expected = result(first)
    again = group_job({"train.order_seed": 0}, runs=tmp_path / "runs")
    keep = prepare_module.fill_bank

    def flip_after_it(*args, **kwargs):
        kept = keep(*args, **kwargs)
        for path in (tmp_path / "runs" / "features").glob("*/*.safetensors"):
            content = bytearray(path.read_bytes())
            content[-1] ^= 4
            path.write_bytes(content)
        return kept

    monkeypatch.setattr(prepare_module, "fill_bank", flip_after_it)
    (reason,) = run_group(again).failed.values()
    assert reason.endswith("the shard was deleted, run again")
    monkeypatch.undo()
    again = group_job({"train.order_seed": 0}, runs=tmp_path / "runs")
    assert not run_group(again).failed
    assert_same(result(again), expected)


def photos(folder, colour):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for number in (1, 2, 3):
        array = rng.integers(0, 255, (64, 64, 3)).astype(np.uint8)
        array[:, :, 0] = colour
        Image.fromarray(array).save(folder / f"{number}.bmp")
    regions = [
        {
            "id": number,
            "regions": [
                {
                    "region_id": 10 * number + k,
                    "image_id": number,
                    "phrase": "a red circle",
                    "x": 4 * k,
                    "y": 2,
                    "width": 30,
                    "height": 40,
                }
                for k in range(2)
            ],
        }
        for number in (1, 2, 3)
    ]
    images = [
        {"image_id": n, "width": 64, "height": 64, "url": f"http://h/{n}.bmp"} for n in (1, 2, 3)
    ]
    (folder / "regions.json").write_text(json.dumps(regions))
    (folder / "images.json").write_text(json.dumps(images))
    return {
        "dataset": "visual_genome",
        "images": str(folder),
        "regions": str(folder / "regions.json"),
        "image_data": str(folder / "images.json"),
    }


def test_another_image_under_the_same_name_and_size_is_not_mistaken(group_job, run_group, tmp_path):
    """A large folder counts for a cell's key by names and sizes; the cache looks at the bytes."""
    split = photos(tmp_path / "vg", 10)
    changes = {"data.train": split}
    first = group_job(changes, runs=tmp_path / "runs")
    assert run_group(first).counters["encoder_forwards"] == 3 + 2 + 3
    photos(tmp_path / "vg", 200)
    replaced = group_job(changes, runs=tmp_path / "runs")
    mistaken = dataclasses.replace(replaced.cells[0], identity=first.cells[0].identity, seed=1)
    replaced = dataclasses.replace(replaced, cells=[mistaken])
    assert run_group(replaced).counters["encoder_forwards"] == 3
    fresh = group_job(changes, runs=tmp_path / "fresh", seed=1)
    run_group(fresh)
    assert_same(result(replaced), result(fresh))


def test_a_folder_for_several_runs_folders(group_job, run_group, tmp_path):
    shared = {"runtime.cache_dir": str(tmp_path / "shared")}
    counts = [
        run_group(group_job(shared, runs=tmp_path / name)).counters["encoder_forwards"]
        for name in ("a", "b")
    ]
    assert counts == [5 + 2 + 3, 0]
    assert not (tmp_path / "b" / "features").exists()


def test_a_folder_that_cannot_be_written_is_done_without(group_job, run_group, tmp_path):
    (tmp_path / "file").write_text("")
    changes = {"runtime.cache_dir": str(tmp_path / "file" / "cache")}
    uncached = run_group(group_job(changes, runs=tmp_path / "uncached"))
    assert not uncached.failed
    assert any("what finds no room is computed" in message for message in uncached.messages)
    cached = group_job({}, runs=tmp_path / "cached")
    run_group(cached)
    assert_same(result(group_job(changes, runs=tmp_path / "uncached")), result(cached))


def test_an_image_that_is_missing_or_cannot_be_read_is_named(cell_settings, tmp_path):
    paths = {"gone": tmp_path / "b.jpg", "folder": tmp_path}
    images = {name: ImageRecord(name, 1, 1, str(path)) for name, path in paths.items()}
    digests = PictureDigests(tmp_path / "digests.sqlite")
    keys = content_of(SimpleNamespace(images=images), cell_settings(), digests)
    with pytest.raises(InputError, match=r"b\.jpg: no such image"):
        keys.content_of("gone")
    with pytest.raises(InputError, match=r"is no regular file \(a folder\)"):
        keys.content_of("folder")


def test_a_picture_has_a_row_for_each_way_it_is_read(cell_settings, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 4)).save(tmp_path / "turned.webp", exif=exif)
    Image.new("RGB", (6, 4)).save(tmp_path / "plain.png")

    def content(name, width, height):
        images = {"a": ImageRecord("a", width, height, str(tmp_path / name))}
        digests = PictureDigests(tmp_path / "digests.sqlite")
        return content_of(SimpleNamespace(images=images), cell_settings(), digests).content_of("a")

    assert content("turned.webp", 6, 4) != content("turned.webp", 4, 6)
    assert content("plain.png", 6, 4) == file_sha256(tmp_path / "plain.png")


def test_the_command_lists_checks_and_deletes(group_job, run_group, tmp_path, capsys):
    run_group(group_job({}, runs=tmp_path / "runs"))
    flags = ["--runs-dir", str(tmp_path / "runs")]
    assert main(["cache", "ls", *flags]) == 0
    text = capsys.readouterr().out
    assert [text.count(word) for word in ("mixed", "images", "tiny")] == [3, 1, 4]
    assert main(["cache", "du", *flags]) == 0
    assert "in 4 stores" in capsys.readouterr().out
    assert main(["cache", "verify", *flags]) == 0
    assert "0 shards damaged" in capsys.readouterr().out
    root = tmp_path / "runs" / "features"
    path = sorted(root.glob("*/*.safetensors"))[0]
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert main(["cache", "verify", *flags]) == 1
    assert "damaged" in capsys.readouterr().out
    assert path.exists()
    gc.collect()  # the run was in this process, and what it reads is in use
    assert main(["cache", "clear", path.parent.name[:5], *flags]) == 0
    assert not path.exists()
    assert len(store_folders(root)) == 3
    assert main(["cache", "clear", "--older-than", "1", *flags]) == 0
    assert len(store_folders(root)) == 3
    assert main(["cache", "ls", "nothing", *flags]) == 2
    assert "no such store" in capsys.readouterr().err
    assert main(["cache", "clear", *flags]) == 0
    assert store_folders(root) == []


def test_clearing_touches_nothing_that_is_no_store(tmp_path, capsys):
    (tmp_path / "holiday photos").mkdir()
    (tmp_path / "holiday photos" / "1.jpg").write_bytes(b"x")
    assert main(["cache", "clear", "--dir", str(tmp_path)]) == 0
    assert (tmp_path / "holiday photos" / "1.jpg").exists()
