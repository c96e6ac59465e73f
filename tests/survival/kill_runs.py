"""Kill runs and sweeps at random moments, repeat them to their ends, compare with undisturbed ones.

`python tests/survival/kill_runs.py --kills 50 --seed 16` takes ten minutes on two cores; CI does
a few (`test_kill_runs.py`). A *chain* is one runs folder: its command is killed a few times,
each time at a moment drawn from the whole of what an undisturbed one takes (start, preparation,
training, captions, scores, mirror, end), and is then repeated until it ends well.

Looked at after each kill: exit code, what was printed, statuses, processes that go on, temporary
folders. At the end of a chain: every number, bit for bit, and that nothing is left behind.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.command import hear_hang_ups  # noqa: E402 (found by the line above)

TERM, HUP, INT, KILL = signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL
KINDS = {
    "KILL of the group": (KILL, "group"),
    "KILL of a worker": (KILL, "worker"),
    "KILL of the parent": (KILL, "parent"),
    "TERM": (TERM, "parent"),
    "TERM of the group": (TERM, "group"),
    "HUP": (HUP, "parent"),
    "HUP of the group": (HUP, "group"),
    "INT": (INT, "parent"),
    "INT of the group": (INT, "group"),
    "INT of the group, twice": (INT, "group"),
}
PHASES = {
    "preparation": "*/*",
    "training": "*/*/log.jsonl",
    "captions": "*/*/trainable.safetensors",
    "scores": "*/*/predictions.jsonl",
    "mirror and end": "*/*/region_scores.json",
}
"""How far a command is -> a file below `cells` that it has written by then."""
OWN = re.compile(r"sca_bench-[0-9]+-[a-z0-9_]{8}(/.*)?")
"""What a killed process may leave, since the next one can tell that it is dead."""
SUITE = """
suite: mixer_layers
question: How deep must the text feature mixer be?
base: {variant: sca}
axes: {mixer.num_layers: [1, 2]}
seeds: [0]
metrics: [cider_d, exact_match]
"""
SWEEP = """
sweep: lr_depth
question: Which rate?
base: {variant: sca}
space:
  mixer.num_layers: {choices: [1, 2]}
  train.learning_rate: {low: 1.0e-3, high: 3.0e-2, log: true}
objectives: [{metric: exact_match, direction: maximize}]
trials: 2
batch: 2
sampler: {name: TPESampler}
confirm: {seeds: [100]}
"""
BASE = """
train: {steps: 12, images_per_batch: 2, warmup_steps: 2, val_every: 5}
data:
  train: {dataset: scenes, first_seed: 0, num_images: 6}
  val: {dataset: scenes, first_seed: 5000, num_images: 2}
  test: {dataset: scenes, first_seed: 900000, num_images: 3}
