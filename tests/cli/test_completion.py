"""What a shell is told at Tab: commands, suites, cells and settings; nothing heavy is loaded."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sca_bench.cli import main
from sca_bench.cli.upkeep import completion

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path):
    manifest = {
        "suite": "depth",
        "profile": "tiny",
        "default_profile": "tiny",
        "seeds": [0, 1],
        "cells": [{"name": "num_layers=1"}, {"name": "num_layers=2"}, {"name": "\x1b[1m"}, 7],
    }
    suites = tmp_path / "runs" / "suites"
    suites.mkdir(parents=True)
    (suites / "depth.tiny.json").write_text(json.dumps(manifest))
    (suites / "damaged.tiny.json").write_text("{")
    (tmp_path / "own.yaml").write_text("suite: own\n")
    return tmp_path


def asked(folder, line):
    """Press Tab behind a command line; return what the shell is told, and what was loaded."""
    code = (
        "import sys, os, argcomplete, io\n"
        "from sca_bench.cli import build_parser\n"
        "from sca_bench.cli.upkeep import completion\n"
        "out = io.BytesIO()\n"
        "def end(code): raise SystemExit(code)\n"
        "real = argcomplete.autocomplete\n"
        "to = {}\n"
        "argcomplete.autocomplete = lambda *a, **k: real(*a, **k, **to)\n"
        "text = io.TextIOWrapper(out, write_through=True)\n"
        "to.update(output_stream=text, exit_method=end)\n"
        "try: completion.answer(build_parser())\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'mmengine', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "print(out.getvalue().decode().replace('\\x0b', '\\n'))\n"
    )
    around = {
        **os.environ,
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\x0b",
        "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "COMP_TYPE": "9",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=around, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_a_shell_is_told_commands_and_what_stands_in_the_runs_folder(folder):
    assert asked(folder, "sca-bench stat") == {"status"}
    names = asked(folder, "sca-bench explain depth/")
    assert names == {"depth/num_layers=1", "depth/num_layers=2"}


def names_of(place, prefix="", **words):
    return list(place(prefix=prefix, parsed_args=argparse.Namespace(**words)))


def test_names_of_a_runs_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert names_of(completion.report_names) == ["depth"]
    assert names_of(completion.run_names) == ["depth/num_layers=1", "depth/num_layers=2"]
    seeds = names_of(completion.run_names, "depth/num_layers=2")
    assert seeds == ["depth/num_layers=2", "depth/num_layers=2/0", "depth/num_layers=2/1"]
    assert names_of(completion.run_names, runs_dir="elsewhere") == []


def test_suites_settings_and_metrics(folder, monkeypatch):
    monkeypatch.chdir(folder)
    suites = names_of(completion.suite_names, command="run")
    assert {"mixer_layers", "own.yaml", "runs/"} <= set(suites)
    assert "lr_depth" in names_of(completion.suite_names, command="sweep")
    assert names_of(completion.suite_names, command="status") == ["depth"]
    assert names_of(completion.suite_names, "runs/su", command="run") == ["runs/suites/"]
    assert names_of(completion.setting_names, "train.learning") == ["train.learning_rate="]
    assert names_of(completion.profile_names, "tin") == ["tiny"]
    assert names_of(completion.metric_names, "bleu,exact") == ["bleu,exact_match"]
    assert names_of(completion.listed_names, "train.ste", what="settings") == ["train.steps"]
    described = names_of(completion.described_names, "mixer_l", command="describe")
    assert described == ["mixer_layers"]


@pytest.mark.parametrize("shell", completion.SHELLS)
def test_the_code_of_a_shell_is_printed(shell, capsys):
    assert main(["completion", shell]) == 0
    assert "sca-bench" in capsys.readouterr().out


def test_every_argument_that_takes_names_has_them():
    """So a new command that takes a run, a suite or a setting gets them, too."""
    from sca_bench.cli import build_parser

    parsers = build_parser().actions_by_name()
    for command, place in (
        ("run", "suite"),
        ("run", "overrides"),
        ("report", "suites"),
        ("verify", "run"),
        ("caption", "run"),
        ("explain", "other"),
        ("score", "metrics"),
        ("describe", "name"),
    ):
        (action,) = (a for a in parsers[command]._actions if a.dest == place)
        assert completion._names_for(action), (command, place)
