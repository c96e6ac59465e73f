"""Digests follow the content of a file, and their memory is only a memory."""

import os

import pytest

from sca_bench import digests
from sca_bench.digests import FileDigests, has_stamp


def test_digests_follow_the_content_and_survive_damage(tmp_path):
    file, memory = tmp_path / "a.jpg", tmp_path / "m" / "digests.sqlite"
    file.write_bytes(b"one")
    one = FileDigests(memory).of(file)
    assert FileDigests(memory).of(file) == one
    file.write_bytes(b"two")
    two = FileDigests(memory).of(file)
    assert two != one
    memory.write_bytes(b"no data base at all" * 100)
    assert FileDigests(memory).of(file) == two
    with pytest.raises(FileNotFoundError):
        FileDigests(memory).of(tmp_path / "b.jpg")


def test_digests_are_remembered_between_processes_and_not_made_twice(tmp_path, monkeypatch):
    file, memory = tmp_path / "a.jpg", tmp_path / "digests.sqlite"
    file.write_bytes(b"one")
    one = FileDigests(memory).of(file)
    monkeypatch.setattr(digests, "file_sha256", lambda path: "made again")
    assert FileDigests(memory).of(file) == one
    assert FileDigests().of(file) == "made again"


def test_a_change_is_seen_whose_size_and_time_were_put_back(tmp_path):
    file, memory = tmp_path / "a.jpg", tmp_path / "digests.sqlite"
    file.write_bytes(b"one")
    known, one = digests.file_stamp(file), FileDigests(memory).of(file)
    file.write_bytes(b"two")
    os.utime(file, ns=(known["mtime_ns"], known["mtime_ns"]))
    assert file.stat().st_mtime_ns == known["mtime_ns"]
    assert not has_stamp(file, known)
    assert FileDigests(memory).of(file) != one
    without_inode = {k: v for k, v in digests.file_stamp(file).items() if k != "inode"}
    assert not has_stamp(file, without_inode)


def test_many_files_are_digested_in_their_order_and_looked_up_at_once(tmp_path, monkeypatch):
    paths = [tmp_path / f"{number}.jpg" for number in range(1200)]
    for number, path in enumerate(paths):
        path.write_text(str(number))
    memory = tmp_path / "digests.sqlite"
    found = FileDigests(memory).of_all(paths[::-1])
    assert found == [digests.file_sha256(path) for path in paths[::-1]]
    paths[7].write_text("other")
    read = []
    monkeypatch.setattr(digests, "file_sha256", lambda path: read.append(path) or "made again")
    again = FileDigests(memory).of_all(paths)
    assert read == [paths[7]]
    assert again == [*found[::-1][:7], "made again", *found[::-1][8:]]


def test_a_file_written_twice_between_two_ticks_is_digested_twice(tmp_path, monkeypatch):
    """Both contents have one stamp, so the first one's digest may not be kept under it."""
    file, memory = tmp_path / "a.jpg", FileDigests(tmp_path / "digests.sqlite")
    stamp = {"size": 3, "mtime_ns": 1, "ctime_ns": 5 * 10**9, "inode": 2}
    monkeypatch.setattr(digests, "file_stamp", lambda path: stamp)
    for age, remembered in ((10**9, False), (-(10**9), False), (3 * 10**9, True)):
        monkeypatch.setattr(digests.time, "time_ns", lambda age=age: 5 * 10**9 + age)
        file.write_bytes(b"one")
        one = memory.of(file)
        file.write_bytes(b"two")
        assert (memory.of(file) == one) == remembered


def test_a_young_file_is_digested_when_the_clock_has_moved_on(tmp_path, monkeypatch):
    file, memory, waited = tmp_path / "a.jpg", FileDigests(), []
    monkeypatch.setattr(digests.time, "sleep", lambda s: waited.append(s) or os.utime(file))
    file.write_bytes(b"one")
    young = digests.file_stamp(file)["ctime_ns"] + 1
    monkeypatch.setattr(digests.time, "time_ns", lambda: young)
    memory.of(file)
    assert [0 < seconds <= 0.02 for seconds in waited] == [True]


def test_a_link_that_leads_elsewhere_is_another_file(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_text(name)
        os.utime(tmp_path / name / "1.png", ns=(10**18, 10**18))
    link, memory = tmp_path / "images", FileDigests(tmp_path / "digests.sqlite")
    found = []
    for name in ("a", "b", "a"):
        link.unlink(missing_ok=True)
        link.symlink_to(name)
        found.append(memory.of(link / "1.png"))
    assert found[0] == found[2] != found[1]


def test_a_memory_that_cannot_be_written_is_read_or_done_without(tmp_path):
    file, memory = tmp_path / "a.jpg", tmp_path / "runs" / "digests.sqlite"
    file.write_bytes(b"one")
    one = FileDigests(memory).of(file)
    memory.chmod(0o444)
    memory.parent.chmod(0o555)
    (tmp_path / "no folder").write_text("")
    try:
        assert FileDigests(memory).of(file) == one
        assert FileDigests(tmp_path / "no folder" / "digests.sqlite").of(file) == one
        file.write_bytes(b"two")
        assert FileDigests(memory).of(file) == digests.file_sha256(file)
    finally:
        memory.parent.chmod(0o755)
