"""Class names instead of captions."""

from __future__ import annotations

from typing import Any

from sca_bench import scene_grammar
from sca_bench.batch import RegionBatch
from sca_bench.captioner import Decoding
from sca_bench.errors import InputError
from sca_bench.settings import CellSettings
from sca_bench.types import Prediction

WITH_CLASSES = ("coco_instances", "coco_panoptic", "objects365", "v3det")
"""Data sets whose phrase is the class name itself."""


class ClassName:
    """Answers every region with its class name: the shape's word in rendered scenes."""

    def __init__(self, *, rendered: bool) -> None:
        """Say whether captions follow the grammar of rendered scenes, or are class names."""
        self.rendered = rendered

    def generate(self, batch: RegionBatch, decoding: Decoding) -> list[Prediction]:
        """Return the class name of every region of the batch; nothing is looked at.

        Raises:
            ValueError: The batch carries no phrases to read the class from.
        """
        if batch.captions is None:
            raise ValueError("a class name is read from the region's phrase, and there is none")
        names = batch.captions
        if self.rendered:
            names = [scene_grammar.parse(caption).get("shape", "") for caption in names]
        pairs = zip(batch.region_ids, names, strict=True)
        return [Prediction(region_id, name.strip(), 0.0, (), 0.0) for region_id, name in pairs]


def build(settings: CellSettings, parts: Any = None) -> ClassName:
    """Build the control.

    Raises:
        InputError: The test split has captions and no class names.
    """
    dataset = settings.data.test.dataset
    if dataset != "scenes" and dataset not in WITH_CLASSES:
        problem = f"{dataset} has captions, and no class name for a region"
        fix = f"use the label control on scenes, {', '.join(WITH_CLASSES)}"
        raise InputError(None, "data.test.dataset", problem, fix)
    return ClassName(rendered=dataset == "scenes")
