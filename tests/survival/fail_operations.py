"""Every operation on the disk fails once: what a run, its report and its mirror then leave.

    python tests/survival/fail_operations.py                    # every operation, every error
    python tests/survival/fail_operations.py --draw 30 --seed 16
    python tests/survival/fail_operations.py --phase report --error EIO --operation 7

A runs folder holds a finished cell, its report and its mirror. A second cell of two steps is run,
reported and mirrored while the k-th operation of `sca_bench.files` fails. The command then has to
say so in a line, with the right exit code and status, and to have lost nothing; the same commands
without a fault have to give what they give when nothing ever failed, bit for bit, and leave no
other file behind.

Everything is forked from this process, which has imported what a command needs, so that a case
takes seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import hashlib
import json
import os
import random
import re
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]
os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", MPLBACKEND="agg")

from helpers.failing_disk import ERRORS, Disk  # noqa: E402 (found by the line above)

PHASES = ("run", "report", "track")
LASTING = tuple(f"{error}+" for error in ERRORS)
"""Not that operation alone, but all that come after it."""
NUM_PLOTS = 3
"""Plots of the report; the others are written in the same way."""
LIMIT, LIMITS_KIB = "FSIZE", (0, 1, 16, 128, 512)
"""Sizes beyond which nothing can be written, which SQLite, MLflow and torch meet as well."""
SUITE = """suite: disk
question: Does it survive?
base: {base}
axes: {{mixer.num_layers: {layers}}}
seeds: [0]
metrics: [cider_d, exact_match]
"""
TIMES = re.compile(
    r"(_s|_mib|_at|seconds|cost|provenance|created|command|counters|resumed|masks_file)$"
)
"""Keys of JSON whose values are of one execution, not of its result."""

KEPT = ("runs/features/", "runs/images/", "runs/masks/")
"""What only saves time, or shows pictures: a command that cannot write it says so and goes on."""
VIEW = ("mlflow/", "runs/cells/")
DONE_WITHOUT = re.compile("computed as it is needed|cannot be written|is not written")
MOMENTS = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|disk-\w+-s0-\w+-\d+-\w+")


@dataclass(frozen=True)
class Case:
    """One operation that fails.

    Attributes:
        phase: The command in which it fails.
        operation: Its number in that command, from 1.
        error: Name of the error, as for `Disk.start`.
    """

    phase: str
    operation: int
    error: str

    def __str__(self) -> str:
        return f"{self.phase} {self.operation} {self.error}"


class Rig:
    """The folder in which all cases are played, one after the other, and what is right there.

    Args:
        work: A folder of its own; links to MLflow's artifacts hold its path.
    """

    def __init__(self, work: Path) -> None:
        self.home, self.kept = work / "case", work / "kept"
        self.home.mkdir(parents=True)
        self.disk = Disk(work / "trace")
        self.expected: dict[str, dict[str, str]] = {}
        self.operations: dict[str, list[tuple[str, str]]] = {}
        self.decoder = _decoder(work / "decoder")

    def prepare(self) -> None:
        """Make the folder with the finished cell, and play the commands without a fault."""
        self._write_suite("[1]")
        for phase in PHASES:
            code, out, _ = self.play(phase)
            assert code == 0, out
        self._write_suite("[1, 2]")
        for made_again in ("features", "images", "masks"):
            shutil.rmtree(self.home / "runs" / made_again)
        for phase in PHASES:
            if phase == "track":  # of a run that was not mirrored while it went on
                self._forget_mirror()
            shutil.copytree(self.home, self.kept / phase, symlinks=True)
            code, out, self.operations[phase] = self.play(phase)
            assert code == 0, out
            found = contents(self.home)
            apart = differences(self.expected.get("report", found), found)
            assert not apart, apart
            self.expected[phase] = found

    def _forget_mirror(self) -> None:
        runs, before = self.home / "runs", self.kept / "run" / "runs"
        for name in ("mlflow.db", "mlartifacts"):
            there = runs / name
            shutil.rmtree(there) if there.is_dir() else there.unlink()
            if (before / name).is_dir():
                shutil.copytree(before / name, there)
            else:
                shutil.copy(before / name, there)
        for note in runs.glob("cells/*/*/mlflow.json"):
            if not (before / note.relative_to(runs)).exists():
                note.unlink()

    def _back_to(self, phase: str) -> None:
        shutil.rmtree(self.home)
        shutil.copytree(self.kept / phase, self.home, symlinks=True)

    def _write_suite(self, layers: str) -> None:
        base = json.dumps(_settings(self.decoder))
        (self.home / "disk.yaml").write_text(SUITE.format(base=base, layers=layers))

    def play(
        self, phase: str, last: int = 0, error: str = ""
    ) -> tuple[int, str, list[tuple[str, str]]]:
        """Play a command in a process of its own; return its exit code, words and operations."""
        words = {"report": "report", "track": "track sync"}.get(phase, "run disk.yaml").split()
        source, target = os.pipe()
        child = os.fork()
        if child == 0:
            code = 99
            try:
                os.dup2(target, 1)
                os.dup2(target, 2)
                code = _in_child(self.home, words, self.disk, (last, error))
            except BaseException:
                traceback.print_exc()
            os._exit(code)
        os.close(target)
        os.set_blocking(source, False)
        parts, status = [], None
        while status is None:
            select.select([source], [], [], 0.01)
            ended, code = os.waitpid(child, os.WNOHANG)
            status = code if ended else None
            with contextlib.suppress(BlockingIOError):
                while part := os.read(source, 65536):
                    parts.append(part)
        os.close(source)
        said = b"".join(parts).decode(errors="replace")
        return os.waitstatus_to_exitcode(status), said, self.disk.operations

    def case(self, case: Case) -> list[str]:
        """Play a case; return what is wrong with what it left."""
        self._back_to(case.phase)
        before, whole = contents(self.home), _bytes(self.home)
        code, out, operations = self.play(case.phase, case.operation, case.error)
        what = "whatever is larger"
        if case.error != LIMIT:
            if len(operations) < case.operation:
                return []  # fewer operations this time: nothing failed
            what = " ".join(operations[case.operation - 1]).replace(str(self.home), "")
        self._lasts = case.error == LIMIT or case.error.endswith("+")
        without = code == 0 and DONE_WITHOUT.search(out)
        faults = [f"{fault}\n{out}" for fault in self._after_fault(code, out, before)]
        if _bytes(self.home) != whole:  # else the repeat begins where the first try did
            code, out, _ = self.play(case.phase)
            if code != 0 or "Traceback" in out:
                faults.append(f"the repeated {case.phase} ends with {code}\n{out}")
            apart = differences(self.expected[case.phase], contents(self.home))
            if case.phase == "run" and any(line.startswith(VIEW) for line in apart):
                self.play("track")  # a view, which this repairs
                apart = differences(self.expected[case.phase], contents(self.home))
            faults += [line for line in apart if not (without and line.startswith(KEPT))]
        return [f"{what}: {fault}" for fault in faults]

    def _after_fault(self, code: int, out: str, before: dict[str, str]) -> Iterator[str]:
        if "Traceback" in out:
            yield "a traceback is printed"
        if code not in (0, 1, 2):
            yield f"the exit code is {code}"
        if code and not out.strip():
            yield "nothing is said"
        now = contents(self.home)
        for name in sorted(before.keys() - now.keys()):
            yield f"{name} is gone"
        states = {name: json.loads(p.read_text())["status"] for name, p in _records(self.home)}
        if code == 0 and set(states.values()) != {"done"}:
            yield f"exit code 0, but statuses {sorted(states.values())}"
        if "running" in states.values() and not self._lasts:  # else none can be written
            yield f"exit code {code}, but statuses {sorted(states.values())}"
        for name, digest in before.items():
            if digest != now.get(name, digest):  # else the old content, or all of the new
                known = self.expected["report"].get(name)
                if now[name] != known and not name.startswith(("mlflow", "runs/suites")):
                    yield f"{name} has changed"


def _in_child(home: Path, words: list[str], disk: Disk, fault: tuple[int, str]) -> int:
    import multiprocessing

    from sca_bench.cli import main
    from sca_bench.engine.mlflow_mirror import mirror
    from sca_bench.engine.worker import group_run, pool
    from sca_bench.lifetime import stops
    from sca_bench.report.figures import write_figures
    from sca_bench.report.figures.registry import plots_in_order

    os.chdir(home)
    sys.stdout, sys.stderr = (open(n, "w", 1, closefd=False) for n in (1, 2))  # noqa: SIM115
    pool.worker_processes = lambda: multiprocessing.get_context("fork")
    mirror.stops = SimpleNamespace(**{**vars(stops), "start_child": Forked})
    # What differs between two executions stands in no number, but in tables and plots of costs.
    group_run.cost_of = lambda *_: {"train_s": 1.0, "step_s": 1.0, "cpu_s": 1.0, "shared_s": 1.0}
    write_figures.plots_in_order = lambda: plots_in_order()[:NUM_PLOTS]
    disk.start(*fault)
    try:
        return main(words)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        traceback.print_exc()
        return 98
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


class Forked:
    """Stands in for the process that writes MLflow's mirror: forked, so that it imports nothing."""

    def __init__(self, command: list[str], **_: object) -> None:
        to_it, its_input = os.pipe()
        its_output, from_it = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._become(command, to_it, from_it)
        for end in (to_it, from_it):
            os.close(end)
        self.stdin = open(its_input, "wb", 0)  # noqa: SIM115
        self.stdout = open(its_output, "rb", 0)  # noqa: SIM115
        self.returncode: int | None = None

    def _become(self, command: list[str], to_it: int, from_it: int) -> None:
        try:
            os.setpgid(0, 0)
            os.dup2(to_it, 0)
            os.dup2(from_it, 1)
            os.closerange(3, 256)
            sys.stdin = open(0, closefd=False)  # noqa: SIM115
            exec(command[-1], {})
        finally:
            os._exit(97)

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout: float = 600.0) -> int:
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("mirror", timeout)
            time.sleep(0.005)
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def _bytes(home: Path) -> dict[str, str]:
    """Return the digest of every file's content."""
    files = (path for path in home.rglob("*") if path.is_file())
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _records(home: Path) -> list[tuple[str, Path]]:
    return [(str(path), path) for path in sorted(home.glob("runs/cells/*/*/record.json"))]


