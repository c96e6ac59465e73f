"""After a validation, the process that keeps a sweep's storage says which cells go no further.

The worker writes the values of its members into the folder of its attempt and waits; the parent
answers in a file beside it. Neither file is ever seen half-written, and a worker whose parent is
gone ends with it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.hooks import Hook

from sca_bench.engine.group import CellGroup
from sca_bench.engine.hooks import validation_values
from sca_bench.study.store import write_atomic

Judge = Callable[[int, dict[str, dict[str, float]]], dict[str, str]]
"""Takes a step and, by run key, what its validation gave; returns why some runs leave."""
_POLL_S = 0.02
_QUESTION, _ANSWER = "validated-", "leaving-"


class JudgeHook(Hook):  # type: ignore[misc]
    """Ask after each validation but the last one, and let members leave."""

    priority = "LOW"  # behind the log's line about the same validation

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Wait for the parent's answer; what was trained to the end is no longer in question."""
        step = runner.iter
        if step >= runner.max_iters:
            return
        group: CellGroup = runner.model
        answer = self._folder / f"{_ANSWER}{step}.json"
        question = json.dumps(validation_values(metrics))
        write_atomic(self._folder / f"{_QUESTION}{step}.json", question)
        while not answer.exists():
            time.sleep(_POLL_S)
        leaving = json.loads(answer.read_text(encoding="utf-8"))
        for member in group.alive:
            if member.key in leaving:
                group.prune(member, leaving[member.key])
        if not group.alive:
            runner.train_loop.stop_training = True


def answer(folder: Path, judge: Judge) -> None:
    """Answer what a worker asks in the folder of its attempt, if it asks anything."""
    for question in sorted(folder.glob(f"{_QUESTION}*.json")):
        step = int(question.stem.removeprefix(_QUESTION))
        reply = folder / f"{_ANSWER}{step}.json"
        if not reply.exists():
            leaving = judge(step, json.loads(question.read_text(encoding="utf-8")))
            write_atomic(reply, json.dumps(leaving))
