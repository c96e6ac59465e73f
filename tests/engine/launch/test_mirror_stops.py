"""A run that is stopped has the right status in MLflow when it has ended."""

import contextlib
import signal
import sqlite3
import time

import pytest
from helpers.command import finish, wait_for

from sca_bench.study.runs.store import Store

LONG = {"train.steps": 4000, "runtime.checkpoint_every": 5, "train.val_every": 4000}


def statuses(runs):
    """Return the status of every run in the folder's MLflow, without MLflow."""
    file = runs / "mlflow.db"
    if not file.exists():
        return []
    with contextlib.closing(sqlite3.connect(file, timeout=10)) as connection:
        return [status for (status,) in connection.execute("SELECT status FROM runs")]


@pytest.mark.parametrize("number", [signal.SIGHUP])
def test_a_run_that_is_stopped_is_killed_in_mlflow_at_once(suite_file, process, tmp_path, number):
    path, runs = suite_file(axes="{mixer.num_layers: [1]}", changes=LONG), tmp_path / "runs"
    running = process("run", path)
    wait_for(lambda: statuses(runs) == ["RUNNING"], running)
    running.send_signal(number)
    began = time.monotonic()
    out = finish(running, 128 + number)
    assert time.monotonic() - began < 30
    assert "Traceback" not in out
    (record,) = Store(runs).records()
    assert record.status == "killed"
    assert statuses(runs) == ["KILLED"]
    assert not list(runs.glob("sca_bench-*"))
