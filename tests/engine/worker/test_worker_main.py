"""What a worker process says of a task that went wrong."""

import os

from sca_bench.engine.job import Outcome
from sca_bench.engine.worker import main as worker
from sca_bench.errors import InputError


def wrong(job, outcome, path):
    raise InputError(None, "sam.size", "'x' is unknown", "did you mean tiny?")


def broken(job, outcome, path):
    raise RuntimeError("no\nway")


def draws(job, outcome, path):
    outcome.messages.append(os.environ["MPLBACKEND"])


def done(group_job, tmp_path, monkeypatch, task):
    monkeypatch.setattr(worker, "die_with_parent", lambda: None)
    monkeypatch.setattr(worker, "redirect", lambda _: None)
    job = group_job({})
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