eval: {max_new_tokens: 6}
runtime: {device: cpu, threads: 1, jobs: 1, checkpoint_every: 4, log_every: 1}
"""


class Wrong(AssertionError):
    """Something did not survive."""


@dataclass
class Work:
    """One command and its undisturbed result.

    Attributes:
        name: `run` or `sweep`.
        folder: Where its file lies.
        is_quick: Whether it does without the mirror, and without scores that take Java.
        took_s: What it takes undisturbed.
        result: What came out.
    """

    name: str
    folder: Path
    is_quick: bool = False
    took_s: float = 0.0
    result: dict[str, object] = field(default_factory=dict)

    def begin(self) -> None:
        """Write its file, and do it undisturbed."""
        import yaml

        self.folder.mkdir(parents=True)
        content = yaml.safe_load(SUITE if self.name == "run" else SWEEP)
        content["base"] |= yaml.safe_load(BASE)
        if self.is_quick:
            content["metrics"] = ["exact_match"]
        (self.folder / "work.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        calm = Chain(self, self.folder / "calm")
        began = time.monotonic()
        calm.finish()
        self.took_s = time.monotonic() - began
        self.result = calm.result()
        calm.check_clean()


@dataclass
class Chain:
    """One runs folder, and the kills that its command went through."""

    work: Work
    folder: Path
    said: list[str] = field(default_factory=list)

    @property
    def behind(self) -> set[str]:
        """The phases that were come to before, which a repetition does not come to anew."""
        order = ["start", *PHASES]
        return set(order[: order.index(self.phase()) + 1])

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    def start(self) -> subprocess.Popen[bytes]:
        self.temporary.mkdir(parents=True, exist_ok=True)
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.temporary),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
        }
        environment.pop("MLFLOW_TRACKING_URI", None)
        words = [self.work.name, str(self.work.folder / "work.yaml"), "--runs-dir", str(self.runs)]
        if self.work.is_quick:
            words.append("--no-mlflow")
        with (self.folder / "printed").open("wb") as printed:
            return subprocess.Popen(
                [sys.executable, "-m", "sca_bench", *words],
                cwd=self.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def phase(self) -> str:
        """Return how far the command is, by what it has written."""
        cells = self.runs / "cells"
        for name, pattern in reversed(PHASES.items()):
            if any(cells.glob(pattern)):
                return name
        return "start"

    def printed(self) -> str:
        return (self.folder / "printed").read_text(encoding="utf-8", errors="replace")

    def kill(self, kind: str, after_s: float, since: str = "start") -> str:
        """Start the command, kill it a time after it has come so far; return how far it was.

        Raises:
            Wrong: A code, a status, a line, a process or a temporary folder is not as it should be.
        """
        number, whom = KINDS[kind]
        process, order = self.start(), ["start", *PHASES]
        while process.poll() is None and order.index(self.phase()) < order.index(since):
            time.sleep(0.005)
        time.sleep(after_s)
        phase = self.phase()
        hit = self._strike(process, number, whom)
        if "twice" in kind:
            time.sleep(0.2)
            self._strike(process, number, whom)
        code = process.wait(timeout=120)
        words = self.printed()
        where = f"{self.work.name}, {kind}, {after_s:.2f} s after {since}, rc {code}:\n{words}"
        if not hit or (code == 0 and whom != "worker"):
            return "too late"
        wanted = {"worker": (0, 1)}.get(whom, (-KILL,) if number == KILL else (128 + number,))
        if code not in wanted:
            raise Wrong(f"wrong code; expected {wanted}; {where}")
        if "Traceback" in words:
            raise Wrong(f"a traceback; {where}")
        self._wait_for_all(process.pid, where)
        if number != KILL:
            if words.count(f"stopped by {signal.Signals(number).name}; run the same") != 1:
                raise Wrong(f"no line, or two; {where}")
            self._check_statuses(where)
            if left := self.left_in_tmp():
                raise Wrong(f"left in TMPDIR: {left}; {where}")
            if left := [name for name in self.unfinished() if not OWN.fullmatch(name)]:
                raise Wrong(f"left in the runs folder: {left}; {where}")
        elif foreign := [name for name in self.left_in_tmp() if not OWN.fullmatch(name)]:
            raise Wrong(f"left in TMPDIR: {foreign}; {where}")
        return phase

    def _strike(self, process: subprocess.Popen[bytes], number: int, whom: str) -> bool:
        """Send a signal; False if nobody was there any more."""
        if process.poll() is not None:
            return False
        if whom != "worker":
            (os.killpg if whom == "group" else os.kill)(process.pid, number)
            return True
        while process.poll() is None:
            if workers := [pid for pid in session(process.pid) if works_for(pid, self.runs)]:
                os.kill(workers[0], number)
                return True
            time.sleep(0.02)
        return False

    def _wait_for_all(self, leader: int, where: str) -> None:
        end = time.monotonic() + 15
        while left := session(leader):
            if time.monotonic() > end:
                names = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in left]
                raise Wrong(f"processes go on: {names}; {where}")
            time.sleep(0.05)

    def _check_statuses(self, where: str) -> None:
        for path in self.runs.glob("cells/*/*/record.json"):
            record = json.loads(path.read_text())
            if record["status"] not in ("done", "killed", "pruned", "failed"):
                raise Wrong(f"{path} is {record['status']}; {where}")
            known = (*(number.name for number in (TERM, HUP, INT)), "interrupted")
            if record["status"] == "killed" and record["error"] not in known:
                raise Wrong(f"{path} was killed by {record['error']}; {where}")
        mirrored = self.mirrored()
        if "RUNNING" in mirrored:
            raise Wrong(f"MLflow has {mirrored}; {where}")

    def mirrored(self) -> Counter[str]:
        """Return how many runs MLflow has of each status."""
        path = self.runs / "mlflow.db"
        if not path.exists():
            return Counter()
        with closing(sqlite3.connect(path)) as connection:
            try:
                return Counter(
                    status for (status,) in connection.execute("SELECT status FROM runs")
                )
            except sqlite3.OperationalError:  # stopped before it had tables
                return Counter()

    def left_in_tmp(self) -> list[str]:
        return sorted(p.name for p in self.temporary.iterdir())

    def unfinished(self) -> list[str]:
        half = re.compile(r".*(\.tmp|-journal|-wal)|sca_bench-.*")
        found = (p for p in self.runs.rglob("*") if half.fullmatch(p.name))
        return sorted(p.relative_to(self.runs).as_posix() for p in found)

    def finish(self) -> None:
        """Repeat the command to its end.

        Raises:
            Wrong: It does not end well.
        """
        process = self.start()
        if (code := process.wait(timeout=300)) != 0:
            raise Wrong(f"{self.work.name} ended with {code}:\n{self.printed()}")

    def check_clean(self) -> None:
        """Check that nothing is left behind.

        Raises:
            Wrong: Something is.
        """
        if left := [*self.left_in_tmp(), *self.unfinished()]:
            raise Wrong(f"left behind: {left}")
        if mirrored := self.mirrored().keys() - {"FINISHED"}:
            raise Wrong(f"MLflow has runs that are {mirrored}")

    def check(self) -> None:
        """Compare with the undisturbed result.

        Raises:
            Wrong: Anything differs, or is left behind.
        """
        self.check_clean()
        result, expected = self.result(), self.work.result
        for key in sorted(result.keys() | expected.keys()):
            if result.get(key) != expected.get(key):
                raise Wrong(f"{key}: {result.get(key)} in place of {expected.get(key)}")

    def result(self) -> dict[str, object]:
        """Return all that has to come out alike: files by their names, numbers, trials."""
        found: dict[str, object] = {}
        kept = [p for p in self.runs.rglob("*") if p.is_file() and "attempts" not in p.parts]
        found["files"] = sorted(p.relative_to(self.runs).as_posix() for p in kept if steady(p))
        for path in sorted(self.runs.glob("cells/*/*/*")):
            name = path.relative_to(self.runs).as_posix()
            if path.name == "record.json":
                record = json.loads(path.read_text())
                wanted = ("status", "error", "scores", "settings", "inputs", "lineage", "notes")
                found[name] = {key: record[key] for key in wanted}
            elif path.suffix == ".jsonl":
                rows = [json.loads(line) for line in path.read_text().splitlines()]
                timed = ("seconds", "step_s", "elapsed_s")
                found[name] = [{k: v for k, v in row.items() if k not in timed} for row in rows]
            elif path.name != "mlflow.json":
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        if self.work.name == "sweep":
            found["trials"] = trials(self.runs / "sweeps.db")
        return found


def steady(path: Path) -> bool:
    """Say whether a file has one name in every run: shards and MLflow's artifacts have not."""
    return "mlartifacts" not in path.parts and not path.name.startswith("shard-")