# --- what is compared --------------------------------------------------------------------------


def contents(home: Path) -> dict[str, str]:
    """Return name -> digest of all that is a result, and of MLflow's runs."""
    found: dict[str, str] = {}
    for path in sorted(home.rglob("*")):
        name = path.relative_to(home).as_posix()
        if path.is_file() and (name := _shown(name)):
            found[name] = hashlib.sha256(_result(path)).hexdigest()[:12]
    return found | _mlflow(home / "runs" / "mlflow.db")


def _shown(name: str) -> str:
    """Return what a file is called in comparisons; nothing where it holds no result."""
    name = re.sub(r"/features/(\w+)/shard-\w+-\w+-\d+", r"/features/\1/shard", name)
    other = ("runs/attempts/", "runs/mlflow.db", "runs/mlartifacts/", "runs/mlruns/")
    marks = name.startswith("runs/features/") and re.search(r"/\.|/about\.json$", name)
    return "" if name.startswith(other) or name == "disk.yaml" or marks else name


def _result(path: Path) -> bytes:
    if path.name.startswith(("fingerprints.sqlite", "shard-")) or path.name in (".lock", ".used"):
        return b""  # rows may be spread over shards in another way
    content = path.read_bytes()
    if path.name == "mlflow.json":  # times and digests of them
        return json.dumps(sorted(json.loads(content))).encode()
    if path.suffix == ".html":
        return MOMENTS.sub(b"", content)
    if path.suffix in (".json", ".jsonl"):
        lines = content.decode().splitlines() if path.suffix == ".jsonl" else [content.decode()]
        return json.dumps([_timeless(json.loads(line)) for line in lines]).encode()
    return content


