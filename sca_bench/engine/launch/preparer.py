"""Before any group starts: inputs checked, frozen features kept, by all workers together."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from sca_bench.engine.features.cache import Cache
from sca_bench.engine.forecast.forward_counts import banks
from sca_bench.engine.job import GroupJob
from sca_bench.engine.launch.progress import RunProgress, counted_text
from sca_bench.engine.worker.pool import PREPARE, Attempt, Pool
from sca_bench.errors import fault_line
from sca_bench.output import num_text
from sca_bench.study.plan.plan import Group
from sca_bench.study.plan.preparations import preparations
from sca_bench.study.plan.schedule import Schedule
from sca_bench.study.runs.heartbeat import Pulse

_POLL_S = 0.1
_PHASE, _READING = "preparing inputs", "reading data"


@dataclass
class Preparer:
    """Runs the preparations of some groups.

    Attributes:
        pool: Where they run.
        schedule: How the run is spread.
        progress: What the user sees.
        make_job: Makes the job of some runs, given the threads of its process.
        pulse: Writes the command's heartbeats, where it has some.
        prepared_s: Cell id -> wall seconds that keeping its features took, all processes added;
            the same ones count for every cell that shares them.
    """

    pool: Pool
    schedule: Schedule
    progress: RunProgress
    make_job: Callable[[Group, int], GroupJob]
    pulse: Pulse | None = None
    prepared_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    _blocked: dict[str, str] = field(default_factory=dict)
    _encoded: dict[frozenset[str], Counter[str]] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)
    _counts: dict[str, tuple[str, int, int]] = field(default_factory=dict)

    def run(self, groups: list[Group], runs_dir: Path, counters: Counter[str]) -> dict[str, str]:
        """Check every group's inputs and compute the frozen features that are missing.

        Args:
            groups: What will run.
            runs_dir: The runs folder.
            counters: Gets what was computed.

        Returns:
            Cell id -> why it cannot run.

        Raises:
            InputError: An input is wrong.
        """
        _touch(groups, runs_dir)
        waiting = self._jobs(groups, runs_dir)
        while waiting or self.pool.running:
            while waiting and self.pool.free > 0:
                job = waiting.pop(0)
                name = f"inputs of {', '.join(cell.name for cell in job.cells)}"
                if job.part[1] > 1:
                    name += f", {job.part[0] + 1} of {job.part[1]}"
                try:
                    self.pool.start(name, job, PREPARE)
                except OSError as error:  # those cells cannot run; the others can
                    reason = f"could not be prepared: {fault_line(error)}"
                    self._blocked |= dict.fromkeys((cell.cell_id for cell in job.cells), reason)
            for attempt in self.pool.collect():
                counters.update(self._finish(attempt))
            self._show()
            time.sleep(_POLL_S)
        for cells, encoded in self._encoded.items():
            for split, count in encoded.items():
                for_all = f", once for all of {len(cells)} cells" if len(cells) > 1 else ""
                self._say(f"{split}: {num_text(count, 'image')} encoded{for_all}")
        return self._blocked

    def _show(self) -> None:
        """Show how many images every process has prepared, and all of them together."""
        for attempt in self.pool.running:
            if (now := attempt.prepared) is not None:
                self._counts[attempt.job.attempt] = now
            _, done, total = now or ("", 0, 1)
            text = f"{done:,}/{total:,} images" if now else _READING
            self.progress.update(attempt.name, done, total, text)
        counts = list(self._counts.values())
        self.progress.heartbeat(f"  {_PHASE}: {counted_text(counts)}")
        if self.pulse is not None and self.pulse.due(_PHASE):
            self.pulse.beat(
                _PHASE,
                step=sum(done for _, done, _ in counts),
                steps=sum(total for *_, total in counts),
                work=[attempt.work(_text(attempt.prepared)) for attempt in self.pool.running],
            )

    def _jobs(self, groups: list[Group], runs_dir: Path) -> list[GroupJob]:
        """Return a job for every preparation, or several where there is much to compute."""
        whole = preparations(groups)
        missing = {(bank.cell.cell_id, bank.split) for bank in banks(groups, runs_dir)}
        jobs: list[GroupJob] = []
        for group, names in whole:
            computes = any((j.cell.cell_id, s) in missing for j in group.jobs for s in names)
            count = self.schedule.shares(len(whole)) if computes else 1
            for number in range(count):
                job = self.make_job(group, self.schedule.prepare_threads)
                jobs.append(replace(job, splits=names, part=(number, count)))
        return jobs

    def _finish(self, attempt: Attempt) -> dict[str, int]:
        outcome = attempt.outcome()
        outcome.raise_input_error()
        for cell in attempt.job.cells:
            if cell.key in outcome.failed:
                self._blocked[cell.cell_id] = f"{outcome.failed[cell.key]}; log: {attempt.log_path}"
            self.prepared_s[cell.cell_id] += sum(t["seconds"] for t in outcome.filled.values())
        encoded = self._encoded.setdefault(frozenset(c.key for c in attempt.job.cells), Counter())
        for split, took in outcome.filled.items():
            if took["encoded"]:
                encoded[split] += int(took["encoded"])
        for message in outcome.messages:
            self._say(message)
        self.progress.finish(attempt.name)
        return outcome.counters

    def _say(self, message: str) -> None:
        if message not in self._said:  # a split may be read by several preparations
            self.progress.say(f"  {message}")
        self._said.add(message)


def _text(prepared: tuple[str, int, int] | None) -> str:
    return counted_text([prepared]) if prepared else _READING


def _touch(groups: list[Group], runs_dir: Path) -> None:
    """Say of every store that will be read that it is in use, before any makes room for another."""
    for group, names in preparations(groups):
        for job in group.jobs:
            cell = job.cell.identity
            cache = Cache.of(runs_dir, cell.settings.runtime)
            for split in names:
                for key in cell.store_keys(split, cell.families).values():
                    if (cache.root / key).exists():
                        cache.used(key)
