"""A damaged index is made again or named in one line; it never gives other regions."""

import json
import logging
import os
import re
import shutil

import pytest

from sca_bench.data.image_files import ImageFolder
from sca_bench.data.index import arrays, checked_file
from sca_bench.data.index.lookup import annotations_of, index_sizes, indexed
from sca_bench.data.load import load_split, read_files
from sca_bench.errors import InputError
from sca_bench.settings.splits import INDEX_FOLDER


@pytest.fixture(params=["visual_genome", "coco_panoptic"])
def split(request):
    """A split of each layout, one with masks, with an index beside its annotations."""
    files = request.getfixturevalue({"visual_genome": "vg"}.get(request.param, "panoptic"))
    found = files.split()
    (annotations_of(found).parent / INDEX_FOLDER).mkdir()
    load_split(found)
    return found


def the_index(split):
    (place,) = (annotations_of(split).parent / INDEX_FOLDER).iterdir()
    return place


DAMAGED = re.compile(rf"{INDEX_FOLDER}/.* is damaged, bytes do not fit their checksum; run again")


def all_of(region_set):
    facts = (region_set.name, region_set.digest(), region_set.summary(), region_set.num_clipped)
    return facts, list(region_set.images.items()), list(region_set.regions)


def answers(split, place):
    """Return what an index gives, or why it gives nothing."""
    try:
        folder = ImageFolder(split.images)
        return all_of(arrays.open_index(place, split.files(), folder, split.task))
    except arrays.UnusableIndex:
        return "made again"
    except InputError as error:
        return str(error)


def damages(content):
    """Yield every kind of damage of a file: flips of each bit at a stride, cuts, growth."""
    for place in range(0, len(content), max(7, len(content) // 60)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        yield bytes(damaged)
    yield from (
        content[:-1],
        content[: len(content) // 2],
        b"",
        content + b"\0",
        b"\0" * len(content),
    )


@pytest.mark.parametrize("seen", [True, False], ids=["touched", "unseen"])
def test_no_flip_cut_or_growth_gives_other_regions(split, seen, monkeypatch):
    """Seen by the file's stamp, it is made again; else whoever reads the first such block says so.

    Damage that nobody reads, such as of a number that is not looked at, does no harm.
    """
    monkeypatch.setattr(checked_file, "BLOCK", 64)
    place, expected = the_index(split), all_of(read_files(split))
    shutil.rmtree(place)
    load_split(split)
    sound = {file.name: file.read_bytes() for file in place.iterdir()}
    if not seen:
        monkeypatch.setattr(arrays, "has_stamp", lambda path, known: True)
    found = []
    for name, content in sound.items():
        for damaged in damages(content):
            (place / name).write_bytes(damaged)
            found.append(answers(split, place))
            (place / name).write_bytes(content)
            (place / "index.json").write_bytes(sound["index.json"])
    lines = [line for line in found if isinstance(line, str) and DAMAGED.search(line)]
    other = [one for one in found if one not in ("made again", expected, *lines)]
    assert other == []
    assert found.count("made again") > 50
    assert (len(lines) > 20) == (not seen)
    assert answers(split, place) == expected


def test_a_damaged_block_that_nobody_saw_is_named_and_made_again(vg, monkeypatch):
    (vg.folder / INDEX_FOLDER).mkdir()
    split = vg.split()
    opened = load_split(split)
    file = the_index(split) / "references.bin"
    file.write_bytes(file.read_bytes().replace(b"clock", b"stock"))
    with pytest.raises(InputError, match=DAMAGED.pattern):
        list(opened.regions)
    assert not (the_index(split) / "index.json").exists()
    assert all_of(load_split(split)) == all_of(read_files(split))


def foreign_file(place, other):
    shutil.copy(other / "references.bin", place / "references.bin")


def foreign_description(place, other):
    shutil.copy(other / "index.json", place / "index.json")


def foreign_index(place, other):
    shutil.rmtree(place)
    shutil.copytree(other, place)


def without_checksum(place, other):
    """As it was written before it had one."""
    body = json.loads((place / "index.json").read_text())["body"]
    body["sources"] = {key: {**known, "size": 0} for key, known in body["sources"].items()}
    (place / "index.json").write_text(json.dumps({**body, "format": "region-index-1"}))


def edited(place, other):
    content = json.loads((place / "index.json").read_text())
    content["body"]["num_clipped"] += 1
    (place / "index.json").write_text(json.dumps(content))


STRANGE = [foreign_file, foreign_description, foreign_index, without_checksum, edited]


@pytest.mark.parametrize("change", STRANGE, ids=lambda change: change.__name__)
def test_what_is_of_another_index_is_made_again(vg, caplog, change):
    (vg.folder / INDEX_FOLDER).mkdir()
    split = vg.split()
    load_split(split)
    place = the_index(split)
    load_split(vg.split(min_side_px=6))
    (other,) = {*place.parent.iterdir()} - {place}
    change(place, other)
    with caplog.at_level(logging.WARNING):
        assert all_of(load_split(split)) == all_of(read_files(split))
    assert ["the index is made again" in r.message for r in caplog.records] == [True]


def test_an_index_that_cannot_be_read_has_no_size(vg):
    (vg.folder / INDEX_FOLDER).mkdir()
    load_split(vg.split())
    ((name, counts, size),) = index_sizes(vg.folder / INDEX_FOLDER)
    place = the_index(vg.split())
    assert (name, counts) == (place.name, {"images": 2, "regions": 5})
    assert size == sum(file.stat().st_size for file in place.iterdir())
    (place / "index.json").write_text('{"format": "region-index-1"}')
    assert list(index_sizes(vg.folder / INDEX_FOLDER)) == []


def test_a_png_that_was_written_to_makes_it_anew(panoptic):
    """A folder's own time does not move where a file in it is rewritten in place."""
    split = panoptic.split()
    assert split.panoptic is not None
    (annotations_of(split).parent / INDEX_FOLDER).mkdir()
    reads = []

    def read(one):
        reads.append(one)
        return read_files(one)

    for _ in range(2):
        indexed(split, read)
    assert len(reads) == 1
    folder = type(annotations_of(split))(split.panoptic)
    png = next(folder.glob("*.png"))
    folder_time = folder.stat().st_mtime_ns
    content, times = png.read_bytes(), png.stat()
    png.write_bytes(content)
    indexed(split, read)
    assert len(reads) == 1  # touched, with the same content
    (png.parent / "moved").mkdir()
    png.rename(png.parent / "moved" / png.name)
    png.symlink_to(png.parent / "moved" / png.name)
    shutil.rmtree(the_index(split))
    indexed(split, read)
    (png.parent / "moved" / png.name).write_bytes(content + b"\0")
    os.utime(png, ns=(times.st_atime_ns, times.st_mtime_ns))
    indexed(split, read)
    assert len(reads) == 3
    assert folder_time
