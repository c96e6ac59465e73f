"""How metrics, axes, costs and numbers are called and written in a report.

One convention for every metric: the natural value times 100. CIDEr-D, whose natural scale ends at
10, therefore ends at 1000; all others end at 100. Column headers say so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

SCALE = 100.0
SLOTS = "slots"
SLOT = "slot/"
SLOT_BY_OBJECTS = "slot_by_objects/"
NO_VALUE = "–"  # noqa: RUF001 - an en dash reads as an empty field, a hyphen as a minus

_LABELS = {
    "cider_d": "CIDEr-D",
    "meteor": "METEOR",
    "bleu_1": "BLEU-1",
    "bleu_2": "BLEU-2",
    "bleu_3": "BLEU-3",
    "bleu_4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "spice": "SPICE",
    "exact_match": "Exact match",
    "macro_recall": "Macro recall",
    "num_params_mixer": "Mixer parameters",
    "num_params_image_encoder": "Image encoder parameters",
    "noun_recall": "Noun recall",
    "verb_recall": "Verb recall",
    "noun_recall_fuzzy": "Noun recall, fuzzy",
    "verb_recall_fuzzy": "Verb recall, fuzzy",
    SLOTS: "mean of slots",
}
_VAGUE = ("weights", "size", "type", "path", "prompt", "trainable")
_CAPITALS = {"sam": "SAM", "lsj": "LSJ"}
_MAXIMA = {"cider_d": 1000}
_GROUPS = {"bleu": ("bleu_1", "bleu_2", "bleu_3", "bleu_4")}


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
        for name in _GROUPS.get(metric, (metric,)):
            if name != SLOTS and name not in names:
                names.append(name)
    return names


def metric_label(metric: str) -> str:
    """Return the name a reader knows, without a unit."""
    if metric.startswith(SLOT_BY_OBJECTS):
        number, _, name = metric.removeprefix(SLOT_BY_OBJECTS).partition("/")
        return f"{name.replace('_', ' ')}, {number} objects"
    return _LABELS.get(metric, metric.removeprefix(SLOT).replace("_", " "))


def metric_unit(metric: str) -> str:
    """Return the unit of a displayed value with the end of its scale."""
    return f"×100, max {_MAXIMA.get(metric, 100)}"  # noqa: RUF001


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


def show_score(mean: float, spread: float | None = None) -> str:
    """Return a metric (natural units) as displayed, with the seeds' spread where there is one."""
    text = f"{mean * SCALE:.1f}"
    if spread is None or math.isnan(spread):
        return text
    return f"{text} ± {spread * SCALE:.1f}"


def show_difference(value: float) -> str:
    """Return a difference of metrics (natural units) as displayed, always signed."""
    text = f"{value * SCALE:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")  # noqa: RUF001
