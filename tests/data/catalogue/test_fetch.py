"""`data prepare` and `data verify`, from an empty folder to a report, with a server of our own."""

import dataclasses
import json
import shutil

import pytest
from helpers.server import zipped

from sca_bench.cli import main
from sca_bench.data.catalogue import datasets
from sca_bench.data.catalogue.checksums import MANIFEST, Manifest
from sca_bench.data.catalogue.datasets import DATASETS, get_dataset
from sca_bench.data.catalogue.fetch import needs
from sca_bench.data.catalogue.layouts import LAYOUTS
from sca_bench.data.catalogue.types import PublishedCount, Remote
from sca_bench.data.catalogue.verify import verify
from sca_bench.data.index.lookup import annotations_of
from sca_bench.errors import InputError
from sca_bench.settings import VisualGenomeSplit
from sca_bench.settings.splits import INDEX_FOLDER
from sca_bench.study.suite.suite import load_profile


@pytest.fixture
def small(vg, make_photo, monkeypatch, server, tmp_path):
    """Visual Genome of two images, served from 127.0.0.1 in place of the real one."""
    vg.image_data[0]["coco_id"], vg.image_data[1]["coco_id"] = 900, None
    vg.split()
    files = vg.folder
    pixels = files / "photos"
    make_photo(pixels / "VG_100K_2" / "1.png", 40, 30)
    make_photo(pixels / "VG_100K" / "2.png", 20, 20)
    for name in ("region_descriptions.json", "image_data.json"):
        archive = zipped(files / f"{name}.zip", {name: (files / name).read_text()})
        server.files[f"/{name}.zip"] = archive.read_bytes()
    splits = json.dumps({"train": [1], "val": [2], "test": [2]})
    server.files["/densecap_splits.json"] = splits.encode()
    for name, folder, photo in (("images2", "VG_100K_2", "1"), ("images", "VG_100K", "2")):
        content = (pixels / folder / f"{photo}.png").read_bytes()
        archive = zipped(files / f"{name}.zip", {f"{folder}/{photo}.jpg": content})
        server.files[f"/{name}.zip"] = archive.read_bytes()
    real = DATASETS["visual_genome"]
    remotes = tuple(
        dataclasses.replace(remote, url=server.url(remote.path), size=None)
        for remote in real.remotes
    )
    published = {
        "train": PublishedCount(1, 3, "us"),
        "val": PublishedCount(1, None, "us"),
        "test": PublishedCount(1, 2, "us"),
    }
    local = dataclasses.replace(
        real, remotes=remotes, published=published, disjoint=(("train", "test"),)
    )
    monkeypatch.setitem(datasets.DATASETS, "visual_genome", local)
    return local


def run(action, root, *more):
    return main(["data", action, "visual_genome", "--root", str(root), *more])


def test_from_an_empty_folder_to_a_verified_data_set(small, server, tmp_path, capsys):
    root = tmp_path / "vg"
    assert run("prepare", root) == 0
    out = capsys.readouterr().out
    assert "region_descriptions.json.zip  to fetch  unknown  not recorded  http://127" in out
    assert "train: annotations" in out
    assert "3, published 3 (us)" in out
    assert "0 of" in out
    assert sorted(p.name for p in (root / "images").iterdir()) == ["VG_100K", "VG_100K_2"]
    indices = list((root / INDEX_FOLDER).iterdir())
    assert len(indices) == 4 + 3  # those of the profile, and what `verify` counts
    server.asked.clear()
    assert run("prepare", root) == 0
    assert server.asked == []
    assert "image_data.json.zip           there" in capsys.readouterr().out


def test_only_saying_fetches_nothing(small, server, tmp_path, capsys):
    assert run("prepare", tmp_path / "vg", "--no-download") == 1
    assert "5 of 5 files are missing; nothing was fetched" in capsys.readouterr().out
    assert server.asked == []
    assert not (tmp_path / "vg").exists()


