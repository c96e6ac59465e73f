"""Files on a disk that is full or broken: the old content or the new one, and nothing beside it."""

import errno
import itertools
import os
import resource

import pytest
import torch

from sca_bench import files
from sca_bench.digests import FileDigests, file_sha256
from sca_bench.engine.worker.hooks import load_checkpoint, save_checkpoint
from sca_bench.files import append, atomic_folder, replaced_files, write_atomic


@pytest.fixture
def fail(monkeypatch):
    """Let the k-th operation fail from now on, or with `lasting` all from there."""

    def arm(last, code, *, lasting=False):
        count = itertools.count(1)

        def before(what, path):
            number = next(count)
            if number == last or (lasting and number > last):
                raise OSError(code, os.strerror(code), str(path))

        monkeypatch.setattr(files, "before_operation", before)
        return count

    return arm


@pytest.fixture
def limit():
    """Let this process write no file beyond so many bytes, whoever writes; put back at the end."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def arm(num_bytes):
        resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))

    yield arm
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def write_file(folder):
    write_atomic(folder / "a", "new")


def write_folder(folder):
    with atomic_folder(folder / "b") as inside:
        write_atomic(inside / "a", "new")
        write_atomic(inside / "c" / "d", "new")


def replace_files(folder):
    with replaced_files(folder) as new:
        for name in ("a", "c"):
            write_atomic(new / name, "new")


MADE = {write_file: {*"ac"}, write_folder: {*"abcd"}, replace_files: {*"ac"}}


@pytest.mark.parametrize(("code", "lasting"), [(errno.ENOSPC, True), (errno.EIO, False)])
@pytest.mark.parametrize("write", [write_file, write_folder, replace_files])
def test_whichever_operation_fails_what_was_there_stays_whole(tmp_path, fail, write, code, lasting):
    for last in itertools.count(1):
        folder = tmp_path / str(last)
        folder.mkdir()
        for name in ("a", "c"):
            (folder / name).write_text("old")
        count = fail(last, code, lasting=lasting)
        fault = raised_by(write, folder)
        if next(count) <= last:
            break  # fewer operations than that
        assert fault is None or (fault.errno == code and str(folder) in fault.filename)
        assert {(folder / name).read_text() for name in ("a", "c")} <= {"old", "new"}
        fail(0, code)
        if not (folder / "b").exists():
            write(folder)
        assert {p.name for p in folder.rglob("*")} == MADE[write]
    assert last > 5


def raised_by(write, folder):
    try:
        write(folder)
    except OSError as fault:
        return fault
    return None


def test_a_report_that_cannot_be_finished_leaves_the_older_one(tmp_path):
    write_atomic(tmp_path / "a", "old")

    def draw():
        with replaced_files(tmp_path) as new:
            write_atomic(new / "a", "new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        draw()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old"}


def test_a_first_report_that_cannot_be_finished_leaves_no_empty_folder(tmp_path):
    def draw(folder):
        with replaced_files(folder):
            raise RuntimeError

    (tmp_path / "there").mkdir()
    for folder in (tmp_path / "there", tmp_path / "new" / "suite"):
        with pytest.raises(RuntimeError):
            draw(folder)
    assert list(tmp_path.rglob("*")) == [tmp_path / "there"]


def test_what_a_killed_report_left_is_deleted_by_the_next_one(tmp_path):
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    (tmp_path / f".new.{child}.tmp").mkdir()
    (tmp_path / f".new.{os.getppid()}.tmp").mkdir()  # of a process that is at work
    replace_files(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "c", f".new.{os.getppid()}.tmp"}


def test_a_line_that_finds_no_room_is_the_only_one_that_is_missing(tmp_path, fail):
    append(tmp_path / "log", "one\n")
    fail(2, errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        append(tmp_path / "log", "two\n")
    append(tmp_path / "log", "three\n")
    assert (tmp_path / "log").read_text() == "one\nthree\n"


def test_a_checkpoint_of_torch_that_finds_no_room_leaves_the_one_before(tmp_path, limit):
    path = tmp_path / "run" / "seed-0" / "checkpoint-1.pt"
    save_checkpoint(path, {"step": 1, "weights": torch.zeros(10)})
    limit(64 * 1024)
    with pytest.raises(OSError, match="File too large"):
        save_checkpoint(path, {"step": 2, "weights": torch.zeros(1_000_000)})
    assert load_checkpoint(path)["step"] == 1
    assert list(path.parent.iterdir()) == [path]


def test_a_memory_of_sqlite_that_finds_no_room_is_done_without_and_named_once(
    tmp_path, limit, caplog
):
    paths = [tmp_path / f"{number}.jpg" for number in range(40)]
    for path in paths:
        path.write_text(path.name)
    memory = tmp_path / "digests.sqlite"
    FileDigests(memory).of(paths[0])
    limit(memory.stat().st_size)
    known = FileDigests(memory)
    known._AT_ONCE = 1
    assert [known.of(path) for path in paths] == [file_sha256(path) for path in paths]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 1
    assert "digests.sqlite: " in said[0]
