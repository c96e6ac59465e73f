"""Downloads go on where they stopped; archives stay inside their folder. A server on 127.0.0.1."""

import io
import tarfile

import pytest
from helpers.server import CONTENT, zipped

from sca_bench.data.catalogue.download import download, partial_path, unpack
from sca_bench.errors import InputError


@pytest.fixture
def said():
    return []


def test_a_file_is_fetched_and_named_when_complete(server, tmp_path, said):
    target = tmp_path / "new" / "data.bin"
    download(server.url(), target, said.append)
    assert target.read_bytes() == CONTENT
    assert [p.name for p in target.parent.iterdir()] == ["data.bin"]
    assert said == [f"{server.url()}: fetching, 4.9 MiB"]


def test_a_truncated_download_is_kept_and_completed_later(server, tmp_path, said):
    target = tmp_path / "data.bin"
    server.cut_at = 3_000_000
    with pytest.raises(InputError, match=r"cut off|cannot be fetched") as caught:
        download(server.url(), target, said.append)
    assert "\n" not in str(caught.value)
    assert not target.exists()
    assert partial_path(target).read_bytes() == CONTENT[:3_000_000]
    server.cut_at = None
    server.asked.clear()
    download(server.url(), target, said.append)
    assert target.read_bytes() == CONTENT
    assert server.asked == ["bytes=3000000-"]
    assert said[-1] == f"{server.url()}: going on after 2.9 of 4.9 MiB"
    assert [p.name for p in tmp_path.iterdir()] == ["data.bin"]


def test_a_cut_that_moves_on_is_tried_again_at_once(server, tmp_path, said):
    target = tmp_path / "data.bin"
    server.cut_once = [2_000_000, 3_000_000]
    download(server.url(), target, said.append)
    assert target.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=2000000-", "bytes=3000000-"]


@pytest.mark.parametrize("fault", ["no ranges", "another file", "no tags"])
def test_where_the_rest_cannot_be_had_the_whole_is_fetched(server, tmp_path, said, fault):
    target = tmp_path / "data.bin"
    server.cut_at, server.tags = 1_000_000, fault != "no tags"
    with pytest.raises(InputError):
        download(server.url(), target, said.append)
    server.cut_at, server.ranges = None, fault != "no ranges"
    expected = CONTENT if fault != "another file" else CONTENT[::-1]
    server.files["/data.bin"] = expected
    download(server.url(), target, said.append)
    assert target.read_bytes() == expected


def test_what_a_server_refuses_is_one_clear_line(server, tmp_path, said):
    with pytest.raises(InputError, match=r"/no.bin: cannot be fetched: 404 Not Found; check") as e:
        download(server.url("no.bin"), tmp_path / "no.bin", said.append)
    assert f"fetch it by hand to {tmp_path / 'no.bin'}" in str(e.value)
    assert list(tmp_path.iterdir()) == []


def test_an_unreachable_server_is_one_clear_line(server, tmp_path, said):
    url = server.url()
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match=r"cannot be fetched: .*refused.*check the network") as e:
        download(url, tmp_path / "data.bin", said.append)
    assert "\n" not in str(e.value)


def tarred(path, members):
    with tarfile.open(path, "w:gz") as opened:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content.encode()))
    return path


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_archives_complete_the_folder(tmp_path, pack):
    (tmp_path / "out" / "a").mkdir(parents=True)
    (tmp_path / "out" / "a" / "old.txt").write_text("old")
    archive = pack(tmp_path / "x.zip", {"a/1.txt": "one", "a/b/2.txt": "two", "c/3.txt": "three"})
    unpack(archive, tmp_path / "out")
    files = {
        str(p.relative_to(tmp_path / "out")): p.read_text() for p in tmp_path.glob("out/**/*.txt")
    }
    assert files == {"a/old.txt": "old", "a/1.txt": "one", "a/b/2.txt": "two", "c/3.txt": "three"}
    assert not list(tmp_path.glob("out/.*"))


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("name", ["../evil.txt", "/tmp/evil.txt", "a/../../evil.txt"])
def test_no_member_leaves_the_folder(tmp_path, pack, name):
    archive = pack(tmp_path / "x.zip", {name: "evil"})
    folder = tmp_path / "deep" / "out"
    folder.mkdir(parents=True)
    if pack is tarred and name.startswith("/"):
        unpack(archive, folder)  # tarfile's own filter makes the name relative
        assert [p.name for p in folder.rglob("*.txt")] == ["evil.txt"]
        return
    with pytest.raises(InputError, match=r"x.zip: "):
        unpack(archive, folder)
    assert not list(tmp_path.rglob("evil.txt"))


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_damaged_archive_leaves_nothing(tmp_path, pack):
    members = {f"{k}.txt": str(k) * 5_000 for k in range(9)}
    whole = pack(tmp_path / "x.zip", members).read_bytes()
    (tmp_path / "x.zip").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=r"x.zip: cannot be unpacked: .*delete it") as caught:
        unpack(tmp_path / "x.zip", tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "out").iterdir()) == []
