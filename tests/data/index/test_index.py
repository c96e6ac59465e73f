"""An index changes nothing but the time: same regions, made again when it no longer fits."""

import json
import logging
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from sca_bench.data.index import arrays
from sca_bench.data.index import lookup as index_module
from sca_bench.data.index.lookup import annotations_of, indexed
from sca_bench.data.load import load_split, read_files
from sca_bench.data.pipeline.dataset import RegionDataset
from sca_bench.data.pipeline.sampling import Draw
from sca_bench.errors import InputError
from sca_bench.settings import MixtureSplit, RefCocoSplit
from sca_bench.settings.splits import INDEX_FOLDER


@pytest.fixture(params=["visual_genome", "coco_instances", "coco_panoptic", "refcoco"])
def split(request, tmp_path):
    """A split of each kind of file, with an index folder beside its annotations."""
    if request.param == "refcoco":
        files = request.getfixturevalue("instances")
        files.split()
        sentences = [{"sent": "a man"}, {"sent": "the left män"}]
        refs = [
            {"ref_id": 1, "ann_id": 81, "image_id": 8, "sentences": sentences},
            {"ref_id": 2, "ann_id": 70, "image_id": 7, "sentences": sentences[:1]},
        ]
        (tmp_path / "refs.json").write_text(json.dumps(refs))
        found = RefCocoSplit(
            dataset="refcoco",
            images=str(files.images),
            refs=str(tmp_path / "refs.json"),
            instances=str(tmp_path / "instances.json"),
        )
    else:
        names = {"visual_genome": "vg", "coco_instances": "instances"}
        found = request.getfixturevalue(names.get(request.param, "panoptic")).split()
    (annotations_of(found).parent / INDEX_FOLDER).mkdir()
    return found


@pytest.fixture
def counted():
    """A reader that counts how often the files themselves are read."""

    def read(split):
        read.calls += 1
        return read_files(split)

    read.calls = 0
    return read


def same(one, other):
    assert one.digest() == other.digest()
    assert list(one.images.items()) == list(other.images.items())
    assert list(one.regions) == list(other.regions)
    assert [one.regions[k] for k in range(len(one.regions))] == list(other.regions)
    for name in ("name", "dropped", "images_left_out", "num_clipped", "task"):
        assert getattr(one, name) == getattr(other, name), name
    for number, image_id in enumerate(other.images):
        assert one.image_id(number) == image_id
        assert one.regions_of(image_id) == other.regions_of(image_id)
    assert one.summary() == other.summary()


def test_an_index_equals_the_files(split, counted):
    direct = read_files(split)
    for _ in range(2):
        same(indexed(split, counted), direct)
    assert counted.calls == 1
    assert load_split(split).stored_digest
    task = split.model_copy(update={"task": "recognition"})
    assert indexed(task, counted).task == "recognition"
    assert counted.calls == 1


def test_its_digest_is_computed_not_trusted_blindly(split, counted):
    direct = read_files(split)
    stored = indexed(split, counted)
    object.__setattr__(stored, "stored_digest", "")
    assert stored.digest() == direct.digest()


def test_without_the_folder_there_is_no_index(vg, counted):
    split = vg.split()
    indexed(split, counted)
    indexed(split, counted)
    assert counted.calls == 2
    assert not (vg.folder / INDEX_FOLDER).exists()


@pytest.mark.parametrize(
    "changes",
    [{"min_side_px": 6}, {"max_images": 1}, {"split": "VG_100K"}, {"as_published": ["regions"]}],
    ids=lambda changes: next(iter(changes)),
)
def test_other_settings_have_an_index_of_their_own(vg, counted, changes):
    (vg.folder / INDEX_FOLDER).mkdir()
    plain, other = vg.split(), vg.split(**changes)
    same(indexed(plain, counted), read_files(plain))
    same(indexed(other, counted), read_files(other))
    same(indexed(plain, counted), read_files(plain))
    assert counted.calls == 2


def test_a_changed_source_makes_it_anew_and_says_so(vg, counted, caplog):
    (vg.folder / INDEX_FOLDER).mkdir()
    indexed(vg.split(), counted)
    vg.regions[0]["regions"][0]["phrase"] = "the clock is red"
    split = vg.split()
    with caplog.at_level(logging.WARNING):
        found = indexed(split, counted)
    assert found.regions[0].references == ("the clock is red",)
    (record,) = caplog.records
    assert "region_descriptions.json has changed; the index is made again" in record.message
    assert counted.calls == 2


