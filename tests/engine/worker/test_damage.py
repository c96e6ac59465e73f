"""Runs outlive what happens to their files: kills, torn and foreign files, errors while reading."""

import dataclasses
import errno
import io
import itertools
import json
import os
import re
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from sca_bench import digests, reading
from sca_bench.digests import file_sha256
from sca_bench.engine.job import group_job as job_of_group
from sca_bench.engine.job import new_attempt
from sca_bench.engine.worker import group_run, hooks, trained_weights
from sca_bench.errors import CellError, InputError
from sca_bench.pretrained import tensors, torch_files
from sca_bench.reading import read_jsonl
from sca_bench.study.plan.plan import make_plan
from sca_bench.study.plan.repair import repaired_plan
from sca_bench.study.plan.schedule import Machine, make_schedule
from sca_bench.study.runs import soundness
from sca_bench.study.runs.soundness import Damaged, check_checkpoint, check_weights, run_name
from sca_bench.study.runs.store import (
    PREDICTIONS,
    Store,
    checkpoint_path,
    checkpoint_step,
    has_lost_weights,
    is_trained,
    set_damaged_aside,
    trained_path,
)
from sca_bench.study.runs.trained_index import Trained, TrainedIndex
from sca_bench.study.suite.suite import load_suite

CELLS = ({"mixer.num_layers": 1}, {"train.learning_rate": 0.003})
FIRST = "checkpoint-4.pt"

# --- what the files say of themselves ---------------------------------------------------------


class Captioner:
    """Two trained tensors."""

    def __init__(self, scale=1.0):
        self.state = {"b": torch.arange(3.0) * scale, "a": torch.ones(2, 2).half()}

    def trainable_state(self):
        return self.state

    def load_trainable_state(self, state, where=""):
        if state.keys() != self.state.keys():
            raise InputError(where, "a", "is missing")
        self.state = dict(state)


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "cells" / "abc" / "seed-7"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def weights(run_dir):
    trained_weights.save_trained(Captioner(), run_dir)
    return trained_path(run_dir)


@pytest.fixture
def checkpoint(run_dir):
    path = checkpoint_path(run_dir, 4)
    hooks.save_checkpoint(path, {"step": 4, "trainable": Captioner().state})
    return path


def test_weights_are_those_of_the_library_with_checksum_and_run(weights, run_dir):
    plain = save(Captioner().state)
    length = struct.unpack("<Q", plain[:8])[0]
    assert weights.read_bytes().endswith(plain[8 + length :])
    content = weights.read_bytes()
    header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
    assert header.pop("__metadata__").keys() == {"sca_bench.sha256", "sca_bench.run"}
    assert header == json.loads(plain[8 : 8 + length])
    assert run_name(run_dir) == "abc/seed-7"
    assert check_weights(weights, "abc/seed-7")
    assert all(torch.equal(load_file(weights)[k], v) for k, v in Captioner().state.items())
    assert is_trained(run_dir)


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_weights_and_checkpoints_have_the_mode_of_the_umask(run_dir, mask, mode):
    before = os.umask(mask)
    try:
        trained_weights.save_trained(Captioner(), run_dir)
        hooks.save_checkpoint(checkpoint_path(run_dir, 4), {"step": 4})
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in run_dir.iterdir()} == {mode}


def test_a_torn_file_is_told_at_every_length(weights, checkpoint, run_dir):
    for path, check in ((weights, check_weights), (checkpoint, check_checkpoint)):
        content = path.read_bytes()
        check(path)
        for length in {*range(0, len(content), 97), *range(17), len(content) - 1}:
            path.write_bytes(content[:length])
            with pytest.raises(Damaged):
                check(path)
            if path == weights:
                assert not is_trained(run_dir)  # even of its header alone
        path.write_bytes(content + b"more")
        with pytest.raises(Damaged):
            check(path)


def test_one_flipped_bit_is_told_wherever_it_is(weights, checkpoint):
    content = weights.read_bytes()
    for place, bit in itertools.product(range(len(content)), (0, 5)):
        flip(weights, place, bit, content)
        with pytest.raises(Damaged):
            check_weights(weights, "abc/seed-7")
    content = checkpoint.read_bytes()
    for place in (*range(0, len(content) - 200, 41), *range(len(content) - 200, len(content))):
        flip(checkpoint, place, place % 8, content)
        with pytest.raises(Damaged):
            check_checkpoint(checkpoint)


