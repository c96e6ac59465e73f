"""The metrics by name: this package's own, and those of other packages.

One of our own is one file with a `MetricSpec` (or a tuple of them) and one line in `METRICS`; a
third party adds one through the entry-point group `sca_bench.metrics`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from sca_bench.errors import InputError, did_you_mean
from sca_bench.metrics.spec import Level, MetricSpec, Requirement
from sca_bench.metrics.value_names import ValueName
from sca_bench.plugins import Registry, attribute, is_address

__all__ = [
    "METRICS",
    "MetricSpec",
    "Requirement",
    "all_metrics",
    "corpus_value",
    "get_metric",
    "is_outdated",
    "spec_of_value",
    "values_of",
]

_NAME = re.compile(r"[a-z][a-z0-9_]*")


def _fault_of(spec: MetricSpec) -> str:
    name = str(spec.name)
    if not isinstance(spec.compute, str) or not spec.compute:
        return "names no computation; set compute='module:attribute'"
    # Our own are there before the first of another package is looked at.
    taken = () if spec.is_own else tuple(own.prefix for own in METRICS.own().values() if own.prefix)
    if not _NAME.fullmatch(name) or name.startswith(taken):
        return f"names its metric {spec.name!r}, expected small letters, digits and _"
    if not _are(spec.values, str) or not _are(spec.requires, Requirement):
        return "has values that are no tuple of names, or requires that are none of Requirements"
    for field, path in spec.named_code().items():
        if field != "compute" and not is_address(path):
            return f"has {field} {path!r}, expected 'module:attribute'"
    if spec.level not in get_args(Level):
        return f"has level {spec.level!r}, expected one of {', '.join(get_args(Level))}"
    if spec.statistics and spec.level != "corpus":
        return "has statistics, which a mean over regions does not need; set level='corpus'"
    return ""


def _are(given: object, kind: type) -> bool:
    return isinstance(given, tuple) and all(isinstance(one, kind) for one in given)


def _broken(name: str, value: str, fault: str) -> MetricSpec:
    return MetricSpec(name, fault, name, value, compute=value, fault=fault)


METRICS = Registry(
    "sca_bench.metrics",
    MetricSpec,
    "metrics",
    (
        "sca_bench.metrics.field_scorers.cider_d:SPEC",
        "sca_bench.metrics.field_scorers.meteor:SPEC",
        "sca_bench.metrics.field_scorers.bleu:SPECS",
        "sca_bench.metrics.field_scorers.rouge_l:SPEC",
        "sca_bench.metrics.field_scorers.spice:SPEC",
        "sca_bench.metrics.caption_text.exact_match:SPECS",
        "sca_bench.metrics.caption_text.slots:SPEC",
        "sca_bench.metrics.caption_text.coverage:SPECS",
        "sca_bench.metrics.caption_text.diversity:SPECS",
        "sca_bench.metrics.caption_text.similarity:SPECS",
        "sca_bench.metrics.detection.dense_captions:SPEC",
    ),
    fault_of=_fault_of,
    broken=_broken,
)
"""The metrics there are."""


def all_metrics() -> dict[str, MetricSpec]:
    """Return every registered metric by name, built-in ones first.

    An entry point that cannot be used stays in it, with its fault; see `plugins`.
    """
    return METRICS.all()


def get_metric(name: str) -> MetricSpec:
    """Return one metric; `exact_match_without_PHRASE` (spaces as _) counts as exact match.

    One that cannot be used is returned, too: it is not computed, with its fault as the reason.

    Raises:
        InputError: No such metric; the nearest one is suggested.
    """
    spec = None if "." in name else _named(name)
    if spec is not None:
        return spec
    usable = (other for other, spec in all_metrics().items() if not spec.fault)
    raise InputError(
        None, "metrics", f"{name!r} is unknown", did_you_mean(name, usable, "list metrics")
    )


def spec_of_value(key: str) -> MetricSpec | None:
    """Return the metric that a value (such as `bleu_4`, `slot/colour` or `seen/meteor`) is of."""
    return _named(ValueName.parse(key).metric.split(".")[0], key)


def _named(*names: str) -> MetricSpec | None:
    """Return the metric that is asked for by one of some names, with a phrase behind it perhaps."""
    # Our own need no look through the installed packages.
    return _find(METRICS.own(), names) or _find(METRICS.all(), names)


def _find(specs: Mapping[str, MetricSpec], names: Sequence[str]) -> MetricSpec | None:
    for name in names:
        if name in specs:
            return specs[name]
    for spec in specs.values():
        if spec.prefix and any(n.startswith(spec.prefix) and n != spec.prefix for n in names):
            return spec
    return None


def values_of(metric: str) -> tuple[str, ...]:
    """Return the values that asking for a metric always gives: four for `bleu`."""
    spec = _named(metric)
    return spec.values if spec is not None and spec.name == metric and spec.values else (metric,)


def corpus_value(
    key: str, sums: NDArray[np.float64], num_regions: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """Return the value of each sum over regions, for as many sums as a bootstrap draws.

    Args:
        key: Name of a value, such as `bleu_3`.
        sums: (..., K), the regions' statistics summed, where the metric has them; else the regions'
            values summed, K = 1.
        num_regions: (...), the number of regions summed; what has statistics does not ask.

    Returns:
        (...).

    Raises:
        ValueError: K does not fit the metric.
    """
    spec = spec_of_value(key)
    if spec is not None and spec.statistics:
        return np.asarray(attribute(spec.statistics)(key, sums), dtype=np.float64)
    if sums.ndim == 0 or sums.shape[-1] != 1:
        raise ValueError(f"{key}: sums of shape {sums.shape}, expected (..., 1)")
    return np.asarray(sums[..., 0] / num_regions, dtype=np.float64)


def is_outdated(key: str, signature: Mapping[str, Any]) -> bool:
    """Say whether one of this package's own metrics was computed by an older revision of its code.

    Those that sign what they found beside the code (a tagger, a model) never are: it may be gone.
    """
    spec = spec_of_value(key)
    return spec is not None and spec.is_outdated(signature)
