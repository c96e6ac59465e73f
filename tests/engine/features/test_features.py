"""Frozen features on disk: each family in a store of its own, and no number moved by them."""

import dataclasses
import multiprocessing
import threading

import pytest
import torch

from sca_bench.captioner import Decoding
from sca_bench.data.pipeline.collate import collate
from sca_bench.data.pipeline.dataset import ViewDataset
from sca_bench.engine import loaders
from sca_bench.engine.features.bank import FeatureBank, Frozen, Keys, to_rows
from sca_bench.engine.features.cache import Cache, locked
from sca_bench.engine.features.fill import check_embeddings, fill_bank
from sca_bench.engine.features.split_bank import needs_pixels, sams_shapes
from sca_bench.errors import InputError, at
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.variants import get_variant

FAMILIES = ("mixed", "prompts", "images")
"""What SCA's designs read; boxes around masks are for captioners of crops."""
PUBLISHED = {"mixer.as_published": True, "eval.select": "first"}
CASES = {
    "sca": {"variant": "sca"},
    "sca_pooled": {"variant": "sca", "mixer.image_grid": 4},
    "sca_split_mixer": {"variant": "sca_split_mixer"},
    "sca_split_mixer_pooled": {"variant": "sca_split_mixer", "mixer.image_grid": 4},
    "sca_sam_query": {"variant": "sca_sam_query"},
    "sca_sam_query_published": {"variant": "sca_sam_query", **PUBLISHED},
    "sca_sam_query_v1": {"variant": "sca_sam_query_v1"},
    "sca_sam_query_v1_published": {"variant": "sca_sam_query_v1", **PUBLISHED},
    "sca_mask_heads": {"variant": "sca_mask_heads"},
    "sca_mask_heads_published": {"variant": "sca_mask_heads", **PUBLISHED},
    "sca_roi_align": {"variant": "sca_roi_align"},
    "sca_roi_align_mlp": {"variant": "sca_roi_align", "prefix.projection": "mlp"},
}


@pytest.fixture(scope="module")
def parts():
    return {}


@pytest.fixture
def built(cell_settings, parts):
    """Return a function that builds a captioner and its settings; SAM is loaded once."""

    def build(changes):
        settings = cell_settings(changes)
        spec = get_variant(settings.variant)
        if "shared" not in parts:
            parts["shared"] = spec.load_parts(settings)
        torch.manual_seed(5)
        return spec.load()(settings, parts["shared"]), settings

    return build


@pytest.fixture
def views(cell_settings):
    """Return a function that gives every training image of the tiny world."""

    def build(settings=None):
        cell = CellIdentity(settings or cell_settings(), {})
        sets = loaders.load_splits(cell)
        dataset = loaders.make_dataset(
            sets, "train", cell, image_size=96, seed=0, with_pixels=True, training=False
        )
        return ViewDataset(dataset)

    return build


@pytest.fixture
def batches(views):
    """All training images of the tiny world, as one batch, with every region in order."""
    shown = views()
    return [collate([shown[i] for i in range(len(shown))]).to("cpu")]


def open_bank(root, settings, families=None):
    cache = Cache(root)
    families = families or CellIdentity(settings, {}).families
    stores = {f: cache.store(f) for f in dict.fromkeys((*families, "images"))}
    return FeatureBank(stores, families, Keys(lambda image: f"c{image}"), settings.features)


def fill(root, views, captioner, settings, families=None):
    bank = open_bank(root, settings, families)
    owners = dict.fromkeys(bank.families, captioner)
    device = torch.device("cpu")
    kept = fill_bank(Cache(root), bank, owners, views, settings, device)
    return bank, kept


@pytest.mark.parametrize("case", CASES)
def test_a_bank_moves_no_number_of_any_variant(built, views, batches, tmp_path, case):
    captioner, settings = built(CASES[case])
    bank, _ = fill(tmp_path, views(), captioner, settings)
    lean = dataclasses.replace(batches[0], pixel_values_B3HW=None)
    cached = dataclasses.replace(lean, features=bank.features(lean))
    embedded = Frozen(settings.features, bank).embedded(captioner, lean)
    loss = captioner.loss(batches[0])
    assert torch.equal(captioner.loss(cached), loss)
    assert torch.equal(captioner.loss(embedded), loss)
    decoding = Decoding(max_new_tokens=5)
    for one, two in zip(
        captioner.generate(cached, decoding), captioner.generate(batches[0], decoding), strict=True
    ):
        assert dataclasses.replace(one, seconds=0) == dataclasses.replace(two, seconds=0)


