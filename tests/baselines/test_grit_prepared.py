"""What GRiT reads of a batch is made on the host beforehand, and no number moves by that."""

import dataclasses
import pickle

import pytest
import torch
from grit_parts import CAPTIONS, batch, captioner, images, learner
from torchvision.ops import roi_align

from baselines.grit import proposals
from baselines.grit.config import STRIDES
from baselines.grit.pooling import pool_regions
from baselines.grit.preprocess import (
    ResizedImage,
    clean_boxes,
    pool_levels,
    resize,
    to_resized,
    widen_empty,
)
from baselines.grit.text_decoder import IGNORED
from sca_bench.batch import mean_over_images
from sca_bench.captioner import Decoding, PreparesBatches

SIZES_HW = [(480, 640), (60, 52), (480, 640), (97, 411), (60, 52)]
BOXES = [
    [(2, 3, 40, 30), (0, 0, 640, 480), (10, 10, 250, 240), (5, 5, 5, 40)],
    [(0, 0, 20, 50), (-9, 4, 70, 30)],
    [(100, 90, 460, 400)],
    [],
    [(30, 2, 47, 20), (1, 2, 52, 60)],
]
SAID = [CAPTIONS[n % 4] + " one two three"[: 4 * (n % 3)] for n in range(9)]
RECORDED = {
    "tokens": (3.285275459289551, 3.035743236541748, 2.842373847961426),
    "images": (3.2938385009765625, 3.0492162704467773, 2.854353427886963),
}
"""Losses of three steps, as the code before made them, which waited for the device 25 times."""


def shown():
    made = batch(images(*SIZES_HW), BOXES, SAID)
    return dataclasses.replace(made, tasks=["caption", "recognition"] * 2 + ["caption"])


def large(model, over="tokens"):
    """Let a model resize images so far that regions come from all three levels."""
    model.grit.config = dataclasses.replace(model.grit.config, short_side_px=448, long_side_px=640)
    model.loss_over = over
    return model.train()


# --- the same as before ---------------------------------------------------------------------------


def loss_before(model, given):
    """The loss as it was computed before: boxes, levels and targets read off tensors."""
    grit, config, boxes_N4 = model.grit, model.grit.config, given.original_boxes()
    counts, groups = given.region_mask_BR.sum(1).tolist(), {}
    rows_of_images = torch.arange(given.num_regions).split(counts)
    for image_HW3, rows_N in zip(given.original_images, rows_of_images, strict=True):
        if len(rows_N):
            image = resize(image_HW3, config.short_side_px, config.long_side_px)
            groups.setdefault(image.size_hw, []).append((image, rows_N))
    visual, order = [], []
    for members in groups.values():
        boxes = torch.cat(
            [
                widen_empty(to_resized(clean_boxes(boxes_N4[rows], image.original_hw), image))
                for image, rows in members
            ]
        )
        index = torch.cat([torch.full((len(rows),), i) for i, (_, rows) in enumerate(members)])
        pooled = pooled_before(grit.pooled_levels([i for i, _ in members]), boxes, index, 7)
        visual.append(grit.text_decoder.visual_tokens(pooled.flatten(2).transpose(1, 2)))
        order += [rows for _, rows in members]
    rows_N, end = torch.cat(order), config.text_decoder.end_token
    rows = [
        [model.begin_token(task), *model.tokenizer.encode(said)[: model.max_caption_tokens], end]
        for task, said in zip(given.region_tasks(), given.captions, strict=True)
    ]
    width = max(map(len, rows))
    ids_NT = torch.tensor([row + [IGNORED] * (width - len(row)) for row in rows])[rows_N]
    logits_NTV = grit.text_decoder.logits(torch.cat(visual), ids_NT[:, :-1].clamp(min=0)).float()
    targets, by_images = ids_NT[:, 1:], model.loss_over == "images"
    losses = torch.nn.functional.cross_entropy(
        logits_NTV.flatten(0, 1),
        targets.flatten(),
        ignore_index=IGNORED,
        label_smoothing=model.label_smoothing,
        reduction="none" if by_images else "mean",
    )
    if not by_images:
        return losses
    rows_K, places_K = (targets != IGNORED).nonzero(as_tuple=True)
    wanted_K = losses.view_as(targets)[rows_K, places_K]
    return mean_over_images(wanted_K, given.image_index()[rows_N][rows_K], len(given.image_ids))