def test_an_archive_may_go_once_it_is_unpacked(small, server, tmp_path):
    root = tmp_path / "vg"
    run("prepare", root)
    (root / "images.zip").unlink()
    server.asked.clear()
    assert run("prepare", root) == 0
    assert server.asked == []
    assert run("verify", root) == 0


def test_a_cut_download_is_shown_and_completed(small, server, tmp_path, capsys):
    root = tmp_path / "vg"
    server.cut_at = 40
    assert run("prepare", root) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    server.cut_at = None
    states = {need.remote.path: need.state for need in needs(small, root)}
    assert states["region_descriptions.json.zip"] == "40 bytes are here"
    assert run("prepare", root) == 0


def test_a_file_that_is_another_than_recorded_is_refused(small, tmp_path, capsys):
    root = tmp_path / "vg"
    run("prepare", root)
    capsys.readouterr()
    recorded = Manifest(root).known("densecap_splits.json")
    assert len(recorded[1]) == 64
    (root / "densecap_splits.json").write_text('{"train": [1], "val": [1], "test": [2]}')
    assert run("prepare", root) == 2
    assert "densecap_splits.json: SHA-256 is" in capsys.readouterr().err
    assert run("verify", root) == 1
    assert f"recorded was {recorded[1]}" in capsys.readouterr().out


def test_a_damaged_record_is_one_clear_line(small, tmp_path, capsys):
    root = tmp_path / "vg"
    run("prepare", root)
    (root / MANIFEST).write_text("{")
    capsys.readouterr()
    assert run("verify", root) == 2
    err = capsys.readouterr().err
    assert "is not JSON" in err
    assert err.count("\n") == 1


def test_a_wrong_size_is_refused(small, tmp_path, monkeypatch, capsys):
    wrong = tuple(dataclasses.replace(remote, size=7) for remote in small.remotes)
    monkeypatch.setitem(
        datasets.DATASETS, "visual_genome", dataclasses.replace(small, remotes=wrong)
    )
    assert run("prepare", tmp_path / "vg") == 2
    assert "bytes, published are 7" in capsys.readouterr().err


@pytest.fixture
def root(small, tmp_path):
    """A prepared folder without index and record, to be spoilt."""
    folder = tmp_path / "vg"
    assert run("prepare", folder) == 0
    shutil.rmtree(folder / INDEX_FOLDER)
    (folder / MANIFEST).unlink()
    return folder


def rows(dataset, root, **options):
    return {row.what: (row.state, row.found) for row in verify(dataset, root, **options)}


def spoil(root, name, edit):
    content = json.loads((root / name).read_text())
    edit(content)
    (root / name).write_text(json.dumps(content))


def test_a_good_data_set_passes(small, root):
    found = rows(small, root)
    assert {state for state, _ in found.values()} <= {"ok", "note"}
    assert found["train: images"] == ("ok", "1, published 1 (us)")
    assert found["val: annotations"] == ("note", "2 (no published count)")
    assert found["train: boxes"][1] == "all can be used; 1 cut at the image border"
    assert found["test: image files"] == ("ok", "0 of 1 missing")
    assert found["train and test"] == ("ok", "0 images are in both")
    assert found["train: shared with COCO"] == ("note", "1 of 1 images are COCO's")
    assert found["test: shared with COCO"] == ("ok", "0 of 1 images are COCO's")


def test_counts_unlike_the_published_fail_unless_a_part_is_meant(small, root):
    spoil(root, "region_descriptions.json", lambda c: c[0]["regions"].pop())
    assert rows(small, root)["train: annotations"] == ("fail", "2, published 3 (us)")
    found = rows(small, root, partial=True)
    assert found["train: annotations"] == ("note", "2 (all of it would be 3)")
    assert run("verify", root) == 1
    assert run("verify", root, "--partial") == 0


def test_missing_images_fail(small, root):
    (root / "images" / "VG_100K" / "2.jpg").unlink()
    state, found = rows(small, root)["test: image files"]
    assert state == "fail"
    assert found == f"1 of 1 missing, the first is {root}/images/VG_100K/2.jpg"


