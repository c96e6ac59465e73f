"""Where a cell is good: the main metric by box area, caption length and rarity of the words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sca_bench.formats.texts import nfc
from sca_bench.metrics.rows import CaptionRow
from sca_bench.report.figures.plotted import PlottedSuite
from sca_bench.report.figures.registry import PlotSpec, Shown
from sca_bench.report.names import listed, metric_label, metric_scale, shown_number
from sca_bench.report.read.samples import LEVEL, RESAMPLING_SEED, Sample
from sca_bench.report.read.split import split_word
from sca_bench.report.read.suite_data import SuiteData
from sca_bench.report.read.thumbnails import read_sizes
from sca_bench.stats.bootstrap import image_bootstrap

SPEC = PlotSpec(
    "distribution",
    "The main metric by region",
    "Means over regions in bins.",
    facts=f"{__name__}:facts",
    draw="sca_bench.report.figures.distribution_draw:draw_distribution_plot",
    order=40,
)
MAX_CELLS = 8
NUM_BINS = 5
MIN_REGIONS = 20
"""Regions a bin should hold; of fewer regions, fewer bins are made."""
RARITY = "Frequency of the rarest word (regions)"
_NO_SIZES: Mapping[str, tuple[int, int]] = {}
_NUM_RESAMPLES = 500
_WORD = re.compile(r"\w+(?:['’-]\w+)*")  # noqa: RUF001


@dataclass(frozen=True, slots=True)
class BinMean:
    """One cell in one bin (displayed units); without ends where there are too few images."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class DistributionPanel:
    """One property of regions, cut into bins of about as many regions each.

    Attributes:
        label: The property with its unit.
        bins: The range of each bin, in words.
        counts: Regions of each bin.
        lines: Cell name -> its mean in every bin.
    """

    label: str
    bins: tuple[str, ...]
    counts: tuple[int, ...]
    lines: dict[str, tuple[BinMean, ...]]


@dataclass(frozen=True, slots=True)
class Distribution:
    """The data of the plot.

    Attributes:
        metric: Metric on the vertical axis.
        panels: The properties that vary.
        num_regions: Regions that all of the cells drawn were scored on.
        left_out: Cells that have region scores and no line: controls, and more than `MAX_CELLS`.
        without: Cells without region scores.
        same: Properties that are the same for all regions, or unknown.
    """

    metric: str
    panels: tuple[DistributionPanel, ...]
    num_regions: int = 0
    left_out: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    same: tuple[str, ...] = ()


def facts(suite: PlottedSuite) -> Shown:
    """Return the plot of a suite with its texts.

    Raises:
        InputError: A file of the runs folder is damaged.
    """
    data, label = suite.data, metric_label(suite.main_metric)
    title = f"{label} by region"
    if suite.nothing_but_zero:
        return Shown(None, title, suite.nothing_but_zero)
    plot = distribution(data, [suite.samples.of(cell, data.main_metric) for cell in data.cells])
    if not plot.panels:
        return Shown(None, title, _caption(plot, split_word(data)))
    alt = f"{title}. {' '.join(map(_in_words, plot.panels))}"
    return Shown(plot, title, _caption(plot, split_word(data)), alt)


def _in_words(panel: DistributionPanel) -> str:
    """Return where the first cell is best and worst."""
    name, means = next(iter(panel.lines.items()))
    ordered = sorted(zip(means, panel.bins, strict=True), key=lambda both: both[0].mean)
    (low, worst), (high, best) = ordered[0], ordered[-1]
    return f"{panel.label}: {name} has {low.mean:.1f} at {worst} and {high.mean:.1f} at {best}."


def distribution(data: SuiteData, samples: Sequence[Sample]) -> Distribution:
    """Cut the regions that all cells were scored on into bins, and average every cell in each.

    Args:
        data: The suite.
        samples: Every cell by the main metric, in the order of the cells.

    Raises:
        InputError: A file of the runs folder is damaged.
    """
    per_cell = {
        cell.entry.name: (cell, sample)
        for cell, sample in zip(data.cells, samples, strict=True)
        if sample.region_ids
    }
    without = tuple(c.entry.name for c in data.cells if c.entry.name not in per_cell)
    # Controls are as bad everywhere, and would leave the cells no room to differ in.
    cells = {name: each for name, each in per_cell.items() if not each[0].entry.control} or per_cell
    drawn = dict(list(cells.items())[:MAX_CELLS])
    left_out = tuple(name for name in per_cell if name not in drawn)
    if not drawn:
        return Distribution(data.main_metric, (), without=without)
    first, sample = next(iter(drawn.values()))
    scale = metric_scale(data.main_metric)
    by_region = {
        name: dict(zip(own.region_ids, (own.means * scale).tolist(), strict=True))
        for name, (_, own) in drawn.items()
    }
    store = data.store
    # Its runs say the same of the regions; the captions of one may be damaged.
    known = (each for each in first.done if store.predictions(each.cell_id, each.seed))
    record = next(known, first.done[0])
    shared = set.intersection(*(set(values) for values in by_region.values()))
    rows = store.predictions(record.cell_id, record.seed)
    regions = [key for key in sample.region_ids if key in shared and key in rows]
    if not regions:
        return Distribution(data.main_metric, (), 0, left_out, without)
    kept = [rows[key] for key in regions]
    image_of = dict(zip(sample.region_ids, sample.image_ids, strict=True))
    images = [image_of[key] for key in regions]
    scores = {name: [values[key] for key in regions] for name, values in by_region.items()}
    panels, same = [], []
    folder, nothing = record.images_dir, _NO_SIZES
    sizes = store.sound(lambda: read_sizes(store.root, folder), nothing, f"{folder}/sizes.json")
    for label, values in _properties(kept, sizes):
        panel = None if values is None else _panel(label, values, images, scores)
        if panel is None:
            same.append(label)
        else:
            panels.append(panel)
    return Distribution(
        data.main_metric, tuple(panels), len(regions), left_out, without, tuple(same)
    )


