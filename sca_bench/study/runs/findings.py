"""What a suite's runs say, in few numbers: `report` finds them out, MLflow's mirror shows them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

_Finite = Annotated[float, Field(allow_inf_nan=False)]


class CellFinding(BaseModel):
    """One cell over its seeds; scores in natural units.

    Attributes:
        cell_id: The cell.
        num_seeds: How many of its runs are finished.
        means: Value -> mean over the seeds that have it.
        low: Lower end of the 95 % interval of the main metric; None where there is none.
        high: Its upper end.
        difference: Main metric, less that of the reference cell; None where there is none.
        difference_low: Lower end of the 95 % interval of that.
        difference_high: Its upper end.
        standing: How the cell stands to the reference, in words.
        verdicts: Claim that the cell is a side of -> verdict.
    """

    cell_id: str
    num_seeds: int = 0
    means: dict[str, _Finite] = {}
    low: _Finite | None = None
    high: _Finite | None = None
    difference: _Finite | None = None
    difference_low: _Finite | None = None
    difference_high: _Finite | None = None
    standing: str = ""
    verdicts: dict[str, str] = {}


class ClaimFinding(BaseModel):
    """What was found of one claim; differences in natural units.

    Attributes:
        id: The claim.
        verdict: What the numbers say about it; empty where nothing was claimed.
        answer: What was found, in words.
        difference: Left minus right; None where there is none.
        low: Lower end of its 95 % interval.
        high: Its upper end.
    """

    id: str
    verdict: str
    answer: str = ""
    difference: _Finite | None = None
    low: _Finite | None = None
    high: _Finite | None = None


class SuiteFindings(BaseModel):
    """What was found of a suite.

    Attributes:
        metric: The main metric.
        cells: Its cells.
        claims: Its claims, or what else its answer is about.
        sure: How sure that is, and what it cost.
    """

    metric: str
    cells: list[CellFinding] = []
    claims: list[ClaimFinding] = []
    sure: str = ""
