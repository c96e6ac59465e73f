"""Tables, plots and the page of a suite, made of the run records alone; no torch in this room.

What is exported here is imported when it is asked for: how a score is written (`names`), and which
plots there are (`figures.registry`), commands ask that neither draw nor count anything.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sca_bench.report.read.score_frame import ScoreRow, ScoreTable
    from sca_bench.report.write import write_report, write_reports

_IN = {
    "ScoreRow": "read.score_frame",
    "ScoreTable": "read.score_frame",
    "write_report": "write",
    "write_reports": "write",
}

__all__ = ["ScoreRow", "ScoreTable", "write_report", "write_reports"]


def __getattr__(name: str) -> Any:
    if name not in _IN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_IN[name]}"), name)
