"""What a data loader pins of a batch: all of it."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from sca_bench.batch import KeptRows, RegionFeatures
from sca_bench.contract.captioners.toy import toy_batch
from sca_bench.data.pipeline.preprocess import raw_pixels


@pytest.fixture
def pinned(monkeypatch):
    """Let tensors be pinned without a GPU; return the ids of those that are."""
    ids = {}

    def pin(tensor):
        copy = tensor.clone()
        ids[id(copy)] = copy
        return copy

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    return ids


def tensors_in(item):
    """Yield every tensor of a batch, wherever it stands."""
    if isinstance(item, torch.Tensor):
        yield item
    elif dataclasses.is_dataclass(item):
        for field in dataclasses.fields(item):
            yield from tensors_in(getattr(item, field.name))
    elif isinstance(item, dict):
        yield from tensors_in(list(item.values()))
    elif isinstance(item, list | tuple):
        for part in item:
            yield from tensors_in(part)


def test_a_pinned_batch_is_pinned_wherever_it_has_tensors(pinned):
    rows = torch.rand(4, 2)
    batch = dataclasses.replace(
        toy_batch(),
        points_xy_input_BRP2=torch.rand(2, 3, 1, 2),
        point_labels_BRP=torch.ones(2, 3, 1),
        raw_pixels=raw_pixels(np.zeros((4, 6, 3), dtype=np.uint8), 8),
        features=RegionFeatures(rows, torch.zeros(4), 2, tokens_NTC=rows),
        kept=KeptRows({"ious_NM": rows, "tokens_NTC": rows}, embeddings_KChw=rows),
        image_embeddings_BChw=rows,
    )
    given = {f.name for f in dataclasses.fields(batch) if [*tensors_in(getattr(batch, f.name))]}
    of_tensors = {"Tensor", "Pixels", "Features", "Rows"}
    fields = {f.name for f in dataclasses.fields(batch) if any(t in f.type for t in of_tensors)}
    assert fields == given  # a field that is added has to be tried here, too
    travels = pin_memory(batch)  # as torch's loader does with whatever a collator returns
    before, after = list(tensors_in(batch)), list(tensors_in(travels))
    assert len(before) == len(after) == 15
    assert all(id(tensor) in pinned for tensor in after)
    assert all(map(torch.equal, before, after))
    assert travels.region_ids == batch.region_ids
