"""A run where nothing is as it should be around it: folders, streams, and what a notebook sets."""

import contextlib
import multiprocessing
import os
import shutil
import tempfile
from multiprocessing import util
from pathlib import Path

import pytest

from sca_bench.engine import fork_servers
from sca_bench.errors import InputError
from sca_bench.lifetime import scratch
from sca_bench.study.runs.store import Store

AROUND = {
    "MPLBACKEND": "no_such_backend",
    "MPLCONFIGDIR": "/proc/nowhere",
    "HF_HOME": "/proc/nowhere",
    "HOME": "/proc/nowhere",
    "LC_ALL": "C",
    "PYTHONIOENCODING": "ascii",
    "TERM": "dumb",
    "COLUMNS": "20",
}


@pytest.mark.usefixtures("mlflow")
@pytest.mark.filterwarnings("ignore")  # mlflow's own imports warn in ways that change by version
def test_a_run_whose_reader_leaves_goes_on_wherever_it_is(
    suite_file, process, tmp_path, monkeypatch
):
    """Its sockets fit under a long TMPDIR, its data bases lie in a folder with an odd name."""
    from mlflow import MlflowClient

    from sca_bench.engine.mlflow_mirror.addresses import own_uri

    deep, runs = tmp_path / ("deep " * 20 + "\u4e2d"), tmp_path / "what?now %20 [b] caf\u00e9"
    deep.mkdir()
    path = suite_file(axes="{mixer.num_layers: [1]}")
    before = {entry.name for entry in tmp_path.iterdir()}
    for name, value in {**AROUND, "TMPDIR": str(deep)}.items():
        monkeypatch.setenv(name, value)
    running = process("run", path, "--runs-dir", runs)
    assert running.stdout.readline()
    running.stdout.close()
    assert running.wait(timeout=300) == 0
    (record,) = Store(runs).records()
    assert (record.status, record.error) == ("done", "")
    assert record.scores["cider_d"].value is not None
    client = MlflowClient(tracking_uri=own_uri(Store(runs)))
    experiment = client.get_experiment_by_name("demo")
    (mirrored,) = client.search_runs([experiment.experiment_id])
    assert mirrored.info.status == "FINISHED"
    assert list((runs / "mlartifacts").rglob("record.json"))
    assert {entry.name for entry in tmp_path.iterdir()} - before == {runs.name}


@pytest.fixture
def no_folder_yet(monkeypatch):
    """Have this process forget where its sockets lie, until the test is over."""
    monkeypatch.setitem(multiprocessing.current_process()._config, "tempdir", None)
    yield
    made = multiprocessing.current_process()._config["tempdir"]
    for finalizer in [*util._finalizer_registry.values()]:
        if made is not None and finalizer._args == (shutil.rmtree, made):
            with contextlib.suppress(FileNotFoundError):  # it went with what it lay in
                finalizer()


@pytest.mark.parametrize("name", ["x" * 80, "\u4e2d" * 30, "deep/" * 20])
def test_sockets_lie_where_their_addresses_fit(no_folder_yet, monkeypatch, tmp_path, name):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    fork_servers._make_socket_folder()
    folder = util.get_temp_dir()
    own = Path(folder).parent
    assert own.parent == Path("/tmp")
    assert len(os.fsencode(folder)) + len("/listener-xxxxxxxx") <= 107
    assert tempfile.gettempdir() == str(tmp_path / name)
    scratch.give_back()
    assert not own.exists()


def test_a_place_that_is_short_enough_is_kept(no_folder_yet, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/" + "x" * 74)
    fork_servers._make_socket_folder()
    assert multiprocessing.current_process()._config["tempdir"] is None


def test_no_place_for_sockets_is_one_line(no_folder_yet, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 80)))
    monkeypatch.setattr(fork_servers, "_SHORT_FOLDERS", ("/proc/nowhere", "/proc/1"))
    with pytest.raises(InputError, match=r"^TMPDIR: .* name a folder with a shorter path$"):
        fork_servers._make_socket_folder()
