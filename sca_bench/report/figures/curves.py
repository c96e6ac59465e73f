"""Learning curves from the training logs: loss and validation metrics over optimiser steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

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

Curve = list[tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Curves:
    """What the plot shows.

    Attributes:
        panels: Quantity -> cell name -> one curve of (step, value) per seed.
        left_out: Quantities for which there was no panel left.
        dropped: Number of logged values that are not finite.
        without_log: Cells none of whose runs wrote a log.
    """

    panels: dict[str, dict[str, list[Curve]]]
    left_out: list[str]
    dropped: int
    without_log: list[str]


def facts(suite: PlottedSuite) -> Shown:
    """Return the plot of a suite with its texts."""
    curves = learning_curves(suite.data)
    return Shown(curves, caption=_caption(curves))


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
    panels = {key: curves_of[key] for key in keys[:MAX_PANELS]}
    drawn = {name for panel in curves_of.values() for name in panel}
    silent = [cell.entry.name for cell in data.cells if cell.entry.name not in drawn]
    return Curves(panels, keys[MAX_PANELS:], dropped, silent)


def _factor(key: str) -> float:
    return metric_scale(key.removeprefix(VAL)) if is_score(key) else 1.0


def is_score(key: str) -> bool:
    """Say whether a logged quantity is the score of a metric, on the validation split."""
    name = key.removeprefix(VAL)
    return key != name and spec_of_value(name) is not None


def _caption(curves: Curves) -> str:
    if not curves.panels:
        return "No run wrote a training log."
    parts = ["Thin lines: seeds; thick lines: their mean at the steps that all of them logged."]
    if curves.without_log:
        parts.append(f"Without a training log: {', '.join(curves.without_log)}.")
    if curves.left_out:
        parts.append(f"Also logged, not drawn: {', '.join(curves.left_out)}.")
    if curves.dropped:
        parts.append(f"{curves.dropped} logged values are not finite and are left out.")
    return " ".join(parts)
