"""Values as suite files write them, and the names of cells made of them."""

import pytest

from sca_bench.study.plan.plan import make_plan
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.axes import axis_points, cell_name
from sca_bench.study.suite.claims import parse_coordinates
from sca_bench.study.suite.suite import load_suite
from sca_bench.study.suite.yaml_values import load_yaml, same_value, show_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-6", 5e-6),
        ("1E3", 1000.0),
        ("1.0e-4", 1e-4),
        ("-2.e+1", -20.0),
        (".5e1", 5.0),
        ("12", 12),
        ("0.1", 0.1),
        ("1e", "1e"),
        ("e5", "e5"),
        ("'5e-6'", "5e-6"),
        ("vit_h", "vit_h"),
        ("2e-3x", "2e-3x"),
        ("null", None),
        ("true", True),
    ],
)
def test_numbers_are_read_as_yaml_1_2_does(text, value):
    found = load_yaml(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (True, "true"),
        (12, "12"),
        (1e-4, "1e-4"),
        (5e-7, "5e-7"),
        (1.25e-5, "1.25e-5"),
        (0.003, "0.003"),
        (2.0, "2.0"),
        (0.0, "0.0"),
        ("vit_h", "vit_h"),
        ([0.1, 2.0], "[0.1, 2.0]"),
        (["objects365", "coco"], "[objects365, coco]"),
        ({"b": 1, "a": None}, "{a: none, b: 1}"),
    ],
)
def test_values_are_written_as_in_a_suite_file(value, text):
    assert show_value(value) == text


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (1, 1.0, True),
        (1, True, False),
        (None, "none", True),
        ("2", 2, True),
        ([0.1, 2.0], [0.1, 2], True),
        ([0.1], [0.1, 2], False),
        (["a"], ("a",), True),
    ],
)
def test_same_value(a, b, same):
    assert same_value(a, b) == same


@pytest.mark.parametrize(
    ("coordinates", "name"),
    [
        ({"mixer.num_layers": 12}, "num_layers=12"),
        ({"pretraining": "objects365"}, "pretraining=objects365"),
        ({"pretraining": ["objects365", "coco"]}, "pretraining=[objects365, coco]"),
        ({"data.lsj_scale": None}, "lsj_scale=none"),
        ({"text_decoder.trainable": False}, "trainable=false"),
        (
            {"train.learning_rate": 1e-4, "text_decoder.learning_rate": None},
            "train.learning_rate=1e-4,text_decoder.learning_rate=none",
        ),
        ({}, "demo"),
    ],
)
def test_names_of_cells(coordinates, name):
    assert cell_name(coordinates, "demo") == name


def test_points_are_a_product_or_one_axis_at_a_time():
    axes = {"a": [1, 2], "b": [None, "x"]}
    assert axis_points(axes) == [
        {"a": 1, "b": None},
        {"a": 1, "b": "x"},
        {"a": 2, "b": None},
        {"a": 2, "b": "x"},
    ]
    assert axis_points(axes, one_at_a_time=True) == [{"a": 1}, {"a": 2}, {"b": None}, {"b": "x"}]
    assert axis_points(axes, unless=[{"a": 2}]) == [{"a": 1, "b": None}, {"a": 1, "b": "x"}]


def test_a_comma_in_brackets_belongs_to_the_value():
    assert parse_coordinates("a=[0.1, 2.0], b=x") == {"a": [0.1, 2.0], "b": "x"}
    assert parse_coordinates("a=[0.1, 2.0]b") == {"a": "[0.1, 2.0]b"}
    assert parse_coordinates("a") is None


def test_rates_of_an_axis_are_numbers(write, suite_text, tmp_path):
    axes = "axes: {train.learning_rate: [5e-6, 1e-4]}"
    suite = load_suite(write(suite_text.replace("axes: {mixer.num_layers: [1, 2]}", axes)))
    assert [cell.name for cell in suite.cells] == ["learning_rate=5e-6", "learning_rate=1e-4"]
    assert suite.axes == {"train.learning_rate": [5e-6, 1e-4]}
    assert [cell.settings.train.learning_rate for cell in suite.cells] == [5e-6, 1e-4]


def test_only_takes_a_name_with_brackets_as_it_is(write, suite_text, tmp_path):
    axes = "axes: {data.lsj_scale: [null, [0.1, 2.0]]}"
    suite = load_suite(write(suite_text.replace("axes: {mixer.num_layers: [1, 2]}", axes)))
    plan = make_plan(suite, Store(tmp_path / "runs"), only="lsj_scale=[0.1, 2.0]")
    assert [cell.name for cell in plan.cells] == ["lsj_scale=[0.1, 2.0]"]
