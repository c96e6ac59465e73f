"""Counting captions."""

from __future__ import annotations

from collections import Counter
from typing import Any

from sca_bench.batch import RegionBatch
from sca_bench.captioner import Decoding
from sca_bench.formats.texts import nfc
from sca_bench.settings import CellSettings
from sca_bench.types import Prediction


class MostFrequentCaption:
    """Answers every region with one caption, chosen by counting."""

    def __init__(self) -> None:
        self.caption = ""

    def fit(self, captions: list[str]) -> None:
        """Choose the caption: the most frequent, ties by alphabet; compared in NFC."""
        counts = Counter(map(nfc, captions))
        self.caption = min(counts, key=lambda caption: (-counts[caption], caption))

    def generate(self, batch: RegionBatch, decoding: Decoding) -> list[Prediction]:
        """Return the caption for every region of the batch."""
        return [Prediction(region_id, self.caption, 0.0, (), 0.0) for region_id in batch.region_ids]


def build(settings: CellSettings, parts: Any = None) -> MostFrequentCaption:
    """Build the baseline; nothing but `fit` decides what it says."""
    return MostFrequentCaption()
