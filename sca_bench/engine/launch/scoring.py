"""Scores while other runs still train: a process beside the workers takes what is captioned.

It only comes first: whatever it has not scored when the last group ends, because something went
wrong or it was killed, the command scores itself (`sca_bench.engine.score_runs.score_runs`), as if
it had never been there. It ends with the command, however that ends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from sca_bench.engine.job import new_attempt
from sca_bench.engine.process import redirect
from sca_bench.engine.score_runs import READ_AHEAD, RunScorer, ScoredBefore
from sca_bench.errors import InputError, NotComputed
from sca_bench.files import drop_unfinished
from sca_bench.lifetime import stops
from sca_bench.metrics.field_scorers.java import JAVA
from sca_bench.metrics.protocol import ImageSource
from sca_bench.metrics.registry import get_metric, values_of
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.score import Scorer, ScoreResult
from sca_bench.metrics.spec import MetricSpec, Requirement
from sca_bench.plugins import attribute
from sca_bench.study.runs.store import PREDICTIONS, TRAIN_PREDICTIONS, Store

_CONTEXT = multiprocessing.get_context("spawn")
"""A fresh process: it needs no torch, and can begin before there is a server that has it."""
_NICE = 3
"""The runs come first."""
_POLL_S, _LEAVE_S = 0.05, 3.0
_SILENT_S, _BYTES_A_S = 300.0, 10_000
"""How long nothing may be heard of the runs that were asked for, and for how many bytes of captions
it may be a second more. METEOR, the slowest, reads several times as many in a second."""
_GAP_S = 10.0
"""What counts at most between two looks: after Ctrl-Z and `fg` both processes were away."""


def is_light(metrics: Sequence[str]) -> bool:
    """Say whether metrics take no more memory than texts and METEOR's program: no models."""
    return all(map(_is_light, map(get_metric, metrics)))


def _is_light(spec: MetricSpec) -> bool:
    if not spec.is_own or spec.fault:
        return False
    more = [one for one in spec.requires if one != JAVA]
    return not more or (spec.name == "spice" and any(map(_is_missing, more)))


def _is_missing(requirement: Requirement) -> bool:
    """Say whether something is not here, so that its metric is not computed anyway."""
    try:
        attribute(requirement.find)()
    except NotComputed:
        return True
    return False


class Scoring:
    """Scores runs in a process of its own, which starts when it is first needed.

    Args:
        store: Where the runs lie.
        metrics: What they are scored by.
        subsets: As for `score_runs`.
    """

    def __init__(
        self, store: Store, metrics: Sequence[str], subsets: Mapping[str, str] | None = None
    ) -> None:
        self._store = store
        self._task = str(store.root.resolve()), tuple(metrics), dict(subsets or {})
        self._is_light = is_light(metrics)
        self._begins_early = any(get_metric(name).prepare for name in metrics)
        self._log = store.root / "attempts" / new_attempt("scoring") / "scoring.log"
        self._process: BaseProcess | None = None
        self._connection: Connection[Any, Any] | None = None
        self._asked: list[tuple[str, int]] = []
        self._broken = False
        self._looked_s, self._unheard_s, self._silent_s = 0.0, 0.0, 0.0
        self.done = ScoredBefore()

    @property
    def is_on(self) -> bool:
        """Whether the process is there."""
        return self._process is not None

    def begin(self) -> None:
        """Start the process, where a metric takes long to begin."""
        if self._begins_early:
            self._start()

    def add(self, cell_id: str, seed: int) -> None:
        """Have a finished run be scored; returns at once."""
        self._start()
        if self._connection is not None and not self._broken:
            if not self._asked:
                self._looked_s, self._unheard_s = time.monotonic(), 0.0
            self._asked.append((cell_id, seed))
            try:
                self._connection.send((cell_id, seed))
            except OSError:
                self._broken = True
        self.listen()

    def listen(self) -> None:
        """Take what the process has to tell; one that has told nothing for too long is killed."""
        try:
            while self._connection is not None and self._connection.poll():
                notes = self._connection.recv()
                self._asked.pop(0)
                self._looked_s, self._unheard_s = time.monotonic(), 0.0
                if notes is not None:
                    self.done.notes.append(notes)
        except (OSError, EOFError):
            self._broken = True
        if self._asked and not self._broken:
            now = time.monotonic()
            self._unheard_s += min(now - self._looked_s, _GAP_S)
            self._looked_s, silent_s = now, self._unheard_s
            if silent_s > _SILENT_S and silent_s > self._longest_s() and self._process is not None:
                self._broken, self._silent_s = True, silent_s
                self._process.kill()

    def finish(self, say: Callable[[str], None]) -> None:
        """Wait until all that was asked for is scored or cannot be, and end the process.

        What it leaves, because it was killed for instance, the command scores.

        Args:
            say: Prints a line, where the process had to be killed.
        """
        while self._asked and not self._broken:
            self.listen()
            time.sleep(_POLL_S)
        if self._silent_s:
            say(
                "  the process that scores beside the runs did not answer for "
                f"{self._silent_s:.0f} s and was killed; what it left is scored now"
            )
        self.close()

    def _longest_s(self) -> float:
        """Return how long nothing may be heard, given all that is asked for."""
        size = 0
        for cell_id, seed in self._asked:
            for name in (PREDICTIONS, TRAIN_PREDICTIONS):
                with contextlib.suppress(OSError):
                    size += (self._store.run_dir(cell_id, seed) / name).stat().st_size
        _, _, subsets = self._task
        return _SILENT_S + (1 + len(subsets)) * size / _BYTES_A_S

    def close(self) -> None:
        """End the process, whatever it is at."""
        process, self._process = self._process, None
        if self._connection is not None:
            self._connection.close()  # it ends METEOR's process, and then itself
            self._connection = None
        if process is not None and process.pid is not None:
            process.join(_LEAVE_S)
            if process.is_alive():
                process.kill()
                process.join()
            for cell_id, seed in self._asked:  # it may have been writing there
                with contextlib.suppress(OSError):
                    drop_unfinished(self._store.run_dir(cell_id, seed), others_write=True)

    def _start(self) -> None:
        if self._process is not None or self._broken or not self._is_light:
            return
        ours, theirs = multiprocessing.Pipe()
        process = _CONTEXT.Process(target=_serve, args=(theirs, str(self._log), self._task))
        self._process, self._connection = process, ours  # before it runs: a signal may come between
        try:
            with stops.blocked():  # it ends when this process says so, or with it
                process.start()
        except (OSError, EOFError):  # no memory, no more processes: the command scores at the end
            self._broken, self._process, self._connection = True, None, None
            ours.close()
        finally:
            theirs.close()


