"""The tiny cell that variants, designs and encoders are tried with: a second on a CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from sca_bench.batch import RegionBatch
from sca_bench.captioner import Decoding, FitsFeatures, FitsOnce, RegionCaptioner, SharesPrefix
from sca_bench.contract.captioners.toy import toy_batch
from sca_bench.contract.spec import SpecContract
from sca_bench.engine.worker.rng import RngStream
from sca_bench.settings import CellSettings
from sca_bench.specs.encoders import sam_dims
from sca_bench.study.suite.merge import merge, nest
from sca_bench.types import Prediction
from sca_bench.variants import VariantSpec

TINY: dict[str, Any] = {
    "sam": {"size": "tiny_small", "weights": "embedded:sam_tiny_small"},
    "text_decoder": {"weights": "embedded:lm_scenes_small"},
    "mixer": {"num_layers": 1, "num_heads": 4, "mlp_dim": 16, "init_std": 0.2},
    "prefix": {"num_task_tokens": 2, "gain": 0.5},
    "data": {
        "train": {"dataset": "scenes", "num_images": 3, "first_seed": 0},
        "val": {"dataset": "scenes", "num_images": 1, "first_seed": 50},
        "test": {"dataset": "scenes", "num_images": 2, "first_seed": 100},
    },
    "train": {
        "steps": 2,
        "images_per_batch": 2,
        "learning_rate": 0.01,
        "warmup_steps": 1,
        "val_every": 2,
    },
    "eval": {"max_new_tokens": 8},
    "runtime": {"device": "cpu", "threads": 1, "checkpoint_every": 2, "log_every": 1},
}
"""Shipped weights, one layer, rendered scenes, two steps."""


def tiny_cell(variant: str, *changes: Mapping[str, Any]) -> CellSettings:
    """Return the tiny settings of a variant, with changes by dotted path, later ones stronger."""
    nested = merge(TINY, {"variant": variant})
    for change in changes:
        for path, value in change.items():
            nested = merge(nested, nest(path, value))
    return CellSettings.model_validate(nested)


CAPTIONS = (
    "a large plain red square",
    "a small striped blue circle left of a large plain red square",
    "a small plain green cross",
    "a large dotted yellow triangle above a small plain red circle",
)
"""Captions of the toy batch's regions, in the words of rendered scenes."""


class CellContract(SpecContract):
    """Builds captioners of a variant as the engine does, and has them answer the toy batch.

    Attributes:
        spec: The variant.
        changes: Settings by dotted path that it is tried with, over its `example`.
        decoding: How it is asked to decode.
        log_prob_atol: By how much log-probabilities may differ with what stands beside a region.
    """

    spec: VariantSpec
    changes: Mapping[str, Any] = {}
    decoding = Decoding(num_beams=1, max_new_tokens=8)
    log_prob_atol = 1e-4

    def settings(self, *changes: Mapping[str, Any]) -> CellSettings:
        """Return the tiny settings of the variant, with changes by dotted path."""
        return tiny_cell(self.spec.name, self.example(), self.changes, *changes)

    def batch(self, seed: int = 0) -> RegionBatch:
        """Return the toy batch with captions; another `seed` changes pixels and nothing else."""
        size = sam_dims(self.settings().sam.size).image_size
        return replace(toy_batch(size, seed), captions=list(CAPTIONS))

    def built(self, settings: CellSettings, seed: int = 0, parts: object = None) -> RegionCaptioner:
        """Build a captioner as the engine does; one that learns at one look has looked.

        Args:
            settings: Of its cell.
            seed: Of its random stream.
            parts: What it shares with others; loaded where None.
        """
        parts = self.spec.load_parts(settings) if parts is None else parts
        with RngStream(seed, torch.device("cpu")).active():
            captioner: RegionCaptioner = self.spec.load()(settings, parts)
        if isinstance(captioner, FitsFeatures):
            captioner.fit_features([self.as_engine_gives(captioner, self.batch())])
        elif isinstance(captioner, FitsOnce):
            captioner.fit(list(CAPTIONS))
        return captioner

    def as_engine_gives(self, captioner: RegionCaptioner, batch: RegionBatch) -> RegionBatch:
        """Return a batch with the frozen features that the engine computes for the variant."""
        if not isinstance(captioner, SharesPrefix) or not batch.region_ids:
            return batch
        with torch.no_grad():
            families = self.spec.families(self.settings())
            return replace(batch, features=captioner.frozen_features(batch, families=families))

    def _generate(self, captioner: RegionCaptioner, batch: RegionBatch) -> list[Prediction]:
        with torch.no_grad():
            given = self.as_engine_gives(captioner, batch)
            return list(captioner.generate(given, self.decoding))
