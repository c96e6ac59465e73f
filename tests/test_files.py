"""Files and folders that are there whole or not at all, and that nobody writes another way."""

import ast
import errno
import itertools
import json
import os
import re
from contextlib import suppress
from pathlib import Path

import pytest

from sca_bench import files
from sca_bench.errors import InputError
from sca_bench.files import (
    atomic_file,
    atomic_folder,
    drop_unfinished,
    inside,
    path_name,
    publish,
    write_atomic,
)

ROOT = Path(__file__).parents[1]


@pytest.fixture
def umask():
    """Set the umask; it is put back afterwards."""
    before = os.umask(0)
    os.umask(before)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_get_the_mode_that_the_umask_gives(umask, tmp_path, mask, mode):
    umask(mask)
    write_atomic(tmp_path / "a" / "text", "x")
    with atomic_folder(tmp_path / "b") as folder:
        (folder / "of_a_library").touch(0o600)
        (folder / "inside").mkdir()
        write_atomic(folder / "inside" / "own", "y")
    found = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(found) == 3
    assert {path.stat().st_mode & 0o777 for path in found} == {mode}


@pytest.fixture
def operations(tmp_path, monkeypatch):
    """Record what is flushed, renamed and deleted, by name, in order."""
    done = []

    def recorded(name, of=lambda path, *_: Path(path).name):
        real = getattr(os, name)

        def call(*arguments, **more):
            done.append(f"{name} {of(*arguments)}")
            return real(*arguments, **more)

        monkeypatch.setattr(os, name, call)

    recorded("replace")
    recorded("unlink")
    recorded("fsync", lambda handle: Path(f"/proc/self/fd/{handle}").resolve().name)
    return done


def test_content_is_on_the_disk_before_its_name_and_the_name_before_the_call_returns(
    operations, tmp_path
):
    write_atomic(tmp_path / "f", "x")
    temporary = f".f.{os.getpid()}.tmp"
    assert operations == [f"fsync {temporary}", f"replace {temporary}", f"fsync {tmp_path.name}"]


def test_a_folder_is_on_the_disk_before_its_name(operations, tmp_path):
    with atomic_folder(tmp_path / "d") as folder:
        (folder / "one").write_text("1")
        (folder / "in").mkdir()
        (folder / "in" / "two").write_text("2")
    last = operations.index(f"replace {folder.name}")
    before = [done for done in operations[:last] if done.startswith("fsync")]
    assert before == ["fsync one", "fsync two", "fsync in", f"fsync {folder.name}"]
    assert operations[last + 1 :] == [f"fsync {tmp_path.name}"]


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "f"
    write_atomic(path, b"old")
    with suppress(KeyboardInterrupt), atomic_file(path) as handle:
        handle.write(b"new")
        raise KeyboardInterrupt
    with suppress(ValueError), atomic_folder(tmp_path / "d") as folder:
        (folder / "x").touch()
        raise ValueError
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_takes_the_place_of_an_empty_one_only(tmp_path):
    place = tmp_path / "d"
    place.mkdir()
    with atomic_folder(place) as folder:
        (folder / "first").touch()
    with pytest.raises(OSError, match=r"\[Errno (17|39)\]"), atomic_folder(place) as folder:
        (folder / "second").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["d", "first"]


def test_a_kill_between_any_two_operations_leaves_the_old_or_the_new_content(tmp_path, die_after):
    """A child of its own dies after the k-th operation, for every k."""
    seen = []
    for last in itertools.count():
        path = tmp_path / str(last) / "f"
        write_atomic(path, "old")
        child = os.fork()
        if child == 0:
            die_after(last)
            write_atomic(path, "new")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        seen.append(path.read_text())
        drop_unfinished(path.parent)
        assert list(path.parent.iterdir()) == [path]
        if not os.WIFSIGNALED(status):
            break
    assert len(seen) == 6  # before, made, flushed, renamed, folder flushed, not at all
    assert seen == sorted(seen, key=["old", "new"].index)
    assert set(seen) == {"old", "new"}


