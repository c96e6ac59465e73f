"""Drawing the figure that answers a suite's question, for half a page and for a phone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Transform, offset_copy

from sca_bench.report.figures.axis_draw import spread_labels
from sca_bench.report.figures.headline.headline import HeadlineFigure, Mark
from sca_bench.report.figures.style import (
    BAND,
    COLOURS,
    CONTROL_COLOUR,
    honest_limits,
    line_style,
    new_figure,
    tick_text,
    tidy,
)
from sca_bench.report.names import metric_label, metric_unit, wrapped

_WIDTH_IN = 5.2
"""At 400 px a page shows it in its own size, at half of 1280 px one and a half times as large."""
_TYPE, _SMALL = 10.0, 9.0
_ROW_IN, _LINE_IN = 0.30, 0.15
_APART_PT = 7.0
_LABEL_SIGNS = 24
_FAR = 1.0
"""A control that lies further below than the cells reach, times this, is named at the edge."""


def draw_headline(shown: HeadlineFigure) -> Figure | None:
    """Draw the curve, or the list, with intervals and the noise floor as a band.

    Returns:
        The figure; None where there is no cell.
    """
    if not shown.own:
        return None
    return _draw_curve(shown) if shown.kind == "curve" else _draw_cells(shown)


def limits(shown: HeadlineFigure) -> tuple[float, float]:
    """Return both ends of the axis of scores, displayed units.

    It holds every cell with its interval, the band, and the controls that are near.
    """
    ends = [end for mark in shown.own for end in mark.reach] + list(shown.band or ())
    low, high = min(ends), max(ends)
    near = [mark for mark in shown.controls if mark.mean >= low - _FAR * (high - low)]
    ends += [end for mark in near for end in mark.reach]
    return honest_limits(min(ends), max(ends))


def _draw_curve(shown: HeadlineFigure) -> Figure:
    figure = new_figure(_WIDTH_IN, 3.5)
    axes = figure.add_subplot()
    low, high = limits(shown)
    axes.set_ylim(low, high)
    values = sorted({mark.x for mark in shown.own if mark.x is not None})
    _place_values(axes, values, shown.is_log)
    if shown.band is not None:
        axes.axhspan(*shown.band, zorder=0, **BAND)
    beside: list[tuple[float, str, str]] = []
    lines = shown.lines
    for index, (name, marks) in enumerate(lines.items()):
        colour, dashes, sign = line_style(index)
        at, means = [mark.x or 0.0 for mark in marks], [mark.mean for mark in marks]
        beside_pt = _APART_PT * (index - (len(lines) - 1) / 2)  # intervals cover no other's
        where = offset_copy(axes.transData, figure, x=beside_pt, units="points")
        axes.plot(
            *(at, means), color=colour, linestyle=dashes, linewidth=1.0, alpha=0.6, transform=where
        )
        for mark, after in zip(marks, [*means[1:], means[-1]], strict=True):
            _draw_mark(axes, mark, (colour, sign), along="y", where=where)
            if len(lines) == 1:
                _say_value(axes, mark, above=after <= mark.mean)
        if name:
            beside.append((marks[-1].mean, name, colour))
    far = []
    for mark in shown.controls:
        if mark.mean < low:
            far.append(mark)
            continue
        axes.axhline(mark.mean, color=CONTROL_COLOUR, linewidth=1.1, linestyle="--", zorder=1)
        beside.append((mark.mean, f"{mark.name} {mark.shown}", CONTROL_COLOUR))
    _name_beside(axes, beside)
    if far:
        names = ", ".join(f"{mark.name} {mark.mean:.0f}" for mark in far)
        axes.annotate(
            wrapped(f"Far below: {names}", 62),
            (0.0, 0.0),
            xycoords="axes fraction",
            xytext=(0, -40),
            textcoords="offset points",
            fontsize=_SMALL,
            color=CONTROL_COLOUR,
            va="top",
        )
    axes.set_xlabel(shown.axis[:1].upper() + shown.axis[1:], fontsize=_TYPE)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    _finish(figure, axes, shown)
    axes.set_ylabel(_unit(shown), fontsize=_TYPE)
    return figure


def _place_values(axes: Axes, values: Sequence[float], is_log: bool) -> None:
    if is_log:
        axes.set_xscale("log", base=2)
        axes.set_xlim(values[0] / 1.25, values[-1] * 1.4)
    else:
        room = 0.1 * (values[-1] - values[0])
        axes.set_xlim(values[0] - room, values[-1] + 1.4 * room)
    texts = [tick_text(int(v) if v.is_integer() else v) for v in values]
    axes.xaxis.set_major_locator(FixedLocator(list(values)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(list(values), texts)
    if sum(len(text) + 2 for text in texts) > 44:
        axes.tick_params(axis="x", labelrotation=25)


def _draw_cells(shown: HeadlineFigure) -> Figure:
    labels = [_label(mark) for mark in shown.marks]
    heights = [_ROW_IN + _LINE_IN * label.count("\n") for label in labels]
    figure = new_figure(_WIDTH_IN, sum(heights) + 1.15)
    axes = figure.add_subplot()
    low, high = limits(shown)
    axes.set_xlim(low, high)
    places, top = [], 0.0
    for height in heights:
        places.append(top + height / 2)
        top += height
    axes.set_ylim(top, 0.0)
    if shown.band is not None:
        axes.axvspan(*shown.band, zorder=0, **BAND)
    for mark, y in zip(shown.marks, places, strict=True):
        colour = CONTROL_COLOUR if mark.is_control else COLOURS[0]
        if mark.mean >= low:
            _draw_mark(axes, mark, (colour, "o"), along="x", at=y)
            text, where, side, shift = mark.shown, mark.reach[1], "left", 5
        else:
            text, where, side, shift = f"← {mark.mean:.0f}", low, "left", 4
        axes.annotate(
            text,
            (min(where, high), y),
            xytext=(shift, 0),
            textcoords="offset points",
            fontsize=_SMALL,
            color=CONTROL_COLOUR if mark.is_control else "black",
            va="center",
            ha=side,
            annotation_clip=False,
        )
    axes.set_yticks(places, labels, fontsize=_TYPE)
    for text_of, mark in zip(axes.get_yticklabels(), shown.marks, strict=True):
        text_of.set_color(CONTROL_COLOUR if mark.is_control else "black")
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    _finish(figure, axes, shown)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(_unit(shown), fontsize=_TYPE)
    return figure


def _label(mark: Mark) -> str:
    name = f"{mark.name} (reference)" if mark.is_reference else mark.name
    return wrapped(name, _LABEL_SIGNS)


def _draw_mark(
    axes: Axes,
    mark: Mark,
    look: tuple[str, str],
    *,
    along: str,
    at: float | None = None,
    where: Transform | None = None,
) -> None:
    """Draw a dot (colour, sign) with its interval, which lies along the axis of scores."""
    (colour, sign), (low, high) = look, mark.reach
    place = mark.x if at is None else at
    assert place is not None
    ends: tuple[list[float], list[float]] = ([low, high], [place, place])
    dot: tuple[float, float] = (mark.mean, place)
    dashes = (0, (3, 1.5)) if mark.images_only else "-"
    line: dict[str, Any] = {"color": colour, "linewidth": 1.8, "linestyle": dashes, "zorder": 3}
    moved = where or axes.transData
    axes.plot(*(ends if along == "x" else ends[::-1]), transform=moved, **line)
    axes.plot(
        *(dot if along == "x" else dot[::-1]),
        marker=sign,
        markersize=7,
        color=colour,
        markerfacecolor=colour if mark.differs else "white",
        markeredgewidth=1.6,
        zorder=4,
        transform=moved,
    )


def _say_value(axes: Axes, mark: Mark, *, above: bool) -> None:
    """Write a score at the right of its dot, on the side where the line is not."""
    axes.annotate(
        mark.shown,
        (mark.x or 0.0, mark.mean),
        xytext=(6, 2 if above else -2),
        textcoords="offset points",
        fontsize=_TYPE,
        va="bottom" if above else "top",
    )


def _name_beside(axes: Axes, wanted: Sequence[tuple[float, str, str]]) -> None:
    """Name lines at their right ends, clear of each other."""
    low, high = axes.get_ylim()
    ordered = sorted(wanted)
    gap = 0.06 * (high - low)
    for (at, text, colour), y in zip(
        ordered, spread_labels([each[0] for each in ordered], gap, low, high), strict=True
    ):
        axes.annotate(
            wrapped(text, 20),
            xy=(1.0, at),
            xycoords=axes.get_yaxis_transform(),
            xytext=(1.03, y),
            textcoords=axes.get_yaxis_transform(),
            va="center",
            fontsize=_SMALL,
            color=colour,
            annotation_clip=False,
        )


def _finish(figure: Figure, axes: Axes, shown: HeadlineFigure) -> None:
    tidy(axes, "x" if shown.kind == "cells" else "y")
    axes.tick_params(labelsize=_TYPE)
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=COLOURS[0], linewidth=1.8, label="95 % interval")
    ]
    if shown.floor:
        handles.append(Patch(label=f"same cell, other seeds (± {shown.floor})", **BAND))
    figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=2,
        frameon=False,
        fontsize=_SMALL,
        handlelength=1.4,
    )


def _unit(shown: HeadlineFigure) -> str:
    return f"{metric_label(shown.metric)} ({metric_unit(shown.metric)})"
