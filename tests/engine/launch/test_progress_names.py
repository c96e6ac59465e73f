"""Long names of groups leave room for what changes: they are said once, and then by a number."""

import io

from rich.console import Console

from sca_bench.engine.launch.progress import RunProgress

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


def test_on_a_terminal_bar_and_step_are_seen_beside_it():
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True)
    with RunProgress(console) as progress:
        progress.update(LONG, 120, 250, "step 120 of 250, loss 1.610")
        progress._live.refresh()
    assert "group 1 " in out.getvalue()
    assert "step 120 of 250, loss 1.610" in out.getvalue()
