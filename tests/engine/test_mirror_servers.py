"""A tracking server never costs the run: it may do what it likes, one line says so, and it ends."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest
from helpers.demo_runs import demo_manifest, demo_store
from helpers.tracking_server import closed_port, serving, waited

from sca_bench.engine.mlflow_mirror import mirror as mirror_module
from sca_bench.engine.mlflow_mirror.faults import is_passing, reason_of
from sca_bench.engine.mlflow_mirror.mirror import Mirror, sync
from sca_bench.engine.mlflow_mirror.tracker import Tracker
from sca_bench.study.runs.record import Score

pytestmark = [
    pytest.mark.usefixtures("mlflow"),
    pytest.mark.filterwarnings("ignore"),  # mlflow's own imports warn in ways that change
]

REASONS = {
    "500": "the server answers 500 (Internal Server Error)",
    "401": "the server answers 401 (Unauthorized); give MLFLOW_TRACKING_USERNAME",
    "403": "the server answers 403 (Forbidden); give MLFLOW_TRACKING_USERNAME",
    "404": "the server answers 404 (Not Found)",
    "html": "the answer is none of MLflow (no JSON)",
    "list": "the answer is none of MLflow (no JSON)",
    "redirects": "the server redirects without end",
    "ends": "the server ends the connection without an answer",
    "hangs": "the server does not answer in time",
}


@pytest.fixture
def store(tmp_path):
    scores = {"cider_d": Score(value=1.5), "spice": Score(value=None, reason="no jars")}
    log = "".join(f'{{"step": {step}, "loss": 0.5}}\n' for step in range(1, 4))
    return demo_store(tmp_path / "runs", "ab", log, scores=scores)


@pytest.fixture
def manifest(store):
    return demo_manifest(store, "ab")


@pytest.fixture
def quick(monkeypatch):
    """MLflow in this process waits as it does in the mirror's own, but for one second."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    there = Mirror(None, "http://x", print, "")._environment()
    for name, value in there.items():
        if name.startswith("MLFLOW_"):
            monkeypatch.setenv(name, value)


def fault_of(store, manifest, uri):
    """Return what writing a mirror raises in this process."""
    try:
        Tracker(store, manifest, uri, print).update()
    except Exception as error:
        return error
    pytest.fail(f"{uri} took everything")


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("kind", REASONS)
def test_the_reason_is_in_words_and_holds_no_secret(store, manifest, kind):
    with serving(kind) as server:
        uri = f"http://user:word@{server.address}"
        error = fault_of(store, manifest, uri)
        reason = reason_of(error, uri)
    assert reason.startswith(REASONS[kind])
    assert "word" not in reason.replace("PASSWORD", "")
    assert is_passing(error) == (kind in ("500", "ends", "hangs"))


@pytest.mark.usefixtures("quick")
def test_addresses_at_which_there_is_none_have_their_reason(store, manifest):
    with serving("right") as plain:
        cases = {
            f"http://{closed_port()}": "connection refused",
            "http://no-such-host.invalid": "no such host is known",
            f"https://{plain.address}": "no TLS connection (",
        }
        for uri, reason in cases.items():
            assert reason_of(fault_of(store, manifest, uri), uri).startswith(reason)


def test_a_server_that_hangs_stops_neither_the_loop_nor_the_end(store, manifest):
    said = []
    with serving("hangs") as server:
        mirror = Mirror(store, f"http://{server.address}", said.append, "do this")
        while not server.asked:
            assert waited(lambda: mirror.update(manifest)) < 0.5
            time.sleep(0.1)
        assert waited(mirror.finish) < 4
        assert waited(mirror.close) < 1
    place = f"http://{server.address}"
    reasons = "the server is too slow", "the server does not answer in time"
    lines = [
        f"  MLflow mirror stopped: {place}: {reason}; nothing of the runs is lost, and do this"
        for reason in reasons
    ]
    assert len(said) == 1
    assert said[0] in lines