def pooled_before(levels, boxes_N4, index_N, size):
    rois_N5 = torch.cat([index_N[:, None].to(boxes_N4), boxes_N4], dim=1)
    pooled = levels[0].new_zeros(len(boxes_N4), levels[0].shape[1], size, size)
    chosen_N = pool_levels(boxes_N4, len(levels))
    for number, level in enumerate(levels):
        rows = torch.nonzero(chosen_N == number).flatten()
        if len(rows):
            scale = 1 / STRIDES[number]
            cut = roi_align(level, rois_N5[rows], size, scale, sampling_ratio=0, aligned=True)
            pooled = pooled.index_copy(0, rows, cut)
    return pooled


@pytest.mark.parametrize("over", RECORDED)
def test_loss_and_gradients_are_those_of_before_in_a_bit(over):
    model, found = large(learner(2), over), []
    for compute in (loss_before, type(model).loss):
        model.zero_grad()
        loss = compute(model, shown())
        loss.backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
        found[-1]["loss"] = loss.detach()
    assert found[0].keys() == found[1].keys()
    assert any(name.startswith("grit.pyramid.p5") for name, g in found[0].items() if g.any())
    assert [n for n in found[0] if not torch.equal(found[0][n], found[1][n])] == []


@pytest.mark.parametrize("over", RECORDED)
def test_losses_are_those_that_were_recorded_before(over):
    model, losses = learner(2).train(), []
    model.loss_over = over
    learning = list(model.trainable_parameters().values())
    optimiser = torch.optim.AdamW(learning, lr=1e-3)
    for _ in RECORDED[over]:
        optimiser.zero_grad()
        loss = model.loss(shown())
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses == pytest.approx(RECORDED[over], abs=1e-5)


def test_regions_are_pooled_from_where_the_host_says():
    levels = [torch.randn(2, 3, 64 >> i, 64 >> i) for i in range(3)]
    boxes = torch.tensor([[0.0, 0, 50, 50], [0, 0, 500, 500], [0, 0, 300, 300], [5, 5, 60, 9]])
    index = torch.tensor([0, 1, 0, 1])
    expected = pooled_before(levels, boxes, index, 2)
    assert torch.equal(pool_regions(levels, boxes, index, 2), expected)
    assert torch.equal(pool_regions(levels, boxes, index, 2, [0, 2, 1, 0]), expected)
    assert not torch.equal(pool_regions(levels, boxes, index, 2, [0, 2, 1, 1]), expected)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_places_are_found_as_nonzero_finds_them(share):
    chosen_K = torch.rand(40, generator=torch.Generator().manual_seed(1)) < share
    found = proposals._places(chosen_K, int(chosen_K.sum()))
    assert torch.equal(found, chosen_K.nonzero().flatten())


# --- what a loader does ---------------------------------------------------------------------------


def prepared(model, given):
    """A batch as a loader's process gives it."""
    return pickle.loads(pickle.dumps(model.preparation()))(given)


def test_it_prepares_batches():
    assert isinstance(captioner(), PreparesBatches)


def test_what_was_prepared_gives_the_same_numbers():
    model, given = large(learner(2)), shown()
    ready = prepared(model, given)
    assert ready.original_images is None
    assert model.loss(ready).item() == model.loss(given).item()
    model = captioner()
    first, second = (
        model.generate(each, Decoding(2, 6)) for each in (given, prepared(model, given))
    )
    assert [(p.caption, p.log_prob) for p in first] == [(p.caption, p.log_prob) for p in second]


def test_images_of_one_size_stand_together_with_their_boxes():
    model, given = large(learner()), shown()
    groups = list(prepared(model, given).prepared.parts())
    assert [group.rows for group, *_ in groups] == [(0, 1, 2, 3, 6), (4, 5, 7, 8)]
    assert [group.image_index for group, *_ in groups] == [(0, 0, 0, 0, 1), (0, 0, 1, 1)]
    assert groups[0][0].levels == (0, 2, 0, 0, 1)
    config, numbers = model.grit.config, [[0, 2], [1, 4]]
    for (group, resized, boxes_N4), places in zip(groups, numbers, strict=True):
        assert len(resized) == 2
        for found, place in zip(resized, places, strict=True):
            assert isinstance(found, ResizedImage)
            again = resize(given.original_images[place], config.short_side_px, config.long_side_px)
            assert torch.equal(found.pixels_hw3, again.pixels_hw3)
            assert found.original_hw == again.original_hw
        assert pool_levels(boxes_N4, 3).tolist() == list(group.levels)


def test_a_batch_without_regions_can_be_prepared():
    model = captioner()
    ready = prepared(model, batch(images((40, 40)), [[]]))
    assert ready.prepared.groups == ()
    assert model.generate(ready, Decoding(1, 3)) == []