def _timeless(value: object) -> object:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if not TIMES.search(k)}
    return [_timeless(v) for v in value] if isinstance(value, list) else value


def _mlflow(database: Path) -> dict[str, str]:
    """Return name -> digest of what MLflow says of each run."""
    if not database.exists():
        return {}
    found: dict[str, str] = {}
    with contextlib.closing(sqlite3.connect(database)) as connection:
        live = "SELECT run_uuid, name, status FROM runs WHERE lifecycle_stage = 'active'"
        for run, name, status in connection.execute(live).fetchall():
            said = [status]
            for table, columns in (("params", "key, value"), ("metrics", "key, step, value")):
                query = f"SELECT {columns} FROM {table} WHERE run_uuid = ? ORDER BY key, {columns}"
                rows = connection.execute(query, (run,)).fetchall()
                said += [str(row) for row in rows if not TIMES.search(str(row[0]))]
            key = f"mlflow/{name}"
            found[key if key not in found else f"{key} again"] = "\n".join(said)
    return {k: hashlib.sha256(v.encode()).hexdigest()[:12] for k, v in found.items()}


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """Return a line for everything that is not as it should be."""
    lines = [f"{name} is missing" for name in sorted(expected.keys() - found.keys())]
    lines += [f"{name} is left over" for name in sorted(found.keys() - expected.keys())]
    both = sorted(expected.keys() & found.keys())
    return lines + [f"{name} is another one" for name in both if expected[name] != found[name]]


# --- the run -----------------------------------------------------------------------------------


