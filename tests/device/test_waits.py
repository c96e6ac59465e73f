"""A budget: an ordinary training step on CUDA makes the host wait for nothing.

No content is read, no copy blocks, none of more than 64 KiB and no part of a batch leaves from
pageable memory, and a generated token costs a wait at most. Failures print the journal.
"""

import itertools
from collections import Counter

import pytest
import torch

from baselines.grit import model as grit
from baselines.grit.preprocess import Preparation
from device.cells import DESIGNS, job_of, run, smallest
from sca_bench.contract.captioners.cell import TINY
from sca_bench.contract.captioners.toy import toy_batch
from sca_bench.engine.features.shards import ShardStore
from sca_bench.engine.worker import hooks
from sca_bench.engine.worker.cell_group import CellGroup
from sca_bench.models.sca import ScaCaptioner
from sca_bench.models.text_decoder.decoder import IGNORED, CaptionTokens, TextDecoder
from sca_bench.specs.encoders import sam_dims
from sca_bench.variants import get_variant

pytestmark = pytest.mark.usefixtures("training")

ORDINARY = {
    "train.steps": 9,
    "train.val_every": 9,
    "runtime.log_every": 9,
    "runtime.checkpoint_every": 9,
    "mixer.dropout": 0.1,
}
AS_PUBLISHED = {
    "mixer.as_published": True,
    "train.as_published": ["loss"],
    "eval.select": "first",
}
PUBLISHED = [
    {"variant": name, **AS_PUBLISHED} for name in DESIGNS if get_variant(name).as_published
]
CELLS = [*({"variant": name} for name in DESIGNS), *PUBLISHED]

GRIT = 0
"""Waits of a step of GRiT; it may only fall."""


class Enough(Exception):
    """The step was seen."""


def over(journal):
    """Count what the host waits for, and copies from pageable memory that may make it wait.

    Those are the large ones, and all of a batch: they are large at the paper's size.
    """
    large = [e for e in journal.pageable(0) if e in journal.pageable() or " _each" in e.where]
    entries = [*journal.waits, *large]
    return Counter(f"{e.kind}: {e.what} in {e.where.split(' < ')[0].split()[-1]}" for e in entries)


@pytest.fixture
def step(ghost, tmp_path, monkeypatch):
    """Return a function: cells -> their third step is in the journal, from data to update."""

    def made(*cells):
        after = hooks.LogHook.after_train_iter

        def watched(self, runner, batch_idx, **rest):
            if batch_idx == 2:
                raise Enough
            after(self, runner, batch_idx, **rest)
            ghost.clear()

        files = tmp_path / "files"
        settings = [smallest(cell["variant"], files, ORDINARY, cell) for cell in cells]
        job = job_of(settings, tmp_path / "runs", "cuda")
        assert len({cell.identity.prefix_key for cell in job.cells}) == 1
        with monkeypatch.context() as patch:
            patch.setattr(hooks.LogHook, "after_train_iter", watched)
            with pytest.raises(Enough):
                run(job, prepares=job.cells[0].settings.features.cache != "off")
        return ghost

    return made


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: "-".join(map(str, c.values())))
def test_a_step_waits_for_nothing(cell, step):
    journal = step({**cell, "features.cache": "off"})
    assert over(journal) == Counter(), str(journal)


@pytest.mark.parametrize(
    ("cache", "precision"),
    [("off", "fp32"), ("encoder", "fp32"), ("all", "fp32"), ("off", "fp16"), ("all", "fp16")],
)
def test_nor_does_one_of_cells_in_lockstep(cache, precision, step):
    change = {"features.cache": cache, "train.precision": precision}
    journal = step(*({**cell, **change} for cell in CELLS))
    assert over(journal) == Counter(), str(journal)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_nor_does_one_of_cells_stepped_as_one(precision, step, monkeypatch):
    """Two of each design, side by side."""
    stacks, losses = [], ScaCaptioner.stacked_losses

    def counted(self, cells, *given):
        stacks.append(len(cells))
        return losses(self, cells, *given)

    def failed(self, stack, states, error):
        raise error

    monkeypatch.setattr(ScaCaptioner, "stacked_losses", counted)
    monkeypatch.setattr(CellGroup, "_undo", failed)
    change = {"train.precision": precision, "train.stacked": True, "features.cache": "all"}
    rates = ({}, {"train.learning_rate": 0.002})
    journal = step(*({**cell, **change, **rate} for cell in CELLS for rate in rates))
    assert stacks == [2] * len(CELLS) * 3
    assert over(journal) == Counter(), str(journal)


def test_a_step_of_grit_waits_less_and_less(step):
    losses = ({}, {"train.as_published": ["loss"]})
    journal = step(*({"variant": "grit_from_scratch", **loss} for loss in losses))
    assert sum(over(journal).values()) == GRIT, str(journal)


