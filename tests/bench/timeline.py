"""Who computes when: a command's processes, watched through /proc, as a time line of cores.

    python tests/bench/timeline.py python -m sca_bench run mixer_layers

A line a phase: when it began, how long it took, and how many cores its processes kept busy. A phase
begins with the first file that only it writes: features, a training log, captions, scores.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PHASES = {
    "features": "attempts/*/prepare.log",
    "training": "cells/*/*/log.jsonl",
    "last step": "cells/*/*/trainable.safetensors",
    "scores": "cells/*/*/region_scores.json",
}
"""Phase -> what is there in the runs folder once it has begun; `last step` needs all of them."""
_TICK_S, _POLL_S = 1.0 / os.sysconf("SC_CLK_TCK"), 0.1


@dataclass
class Timeline:
    """What a command took.

    Attributes:
        wall_s: From start to end.
        cpu_s: Of all its processes.
        code: Its exit code.
        out: What it printed, each line with its second.
        begins: Phase -> second at which it began.
        cpu_at: (second, CPU seconds so far), ten times a second.
        by_role: Role of a process -> CPU seconds.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    code: int = 0
    out: list[str] = field(default_factory=list)
    begins: dict[str, float] = field(default_factory=dict)
    cpu_at: list[tuple[float, float]] = field(default_factory=list)
    by_role: dict[str, float] = field(default_factory=dict)

    def rows(self) -> Iterator[str]:
        """Yield a line a phase: second, seconds, cores that were busy."""
        begins = {"start": 0.0, **self.begins}
        ends = [*list(begins.values())[1:], self.wall_s]
        for (phase, start), end in zip(begins.items(), ends, strict=True):
            cores = (self._cpu(end) - self._cpu(start)) / max(end - start, 1e-9)
            yield f"{start:7.1f} s  {phase:<10} {end - start:7.1f} s  {cores:4.2f} cores"
        roles = ", ".join(f"{role} {cpu:.1f}" for role, cpu in sorted(self.by_role.items()))
        yield f"{self.wall_s:7.1f} s  end; {self.cpu_s:.1f} CPU s: {roles}"

    def _cpu(self, second: float) -> float:
        return max((cpu for at, cpu in self.cpu_at if at <= second), default=0.0)


def watch(
    command: Sequence[str], runs: Path, num_runs: int, env: Mapping[str, str], cwd: Path
) -> Timeline:
    """Run a command to its end, and watch it.

    Args:
        command: What to run.
        runs: Its runs folder, which is empty.
        num_runs: How many runs it makes.
        env: Its environment.
        cwd: Where it runs.
    """
    line, began = Timeline(), time.monotonic()
    log = runs.parent / f"{runs.name}.out"
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdout=out, stderr=out, start_new_session=True
        )
        used: dict[int, tuple[str, float]] = {}
        seen = 0
        while process.poll() is None:
            now = time.monotonic() - began
            used |= _used(process.pid)
            line.cpu_at.append((now, sum(cpu for _, cpu in used.values())))
            for phase, pattern in PHASES.items():
                wanted = num_runs if phase == "last step" else 1
                if phase not in line.begins and len(list(runs.glob(pattern))) >= wanted:
                    line.begins[phase] = now
            said = log.read_text(errors="replace").splitlines()
            line.out += [f"{now:7.1f} {text}" for text in said[seen:]]
            seen = len(said)
            time.sleep(_POLL_S)
    line.wall_s, line.code = time.monotonic() - began, process.returncode
    said = log.read_text(errors="replace").splitlines()
    line.out += [f"{line.wall_s:7.1f} {text}" for text in said[seen:]]
    line.cpu_s = sum(cpu for _, cpu in used.values())
    for role, cpu in used.values():
        line.by_role[role] = line.by_role.get(role, 0.0) + cpu
    line.begins = dict(sorted(line.begins.items(), key=lambda item: item[1]))
    return line


def _used(leader: int) -> dict[int, tuple[str, float]]:
    """Return the live processes of a session: id -> what it is, and its CPU seconds."""
    found: dict[int, tuple[str, float]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            fields = (path / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) != leader:
                continue
            found[int(path.name)] = _role(path, leader), sum(map(int, fields[11:13])) * _TICK_S
        except (OSError, IndexError):
            continue
    return found


def _role(path: Path, leader: int) -> str:
    words = (path / "cmdline").read_bytes().decode(errors="replace")
    if int(path.name) == leader:
        return "command"
    if "java" in words.partition("\0")[0]:
        return "java"
    if "mlflow_mirror" in words:
        return "mirror"
    log = (path / "fd" / "1").readlink()
    if log.suffix == ".log":
        return log.stem
    return "server" if "forkserver" in words else "other"


if __name__ == "__main__":
    folder = Path(
        sys.argv[sys.argv.index("--runs-dir") + 1] if "--runs-dir" in sys.argv else "runs"
    )
    watched = watch(sys.argv[1:], folder.resolve(), 9, os.environ, Path.cwd())
    print("\n".join([*watched.out, *watched.rows()]))
    sys.exit(watched.code)
