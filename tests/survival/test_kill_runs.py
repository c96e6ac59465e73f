"""Four of the kills of `kill_runs.py`, at chosen moments; the script does as many as one likes."""

from pathlib import Path

import pytest
from survival.kill_runs import Chain, Work

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="finds processes in /proc")

KILLS = (
    ("INT of the group", "start", 0.2),
    ("KILL of the group", "training", 0.0),
    ("INT of the group, twice", "start", 2.0),
    ("HUP of the group", "captions", 0.0),
)


@pytest.fixture
def killed_runs(tmp_path):
    """A run of two cells, undisturbed, and a chain of kills of the same command."""
    work = Work("run", tmp_path / "run", is_quick=True)
    work.begin()
    return Chain(work, tmp_path / "chain")


def test_a_run_that_was_killed_comes_out_as_if_it_had_not_been(killed_runs):
    phases = [killed_runs.kill(kind, after_s, since) for kind, since, after_s in KILLS]
    assert phases[0] == "start"
    assert phases[1] == "training"
    assert "too late" not in phases
    killed_runs.finish()
    killed_runs.check()