def test_rows_are_found_whatever_the_order(built, views, batches, tmp_path):
    captioner, settings = built({})
    bank, _ = fill(tmp_path, views(), captioner, settings, FAMILIES)
    whole = bank.features(batches[0])
    counts = batches[0].region_mask_BR.sum(1).tolist()
    first, last = range(counts[0]), range(sum(counts[:-1]), sum(counts))
    rows = [*reversed(last), *reversed(first)]
    mask = torch.zeros(2, max(counts), dtype=torch.bool)
    mask[0, : counts[-1]], mask[1, : counts[0]] = True, True
    turned = dataclasses.replace(
        batches[0],
        image_ids=[batches[0].image_ids[-1], batches[0].image_ids[0]],
        region_ids=[batches[0].region_ids[row] for row in rows],
        region_mask_BR=mask,
        boxes_xyxy_input_BR4=torch.zeros(2, max(counts), 4),
        views=[0, 0],
    )
    found = bank.features(turned)
    for name in ("tokens_NTC", "image_tokens_NSC", "ious_NM", "prompt_tokens_NPC"):
        assert torch.equal(getattr(found, name), getattr(whole, name)[rows]), name
    assert torch.equal(found.embeddings_BChw, whole.embeddings_BChw[[-1, 0]])
    assert found.image_index_N.tolist() == [0] * counts[-1] + [1] * counts[0]
    assert found.num_images == 2


def test_embeddings_are_kept_once_per_image(built, views, batches, tmp_path):
    captioner, settings = built({})
    bank, kept = fill(tmp_path, views(), captioner, settings, FAMILIES)
    images, regions = len(batches[0].image_ids), batches[0].num_regions
    assert images < regions
    assert (kept.encoder_forwards, kept.sam_mixer_forwards) == (images, regions)
    assert {family: len(store) for family, store in bank.stores.items()} == {
        "mixed": regions + 1,
        "prompts": regions + 1,
        "images": images + 1,
    }
    shapes = {
        family: {name: rows.shape for name, rows in store.take([key]).items()}
        for family, store in bank.stores.items()
        for key in [bank.keys.of(batches[0], [family])[family][0]]
    }
    assert shapes == {
        "images": {"embeddings_BChw": (96, 12, 12)},
        "mixed": {"tokens_NTC": (7, 96), "image_tokens_NSC": (144, 96), "ious_NM": (3,)},
        "prompts": {"prompt_tokens_NPC": (2, 96), "ious_NM": (3,)},
    }


def test_what_is_kept_is_not_computed_again(built, views, tmp_path):
    captioner, settings = built({})
    fill(tmp_path, views(), captioner, settings)
    _, again = fill(tmp_path, views(), captioner, settings)
    assert (again.encoder_forwards, again.sam_mixer_forwards) == (0, 0)
    # Another family of the same images is computed from their embeddings.
    _, more = fill(tmp_path, views(), captioner, settings, ("prompts", "images"))
    assert more.encoder_forwards == 0
    assert more.sam_mixer_forwards > 0
    assert fill(tmp_path, views(), captioner, settings, FAMILIES)[1].sam_mixer_forwards == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_rounds_with_and_without_a_bank_alike(
    built, views, batches, tmp_path, dtype
):
    halves = {"features.dtype": dtype, "features.encoder_dtype": dtype}
    captioner, settings = built(halves)
    bank, _ = fill(tmp_path, views(), captioner, settings, FAMILIES)
    frozen = Frozen(settings.features)
    embedded = frozen.embedded(captioner, batches[0])
    direct = frozen.features(dict.fromkeys(FAMILIES, captioner), embedded)
    kept = bank.features(batches[0])
    for field in dataclasses.fields(kept):
        one, two = getattr(kept, field.name), getattr(direct, field.name)
        equal = torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two
        assert equal, field.name
    exact = captioner.frozen_features(batches[0], families=FAMILIES)
    assert not torch.equal(exact.tokens_NTC, kept.tokens_NTC)
    half = kept.embeddings_BChw.to(getattr(torch, dtype)).float()
    assert torch.equal(half, kept.embeddings_BChw)


def test_embeddings_alone_know_nothing_of_regions(built, views, batches, tmp_path):
    captioner, settings = built({})
    bank, _ = fill(tmp_path, views(), captioner, settings, ("images",))
    assert bank.features(batches[0]) is None
    assert not needs_pixels(bank, views())
    half = open_bank(tmp_path / "empty", settings)
    assert needs_pixels(half, views())


def test_a_captioner_without_an_encoder_of_its_own_cannot_keep_embeddings(cell_settings):
    class Closed:
        def frozen_features(self, batch, *, families=None, with_masks=False): ...

        def generate(self, batch, decoding): ...

    check_embeddings(Closed(), cell_settings())
    for change, key in (
        ({"features.cache": "encoder"}, "features.cache"),
        ({"features.encoder_dtype": "float16"}, "features.encoder_dtype"),
    ):
        line = rf"suite.yaml: {key}: .*no image encoder"
        with pytest.raises(InputError, match=line), at("suite.yaml"):
            check_embeddings(Closed(), cell_settings(change))


