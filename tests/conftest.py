"""Options of the whole test suite, what is slow in it, and how it is spread over two processes."""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import os
import signal
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
from helpers import command as commands
from helpers import given, worker_server

SLOW = {
    "run_group": "runs a group of cells, which most train",
    "killed_runs": "kills runs, repeats them and compares",
    "workers": "starts workers, as most whole commands do",
    "java": "starts a Java program",
    "servers_of_a_run": "starts workers",
    "process": "starts processes",
    "distributions": "builds a wheel",
    "mlflow": "opens MLflow",
    "lm_folder": "trains a text decoder",
    "training": "takes training steps",
    "shipped_weights": "measures the shipped weights",
    "counting": "counts the operations or bytes of whole steps",
    "simulation": "draws thousands of trials",
    "paper_scale": "has models of the paper's size or depth",
    "weights_dir": "reads weights of full size",
    "finished": "runs a suite on real photos",
    "figures": "has every figure of a report drawn",
    "site": "builds the pages of docs/",
    "rendering": "renders the thousand scenes of the profile tiny",
    "own_pytest": "runs pytest inside of pytest, which collects and reports by itself",
    "_threads": "asks for more threads than the one core of a test process",
    "sweep_of": "makes studies of Optuna in data bases",
    "corpora": "scores hundreds of corpora twice, once with the field's own code",
}
"""Fixture -> why a test that asks for it, itself or through another fixture, is slow."""

SLOW_CALLS = {
    "write_report": "draws every figure of a report",
    "write_reports": "draws every figure of several reports",
    "write_suite": "draws every figure of a report",
    "write_pictures": "draws every figure of a report",
    "subprocess": "starts processes",
}
"""Function or module -> why a test is slow that uses it, itself or through fixtures or helpers."""

SLOWEST = (
    "test_suites.py",
    "test_equal_keys.py",
    "test_run_command.py",
    "test_sweep.py",
    "test_lockstep_bars.py",
    "test_stages_run.py",
    "test_group.py",
    "test_cache.py",
    "test_paper_scale.py",
    "test_export_verify.py",
)
"""Files that are begun first, so that no process is left alone with one of them at the end."""


def pytest_addoption(parser):
    parser.addoption(
        "--parity-dir",
        default=os.environ.get("SCA_BENCH_PARITY_DIR"),
        help="folder of recorded outputs of the original, or one variant's folder in it"
        " (default: the copies in tests/parity/fixtures)",
    )


def pytest_configure(config):
    """Keep each of two processes to a core, and the order of files to that of `SLOWEST`."""
    given.look_beside()
    commands.hear_hang_ups()
    # On a new machine it writes a cache, which a second process can read half written: so it does
    # that here, before there is a second. Each imports it with mmengine.
    importlib.import_module("yapf")
    config.option.loadscopereorder = False  # xdist would begin with the file of most tests
    if "bench" not in config.getoption("-m"):
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # read where torch is imported, later
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `Pool` sets it, for two threads


def pytest_report_header(config):
    """Say which folders of real data the tests read, or what is skipped for lack of them."""
    return given.which_folders()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Two test processes; none beside the first for benchmarks, which print what they measured."""
    return 0 if "bench" in config.getoption("-m") else 2


def _place(item):
    return SLOWEST.index(item.path.name) if item.path.name in SLOWEST else len(SLOWEST)


def _names(code):
    """Return the names that code uses, its comprehensions and inner functions included."""
    inner = (_names(part) for part in code.co_consts if inspect.iscode(part))
    return set(code.co_names).union(*inner)


def _called(item):
    """Return the names that a test uses, and those that its fixtures and its file's helpers use."""
    fixtures = (found[-1].func for found in item._fixtureinfo.name2fixturedefs.values())
    names = set()
    for function in (item.function, *fixtures):
        own = _names(getattr(function, "__code__", item.function.__code__))
        helpers = (getattr(item.module, name, None) for name in own)
        inner = [_names(helper.__code__) for helper in helpers if inspect.isfunction(helper)]
        names |= own.union(*inner)
    return names


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(config, items):
    """Mark what is slow by what it uses; skip benchmarks unless asked for; slowest files first."""
    by_hand = pytest.mark.skip(reason="a benchmark, run by hand with -m bench")
    for item in items:
        if SLOW.keys() & set(item.fixturenames) or SLOW_CALLS.keys() & _called(item):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("bench") and "bench" not in config.getoption("-m"):
            item.add_marker(by_hand)
    items.sort(key=_place)


