"""Contracts: what captioners, designs, metrics, readers, encoders and plots must keep to, as tests.

`sca_bench test MODULE` runs them on every spec of a module, and so does the pytest plugin
(`contract.plugin`). Own tests may inherit them:

    from sca_bench.contract import MetricContract

    class TestMine(MetricContract):
        spec = my_package.SPEC

Each class is imported when it is asked for, so that a metric is tested without torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sca_bench.contract.captioners.captioner import CaptionerContract
    from sca_bench.contract.captioners.design import DesignContract
    from sca_bench.contract.captioners.toy import image_of, toy_batch, without_regions
    from sca_bench.contract.captioners.variant import VariantContract
    from sca_bench.contract.encoder import EncoderContract
    from sca_bench.contract.metric import MetricContract
    from sca_bench.contract.plot import PlotContract
    from sca_bench.contract.reader import ReaderContract

_WHERE = {
    "CaptionerContract": "captioners.captioner",
    "DesignContract": "captioners.design",
    "EncoderContract": "encoder",
    "MetricContract": "metric",
    "PlotContract": "plot",
    "ReaderContract": "reader",
    "VariantContract": "captioners.variant",
    "image_of": "captioners.toy",
    "toy_batch": "captioners.toy",
    "without_regions": "captioners.toy",
}

__all__ = [
    "CaptionerContract",
    "DesignContract",
    "EncoderContract",
    "MetricContract",
    "PlotContract",
    "ReaderContract",
    "VariantContract",
    "image_of",
    "toy_batch",
    "without_regions",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
