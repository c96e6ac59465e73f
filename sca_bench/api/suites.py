"""A suite from Python: read it, see what is left of it, run it."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yaml import YAMLError

from sca_bench.api.runs import Runs
from sca_bench.cli.suite_files import checked_suite
from sca_bench.errors import CellError, InputError, ScaBenchError
from sca_bench.output import say
from sca_bench.study.plan.plan import make_plan, plan_rows
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.shipped import find_suite
from sca_bench.study.suite.suite import Suite
from sca_bench.study.suite.yaml_values import load_yaml, show_value

if TYPE_CHECKING:
    import pandas as pd

_LAST_LINES = 30
"""Of what a run printed, which its error may quote."""


def load_suite(
    suite: str | Path,
    *,
    profile: str | None = None,
    seeds: Sequence[int] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Suite:
    """Read and check a suite.

    Args:
        suite: A YAML file, or the name of a suite that comes with the package (`mixer_layers`).
        profile: The scale: `tiny`, `small`, `paper`, `photos`; the suite's own where None.
        seeds: Seeds in place of the suite's.
        overrides: Setting -> value that wins over everything, such as `{"train.steps": 20}`;
            `{"paths.sam": "sam.pth"}` gives a file or folder that the suite asks for.

    Returns:
        The suite: `spec.question`, `cells` (each with `name`, `coordinates`, `settings`), `seeds`,
        `metrics`, `claims`, `notes`.

    Raises:
        InputError: Any fault, in one line that names file, key, value and fix.
    """
    words = [f"{key}={_text(key, value)}" for key, value in (overrides or {}).items()]
    file = find_suite(str(suite))
    return checked_suite(file, profile=profile, overrides=words, seeds=seeds, allow_missing=True)


def plan(
    suite: Suite | str | Path, runs_dir: str | Path = "runs", *, only: str | None = None
) -> pd.DataFrame:
    """Return what is done and what is left of a suite; nothing is run.

    Args:
        suite: What `load_suite` returned or takes.
        runs_dir: The runs folder; it need not exist.
        only: Only cells whose name matches, such as `num_layers=2` or `num_*`.

    Returns:
        One run a row, pretraining stages first. Columns: cell, id (the cell's key), seed, stage
        (name of a pretraining stage; empty for a cell's own run), state (`done`, `to run`,
        `blocked`), blocked (what is missing), reuses_weights, steps (optimiser steps).

    Raises:
        InputError: The suite is wrong, or no cell matches.
    """
    import pandas as pd

    loaded = suite if isinstance(suite, Suite) else load_suite(suite)
    made = make_plan(loaded, Store(runs_dir), only=only, allow_missing=True)
    return pd.DataFrame.from_records(plan_rows(made))


def run(
    suite: Suite | str | Path,
    runs_dir: str | Path = "runs",
    *,
    only: str | None = None,
    mlflow: bool = False,
) -> Runs:
    """Run what is not done of a suite, score it, and print how it goes.

    This is the command `sca-bench run` in a process of its own. An interrupt (Ctrl-C, the stop
    button of a notebook) stops it as there; the same call goes on.

    Args:
        suite: What `load_suite` returned or takes.
        runs_dir: The runs folder, which is made where it is not there.
        only: Only cells whose name matches.
        mlflow: Mirror the runs to MLflow.

    Returns:
        The runs folder, to read results from.

    Raises:
        InputError: The suite is wrong, or something that it needs is missing.
        CellError: Some cells failed; all others are done, and `Runs(runs_dir)` reads them.
    """
    loaded = suite if isinstance(suite, Suite) else load_suite(suite)
    checked_suite(
        loaded.file, profile=loaded.profile, overrides=loaded.overrides, seeds=loaded.seeds
    )
    words = ["run", str(loaded.file), "--profile", loaded.profile]
    words += ["--seeds", ",".join(map(str, loaded.seeds)), "--runs-dir", str(runs_dir)]
    for override in loaded.overrides:
        words += ["--set", override]
    words += [] if only is None else ["--only", only]
    words += [] if mlflow else ["--no-mlflow"]
    code, lines = _command(words)
    if code == 0:
        return Runs(runs_dir)
    last = lines[-1] if lines else f"ended with exit code {code}"
    if code == 1:
        failed = [line for line in lines if line.startswith(("FAILED", "NOT STARTED"))]
        raise CellError(f"{loaded.file}: {'; '.join(failed) or last}")
    if code == 2:
        raise InputError(None, "", last)
    raise ScaBenchError(f"{loaded.file}: {last}")


def _command(words: Sequence[str]) -> tuple[int, list[str]]:
    """Run a command, pass on what it prints, and return its exit code and last lines."""
    call = [sys.executable, "-m", "sca_bench", *words]
    lines: deque[str] = deque(maxlen=_LAST_LINES)
    with subprocess.Popen(
        call,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        try:
            _pass_on(process.stdout, lines)
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            _pass_on(process.stdout, lines)  # it says how to go on, when all is kept
            raise
    return process.returncode, list(lines)


def _pass_on(printed: Any, lines: deque[str]) -> None:
    for line in printed:
        lines.append(line.rstrip())
        say(line.rstrip(), flush=True)


def _text(key: str, value: Any) -> str:
    """Return a value as `--set` takes it: as a suite file has it, where that means the same."""
    if key.startswith("paths."):
        return str(value)
    if isinstance(value, float) and math.isinf(value):
        return ".inf" if value > 0 else "-.inf"
    value = str(value) if isinstance(value, Path) else value
    shown = show_value(value)
    try:
        same = load_yaml(shown, key) == value
    except (InputError, YAMLError):  # such as a text with a bracket in it
        same = False
    return shown if same else json.dumps(value)