def _settings(decoder: Path) -> dict[str, object]:
    scenes = {"dataset": "scenes"}
    return {
        "sam": {"size": "tiny", "weights": "random"},
        "text_decoder": {"weights": str(decoder)},
        "mixer": {"num_layers": 1, "num_heads": 4, "mlp_dim": 16, "dropout": 0.1},
        "prefix": {"num_task_tokens": 2},
        "data": {
            "train": {**scenes, "num_images": 2, "first_seed": 0},
            "test": {**scenes, "num_images": 1, "first_seed": 100},
        },
        "train": {"steps": 2, "images_per_batch": 2, "warmup_steps": 1, "val_every": 2},
        "eval": {"max_new_tokens": 3},
        "runtime": {"device": "cpu", "checkpoint_every": 1, "log_every": 1, "threads": 1},
    }


def _decoder(folder: Path) -> Path:
    """Write a random GPT-2 of 16 channels, in a child: this process computes nothing itself."""
    child = os.fork()
    if child == 0:
        import torch
        import transformers
        from tokenizers import Tokenizer, models, pre_tokenizers
        from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

        from sca_bench import scene_grammar

        words = ["<eos>", "<unk>", *scene_grammar.VOCABULARY]
        core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "<unk>"))
        core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        named = {"eos_token": "<eos>", "pad_token": "<eos>", "unk_token": "<unk>"}
        PreTrainedTokenizerFast(tokenizer_object=core, **named).save_pretrained(folder)
        transformers.utils.logging.disable_progress_bar()
        torch.manual_seed(0)
        sizes = {"vocab_size": len(words), "n_positions": 64, "n_embd": 16, "n_layer": 1}
        ids = {"n_head": 2, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
        GPT2LMHeadModel(GPT2Config(**sizes, **ids)).save_pretrained(folder)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    return folder


def warm() -> None:
    """Import what the commands would."""
    import importlib

    from helpers import worker_imports  # noqa: F401

    for name in (
        *("sca_bench.cli", "sca_bench.engine.launch.launcher", "sca_bench.engine.score_runs"),
        *(
            "sca_bench.report.write",
            "sca_bench.engine.mlflow_mirror.child",
            "mlflow",
            "mmengine.runner",
        ),
        *("mlflow.store.tracking.sqlalchemy_store", "matplotlib.backends.backend_pdf"),
        *("matplotlib.backends.backend_svg", "sca_bench.engine.worker.mmengine_runner"),
    ):
        importlib.import_module(name)


def cases(rig: Rig, options: argparse.Namespace) -> list[Case]:
    """Return what is to be played."""
    every = [
        Case(phase, number, error)
        for phase in PHASES
        for number in range(1, len(rig.operations[phase]) + 1)
        for error in (*ERRORS, *LASTING)
    ]
    every += [Case(phase, size, LIMIT) for phase in PHASES for size in LIMITS_KIB]
    chosen = [
        case
        for case in every
        if (options.error or case.error in (*ERRORS, LIMIT))
        and (options.phase in (None, case.phase))
        and (options.error in (None, case.error))
        and (options.operation in (None, case.operation))
    ]
    if options.draw:
        drawn, of_phase = random.Random(options.seed), options.draw // len(PHASES)
        kinds = [[case for case in chosen if case.phase == phase] for phase in PHASES]
        chosen = [case for kind in kinds for case in drawn.sample(kind, min(of_phase, len(kind)))]
    return chosen[options.part :: options.parts]


def main() -> int:
    """Play the cases; return 1 where one went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draw", type=int, help="so many, drawn evenly; else all")
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("--phase", choices=PHASES)
    parser.add_argument("--error", choices=(*ERRORS, *LASTING, LIMIT))
    parser.add_argument("--operation", type=int)
    parser.add_argument("--part", type=int, default=0, help="which of --parts equal shares")
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--tell", action="store_true", help="name every case")
    parser.add_argument("--list", action="store_true", help="list the operations and stop")
    options = parser.parse_args()
    warm()
    gc.freeze()  # what is shared with the children is not written to by looking at it
    with tempfile.TemporaryDirectory(prefix="sca_bench_disk_") as folder:
        began = time.monotonic()
        rig = Rig(Path(folder))
        rig.prepare()
        numbers = {phase: len(found) for phase, found in rig.operations.items()}
        print(f"operations: {numbers}; prepared in {time.monotonic() - began:.1f} s", flush=True)
        if options.list:
            for phase, found in rig.operations.items():
                for number, (what, path) in enumerate(found, 1):
                    print(phase, number, what, path.replace(str(rig.home), ""))
            return 0
        chosen, failed = cases(rig, options), 0
        for case in chosen:
            faults = rig.case(case)
            failed += bool(faults)
            if options.tell:
                print(f"{case}: {len(faults)} faults", flush=True)
            for fault in faults:
                print(f"{case}: {fault}", flush=True)
        seconds = time.monotonic() - began
        print(f"{len(chosen)} operations failed, {failed} of them badly; {seconds:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
