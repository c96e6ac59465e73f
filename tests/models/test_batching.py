"""On a CPU, frozen features do not depend on how images and regions are batched: not in a bit."""

from __future__ import annotations

import contextlib

import pytest
import torch

from sca_bench.batch import RegionBatch
from sca_bench.engine.worker.cell_group import autocast
from sca_bench.models.sam.region_encoder import RegionEncoder
from sca_bench.models.sam.sam import build_sam

REGIONS_OF_IMAGES = (3, 1, 5, 2, 4, 3, 7)
BATCHES = {
    "all": [[0, 1, 2, 3, 4, 5, 6]],
    "singles": [[0], [1], [2], [3], [4], [5], [6]],
    "backwards": [[6, 5, 4, 3], [2, 1, 0]],
    "mixed": [[4, 0], [2], [6, 1, 3, 5]],
}
FAMILIES = ("mixed", "prompts", "images")
PER_REGION = ("ious_NM", "mask_logits_NMhw", "tokens_NTC", "image_tokens_NSC", "prompt_tokens_NPC")
PROMPTS = ("box", "point", "box_point", "mask_point")


@pytest.fixture(scope="module")
def sam():
    return build_sam("tiny")


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def _threads(request):
    found = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(found)


@pytest.fixture(scope="module")
def scene():
    """Pixels, and of each image its boxes, points and labels."""
    generator = torch.Generator().manual_seed(4)
    pixels = torch.randn(len(REGIONS_OF_IMAGES), 3, 96, 96, generator=generator)
    prompts = []
    for count in REGIONS_OF_IMAGES:
        corners = torch.rand(count, 2, generator=generator) * 60
        points = torch.rand(count, 1, 2, generator=generator) * 96
        prompts.append((torch.cat([corners, corners + 30], dim=1), points, torch.ones(count, 1)))
    return pixels, prompts


def batch_of(scene, images, prompt, keep=slice(None)):
    pixels, prompts = scene
    kept = {i: [x[keep] for x in prompts[i]] for i in images}
    counts = [len(kept[i][0]) for i in images]
    boxes, points, labels = (
        torch.nn.utils.rnn.pad_sequence([kept[i][part] for i in images], batch_first=True)
        for part in range(3)
    )
    numbers = {i: list(range(REGIONS_OF_IMAGES[i]))[keep] for i in images}
    return RegionBatch(
        image_ids=[str(i) for i in images],
        region_ids=[f"{i}-{r}" for i in images for r in numbers[i]],
        region_mask_BR=torch.arange(max(counts)) < torch.tensor(counts)[:, None],
        boxes_xyxy_input_BR4=None if prompt == "point" else boxes,
        points_xy_input_BRP2=points if "point" in prompt and prompt != "mask_point" else None,
        point_labels_BRP=labels if "point" in prompt and prompt != "mask_point" else None,
        pixel_values_B3HW=pixels[images],
        mask_point_seed=5 if prompt == "mask_point" else None,
    )


def features(encoder, batch):
    """Everything the encoder yields, by image or region id."""
    found = encoder(batch, families=FAMILIES, with_masks=True)
    rows = {f"image {i}": (e,) for i, e in zip(batch.image_ids, found.embeddings_BChw, strict=True)}
    columns = [found.need(name) for name in PER_REGION]
    return rows | dict(zip(batch.region_ids, zip(*columns, strict=True), strict=True))


def assert_equal(one, other):
    assert one.keys() <= other.keys()
    for name, tensors in one.items():
        for tensor, there in zip(tensors, other[name], strict=True):
            assert torch.equal(tensor, there), name


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("prompt", PROMPTS)
def test_features_do_not_depend_on_the_batch(sam, scene, prompt):
    encoder = RegionEncoder(sam)
    alone = {}
    for image in range(len(REGIONS_OF_IMAGES)):
        alone |= features(encoder, batch_of(scene, [image], prompt))
    for batches in BATCHES.values():
        for images in batches:
            assert_equal(features(encoder, batch_of(scene, images, prompt)), alone)
    some = slice(None, None, 2)
    assert_equal(features(encoder, batch_of(scene, [5, 2], prompt, some)), alone)


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("case", ["pooled", "bf16", "single mask"])
def test_neither_do_those_of_other_settings(sam, scene, case):
    options = {"pooled": {"image_grid": 5}, "single mask": {"multimask_output": False}}
    encoder = RegionEncoder(sam, **options.get(case, {}))
    context = autocast(torch.device("cpu"), "bf16") if case == "bf16" else contextlib.nullcontext()
    with context, torch.no_grad():
        whole = features(encoder, batch_of(scene, list(range(7)), "box"))
        for images in BATCHES["mixed"]:
            assert_equal(features(encoder, batch_of(scene, images, "box")), whole)


def test_with_gradient_the_batch_stays_whole(sam, scene, monkeypatch):
    heights = []
    whole = type(sam.image_encoder).forward
    monkeypatch.setattr(
        type(sam.image_encoder), "forward", lambda self, x: heights.append(len(x)) or whole(self, x)
    )
    batch = batch_of(scene, [0, 1], "box")
    prompts = sam.encode_prompts(batch.prompt_boxes())
    index = batch.image_index()

    def run():
        embeddings = sam.encode_images(batch.pixel_values_B3HW)
        tokens, image = sam.mix(embeddings, index, prompts)
        return embeddings, tokens, image, sam.predicted_ious(tokens), sam.mask_logits(tokens, image)

    batched = run()
    assert heights == [2]
    with torch.no_grad():
        single = run()
    assert heights == [2, 1, 1]
    for one, other in zip(batched, single, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_batch_without_regions_has_no_features(sam):
    with torch.no_grad():
        prompts = sam.encode_prompts(torch.zeros(0, 4))
        tokens, image = sam.mix(torch.randn(1, 96, 12, 12), torch.zeros(0, dtype=int), prompts)
        assert (len(tokens), len(image)) == (0, 0)
        assert sam.predicted_ious(tokens).shape == (0, 4)
        assert sam.mask_logits(tokens, image).shape == (0, 4, 48, 48)
