"""Which of a cell's keys each setting enters: one too few mixes numbers, one too many repeats work.

`cell` tells runs apart, `training` weights, `prefix` which cells may share a group and what that
computes for all of them, `masks` SAM's masks, and the others frozen features of a split.
"""

import pytest

from sca_bench.settings import CellSettings
from sca_bench.study.keys.cell import FEATURES_REVISION, CellIdentity, families_of
from sca_bench.study.suite.merge import merge, nest

SCENES = {"dataset": "scenes", "num_images": 3, "first_seed": 0}
BASE = {
    "variant": "sca",
    "sam": {"size": "tiny", "weights": "random"},
    "text_decoder": {"weights": "random"},
    "data": {
        "train": SCENES,
        "val": {**SCENES, "first_seed": 5},
        "test": {**SCENES, "first_seed": 9},
    },
}
FEATURES = [(s, f) for s in ("train", "val", "captioned") for f in ("mixed", "images")]


def identity(path="variant", value="sca"):
    return CellIdentity(CellSettings.model_validate(merge(BASE, nest(path, value))), {})


def keys_of(cell):
    keys = {"cell": cell.cell_key, "training": cell.training_key, "prefix": cell.prefix_key}
    keys["masks"] = cell.masks_key
    return keys | {
        f"{split}/{family}": cell.features_key(split, family) for split, family in FEATURES
    }


ALL_FEATURES = " ".join(f"{split}/{family}" for split, family in FEATURES)


@pytest.mark.parametrize(
    ("path", "value", "moved"),
    [
        ("sam.size", "tiny_small", f"cell training prefix masks {ALL_FEATURES}"),
        ("mixer.num_layers", 3, "cell training"),
        ("mixer.num_query_tokens", 2, "cell training"),
        ("mixer.dropout", 0.5, "cell training"),
        ("mixer.image_grid", 8, "cell training prefix train/mixed val/mixed captioned/mixed"),
        ("prefix.gain", 2.0, "cell training"),
        ("text_decoder.trainable", True, "cell training prefix"),
        ("train.steps", 7, "cell training prefix"),
        ("train.images_per_batch", 3, "cell training prefix"),
        ("train.regions_per_image", 3, "cell training prefix"),
        ("train.learning_rate", 0.5, "cell training"),
        ("train.betas", [0.5, 0.6], "cell training"),
        ("train.weight_decay", 0.5, "cell training"),
        ("train.warmup_steps", 1, "cell training"),
        ("train.final_lr_ratio", 0.5, "cell training"),
        ("train.clip_norm", 2.0, "cell training"),
        ("train.label_smoothing", 0.5, "cell training"),
        ("train.max_caption_tokens", 3, "cell training"),
        ("train.prompt", "point", "cell training prefix train/mixed val/mixed"),
        ("train.precision", "bf16", f"cell training prefix masks {ALL_FEATURES}"),
        ("train.as_published", ["loss"], "cell training"),
        ("train.order_seed", 1, "cell training"),
        ("train.stacked", True, "cell training"),
        ("train.val_every", 3, "prefix"),
        ("eval.split", "val", "cell prefix captioned/mixed"),
        ("eval.prompt", "point", "cell prefix masks captioned/mixed"),
        ("eval.prompt_seed", 1, "cell prefix"),
        ("eval.select", "first", "cell"),
        ("eval.num_beams", 2, "cell prefix"),
        ("eval.max_new_tokens", 3, "cell prefix"),
        ("eval.also_train", True, "prefix"),
        ("features.cache", "off", "prefix"),
        ("features.dtype", "float16", "cell training prefix train/mixed val/mixed captioned/mixed"),
        ("features.encoder_dtype", "float16", f"cell training prefix masks {ALL_FEATURES}"),
        ("data.flip", "always", "cell training prefix train/mixed"),
        ("data.lsj_scale", [0.5, 1.5], "cell training prefix train/mixed"),
        ("data.blank_images", True, f"cell training prefix masks {ALL_FEATURES}"),
        ("data.permute_captions", True, "cell training prefix"),
        ("data.train.num_images", 4, "cell training prefix train/mixed"),
        ("data.val.num_images", 4, "cell prefix val/mixed"),
        ("data.test.num_images", 4, "cell prefix captioned/mixed"),
        ("runtime.log_every", 3, ""),
        ("runtime.threads", 2, ""),
        ("runtime.checkpoint_every", 7, ""),
    ],
)
def test_a_setting_enters_just_these_keys(path, value, moved):
    before, after = keys_of(identity()), keys_of(identity(path, value))
    assert [name for name in before if after[name] != before[name]] == moved.split()


def test_keys_are_texts_of_their_own():
    keys = keys_of(identity())
    assert len({keys[f"{split}/images"] for split, _ in FEATURES}) == 1  # whatever the split
    assert len(set(keys.values())) == len(keys) - 2
    assert all(key and key.strip() == key for key in keys.values())
    assert keys_of(identity()) == keys
    assert int(FEATURES_REVISION) >= 3


def test_families_of_cells_stand_in_one_order():
    sca, roi = identity(), identity("variant", "sca_roi_align")
    assert families_of([sca]) == sca.families
    assert families_of([sca, roi]) == families_of([roi, sca]) == families_of([roi, sca, roi])
    assert set(families_of([sca, roi])) == {*sca.families, *roi.families}
    assert families_of([]) == ()