@pytest.fixture
def die_after():
    """Return a function for a forked child: it is killed right after so many file operations."""

    from sca_bench import files

    def arm(last):
        if last == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        count = itertools.count(1)

        def deadly(module, name, counts=lambda *_, **__: True):
            real = getattr(module, name)

            def call(*arguments, **more):
                result = real(*arguments, **more)
                if counts(*arguments, **more) and next(count) >= last:
                    os.kill(os.getpid(), signal.SIGKILL)
                return result

            setattr(module, name, call)

        for name in ("replace", "fsync", "unlink", "mkdir"):
            deadly(os, name)
        deadly(files, "open_to_write")

    return arm


@pytest.fixture
def run_group():
    """Prepare and run a job in this process; return the outcome."""

    def run(job):
        import torch

        from sca_bench.engine.job import Outcome
        from sca_bench.engine.worker.group_run import GroupRun
        from sca_bench.engine.worker.prepare import prepare

        torch.set_num_threads(1)
        outcome = Outcome()
        prepare(job, outcome, Path(job.runs_dir) / "prepare.progress")
        GroupRun(job, outcome).run()
        return outcome

    return run


@pytest.fixture
def ghost():
    """A make-believe CUDA device, by the journal of what passes between it and the host."""
    from device.ghost import ghost_cuda

    with ghost_cuda() as journal:
        yield journal


@pytest.fixture(scope="session")
def java():
    """The Java of the field's scorers: a second of CPU to start, ten for METEOR's tables."""
    from sca_bench.metrics.coco_caption.java import find_java

    return find_java()


@pytest.fixture
def mlflow():
    """MLflow is imported and opens data bases: seconds each."""


@pytest.fixture
def simulation():
    """Thousands of trials are drawn and decided: a second each."""


@pytest.fixture(scope="session")
def training():
    """Steps are taken outside of a group, by a recipe or by hand: seconds each."""


@pytest.fixture
def shipped_weights():
    """Shipped weights are measured on scenes that are rendered for it: seconds each."""


@pytest.fixture
def counting():
    """Every operation of a step passes Python, to be counted: seconds each."""


@pytest.fixture
def figures():
    """A command draws every figure of a report: seconds each."""


@pytest.fixture
def own_pytest():
    """A command runs pytest: it collects and reports by itself, a second each."""


@pytest.fixture
def rendering():
    """The data of the profile `tiny` are read, a thousand rendered scenes: seconds each."""


@pytest.fixture(scope="session")
def corpora():
    """Hundreds of corpora are scored, here and by the field's own slow code: seconds each."""


@pytest.fixture
def paper_scale():
    """Models of the paper's size are built, or of its depth take a step: seconds each."""


@pytest.fixture
def workers():
    """Let workers be forked from one server for all tests, which has imported what they need."""
    worker_server.start()


@pytest.fixture
def servers_of_a_run():
    """Let processes be forked from the servers that a run starts, for tests of these."""
    worker_server.stop()
    yield
    worker_server.stop()


@pytest.fixture
def command(tmp_path, workers):
    """Run a whole command in this process, in a folder of its own; return what it printed."""
    return functools.partial(commands.run_here, cwd=tmp_path)


@pytest.fixture
def process(tmp_path):
    """Return a function that starts the command as a process, which ends with the test."""
    started = []

    def start(*words, **more):
        started.append(commands.start(*words, cwd=tmp_path, **more))
        return started[-1]

    yield start
    for one in started:
        if one.poll() is None:
            one.kill()
            one.wait()
        one.stdout.close()
