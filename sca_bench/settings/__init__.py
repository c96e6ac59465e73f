"""The settings of a cell: typed, strict, and marked by what they may change; no torch.

This package stands on the ground floor beside `types`: models, data, study and engine read it.
"""

from __future__ import annotations

from typing import Any

from sca_bench.plugins import attribute
from sca_bench.settings.base import Kind, Settings, items_of, kind_of, of_kind
from sca_bench.settings.cell import (
    BaselineSettings,
    CellSettings,
    CropSettings,
    EncoderSettings,
    EvalSettings,
    FeatureSettings,
    MixerSettings,
    PrefixSettings,
    RuntimeSettings,
    SamSettings,
    StageData,
    StageSettings,
    TextDecoderSettings,
    TrainSettings,
)
from sca_bench.settings.data import (
    AugmentationSettings,
    DataSettings,
    SingleSplit,
    SplitSettings,
    unread_data,
)
from sca_bench.settings.splits import AnySplit, FileSplit, ImageFolderSplit, Split

_IN_READERS = {
    "CocoInstancesSplit": "coco_instances:CocoInstancesSplit",
    "CocoPanopticSplit": "coco_panoptic:CocoPanopticSplit",
    "GritSplit": "coco_instances:CocoInstancesSplit",
    "MixturePart": "mixture:MixturePart",
    "MixtureSplit": "mixture:MixtureSplit",
    "Objects365Split": "coco_instances:CocoInstancesSplit",
    "RefCocoSplit": "refcoco:RefCocoSplit",
    "ScenesSplit": "scenes:ScenesSplit",
    "V3DetSplit": "coco_instances:CocoInstancesSplit",
    "VisualGenomeSplit": "visual_genome:VisualGenomeSplit",
}
"""Names that stood here before each reader had its split class in its own file."""

__all__ = [
    "AnySplit",
    "AugmentationSettings",
    "BaselineSettings",
    "CellSettings",
    "CropSettings",
    "DataSettings",
    "EncoderSettings",
    "EvalSettings",
    "FeatureSettings",
    "FileSplit",
    "ImageFolderSplit",
    "Kind",
    "MixerSettings",
    "PrefixSettings",
    "RuntimeSettings",
    "SamSettings",
    "Settings",
    "SingleSplit",
    "Split",
    "SplitSettings",
    "StageData",
    "StageSettings",
    "TextDecoderSettings",
    "TrainSettings",
    "items_of",
    "kind_of",
    "of_kind",
    "unread_data",
]


def __getattr__(name: str) -> Any:
    """Return the split class of a reader by its former name here."""
    if name in _IN_READERS:
        return attribute(f"sca_bench.data.readers.{_IN_READERS[name]}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
