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

from sca_bench.engine.process import ToldToStop, is_told_to_stop
from sca_bench.files import write_atomic

Pruner = Callable[[int, dict[str, dict[str, float]]], dict[str, str]]
"""Takes a step and, by run key, what its validation gave; returns why some runs leave."""
_POLL_S = 0.02
_QUESTION, _ANSWER = "validated-", "leaving-"


def ask_pruner(folder: Path, step: int, values: dict[str, dict[str, float]]) -> dict[str, str]:
    """Ask in the folder of an attempt which runs go no further; wait for the answer.

    Raises:
        ToldToStop: The parent ends this process instead.
    """
    reply = folder / f"{_ANSWER}{step}.json"
    write_atomic(folder / f"{_QUESTION}{step}.json", json.dumps(values))
    while not reply.exists():
        if is_told_to_stop():  # nobody will answer
            raise ToldToStop(step)
        time.sleep(_POLL_S)
    leaving: dict[str, str] = json.loads(reply.read_text(encoding="utf-8"))
    return leaving


def answer_request(folder: Path, pruner: Pruner) -> None:
    """Answer what a worker asks in the folder of its attempt, if it asks anything."""
    for question in sorted(folder.glob(f"{_QUESTION}*.json")):
        step = int(question.stem.removeprefix(_QUESTION))
        reply = folder / f"{_ANSWER}{step}.json"
        if not reply.exists():
            leaving = pruner(step, json.loads(question.read_text(encoding="utf-8")))
            write_atomic(reply, json.dumps(leaving))
