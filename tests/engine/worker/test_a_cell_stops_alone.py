"""What ends one cell of a group, and only that: a loss that is not finite, a disk that is full."""

import errno
import json
import re
from pathlib import Path

import pytest
import torch

from sca_bench import files
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


@pytest.fixture
def alone(group_job, run_group, tmp_path):
    """What the sound cell makes by itself."""
    job = group_job(SOUND, runs=tmp_path / "alone")
    assert not run_group(job).failed
    return made(job, 0)


@pytest.mark.parametrize("log_every", [1, 4])
def test_a_loss_that_is_not_finite_names_step_rate_and_regions(
    group_job, run_group, alone, log_every
):
    job = group_job({**RUNS_AWAY, "runtime.log_every": log_every}, SOUND)
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
    again = run_group(job)
    assert again.failed == outcome.failed


def test_a_device_that_is_not_waited_for_tells_the_step_all_the_same():
    watch = LossWatch(step=7)
    for loss, regions in ((1.0, ["a"]), (float("inf"), ["b", "c"]), (float("nan"), ["d"])):
        watch.add(torch.tensor(loss), regions, 0.5)
    assert watch.fault() == "loss is inf at step 9, learning rate 0.5, regions b, c"
    assert watch.fault() == ""
    watch.add(torch.tensor(-float("inf"), dtype=torch.bfloat16), [str(n) for n in range(40)], 1e-4)
    assert watch.fault().endswith("30, 31 and 8 more")


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("write", ".checkpoint-2.pt"),
        ("rename", ".checkpoint-2.pt"),
        ("delete", "checkpoint-2.pt"),
        ("write", "log.jsonl"),
        ("open", "log.jsonl"),
        ("write", ".trainable.safetensors"),
        ("open", "predictions.partial.jsonl"),
        ("write", "predictions.partial.jsonl"),
        ("rename", "predictions.partial.jsonl"),
    ],
)
@pytest.mark.parametrize("fault", [errno.ENOSPC])
def test_a_file_that_cannot_be_written_costs_its_own_cell(
    group_job, run_group, alone, monkeypatch, what, name, fault
):
    job = group_job({}, SOUND)
    first, met = folder_of(job, 0), []

    def fail(done, path):
        if done == what and path.parent == first and path.name.startswith(name):
            met.append(path)
            raise OSError(fault, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(files, "before_operation", fail)
        outcome = run_group(job)
    assert met
    assert list(outcome.failed) == [job.cells[0].key]
    assert "No space left on device" in outcome.failed[job.cells[0].key]
    assert made(job, 1) == alone
    records = [Store(job.runs_dir).record(cell.cell_id, 0) for cell in job.cells]
    assert [record.status for record in records] == ["failed", "done"]
    assert not list(Path(job.runs_dir).glob("cells/*/*/.*.tmp"))
    again = group_job({}, runs=job.runs_dir)
    assert not run_group(again).failed


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
