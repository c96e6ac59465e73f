"""What ends one cell of a group, and only that: a loss that is not finite, a disk that is full."""

import errno
import itertools
import json
import re
from pathlib import Path

import pytest
import torch

from sca_bench import files
from sca_bench.engine.features.bank import FeatureBank
from sca_bench.engine.features.shards import DamagedRow
from sca_bench.engine.worker.loss_watch import LossWatch
from sca_bench.study.runs.store import Store, checkpoint_step

RUNS_AWAY = {"train.learning_rate": 1e30, "train.clip_norm": 1e30}
SOUND = {"train.learning_rate": 0.003}


def folder_of(job, index):
    cell = job.cells[index]
    return Store(job.runs_dir).run_dir(cell.cell_id, cell.seed)


def made(job, index):
    """Return the digests and rows of what a cell made; times left out."""
    folder = folder_of(job, index)
    rows = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    return (
        (folder / "trainable.safetensors").read_bytes(),
        [{key: value for key, value in row.items() if key != "seconds"} for row in rows],
    )


_ALONE = []


@pytest.fixture
def alone(group_job, run_group, tmp_path):
    """What the sound cell makes by itself, made once."""
    if not _ALONE:
        job = group_job(SOUND, runs=tmp_path / "alone")
        assert not run_group(job).failed
        _ALONE.append(made(job, 0))
    return _ALONE[0]


@pytest.mark.parametrize("log_every", [1, 4])
def test_a_loss_that_is_not_finite_names_step_rate_and_regions(
    group_job, run_group, alone, log_every
):
    away = {**RUNS_AWAY, "runtime.log_every": log_every}
    job = group_job(away, SOUND)
    outcome = run_group(job)
    assert list(outcome.failed) == [job.cells[0].key]
    (reason,) = outcome.failed.values()
    told = re.fullmatch(
        r"loss is (nan|inf) at step (\d), learning rate (\S+), regions (scene_\d+_\d+(, )?)+",
        reason,
    )
    assert told, reason
    rows = Store(job.runs_dir).log(job.cells[0].cell_id, 0)
    assert all(row["step"] < int(told[2]) for row in rows)
    assert float(told[3]) >= 1e29
    assert Store(job.runs_dir).record(job.cells[0].cell_id, 0).error == reason
    assert made(job, 1) == alone
    # What is repeated begins before the step at which it went wrong.
    assert checkpoint_step(folder_of(job, 0)) < int(told[2])
    assert run_group(group_job(away, runs=job.runs_dir)).failed == outcome.failed


def test_a_device_that_is_not_waited_for_tells_the_step_all_the_same():
    watch = LossWatch(step=7)
    for loss, regions in ((1.0, ["a"]), (float("inf"), ["b", "c"]), (float("nan"), ["d"])):
        watch.add(torch.tensor(loss), regions, 0.5)
    assert watch.fault() == "loss is inf at step 9, learning rate 0.5, regions b, c"
    assert watch.fault() == ""
    watch.add(torch.tensor(-float("inf"), dtype=torch.bfloat16), [str(n) for n in range(40)], 1e-4)
    assert watch.fault().endswith("30, 31 and 8 more")


FAULTS = (
    ("write", ".checkpoint-2.pt"),
    ("rename", ".checkpoint-2.pt"),
    ("write", "log.jsonl"),
    ("write", ".trainable.safetensors"),
    ("write", "predictions.partial.jsonl"),
    ("rename", "predictions.partial.jsonl"),
)


def test_a_file_that_cannot_be_written_costs_its_own_cell(group_job, run_group, alone, monkeypatch):
    """Six cells of one group meet a fault each, and a seventh meets none."""
    cells = [{"train.learning_rate": 0.004 + 0.001 * number} for number in range(len(FAULTS))]
    job = group_job(*cells, SOUND)
    failing = {folder_of(job, number): fault for number, fault in enumerate(FAULTS)}
    met = set()

    def fail(done, path):
        what, name = failing.get(path.parent, ("", ""))
        if done == what and path.name.startswith(name):
            met.add(path.parent)
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(files, "before_operation", fail)
        outcome = run_group(job)
    assert met == failing.keys()
    assert outcome.failed.keys() == {cell.key for cell in job.cells[:-1]}
    for reason in outcome.failed.values():
        assert "No space left on device" in reason
    assert made(job, -1) == alone
    records = [Store(job.runs_dir).record(cell.cell_id, 0) for cell in job.cells]
    assert [record.status for record in records] == ["failed"] * len(FAULTS) + ["done"]
    assert not list(Path(job.runs_dir).glob("cells/*/*/.*.tmp"))
    for cell in cells:
        assert not run_group(group_job(cell, runs=job.runs_dir)).failed


@pytest.mark.parametrize("where", ["loss", "generate"])
def test_memory_that_gives_out_in_a_validation_costs_its_own_cell(
    group_job, run_group, alone, monkeypatch, where
):
    from sca_bench.engine.worker import group_run

    real = group_run.build_member

    def build(cell, parts, device):
        member = real(cell, parts, device)
        if cell.settings.mixer.num_layers == 2:
            inner = getattr(member.captioner, where)

            def starved(*arguments):
                if not torch.is_grad_enabled() or where == "generate":
                    raise MemoryError("cannot allocate 7 GiB")
                return inner(*arguments)

            monkeypatch.setattr(member.captioner, where, starved)
        return member

    monkeypatch.setattr(group_run, "build_member", build)
    job = group_job({"mixer.num_layers": 2}, SOUND)
    outcome = run_group(job)
    assert outcome.failed == {job.cells[0].key: "MemoryError: cannot allocate 7 GiB"}
    assert made(job, 1) == alone


@pytest.mark.parametrize("trains", [True, False], ids=["training", "evaluation"])
def test_what_a_loader_cannot_read_is_the_reason_of_all_who_are_left(
    group_job, run_group, monkeypatch, trains
):
    """A cell that had left before keeps its own."""
    attach, reads = FeatureBank.attach, itertools.count(1)

    def damaged(self, batch, **more):
        if torch.is_grad_enabled() == trains and next(reads) == (3 if trains else 1):
            raise DamagedRow("features/x: a row does not fit its checksum")
        return attach(self, batch, **more)

    monkeypatch.setattr(FeatureBank, "attach", damaged)
    job = group_job({**RUNS_AWAY, "runtime.log_every": 1}, SOUND)
    outcome = run_group(job)
    records = [Store(job.runs_dir).record(cell.cell_id, 0) for cell in job.cells]
    assert [record.status for record in records] == ["failed", "failed"]
    assert outcome.failed == {
        cell.key: record.error for cell, record in zip(job.cells, records, strict=True)
    }
    assert re.match(r"loss is (nan|inf) at step [12],", records[0].error)
    assert records[1].error == "features/x: a row does not fit its checksum"
