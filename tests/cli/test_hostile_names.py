"""Hostile names and words in commands: a terminal sees text, each on its own line."""

import json
import os
import subprocess
import sys

import pytest
import yaml
from helpers.command import ROOT, run_here
from helpers.hostile import HOSTILE, unseen

from sca_bench.errors import InputError
from sca_bench.output import VisibleStream, one_line, say, text_console, text_table, visible
from sca_bench.study.runs.record import CellEntry, RunRecord, SuiteManifest
from sca_bench.study.runs.store import Store

NAMES = [text.replace("\ud83d", "") for text in HOSTILE]
ESCAPES = "a\x1b[2J\x1b]0;t\x07\u202eb\u200bc\x9b1md\u2028e\rf\ng\th"


@pytest.mark.parametrize("text", HOSTILE)
def test_every_way_to_print_shows_every_character(text, capsys):
    say(text)
    say(text, error=True)
    console = text_console()
    console.width = 10_000
    console.print(text)
    table = text_table(text, title=text)
    table.add_row(text)
    console.print(table)
    print(InputError(text, text, text, text))
    out, err = capsys.readouterr()
    assert unseen(out + err) == []
    assert len(out.splitlines()) == 6
    assert err == one_line(text) + "\n"


def test_a_text_without_such_characters_stays_as_it_is():
    for text in (
        "a caption",
        "caf\u00e9 \u4e2d \U0001f600\ufe0f",
        "a\\u001b \\n",
        "two\nlines\there",
    ):
        assert visible(text) == text
    assert visible("\u0646\u200c\u0645 \u200d", joiners=True) == "\u0646\u200c\u0645 \u200d"
    assert one_line("a\nb\tc\r\n") == "a\\nb\\tc\\r\\n"
    assert json.loads(f'"{visible(chr(0x9B) + chr(0x202E))}"') == "\x9b\u202e"


@pytest.fixture
def runs(tmp_path):
    """A runs folder of a colleague whose names are hostile."""
    store = Store(tmp_path / "runs")
    cells = []
    for number, name in enumerate(NAMES):
        cells.append(CellEntry(cell_id=f"c{number}", name=name, coordinates={}, variant=name))
        record = RunRecord(
            cell_id=f"c{number}",
            seed=0,
            status="failed",
            settings={},
            variant=name,
            revision="1",
            error=name,
        )
        store.save(record)
    fields = {"profile": "tiny", "default_profile": "tiny", "file": "x.yaml", "command": ESCAPES}
    fields |= {"question": ESCAPES, "created": ESCAPES, "axes": {}, "seeds": [0]}
    fields |= {"metrics": ["exact_match"], "claims": [], "cells": cells}
    store.save_manifest(SuiteManifest(suite="hostile", **fields))
    return tmp_path


def test_list_runs_has_one_line_for_each(runs, monkeypatch):
    monkeypatch.setenv("COLUMNS", "10000")
    lines = run_here("list", "runs", cwd=runs).splitlines()
    assert len(lines) == len(NAMES) + 1
    assert unseen("".join(lines)) == []


@pytest.fixture
def suite(tmp_path):
    cells = [{"name": name, "set": {"train.seed_offset": 0}} for name in NAMES]
    cells = [
        {"name": name, "set": {"train.steps": number + 1}} for number, name in enumerate(NAMES)
    ]
    content = {
        "suite": "hostile",
        "question": ESCAPES,
        "base": {"variant": "sca"},
        "cells": cells,
        "seeds": [0],
        "metrics": ["exact_match"],
        "claims": [{"id": ESCAPES, "says": f"exact_match(cell={ESCAPES}) > 0"}],
    }
    (tmp_path / "hostile.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    del content["claims"]
    (tmp_path / "named.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["plan", "named.yaml", "--no-probe"], 0),
        (["check", "named.yaml"], 0),
        (["plan", "hostile.yaml", "--no-probe"], 2),
        (["describe", ESCAPES], 2),
        (["explain", ESCAPES], 2),
        ([ESCAPES], 2),
        (["list", ESCAPES], 2),
        (["list", "runs", ESCAPES], 0),
        (["list", "runs", "--status", ESCAPES], 2),
        (["list", "settings", ESCAPES], 2),
        (["plan", "named.yaml", f"--{ESCAPES}"], 2),
        (["plan", "named.yaml", ESCAPES], 2),
        (["plan", f"{ESCAPES}.yaml"], 2),
        (["plan", "named.yaml", "--set", f"{ESCAPES}=1"], 2),
        (["plan", "named.yaml", "--set", f"train.steps={ESCAPES}"], 2),
        (["plan", "named.yaml", "--only", ESCAPES], 2),
        (["plan", "named.yaml", "--seeds", ESCAPES], 2),
        (["plan", "named.yaml", "--profile", ESCAPES], 2),
        (["report", ESCAPES], 2),
        (["report", "--limit-mb", ESCAPES], 2),
        (["score", ESCAPES], 2),
        (["score", "named.yaml", "--metrics", ESCAPES], 2),
        (["track", ESCAPES], 2),
        (["status", ESCAPES], 2),
        (["gc", ESCAPES], 2),
        (["completion", ESCAPES], 2),
        (["cache", "ls", "--dir", ESCAPES.replace("\x00", "")], None),
        (["init", "suite", ESCAPES], 2),
        (["data", "info", ESCAPES], 2),
        (["weights", "import", ESCAPES, "--out", "x"], 2),
        (["caption", ESCAPES, "--box", ESCAPES, "--run", ESCAPES], 2),
        (["test", ESCAPES], 2),
    ],
)
def test_commands_print_lines_that_a_terminal_only_shows(suite, words, code, monkeypatch):
    monkeypatch.setenv("COLUMNS", "10000")
    try:
        out = run_here(*words, cwd=suite, code=code)
    except AssertionError as error:
        if code is not None:
            raise
        out = str(error)
    assert unseen(out) == []
    if code == 2:
        usage = [line for line in out.splitlines() if not line.startswith("usage")]
        assert len(usage) == 1, out


PROGRAM = """
import sys, warnings
from sca_bench.output import guard_streams
guard_streams()
text = {text!r}
print(text, text.encode()[:0])
print(text, file=sys.stderr)
warnings.warn(text)
import logging
logging.getLogger("x").warning(text)
raise ValueError(text)
"""


def test_streams_show_what_libraries_tracebacks_and_warnings_print(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM.format(text=ESCAPES))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "program.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert b"ValueError" in done.stderr
    assert unseen((done.stdout + done.stderr).decode(), "\t") == []


def test_a_bar_of_progress_still_returns_to_the_line_s_begin(tmp_path):
    with (tmp_path / "out").open("wb") as raw:
        stream = VisibleStream(raw, encoding="utf-8", newline="")
        print("\r 10 %", end="", file=stream)
        print("\r\x1b[2J", "b\rc", file=stream)
        stream.flush()
        assert (tmp_path / "out").read_bytes() == b"\r 10 %\r\\u001b[2J b\\u000dc\n"
        stream.detach()


WORKER = """
import sys
from sca_bench.engine.process import redirect
redirect("log.txt")
print({text!r})
raise ValueError({text!r})
"""


def test_a_worker_s_log_shows_every_character(tmp_path):
    command = [sys.executable, "-c", WORKER.format(text=ESCAPES)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=False)
    log = (tmp_path / "log.txt").read_text(encoding="utf-8")
    assert log.count("\\u001b[2J") == log.count("\\u202e") == 2
    assert unseen(log, "\t") == []
