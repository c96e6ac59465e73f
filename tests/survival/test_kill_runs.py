"""A few of the kills of `kill_runs.py`; the script does as many as one likes."""

import random
from pathlib import Path

import pytest
from survival.kill_runs import Work, run_chain

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes in /proc"),
]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A run of two cells, undisturbed."""
    made = Work("run", tmp_path_factory.mktemp("kills") / "run")
    made.begin()
    return made


@pytest.mark.parametrize(
    "kinds",
    [
        ("KILL of the group", "INT of the group, twice"),
        ("HUP of the group", "KILL of a worker"),
    ],
)
def test_a_run_that_was_killed_comes_out_as_if_it_had_not_been(work, tmp_path, kinds):
    draw = random.Random(16)
    assert run_chain(work, tmp_path / "chain", list(kinds), draw)
