"""Kept features are read by whoever loads the batch, before the step that needs them."""

import dataclasses
import pickle
import resource
from itertools import islice

import numpy as np
import pytest
import torch

from sca_bench.data.pipeline.dataset import ViewDataset
from sca_bench.engine import loaders
from sca_bench.engine.features import bank as bank_module
from sca_bench.engine.features.bank import Frozen
from sca_bench.engine.features.cache import Cache
from sca_bench.engine.features.fill import fill_bank
from sca_bench.engine.features.shards import DamagedRow, ShardStore
from sca_bench.engine.features.split_bank import open_bank
from sca_bench.errors import InputError
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.types import ImageRecord
from sca_bench.variants import get_variant

CPU = torch.device("cpu")
HALF = {"features.dtype": "float16", "features.encoder_dtype": "bfloat16"}


class Kept:
    """The tiny world's training split with its features kept, and its loaders."""

    def __init__(self, settings, folder, families):
        self.settings, self.cell = settings, CellIdentity(settings, {})
        self.sets, self.cache = loaders.load_splits(self.cell), Cache(folder)
        self.families = families
        spec = get_variant(settings.variant)
        torch.manual_seed(5)
        self.captioner = spec.load()(settings, spec.load_parts(settings))
        owners = dict.fromkeys(families, self.captioner)
        views = ViewDataset(self.dataset(True))
        fill_bank(self.cache, self.bank(), owners, views, settings, CPU)

    def bank(self):
        return open_bank(self.cache, self.cell, "train", self.sets["train"], self.families)

    def dataset(self, with_pixels=False):
        more = {"image_size": 96, "seed": 3, "with_pixels": with_pixels}
        return loaders.make_dataset(self.sets, "train", self.cell, **more)

    def batches(self, number, ahead=None, dataset=None):
        """Return the first training batches, moved as the engine moves them."""
        loader = loaders.train_loader(
            dataset or self.dataset(), self.settings, seed=3, start=0, ahead=ahead
        )
        return [batch.to("cpu") for batch in islice(loader, number)]


@pytest.fixture
def kept(cell_settings, tmp_path):
    def build(changes=None, families=("mixed", "prompts", "images")):
        return Kept(cell_settings(changes), tmp_path / "kept", families)

    return build


def assert_same(one, other):
    for field in dataclasses.fields(one):
        first, second = getattr(one, field.name), getattr(other, field.name)
        equal = torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second
        assert equal, field.name


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("changes", [{}, HALF], ids=["float32", "half"])
def test_a_process_reads_for_the_one_that_trains(kept, changes, monkeypatch):
    world = kept({**changes, "data.flip": "always"})
    late = world.bank()
    expected = [late.features(batch) for batch in world.batches(6)]
    assert all(expected)
    ahead = world.bank()
    for family in world.families:  # what is the same for all rows is read once, and stays
        ahead._of_all(family, CPU)
    travelled = pickle.loads(pickle.dumps(ahead))
    assert not any(store._mapped for store in travelled.stores.values())
    monkeypatch.setattr(ShardStore, "take", lambda *_: pytest.fail("read in the training process"))
    world.settings = world.settings.model_copy(
        update={"runtime": world.settings.runtime.model_copy(update={"loader_workers": 1})}
    )
    batches = world.batches(6, ahead.attach)
    for batch, features in zip(batches, expected, strict=True):
        assert batch.kept.features["tokens_NTC"].is_shared()
        assert_same(ahead.features(batch), features)


def test_a_loader_without_processes_reads_for_the_next_step(kept, monkeypatch):
    world = kept()
    late, ahead = world.bank(), world.bank()
    expected = [late.features(batch) for batch in world.batches(3)]
    batches = world.batches(3, ahead.attach)
    for family in world.families:
        ahead._of_all(family, CPU)
    monkeypatch.setattr(ShardStore, "take", lambda *_: pytest.fail("read in the step"))
    for batch, features in zip(batches, expected, strict=True):
        assert_same(ahead.features(batch), features)


def test_embeddings_are_read_once_however_many_images_have_them(kept):
    world = kept({"features.cache": "encoder"}, ("images",))
    bank = world.bank()
    (batch,) = world.batches(1, bank.attach)
    assert not batch.kept.features
    twice = dataclasses.replace(
        batch, image_ids=batch.image_ids[:1] * 2, kept=None, views=batch.views[:1] * 2
    )
    twice = bank.attach(twice)
    assert len(twice.kept.embeddings_KChw) == 1
    assert twice.kept.embedding_of == (0, 0)
    for each in (batch, twice):
        plain = dataclasses.replace(each, kept=None)
        first, second = (
            Frozen(world.settings.features, world.bank()).embedded(world.captioner, shown)
            for shown in (each, plain)
        )
        assert torch.equal(first.image_embeddings_BChw, second.image_embeddings_BChw)


