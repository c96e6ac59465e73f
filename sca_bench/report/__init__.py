"""Tables, plots and the page of a suite, made of the run records alone; no torch in this room."""

from sca_bench.report.read.score_frame import ScoreRow, ScoreTable
from sca_bench.report.write import write_report, write_reports

__all__ = ["ScoreRow", "ScoreTable", "write_report", "write_reports"]
