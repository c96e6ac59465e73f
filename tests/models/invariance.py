"""What must hold of every captioner, whatever else is in the batch."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sca_bench.captioner import Decoding


def select(batch, images, regions):
    """Keep some images and, of each, some regions."""
    ids = iter(batch.region_ids)
    captions = iter(batch.captions)
    cells = {
        (i, r): (next(ids), next(captions)) for i, r in batch.region_mask_BR.nonzero().tolist()
    }
    grid = torch.tensor(regions)
    rows = torch.tensor(images)[:, None]
    kept = [
        cells[i, r] for i, row in zip(images, regions, strict=True) for r in row if (i, r) in cells
    ]
    return dataclasses.replace(
        batch,
        image_ids=[batch.image_ids[i] for i in images],
        region_ids=[region_id for region_id, _ in kept],
        captions=[caption for _, caption in kept],
        region_mask_BR=batch.region_mask_BR[rows, grid],
        boxes_xyxy_input_BR4=batch.boxes_xyxy_input_BR4[rows, grid],
        pixel_values_B3HW=batch.pixel_values_B3HW[images],
        tasks=[batch.tasks[i] for i in images],
    )


def outputs(model, batch):
    """Prefix of each region and predictions, by region id."""
    features = model.frozen_features(batch)
    prefix = model.prefix(model.query_outputs(features), batch.region_tasks())
    prefix = prefix.unflatten(0, (batch.num_regions, -1))
    predictions = model.generate(batch, Decoding(max_new_tokens=6))
    assert [p.region_id for p in predictions] == batch.region_ids
    return {p.region_id: (row, p) for row, p in zip(prefix, predictions, strict=True)}


def assert_same(one, other):
    assert one.keys() <= other.keys()
    for region_id, (row, prediction) in one.items():
        row_there, prediction_there = other[region_id]
        torch.testing.assert_close(row, row_there, atol=1e-4, rtol=1e-4)
        assert prediction.caption == prediction_there.caption
        assert prediction.log_prob == pytest.approx(prediction_there.log_prob, abs=1e-4)
        assert prediction.predicted_ious == pytest.approx(prediction_there.predicted_ious, abs=1e-4)