def trials(database: Path) -> list[object]:
    """Return number, state, parameters and values of a sweep's trials."""
    with closing(sqlite3.connect(database)) as connection:
        return [
            list(row)
            for query in (
                "SELECT number, state FROM trials ORDER BY number",
                "SELECT number, param_name, param_value FROM trial_params JOIN trials USING"
                " (trial_id) ORDER BY number, param_name",
                "SELECT number, objective, value FROM trial_values JOIN trials USING (trial_id)"
                " ORDER BY number",
            )
            for row in connection.execute(query)
        ]


def session(leader: int) -> list[int]:
    """Return the processes of a session that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, own = (path / "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        if int(own) == leader and state not in "ZX":
            found.append(int(path.name))
    return found


def works_for(pid: int, runs: Path) -> bool:
    """Say whether a process is a worker of a runs folder: it prints into a log there."""
    try:
        target = str(Path(f"/proc/{pid}/fd/1").readlink())
    except OSError:
        return False
    return target.startswith(str(runs)) and target.endswith(".log")


def run_chain(
    work: Work, folder: Path, kinds: list[str], draw: random.Random
) -> list[tuple[str, str, str]]:
    """Kill one command as often as there are kinds, repeat it to its end, compare.

    Half of the moments are drawn from its whole time, most of which is preparation, and half from
    the half second after it has come to a phase that is drawn.

    Returns:
        What each kill was, when it came, and how far the command was; fewer than were asked for
        where one came too late, since the command has ended then.
    """
    chain, done = Chain(work, folder), list[tuple[str, str, str]]()
    for kind in kinds:
        since, after_s = "start", draw.uniform(0.15, work.took_s * (0.75 if done else 0.95))
        if draw.random() < 0.5:
            later = [name for name in PHASES if name not in chain.behind]
            since, after_s = draw.choice(later or ["start"]), draw.uniform(0.0, 0.5)
        where = chain.kill(kind, after_s, since)
        if where == "too late":
            break
        done.append((kind, f"{after_s:.1f} s after {since}", where))
    chain.finish()
    chain.check()
    return done


def main() -> int:
    """Do the kills that were asked for; print each chain, and what went wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("--longest", type=int, default=4, help="kills of a chain, at most")
    options = parser.parse_args()
    hear_hang_ups()
    draw, began = random.Random(options.seed), time.monotonic()
    kinds = [kind for _ in range(-(-options.kills // len(KINDS))) for kind in KINDS]
    draw.shuffle(kinds)
    kinds, wrong, number = kinds[: options.kills], 0, 0
    count, phases = Counter[str](), Counter[str]()
    with tempfile.TemporaryDirectory(prefix="kill_runs-") as name:
        works = [Work(what, Path(name) / what) for what in ("run", "sweep")]
        for work in works:
            work.begin()
            print(f"{work.name}: {work.took_s:.1f} s undisturbed", flush=True)
        while kinds:
            work = works[number % 3 == 2]  # every third chain is a sweep
            size = draw.randint(1, options.longest)
            now, kinds, number = kinds[:size], kinds[size:], number + 1
            try:
                done = run_chain(work, Path(name) / f"chain-{number}", now, draw)
            except Wrong as fault:
                wrong += 1
                print(f"chain {number} ({work.name}: {', '.join(now)}): {fault}", flush=True)
                continue
            kinds += now[len(done) :]
            count.update(kind for kind, _, _ in done)
            phases.update(phase for _, _, phase in done)
            print(f"chain {number} ({work.name}): equal after {len(done)} kills", flush=True)
            for kind, moment, where in done:
                print(f"  {kind}, {moment}: in {where}", flush=True)
    total, minutes = sum(count.values()), (time.monotonic() - began) / 60
    print(f"{total} kills in {number} chains, {wrong} wrong, {minutes:.1f} min")
    print(f"{dict(count)}; {dict(phases)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
