"""Lines of progress: long names leave room for what changes, on narrow terminals and in pipes."""

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from sca_bench.engine.launch import progress as module
from sca_bench.engine.launch.progress import (
    RunProgress,
    clock_text,
    counted_text,
    cut_names,
    plain_line,
)

LONG = "num_layers=1,num_query_tokens=8, num_layers=2,num_query_tokens=8; seed 0"


def test_a_long_name_is_said_once_and_has_a_number_then():
    out = io.StringIO()
    progress = RunProgress(Console(file=out, width=80))
    assert progress.label("num_layers=1; seed 0") == "num_layers=1; seed 0"
    assert [progress.label(name) for name in (LONG, LONG, LONG + ", 1")] == [
        "group 1",
        "group 1",
        "group 2",
    ]
    assert out.getvalue() == f"  group 1: {LONG}\n  group 2: {LONG}, 1\n"


def test_a_legend_of_very_many_names_counts_the_last_ones():
    names = ", ".join(f"num_layers={n},num_query_tokens=8" for n in range(30))
    said = cut_names(f"{names}; seeds 0, 1, 2")
    assert len(said) <= 200
    assert re.fullmatch(r"num_layers=0,num_.*=8 and \d+ more; seeds 0, 1, 2", said)
    assert said.count("tokens=8") + int(re.search(r"and (\d+)", said)[1]) == 30
    assert cut_names("x" * 300) == "x" * 300, "one name is never cut"
    assert cut_names("a, b; seed 0") == "a, b; seed 0"


@pytest.mark.parametrize("width", [80, 110])
@pytest.mark.parametrize("name", [LONG, "x" * 24])
def test_bar_step_loss_and_both_times_are_seen_on_a_terminal(width, name):
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    with RunProgress(console) as progress:
        progress.update(name, 99_000, 100_000, "99000/100000, loss 12.61", 3723.0)
        progress.update("suite", 3.4, 9, "3/9 runs, 38 %", 130.0)
        progress._live.refresh()
    said = re.sub(r"\x1b\[[0-9?;]*[A-Za-z]|\r", "\n", out.getvalue()).split("\n")
    for text, left in (
        ("99000/100000, loss 12.61", "1:02:03 left"),
        ("3/9 runs, 38 %", "2:10 left"),
    ):
        shown = [line for line in said if text in line][-1]
        assert left in shown
        assert re.search(r"0:00:0\d", shown)
        assert re.search(r"[━╸]{3}", shown)
        assert "…" not in shown
        assert len(shown.rstrip()) <= width


def test_a_pipe_gets_no_line_twice_and_none_that_is_long(monkeypatch):
    now = SimpleNamespace(s=100.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now.s))
    out = io.StringIO()
    progress = RunProgress(Console(file=out, width=80))
    for text, after_s in (("a", 0), ("a", 20), ("b", 20), ("c", 1), ("a", 20)):
        now.s += after_s
        progress.heartbeat(text)
    assert out.getvalue() == "a\nb\na\n"
    groups = [f"group {n}: step 120/250, loss 1.61" for n in range(1, 9)]
    line = plain_line("  3 of 24 runs done, 12 %, about 3 min left", groups)
    assert len(line) < 140
    assert line.startswith("  3 of 24 runs done, 12 %, about 3 min left; group 1: step 120/250")
    assert line.endswith("; 6 more groups at work")
    assert plain_line("x", ["y"]) == "x; y"
    assert plain_line("x", ["y" * 200]) == "x; 1 group at work"


def test_images_of_all_processes_are_counted_together():
    assert counted_text([]) == "data and weights are read"
    parts = [("features of train", 400, 1000), ("features of train", 20, 500)]
    assert counted_text(parts) == "features of train: 420 of 1,500 images"


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.2, "0:00"), (40, "0:40"), (130, "2:10"), (3753, "1:02:33")]
)
def test_a_time_is_shown_as_a_clock_shows_it(seconds, shown):
    assert clock_text(seconds) == shown
