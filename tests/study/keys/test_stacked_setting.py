"""`train.stacked`: which cells are stepped as one, and where that is refused."""

import dataclasses

import pytest

from sca_bench.errors import InputError
from sca_bench.settings import CellSettings
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.study.keys.stack import stack_key
from sca_bench.study.suite.merge import merge, nest
from sca_bench.study.suite.suite import load_suite
from sca_bench.variants import get_variant

SCENES = {"dataset": "scenes", "num_images": 3, "first_seed": 0}
BASE = {
    "variant": "sca",
    "sam": {"size": "tiny", "weights": "random"},
    "text_decoder": {"weights": "random"},
    "data": {"train": SCENES, "test": {**SCENES, "first_seed": 9}},
    "train": {"stacked": True, "order_seed": 1},
}


def settings(**changes):
    nested = BASE
    for path, value in changes.items():
        nested = merge(nested, nest(path.replace("__", "."), value))
    return CellSettings.model_validate(nested)


def key(inputs=(), **changes):
    return stack_key(CellIdentity(settings(**changes), dict(inputs)))


@pytest.mark.parametrize(
    "changes",
    [
        {"train__learning_rate": 0.5},
        {"train__betas": [0.5, 0.6]},
        {"train__weight_decay": 0.5},
        {"train__warmup_steps": 1},
        {"train__final_lr_ratio": 0.5},
        {"train__clip_norm": 2.0},
        {"train__val_every": 7},
        {"mixer__init_std": 0.5},
        {"eval__select": "first"},
        {"eval__num_beams": 2},
        {"runtime__log_every": 3},
        {"inputs": {"start_from": "1234"}, "start_from": "some/file"},
    ],
    ids=str,
)
def test_cells_that_differ_in_recipe_or_start_are_stepped_as_one(changes):
    assert key() == key(**changes) != ""


@pytest.mark.parametrize(
    "changes",
    [
        {"variant": "sca_split_mixer"},
        {"mixer__num_layers": 3},
        {"mixer__num_heads": 4},
        {"mixer__dropout": 0.5},
        {"prefix__gain": 0.5},
        {"train__label_smoothing": 0.0},
        {"train__as_published": ["loss"]},
        {"train__max_caption_tokens": 3},
        {"train__precision": "bf16"},
        {"text_decoder__dropout_in_training": False},
        {"inputs": {"text_decoder.weights": "1234"}},
    ],
    ids=str,
)
def test_cells_that_compute_otherwise_are_not(changes):
    assert key(**changes) not in ("", key())


def test_where_it_was_not_asked_for_no_key_knows_of_it():
    plain = CellIdentity(settings(train__stacked=False), {})
    assert stack_key(plain) == ""
    assert "train.stacked" not in plain.key_values
    stacked = CellIdentity(settings(), {})
    assert stacked.key_values["train.stacked"] is True
    assert stacked.cell_key != plain.cell_key
    assert stacked.training_key != plain.training_key
    assert stacked.prefix_key == plain.prefix_key  # they may stand in one group
    never = CellIdentity(settings(variant="most_frequent"), {})
    assert stack_key(never) == ""


@pytest.mark.parametrize(
    "switch",
    [
        "text_decoder.trainable",
        "text_decoder.gradient_checkpointing",
        "mixer.gradient_checkpointing",
        "runtime.compile",
    ],
)
def test_what_has_no_part_for_several_cells_is_refused_in_one_line(write, switch):
    path = write()
    assert load_suite(path, overrides=["train.stacked=true"])
    assert load_suite(path, overrides=[f"{switch}=true"])
    with pytest.raises(InputError) as caught:
        load_suite(path, overrides=["train.stacked=true", f"{switch}=true"])
    said = f"{path}: train.stacked: cells are not stepped as one where {switch} is true"
    assert str(caught.value) == f"{said}; leave one of the two out"


def test_a_variant_that_cannot_is_refused_and_so_is_a_stage_of_it(write):
    path = write()
    said = "grit_from_scratch cannot be stepped together with other cells; leave it out"
    flags = ["variant=grit_from_scratch", "train.stacked=true"]
    with pytest.raises(InputError) as caught:
        load_suite(path, overrides=flags)
    assert str(caught.value) == f"{path}: train.stacked: {said}"
    spec = get_variant("grit_from_scratch")
    staged = settings(variant="grit_from_scratch", train__stacked=False)
    stage = {"name": "first", "data": {"train": SCENES}, "train": {"stacked": True}}
    staged = CellSettings.model_validate({**staged.model_dump(), "pretraining": [stage]})
    with pytest.raises(InputError, match=r"^pretraining.0.train.stacked: grit_from_scratch "):
        spec.check(staged)
    dataclasses.replace(spec, stacks=True).check(staged)
    get_variant("most_frequent").check(settings(variant="most_frequent"))  # it trains nothing
