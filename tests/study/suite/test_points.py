"""Cells as selectors see them, values of suite files, and the bounds of suite and sweep files."""

import pytest
from pydantic import ValidationError

from sca_bench.errors import InputError
from sca_bench.study.suite.schema import ClaimEntry, Patch, SuiteFile
from sca_bench.study.suite.sides import Point, axes_of, find, select
from sca_bench.study.suite.suite import load_suite
from sca_bench.study.suite.sweep_schema import Confirm, SweepFile, SweepPatch
from sca_bench.study.suite.yaml_values import load_yaml, same_value, show_value

ONE = Point("one", {"a.x": 1, "b.y": "u"}, "sca")
TWO = Point("two", {"a.x": 2, "b.y": "u"}, "sca", also=("second",))
OPEN = Point("open", {"a.x": 3}, "other", ignored={"b.y": ["u", "v"]})
CONTROL = Point("blank", {}, "sca", control=True)
POINTS = [ONE, TWO, OPEN, CONTROL]


def test_a_point_stands_at_every_level_that_moves_nothing():
    assert list(ONE.at_each_level()) == [ONE]
    levels = list(OPEN.at_each_level())
    assert [level.coordinates for level in levels] == [
        {"a.x": 3, "b.y": "u"},
        {"a.x": 3, "b.y": "v"},
    ]
    assert all(level.ignored == {} and level.name == "open" for level in levels)
    assert [again for level in levels for again in level.at_each_level()] == levels


def test_axes_in_order():
    assert axes_of(POINTS) == ["a.x", "b.y"]
    assert axes_of([OPEN, ONE]) == ["a.x", "b.y"]
    assert axes_of([CONTROL]) == axes_of([]) == []


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ({"a.x": 1}, ["one"]),
        ({"x": 1}, ["one"]),
        ({"b.y": "u"}, ["one", "two", "open"]),
        ({"b.y": "v"}, ["open"]),
        ({"a.x": 3}, ["open", "open"]),  # once for each value that it stands for
        ({"cell": "open"}, ["open"]),
        ({"cell": "second"}, ["two"]),
        ({"cell": "blank"}, ["blank"]),
        ({"variant": "sca"}, ["one", "two"]),  # no control where something else is meant
        ({"variant": "other", "b.y": "u"}, ["open"]),
        ({"a.x": 9}, []),
        ({"a.x": True}, []),
        ({}, ["one", "two", "open", "open"]),
    ],
)
def test_what_coordinates_mean(where, names):
    assert [point.name for point in select(where, POINTS)] == names


def test_an_axis_is_named_once():
    with pytest.raises(InputError):
        select({"a.x": 1, "x": 1}, POINTS)


@pytest.mark.parametrize(
    ("text", "names"),
    [("two", ["two"]), ("second", ["two"]), ("a.x=1, b.y=u", ["one"]), ("nothing", [])],
)
def test_a_name_or_coordinates(text, names):
    assert [point.name for point in find(text, POINTS, "key")] == names


# --- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (0, False, False),
        (True, True, True),
        (True, False, False),
        ("1", 1, True),  # what reads the same is the same
        ("a", "b", False),
        (None, "none", True),
        (None, 0, False),
        ([1, 2], (1, 2.0), True),
        ([1], [1, 2], False),
        ([1, True], [1, 1], False),
        ([], [], True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": 2}, False),
        (1, [1], False),
    ],
)
def test_same_values(a, b, same):
    assert same_value(a, b) == same == same_value(b, a)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (True, "true"),
        (False, "false"),
        (0.0, "0.0"),
        (0.001, "0.001"),
        (0.00099, "9.9e-4"),
        (-0.0001, "-1e-4"),
        (1e-12, "1e-12"),
        (12, "12"),
        ([1, None, [True]], "[1, none, [true]]"),
        ({"b": 1, "a": 0.5}, "{a: 0.5, b: 1}"),
        ("text", "text"),
    ],
)
def test_values_as_a_suite_file_has_them(value, text):
    assert show_value(value) == text


@pytest.mark.parametrize("text", ["010", "-010", "1_000", "0b11", "1:30", "0x_1"])
@pytest.mark.parametrize(("where", "key"), [("a: {{b: {}}}", "top.a.b"), ("a: [1, {}]", "top.a.1")])
def test_a_number_with_two_readings_is_refused_at_its_key(text, where, key):
    with pytest.raises(InputError) as caught:
        load_yaml(where.format(text), "top")
    assert caught.value.key == key
    assert f"{text} is " in caught.value.problem
    assert load_yaml(where.format(f"'{text}'"), "top")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (str(2**63 - 1), False),
        (str(2**63), True),
        (str(-(2**63) + 1), False),
        ("1e308", False),
        ("1e309", True),
    ],
)
def test_a_number_is_no_larger_than_it_can_be_held(text, fault):
    if fault:
        with pytest.raises(InputError, match=r"^key: .* is more than .* can hold"):
            load_yaml(text, "key")
    else:
        assert load_yaml(text, "key") == float(text) or load_yaml(text, "key") == int(text)


