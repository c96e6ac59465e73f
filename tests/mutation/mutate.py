"""Put small faults into the code, one at a time, and see whether a test notices.

    python tests/mutation/mutate.py --seed 16 --number 400

draws 400 faults, evenly over four targets (metrics, stats, study, the optimiser) and in each over
its files by their number of possible faults. A fault is tried with the tests of the map in
CONTRIBUTING.md: those that reach its line, then those that reach its file, until one fails. The
first run records which lines each test reaches (some minutes). Results are lines of JSON; a call
that is stopped, or has `--minutes`, goes on from them.

A fault that no test notices is a survivor. Those that change nothing that anybody could see are
listed in `equivalent.yaml`, each with its reason, and not tried.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}

import pytest
import yaml
from reach import Reach, Recorder
from small_faults import Fault
from targets import TARGETS, drawn, faults_of_target, guards_of
from trials import PYTEST, Tree, large_modules, warm_up

ROOT = Path(__file__).resolve().parents[2]
EQUIVALENT = "tests/mutation/equivalent.yaml"
_SHOWN = 60
"""Characters of a change that an id shows."""
_MOVES_NO_OTHER = re.compile(r"/test_\w+\.py$|^docs/|^tests/mutation/|\.md$")
"""Files whose change moves no line that the tests of another file reach."""
FIRST_S = 2.0
"""Recorded seconds of tests of the first try; most faults do not outlive it."""


def main(words: list[str] | None = None) -> int:
    """Draw, try and sum up; return 0 where at least nine faults of ten were noticed."""
    asked = parser().parse_args(words)
    root = asked.root.resolve()
    folder = (asked.folder or root / "build" / "mutation").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    faults = {t: faults_of_target(root, t) for t in asked.targets}
    each, rest = divmod(asked.number, len(faults))
    chosen = {
        target: drawn(of_target, each + (place < rest), asked.seed)
        for place, (target, of_target) in enumerate(faults.items())
    }
    if asked.only:
        chosen = {t: [f for f in fs if asked.only in _id(f)] for t, fs in chosen.items()}
    if asked.list:
        for target, of_target in chosen.items():
            for fault in of_target:
                print(f"{target} {_id(fault)}")
        return 0
    results = folder / f"results-{asked.seed}.jsonl"
    done = read_results(results)
    if asked.again:
        done = {name: row for name, row in done.items() if row["outcome"] in ("killed", "timeout")}
        lines = [json.dumps(row) + "\n" for row in done.values()]
        results.write_text("".join(lines), encoding="utf-8")
    ends = time.monotonic() + 60 * asked.minutes
    work = Work(root, folder, asked, ends)
    for target, of_target in chosen.items():
        if not work.go_through(target, of_target, asked.seed, done, results):
            print(f"{len(done)} of {asked.number} so far; the same command goes on")
            return 3
    return summary([done[_id(f)] for fs in chosen.values() for f in fs])


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    made.add_argument("--seed", type=int, default=16, help="of the draw")
    made.add_argument("--number", type=int, default=400, help="of faults, over all targets")
    made.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    made.add_argument("--only", default="", help="part of an id: try these alone")
    made.add_argument("--minutes", type=float, default=1e9, help="stop after so many")
    made.add_argument(
        "--seconds",
        type=float,
        default=20.0,
        help="of tests that one fault is worth, as long as these took while they were recorded;"
        " of tests that reach its file but not its line a third as many",
    )
    made.add_argument("--marks", default="not bench", help="which tests, as pytest's -m says it")
    made.add_argument("--list", action="store_true", help="print what is drawn, try nothing")
    made.add_argument("--again", action="store_true", help="try survivors again")
    made.add_argument(
        "--keep",
        action="store_true",
        help="what tests reach is as recorded, although code changed that is no test",
    )
    made.add_argument("--folder", type=Path, help="of copy and results; default: build/mutation")
    made.add_argument("--root", type=Path, default=ROOT, help="the repository")
    return made


class Work:
    """The copy of the repository, what its tests reach, and the trials in it."""

    def __init__(self, root: Path, folder: Path, asked: argparse.Namespace, ends: float) -> None:
        self.root, self.folder, self.ends = root, folder, ends
        self.most_s, self.marks = asked.seconds, asked.marks
        self.tree = Tree(root, folder)
        self.changed = self.tree.renew()
        self.whole = any(not _MOVES_NO_OTHER.search(name) for name in self.changed)
        self.whole &= not asked.keep
        for path in folder.glob("reach-*.json"):  # what was recorded before, and holds no more
            rows = {} if self.whole else json.loads(path.read_text())
            kept = {file: tests for file, tests in rows.items() if file not in self.changed}
            path.write_text(json.dumps(kept))
        self.modules = folder / "modules.json"
        if self.modules.exists():
            warm_up(json.loads(self.modules.read_text()))

    def reach_of(self, target: str, guards: list[str]) -> Reach:
        """Record which lines the tests of a target reach, unless that is known."""
        path = self.folder / f"reach-{target}.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        if new := sorted(set(guards) - known.keys()):
            print(f"{target}: recording what {len(new)} files of tests reach", flush=True)
            found = self.recorded(new)
            for file in new:
                own = {t: row for t, row in found.items() if t.partition("::")[0] == file}
                known[file] = own
            path.write_text(json.dumps(known))
        return Reach({name: row for file in guards for name, row in known[file].items()})

    def recorded(self, files: list[str]) -> dict[str, Any]:
        """Run files of tests without any fault; return seconds and lines of those that pass."""
        recorder = Recorder(self.tree.folder)

        def body() -> dict[str, Any]:
            before = set(large_modules())
            code = pytest.main([*PYTEST, "-m", self.marks, *files], plugins=[recorder])
            more = [name for name in large_modules() if name not in before]
            return {"code": int(code), "modules": more, **recorder.answer()}

        answer = self.tree.in_child(body, 3600.0)
        if answer is None or "passed" not in answer:
            raise SystemExit(f"see {self.tree.scratch / 'printed.txt'}: no tests were recorded")
        for name in answer["failed"]:
            print(f"  fails or is skipped without any fault, so it is left out: {name}")
        modules = json.loads(self.modules.read_text()) if self.modules.exists() else []
        self.modules.write_text(json.dumps([*modules, *answer["modules"]]))
        warm_up(answer["modules"])
        passed: dict[str, Any] = answer["passed"]
        return passed

    def go_through(
        self,
        target: str,
        faults: list[Fault],
        seed: int,
        done: dict[str, dict[str, Any]],
        results: Path,
    ) -> bool:
        """Try the faults of a target that have no result yet; say whether all have one now."""
        left = [fault for fault in faults if _id(fault) not in done]
        if not left:
            return True
        guards = guards_of(self.root, target)
        reach = self.reach_of(target, guards)
        texts = {name: (self.root / name).read_text(encoding="utf-8") for name in guards}
        reasons = equivalent(self.root)
        for fault in left:
            if time.monotonic() > self.ends:
                return False
            row = {"seed": seed, "target": target, "id": _id(fault), "operator": fault.operator}
            row["diff"] = fault.diff((self.root / fault.file).read_text(encoding="utf-8"))
            if fault.key in reasons:
                row |= {"outcome": "equivalent", "reason": reasons[fault.key]}
            else:
                row |= self.tried(fault, reach, texts)
            done[row["id"]] = row
            with results.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(row) + "\n")
            print(f"{row['outcome']:10} {row.get('seconds', 0):6.1f} s  {row['id']}", flush=True)
        return True

    def tried(self, fault: Fault, reach: Reach, guards: dict[str, str]) -> dict[str, Any]:
        """Try one fault with more and more tests; return what the row says of it."""
        near, far = reach.tests_of(fault, guards)
        parts = in_parts(reach, near, far, self.most_s)
        if not parts:
            return {"outcome": "survived", "reason": "no test reaches its file", "tests": 0}
        took, ran = 0.0, 0
        for part in parts:
            limit_s = 10.0 + 2 * reach.seconds(part)
            found = self.tree.try_fault(fault, part, limit_s)
            took, ran = took + found.seconds, ran + len(part)
            row = {"seconds": round(took, 2), "tests": ran, "by": found.test}
            if found.timed_out:
                whole = self.tree.run(part, limit_s)
                sure = whole.passed and whole.seconds < limit_s / 2
                return {**row, "outcome": "timeout" if sure else "unclear", "limit_s": limit_s}
            if not found.passed:
                test_file = found.test.partition("::")[0]
                reach.kills[fault.file, test_file] += bool(test_file)
                return {**row, "outcome": "killed", "by": found.test or "it cannot be imported"}
        reason = "" if near or not fault.in_function else "no test reaches its line"
        return {"outcome": "survived", "reason": reason, "seconds": round(took, 2), "tests": ran}


def in_parts(reach: Reach, near: list[str], far: list[str], most_s: float) -> list[list[str]]:
    """Return a few tests for the first try, and more for the second, as many as are worth it."""
    parts: list[list[str]] = [[], []]
    total = 0.0
    for tests, most in ((near, most_s), (far, most_s / 3)):
        for name in tests:
            seconds = reach.seconds([name])
            if total + seconds <= most or not total:
                total += seconds
                parts[total > FIRST_S].append(name)
    return [part for part in parts if part]


def equivalent(root: Path) -> dict[tuple[str, str, str], str]:
    """Return the reasons why some faults change nothing that anybody could see."""
    rows = yaml.safe_load((root / EQUIVALENT).read_text(encoding="utf-8")) or []
    return {
        (row["file"], row["line"], change): row["reason"]
        for row in rows
        for change in row["changes"]
    }


def read_results(path: Path) -> dict[str, dict[str, Any]]:
    """Return what is known already, by id."""
    if not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row["id"]: row for row in rows}


def summary(rows: list[dict[str, Any]]) -> int:
    """Print the survivors, then how many faults each target's tests noticed."""
    for row in rows:
        if row["outcome"] in ("survived", "unclear"):
            print(f"\n{row['id']}: {row['outcome']} {row['tests']} tests {row.get('reason', '')}")
            print(row["diff"])
    print()
    for target in [*dict.fromkeys(row["target"] for row in rows), "all"]:
        count = Counter(r["outcome"] for r in rows if target in ("all", r["target"]))
        noticed, alike = count["killed"] + count["timeout"], count["equivalent"]
        real = count.total() - alike
        print(
            f"{target:10} {noticed} of {real} noticed ({noticed / max(real, 1):.1%}), {dict(count)}"
        )
    return 0 if noticed >= 0.9 * real else 1


def _id(fault: Fault) -> str:
    before, after = " ".join(fault.before.split()), fault.after
    told = f"{fault.file}:{fault.line}:{fault.start[1]} {fault.operator}"
    if max(len(before), len(after)) > _SHOWN:  # what differs may come later
        whole = hashlib.sha256(f"{before} -> {after}".encode()).hexdigest()[:8]
        told, before, after = f"{told} {whole}", before[:_SHOWN], after[:_SHOWN]
    return f"{told} {before!r} -> {after!r}"


if __name__ == "__main__":
    sys.exit(main())
