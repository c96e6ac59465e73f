"""A training step of ours never makes the host wait for the device.

Shown on the meta device, whose tensors have no content: whatever asks for one fails. One wait is
left: transformers looks once a forward whether position ids belong to packed sequences.
"""

import pytest
import torch
from transformers import masking_utils

from sca_bench.data.pipeline.collate import collate
from sca_bench.engine import loaders
from sca_bench.models.text_decoder.decoder import IGNORED, CaptionTokens
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.variants import SCA_PARTS, all_variants, get_variant

NAMES = [
    name
    for name, spec in all_variants().items()
    if spec.trains == "gradient" and spec.parts == SCA_PARTS
]


@pytest.fixture
def batch(cell_settings):
    cell = CellIdentity(cell_settings(), {})
    sets = loaders.load_splits(cell)
    dataset = loaders.make_dataset(
        sets, "train", cell, image_size=96, seed=0, with_pixels=True, training=False
    )
    return collate([dataset.view(i, 0) for i in range(len(dataset))]).to("cpu")


@pytest.mark.parametrize(
    ("variant", "published"), [*((name, []) for name in NAMES), ("sca_mask_heads", ["loss"])]
)
def test_a_step_asks_for_no_content(cell_settings, batch, variant, published, monkeypatch):
    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", lambda ids: None)
    settings = cell_settings({"variant": variant, "train.as_published": published})
    spec = get_variant(variant)
    captioner = spec.load()(settings, spec.load_parts(settings))
    expected = captioner.loss(batch)
    captioner.train()
    away = batch.to("meta")
    captioner.to("meta")
    features = captioner.frozen_features(away, families=spec.families(settings))
    loss = captioner.loss(away)
    loss.backward()
    parameters = [p for p in captioner.parameters() if p.requires_grad]
    norm = torch.nn.utils.clip_grad_norm_([p for p in parameters if p.grad is not None], 1.0)
    assert all(x.device.type == "meta" for x in (loss, norm, features.ious_NM))
    with pytest.raises((RuntimeError, NotImplementedError)):
        loss.item()
    assert expected.isfinite()


def test_a_batch_on_a_device_knows_its_regions_by_heart(batch):
    away = batch.to("meta")
    assert away.image_index().shape == batch.image_index().shape
    assert away.prompt_boxes().shape == batch.prompt_boxes().shape
    assert away.region_tasks() == batch.region_tasks()
    assert away.per_region(away.image_ids) == batch.per_region(batch.image_ids)
    assert torch.equal(batch.prompt_boxes(), batch.boxes_xyxy_input_BR4[batch.region_mask_BR])
    assert torch.equal(batch.image_index(), batch.region_mask_BR.nonzero()[:, 0])


@pytest.mark.parametrize("repeats", [1, 3])
def test_needed_places_are_those_of_the_labels(repeats):
    labels = torch.tensor([[4, 5, IGNORED], [6, IGNORED, IGNORED], [7, 8, 9]])
    wanted = (labels.flatten() != IGNORED).nonzero()[:, 0]
    tokens = CaptionTokens(labels.clamp(min=0), labels, wanted).repeat_interleave(repeats)
    found = (tokens.labels_NT.flatten() != IGNORED).nonzero()[:, 0]
    assert torch.equal(tokens.wanted_K, found)
