"""How metrics, axes, costs and numbers are called and written in a report.

One convention for every score: the natural value times 100. CIDEr-D, whose natural scale ends at
10, therefore ends at 1000; nearly all others end at 100. A metric that counts something (words) is
shown as it is, in its unit. Column headers say so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sca_bench.metrics.registry import MetricSpec, spec_of_value, values_of
from sca_bench.metrics.value_names import SLOTS, ValueName

SCALE = 100.0
NO_VALUE = "–"  # noqa: RUF001 - an en dash reads as an empty field, a hyphen as a minus
ANY_VALUE = "any"
"""On an axis that a cell does not read."""

_LABELS = {
    "num_params_mixer": "Mixer parameters",
    "num_params_image_encoder": "Image encoder parameters",
}
_VAGUE = ("weights", "size", "type", "path", "prompt", "trainable")
_CAPITALS = {"sam": "SAM", "lsj": "LSJ"}


@dataclass(frozen=True, slots=True)
class CostColumn:
    """One entry of a run's cost ledger as a table shows it."""

    key: str
    label: str
    unit: str
    factor: float = 1.0
    decimals: int = 1


COSTS = (
    CostColumn("num_trainable_params", "Trainable", "parameters", decimals=0),
    CostColumn("num_total_params", "Total", "parameters", decimals=0),
    CostColumn("step_s", "Step time", "ms, median", factor=1000.0),
    CostColumn("peak_memory_mib", "Peak memory", "MiB", decimals=0),
    CostColumn("train_s", "Own compute", "s"),
    CostColumn("shared_s", "Shared compute", "s"),
    CostColumn("captions_per_s", "Captions", "per s"),
)


def expand_metrics(metrics: Iterable[str]) -> list[str]:
    """Return a manifest's metrics one by one: `bleu` becomes four, `slots` has its own table."""
    names: list[str] = []
    for metric in metrics:
        for name in values_of(metric):
            if name != SLOTS and name not in names:
                names.append(name)
    return names


def metric_label(metric: str) -> str:
    """Return the name a reader knows, without a unit."""
    name = ValueName.parse(metric)
    if name.part:
        return f"{metric_label(str(name.whole))}, {name.part.replace('_', ' ')}"
    if name.slot:
        slot = name.slot.replace("_", " ")
        return slot if name.num_objects is None else f"{slot}, {name.num_objects} objects"
    spec = spec_of_value(metric)
    if spec is not None and spec.name == metric:
        return spec.label or metric.replace("_", " ").capitalize()
    return _LABELS.get(metric, metric.replace("_", " "))


def metric_unit(metric: str) -> str:
    """Return the unit of a displayed value with the end of its scale."""
    spec = _spec(metric)
    if spec is not None and spec.unit:
        return spec.unit
    end = 100.0 if spec is None else spec.maximum * spec.report_scale
    return f"×{metric_scale(metric):g}, max {end:g}"  # noqa: RUF001


def metric_scale(metric: str) -> float:
    """Return what a metric's natural value is multiplied by for display."""
    spec = _spec(metric)
    return SCALE if spec is None else spec.report_scale


def higher_is_better(metric: str) -> bool | None:
    """Say whether more of a metric is better; None where it is neither (lengths, diversity)."""
    spec = _spec(metric)
    return True if spec is None else spec.higher_is_better


def metric_maximum(metric: str) -> float | None:
    """Return where a metric's natural scale ends; None for one that counts something."""
    spec = _spec(metric)
    if spec is None:
        return 1.0
    return None if spec.unit else spec.maximum


def difference_unit(metric: str) -> str:
    """Return the unit of a displayed difference of two values: `×100` or a unit of its own."""
    spec = _spec(metric)
    return f"×{metric_scale(metric):g}" if spec is None or not spec.unit else spec.unit  # noqa: RUF001


def _spec(metric: str) -> MetricSpec | None:
    """Return the metric of a value; None for a single slot, which is a plain share."""
    return None if ValueName.parse(metric).slot else spec_of_value(metric)


def short_axes(axes: Iterable[str]) -> dict[str, str]:
    """Return the last part of each dotted axis in words.

    The whole name where two axes share that part, or where it says little alone (`sam.size`).
    """
    names = list(axes)
    tails = [name.rpartition(".")[2] for name in names]
    whole = [t in _VAGUE or tails.count(t) > 1 for t in tails]
    return {n: _words(n if w else t) for n, t, w in zip(names, tails, whole, strict=True)}


