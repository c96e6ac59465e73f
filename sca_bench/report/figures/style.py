"""What all figures share: colours, type sizes, and saving the same bytes for the same data."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from sca_bench.files import write_atomic
from sca_bench.report.figures.picture import KINDS
from sca_bench.report.figures.svg import on_any_ground
from sca_bench.report.names import is_numeric, shown_number
from sca_bench.study.suite.yaml_values import show_value

# After Okabe and Ito, whose hues people with any common colour blindness tell apart, in a lightness
# that has a contrast of 3.5 on white and on a dark screen. Markers and dashes carry the same
# information in grey.
COLOURS = ("#1F7FBF", "#D55E00", "#008F68", "#B8608F", "#B07800", "#8B62C9", "#7A7A00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)))
CONTROL_COLOUR = "#767676"
BAND: dict[str, Any] = {"color": "#808080", "alpha": 0.22, "linewidth": 0}
"""How the noise floor is drawn, on any ground."""
PNG_DPI = 160
LEAST_SHARE = 0.1
"""Of the largest score an axis spans at least this share: noise must not look like more."""
_LEGEND_SIGNS = 110  # characters of the legend's type that the figure's width holds
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "sca_bench",
    "svg.fonttype": "none",  # text that can be selected, and is small
    "pdf.fonttype": 42,  # outlines that a typesetter can embed and search
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.unicode_minus": True,
    "text.parse_math": False,  # names of cells may hold a dollar sign
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw and save inside this: a user's own matplotlib settings then change no byte."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


def new_figure(width_in: float, height_in: float) -> Figure:
    """Return an empty white figure drawn by Agg, outside pyplot's global state."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Axes, grid: str = "y") -> None:
    """Leave only the lines that help to read values."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, color="#808080", alpha=0.3, linewidth=0.6)  # type: ignore[arg-type]
    axes.set_axisbelow(True)


def honest_limits(low: float, high: float) -> tuple[float, float]:
    """Return both ends of an axis of scores that shows values from `low` to `high`.

    It spans at least a tenth of the largest score, leaves room at both ends, and reaches below zero
    only where there is something to show.
    """
    wanted = LEAST_SHARE * max(abs(low), abs(high)) or 1.0
    middle, half = (low + high) / 2, max(high - low, wanted) / 2
    bottom, top = middle - 1.16 * half, middle + 1.16 * half
    if low >= 0 and bottom < 0.25 * (top - bottom):
        bottom = 0.0
    return bottom, top


def log_ticks(low: float, high: float) -> LogLocator:
    """Return few ticks for a logarithmic axis of positive values from `low` to `high`."""
    decades = math.log10(high / low)
    subs = (1.0, 2.0, 5.0) if decades < 1.5 else (1.0, 3.0) if decades < 3 else (1.0,)
    return LogLocator(base=10, subs=subs, numticks=8)


def tick_text(value: Any) -> str:
    """Return a value of an axis: a number with three digits, anything else as suites write it."""
    if not is_numeric([value]):
        return show_value(value)
    if abs(value) >= 1e4:
        return shown_number(float(value))
    return show_value(value if isinstance(value, int) else float(f"{value:.3g}"))


def line_style(index: int) -> tuple[str, Any, str]:
    """Return colour, dashes and marker of the n-th line; no two of 49 have all in common."""
    turn = index // len(COLOURS)
    return (
        COLOURS[index % len(COLOURS)],
        DASHES[(index + turn) % len(DASHES)],
        MARKERS[(index + turn) % len(MARKERS)],
    )


def control_styles(count: int) -> list[dict[str, Any]]:
    """Return how the lines of controls are drawn: grey, told apart by their dashes."""
    styles = [DASHES[1 + index % (len(DASHES) - 1)] for index in range(count)]
    return [{"color": CONTROL_COLOUR, "linewidth": 1.1, "linestyle": style} for style in styles]


def legend_name(name: str) -> str:
    """Return a name that a legend shows: matplotlib leaves out one that begins with `_`."""
    return f" {name}" if name.startswith("_") else name


def legend_columns(names: list[str]) -> int:
    """Return how many columns of a legend the figure's width holds."""
    return max(1, min(4, len(names), _LEGEND_SIGNS // (max(map(len, names)) + 8)))


def add_legend(figure: Figure, *panels: Axes) -> None:
    """Name every labelled line of some axes once, in as many columns as the names leave room."""
    lines: dict[str, Any] = {}
    for axes in panels:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            if name:
                lines.setdefault(name, handle)
    if len(lines) > 1:
        columns = legend_columns(list(lines))
        figure.legend(
            list(lines.values()),
            list(lines),
            loc="outside upper left",
            ncols=columns,
            frameon=False,
            fontsize=8,
        )


def legend_sign(
    label: str, colour: str, marker: str = "", face: str = "", dashes: str = "none"
) -> Line2D:
    """Return what a legend shows for a mark, a line, or both.

    Args:
        label: What it means.
        colour: Of line and edge.
        marker: Matplotlib's name of the mark; empty for none.
        face: Colour inside the mark; that of the edge where empty.
        dashes: Style of the line.
    """
    return Line2D(
        [],
        [],
        color=colour,
        marker=marker or None,
        markerfacecolor=face or colour,
        markersize=6,
        markeredgewidth=1.3,
        linestyle=dashes,  # type: ignore[arg-type]
        linewidth=1.3,
        label=label,
    )


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write `name` as PNG, SVG and PDF, without dates or versions, and return their paths.

    PNG and PDF are black on white; the SVG has no ground and takes the reader's colours (`svg`).
    """
    paths = [folder / f"{name}.{kind}" for kind in KINDS]
    dateless: list[dict[str, Any]] = [
        {"dpi": PNG_DPI, "metadata": {"Software": None}},
        {"metadata": {"Date": None, "Creator": None}, "transparent": True},
        {"metadata": {"CreationDate": None, "Creator": None, "Producer": None}},
    ]
    for path, kind, how in zip(paths, KINDS, dateless, strict=True):
        with io.BytesIO() as drawn:
            figure.savefig(drawn, format=kind, **how)
            figure.set_layout_engine("none")  # the parts stay where the first drawing put them
            content = drawn.getvalue()
        if kind == "svg":
            content = on_any_ground(content.decode("utf-8")).encode("utf-8")
        write_atomic(path, content)
    return paths
