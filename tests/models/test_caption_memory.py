"""What a region takes is estimated from above, and not by much."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from sca_bench.captioner import Decoding, KnowsItsMemory
from sca_bench.engine.measure.step_memory import _LiveBytes


def peak(model, batch, decoding):
    """Bytes alive at the highest point of a captioning, features included."""
    features = model.frozen_features(batch)
    kept = [x for x in vars(features).values() if isinstance(x, torch.Tensor)]
    with torch.no_grad(), _LiveBytes() as meter:
        model.generate_ids(features, batch.region_tasks(), decoding)
    return meter.peak + sum(x.numel() * x.element_size() for x in kept)


def repeated(batch, times):
    """The same images with as many times the regions."""
    names = [f"{n}.{name}" for name in batch.region_ids for n in range(times)]
    return dataclasses.replace(
        batch,
        region_ids=names,
        region_mask_BR=batch.region_mask_BR.repeat_interleave(times, 1),
        boxes_xyxy_input_BR4=batch.boxes_xyxy_input_BR4.repeat_interleave(times, 1),
        captions=[c for c in batch.captions for _ in range(times)],
        tasks=None,
    )


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("variant", ["sca", "sca_split_mixer", "sca_roi_align", "sca_mask_heads"])
def test_a_region_takes_no_more_than_is_said(make_model, batch, variant, beams):
    model, decoding = make_model(variant=variant), Decoding(beams, 19)
    assert isinstance(model, KnowsItsMemory)
    few, many = (repeated(batch, times) for times in (1, 5))
    more = len(many.region_ids) - len(few.region_ids)
    measured = (peak(model, many, decoding) - peak(model, few, decoding)) / more
    said = model.caption_bytes(decoding)
    assert 0.1 * said < measured < said


def test_a_large_vocabulary_counts(make_model):
    model = make_model()
    small = model.caption_bytes(Decoding(3, 19))
    model.text_decoder.language_model.config.vocab_size += 100_000
    try:
        assert model.caption_bytes(Decoding(3, 19)) - small == 3 * 4 * 4 * 100_000
    finally:
        model.text_decoder.language_model.config.vocab_size -= 100_000
