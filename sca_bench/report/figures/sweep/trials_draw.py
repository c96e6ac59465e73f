"""Drawing the trials of a sweep: by setting, in their order, by importance, and their front."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from sca_bench.report.figures.style import (
    COLOURS,
    CONTROL_COLOUR,
    honest_limits,
    legend_sign,
    log_ticks,
    new_figure,
    tick_text,
    tidy,
)
from sca_bench.report.figures.sweep.trials import Importance, Slice, Slices, Trials, Tried
from sca_bench.report.names import shown_number, wrapped

_BEST = COLOURS[1]
_FAILED = {"pruned": ("x", "pruned"), "fail": ("D", "failed")}
_PANEL_SIGNS = 34
"""Characters of tick labels that a panel's width holds."""
_FAINTEST = 0.35
"""How much of its colour the first trial has; the last one has all of it."""


def draw_slices(shown: Slices) -> Figure | None:
    """Draw every complete trial by each setting, a row for each objective.

    Returns:
        The figure, or None where there is nothing to draw.
    """
    if not shown.settings or not shown.trials.complete:
        return None
    goals, settings = shown.trials.goals, shown.settings
    columns = 2 if len(settings) in (2, 4) else min(3, len(settings))
    rows = math.ceil(len(settings) / columns) * len(goals)
    figure = new_figure(5.2 if columns < 3 else 7.2, 2.7 * rows + 0.3)
    panels = figure.subplots(rows, columns, squeeze=False)
    per_goal = rows // len(goals)
    for number, goal in enumerate(goals):
        limits = _limits([one.values[number] for one in shown.trials.complete])
        flat = list(panels[number * per_goal : (number + 1) * per_goal].flat)
        for place, axes in enumerate(flat):
            if place >= len(settings):
                axes.set_visible(False)
                continue
            _draw_slice(axes, settings[place], shown.trials, number)
            axes.set_ylim(*limits)
            axes.yaxis.set_major_formatter(FuncFormatter(_tick))
            axes.set_ylabel(goal.label if place % columns == 0 else "", fontsize=9)
    _name_signs(figure, shown.trials, gone=False)
    return figure


