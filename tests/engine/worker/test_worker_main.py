"""What a worker process says of a task that went wrong."""

import os
from dataclasses import replace

import pytest
import torch

from sca_bench.engine.job import Outcome
from sca_bench.engine.worker import main as worker
from sca_bench.errors import InputError


def wrong(job, outcome, path):
    raise InputError(None, "sam.size", "'x' is unknown", "did you mean tiny?")


def broken(job, outcome, path):
    raise RuntimeError("no\nway")


def draws(job, outcome, path):
    outcome.messages.append(os.environ["MPLBACKEND"])


def rounds(job, outcome, path):
    outcome.messages += [
        str(torch.backends.cuda.matmul.allow_tf32),
        str(torch.are_deterministic_algorithms_enabled()),
    ]


def done(group_job, tmp_path, monkeypatch, task, device="cpu", change=None):
    monkeypatch.setattr(worker, "die_with_parent", lambda: None)
    monkeypatch.setattr(worker, "redirect", lambda _: None)
    job = replace(group_job(change or {}), device=device)
    job.save(tmp_path / "job.json")
    files = [str(tmp_path / name) for name in ("job.json", "outcome.json", "log")]
    worker.main(*files, f"{__name__}:{task}")
    return job, Outcome.load(tmp_path / "outcome.json")


def test_an_error_of_the_input_gets_the_suite_for_its_address(group_job, tmp_path, monkeypatch):
    job, outcome = done(group_job, tmp_path, monkeypatch, "wrong")
    assert outcome.input_error == [job.where, "sam.size", "'x' is unknown", "did you mean tiny?"]


def test_what_a_notebook_draws_with_is_not_asked_for(group_job, tmp_path, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    _, outcome = done(group_job, tmp_path, monkeypatch, "draws")
    assert (outcome.messages, outcome.failed) == (["agg"], {})


def test_any_other_error_fails_every_cell_with_one_line(group_job, tmp_path, monkeypatch):
    job, outcome = done(group_job, tmp_path, monkeypatch, "broken")
    assert outcome.failed == {job.cells[0].key: "RuntimeError: no way"}


@pytest.mark.parametrize(
    ("device", "precision", "said"),
    [
        ("cuda:1", "tf32", ["True", "True"]),
        ("cuda:1", "fp32", ["False", "True"]),
        ("cpu", "tf32", ["False", "False"]),
    ],
)
def test_a_task_is_done_as_its_settings_round(
    group_job, tmp_path, monkeypatch, device, precision, said
):
    current = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    change = {"train.precision": precision, "runtime.deterministic": True}
    _, outcome = done(group_job, tmp_path, monkeypatch, "rounds", device, change)
    assert (outcome.messages, outcome.failed) == (said, {})
    assert current == [torch.device(device)] * (device != "cpu")