def test_unusable_boxes_are_counted(small, root):
    def edit(content):
        first, second, _ = content[0]["regions"]
        first.update(x=-20, width=5)
        second.update(width=0)

    spoil(root, "region_descriptions.json", edit)
    state, found = rows(small, root)["train: boxes"]
    assert state == "note"
    assert "box without area: 1" in found
    assert "box wholly outside its image: 1" in found


def test_repeated_ids_and_broken_files_fail_with_their_line(small, root):
    spoil(root, "region_descriptions.json", lambda c: c[0]["regions"][1].update(region_id=11))
    state, found = rows(small, root)["train"]
    assert state == "fail"
    assert 'regions[1].region_id: "11" occurs twice' in found
    text = (root / "region_descriptions.json").read_text()
    (root / "region_descriptions.json").write_text(text[:-20])
    assert "is not JSON" in rows(small, root)["test"][1]
    assert run("verify", root) == 1


def test_images_in_two_splits_fail(small, root):
    spoil(root, "densecap_splits.json", lambda c: c["test"].append(1))
    assert rows(small, root)["train and test"] == ("fail", "1 images are in both, such as 1")


def test_listed_images_that_do_not_exist_fail(small, root):
    spoil(root, "densecap_splits.json", lambda c: c["train"].append(77))
    assert rows(small, root)["train: listed images"] == ("fail", "1 are not in the file")


def test_images_of_coco_are_looked_up_in_its_files(small, root, tmp_path):
    coco = tmp_path / "coco"
    (coco / "annotations").mkdir(parents=True)
    for part, ids in (("train2017", [900, 901]), ("val2017", [902])):
        content = {"images": [{"id": k} for k in ids]}
        (coco / "annotations" / f"instances_{part}.json").write_text(json.dumps(content))
    found = rows(small, root, coco=coco)["train: shared with COCO"]
    assert found == ("note", "1 of 1 images are COCO's, 1 in train2017, 0 in val2017")


def test_a_folder_without_the_data_set_is_one_clear_line(small, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert run("verify", tmp_path / "empty") == 2
    err = capsys.readouterr().err
    assert "holds no annotations of visual_genome; run: data prepare visual_genome" in err
    assert err.count("\n") == 1


def test_the_catalogue_is_whole():
    assert set(DATASETS) == set(LAYOUTS)
    for name, dataset in DATASETS.items():
        assert get_dataset(name) is dataset
        assert set(dataset.splits) == set(dataset.published)
        groups = {split for group in (*dataset.disjoint, *dataset.shared) for split in group}
        assert groups == set(dataset.splits)
        gives = [given for remote in dataset.remotes for given in remote.gives]
        assert len(set(gives)) == len(gives)
        paths = [remote.path for remote in dataset.remotes]
        assert len(set(paths)) == len(paths)
        for remote in dataset.remotes:
            assert isinstance(remote, Remote)
            nested = remote.unpack_to is not None and not remote.url
            assert bool(remote.url) + bool(remote.by_hand) + nested == 1
    with pytest.raises(InputError, match=r"no such data set; did you mean objects365\?"):
        get_dataset("object365")


def test_every_split_is_made_of_files_that_are_fetched(tmp_path):
    for dataset in DATASETS.values():
        gives = {str(tmp_path / given) for r in dataset.remotes for given in r.gives}
        for make in dataset.splits.values():
            split = make(tmp_path)
            assert str(annotations_of(split)) in gives


def test_the_paper_profile_reads_what_is_prepared(tmp_path):
    """The paths of the profile are those of the catalogue, so that a prepared folder just fits."""
    base = load_profile("paper").base["data"]
    for name in ("train", "val", "test"):
        wanted = {
            key: value.replace("{visual_genome}", str(tmp_path))
            if isinstance(value, str)
            else value
            for key, value in base[name].items()
        }
        dataset = DATASETS["visual_genome"]
        given = [make(tmp_path) for make in (dataset.splits[name], *dataset.also_read)]
        assert VisualGenomeSplit(**wanted) in given
