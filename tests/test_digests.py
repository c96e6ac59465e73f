"""Digests follow the content of a file, and their memory is only a memory."""

import contextlib
import hashlib
import os
import sqlite3
import struct

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


def trigger(memory):
    with contextlib.closing(sqlite3.connect(memory)) as database, database:
        database.execute("CREATE TRIGGER t AFTER INSERT ON files BEGIN DELETE FROM files; END")


def endless_view(memory):
    with contextlib.closing(sqlite3.connect(memory)) as database, database:
        database.execute("DROP TABLE files")
        counting = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
        database.execute(f"CREATE VIEW files AS {counting} SELECT x AS memo, 'a' AS digest FROM c")


def other_columns(memory):
    with contextlib.closing(sqlite3.connect(memory)) as database, database:
        database.execute("ALTER TABLE files RENAME COLUMN digest TO hash")


def no_texts(memory):
    with contextlib.closing(sqlite3.connect(memory)) as database, database:
        database.execute("UPDATE files SET digest = ''")
        database.execute("INSERT INTO files SELECT memo || 'x', x'00' FROM files")


def journal_of_several(memory):
    name = str(memory.parent / "precious").encode()
    tail = struct.pack(">II", len(name), sum(name)) + bytes.fromhex("d9d505f920a163d7")
    memory.with_name(f"{memory.name}-journal").write_bytes(b"\0" * 512 + name + tail)


@pytest.mark.parametrize(
    "harm",
    [
        trigger,
        endless_view,
        other_columns,
        no_texts,
        journal_of_several,
        lambda memory: memory.write_bytes(b"no database at all" * 100),
        lambda memory: memory.write_bytes(memory.read_bytes()[:3000]),
        lambda memory: (memory.unlink(), memory.symlink_to(memory.parent / "precious")),
        lambda memory: (memory.unlink(), os.mkfifo(memory)),
        lambda memory: (memory.unlink(), memory.mkdir()),
    ],
)
def test_a_memory_of_somebody_else_is_made_anew(tmp_path, harm):
    source, memory, precious = (
        tmp_path / name for name in ("a", "fingerprints.sqlite", "precious")
    )
    source.write_bytes(b"content")
    with contextlib.closing(sqlite3.connect(precious)) as database, database:
        database.execute("CREATE TABLE mine (x)")
    before, expected = precious.read_bytes(), hashlib.sha256(b"content").hexdigest()
    assert FileDigests(memory).of(source) == expected
    harm(memory)
    for _ in range(2):
        assert FileDigests(memory).of(source) == expected
    assert precious.read_bytes() == before