def flip(path, place=None, bit=2, content=None):
    """Flip one bit of a file, in its middle where no place is given."""
    changed = bytearray(path.read_bytes() if content is None else content)
    changed[len(changed) // 2 if place is None else place] ^= 1 << bit
    path.write_bytes(changed)


def test_another_runs_files_are_told(weights, checkpoint, run_dir):
    other = run_dir.with_name("seed-8")
    shutil.copytree(run_dir, other)
    with pytest.raises(Damaged, match="the weights of abc/seed-7, not of abc/seed-8"):
        check_weights(other / weights.name, run_name(other))
    with pytest.raises(Damaged, match="a checkpoint of abc/seed-7, not of abc/seed-8"):
        check_checkpoint(other / checkpoint.name, run_name(other))
    assert check_weights(other / weights.name)  # whoever looks at a copied folder
    assert not is_trained(other)
    lines = set_damaged_aside(other)
    assert [line.split(" as ")[1] for line in lines] == [
        "trainable.safetensors.damaged",
        "checkpoint-4.pt.damaged",
    ]
    assert {path.name for path in other.iterdir()} == {line.split(" as ")[1] for line in lines}
    assert set_damaged_aside(run_dir) == []
    assert len(list(run_dir.iterdir())) == 2


def test_files_of_older_runs_are_sound_if_they_load(run_dir):
    path, captioner = trained_path(run_dir), Captioner()
    save_file(Captioner(2.0).state, path)
    assert not check_weights(path, run_name(run_dir))
    trained_weights.load_trained(captioner, run_dir)
    assert captioner.state["b"].tolist() == [0, 2, 4]
    path = checkpoint_path(run_dir, 4)
    torch.save({"step": 4}, path)
    assert not check_checkpoint(path, run_name(run_dir))
    assert hooks.load_checkpoint(path) == {"step": 4}
    flip(path)
    with pytest.raises(CellError, match=r"damaged: .* set aside as checkpoint-4.pt.damaged"):
        hooks.load_checkpoint(path)
    save_file({"c": torch.ones(1)}, trained_path(run_dir))
    with pytest.raises(CellError, match=r"damaged: .*a: is missing; set aside"):
        trained_weights.load_trained(captioner, run_dir)


def test_who_only_looks_renames_nothing_and_says_how_to_train_anew(weights, run_dir):
    flip(weights, place=-1)
    with pytest.raises(InputError, match=r"fit its checksum; rename it to trainable.*damaged and"):
        trained_weights.read_trained(weights)
    assert weights.exists()
    weights.rename(f"{weights}.damaged")
    assert has_lost_weights(run_dir)
    trained_weights.save_trained(Captioner(), run_dir)
    assert not has_lost_weights(run_dir)
    assert trained_weights.read_trained(weights).keys() == {"a", "b"}


def test_weights_of_another_training_that_cannot_be_read_now_are_left_alone(
    weights, run_dir, monkeypatch
):
    found = Trained("abc", 7, 6, file_sha256(weights))
    captioner = Captioner(2.0)
    trained_weights.load_indexed(captioner, found, run_dir)
    assert captioner.state["b"].tolist() == [0, 1, 2]
    unreadable(errno.EIO, False, monkeypatch)
    with pytest.raises(CellError, match="EIO, Input/output error"):
        trained_weights.load_indexed(captioner, found, run_dir)
    monkeypatch.undo()
    assert check_weights(weights)


def test_a_checkpoint_executes_nothing(run_dir):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(run_dir / "executed"),)

    path = checkpoint_path(run_dir, 4)
    torch.save({"step": Evil()}, path)
    with pytest.raises(CellError, match="no checkpoint"):
        hooks.load_checkpoint(path)
    assert not (run_dir / "executed").exists()


def test_of_two_checkpoints_the_older_is_used_where_the_newer_is_damaged(run_dir):
    for step in (2, 4):
        hooks.save_checkpoint(checkpoint_path(run_dir, step), {"step": step})
    flip(checkpoint_path(run_dir, 4))
    assert len(set_damaged_aside(run_dir)) == 1
    assert checkpoint_step(run_dir) == 2


