"""Images count as the same by their content, whatever they are called and wherever they lie."""

import os
import shutil
from pathlib import Path

import pytest

from sca_bench.data.load import load_split
from sca_bench.data.overlap import overlaps
from sca_bench.digests import FileDigests
from sca_bench.errors import InputError
from sca_bench.settings import MixtureSplit, ScenesSplit


@pytest.fixture
def photos(vg, make_photo):
    """The split of two photos, with its files."""
    make_photo(vg.images / "1.jpg", 40, 30, seed=1)
    make_photo(vg.images / "2.jpg", 20, 20, seed=2)
    return vg


def found(digests=None, /, captioned="test", **sets):
    read = {name: load_split(split) for name, split in sets.items()}
    return list(overlaps(read, captioned, digests or FileDigests()))


def copied(photos, folder):
    shutil.copytree(photos.images, folder)
    os.utime(folder / "1.jpg", (1, 1))
    return folder


def under_other_names(photos, folder):
    """One copy in a folder that the annotations name, the other in capitals."""
    (folder / "VG_100K_2").mkdir(parents=True)
    shutil.copy(photos.images / "1.jpg", folder / "VG_100K_2" / "1.jpg")
    shutil.copy(photos.images / "2.jpg", folder / "2.jpg")
    return folder


def linked_files(photos, folder):
    folder.mkdir()
    for name in ("1.jpg", "2.jpg"):
        (folder / name).symlink_to(photos.images / name)
    return folder


def hard_linked(photos, folder):
    folder.mkdir()
    for name in ("1.jpg", "2.jpg"):
        (folder / name).hardlink_to(photos.images / name)
    return folder


def linked_folder(photos, folder):
    folder.symlink_to(photos.images)
    return folder


def relative(photos, folder):
    return Path(os.path.relpath(photos.images))


def roundabout(photos, folder):
    folder.mkdir()
    return folder / ".." / "images"


SPELLINGS = [
    copied,
    under_other_names,
    linked_files,
    hard_linked,
    linked_folder,
    relative,
    roundabout,
]


@pytest.mark.parametrize("spelling", SPELLINGS, ids=lambda spelling: spelling.__name__)
def test_another_spelling_is_the_same_image(photos, tmp_path, spelling):
    other = spelling(photos, tmp_path / "other")
    (overlap,) = found(train=photos.split(), test=photos.split(images=str(other)))
    assert (overlap.split, overlap.other, len(overlap.images)) == ("train", "test", 2)
    (own, twin) = overlap.images[0]
    assert own == f"{photos.images}/1.jpg"
    assert Path(twin).is_relative_to(other)
    expected = f"shares 2 images with data.test, the first is {own}, there {twin}"
    assert overlap.text == expected


def test_an_image_under_its_own_name_is_named_once(photos):
    (overlap,) = found(train=photos.split(), test=photos.split())
    first = f"{photos.images}/1.jpg"
    assert overlap.text == f"shares 2 images with data.test, the first is {first}"


def test_other_pixels_of_equal_size_are_other_images(photos, tmp_path):
    other = copied(photos, tmp_path / "other")
    content = bytearray((other / "1.jpg").read_bytes())
    content[-3] ^= 1
    (other / "1.jpg").write_bytes(content)
    (overlap,) = found(train=photos.split(), test=photos.split(images=str(other)))
    assert [Path(own).name for own, _ in overlap.images] == ["2.jpg"]


def test_every_pair_of_splits_is_compared(photos, tmp_path):
    elsewhere = photos.split(images=str(copied(photos, tmp_path / "other")))
    scenes = ScenesSplit(dataset="scenes", num_images=3, first_seed=0)
    pairs = [
        (found(train=photos.split(), val=elsewhere, test=scenes), [("val", "train")]),
        (found(train=scenes, val=elsewhere, test=photos.split()), [("val", "test")]),
        (found(train=elsewhere, val=photos.split(), captioned="val"), [("train", "val")]),
        (found(train=scenes, val=photos.split(), test=scenes), [("train", "test")]),
    ]
    for overlap, expected in pairs:
        assert [(one.split, one.other) for one in overlap] == expected


def test_parts_of_a_mixture_are_compared_and_scenes_by_their_seeds(photos, tmp_path):
    scenes = ScenesSplit(dataset="scenes", num_images=3, first_seed=0)
    elsewhere = photos.split(images=str(copied(photos, tmp_path / "other")))
    parts = ({"weight": 1, "split": scenes}, {"weight": 2, "split": photos.split()})
    mixture = MixtureSplit(dataset="mixture", parts=parts)
    (of_photos,) = found(train=mixture, test=elsewhere)
    assert len(of_photos.images) == 2
    (of_scenes,) = found(
        train=mixture, test=ScenesSplit(dataset="scenes", num_images=5, first_seed=2)
    )
    assert of_scenes.images == (("scene_2", "scene_2"),)


def test_only_files_of_equal_size_are_read(photos, tmp_path, monkeypatch):
    digests, other = FileDigests(), copied(photos, tmp_path / "other")
    with (other / "1.jpg").open("ab") as handle:
        handle.write(b"longer")
    read = []
    digest = FileDigests.of_all

    def of_all(self, paths):
        listed = list(paths)
        read.extend(str(path) for path in listed)
        return digest(self, listed)

    monkeypatch.setattr(FileDigests, "of_all", of_all)
    found(digests, train=photos.split(), test=photos.split(images=str(other)))
    assert {Path(path).name for path in read} == {"2.jpg"}


def test_an_image_that_is_not_there_is_named(photos):
    (photos.images / "2.jpg").unlink()
    with pytest.raises(InputError, match=r"2\.jpg: images: no such image file"):
        found(train=photos.split(), test=photos.split())
