"""A loader's batches go over to a GPU from pinned memory, and nobody waits for them."""

from functools import partial
from itertools import islice

import pytest
import torch

from sca_bench.batch import RegionBatch
from sca_bench.data.pipeline.dataset import ViewDataset
from sca_bench.engine import loaders
from sca_bench.engine.features.cache import Cache
from sca_bench.engine.features.fill import fill_bank
from sca_bench.engine.features.split_bank import open_bank
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.variants import get_variant


@pytest.fixture
def world(cell_settings, tmp_path):
    """Return a function that gives a training loader, and the bank of its features."""

    def build(changes, with_pixels):
        settings = cell_settings({**changes, "train.images_per_batch": 4})
        cell, cache = CellIdentity(settings, {}), Cache(tmp_path / "kept")
        sets = loaders.load_splits(cell)

        def dataset(with_pixels):
            more = {"image_size": 96, "seed": 3, "with_pixels": with_pixels}
            return loaders.make_dataset(sets, "train", cell, **more)

        bank = ahead = None
        if not with_pixels:
            spec = get_variant("sca")
            captioner = spec.load()(settings, spec.load_parts(settings))
            shown = ViewDataset(dataset(True))
            bank = open_bank(cache, cell, "train", sets["train"], ("mixed",))
            fill_bank(cache, bank, {"mixed": captioner}, shown, settings, torch.device("cpu"))
            ahead = partial(bank.attach, pinned=True)
        loader = loaders.train_loader(
            dataset(with_pixels), settings, seed=3, start=0, pin_memory=True, ahead=ahead
        )
        return loader, bank

    return build


WHAT = {
    "pixels": ({}, True),
    "features": ({}, False),
    "half": ({"features.dtype": "float16"}, False),
}


@pytest.mark.parametrize("what", WHAT)
def test_nothing_waits_and_nothing_large_is_pageable(world, ghost, what):
    loader, bank = world(*WHAT[what])
    there, here = [], []
    for number, batch in enumerate(islice(loader, 3)):
        if number == 1:  # what all rows share goes over once
            ghost.clear()
        here.append(batch.to("cpu"))
        batch = batch.to("cuda")
        there.append(batch.pixel_values_B3HW if what == "pixels" else bank.features(batch))
    assert not ghost.waits, ghost
    assert not ghost.pageable(), ghost
    assert any(entry.num_bytes > 2**16 for entry in ghost.of("pinned copy")), ghost
    for batch, given in zip(here, there, strict=True):
        if what == "pixels":
            assert torch.equal(given.cpu(), batch.pixel_values_B3HW)
        else:
            expected = bank.features(batch)
            assert torch.equal(given.image_tokens_NSC.cpu(), expected.image_tokens_NSC)
            assert given.image_index_N.tolist() == expected.image_index_N.tolist()


def test_without_pinning_the_journal_would_tell(world, ghost, monkeypatch):
    """This is how it was: torch's loader hands back what it does not know how to pin."""
    monkeypatch.delattr(RegionBatch, "pin_memory")
    loader, _ = world({}, True)
    next(iter(loader)).to("cuda")
    assert ghost.pageable()
