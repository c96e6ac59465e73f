"""One look at the training split, for captioners without gradient descent."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sca_bench.captioner import FitsFeatures, FitsOnce, RegionCaptioner
from sca_bench.data.pipeline.dataset import RegionDataset
from sca_bench.data.region_set import RegionSet
from sca_bench.engine.loaders import stored_loader
from sca_bench.engine.worker.cell_group import CellGroup
from sca_bench.settings import CellSettings


@torch.no_grad()
def fit_once(
    captioner: RegionCaptioner,
    group: CellGroup,
    train: RegionSet,
    dataset: Callable[[], RegionDataset],
    settings: CellSettings,
) -> None:
    """Let a captioner learn from the training split, if it learns by looking once.

    Args:
        captioner: A member of `group`; any other kind of captioner is left as it is.
        group: Gives batches their frozen features.
        train: The training regions.
        dataset: Makes the training data set, with the captions that the cell trains on.
        settings: The cell.
    """
    if isinstance(captioner, FitsOnce):
        captioner.fit([c for region in train.regions for c in region.references])
    if isinstance(captioner, FitsFeatures):
        loader = stored_loader(dataset(), settings)
        captioner.fit_features(group.with_features(batch, "train") for batch in loader)
