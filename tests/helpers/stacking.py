"""Groups of tiny cells over features that are given, to step them as one and each by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sca_bench.batch import RegionBatch, RegionFeatures
from sca_bench.captioner import Decoding
from sca_bench.contract.captioners.cell import CAPTIONS, tiny_cell
from sca_bench.contract.captioners.toy import toy_batch
from sca_bench.engine.job import CellJob
from sca_bench.engine.worker.cell_group import CellGroup, Member, cast_frozen
from sca_bench.engine.worker.mmengine_runner import build_optimiser
from sca_bench.engine.worker.prepare import build_member
from sca_bench.settings import CellSettings
from sca_bench.specs.encoders import sam_dims
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.study.keys.fingerprint import Fingerprints
from sca_bench.variants import get_variant

CPU = torch.device("cpu")
BATCHES = 4
CHANGES = {"mixer.init_std": 0.02, "mixer.dropout": 0.1, "train.learning_rate": 0.001}
"""As in training, and dropout everywhere."""


@dataclass
class Kept:
    """A bank that has the features of a few batches."""

    known: dict[tuple[str, ...], RegionFeatures]

    def features(self, batch: RegionBatch) -> RegionFeatures:
        """Return those of a batch."""
        return self.known[tuple(batch.image_ids)]


class TinyCells:
    """The parts and batches that cells of one variant share."""

    def __init__(
        self, variant: str = "sca", changes: Mapping[str, Any] | None = None, times: int = 1
    ) -> None:
        self.variant, self.changes = variant, {**CHANGES, **(changes or {})}
        settings = self.settings()
        spec = get_variant(variant)
        self.parts = spec.load_parts(settings)
        size = sam_dims(settings.sam.size).image_size
        captioner = self._member(settings, 0).captioner
        self.batches, known = [], {}
        for seed in range(BATCHES):
            said = [CAPTIONS[(place + seed) % len(CAPTIONS)] for place in range(len(CAPTIONS))]
            batch = repeated(replace(toy_batch(size, seed), captions=said), times, seed)
            with torch.no_grad():
                known[tuple(batch.image_ids)] = captioner.frozen_features(batch)
            self.batches.append(replace(batch, pixel_values_B3HW=None))
        self.bank = Kept(known)

    def settings(self, changes: Mapping[str, Any] | None = None) -> CellSettings:
        """Return the settings of a cell."""
        return tiny_cell(self.variant, self.changes, changes or {})

    def _member(self, settings: CellSettings, seed: int) -> Member:
        identity = CellIdentity(settings, Fingerprints().inputs(settings))
        job = CellJob(identity.cell_key, self.variant, seed, identity)
        return build_member(job, self.parts, CPU)

    def group(self, *cells: tuple[int, Mapping[str, Any]], stacked: bool = True) -> Group:
        """Return a group of cells, each a seed and changes.

        Args:
            *cells: The cells.
            stacked: Whether they are stepped as one.
        """
        with_it = {"train.stacked": stacked}
        members = [self._member(self.settings({**c, **with_it}), seed) for seed, c in cells]
        return Group(self, members)


class Group:
    """A group with its optimisers."""

    def __init__(self, cells: TinyCells, members: Sequence[Member]) -> None:
        first = members[0].settings
        self.cells, self.members = cells, list(members)
        cast_frozen(members, first.train.precision)
        self.cell_group = CellGroup(self.members, CPU, {"train": cells.bank}, Decoding())  # type: ignore[dict-item]
        self.wrappers = {m.key: build_optimiser(m, CPU) for m in members}
        self.cell_group.train()
        self.steps = 0

    def step(self) -> dict[str, Tensor]:
        """Make a step; return the losses of the cells."""
        batch = self.cells.batches[self.steps % BATCHES]
        self.steps += 1
        return self.cell_group.train_step(batch, self.wrappers)

    def train(self, steps: int) -> Group:
        """Make some steps."""
        for _ in range(steps):
            self.step()
        return self

    def weights(self, place: int = 0) -> dict[str, Tensor]:
        """Return what one of the cells has come to."""
        captioner: Any = self.members[place].captioner
        return {name: tensor.clone() for name, tensor in captioner.trainable_state().items()}


def repeated(batch: RegionBatch, times: int, seed: int) -> RegionBatch:
    """Return a batch whose images come so often, under names of their own."""
    boxes, pixels = batch.boxes_xyxy_input_BR4, batch.pixel_values_B3HW
    assert boxes is not None
    assert pixels is not None
    assert batch.captions is not None
    return replace(
        batch,
        image_ids=[f"{n}-{seed}-{name}" for n in range(times) for name in batch.image_ids],
        region_ids=[f"{n}-{name}" for n in range(times) for name in batch.region_ids],
        region_mask_BR=batch.region_mask_BR.repeat(times, 1),
        boxes_xyxy_input_BR4=boxes.repeat(times, 1, 1),
        pixel_values_B3HW=pixels.repeat(times, 1, 1, 1),
        input_sizes_hw=(batch.input_sizes_hw or []) * times,
        captions=batch.captions * times,
        views=None,
        original_images=None,
    )


def distance(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Return the norm of the difference of two cells' weights, as a share of the other's norm."""
    assert one.keys() == other.keys()
    off = sum(float((one[name] - other[name]).double().square().sum()) for name in other)
    return float((off / sum(float(x.double().square().sum()) for x in other.values())) ** 0.5)
