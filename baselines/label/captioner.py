"""Class names instead of captions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sca_bench.batch import RegionBatch
from sca_bench.captioner import Decoding
from sca_bench.errors import InputError
from sca_bench.settings import CellSettings
from sca_bench.specs.readers import READERS
from sca_bench.types import Prediction


class ClassName:
    """Answers every region with its class name, as its phrase says it."""

    def __init__(self, class_of: Callable[[str], str]) -> None:
        """Take what reads a class name off a phrase."""
        self.class_of = class_of

    def generate(self, batch: RegionBatch, decoding: Decoding) -> list[Prediction]:
        """Return the class name of every region of the batch; nothing is looked at.

        Raises:
            ValueError: The batch carries no phrases to read the class from.
        """
        if batch.captions is None:
            raise ValueError("a class name is read from the region's phrase, and there is none")
        names = map(self.class_of, batch.captions)
        pairs = zip(batch.region_ids, names, strict=True)
        return [Prediction(region_id, name.strip(), 0.0, (), 0.0) for region_id, name in pairs]


def build(settings: CellSettings, parts: Any = None) -> ClassName:
    """Build the control.

    Raises:
        InputError: The test split has captions and no class names.
    """
    dataset = settings.data.test.dataset
    class_of = READERS.get(dataset).class_reader()
    if class_of is None:
        with_classes = [s.name for s in READERS.all().values() if s.has_classes]
        problem = f"{dataset} has captions, and no class name for a region"
        fix = f"use the label control on {', '.join(with_classes)}"
        raise InputError(None, "data.test.dataset", problem, fix)
    return ClassName(class_of)