def _draw_slice(axes: Axes, setting: Slice, trials: Trials, goal: int) -> None:
    tidy(axes, "y")
    if setting.choices:
        count = len(setting.choices)
        texts = [wrapped(choice, max(6, _PANEL_SIGNS // count)) for choice in setting.choices]
        axes.set_xticks(range(count), texts)
        axes.set_xlim(-0.5, count - 0.5)
    else:
        at = [x for x in setting.at.values() if x > 0]
        if setting.is_log and at:
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(log_ticks(min(at), max(at)))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            whole = all(float(x).is_integer() for x in setting.at.values())
            axes.xaxis.set_major_locator(MaxNLocator(4, integer=whole))
        axes.xaxis.set_major_formatter(FuncFormatter(_tick))
        axes.margins(x=0.12)
    shown = [one for one in trials.complete if one.number in setting.at]
    at = [setting.at[one.number] for one in shown]
    _draw_dots(axes, at, [one.values[goal] for one in shown], shown, fade=True)
    scale = ", log scale" if setting.is_log else ""
    axes.set_xlabel(f"{setting.label[:1].upper()}{setting.label[1:]}{scale}", fontsize=9)
    axes.tick_params(labelsize=8.5)


def draw_history(trials: Trials) -> Figure | None:
    """Draw every trial in its order, a panel for each objective; pruned and failed ones below.

    Returns:
        The figure, or None where no trial ended.
    """
    if not trials.tried:
        return None
    figure = new_figure(5.2, 2.6 * len(trials.goals) + 0.5)
    panels = figure.subplots(len(trials.goals), 1, squeeze=False, sharex=True)
    for number, (axes, goal) in enumerate(zip(panels.flat, trials.goals, strict=True)):
        tidy(axes)
        values = [one.values[number] for one in trials.complete]
        low, high = _limits(values)
        axes.set_ylim(low, high)
        if len(trials.goals) == 1 and values:
            at = [one.number for one in trials.complete]
            best = trials.best_so_far(number)
            axes.step(at, best, where="post", color=_BEST, linewidth=1.4, zorder=2)
        numbers = [float(one.number) for one in trials.complete]
        _draw_dots(axes, numbers, values, trials.complete)
        for state, (sign, _) in _FAILED.items():
            gone = [one.number for one in trials.tried if one.state == state]
            if not gone:
                continue
            axes.plot(
                gone,
                [0.03] * len(gone),
                transform=axes.get_xaxis_transform(),
                linestyle="none",
                marker=sign,
                markersize=6,
                color=CONTROL_COLOUR,
                markerfacecolor="none",
                clip_on=False,
            )
        axes.set_ylabel(goal.label, fontsize=9)
        axes.yaxis.set_major_formatter(FuncFormatter(_tick))
        axes.tick_params(labelsize=8.5)
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        if not values:
            axes.set_yticks([])
    panels.flat[-1].set_xlabel("Trial", fontsize=9)
    _name_signs(figure, trials, gone=True)
    return figure


def draw_importance(shown: Importance) -> Figure | None:
    """Draw a bar for each setting, a panel for each objective.

    Returns:
        The figure, or None where there is none.
    """
    if not shown.shares:
        return None
    heights = [0.34 * len(shares) for shares in shown.shares]
    figure = new_figure(5.2, sum(heights) + 0.75 * len(heights) + 0.1)
    ratios = {"height_ratios": heights}
    panels = figure.subplots(len(heights), 1, squeeze=False, gridspec_kw=ratios)
    for axes, goal, shares in zip(panels.flat, shown.goals, shown.shares, strict=True):
        tidy(axes, "x")
        for row, (_, share) in enumerate(shares):
            axes.barh(row, share, height=0.62, color=COLOURS[0], alpha=0.6)
            axes.annotate(
                f"{share:.2f}" if share >= 0.01 else "< 0.01",
                (share, row),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
        axes.set_yticks(range(len(shares)), [wrapped(name, 26) for name, _ in shares], fontsize=9)
        axes.tick_params(axis="y", length=0)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.08)
        axes.set_xlabel(f"Importance for {goal}", fontsize=9)
    return figure


def draw_front(trials: Trials) -> Figure | None:
    """Draw the first objective against every other one, with the front as a line.

    Returns:
        The figure, or None with fewer than two objectives or no complete trial.
    """
    others = range(1, len(trials.goals))
    if not others or not trials.complete:
        return None
    figure = new_figure(5.2, 3.1 * len(others) + 0.4)
    panels = figure.subplots(len(others), 1, squeeze=False)
    for axes, other in zip(panels.flat, others, strict=True):
        _draw_pair(axes, trials, other)
    _name_signs(figure, trials, gone=False)
    return figure


def _draw_pair(axes: Axes, trials: Trials, other: int) -> None:
    tidy(axes, "both")
    main, cost = trials.goals[0], trials.goals[other]
    on_front = sorted((one.values[other], one.values[0]) for one in trials.complete if one.is_best)
    if len(trials.goals) == 2 and len(on_front) > 1:  # of more it is no line
        # What is reached between two trials is what the one with the worse cost does not forbid.
        where = "steps-pre" if cost.maximize else "steps-post"
        xs, ys = zip(*on_front, strict=True)
        axes.plot(xs, ys, color=_BEST, linewidth=1.1, linestyle="--", drawstyle=where, zorder=1)
    across, up = ([one.values[goal] for one in trials.complete] for goal in (other, 0))
    _draw_dots(axes, across, up, trials.complete)
    axes.set_ylim(*_limits([one.values[0] for one in trials.complete]))
    axes.margins(x=0.12)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: shown_number(value)))
    axes.set_ylabel(f"{main.label}, {_better(main.maximize)}", fontsize=9)
    axes.set_xlabel(f"{cost.label}, {_better(cost.maximize)}", fontsize=9)
    axes.tick_params(labelsize=8.5)


def _tick(value: float, _: int) -> str:
    return tick_text(int(value) if float(value).is_integer() else value)


def _better(maximize: bool) -> str:
    return "more is better" if maximize else "less is better"


def _limits(values: Sequence[float]) -> tuple[float, float]:
    return honest_limits(min(values), max(values)) if values else (0.0, 1.0)


def _draw_dots(
    axes: Axes,
    xs: Sequence[float],
    ys: Sequence[float],
    tried: Sequence[Tried],
    *,
    fade: bool = False,
) -> None:
    """Draw trials, the best ones on top with their numbers; earlier ones fainter, if wanted."""
    last = max([1, *(one.number for one in tried)])
    shade = [_FAINTEST + (1 - _FAINTEST) * one.number / last if fade else 1.0 for one in tried]
    places = list(zip(xs, ys, shade, tried, strict=True))
    plain = [(x, y, alpha) for x, y, alpha, one in places if not one.is_best]
    if plain:
        at, height, alphas = (list(part) for part in zip(*plain, strict=True))
        look: dict[str, Any] = {"color": COLOURS[0], "alpha": alphas, "linewidth": 0}
        axes.scatter(at, height, s=30, zorder=3, **look)
    for x, y, _, one in places:
        if one.is_best:
            axes.scatter(x, y, s=48, marker="s", color=_BEST, linewidth=0, zorder=4)
            axes.annotate(
                f"#{one.number}",
                (x, y),
                xytext=(6, 5),
                textcoords="offset points",
                fontsize=9,
                color=_BEST,
                annotation_clip=False,
            )


def _name_signs(figure: Figure, trials: Trials, *, gone: bool) -> None:
    """Say in a legend what the signs mean, of those that are drawn."""
    best = "best" if len(trials.goals) == 1 else "on the front"
    handles = []
    if any(not one.is_best for one in trials.complete):
        handles.append(legend_sign("trial", COLOURS[0], "o"))
    if any(one.is_best for one in trials.complete):
        handles.append(legend_sign(best, _BEST, "s"))
    if gone:
        for state, (sign, word) in _FAILED.items():
            if any(one.state == state for one in trials.tried):
                handles.append(legend_sign(word, CONTROL_COLOUR, sign, "none"))
    if handles:
        figure.legend(handles=handles, loc="outside upper left", ncols=4, frameon=False, fontsize=9)