def unreadable(code, at_once, monkeypatch, names=(FIRST, "trainable.safetensors")):
    """Have some files not be opened, or not be read, whichever way they are opened."""
    plain = io.open

    class Raw(io.FileIO):
        def readinto(self, buffer):
            raise OSError(code, os.strerror(code))

        def readall(self):
            raise OSError(code, os.strerror(code))

    def instead_of(real):
        def opened(path, *rest, **more):
            if any(part in str(path) for part in names):
                if at_once:
                    raise OSError(code, os.strerror(code))
                return io.BufferedReader(Raw(path))
            return real(path, *rest, **more)

        return opened

    monkeypatch.setattr(io, "open", instead_of(plain))
    for module in (soundness, digests, tensors, torch_files):
        monkeypatch.setattr(module, "open_regular", instead_of(reading.open_regular))


@pytest.mark.parametrize("code", [errno.EIO, errno.EACCES, errno.EMFILE, errno.ENOMEM])
@pytest.mark.parametrize("at_once", [True, False])
def test_an_error_while_reading_says_nothing_of_the_content(
    weights, checkpoint, run_dir, monkeypatch, code, at_once
):
    unreadable(code, at_once, monkeypatch)
    assert set_damaged_aside(run_dir) == []
    assert is_trained(run_dir)  # nobody knows better
    for load in (
        lambda: trained_weights.load_trained(Captioner(), run_dir),
        lambda: hooks.load_checkpoint(checkpoint),
    ):
        with pytest.raises(CellError, match=errno.errorcode[code]) as caught:
            load()
        assert "nothing was deleted" in str(caught.value)
    monkeypatch.undo()
    assert {path.name for path in run_dir.iterdir()} == {weights.name, checkpoint.name}
    assert check_weights(weights)
    assert check_checkpoint(checkpoint)


# --- runs -------------------------------------------------------------------------------------

_MADE = {}


@pytest.fixture
def made(tmp_path_factory, group_job, run_group, monkeypatch):
    """Return a job and the runs folder of a finished, an interrupted or an uncaptioned group."""

    def make(name):
        runs = tmp_path_factory.mktemp(name) / "runs"
        job = group_job(*CELLS, runs=runs)
        with pytest.MonkeyPatch.context() as patch:
            if name != "straight":
                patch.setattr(hooks.LogHook, "after_train_iter", stop_at_step_5)
                with pytest.raises(KeyboardInterrupt):
                    run_group(job)
        if name == "uncaptioned":
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(group_run.GroupRun, "_caption", interrupt)
                with pytest.raises(KeyboardInterrupt):
                    run_group(again(job, runs))
        if name == "straight":
            assert not run_group(job).failed
        return job

    def get(name):
        if name not in _MADE:
            _MADE[name] = make(name)
        return _MADE[name]

    return get


def stop_at_step_5(self, runner, batch_idx, **_):
    if batch_idx == 4:
        raise KeyboardInterrupt


def interrupt(*_, **__):
    raise KeyboardInterrupt


def again(job, runs, cells=None):
    return dataclasses.replace(
        job, runs_dir=str(runs), attempt=new_attempt("test"), cells=cells or job.cells
    )


@pytest.fixture
def copied(made, tmp_path):
    """Return the job of such a group in a copy of its own, and the folders of its runs."""

    def copy(name):
        runs = tmp_path / "runs"
        shutil.copytree(made(name).runs_dir, runs)
        job = again(made(name), runs)
        return job, [Store(runs).run_dir(cell.cell_id, cell.seed) for cell in job.cells]

    return copy


@pytest.fixture
def next_run(run_group):
    """Do with a job what the next `run` does: check, group by where the runs stand, run."""

    def run(job):
        store, parts, failed = Store(job.runs_dir), {}, {}
        for cell in job.cells:
            folder = store.run_dir(cell.cell_id, cell.seed)
            set_damaged_aside(folder)
            record = store.record(cell.cell_id, cell.seed)
            if record is None or record.status != "done":
                place = (is_trained(folder), checkpoint_step(folder))
                parts.setdefault(place, []).append(cell)
        for cells in parts.values():
            failed |= run_group(again(job, job.runs_dir, cells)).failed
        return failed

    return run


def result(job):
    """Return weights and captions of every cell of a job."""
    store, found = Store(job.runs_dir), []
    for cell in job.cells:
        folder = store.run_dir(cell.cell_id, cell.seed)
        rows = read_jsonl(folder / PREDICTIONS)
        weights = load_file(trained_path(folder))
        found.append((weights, [(row["region_id"], row["caption"]) for row in rows]))
    return found


