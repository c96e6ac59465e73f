import json

import pytest

from sca_bench.errors import InputError
from sca_bench.settings import CellSettings
from sca_bench.study.cell import cell_key, features_key, identity, prefix_key
from sca_bench.study.fingerprint import Fingerprints, path_settings
from sca_bench.study.merge import merge, nest


def settings(**changes):
    scenes = {"dataset": "scenes", "num_images": 3, "first_seed": 0}
    nested = {
        "sam": {"size": "tiny", "weights": "random"},
        "text_decoder": {"weights": "random"},
        "data": {"train": scenes, "test": {**scenes, "first_seed": 9}},
    }
    for path, value in changes.items():
        nested = merge(nested, nest(path.replace("__", "."), value))
    return CellSettings.model_validate(nested)


BASE = settings()


@pytest.mark.parametrize(
    "changes",
    [
        {"mixer__num_layers": 3},
        {"train__learning_rate": 0.5},
        {"eval__num_beams": 3},
        {"data__train__first_seed": 100},
        {"data__permute_captions": True},
    ],
)
def test_settings_that_change_numbers_change_the_key(changes):
    assert cell_key(settings(**changes), {}) != cell_key(BASE, {})


@pytest.mark.parametrize(
    "changes",
    [
        {"runtime__device": "cpu"},
        {"runtime__threads": 3},
        {"runtime__eval_regions": 7},
        {"train__val_every": 3},
        {"features__cache": False},
        {"note": "a remark"},
        {"sam__weights": "elsewhere/same_content.safetensors"},
    ],
)
def test_cost_labels_and_places_do_not_change_the_key(changes):
    assert cell_key(settings(**changes), {}) == cell_key(BASE, {})


def test_input_contents_change_the_key():
    assert cell_key(BASE, {"sam.weights": "a"}) != cell_key(BASE, {"sam.weights": "b"})


def test_a_variant_that_reads_only_data_ignores_the_rest():
    frequent = settings(variant="most_frequent")
    assert cell_key(frequent, {"sam.weights": "a"}) == cell_key(
        settings(variant="most_frequent", mixer__num_layers=3), {"sam.weights": "b"}
    )
    assert "mixer.num_layers" not in identity(frequent, {})


def test_depth_shares_the_prefix_and_the_images_do_not():
    assert prefix_key(settings(mixer__num_layers=3), {}) == prefix_key(BASE, {})
    assert prefix_key(settings(data__blank_images=True), {}) != prefix_key(BASE, {})
    assert prefix_key(settings(data__permute_captions=True), {}) != prefix_key(BASE, {})
    assert prefix_key(settings(train__images_per_batch=3), {}) != prefix_key(BASE, {})


def test_permuted_captions_share_features_blank_images_do_not():
    assert features_key(settings(data__permute_captions=True), {}, "train") == features_key(
        BASE, {}, "train"
    )
    blank = settings(data__blank_images=True)
    assert features_key(blank, {}, "test") != features_key(BASE, {}, "test")
    assert features_key(BASE, {}, "train") != features_key(BASE, {}, "test")


def test_flip_changes_training_features_only():
    flip = settings(data__flip="unsided")
    assert features_key(flip, {}, "test") == features_key(BASE, {}, "test")
    assert features_key(flip, {}, "train") != features_key(BASE, {}, "train")


def test_each_split_has_the_features_of_its_own_prompt():
    points = settings(train__prompt="point")
    assert features_key(points, {}, "train") != features_key(BASE, {}, "train")
    assert features_key(points, {}, "test") == features_key(BASE, {}, "test")
    masks = settings(eval__prompt="mask_point")
    assert features_key(masks, {}, "train") == features_key(BASE, {}, "train")
    assert features_key(masks, {}, "test") != features_key(BASE, {}, "test")
    assert prefix_key(points, {}) != prefix_key(BASE, {})


def test_the_seed_of_points_matters_where_points_are_random():
    again = settings(eval__prompt_seed=5)
    assert features_key(again, {}, "test") == features_key(BASE, {}, "test")
    masks = {"eval__prompt": "mask_point"}
    one, two = settings(**masks), settings(**masks, eval__prompt_seed=5)
    assert features_key(one, {}, "test") != features_key(two, {}, "test")
    assert cell_key(one, {}) != cell_key(two, {})


def test_jitter_is_part_of_the_data_order():
    jitter = settings(data__lsj_scale=[0.1, 2.0])
    assert prefix_key(jitter, {}) != prefix_key(BASE, {})
    assert features_key(jitter, {}, "test") == features_key(BASE, {}, "test")


def test_the_weights_and_worlds_of_a_mixture_are_part_of_the_key():
    scenes = {"dataset": "scenes", "num_images": 3, "first_seed": 0}

    def mixture(weight):
        parts = [{"weight": weight, "split": scenes}, {"weight": 1, "split": scenes}]
        return settings(data__train={"dataset": "mixture", "parts": parts})

    assert cell_key(mixture(10), {}) != cell_key(mixture(1), {})
    assert identity(mixture(10), {})["data.train.parts.0.split.world"]


def test_fingerprints_follow_content_not_place(tmp_path):
    one, two = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    one.write_bytes(b"same")
    two.write_bytes(b"same")
    memory = tmp_path / "memory.json"
    first = Fingerprints(memory).inputs(settings(sam__weights=str(one)), "s")
    assert first == Fingerprints(memory).inputs(settings(sam__weights=str(two)), "s")
    assert json.loads(memory.read_text())
    two.write_bytes(b"other")
    assert first != Fingerprints(memory).inputs(settings(sam__weights=str(two)), "s")
    assert first["text_decoder.weights"] == "random"


def test_a_missing_weight_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"suite.yaml: sam.weights: .*no such file"):
        Fingerprints().inputs(settings(sam__weights=str(tmp_path / "no")), "suite.yaml")


def test_a_hub_id_is_its_own_digest():
    found = Fingerprints().inputs(settings(text_decoder__weights="openai-community/gpt2"), "s")
    assert found["text_decoder.weights"] == "hub:openai-community/gpt2"


def test_path_settings_are_found_in_split_unions(tmp_path):
    split = {"dataset": "coco_instances", "images": "i", "annotations": "a"}
    found = dict(path_settings(settings(data__train=split)))
    assert found["data.train.images"] == "i"
    assert found["data.train.annotations"] == "a"


def test_the_rendered_world_is_part_of_the_key(monkeypatch):
    before = cell_key(BASE, {})
    monkeypatch.setattr("sca_bench.study.cell.WORLD_VERSION", "scenes-of-the-future")
    assert cell_key(BASE, {}) != before