def test_an_image_that_is_not_kept_is_encoded(kept):
    world = kept({"features.cache": "encoder"}, ("images",))
    bank = world.bank()
    (batch,) = world.batches(1, dataset=world.dataset(with_pixels=True))
    missing = bank.keys.images(batch)[1]
    del bank.stores["images"]._rows[missing]
    ahead = bank.attach(batch)
    assert ahead.kept.embedding_of == (0, None)
    frozen = Frozen(world.settings.features, bank)
    with torch.no_grad():
        found = frozen.embedded(world.captioner, ahead).image_embeddings_BChw
        expected = world.captioner.embed_images(batch.pixel_values_B3HW)
    assert frozen.encoder_forwards == 1
    assert torch.equal(found, expected)


def damage(world):
    for path in world.cache.root.glob("*/*.safetensors"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("workers", [0, 1])
def test_damage_is_named_whoever_meets_it(kept, workers):
    world = kept({"runtime.loader_workers": workers})
    bank = world.bank()
    for family in world.families:
        bank._of_all(family, CPU)
    damage(world)
    with pytest.raises(DamagedRow, match=r"^\S+: a row does not fit its checksum; .* run again$"):
        world.batches(20, bank.attach)
    whole = [store for store in world.bank().stores.values() if not store.damaged]
    assert len(whole) == 3  # the damaged shards are gone
    assert any(len(store) <= 1 for store in whole)


def test_a_shard_that_another_process_deleted_is_named(kept):
    world = kept()
    bank = world.bank()
    for path in world.cache.root.glob("*/*.safetensors"):
        path.unlink()
    with pytest.raises(DamagedRow, match=r"was deleted since it was opened; run again"):
        world.batches(1, bank.attach)


def refuse(record: ImageRecord):
    raise InputError("photo.jpg", record.image_id, "cannot be decoded", "fetch the image again")


@pytest.mark.usefixtures("process")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_fault_of_an_image_is_one_line_whoever_meets_it(cell_settings, workers):
    settings = cell_settings({"runtime.loader_workers": workers})
    cell = CellIdentity(settings, {})
    sets = loaders.load_splits(cell)
    sets["captioned"] = dataclasses.replace(sets["captioned"], loader=refuse)
    dataset = loaders.make_dataset(sets, "captioned", cell, image_size=96, seed=3, with_pixels=True)
    line = r"^photo\.jpg: \S+: cannot be decoded; fetch the image again$"
    with pytest.raises(InputError, match=line):
        list(loaders.eval_loader(dataset, settings))


def cramp(record: ImageRecord):
    """Load an image in a process whose files may hold nothing, shared memory among them."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    return np.zeros((record.height, record.width, 3), np.uint8)


@pytest.mark.usefixtures("process")
def test_no_room_in_shared_memory_is_one_line(cell_settings):
    """It was silence: torch moves a batch there in a thread, whose failure nobody hears of."""
    settings = cell_settings({"runtime.loader_workers": 1})
    cell = CellIdentity(settings, {})
    sets = loaders.load_splits(cell)
    sets["captioned"] = dataclasses.replace(sets["captioned"], loader=cramp)
    dataset = loaders.make_dataset(sets, "captioned", cell, image_size=96, seed=3, with_pixels=True)
    line = r"^settings: runtime\.loader_workers: 1: there is no room for their batches in shared m"
    with pytest.raises(InputError, match=line):
        list(loaders.eval_loader(dataset, settings))


def test_a_batch_in_shared_memory_is_the_same_batch(kept):
    (batch,) = kept().batches(1)
    shared = dataclasses.replace(batch, original_images=[torch.ones(2, 2, 3)]).share_memory()
    assert shared.boxes_xyxy_input_BR4.is_shared()
    assert shared.original_images[0].is_shared()
    assert_same(dataclasses.replace(shared, original_images=None), batch)


def test_images_are_encoded_a_few_at_a_time_and_to_the_same_numbers(kept, monkeypatch):
    """A GPU captions hundreds of regions together, whose images would take all of its memory."""
    world = kept({"features.cache": "encoder"}, ("images",))
    (batch,) = world.batches(1, dataset=world.dataset(with_pixels=True))
    sizes, inner = [], world.captioner.embed_images

    def embed(pixels):
        sizes.append(len(pixels))
        return inner(pixels)

    monkeypatch.setattr(world.captioner, "embed_images", embed)
    found = []
    for most in (16, 1):
        monkeypatch.setattr(bank_module, "IMAGES_AT_A_TIME", most)
        with torch.no_grad():
            frozen = Frozen(world.settings.features)
            found.append(frozen.embedded(world.captioner, batch).image_embeddings_BChw)
    assert sizes == [2, 1, 1]
    assert torch.equal(*found)


@pytest.mark.parametrize("knows", [True, False])
def test_a_loaders_process_does_without_a_private_name_of_torch(knows, monkeypatch):
    monkeypatch.setattr(bank_module, "get_worker_info", lambda: "a process")
    if not knows:
        monkeypatch.setattr(torch.UntypedStorage, "_new_shared", None)
    made = bank_module._empty((2, 3), torch.bfloat16, pinned=True)
    assert (made.shape, made.dtype, made.is_shared()) == ((2, 3), torch.bfloat16, knows)