def assert_same(one, two):
    assert len(one) == len(two)
    for (weights, captions), (other_weights, other_captions) in zip(one, two, strict=True):
        assert weights.keys() == other_weights.keys()
        assert all(torch.equal(weights[k], other_weights[k]) for k in weights)
        assert captions == other_captions
        assert captions


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_kill_between_any_two_operations_of_saving_weights(
    made, copied, next_run, run_group, tmp_path, monkeypatch, die_after
):
    """From the first saved weights to the end of the run: a child dies after every operation."""
    job, _ = copied("interrupted")
    monkeypatch.chdir(tmp_path)
    parent, real, copies = os.getpid(), group_run.save_trained, []

    def forked(captioner, run_dir):
        for last in itertools.count():
            copies.append(Path(f"killed-{last}").resolve())
            shutil.copytree("runs/cells", copies[-1] / "runs" / "cells")
            shutil.copytree("runs/images", copies[-1] / "runs" / "images")
            (copies[-1] / "runs" / "features").symlink_to(tmp_path / "runs" / "features")
            child = os.fork()
            if child == 0:
                os.chdir(copies[-1])
                monkeypatch.setattr(group_run, "save_trained", real)
                monkeypatch.setattr(group_run.GroupRun, "_write_masks", lambda *_: None)
                die_after(last)
                return real(captioner, run_dir)
            _, status = os.waitpid(child, 0)
            if not os.WIFSIGNALED(status):
                raise KeyboardInterrupt(os.waitstatus_to_exitcode(status))
        raise AssertionError

    monkeypatch.setattr(group_run, "save_trained", forked)
    try:
        with pytest.raises(KeyboardInterrupt) as ended:
            run_group(again(job, "runs"))
    finally:
        if os.getpid() != parent:
            code = 1
            try:
                code = 0 if all_done(Path("runs"), job) else 1
            finally:  # or it would go on with all other tests
                os._exit(code)
    monkeypatch.undo()
    assert ended.value.args == (0,)
    expected, states = result(made("straight")), set()
    for copy in copies:
        here = again(job, copy / "runs")
        for cell in job.cells:
            folder = Store(here.runs_dir).run_dir(cell.cell_id, cell.seed)
            assert is_sound(trained_path(folder)) or is_sound(checkpoint_path(folder, 4))
        state = state_of(copy / "runs")
        if state in states:
            continue
        states.add(state)
        assert not next_run(here)
        assert_same(result(here), expected)
        assert not list(copy.rglob("*.damaged"))
    assert len(copies) > 20
    assert len(states) > 6


def all_done(runs, job):
    records = [Store(runs).record(cell.cell_id, cell.seed) for cell in job.cells]
    return all(record is not None and record.status == "done" for record in records)


def is_sound(path):
    check = check_weights if path.suffix == ".safetensors" else check_checkpoint
    return path.exists() and check(path, run_name(path.parent))


def state_of(runs):
    """Return what tells one killed run from another: weights, checkpoints and statuses."""
    files = [*runs.glob("cells/*/*/*trainable*"), *runs.glob("cells/*/*/checkpoint-*")]
    names = {re.sub(r"\d+\.tmp", "tmp", str(path.relative_to(runs))) for path in files}
    return (*sorted(names), *(record.status for record in Store(runs).records()))


def test_the_checkpoint_goes_when_the_weights_are_on_the_disk(copied, next_run, monkeypatch):
    job, folders = copied("interrupted")
    done = []
    for name in ("replace", "unlink", "fsync"):
        real = getattr(os, name)

        def call(path, *rest, name=name, real=real):
            named = Path(f"/proc/self/fd/{path}").resolve() if name == "fsync" else path
            done.append((name, Path(named)))
            return real(path, *rest)

        monkeypatch.setattr(os, name, call)
    assert not next_run(job)
    for folder in folders:
        temporary = folder / f".trainable.safetensors.{os.getpid()}.tmp"
        renamed = done.index(("replace", temporary))
        assert ("fsync", temporary) in done[:renamed]
        dropped = done.index(("unlink", folder / FIRST))
        assert ("fsync", folder) in done[renamed:dropped]