class _BesideOthers(Scorer):
    """Gives no reason that only this process may have met, beside others that need the memory."""

    def score(
        self,
        rows: Sequence[CaptionRow],
        metrics: Sequence[str],
        images: ImageSource | None = None,
    ) -> ScoreResult:
        """Score rows; see `Scorer.score`.

        Raises:
            NotComputed: A Java program that is there has failed, or was ended.
        """
        result = super().score(rows, metrics, images)
        for name in metrics:
            needs = get_metric(name).requires
            reasons = [result.not_computed.get(key) for key in values_of(name)]
            if any(reasons) and JAVA in needs and not any(map(_is_missing, needs)):
                raise NotComputed(f"{name}: {next(filter(None, reasons))}")
        return result


def _serve(
    connection: Connection[Any, Any], log: str, task: tuple[str, Sequence[str], Mapping[str, str]]
) -> None:
    """Score the runs that are named, until nobody names any more.

    Args:
        connection: Where cell and seed of a run come from, and where the new notes of its record
            go; None for one that is not scored.
        log: Text log of this process.
        task: Runs folder, metrics, subsets.
    """
    redirect(log)
    with contextlib.suppress(OSError):
        os.nice(_NICE)
    root, metrics, subsets = task
    scorer = RunScorer(Store(root), metrics, subsets, scorer=_BesideOthers())
    runs: queue.Queue[tuple[str, int]] = queue.Queue()

    def read() -> None:
        try:
            with contextlib.suppress(OSError, EOFError):
                while True:
                    runs.put(connection.recv())
            scorer.close()
        finally:  # nothing may keep it once its parent is gone
            os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    scorer.prepare()
    while True:
        named = [runs.get()]
        while len(named) < READ_AHEAD and not runs.empty():
            named.append(runs.get())
        for notes in _scored(scorer, named):
            connection.send(notes)


def _scored(scorer: RunScorer, named: Sequence[tuple[str, int]]) -> Any:
    """Yield what is new in the notes of each run; None for one that is not scored."""
    records = []
    for cell_id, seed in named:
        try:
            record = scorer.unscored(cell_id, seed)
        except (InputError, OSError):
            record = None
        records.append(record)
    scorer.read_ahead([record for record in records if record is not None])
    for record in records:
        try:
            yield scorer.score(record) if record is not None else None
        except Exception:  # the command meets it, too, and says it
            traceback.print_exc()
            yield None