def test_a_source_that_changes_while_it_is_read_makes_it_anew(vg, caplog):
    (vg.folder / INDEX_FOLDER).mkdir()
    split = vg.split()
    changed = []

    def read(one):
        found = read_files(one)
        if not changed:
            vg.regions[0]["regions"][0]["phrase"] = "the clock is red"
            changed.append(vg.split())
        return found

    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert indexed(split, read).regions[0].references == ("the clock is red",)
    assert any("has changed; the index is made again" in r.message for r in caplog.records)


def test_a_touched_source_with_the_same_content_is_no_change(vg, counted, caplog):
    (vg.folder / INDEX_FOLDER).mkdir()
    split = vg.split()
    indexed(split, counted)
    os.utime(split.regions, (1, 1))
    indexed(split, counted)
    assert counted.calls == 1
    assert not caplog.records


def test_a_touched_source_is_read_through_once(vg, counted, monkeypatch):
    (vg.folder / INDEX_FOLDER).mkdir()
    split = vg.split()
    indexed(split, counted)
    os.utime(split.regions, (1, 1))
    read = []
    digest = arrays.file_sha256
    monkeypatch.setattr(arrays, "file_sha256", lambda p: read.append(p.name) or digest(p))
    for _ in range(2):
        indexed(split, counted)
    assert read == ["region_descriptions.json"]


def the_index(vg):
    (place,) = (vg.folder / INDEX_FOLDER).iterdir()
    return place


def flip_a_byte(place):
    file = place / "references.bin"
    content = bytearray(file.read_bytes())
    content[3] ^= 1
    file.write_bytes(content)


def flip_a_byte_unseen(place):
    times = (place / "references.bin").stat()
    flip_a_byte(place)
    os.utime(place / "references.bin", ns=(times.st_atime_ns, times.st_mtime_ns))