@pytest.mark.parametrize(
    ("variant", "cache", "images"),
    [("grit_from_scratch", "off", 0), ("sca", "all", 0), ("sca", "off", 1)],
)
def test_sams_input_is_sent_to_those_that_read_it(variant, cache, images, step):
    side = sam_dims(TINY["sam"]["size"]).image_size
    journal = step({"variant": variant, "features.cache": cache})
    sent = [entry for entry in journal.entries if entry.shape[-2:] == (side, side)]
    assert len(sent) == images, str(journal)


@pytest.mark.parametrize("beams", [1, 3])
def test_a_generated_token_costs_one_wait_at_most(beams, ghost, tmp_path, monkeypatch):
    generate, waits = TextDecoder.generate, {}

    def watched(self, prefix, decoding):
        before = len(ghost.waits)
        made = generate(self, prefix, decoding)
        waits[decoding.max_new_tokens] = len(ghost.waits) - before
        assert set(made.lengths_N.tolist()) == {decoding.max_new_tokens}
        return made

    monkeypatch.setattr(TextDecoder, "generate", watched)
    for tokens in (2, 5):
        changes = {"train.steps": 0, "eval.num_beams": beams, "eval.max_new_tokens": tokens}
        run(job_of([smallest("sca", tmp_path, changes)], tmp_path / f"runs{tokens}", "cuda"))
    assert waits[5] - waits[2] <= 3, str(ghost)
    assert waits[2] <= 2, str(ghost)


@pytest.mark.parametrize("beams", [1, 3])
def test_nor_does_one_of_grit_cost_more(beams, ghost, tmp_path, monkeypatch):
    search, waits = grit.search, {}

    def watched(*given, max_tokens, **more):
        before = len(ghost.waits)
        made = search(*given, max_tokens=max_tokens, **more)
        waits[max_tokens] = len(ghost.waits) - before
        assert made.ids_NKL.shape[2] == max_tokens
        return made

    monkeypatch.setattr(grit, "search", watched)
    for tokens in (2, 5):
        changes = {"eval.num_beams": beams, "eval.max_new_tokens": tokens}
        run(job_of([smallest("grit", tmp_path, changes)], tmp_path / f"runs{tokens}", "cuda"))
    assert waits == {3: 1, 6: 4}, str(ghost)


def test_a_batch_on_the_device_knows_its_regions_by_heart(ghost):
    batch = toy_batch()
    there = batch.to("cuda")
    ghost.clear()
    index, boxes = there.image_index(), there.prompt_boxes()
    assert there.region_tasks() == batch.region_tasks()
    assert there.per_region(there.image_ids) == batch.per_region(batch.image_ids)
    assert not over(ghost), str(ghost)
    assert torch.equal(index.cpu(), batch.region_mask_BR.nonzero()[:, 0])
    assert torch.equal(boxes.cpu(), batch.boxes_xyxy_input_BR4[batch.region_mask_BR])


@pytest.mark.parametrize("repeats", [1, 3])
def test_needed_places_are_those_of_the_labels(repeats):
    labels = torch.tensor([[4, 5, IGNORED], [6, IGNORED, IGNORED], [7, 8, 9]])
    wanted = (labels.flatten() != IGNORED).nonzero()[:, 0]
    tokens = CaptionTokens(labels.clamp(min=0), labels, wanted).repeat_interleave(repeats)
    found = (tokens.labels_NT.flatten() != IGNORED).nonzero()[:, 0]
    assert torch.equal(tokens.wanted_K, found)


@pytest.mark.parametrize(
    ("variant", "cache", "owner", "method"),
    [
        ("sca", "all", ShardStore, "take"),
        ("sca", "encoder", ShardStore, "take"),
        ("grit_from_scratch", "off", Preparation, "of"),
    ],
)
def test_what_can_be_done_ahead_is_not_left_to_a_step(
    variant, cache, owner, method, step, monkeypatch
):
    """Rows of a cache are read, and images resized, by whoever loads the batch."""
    done, real, train_step = [], getattr(owner, method), CellGroup.train_step
    begun, inside = itertools.count(1), [0]

    def watched(*given, **more):
        done.append(inside[0])
        return real(*given, **more)

    def numbered(self, *given, **more):
        inside[0] = next(begun)
        losses = train_step(self, *given, **more)
        inside[0] = 0
        return losses

    monkeypatch.setattr(owner, method, watched)
    monkeypatch.setattr(CellGroup, "train_step", numbered)
    step({"variant": variant, "features.cache": cache})
    assert next(begun) == 4
    assert 0 in done
    assert set(done) <= {0, 1}, "the first step reads what all rows share"