@pytest.mark.parametrize("length", [0, 40, -1])
def test_torn_weights_are_made_anew_from_the_checkpoint(made, copied, next_run, length):
    job, folders = copied("uncaptioned")
    content = trained_path(folders[0]).read_bytes()
    trained_path(folders[0]).write_bytes(content[:length])
    assert not next_run(job)
    assert_same(result(job), result(made("straight")))
    assert [path.name for path in folders[0].glob("*.damaged")] == ["trainable.safetensors.damaged"]
    assert not list(folders[1].glob("*.damaged"))
    steps = [Store(job.runs_dir).record(c.cell_id, 0).counters["train_steps"] for c in job.cells]
    assert steps == [2, 0]


def test_weights_of_another_run_or_with_a_flipped_bit_are_made_anew(made, copied, next_run):
    job, folders = copied("uncaptioned")
    shutil.copy(trained_path(folders[0]), trained_path(folders[1]))
    flip(trained_path(folders[0]), place=-5)
    checkpoint_path(folders[0], 4).unlink()
    assert not next_run(job)
    assert_same(result(job), result(made("straight")))
    assert len(list(Path(job.runs_dir).rglob("*.damaged"))) == 2
    steps = [Store(job.runs_dir).record(c.cell_id, 0).counters["train_steps"] for c in job.cells]
    assert steps == [6, 2]


def test_a_damaged_checkpoint_costs_its_own_cell_alone(made, copied, next_run):
    job, folders = copied("interrupted")
    flip(folders[0] / FIRST)
    assert not next_run(job)
    assert_same(result(job), result(made("straight")))
    assert (folders[0] / f"{FIRST}.damaged").exists()
    records = [Store(job.runs_dir).record(cell.cell_id, cell.seed) for cell in job.cells]
    assert [record.provenance["resumed_at_step"] for record in records] == [0, 4]


def test_a_checkpoint_damaged_after_the_check_fails_its_cell_and_the_group_goes_on(
    made, copied, run_group, next_run
):
    job, folders = copied("interrupted")
    flip(folders[0] / FIRST)
    failed = run_group(again(job, job.runs_dir)).failed
    assert failed.keys() == {job.cells[0].key}
    assert "set aside as checkpoint-4.pt.damaged, run again" in failed[job.cells[0].key]
    assert Store(job.runs_dir).record(job.cells[1].cell_id, 0).status == "done"
    assert not next_run(job)
    assert_same(result(job), result(made("straight")))


