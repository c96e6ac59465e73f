"""Folders are walked in one way: links are entered, circles end, and what leads nowhere is said."""

import os
import re
from pathlib import Path

import pytest

from sca_bench.digests import FileDigests, folder_content, folder_digests
from sca_bench.errors import InputError
from sca_bench.walk import bytes_of, is_hidden, walk


def fill(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def names(folder, **options):
    return [name for name, _ in walk(folder, **options)]


def test_without_links_it_is_every_file_in_the_order_of_paths(tmp_path):
    fill(tmp_path, "b", "a-b/c", "a/z", "a/b/c", "a.txt", "A", ".hidden/x", "a/.x")
    (tmp_path / "empty").mkdir()
    files = [p.relative_to(tmp_path) for p in sorted(tmp_path.rglob("*")) if p.is_file()]
    assert names(tmp_path) == [str(file) for file in files]
    assert names(tmp_path, skip=is_hidden) == ["A", "a/b/c", "a/z", "a-b/c", "a.txt", "b"]


@pytest.fixture
def linked(tmp_path):
    """A folder with a linked folder, a linked file, and a link to another linked folder."""
    fill(tmp_path / "elsewhere", "1.png", "deep/2.png")
    fill(tmp_path / "images", "0.png")
    (tmp_path / "images" / "sub").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images" / "x.png").symlink_to("sub/1.png")
    (tmp_path / "images" / "again").symlink_to("sub/deep", target_is_directory=True)
    return tmp_path / "images"


ALL = ["0.png", "again/2.png", "sub/1.png", "sub/deep/2.png", "x.png"]


def test_linked_folders_are_entered_wherever_a_folder_is_walked(linked):
    assert names(linked) == ALL
    assert list(folder_digests(linked)) == ALL
    assert [name for name, _ in folder_content(linked, FileDigests())] == ALL
    assert bytes_of(linked) == sum((linked / name).stat().st_size for name in ALL)


@pytest.mark.parametrize("leads_to", [".", "..", "../../elsewhere", "../../images"])
def test_a_circle_of_links_ends_and_counts_where_it_leads(linked, leads_to):
    plain = folder_content(linked, FileDigests())
    (linked / "sub" / "deep" / "back").symlink_to(leads_to)
    found = folder_content(linked, FileDigests())
    assert len(found) < 50
    assert {name for name, _ in found} > {name for name, _ in plain}
    assert all("back/back/back" not in name for name, _ in found)


def test_a_circle_that_leads_elsewhere_is_other_content(linked):
    (linked / "in").mkdir()
    contents = []
    for target in (".", ".."):
        (linked / "in" / "back").unlink(missing_ok=True)
        (linked / "in" / "back").symlink_to(target)
        assert names(linked) == ALL
        contents.append(folder_content(linked, FileDigests()))
    assert contents[0] != contents[1]


@pytest.mark.parametrize("target", ["gone", "/not/mounted/VG_100K", "lost.png"])
def test_a_link_that_leads_nowhere_is_named(linked, target):
    (linked / "lost.png").symlink_to(target)  # the last one leads to itself
    with pytest.raises(InputError, match=rf"lost\.png: is a link to {target}, which is not there"):
        names(linked)
    assert names(linked, skip=lambda name: name == "lost.png") == ALL
    assert names(linked, strict=False) == ALL


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_named(linked):
    (linked.parent / "elsewhere" / "deep").chmod(0)
    try:
        with pytest.raises(InputError, match=r"deep: cannot be read \(Permission denied\)"):
            names(linked)
    finally:
        (linked.parent / "elsewhere" / "deep").chmod(0o700)


def test_a_name_that_is_no_text_counts_by_its_bytes(tmp_path):
    (tmp_path / "images").mkdir()
    Path(os.fsdecode(bytes(tmp_path) + b"/images/\xff.png")).write_text("x")
    for _ in range(2):
        digests = FileDigests(tmp_path / "digests.sqlite")
        ((name, _),) = folder_content(tmp_path / "images", digests)
        assert name == "\\xff.png"
        assert name.encode()


def test_what_is_behind_a_link_has_a_size(linked):
    elsewhere = linked.parent / "elsewhere"
    (elsewhere / "1.png").write_bytes(bytes(1000))
    assert bytes_of(elsewhere / "1.png") == 1000
    assert bytes_of(linked) >= 2 * 1000  # in the linked folder, and as the linked file
    assert bytes_of(linked.parent / "nothing") == 0


def test_nobody_walks_folders_in_another_way():
    """`rglob` enters no linked folder.

    Four want that: a fresh folder, digests of older runs, what `gc` may delete, and the contract of
    readers, which looks for empty folders in its own small one, too.
    """
    root = Path(__file__).parents[1]
    files = [file for top in ("sca_bench", "baselines") for file in (root / top).rglob("*.py")]
    others = {file.name for file in files if re.search(r"\.rglob\(|os\.walk", file.read_text())}
    assert others == {"files.py", "older_inputs.py", "leftovers.py", "reader.py"}