@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        ("train.steps", "expected path=value"),
        ("=3", "expected path=value"),
        ("train.step=3", "did you mean train.steps"),
        ("train.steps=[", "'[' is not a YAML value"),
        ("paths.nothing=x", "unknown path"),
    ],
)
def test_flags_at_fault(write, flag, problem):
    with pytest.raises(InputError) as caught:
        load_suite(write(), overrides=[flag])
    assert str(caught.value).startswith("--set: ")
    assert problem in str(caught.value)


def test_a_flag_is_cut_at_its_first_sign(write):
    suite = load_suite(write(), overrides=["text_decoder.weights=a=b"], allow_missing=True)
    assert {cell.settings.text_decoder.weights for cell in suite.cells} == {"a=b"}


# --- bounds of files --------------------------------------------------------------------------

SUITE = {"suite": "demo", "question": "?"}
SWEEP = {
    "sweep": "demo",
    "question": "?",
    "space": {"train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
    "objectives": [{"metric": "exact_match", "direction": "maximize"}],
    "trials": 1,
}


@pytest.mark.parametrize(
    ("model", "base", "change"),
    [
        (SuiteFile, SUITE, {"suite": "a/b"}),
        (SuiteFile, SUITE, {"suite": ""}),
        (SuiteFile, SUITE, {"suite": "a b"}),
        (SuiteFile, SUITE, {"seeds": []}),
        (SuiteFile, SUITE, {"metrics": []}),
        (SuiteFile, SUITE, {"more": 1}),
        (Patch, {}, {"metrics": []}),
        (Patch, {}, {"question": "?"}),
        (ClaimEntry, {"id": "a", "says": "b"}, {"margin": 0}),
        (ClaimEntry, {"id": "a", "says": "b"}, {"margin": -0.1}),
        (ClaimEntry, {"id": "a", "says": "b"}, {"margin": float("inf")}),
        (ClaimEntry, {"id": "a", "says": "b"}, {"margin": "0.1"}),
        (ClaimEntry, {"id": "a", "says": "b"}, {"text": " . "}),
        (ClaimEntry, {"id": "a", "says": "b"}, {"text": "x" * 201}),
        (ClaimEntry, {"id": "a", "says": "b"}, {"text": 3}),
        (SweepFile, SWEEP, {"sweep": "a/b"}),
        (SweepFile, SWEEP, {"space": {}}),
        (SweepFile, SWEEP, {"objectives": []}),
        (SweepFile, SWEEP, {"objectives": [{"metric": "m", "direction": "up"}]}),
        (SweepFile, SWEEP, {"trials": 0}),
        (SweepFile, SWEEP, {"batch": 0}),
        (SweepFile, SWEEP, {"seed": -1}),
        (SweepFile, SWEEP, {"train_seed": -1}),
        (SweepFile, SWEEP, {"confirm": {"seeds": []}}),
        (SweepFile, SWEEP, {"prune_on": "loss"}),
        (SweepFile, SWEEP, {"sampler": {"name": "TPESampler", "multivariate": "Yes"}}),
        (SweepPatch, {}, {"space": {}}),
        (SweepPatch, {}, {"trials": 0}),
        (SweepPatch, {}, {"batch": 0}),
        (SweepFile, SWEEP, {"trials": 100_001}),
        (SweepFile, SWEEP, {"batch": 1_001}),
        (SweepPatch, {}, {"trials": 100_001}),
        (SweepPatch, {}, {"batch": 1_001}),
    ],
)
def test_what_no_file_says(model, base, change):
    model.model_validate(base)
    with pytest.raises(ValidationError):
        model.model_validate({**base, **change})


@pytest.mark.parametrize(
    ("model", "base", "change"),
    [
        (SuiteFile, SUITE, {"suite": "A-b_9", "seeds": [0], "metrics": ["m"]}),
        (Patch, {}, {"metrics": ["m"]}),
        (ClaimEntry, {"id": "a", "says": "b"}, {"margin": 1e-9}),
        (ClaimEntry, {"id": "a", "says": "b"}, {"text": "x" * 200}),
        (SweepFile, SWEEP, {"trials": 1, "batch": 1, "seed": 0, "train_seed": 0}),
        (SweepPatch, {}, {"trials": 1, "batch": 1}),
        (SweepPatch, {}, {"trials": 100_000, "batch": 1_000}),
        (Confirm, {}, {"seeds": [0]}),
    ],
)
def test_what_a_file_may_say_at_least(model, base, change):
    found = model.model_validate({**base, **change})
    assert {key: getattr(found, key) for key in change} == change


def test_defaults_of_files():
    suite, sweep = SuiteFile(**SUITE), SweepFile.model_validate(SWEEP)
    assert (suite.profile, suite.seeds, suite.metrics) == ("tiny", [0], ["cider_d"])
    assert not suite.one_at_a_time
    assert (sweep.profile, sweep.batch, sweep.seed, sweep.train_seed) == ("tiny", 4, 0, 0)
    assert (sweep.sampler.name, sweep.pruner, sweep.prune_on) == (
        "TPESampler",
        None,
        "val/exact_match",
    )
    assert sweep.confirm.seeds == [100, 101, 102]
    assert sweep.sampler.arguments == {}