def _properties(
    rows: Sequence[CaptionRow], sizes: Mapping[str, Sequence[float]]
) -> list[tuple[str, list[float] | None]]:
    """Return each property's label and its value of every region; None where it is not known."""
    words = [[_words(text) for text in row.references] for row in rows]
    lengths: list[float] | None = None
    rarity: list[float] | None = None
    if all(any(each) for each in words):
        lengths = [float(np.mean([len(text) for text in each])) for each in words]
        # In how many regions' references a word occurs.
        spread = Counter(w for each in words for w in {w for text in each for w in text})
        rarity = [float(min(spread[w] for text in each for w in text)) for each in words]
    area_label, areas = _areas(rows, sizes)
    return [
        (area_label, areas),
        ("Reference length (words)", lengths),
        (RARITY, rarity),
    ]


def _areas(
    rows: Sequence[CaptionRow], sizes: Mapping[str, Sequence[float]]
) -> tuple[str, list[float] | None]:
    """Return box areas in per cent of the image, or in px² where an image's size is unknown."""
    boxes = [row.box_xyxy for row in rows]
    if any(box is None for box in boxes):
        return "Box area", None
    areas = [max(0.0, b[2] - b[0]) * max(0.0, b[3] - b[1]) for b in boxes if b is not None]
    wholes = [sizes.get(row.image_id) for row in rows]
    if any(whole is None or not whole[0] * whole[1] for whole in wholes):
        return "Box area (px²)", areas
    shares = [100 * a / (w[0] * w[1]) for a, w in zip(areas, wholes, strict=True) if w is not None]
    return "Box area (% of the image)", shares


def _words(text: str) -> list[str]:
    return _WORD.findall(nfc(text).lower())


def _panel(
    label: str, values: list[float], images: list[str], scores: Mapping[str, list[float]]
) -> DistributionPanel | None:
    """Return the panel of one property; None where it is the same for all regions."""
    array = np.asarray(values)
    bins = quantile_bins(array)
    numbers = range(int(bins.max()) + 1)
    if len(numbers) < 2:
        return None
    members = [np.flatnonzero(bins == number) for number in numbers]
    names = np.asarray(images)
    lines = {
        name: tuple(_bin_mean(np.asarray(each)[own], names[own]) for own in members)
        for name, each in scores.items()
    }
    ranges = tuple(_range(array[own]) for own in members)
    return DistributionPanel(label, ranges, tuple(len(own) for own in members), lines)


def quantile_bins(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the bin of every value: about equally many each, equal values always together."""
    wanted = max(2, min(NUM_BINS, len(values) // MIN_REGIONS))
    ordered, num = np.sort(values), len(values)
    inner = ordered[[-(-k * num // wanted) - 1 for k in range(1, wanted)]]
    edges = np.unique(inner[inner < values.max()])
    bins: NDArray[np.int64] = np.searchsorted(edges, values, side="left")
    _, dense = np.unique(bins, return_inverse=True)
    return np.asarray(dense, dtype=np.int64)


def _range(values: NDArray[np.float64]) -> str:
    low, high = shown_number(float(values.min())), shown_number(float(values.max()))
    return low if low == high else f"{low} to {high}"


def _bin_mean(values: NDArray[np.float64], images: NDArray[Any]) -> BinMean:
    estimate = image_bootstrap(values, images.tolist(), _NUM_RESAMPLES, RESAMPLING_SEED, LEVEL)
    return BinMean(estimate.mean, estimate.low, estimate.high)


def _caption(plot: Distribution, split: str = "test") -> str:
    if not plot.panels:
        return "No two kinds of regions have scores, so there is nothing to draw."
    parts = [
        f"The {plot.num_regions:,} {split} regions that all of these cells were scored on, in "
        "bins of about equal counts (n); seeds are averaged first. Marks: means; lines: 95 % "
        f"bootstrap intervals over {split} images, not over seeds, and a little narrow where a "
        "bin has few images. Within a bin, cells are shifted only to keep them readable."
    ]
    if any(panel.label == RARITY for panel in plot.panels):
        parts.append(
            "The rarest word of a region's references stands for its class: the axis counts the "
            "regions whose references hold that word; rare classes are on the left."
        )
    if plot.left_out:
        parts.append(f"Not drawn, to keep lines apart: {', '.join(plot.left_out)}.")
    if plot.without:
        parts.append(f"Without scores of regions: {', '.join(plot.without)}.")
    if plot.same:
        parts.append(f"The same for all regions, or not known: {listed(plot.same)}.")
    return " ".join(parts)