def test_a_server_that_drips_is_given_up_while_the_run_goes_on(store, manifest, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    said = []
    with (
        serving("drips") as server,
        Mirror(store, f"http://{server.address}", said.append, "") as m,
    ):
        m.update(manifest)
        assert waited(m.wait) < 15
    assert "does not answer in time" in "".join(said)


def test_what_a_slow_server_did_not_get_is_brought_later_and_once(store, manifest):
    said = []
    with serving("slow") as server:
        with Mirror(store, f"http://{server.address}", said.append, "") as mirror:
            while not server.asked:  # its process has begun
                mirror.update(manifest)
                time.sleep(0.05)
            assert waited(mirror.finish) < 15
        assert len(said) == 1
        assert "the server is too slow" in said[0]
        server.kind = "right"
        seen = []
        for _ in range(2):
            assert sync(store, f"http://{server.address}", said.append, "") == 1
            seen.append({k: (r["info"]["status"], r["data"]) for k, r in server.runs.items()})
        assert len(said) == 1
        assert seen[0] == seen[1]
        assert len(server.runs) == 2
        for status, data in seen[0].values():
            assert status == "FINISHED"
            names = [metric["key"] for metric in data["metrics"]]
            assert sorted(names) == ["test/cider_d", *["train/loss"] * 3]
            assert sorted(p["key"] for p in data["params"]) == ["axis", "seed"]


def test_a_server_that_is_away_for_a_moment_gets_everything(store, manifest):
    said = []
    with serving("500") as server, Mirror(store, f"http://{server.address}", said.append, "") as m:
        m.update(manifest)
        while not m._failures:
            m.update(manifest)
            assert not m.broken
            time.sleep(0.02)
        server.kind = "right"
        m.update(manifest)
        m.finish()
        assert len(server.runs) == 2
    assert said == []


def test_a_mirror_whose_process_cannot_start_costs_nothing(store, manifest, monkeypatch):
    def start_child(*_, **__):
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(mirror_module.stops, "start_child", start_child)
    said = []
    with Mirror(store, "http://server", said.append, "do this") as mirror:
        mirror.update(manifest)
        mirror.finish()
    assert len(said) == 1
    assert "its process does not start: Resource temporarily unavailable" in said[0]


WRITER = """
import sys, time
from sca_bench.engine.mlflow_mirror.mirror import Mirror
from sca_bench.study.runs.store import Store
store = Store(sys.argv[1])
mirror = Mirror(store, sys.argv[2], print, "")
mirror.update(next(iter(store.manifests())))
print(mirror._process.pid, flush=True)
time.sleep(60)
"""


def test_nothing_outlives_a_command_that_is_killed(store, manifest):
    with serving("hangs") as server:
        words = [sys.executable, "-c", WRITER, str(store.root), f"http://me:pw@{server.address}"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as running:
            child = int(running.stdout.readline())
            while not server.asked:
                time.sleep(0.02)
            os.kill(child, signal.SIGINT)  # as Ctrl-C reaches the whole group
            os.kill(child, signal.SIGTERM)
            time.sleep(0.1)
            os.kill(child, 0)
            running.kill()
            running.wait()
        end = time.monotonic() + 5
        while time.monotonic() < end and _lives(child):
            time.sleep(0.02)
        assert not _lives(child)


def _lives(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_users_own_limit_is_the_upper_one(store, monkeypatch):
    def seconds(given, **more):
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", given)
        environment = Mirror(store, "http://x", print, "", **more)._environment()
        return environment["MLFLOW_HTTP_REQUEST_TIMEOUT"]

    assert [seconds(given) for given in ("2", "60", "none", "0")] == ["2", "5", "5", "5"]
    asked = {"verify": True, "request_s": mirror_module.ASKED_REQUEST_S}
    assert [seconds(given, **asked) for given in ("2", "60", "none")] == ["2", "60", "10"]