def _words(name: str) -> str:
    words = re.split(r"[._]", re.sub(r"(^|\.)num_", r"\1number_of_", name))
    return " ".join(_CAPITALS.get(word, word) for word in words)


def is_numeric(values: Iterable[Any]) -> bool:
    """Say whether every value is a number; true and false are none."""
    return all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def short_region_set(digest: str) -> str:
    """Return the first digits of a region set's hash, enough to tell sets apart by eye."""
    return digest[:12]


def show_number(value: float, decimals: int = 1) -> str:
    """Return a number with thousands separators and fixed decimals."""
    return f"{value:,.{decimals}f}"


def show_score(mean: float, spread: float | None = None, *, metric: str = "") -> str:
    """Return a metric (natural units) as displayed, with the seeds' spread where there is one."""
    scale = metric_scale(metric)
    text = f"{mean * scale:.1f}"
    if spread is None or math.isnan(spread):
        return text
    return f"{text} ± {spread * scale:.1f}"


def show_difference(value: float, *, metric: str = "") -> str:
    """Return a difference of a metric (natural units) as displayed, always signed."""
    text = f"{value * metric_scale(metric):+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")  # noqa: RUF001


def wrapped(label: str, signs: int) -> str:
    """Return a label in lines of at most some length, broken at spaces and after commas."""
    lines = [""]
    for word in re.split(r"(?<=[\s,])", label):
        if lines[-1] and len(lines[-1]) + len(word.rstrip()) > signs:
            lines.append("")
        lines[-1] += word
        while len(lines[-1].rstrip()) > signs:  # one long word
            lines[-1:] = [lines[-1][:signs], lines[-1][signs:]]
    return "\n".join(line.strip() for line in lines if line.strip())


def shown_number(value: float) -> str:
    """Return a number as short as a plot needs it: three digits, thousands and millions named."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit * 0.9995:
            return f"{value / limit:.3g}{letter}"
    return f"{value:.3g}"


def listed(labels: Sequence[str]) -> str:
    """Return labels within a sentence, separated by commas."""
    return ", ".join(label[:1].lower() + label[1:] for label in labels)


_NEARLY = 1e-9
"""What a half width of 10 may miss of it as a binary number."""


def show_bearable(
    value: float, half_width: float | None, *, metric: str = "", signed: bool = False
) -> str:
    """Return a number of a metric rounded to what its interval lets it bear, as displayed.

    Two digits of the interval's half width stay: with ± 35.6 whole points, with ± 3.56 tenths.

    Args:
        value: Natural units.
        half_width: Half the width of its interval, natural units; tenths where it has none.
        metric: The metric.
        signed: Whether a plus sign is written, too.
    """
    scale = metric_scale(metric)
    digits = 1
    if half_width is not None and half_width > 0:
        digits = min(2, 1 - math.floor(math.log10(half_width * scale) + _NEARLY))
    rounded = round(value * scale, digits)
    text = f"{abs(rounded):,.{max(0, digits)}f}"
    if not rounded:
        return text
    sign = "−" if rounded < 0 else "+" if signed else ""  # noqa: RUF001
    return sign + text


def show_about(count: float) -> str:
    """Return a count or size that is only roughly known: two digits, thousands separated."""
    if count == 0:
        return "0"
    digits = 1 - math.floor(math.log10(abs(count)))
    if float(count).is_integer():
        digits = min(digits, 0)
    return f"{round(count, digits):,.{max(0, digits)}f}"


_WORDS = (
    *("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve"),
)


def count_words(count: int, noun: str) -> str:
    """Return a count and its noun as text has them: `one seed`, `three seeds`, `113 regions`.

    Args:
        count: How many.
        noun: Of one.
    """
    number = _WORDS[count] if 0 <= count < len(_WORDS) else f"{count:,}"
    return f"{number} {noun}" + ("" if count == 1 else "s")


def in_sentence(names: Sequence[str], most: int = 4) -> str:
    """Return names within a sentence: `a`, `a and b`, `a, b and 3 more`."""
    shown = list(names[:most])
    if len(names) > most:
        shown = [*names[: most - 1], f"{len(names) - most + 1} more"]
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1]))) if shown else ""
