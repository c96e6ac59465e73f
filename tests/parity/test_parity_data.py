"""The data path against recorded outputs of the original, unmodified code.

`python -m pytest tests/parity/test_parity_data.py --parity-dir DIR` checks every folder of DIR (or
DIR itself) whose meta.json describes samples and cases.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from recorded import FIXTURES
from recorded_data import cases, data_folders, word_decoder

from sca_bench.data.pipeline.collate import collate
from sca_bench.data.pipeline.dataset import PLAIN
from sca_bench.data.pipeline.jitter import has_area, jitter_boxes, plan_jitter
from sca_bench.models.text_decoder.decoder import IGNORED
from sca_bench.specs.encoders import IMAGENET

TOLERANCE = {"atol": 1e-4, "rtol": 0}


def pytest_generate_tests(metafunc):
    root = Path(metafunc.config.getoption("--parity-dir") or FIXTURES)
    if "recorded_case" in metafunc.fixturenames:
        found = [case for folder in data_folders(root) for case in cases(folder).values()]
        names = [f"{case.folder.name}-{case.name}" for case in found]
        # One case for "there is none" keeps pytest from reporting an empty set as a bare skip.
        metafunc.parametrize("recorded_case", found or [None], ids=names or ["none"], indirect=True)


@pytest.fixture
def recorded_case(request):
    if request.param is None:
        root = request.config.getoption("--parity-dir")
        pytest.skip(f"no folder of {root} has a meta.json with samples and cases")
    return request.param


@pytest.fixture
def samples(recorded_case):
    """Our sample of every image; None where the original lost all of its regions."""
    dataset = recorded_case.dataset
    if recorded_case.case["split"] != "train":
        return [dataset.view(place, PLAIN) for place in recorded_case.places]
    drawn = recorded_case.draws()
    return [
        dataset.sample(place, drawn[place]) if is_there(recorded_case, place) else None
        for place in recorded_case.places
    ]


def is_there(recorded_case, place):
    boxes = recorded_case.get(place, "input_boxes")
    return boxes is not None and len(boxes) > 0


def test_the_fixtures_record_data():
    assert data_folders(FIXTURES)


def test_every_recorded_tensor_is_compared(recorded_case):
    known = re.compile(
        r"(\d+|batch)\.(input_boxes|pixel_values|original_sizes|reshaped_input_sizes"
        r"|metadata_(image_id|region_id|input_boxes))|\d+\.augmented_image"
        r"|batch\.(input_ids|labels|attention_mask)"
    )
    prefix = f"{recorded_case.name}."
    names = [n.removeprefix(prefix) for n in recorded_case.tensors if n.startswith(prefix)]
    assert names
    assert [name for name in names if not known.fullmatch(name)] == []


def test_regions_and_captions_come_in_the_recorded_order(recorded_case, samples):
    regions = recorded_case.dataset.region_set
    for place, sample in enumerate(samples):
        if sample is None:
            continue
        numbers = [recorded_case.number(region_id) for region_id in sample.region_ids]
        assert numbers == recorded_case.get(place, "metadata_region_id").tolist()
        assert list(sample.captions) == recorded_case.case["captions"][place]
        by_id = {region.region_id: region for region in regions.regions_of(f"{place}/image")}
        original = [by_id[region_id].box_xyxy for region_id in sample.region_ids]
        expected = recorded_case.get(place, "metadata_input_boxes").tolist()
        assert [list(box) for box in original] == expected
        image_id = recorded_case.meta["samples"][place]["image_id"]
        assert set(recorded_case.get(place, "metadata_image_id").tolist()) == {image_id}


def test_boxes_and_sizes(recorded_case, samples):
    for place, sample in enumerate(samples):
        if sample is None:
            continue
        expected = recorded_case.get(place, "input_boxes").float()
        assert torch.equal(sample.boxes_xyxy_input_R4, expected)
        resized = recorded_case.get(place, "reshaped_input_sizes").tolist()
        assert list(sample.input_size_hw) == resized
        record = recorded_case.dataset.region_set.images[f"{place}/image"]
        side = recorded_case.meta["image_size"]
        shown = [side, side] if recorded_case.jittered else [record.height, record.width]
        assert recorded_case.get(place, "original_sizes").tolist() == shown


def test_an_image_that_lost_its_regions_has_none_with_area(recorded_case):
    if not recorded_case.jittered:
        return
    low, high = recorded_case.case["lsj"]
    dataset = recorded_case.dataset
    for place, drawn in enumerate(recorded_case.draws()):
        record = dataset.region_set.images[f"{place}/image"]
        ((share, offset),) = drawn.cuts
        jitter = plan_jitter(
            (record.height, record.width),
            dataset.image_size,
            low + (high - low) * share,
            offset,
            mirrored=drawn.coin,
            as_published=True,
        )
        boxes = jitter_boxes([r.box_xyxy for r in dataset.regions_at(place)], jitter)
        assert has_area(boxes).any() == is_there(recorded_case, place)


def test_pixels(recorded_case, samples):
    for place, sample in enumerate(samples):
        if sample is None:
            continue
        expected = recorded_case.get(place, "pixel_values")
        if expected is not None:
            torch.testing.assert_close(sample.pixels_3SS, expected, **TOLERANCE)
        augmented = recorded_case.get(place, "augmented_image")
        assert (augmented is not None) == recorded_case.jittered
        if augmented is not None:
            normal = sample.pixels_3SS.permute(1, 2, 0).double().numpy()
            pixels = normal * np.array(IMAGENET.std) + np.array(IMAGENET.mean)
            np.testing.assert_allclose(pixels, np.rint(pixels), atol=1e-3)
            np.testing.assert_array_equal(np.rint(pixels).astype(np.uint8), augmented.numpy())


def test_tokens(recorded_case, samples):
    meta = recorded_case.meta
    decoder, most = word_decoder(meta), meta["model_max_length"] - 2
    for place, sample in enumerate(samples):
        if sample is None:
            continue
        tokens = decoder.tokenize(list(sample.captions), most)
        lengths = (tokens.labels_NT != IGNORED).sum(1).tolist()
        ids = [row[:n] for row, n in zip(tokens.ids_NT.tolist(), lengths, strict=True)]
        assert ids == recorded_case.case["input_ids"][place]


def test_the_collated_batch(recorded_case, samples):
    """The original cuts all images to the fewest regions; we pad, so only those are compared."""
    meta = recorded_case.meta
    recorded_ids = recorded_case.get("batch", "input_ids")
    if recorded_ids is None:
        assert not any(samples)
        return
    kept = [sample for sample in samples if sample is not None][: len(recorded_ids)]
    places = [place for place, sample in enumerate(samples) if sample is not None][: len(kept)]
    batch = collate(kept).to("cpu")
    counts = [len(sample.region_ids) for sample in kept]
    fewest = min(counts)
    assert recorded_ids.shape[:2] == (len(kept), fewest)

    def cut(rows):
        return torch.stack([part[:fewest] for part in rows.split(counts)])

    tokens = word_decoder(meta).tokenize(batch.captions, meta["model_max_length"] - 2)
    labels, mask = cut(tokens.labels_NT), cut((tokens.labels_NT != IGNORED).long())
    recorded_mask = recorded_case.get("batch", "attention_mask")
    assert torch.equal(mask, recorded_mask)
    assert torch.equal(cut(tokens.ids_NT) * mask, recorded_ids * recorded_mask)
    shifted = recorded_case.get("batch", "labels")
    assert (shifted[..., 0] == IGNORED).all()
    assert torch.equal(labels, shifted[..., 1:])
    boxes = recorded_case.get("batch", "input_boxes").float()
    assert torch.equal(batch.boxes_xyxy_input_BR4[:, :fewest], boxes)
    pixels = recorded_case.get("batch", "pixel_values")
    if pixels is not None:
        torch.testing.assert_close(batch.pixel_values_B3HW, pixels, **TOLERANCE)
    resized = recorded_case.get("batch", "reshaped_input_sizes")
    assert [list(size) for size in batch.input_sizes_hw] == resized.tolist()
    assert batch.tasks == [meta["samples"][place]["task_type"] for place in places]
    for key in (
        "metadata_region_id",
        "metadata_image_id",
        "metadata_input_boxes",
        "original_sizes",
    ):
        parts = [recorded_case.get(place, key) for place in places]
        cut_parts = parts if key == "original_sizes" else [part[:fewest] for part in parts]
        assert torch.equal(recorded_case.get("batch", key), torch.stack(cut_parts)), key
