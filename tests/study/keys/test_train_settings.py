"""The recipe of training as settings: its defaults, and the last value that each bound lets in."""

import pytest
from pydantic import ValidationError

from sca_bench.errors import InputError
from sca_bench.settings import TrainSettings
from sca_bench.settings.base import defaults_since
from sca_bench.study.suite.suite import load_suite

DEFAULTS = {
    "steps": 200_000,
    "images_per_batch": 8,
    "regions_per_image": 16,
    "learning_rate": 1e-4,
    "betas": (0.9, 0.999),
    "weight_decay": 1e-4,
    "warmup_steps": 200,
    "final_lr_ratio": 0.0,
    "clip_norm": 1.0,
    "label_smoothing": 0.1,
    "max_caption_tokens": 18,
    "prompt": "box",
    "precision": "fp32",
    "as_published": (),
    "order_seed": None,
    "stacked": False,
    "val_every": 5_000,
}


def test_defaults():
    assert TrainSettings().model_dump() == DEFAULTS


@pytest.mark.parametrize(
    ("name", "least", "below"),
    [
        ("steps", 0, -1),
        ("images_per_batch", 1, 0),
        ("regions_per_image", 1, 0),
        ("learning_rate", 1e-300, 0.0),
        ("weight_decay", 0.0, -1e-9),
        ("warmup_steps", 0, -1),
        ("final_lr_ratio", 0.0, -1e-9),
        ("final_lr_ratio", 1.0, 1.0001),
        ("clip_norm", 1e-300, 0.0),
        ("label_smoothing", 0.0, -1e-9),
        ("label_smoothing", 0.999, 1.0),
        ("max_caption_tokens", 1, 0),
        ("order_seed", 0, -1),
        ("val_every", 1, 0),
        ("prompt", "random_point", "mask"),
        ("prompt", "box_point", ""),
        ("prompt", "point", "Box"),
        ("precision", "bf16", "bf8"),
        ("precision", "fp16", ""),
        ("betas", (0.0, 0.5), (0.5,)),
        ("as_published", ("loss",), ("lost",)),
        ("as_published", ("warmup",), ("",)),
    ],
)
def test_the_last_value_inside_a_bound_and_the_first_outside(name, least, below):
    assert getattr(TrainSettings(**{name: least}), name) == least
    with pytest.raises(ValidationError, match=name):
        TrainSettings(**{name: below})


INF = float("inf")


@pytest.mark.parametrize("name", ["learning_rate", "weight_decay", "final_lr_ratio"])
@pytest.mark.parametrize("value", [float("nan"), -INF, INF])
def test_what_is_no_number_is_no_setting(name, value):
    with pytest.raises(ValidationError, match=name):
        TrainSettings(**{name: value})


@pytest.mark.parametrize("value", [1.0, 1.5, INF, float("nan"), -0.1, -INF])
def test_adamw_takes_betas_from_zero_to_below_one(value):
    for betas in ((value, 0.9), (0.9, value)):
        with pytest.raises(ValidationError, match="betas"):
            TrainSettings(betas=betas)
    assert TrainSettings(betas=(0.0, 0.999999)).betas == (0.0, 0.999999)


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("train.learning_rate=.inf", "train.learning_rate: inf is wrong; expected a finite number"),
        ("train.weight_decay=.inf", "train.weight_decay: inf is wrong; expected a finite number"),
        ("train.clip_norm=.nan", "train.clip_norm: nan is wrong; expected a number above 0"),
        ("train.betas=[1, 0.9]", "train.betas.0: 1 is wrong; expected a number below 1"),
        ("train.betas=[0.9, .inf]", "train.betas.1: inf is wrong; expected a number below 1"),
        ("train.betas=[-0.1, 0.9]", "train.betas.0: -0.1 is wrong; expected 0 or more"),
        (
            "text_decoder={trainable: true, learning_rate: .inf}",
            "text_decoder.learning_rate: inf is wrong; expected a finite number",
        ),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused_in_one_line(write, flag, said):
    with pytest.raises(InputError) as caught:
        load_suite(write(), overrides=[flag])
    assert str(caught.value) == f"--set: {said}"


def test_what_is_as_published_has_one_order():
    for given in (("warmup", "loss"), ("loss", "warmup"), ("warmup", "loss", "warmup")):
        assert TrainSettings(as_published=given).as_published == ("loss", "warmup")


def test_what_was_added_to_recipes_in_use_enters_no_older_key():
    assert defaults_since(TrainSettings) == {"as_published": (), "stacked": False}


def test_the_seed_of_the_data_order():
    assert TrainSettings().order(7) == 7
    assert TrainSettings(order_seed=0).order(7) == 0
    assert TrainSettings(order_seed=3).order(0) == 3
