"""Layers of settings laid over each other, paths to them, and what a fault says of its place."""

import pytest
from pydantic import ValidationError

from sca_bench.errors import InputError
from sca_bench.settings import CellSettings
from sca_bench.settings.base import Settings
from sca_bench.study.suite.merge import (
    check_keys,
    check_path,
    drops_options,
    get,
    holders_of,
    in_words,
    is_tag,
    kinds_at,
    known_paths,
    leaves,
    merge,
    moves_numbers,
    nest,
    not_its_own,
    readable,
    tags_first,
    validate,
    value_at,
)
from sca_bench.variants import VariantSpec

WHOLE = {
    "data": {
        name: {"dataset": "scenes", "num_images": 1, "first_seed": 0}
        for name in ("train", "val", "test")
    }
}
"""What no cell can do without."""


def test_leaves_and_nests_are_each_other_s_reverse():
    nested = {"a": {"b": {"c": 1}, "d": [2]}, "e": {}, "f": None}
    assert list(leaves(nested)) == [("a.b.c", 1), ("a.d", [2]), ("e", {}), ("f", None)]
    assert list(leaves({"b": 1}, "a.")) == [("a.b", 1)]
    assert nest("a.b.c", 1) == {"a": {"b": {"c": 1}}}
    assert nest("a", {"b": 1}) == {"a": {"b": 1}}
    merged = {}
    for path, value in leaves(nested):
        merged = merge(merged, nest(path, value))
    assert merged == nested


def test_a_variant_inside_of_settings_replaces_nothing_beside_it():
    old, new = {"a": {"variant": "x", "b": 1}}, {"a": {"variant": "y"}}
    assert merge(old, new) == {"a": {"variant": "y", "b": 1}}
    for tag in ("dataset", "type"):
        old, new = {"a": {tag: "x", "b": 1}}, {"a": {tag: "y"}}
        assert merge(old, new) == new
        assert merge(old, {"a": {tag: "x"}}) == old
        assert merge({"a": {"b": 1}}, new) == new


def test_a_patch_is_laid_over_and_changes_neither_side():
    base = {"train": {"steps": 5, "betas": [0.9, 0.99]}, "variant": "sca"}
    patch = {"train": {"betas": [0.8]}, "mixer": {"num_layers": 1}}
    kept = [repr(base), repr(patch)]
    assert merge(base, patch) == {
        "train": {"steps": 5, "betas": [0.8]},
        "variant": "sca",
        "mixer": {"num_layers": 1},
    }
    assert [repr(base), repr(patch)] == kept
    assert merge({"a": 1}, {"a": {"b": 2}}) == {"a": {"b": 2}}
    assert merge({"a": {"b": 2}}, {"a": None}) == {"a": None}
    assert merge({}, {}) == {}


@pytest.mark.parametrize("tag", ["dataset", "type"])
def test_a_mapping_of_another_kind_replaces(tag):
    base = {"data": {tag: "one", "path": "x"}}
    assert merge(base, {"data": {tag: "two"}}) == {"data": {tag: "two"}}
    assert merge(base, {"data": {tag: "one", "n": 1}}) == {
        "data": {tag: "one", "path": "x", "n": 1}
    }
    assert merge(base, {"data": {"n": 1}}) == {"data": {tag: "one", "path": "x", "n": 1}}
    assert merge({"data": {"path": "x"}}, {"data": {tag: "two"}}) == {"data": {tag: "two"}}


OPTIONS = {"depth": 3}


@pytest.mark.parametrize(
    ("base", "patch", "dropped"),
    [
        ({"variant": "a", "options": OPTIONS}, {"variant": "b"}, True),
        ({"variant": "a", "options": OPTIONS}, {"variant": "a"}, False),
        ({"variant": "a", "options": OPTIONS}, {}, False),
        ({"variant": "a"}, {"variant": "b"}, False),
        ({"options": OPTIONS}, {"variant": "b"}, False),
    ],
)
def test_options_go_with_their_variant(base, patch, dropped):
    assert drops_options(base, patch) == dropped
    assert ("options" in merge(base, patch)) == ("options" in base and not dropped)
    own = merge(base, {**patch, "options": {"width": 1}})
    assert own["options"] == (
        {"width": 1} if dropped or "options" not in base else {**OPTIONS, "width": 1}
    )


def test_tags_come_first_and_the_rest_keeps_its_order():
    given = {"b": 1, "data.dataset": 2, "a": 3, "variant": 4, "encoder.type": 5}
    assert list(tags_first(given)) == ["data.dataset", "variant", "encoder.type", "b", "a"]
    assert tags_first(given) == given
    assert [is_tag(path) for path in ("variant", "a.b.type", "types", "dataset.a")] == [
        True,
        True,
        False,
        False,
    ]


def test_what_stands_at_a_path():
    nested = {"a": {"b": 0}, "c": None}
    assert get(nested, "a.b") == 0
    assert get(nested, "a") == {"b": 0}
    assert [get(nested, path) for path in ("a.c", "a.b.c", "c.d", "d")] == [None] * 4


