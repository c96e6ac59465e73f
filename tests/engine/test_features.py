"""Frozen features on disk: each family in a bank of its own, and no number moved by them."""

import dataclasses
import json
import multiprocessing
import threading

import numpy as np
import pytest
import torch

from sca_bench.captioner import Decoding
from sca_bench.data.collate import collate
from sca_bench.engine import splits
from sca_bench.engine.features import FeatureBank, build_banks, families_of, locked, rounded
from sca_bench.errors import InputError
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
            parts["shared"] = spec.load_parts(settings, "test")
        torch.manual_seed(5)
        return spec.load()(settings, parts["shared"], where="test"), settings

    return build


@pytest.fixture
def batches(cell_settings):
    """All training images of the tiny world, as one batch, with every region in order."""
    settings = cell_settings()
    sets = splits.load_splits(settings, "test")
    dataset = splits.make_dataset(
        sets, "train", settings, image_size=96, seed=0, with_pixels=True, training=False
    )
    return [collate([dataset.view(i, 0) for i in range(len(dataset))])]


def fill(root, batches, captioner, families, dtype="float32"):
    folders = {family: root / family for family in families}
    build_banks(
        folders,
        batches,
        lambda batch: captioner.frozen_features(batch, families=families),
        num_regions=sum(b.num_regions for b in batches),
        num_images=sum(len(b.image_ids) for b in batches),
        dtype=dtype,
        device=torch.device("cpu"),
    )
    return folders


@pytest.mark.parametrize("case", CASES)
def test_a_bank_moves_no_number_of_any_variant(built, batches, tmp_path, case):
    captioner, settings = built(CASES[case])
    families = families_of([settings])
    bank = FeatureBank(fill(tmp_path, batches, captioner, families))
    lean = dataclasses.replace(batches[0], pixel_values_B3HW=None)
    cached = dataclasses.replace(lean, features=bank.gather(lean))
    assert torch.equal(captioner.loss(cached), captioner.loss(batches[0]))
    decoding = Decoding(max_new_tokens=5)
    for one, two in zip(
        captioner.generate(cached, decoding), captioner.generate(batches[0], decoding), strict=True
    ):
        assert dataclasses.replace(one, seconds=0) == dataclasses.replace(two, seconds=0)


def test_rows_are_found_whatever_the_order(built, batches, tmp_path):
    captioner, _ = built({})
    bank = FeatureBank(fill(tmp_path, batches, captioner, FAMILIES))
    whole = bank.gather(batches[0])
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
    found = bank.gather(turned)
    for name in ("tokens_NTC", "image_tokens_NSC", "ious_NM", "prompt_tokens_NPC"):
        assert torch.equal(getattr(found, name), getattr(whole, name)[rows]), name
    assert torch.equal(found.embeddings_BChw, whole.embeddings_BChw[[-1, 0]])
    assert found.image_index_N.tolist() == [0] * counts[-1] + [1] * counts[0]
    assert found.num_images == 2


def test_embeddings_are_kept_once_per_image(built, batches, tmp_path):
    captioner, _ = built({})
    folders = fill(tmp_path, batches, captioner, FAMILIES)
    arrays = {
        family: {p.stem: np.load(p).shape for p in folder.glob("*.npy")}
        for family, folder in folders.items()
    }
    images, regions = len(batches[0].image_ids), batches[0].num_regions
    assert images < regions
    assert arrays["images"] == {
        "embeddings_BChw": (images, 96, 12, 12),
        "embedding_pe_SC": (144, 96),
        "dense_prompt_C": (96,),
    }
    assert arrays["mixed"] == {
        "tokens_NTC": (regions, 7, 96),
        "image_tokens_NSC": (regions, 144, 96),
        "ious_NM": (regions, 3),
        "image_pe_SC": (144, 96),
    }
    assert arrays["prompts"] == {
        "prompt_tokens_NPC": (regions, 2, 96),
        "ious_NM": (regions, 3),
        "own_tokens_TC": (5, 96),
    }


def test_half_precision_rounds_with_and_without_a_bank_alike(built, batches, tmp_path):
    captioner, _ = built({})
    bank = FeatureBank(fill(tmp_path, batches, captioner, FAMILIES, dtype="float16"))
    direct = rounded(captioner.frozen_features(batches[0], families=FAMILIES), "float16")
    kept = bank.gather(batches[0])
    for field in dataclasses.fields(kept):
        one, two = getattr(kept, field.name), getattr(direct, field.name)
        equal = torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two
        assert equal, field.name
    exact = captioner.frozen_features(batches[0], families=FAMILIES)
    assert not torch.equal(exact.tokens_NTC, kept.tokens_NTC)


def test_a_damaged_or_pointless_bank_is_refused(built, batches, tmp_path):
    captioner, _ = built({})
    folders = fill(tmp_path, batches, captioner, FAMILIES)
    with pytest.raises(ValueError, match="nothing of regions"):
        FeatureBank({"images": folders["images"]})
    index = folders["prompts"] / "index.json"
    index.write_text(json.dumps({"rows": {}}))
    with pytest.raises(InputError, match=r"damaged feature cache .* computed again"):
        FeatureBank(folders)


def test_an_unfinished_bank_is_not_there(built, batches, tmp_path):
    captioner, _ = built({})
    with pytest.raises(RuntimeError, match="a row came twice"):
        fill(tmp_path, [*batches, *batches], captioner, ("mixed",))
    assert not (tmp_path / "mixed").exists()


def _hold(folder, held, released):
    with locked([folder]):
        held.set()
        released.wait(20)


def test_two_processes_do_not_build_the_same_bank(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, released = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path / "b", held, released))
    other.start()
    assert held.wait(60)
    order = []

    def wait_for_it():
        with locked([tmp_path / "a", tmp_path / "b"]):
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