DAMAGE = {
    "a flipped byte": flip_a_byte,
    "a flipped byte, size and time put back": flip_a_byte_unseen,
    "a cut array": lambda p: (p / "boxes_xyxy.npy").write_bytes(b"\x93NUMPY"),
    "a missing file": lambda p: (p / "image_ids.npy").unlink(),
    "no description": lambda p: (p / "index.json").unlink(),
    "half a description": lambda p: (p / "index.json").write_text('{"format": '),
    "another description": lambda p: (p / "index.json").write_text("[]"),
    "another format": lambda p: (p / "index.json").write_text('{"format": "old", "sources": {}}'),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_index_is_made_anew_and_says_so(vg, counted, caplog, case):
    (vg.folder / INDEX_FOLDER).mkdir()
    split = vg.split()
    indexed(split, counted)
    DAMAGE[case](the_index(vg))
    with caplog.at_level(logging.WARNING):
        same(indexed(split, counted), read_files(split))
    assert counted.calls == 2
    assert ["the index is made again" in r.message for r in caplog.records] == [True]
    same(indexed(split, counted), read_files(split))
    assert counted.calls == 2


def test_another_revision_of_the_readers_makes_it_anew(vg, counted, monkeypatch):
    (vg.folder / INDEX_FOLDER).mkdir()
    indexed(vg.split(), counted)
    monkeypatch.setattr(index_module, "REVISION", "readers-of-the-future")
    indexed(vg.split(), counted)
    assert counted.calls == 2


def test_a_fault_in_the_files_is_still_named(vg, counted):
    (vg.folder / INDEX_FOLDER).mkdir()
    indexed(vg.split(), counted)
    split = vg.split()
    vg.regions[0]["regions"][0].pop("phrase")
    vg.split()
    with pytest.raises(InputError, match=r"\[0\].regions\[0\].phrase: the key is missing"):
        indexed(split, counted)
    assert list((vg.folder / INDEX_FOLDER).iterdir()) == []


def test_images_may_come_or_move_after_the_index_was_made(vg, make_photo):
    (vg.folder / INDEX_FOLDER).mkdir()
    with pytest.raises(InputError, match="no such folder"):
        load_split(vg.split()).check_images()
    make_photo(vg.images / "1.jpg", 40, 30)
    make_photo(vg.images / "2.jpg", 20, 20)
    load_split(vg.split()).check_images()
    (vg.images / "VG_100K").mkdir()
    (vg.images / "2.jpg").rename(vg.images / "VG_100K" / "2.jpg")
    load_split(vg.split()).check_images()
    moved = vg.images.rename(vg.folder / "elsewhere")
    region_set = load_split(vg.split(images=str(moved)))
    region_set.check_images()
    assert len(list((vg.folder / INDEX_FOLDER).iterdir())) == 1


def test_the_whole_folder_may_be_moved(vg, counted):
    (vg.folder / INDEX_FOLDER).mkdir()
    indexed(vg.split(), counted)
    moved = vg.folder / "moved"
    moved.mkdir()
    for name in (INDEX_FOLDER, "region_descriptions.json", "image_data.json"):
        (vg.folder / name).rename(moved / name)
    split = vg.split(
        regions=str(moved / "region_descriptions.json"), image_data=str(moved / "image_data.json")
    )
    same(indexed(split, counted), read_files(split))
    assert counted.calls == 1


def test_an_index_serves_a_data_set_and_loader_workers(vg, make_photo):
    make_photo(vg.images / "1.jpg", 40, 30)
    make_photo(vg.images / "2.jpg", 20, 20)
    direct = load_split(vg.split())
    (vg.folder / INDEX_FOLDER).mkdir()
    stored = load_split(vg.split())
    travelling = pickle.dumps(stored)
    assert b"boxes_xyxy" not in travelling  # it maps its files again, and carries no array
    assert b"_reconstruct" not in travelling
    again = pickle.loads(travelling)
    for region_set in (stored, again):
        settings = {"image_size": 32, "training": True, "seed": 1, "permute_captions": True}
        one, two = RegionDataset(region_set, **settings), RegionDataset(direct, **settings)
        for number in range(6):
            left, right = one[Draw(number % 2, number)], two[Draw(number % 2, number)]
            assert left.captions == right.captions
            np.testing.assert_array_equal(left.pixels_3SS, right.pixels_3SS)
            np.testing.assert_array_equal(left.boxes_xyxy_input_R4, right.boxes_xyxy_input_R4)


def test_a_mixture_is_made_of_indexed_parts(vg, instances):
    (vg.folder / INDEX_FOLDER).mkdir()
    parts = ({"weight": 1, "split": vg.split()}, {"weight": 2, "split": instances.split()})
    mixture = MixtureSplit(dataset="mixture", parts=parts)
    first, second = load_split(mixture), load_split(mixture)
    assert len(list((vg.folder / INDEX_FOLDER).iterdir())) == 2
    assert first.digest() == second.digest()
    assert second.image_id(0) == "visual_genome/1"
    assert second.regions_of("coco_instances/7")[0].references == ("person",)


def test_ids_unknown_to_an_index_are_no_ids(vg):
    (vg.folder / INDEX_FOLDER).mkdir()
    region_set = load_split(vg.split())
    for image_id in ("0", "11", "9", ""):
        with pytest.raises(KeyError):
            region_set.regions_of(image_id)
    with pytest.raises(IndexError):
        region_set.image_id(2)
    with pytest.raises(IndexError):
        region_set.regions[5]
    assert region_set.regions[-1].region_id == "22"


@pytest.mark.usefixtures("process")
def test_processes_that_make_it_at_once_do_not_disturb_each_other(vg):
    (vg.folder / INDEX_FOLDER).mkdir()
    split = vg.split()
    code = (
        "import sys, json; from sca_bench.settings import VisualGenomeSplit as V\n"
        "from sca_bench.data.load import load_split\n"
        "print(load_split(V(**json.loads(sys.argv[1]))).digest())"
    )
    words = [sys.executable, "-c", code, split.model_dump_json()]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = [subprocess.Popen(words, **pipes) for _ in range(3)]
    answers = [process.communicate() for process in running]
    assert {out.strip() for out, _ in answers} == {read_files(split).digest()}
    assert not any(err for _, err in answers)
    assert len(list((vg.folder / INDEX_FOLDER).iterdir())) == 1


def test_every_file_a_split_is_made_from_is_a_source(split):
    named = {str(path) for path in split.files().values()}
    paths = {
        str(value)
        for key, value in split.model_dump().items()
        if isinstance(value, str) and "/" in value and key != "images"
    }
    assert named == paths