def test_a_value_is_what_is_said_or_the_default():
    assert value_at({"train": {"steps": 5}}, "train.steps") == 5
    assert value_at({}, "train.steps") == 200_000
    assert value_at({"train": {"steps": 5}}, "train.betas") == [0.9, 0.999]
    assert value_at({"train": {"steps": 5}}, "train") == {"steps": 5}
    assert value_at({}, "mixer")["num_layers"] == 12
    assert value_at({"train": None}, "train.steps") is None
    assert value_at({}, "no.such") is None


class Own(Settings):
    width: int = 4


def test_a_value_of_a_variant_s_own_settings_has_their_default(monkeypatch):
    """Which settings `options` are is said beside them, so they have no default of their own."""
    spec = VariantSpec("mine", "mine:build", "Mine", options=f"{__name__}:Own")
    monkeypatch.setattr("sca_bench.variants.VARIANTS.own", lambda: {"mine": spec})
    assert value_at({"variant": "mine"}, "options.width") == 4
    assert value_at({"variant": "mine", "options": {"width": 8}}, "options.width") == 8
    assert value_at({"variant": "mine"}, "options.depth") is None


def test_kinds_and_holders_of_settings():
    assert kinds_at("train.steps") == {"result"}
    assert kinds_at("runtime.log_every") == {"cost"}
    assert moves_numbers("train.learning_rate")
    assert not moves_numbers("train.val_every")
    assert not moves_numbers("no.such")
    assert [model.__name__ for model in holders_of("train.steps")] == ["TrainSettings"]
    assert holders_of("train") == [CellSettings]
    assert holders_of("train.step") == holders_of("trains.steps") == []
    assert {"train", "train.steps", "data.train"} <= known_paths()
    assert known_paths(prefix="base.") == {f"base.{path}" for path in known_paths()}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("train.step", r"^axes\.x: unknown setting; did you mean train\.steps\?"),
        ("trian.steps", r"^axes\.x: unknown setting; did you mean train\.steps\?"),
    ],
)
def test_an_unknown_setting_names_key_and_nearest(path, said):
    for settings in (None, {"variant": "sca"}):
        with pytest.raises(InputError, match=said):
            check_path(path, "axes.x", settings)
    check_path("train.steps", "axes.x")


def test_every_unknown_key_is_named():
    nested = {"train": {"step": 1, "steps": 2}, "variant": "sca", "mixers": {"num_layers": 1}}
    with pytest.raises(InputError) as caught:
        check_keys(nested, "base.")
    faults = [caught.value, *caught.value.others]
    assert [fault.key for fault in faults] == ["base.train.step", "base.mixers.num_layers"]
    check_keys({"train": {"steps": 2}}, "base.")


def test_options_of_a_variant_that_has_none():
    fault = not_its_own("options.depth", "base.options.depth", {"variant": "sca"})
    assert fault.key == "base.options.depth"
    assert "sca has no settings of its own" in str(fault)
    assert not_its_own("train.step", "key", {"variant": "sca"}) is None


def test_a_wrong_value_names_its_place_and_where_it_came_from():
    origin = {"train": "suite.yaml", "train.steps": "--set"}
    for path, source in (
        ("train.steps", "--set"),
        ("train.val_every", "suite.yaml"),
        ("mixer.num_layers", ""),
    ):
        with pytest.raises(InputError) as caught:
            validate(merge(WHOLE, nest(path, "many")), origin)
        assert (str(caught.value.where or ""), caught.value.key) == (source, path)
    assert validate(merge(WHOLE, {"train": {"steps": 3}}), {}).train.steps == 3


def fault_of(nested):
    try:
        CellSettings.model_validate(merge(WHOLE, nested))
    except ValidationError as error:
        return error
    return pytest.fail("it is valid")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("train.steps", -1, "expected 0 or more"),
        ("train.steps", "many", "expected a whole number"),
        ("train.steps", 1.5, "expected a whole number"),
        ("train.steps", None, "expected a whole number"),
        ("train.learning_rate", 0, "expected a number above 0"),
        ("train.learning_rate", "fast", "expected a number"),
        ("train.label_smoothing", 1, "expected a number below 1"),
        ("train.final_lr_ratio", 2, "expected 1 or less"),
        ("train.precision", "fp8", "expected 'fp32', 'tf32', 'bf16' or 'fp16'"),
        ("train.as_published", 7, r"expected a list, such as \[7\]"),
        ("train.betas", 0.9, r"expected a list, such as \[0.9\]"),
        ("train", 3, "expected a mapping of settings"),
        ("data.blank_images", "perhaps", "expected true or false"),
        ("variant", 3, "expected a text"),
    ],
)
def test_a_fault_is_said_in_words(path, value, said):
    error = fault_of(nest(path, value))
    with pytest.raises(InputError, match=f"^base.{path}: {value!r} is wrong; {said}$"):
        raise readable(error, "base.")


def test_a_fault_of_a_validator_is_said_in_its_own_words():
    detail = {"type": "value_error", "msg": "Value error, no such thing", "input": 3}
    assert in_words(detail) == "no such thing"
    error = fault_of({"train": {"steppes": 3}})
    assert str(readable(error)) == "train.steppes: not a setting here; did you mean train.steps?"
    error = fault_of({"trian": 3})
    assert str(readable(error)) == "trian: not a setting here; did you mean train?"
