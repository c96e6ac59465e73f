"""Tables, plots and the page of a suite, made of the run records alone; no torch in this room."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sca_bench.plugins import attribute

if TYPE_CHECKING:
    from sca_bench.report.read.score_frame import ScoreRow, ScoreTable
    from sca_bench.report.write import write_report, write_reports

__all__ = ["ScoreRow", "ScoreTable", "write_report", "write_reports"]

_PLACES = {
    **dict.fromkeys(("ScoreRow", "ScoreTable"), "sca_bench.report.read.score_frame"),
    **dict.fromkeys(("write_report", "write_reports"), "sca_bench.report.write"),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: a package that registers a plot needs no tables and no pandas."""
    if name in _PLACES:
        return attribute(f"{_PLACES[name]}:{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
