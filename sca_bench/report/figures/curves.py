"""Learning curves from the training logs: loss and validation metrics over optimiser steps."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field

from sca_bench.metrics.registry import spec_of_value
from sca_bench.report.figures.plotted import PlottedSuite
from sca_bench.report.figures.registry import PlotSpec, Shown
from sca_bench.report.names import metric_scale
from sca_bench.report.read.suite_data import SuiteData

SPEC = PlotSpec(
    "learning_curves",
    "Learning curves",
    "Thin lines: seeds; thick lines: their mean.",
    facts=f"{__name__}:facts",
    draw="sca_bench.report.figures.curves_draw:draw_learning_curves",
    alt="Training loss and validation metrics over training steps",
    order=50,
)
VAL = "val/"
MAX_PANELS = 6
LEAST_POINTS = 3
"""Steps that a curve has at least; of fewer the tables say all there is."""

Curve = list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Curves:
    """What the plot shows.

    Attributes:
        panels: Quantity -> cell name -> one curve of (step, value) per seed.
        left_out: Quantities for which there was no panel left.
        dropped: Number of logged values that are not finite.
        without_log: Cells none of whose runs wrote a log.
        short: Quantities that no run logged at `LEAST_POINTS` steps.
        zero: Quantities that are zero all the time.
    """

    panels: dict[str, dict[str, list[Curve]]]
    left_out: list[str]
    dropped: int
    without_log: list[str]
    short: list[str] = field(default_factory=list)
    zero: list[str] = field(default_factory=list)


def facts(suite: PlottedSuite) -> Shown:
    """Return the plot of a suite with its texts."""
    curves = learning_curves(suite.data)
    if not curves.panels:
        return Shown(None, caption=_caption(curves))
    return Shown(curves, caption=_caption(curves), alt=_alt(curves))


def learning_curves(data: SuiteData) -> Curves:
    """Collect the curves of every run that wrote a log, finished or not."""
    curves_of: dict[str, dict[str, list[Curve]]] = {}
    dropped = 0
    for cell in data.cells:
        for run in cell.runs:
            steps: dict[str, dict[int, float]] = {}
            for row in data.store.log(cell.entry.cell_id, run.seed):
                step = row.get("step")
                for key, value in row.items():
                    if not isinstance(step, int) or not (key == "loss" or key.startswith(VAL)):
                        continue
                    if not isinstance(value, int | float) or not math.isfinite(value):
                        dropped += 1
                        continue
                    # A resumed run logs some steps again; what it went on from counts.
                    steps.setdefault(key, {})[step] = float(value) * _factor(key)
            for key, values in steps.items():
                curves = curves_of.setdefault(key, {}).setdefault(cell.entry.name, [])
                curves.append(sorted(values.items()))
    order = ["loss", *(VAL + name for name in ("loss", *data.metrics))]
    keys = sorted(
        curves_of, key=lambda key: (order.index(key) if key in order else len(order), key)
    )
    drawn = {name for panel in curves_of.values() for name in panel}
    silent = [cell.entry.name for cell in data.cells if cell.entry.name not in drawn]
    every = {k: [curve for own in curves_of[k].values() for curve in own] for k in keys}
    short = [k for k in keys if max(map(len, every[k])) < LEAST_POINTS]
    zero = [
        key
        for key in keys
        if key not in short and not any(value for curve in every[key] for _, value in curve)
    ]
    keys = [key for key in keys if key not in (*short, *zero)]
    panels = {key: curves_of[key] for key in keys[:MAX_PANELS]}
    return Curves(panels, keys[MAX_PANELS:], dropped, silent, short, zero)


def _factor(key: str) -> float:
    return metric_scale(key.removeprefix(VAL)) if is_score(key) else 1.0


def is_score(key: str) -> bool:
    """Say whether a logged quantity is the score of a metric, on the validation split."""
    name = key.removeprefix(VAL)
    return key != name and spec_of_value(name) is not None


def _caption(curves: Curves) -> str:
    if not (curves.panels or curves.short or curves.zero):
        return "No run wrote a training log."
    parts = []
    if curves.panels:
        parts = ["Thin lines: seeds; thick lines: their mean at the steps that all of them logged."]
    if curves.short:
        names = ", ".join(curves.short)
        parts.append(f"Logged at fewer than {LEAST_POINTS} steps, not drawn: {names}.")
    if curves.zero:
        parts.append(f"Zero all the time, not drawn: {', '.join(curves.zero)}.")
    if curves.without_log:
        parts.append(f"Without a training log: {', '.join(curves.without_log)}.")
    if curves.left_out:
        parts.append(f"Also logged, not drawn: {', '.join(curves.left_out)}.")
    if curves.dropped:
        parts.append(f"{curves.dropped} logged values are not finite and are left out.")
    return " ".join(parts)


def _alt(curves: Curves) -> str:
    """Return from where to where each quantity goes, on average over all runs."""
    parts = []
    for key, panel in curves.panels.items():
        each = [curve for own in panel.values() for curve in own]
        first, last = (statistics.fmean(curve[at][1] for curve in each) for at in (0, -1))
        parts.append(f"{key} from {first:.3g} to {last:.3g}")
    return f"Over the steps of training, on average over runs: {'; '.join(parts)}"