def test_file_systems_without_a_flush_of_folders_are_fine_but_a_fault_of_the_disk_is_not(
    monkeypatch, tmp_path
):
    real = os.fsync

    def fail_on_folders(code):
        def fsync(handle):
            if Path(f"/proc/self/fd/{handle}").resolve().is_dir():
                raise OSError(code, os.strerror(code))
            return real(handle)

        return fsync

    monkeypatch.setattr(os, "fsync", fail_on_folders(errno.EINVAL))
    write_atomic(tmp_path / "f", "x")
    assert (tmp_path / "f").read_text() == "x"
    monkeypatch.setattr(os, "fsync", fail_on_folders(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        write_atomic(tmp_path / "g", "x")


def test_a_file_that_grew_under_another_name_is_flushed_before_it_gets_its_own(
    operations, tmp_path
):
    (tmp_path / "part").write_text("x")
    publish(tmp_path / "part", tmp_path / "whole")
    assert operations == ["fsync part", "replace part", f"fsync {tmp_path.name}"]


@pytest.mark.parametrize(
    ("name", "text"),
    [(b"plain", "plain"), (b"caf\xc3\xa9", "caf\u00e9"), (b"caf\xe9 %20", "caf\\xe9 %20")],
)
def test_every_name_of_a_file_has_a_text_that_can_be_stored(name, text):
    assert files.name_text(os.fsdecode(name)) == files.name_text(Path(os.fsdecode(name))) == text
    json.dumps(text, ensure_ascii=False).encode()


OTHERWISE = {
    "sca_bench/files.py": "is how it is done",
    "sca_bench/cli/plan.py": "a folder for a measurement, in TMPDIR",
    "sca_bench/cli/suite_files.py": "a folder for what a pipe holds, in TMPDIR",
    "sca_bench/contract/captioners/training.py": "a runs folder of a check, in a temporary folder",
    "sca_bench/contract/examples.py": "made-up input of a check, in a temporary folder",
    "sca_bench/contract/fake_suite.py": "made-up input of a check, in a temporary folder",
    "sca_bench/contract/plot.py": "a figure in memory, and a folder of a check",
    "sca_bench/contract/reader.py": "made-up input of a check, in a temporary folder",
    "sca_bench/contract/run.py": "pytest's settings, in a temporary folder",
    "sca_bench/contract/spec.py": "made-up input of a check, in a temporary folder",
    "sca_bench/embedded/caption_lm.py": "a command that makes shipped weights",
    "sca_bench/embedded/lm_recipe.py": "a command that makes shipped weights",
    "sca_bench/engine/finished/import_weights.py": "safetensors, into a folder of write_once",
    "sca_bench/engine/mlflow_mirror/child.py": "a folder for temporary files of libraries",
    "sca_bench/engine/mlflow_mirror/opening.py": "MLflow's own data base",
    "sca_bench/engine/measure/probe.py": "a folder for a measurement, in TMPDIR",
    "sca_bench/cli/upkeep/leftovers.py": "looks at Optuna's data base, and writes nothing",
    "sca_bench/engine/mlflow_mirror/cells.py": "what MLflow copies, in the child's own folder",
    "sca_bench/engine/mlflow_mirror/tracker.py": "what MLflow copies, in the child's own folder",
    "sca_bench/api/runs.py": "a figure in memory",
    "sca_bench/report/figures/style.py": "a figure in memory",
    "sca_bench/lifetime/scratch.py": "a folder for temporary files of one command, in TMPDIR",
    "sca_bench/metrics/coco_caption/spice.py": "a temporary folder for a Java process",
    "sca_bench/output.py": "the standard streams",
    "sca_bench/engine/process.py": "the standard streams",
    "sca_bench/models/original/layout.py": "safetensors, into a folder of write_once",
    "sca_bench/models/text_decoder/loading.py": "transformers, into a folder of write_once",
    "sca_bench/report/write.py": "figures that nobody keeps, in TMPDIR",
    "sca_bench/models/sam/onnx_child.py": "the standard streams",
    "sca_bench/study/runs/store.py": "looks at a lock, and makes none",
    "baselines/predictions/__init__.py": "made-up input of the contract, in a temporary folder",
    "baselines/sam_captioner/recipe.py": "a command that makes shipped weights",
}
"""Files that write, rename, delete or lock in another way, and why they may."""
SAFE = {"atomic_file", "open_to_write"}
WRITERS = {
    *("write_text", "write_bytes", "save_file", "savefig", "save_pretrained", "rename", "unlink"),
    *("mkdir", "makedirs", "rmdir", "rmtree", "copytree", "copyfile", "copy2", "move", "touch"),
    *("chmod", "symlink_to", "hardlink_to", "symlink", "flock", "lockf", "fsync", "truncate"),
    *("mkdtemp", "mkstemp", "TemporaryDirectory", "NamedTemporaryFile", "removedirs"),
}
OF_OURS = {"delete", "link", "listed", "rename", "touch"}
"""Names of `sca_bench.files`; as the method of something else they are what they always were."""
FLAGS = ("O_CREAT", "O_WRONLY", "O_RDWR", "O_APPEND")


def writes(path):
    """Yield the lines of a source file that write, rename or open for writing by themselves."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    safe = {
        id(inside)
        for block in ast.walk(tree)
        if isinstance(block, ast.With)
        and any(name_of(item.context_expr) in SAFE for item in block.items)
        for inside in ast.walk(block)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or id(node) in safe:
            continue
        name, of = name_of(node), ast.unparse(node.func).rpartition(".")[0]
        constants = [
            part.value
            for argument in (*node.args, *(word.value for word in node.keywords))
            for part in ast.walk(argument)
            if isinstance(part, ast.Constant) and isinstance(part.value, str)
        ]
        opens = name in ("open", "fdopen") and any(
            re.fullmatch("[rwxabt+]{1,3}", text) and set(text) & set("wxa+") for text in constants
        )
        opens |= name == "open" and any(flag in ast.unparse(node) for flag in FLAGS)
        named = name in WRITERS and (of or name not in OF_OURS)
        connects = name == "connect" and of == "sqlite3"
        tabulates = name in ("to_csv", "to_json", "to_excel") and node.args
        moves = name == "replace" and of and len(node.args) == 1 and not node.keywords
        saves = name in ("save", "savez") and of in ("torch", "np", "numpy")
        if opens or moves or saves or named or connects or tabulates:
            yield node.lineno


def name_of(node):
    return ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""


def test_whoever_writes_a_file_of_a_run_does_it_through_this_module():
    found = {
        str(path.relative_to(ROOT)): list(writes(path))
        for room in ("sca_bench", "baselines")
        for path in sorted((ROOT / room).rglob("*.py"))
    }
    assert len(found) > 200
    others = {name: lines for name, lines in found.items() if lines and name not in OTHERWISE}
    assert not others, "write through sca_bench.files, or say in OTHERWISE why not"
    assert not [name for name in OTHERWISE if not found[name]], "no longer needed in OTHERWISE"


@pytest.mark.parametrize(
    "line",
    [
        "path.write_text(text)",
        "temporary.replace(path)",
        "open(path, 'wb').write(b'')",
        "path.open(mode='a')",
        "path.open('ab' if resumed else 'wb')",
        "torch.save(content, path)",
        "save_file(tensors, path)",
        "path.unlink()",
        "path.parent.mkdir(parents=True)",
        "shutil.rmtree(path)",
        "os.open(path, os.O_CREAT | os.O_RDWR)",
        "sqlite3.connect(path)",
        "frame.to_csv(path)",
        "fcntl.flock(handle, fcntl.LOCK_EX)",
        "tempfile.TemporaryDirectory()",
        "path.touch()",
    ],
)
def test_the_walk_sees_what_writes(tmp_path, line):
    (tmp_path / "x.py").write_text(
        f"\n{line}\nstr.replace('a', 'b')\nreplace(job, slot=1)\nopen(p)\n"
    )
    assert list(writes(tmp_path / "x.py")) == [2]
    (tmp_path / "y.py").write_text(f"with atomic_file(p) as path:\n    {line}\n")
    assert list(writes(tmp_path / "y.py")) == []


@pytest.mark.parametrize("name", ["mixer_layers", "3f2ac1", "a.b-c_D", "0", "_x", "x" * 200])
def test_a_plain_name_stands_in_a_path_as_it_is(name):
    assert path_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "/x",
        "a/b",
        "a\\b",
        "-x",
        ".x",
        "a b",
        "a\n",
        "a\0",
        "ä",
        "x" * 201,
        None,
        3,
        10**40,
        True,
        ["a"],
        "٣",
        "a:b",
        "*",
        "a%2fb",
    ],
)
def test_a_name_that_could_lead_elsewhere_is_refused(name):
    with pytest.raises(InputError, match=r"record\.json: cell_id: .* cannot be the name") as fault:
        path_name(name, "record.json", "cell_id")
    assert len(str(fault.value)) < 300


def test_a_path_stays_inside_its_folder(tmp_path):
    real, root, other = tmp_path / "real", tmp_path / "root", tmp_path / "other"
    (real / "cells").mkdir(parents=True)
    other.mkdir()
    root.symlink_to(real)  # the user's own
    (real / "out").symlink_to(other)
    (real / "within").symlink_to("cells")
    (real / "nowhere").symlink_to(other / "not there")
    (real / "round").symlink_to("round")
    for fine in ("cells/a/b", "within/a", "new"):
        assert inside(root, root / fine) == root / fine
    for outside in ("out", "out/a", "nowhere", "..", "../other/x", "../real-too/x", "round"):
        with pytest.raises(InputError, match="leads out of"):
            inside(root, root / outside)