def failing(error):
    """Return a `torch.load` that raises for one checkpoint."""
    real = torch.load

    def load(path, **more):
        if str(path) == str(load.bad):
            raise error
        return real(path, **more)

    return load


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        OSError(errno.EIO, os.strerror(errno.EIO)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_out_of_memory_and_io_errors_while_resuming_touch_no_file(
    made, copied, run_group, next_run, monkeypatch, error
):
    job, folders = copied("interrupted")
    before = (folders[0] / FIRST).read_bytes()
    load = failing(error)
    load.bad = folders[0] / FIRST
    monkeypatch.setattr(torch, "load", load)
    failed = next_run(job)
    assert failed.keys() == {job.cells[0].key}
    (line,) = failed.values()
    assert re.search(rf"{FIRST}: cannot be read \({type(error).__name__}: .*nothing was del", line)
    assert (folders[0] / FIRST).read_bytes() == before
    assert Store(job.runs_dir).record(job.cells[1].cell_id, 0).status == "done"
    monkeypatch.undo()
    assert not next_run(job)
    record = Store(job.runs_dir).record(job.cells[0].cell_id, 0)
    assert record.provenance["resumed_at_step"] == 4
    assert_same(result(job), result(made("straight")))


def test_out_of_memory_while_a_checkpoint_is_put_back_touches_no_file(
    copied, next_run, monkeypatch
):
    job, folders = copied("interrupted")
    real = hooks.CheckpointHook._restore

    def restore(runner, member, content):
        if member.key == job.cells[0].key:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(runner, member, content)

    monkeypatch.setattr(hooks.CheckpointHook, "_restore", staticmethod(restore))
    assert next_run(job).keys() == {job.cells[0].key}
    assert check_checkpoint(folders[0] / FIRST)


def test_a_group_none_of_whose_checkpoints_can_be_read_ends_with_a_line_for_each(
    copied, next_run, monkeypatch
):
    job, folders = copied("interrupted")
    unreadable(errno.EIO, True, monkeypatch)
    failed = next_run(job)
    assert failed.keys() == {cell.key for cell in job.cells}
    assert all("OSError: EIO, Input/output error" in line for line in failed.values())
    monkeypatch.undo()
    assert all(check_checkpoint(folder / FIRST) for folder in folders)
    assert not any(is_trained(folder) for folder in folders)


def test_weights_that_cannot_be_read_now_are_not_made_twice(made, copied, next_run, monkeypatch):
    job, folders = copied("uncaptioned")
    unreadable(errno.EIO, False, monkeypatch, [str(trained_path(folders[0]))])
    assert next_run(job).keys() == {job.cells[0].key}
    monkeypatch.undo()
    assert not list(Path(job.runs_dir).rglob("*.damaged"))
    assert not next_run(job)
    assert_same(result(job), result(made("straight")))


def test_older_files_without_checksums_are_used(made, copied, next_run):
    job, folders = copied("interrupted")
    for folder in folders:
        content = torch.load(folder / FIRST, weights_only=True)
        torch.save(content, folder / FIRST)
    assert not next_run(job)
    records = [Store(job.runs_dir).record(cell.cell_id, cell.seed) for cell in job.cells]
    assert [record.provenance["resumed_at_step"] for record in records] == [4, 4]
    assert_same(result(job), result(made("straight")))


# --- a suite ----------------------------------------------------------------------------------

STAGE = """stages:
  shapes:
    data: {train: {dataset: scenes, num_images: 4, first_seed: 500, captions: shape}}
    train: {steps: 2}
"""


@pytest.fixture
def run_suite(run_group):
    """Do with a suite what `run` does, in this process; return what was said, and the plan."""

    def run(path, store):
        suite, said = load_suite(path), []
        plan = repaired_plan(lambda: make_plan(suite, store), store, said.append)
        waiting = list(make_schedule(plan, store, Machine("cpu", 1)).groups) if plan.left else []
        index = TrainedIndex(store)
        while waiting:
            group = next(g for g in waiting if all(index.find(*t) for t in g.waits_for))
            waiting.remove(group)
            job = job_of_group(
                group, runs_dir=store.root, suite=suite, threads=1, device="cpu", command=""
            )
            for cell in job.cells:
                store.run_dir(cell.cell_id, cell.seed).mkdir(parents=True, exist_ok=True)
            assert not run_group(job).failed
        return said, plan

    return run


def test_a_suite_repairs_what_its_runs_rely_on(suite_file, run_suite, tmp_path):
    """A done run's torn weights; a stage's flipped bit, which only a new cell needs."""
    store = Store(tmp_path / "runs")
    axes = "{pretraining: [none, shapes]}"
    path = suite_file(axes=axes, extra=STAGE, changes={"train.steps": 2})
    _, plan = run_suite(path, store)
    none, shapes = (store.run_dir(cell.cell_id, 0) for cell in plan.cells)
    (stage,) = (store.run_dir(job.cell.cell_id, 0) for job in plan.stages)
    before = {folder: trained_path(folder).read_bytes() for folder in (none, shapes, stage)}
    said, plan = run_suite(path, store)
    assert (said, plan.left) == ([], [])
    trained_path(none).write_bytes(before[none][:100])
    flip(trained_path(stage), place=-3)
    assert [job.cell.name for job in make_plan(plan.suite, store).left] == ["pretraining=none"]
    said, plan = run_suite(path, store)
    assert [line.split(": ")[0].strip() for line in said] == [str(trained_path(none))]
    assert trained_path(none).read_bytes() == before[none]
    path = suite_file(
        axes="{pretraining: [shapes], data.train.num_images: [5, 4]}",
        extra=STAGE,
        changes={"train.steps": 2},
    )
    plan = repaired_plan(lambda: make_plan(load_suite(path), store), store, said.append)
    assert store.record(plan.stages[0].cell.cell_id, 0).status == "killed"
    assert str(trained_path(stage)) in store.record(plan.stages[0].cell.cell_id, 0).error
    said, plan = run_suite(path, store)
    assert said == []  # it was set aside by then
    assert trained_path(stage).read_bytes() == before[stage]
    assert trained_path(shapes).read_bytes() == before[shapes]