def test_shares_add_up_however_far_the_others_are(built, views, tmp_path):
    """Each process does its own share of all images, even where another has finished already."""
    captioner, settings = built({})
    owners = dict.fromkeys(CellIdentity(settings, {}).families, captioner)
    counts = []
    for part in ((1, 2), (0, 2)):
        bank = open_bank(tmp_path, settings)
        device = torch.device("cpu")
        kept = fill_bank(Cache(tmp_path), bank, owners, views(), settings, device, part=part)
        counts.append((kept.encoder_forwards, set(kept.whole.values())))
    assert counts == [(2, {False}), (3, {True})]
    assert not needs_pixels(open_bank(tmp_path, settings), views())


def test_blank_images_are_encoded_once(built, views, tmp_path):
    captioner, settings = built({"data.blank_images": True})
    bank = open_bank(tmp_path, settings)
    bank.keys = Keys(lambda image: "blank")
    owners = dict.fromkeys(bank.families, captioner)
    shown = views(settings)
    kept = fill_bank(Cache(tmp_path), bank, owners, shown, settings, torch.device("cpu"))
    assert kept.encoder_forwards == 1
    assert len(bank.stores["images"]) == 1
    assert not needs_pixels(bank, shown)


def _hold(folder, held, released):
    with locked(folder.parent, [folder.name]):
        held.set()
        released.wait(20)


@pytest.mark.usefixtures("process")
def test_two_processes_do_not_build_the_same_bank(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, released = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "b", held, released))
    other.start()
    assert held.wait(60)
    order = []

    def wait_for_it():
        with locked(tmp_path, ["a", "b"]):
            order.append("mine")

    waiting = threading.Thread(target=wait_for_it)
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    order.append("released")
    released.set()
    waiting.join(20)
    other.join(20)
    assert order == ["released", "mine"]


OTHERS = {
    "grid": ({"mixer.image_grid": 4}, r"image_.*\[144, 96\].*expect F32 \[16, 96\]"),
    "type": ({"features.dtype": "float16"}, r"hold F32.*expect F16"),
    "type of embeddings": ({"features.encoder_dtype": "bfloat16"}, r"hold F32.*expect BF16"),
    "width": ({"sam.size": "vit_b", "mixer.num_heads": 8}, r"96\].*expect F32 \[.*256"),
}


@pytest.mark.parametrize("other", OTHERS)
def test_a_store_is_refused_that_holds_what_its_key_does_not_say(
    built, views, cell_settings, tmp_path, other
):
    captioner, settings = built({})
    bank, _ = fill(tmp_path, views(), captioner, settings, FAMILIES)
    changes, line = OTHERS[other]
    asks = CellIdentity(cell_settings(changes), {})
    rest = (bank.families, bank.keys, asks.settings.features, sams_shapes(asks))
    with pytest.raises(InputError, match=line) as fault:
        FeatureBank(bank.stores, *rest)
    assert "python -m sca_bench cache clear" in fault.value.fix
    same = CellIdentity(settings, {})
    FeatureBank(bank.stores, bank.families, bank.keys, settings.features, sams_shapes(same))


def test_a_store_of_rows_that_differ_is_refused(built, views, tmp_path):
    """Whatever shape a stranger's features have, they all have it."""
    captioner, settings = built({})
    bank, _ = fill(tmp_path, views(), captioner, settings)
    rows = to_rows(torch.zeros(1, 5, 96), torch.float32)
    bank.stores["mixed"].append(["another"], {"tokens_NTC": rows}, {})
    with pytest.raises(InputError, match=r"hold F32 \[5, 96\] and F32 \[7, 96\]"):
        open_bank(tmp_path, settings)


def test_features_are_refused_that_the_settings_do_not_say(built, cell_settings, batches):
    captioner, settings = built({})
    asks = CellIdentity(cell_settings({"mixer.image_grid": 4}), {})
    frozen = Frozen(settings.features, None, sams_shapes(asks))
    with pytest.raises(InputError, match=r"image_tokens_NSC: .*\[144, 96\].*say \[16, 96\]"):
        frozen.features({"mixed": captioner}, batches[0])


def test_retrieval_keeps_what_the_designs_of_its_grid_keep(built, batches):
    pooled = {"mixer.image_grid": 4}
    ours, settings = built(pooled)
    theirs, other = built({**pooled, "variant": "retrieval"})
    cells = [CellIdentity(each, {}) for each in (settings, other)]
    assert cells[0].features_key("train") == cells[1].features_key("train")
    kept = [
        Frozen(each.settings.features, None, sams_shapes(each)).features({"mixed": by}, batches[0])
        for each, by in zip(cells, (ours, theirs), strict=True)
    ]
    assert kept[0].grid_hw == kept[1].grid_hw == (4, 4)
    assert torch.equal(kept[0].image_tokens_NSC, kept[1].image_tokens_NSC)
