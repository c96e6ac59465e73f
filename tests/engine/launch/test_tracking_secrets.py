"""What lets somebody into a tracking server is kept nowhere, and one that hangs costs nothing."""

import os
import time
from pathlib import Path

import pytest
from helpers.command import finish
from helpers.tracking_server import serving

from sca_bench.cli import main
from sca_bench.cli.track import command_line, sync_hint
from sca_bench.study.runs.store import Store

USER, WORD, TOKEN = "somebody9", "hunter2%40word", "t0kenOfTheQuery"
SECRETS = (USER, WORD, "hunter2@word", TOKEN, "b2tlbg", "c29tZWJvZHk5Omh1bnRlcjJAd29yZA")


def holding(secrets, text):
    return [secret for secret in secrets if secret in text]


def others_with(secrets, own):
    """Return the command lines of other processes that hold a secret."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text(errors="replace")
        except OSError:
            continue
        if int(process.name) not in own and holding(secrets, words):
            found.append(words)
    return found


@pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes through /proc")
def test_a_run_beside_a_server_that_hangs_ends_well_and_keeps_no_secret(
    suite_file, process, tmp_path, capsys, monkeypatch
):
    path, runs = suite_file(axes="{mixer.num_layers: [1]}"), tmp_path / "runs"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)
    began, said = time.monotonic(), []
    with serving("hangs") as server:
        uri = f"http://{USER}:{WORD}@{server.address}/?key={TOKEN}"
        running = process("run", path, "--tracking-u", uri)
        while running.poll() is None:
            assert not others_with((WORD, TOKEN), {running.pid})
            time.sleep(0.3)
        said.append(finish(running))
    assert time.monotonic() - began < 180  # it never ended
    assert said[0].count("MLflow mirror stopped: http://***@127.0.0.1") == 1
    assert "Traceback" not in said[0]
    (record,) = Store(runs).records()
    assert record.status == "done"
    with serving("401") as server:
        uri = f"http://{USER}:{WORD}@{server.address}/?key={TOKEN}"
        assert main(["report", "--tracking-uri", uri]) == 0
        assert main(["track", "sync", f"--tracking-uri={uri}"]) == 1
        assert main(["track", "sync", uri]) == 2  # no such word
        assert main(["track", "sync", "--tracking-url", uri]) == 2
        said += capsys.readouterr()
    assert "answers 401 (Unauthorized)" in said[1]
    assert "0 of 1 suite mirrored" in said[1]
    assert not holding(SECRETS, "".join(said))
    files = [p for p in tmp_path.rglob("*") if p.is_file() and os.access(p, os.R_OK)]
    assert tmp_path / "reports" / "demo" / "index.html" in files
    for file in files:
        assert not holding(SECRETS, file.read_bytes().decode("latin-1")), file


@pytest.mark.parametrize(
    "words",
    [
        ("--tracking-uri", "http://u:hunter2pw@h"),
        ("--tracking-uri=http://hunter2pw@h",),
        ("--tr", "hunter2pw"),
        ("--track=hunter2pw",),
        ("http://h/x?token=hunter2pw",),
        ("--set", "a.b=mysql+pymysql://u:hunter2pw@h/db"),
        ("--set", "a.b=https://h/?x=1&api_key=hunter2pw"),
    ],
)
def test_a_command_is_kept_without_what_lets_somebody_in(words):
    line = command_line(["run", "demo.yaml", *words, "--seeds", "0"])
    assert "hunter2pw" not in line
    assert line.startswith("python -m sca_bench run demo.yaml ")
    assert line.endswith(" --seeds 0")


def test_the_way_to_bring_a_mirror_up_to_date_can_be_typed(tmp_path):
    store = Store("some runs")
    assert sync_hint(store, None) == (
        "`python -m sca_bench track sync --runs-dir 'some runs'` brings it up to date"
    )
    assert "--tracking-uri 'http://***@h:5000'" in sync_hint(Store("runs"), "http://u:p@h:5000")
