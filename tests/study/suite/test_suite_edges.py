"""Suites at their edges: the last value that is let in, orders that are promised, faults."""

import shutil
from types import SimpleNamespace

import pytest
import yaml

from sca_bench.errors import InputError
from sca_bench.settings.base import Settings
from sca_bench.study.plan.plan import make_plan
from sca_bench.study.runs.store import Store
from sca_bench.study.suite import axes as axes_module
from sca_bench.study.suite import merge, yaml_values
from sca_bench.study.suite.axes import check_apart, check_num_cells, check_num_rules, is_at
from sca_bench.study.suite.claims import parse_claim
from sca_bench.study.suite.merge import leaves
from sca_bench.study.suite.profiles import (
    load_profile,
    named_path,
    patch_of,
    profile_names,
    read_mapping,
    read_yaml,
)
from sca_bench.study.suite.search_space import Axis, read_axis
from sca_bench.study.suite.sides import NoSuchCell, Point, claim_cells
from sca_bench.study.suite.suite import header_of, load_suite
from sca_bench.study.suite.sweep import _corners, load_sweep
from sca_bench.study.suite.sweep_schema import Dimension
from sca_bench.study.suite.yaml_values import fault_lines, line_of, load_yaml

# --- how much a file may hold -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "values", "key"),
    [
        ("counted: [1, 2, 3]", 6, "counted.2"),  # the file, a key, a list, and what is in it
        ("one", 1, ""),
        ("a: &a [1, 2, 3, 4]\nb: [*a, *a]", 17, "b.1.3"),  # each alias counts as what it stands for
    ],
)
def test_the_last_value_that_a_file_may_hold(monkeypatch, text, values, key):
    monkeypatch.setattr(yaml_values, "MOST_VALUES", values)
    assert load_yaml(f"{text}  # up to {values}") == yaml.safe_load(text)
    monkeypatch.setattr(yaml_values, "MOST_VALUES", values - 1)
    with pytest.raises(InputError) as caught:
        load_yaml(f"{text}  # down to {values - 1}", "top")
    assert caught.value.key == (f"top.{key}" if key else "top")
    assert caught.value.problem.startswith(f"more than {values - 1:,} values in one file")
    assert caught.value.fix == "shorten its lists"


@pytest.mark.parametrize(
    ("text", "levels", "key"),
    [
        ("deep: [[1]]", 4, "deep.0.0"),
        ("a: &a [[1]]\nb: [[*a]]", 5, "b.0.0.0"),  # deeper by an alias than it is written
        ("[[[]]]", 3, "0.0"),
    ],
)
def test_the_deepest_level_that_a_file_may_have(monkeypatch, text, levels, key):
    monkeypatch.setattr(yaml_values, "MOST_LEVELS", levels)
    assert load_yaml(f"{text}  # as deep as {levels}") == yaml.safe_load(text)
    monkeypatch.setattr(yaml_values, "MOST_LEVELS", levels - 1)
    with pytest.raises(InputError) as caught:
        load_yaml(f"{text}  # as deep as {levels - 1}", "top")
    assert caught.value.key == f"top.{key}"
    assert caught.value.problem.startswith(f"more than {levels - 1} levels of mappings and lists")


def test_only_the_beginning_of_a_long_place_is_said():
    with pytest.raises(InputError) as caught:
        load_yaml("a: " + "[" * 60)
    assert caught.value.key == "a.0.0.0.0"


@pytest.mark.parametrize(
    ("counts", "single", "fine"),
    [
        ((2000,), False, True),
        ((2001,), False, False),
        ((40, 50), False, True),
        ((3, 667), False, False),
        ((1000, 1000), True, True),
        ((1000, 1001), True, False),
    ],
)
def test_the_most_cells_that_axes_may_make(counts, single, fine):
    axes = {f"x{n}": range(count) for n, count in enumerate(counts)}
    if fine:
        check_num_cells(axes, single, "axes")
        return
    with pytest.raises(InputError) as caught:
        check_num_cells(axes, single, "axes")
    joined = (" + " if single else " x ").join(f"{count:,}" for count in counts)
    assert caught.value.problem == f"{joined} values make 2,001 cells; a suite has 2,000 at most"
    assert caught.value.fix == "give fewer values" + (
        "" if single else ", or set one_at_a_time: true"
    )


def test_the_most_cells_and_rules_together():
    check_num_rules(2_000, 100, "adjust")
    for cells, rules, key in ((2_001, 0, "cells"), (2_000, 101, "unless"), (1, 200_001, "unless")):
        with pytest.raises(InputError) as caught:
            check_num_rules(cells, rules, "unless")
        assert caught.value.key == key


def test_settings_that_lie_apart():
    check_apart(["a.b", "a.bc", "a.c"], "axes")
    with pytest.raises(InputError) as caught:
        check_apart(["a.b.c", "b", "a.b"], "axes")
    assert (caught.value.key, caught.value.problem) == ("axes.a.b.c", "is a part of axes.a.b")
    assert is_at({"a": 1, "b": 2}, {"a": 1.0})
    assert not is_at({"a": 1}, {"a": 1, "b": 2})
    assert is_at({"a": 1}, {})


# --- lines of faults --------------------------------------------------------------------------

LINES = """\
suite: demo
base:
  train: {steps: 5}
cells:
  - name: blank images
    set: {data.blank_images: true}
axes:
  mixer.num_layers: [1, 2]
"""


@pytest.fixture
def lined(tmp_path):
    path = tmp_path / "lined.yaml"
    path.write_text(LINES)
    return path


@pytest.mark.parametrize(
    ("above", "key", "line"),
    [
        ("", "suite", 1),
        ("", "train.steps", 3),  # of the base
        ("", "axes: mixer.num_layers", 7),
        ("cells.blank images.set", "data.blank_images", 6),
        ("cells.blank images", "", 5),
        ("axes", "mixer.num_layers.1", 8),
        ("", "seeds", 0),
        ("", "", 0),
    ],
)
def test_a_fault_says_the_line_of_its_place(lined, above, key, line):
    where = f"{lined}: {above}" if above else str(lined)
    said = f" (line {line})" if line else ""
    for fix, texts in (("do so", ("is wrong", f"do so{said}")), ("", (f"is wrong{said}", ""))):
        with pytest.raises(InputError) as caught, fault_lines(lined):
            raise InputError(where, key, "is wrong", fix)
        assert (caught.value.problem, caught.value.fix) == texts


def test_every_fault_of_a_file_says_its_line_and_those_of_others_none(lined):
    first = InputError("--set", "suite", "is wrong")
    first.others = [InputError(lined, "suite", "is wrong"), InputError("x.yaml", "suite", "is")]
    with pytest.raises(InputError), fault_lines(lined):
        raise first
    assert [fault.problem for fault in (first, *first.others)] == [
        "is wrong",
        "is wrong (line 1)",
        "is",
    ]
    for text in ("[", "a: 1\na: 2", ""):
        lined.write_text(text)
        assert line_of(lined, "suite") == 0
    assert line_of(lined.with_name("none.yaml"), "suite") == 0
    assert line_of(lined, "") == 0


# --- what a file is ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty; expected a mapping with a, b"),
        ("[1]", "holds a list; expected a mapping with a, b"),
        ("3", "holds a single value; expected"),
        ("a: [", "line 2: not YAML"),
        ("a: 1\n- b", "line 2: not YAML"),
    ],
)
def test_what_is_no_mapping(tmp_path, text, said):
    path = tmp_path / "x.yaml"
    path.write_text(text + "\n")
    with pytest.raises(InputError) as caught:
        read_mapping(path, "a, b")
    assert said in str(caught.value)
    assert caught.value.where == str(path)


def test_a_file_that_is_not_there_names_one_that_is(tmp_path):
    (tmp_path / "mixer.yaml").touch()
    with pytest.raises(InputError, match=r"mixr\.yaml: no such file; did you mean mixer\.yaml\?"):
        read_yaml(tmp_path / "mixr.yaml")
    for path in (tmp_path / "none" / "x.yaml", tmp_path / "mixer.yaml" / "x.yaml"):
        with pytest.raises(InputError, match=r"x\.yaml: (no such file|cannot be read \(.+\))$"):
            read_yaml(path)


def test_the_comment_at_the_top_of_a_file(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("#  One.  \n#\n## Two\nsuite: x  # three\n# four\n")
    assert header_of(path) == "One.\n\nTwo"
    path.write_text("suite: x\n# no header\n")
    assert header_of(path) == ""


def test_profiles_say_what_they_are():
    assert {"tiny", "small", "paper", "photos"} <= set(profile_names())
    with pytest.raises(InputError, match=r"profile: 'tinny'; did you mean tiny\?"):
        load_profile("tinny")
    for name in profile_names():
        scale = load_profile(name)
        assert scale.statement == " ".join(scale.statement.split()) != ""
        for above in scale.above:
            paths = load_profile(above).paths
            assert paths.keys() <= scale.paths.keys()
            assert load_profile(above).needs.keys() <= scale.needs.keys()
    assert load_profile("tiny").above == ()
    with pytest.raises(InputError, match=r"^paths\.sam: "):
        named_path(3, "sam")


def test_a_profile_takes_the_nearest_patch_above_it():
    scale = load_profile("tiny")
    nearer = scale.__class__(scale.base, "", {}, {}, ("small", "paper"))
    patches = {"paper": 1, "small": 2, "other": 3}
    assert patch_of(patches, "mine", nearer) == ("small", 2)
    assert patch_of({**patches, "mine": 4}, "mine", nearer) == ("mine", 4)
    assert patch_of({"paper": 1}, "mine", nearer) == ("paper", 1)
    assert patch_of({"other": 3}, "mine", nearer) == ("", None)


def test_all_that_a_suite_says_is_there(write, suite_text):
    more = """
reference: num_layers=2
subsets: {first: first_of_image}
paths: {lm: null}
claims: [{id: deep, says: "cider_d(num_layers=2) > cider_d(num_layers=1)"}]
profiles:
  tiny: {metrics: [exact_match], seeds: [4, 5], reference: num_layers=1}
"""
    path = write(
        suite_text.replace("text_decoder: {weights: random}", "start_from: '{lm}/x'") + more
    )
    suite = load_suite(path, overrides=["paths.lm=here", "train.steps=3"], seeds=[9])
    assert (suite.file, suite.profile, suite.spec.suite) == (path, "tiny", "demo")
    assert (suite.seeds, suite.own_seeds, suite.metrics) == ((9,), (4, 5), ("exact_match",))
    assert (suite.reference, suite.subsets) == ("num_layers=1", {"first": "first_of_image"})
    assert (suite.paths, suite.missing) == ({"lm": "here"}, {})
    assert suite.overrides == ("paths.lm=here", "train.steps=3")
    assert suite.axes == {"mixer.num_layers": [1, 2]}
    assert [claim.id for claim in suite.claims] == ["deep"]
    assert suite.statement == load_profile("tiny").statement
    assert suite.needs == load_profile("tiny").needs
    assert {cell.settings.start_from for cell in suite.cells} == {"here/x"}
    open_one = load_suite(path, allow_missing=True, profile="paper")
    assert (open_one.profile, open_one.seeds, open_one.metrics) == ("paper", (0, 1), ("cider_d",))
    assert "lm" in open_one.missing
    assert list(open_one.missing) == sorted(open_one.missing)
    assert open_one.reference == "num_layers=2"
    assert {cell.settings.start_from for cell in open_one.cells} == {"<lm>/x"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("subsets: {train: first_of_image}\n", "subsets.train: cannot be a subset's name; use let"),
        ("subsets: {a b: first_of_image}\n", "subsets.a b: cannot be a subset's name"),
        ("subsets: {a: none.txt}\n", "subsets.a: none.txt is no file; name a file of region ids"),
        ("reference: nothing\n", "reference: 'nothing' means 0 cells of this profile; known: num_"),
        ("reference: variant=sca\n", "means 2 cells of this profile (num_layers=1; num_layers=2);"),
    ],
)
def test_parts_and_references_that_are_none(write, suite_text, more, said):
    with pytest.raises(InputError) as caught:
        load_suite(write(suite_text + more))
    assert said in str(caught.value)


@pytest.mark.parametrize("seeds", [[], [0, 0], [-1]])
def test_seeds_by_flag_are_named_by_the_flag(write, seeds):
    with pytest.raises(InputError) as caught:
        load_suite(write(), seeds=seeds)
    assert str(caught.value) == f"--seeds: {seeds}; give distinct seeds >= 0"


def test_two_files_of_one_content_are_both_named(write, suite_text, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text("weights")
    a, b = tmp_path / "a", tmp_path / "b"
    axes = f"axes: {{start_from: ['{a}', '{b}']}}"
    suite = load_suite(write(suite_text.replace("axes: {mixer.num_layers: [1, 2]}", axes)))
    with pytest.raises(InputError) as caught:
        make_plan(suite, Store(tmp_path / "runs"))
    cells = f"'start_from={a}' and 'start_from={b}' are one cell"
    assert caught.value.key == "start_from"
    assert caught.value.problem == f"'{a}' and '{b}' have one content, so {cells}"
    shutil.copy(__file__, b)
    assert len(make_plan(suite, Store(tmp_path / "runs")).cells) == 2


# --- settings that belong to others -----------------------------------------------------------


class Wide(Settings):
    """Settings of an encoder of its own."""

    width: int = 8
    depth: int = 2


@pytest.mark.parametrize(
    ("own", "others", "name", "line"),
    [
        ([Wide], {}, "widht", "conv has no such setting; did you mean encoder.options.width?"),
        ([Wide], {}, "z" * 40, "known: encoder.options.depth, encoder.options.width"),
        ([Wide], {"tall": Wide}, "z" * 40, "conv has no such setting; known: "),
        ([Settings], {"tall": Wide, "flat": Settings}, "width", "of its own; it is one of tall"),
        ([], {}, "width", "conv has no settings of its own; leave it out"),
        ([Settings], {"a": Wide, "b": Wide}, "width", "it is one of a, b"),
    ],
)
def test_a_setting_of_another_encoder(own, others, name, line):
    mark = SimpleNamespace(models=lambda: others)
    parts = ["encoder", "options", name]
    fault = merge._refused(mark, "conv", own, parts, 1, f"base.encoder.options.{name}")
    assert fault.key == f"base.encoder.options.{name}"
    assert line in str(fault)


@pytest.mark.parametrize(
    ("path", "said", "line"),
    [
        ("options.depth", {"variant": "sca"}, "sca has no settings of its own; leave it out"),
        (
            *("encoder.options.a", {"encoder": {"type": "onnx"}}),
            "onnx has no settings of its own; leave it out",
        ),
        ("encoder.options.a", {}, "sam has no settings of its own; leave it out"),
        ("train.options.a", {}, ""),
        ("nothing.a", {}, ""),
        ("train.step", {}, ""),
    ],
)
def test_settings_that_a_variant_or_an_encoder_lacks(path, said, line):
    fault = merge.not_its_own(path, f"base.{path}", said)
    assert (fault is None) == (not line)
    if fault is not None:
        assert str(fault) == f"base.{path}: {line}"


def test_leaves_below_a_prefix():
    assert list(leaves({"a": {}, "b": {"c": {"d": 1}}}, "x.")) == [("x.a", {}), ("x.b.c.d", 1)]


def test_a_rule_that_matches_nothing_names_twelve_values_at_most(write, suite_text):
    steps = ", ".join(map(str, range(101, 115)))
    text = suite_text.replace("mixer.num_layers: [1, 2]", f"train.steps: [{steps}]")
    with pytest.raises(InputError) as caught:
        load_suite(write(text + "unless: [{train.steps: 7}]\n"))
    line = str(caught.value)
    assert "unless.0.train.steps: no cell of any profile has 7 there; known: " in line
    assert ", and 4 more" in line  # eight of twelve
    assert not any(step in line for step in ("113", "114"))


# --- claims -----------------------------------------------------------------------------------


def cell(layers, tokens, **more):
    where = {"mixer.num_layers": layers, "mixer.num_query_tokens": tokens}
    return Point(f"{layers},{tokens}", where, "sca", **more)


DEEP = parse_claim("cider_d(num_layers=2) > cider_d(num_layers=1)")


def test_sides_balance_whatever_the_order_of_their_cells():
    points = [cell(2, 8), cell(1, 4), cell(2, 4), cell(1, 8)]
    left, right = claim_cells(DEEP, points)
    assert [[point.name for point in side] for side in (left, right)] == [
        ["2,8", "2,4"],
        ["1,4", "1,8"],
    ]


def test_what_a_side_lacks_is_named_in_order():
    points = [cell(2, 9), *(cell(1, n) for n in (9, 7, 3, 5))]
    with pytest.raises(InputError) as caught:
        claim_cells(DEEP, points, "claims.deep")
    lacks = "; ".join(f"mixer.num_query_tokens={n}" for n in (3, 5, 7))
    assert caught.value.problem.endswith(f"(1,9; 1,7; 1,3; 1,5); the left side lacks {lacks}")
    assert caught.value.fix.startswith("name mixer.num_query_tokens on both sides, or let")
    points = [cell(1, 9), *(cell(2, n) for n in (9, 7))]
    with pytest.raises(InputError, match=r"; the right side lacks mixer\.num_query_tokens=7;"):
        claim_cells(DEEP, points)


def test_eight_cells_of_a_side_are_named():
    """That is `_MOST_NAMES`; the others are counted."""
    for number, more in ((8, ""), (9, "; and 1 more"), (12, "; and 4 more")):
        points = [cell(2, 99), *(cell(1, n) for n in range(number))]
        with pytest.raises(InputError) as caught:
            claim_cells(DEEP, points)
        assert f"(1,0; 1,1; 1,2; 1,3; 1,4; 1,5; 1,6; 1,7{more})" in caught.value.problem


@pytest.mark.parametrize(
    ("says", "said"),
    [
        ("m(num_layers=3) > m(num_layers=1)", "num_layers has 1, 2"),
        ("m(num_layers=2, num_query_tokens=9) > m(num_layers=1)", "num_query_tokens has 4, 8"),
        ("m(num_layers=2, num_query_tokens=8) > m(num_layers=1)", "no cell has all of it"),
        ("m(variant=other) > m(num_layers=1)", "variant has sca"),
        ("m(num_layer=2) > m(num_layers=1)", "num_layer is no axis of the suite; did you mean mi"),
        ("m(cell=2-4) > m(num_layers=1)", "(a name with a comma stands in quotes)"),
    ],
)
def test_what_a_side_without_cells_may_have_meant(says, said):
    points = [cell(1, 4), cell(1, 8), cell(2, 4)]
    with pytest.raises(NoSuchCell) as caught:
        claim_cells(parse_claim(says), points, "claims.it")
    assert caught.value.key == "claims.it"
    assert said in caught.value.fix
    assert caught.value.problem.startswith("no cell for m(")


def test_an_axis_s_last_part_may_be_of_two():
    points = [Point("a", {"x.depth": 1, "y.depth": 2}, "sca")]
    with pytest.raises(
        NoSuchCell, match=r"depth may be x\.depth or y\.depth: write the whole name"
    ):
        claim_cells(parse_claim("m(depth=1) > m(cell=a)"), points)
    with pytest.raises(NoSuchCell, match=r"depth is no axis of the suite; it has none"):
        claim_cells(parse_claim("m(depth=1) > m(cell=a)"), [Point("a", {}, "sca")])


# --- sweeps -----------------------------------------------------------------------------------

SWEEP = """
sweep: demo
question: Which?
base: {sam: {size: tiny, weights: random}, text_decoder: {weights: random}}
space:
  mixer.num_layers: {choices: [2, 1]}
  train.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
  train.steps: {low: 2, high: 8, step: 3}
objectives: [{metric: cider_d, direction: maximize}]
trials: 6
"""


def test_ranges_come_before_choices_and_values_in_order(tmp_path):
    path = tmp_path / "demo.yaml"
    path.write_text(SWEEP)
    sweep = load_sweep(path)
    names = ("mixer.num_layers", "train.learning_rate", "train.steps")
    assert tuple(axis.key for axis in sweep.axes) == names
    given = [(1, 0.01, 8), (2, 0.001, 2), (1, 0.001, 5)]
    cells = [
        sweep.cell(n, dict(zip(names, row, strict=True)), "val") for n, row in enumerate(given)
    ]
    axes = sweep.suite(cells).axes
    assert list(axes.items()) == [
        ("train.learning_rate", [0.001, 0.01]),
        ("train.steps", [2, 5, 8]),
        ("mixer.num_layers", [2, 1]),
    ]
    suite = sweep.suite(iter(cells), confirmed=True)
    assert (suite.spec.suite, len(suite.cells)) == ("demo_confirmed", 3)
    assert suite.own_seeds == suite.seeds == (100, 101, 102)
    assert (suite.profile, suite.metrics, suite.claims) == ("tiny", ("cider_d",), ())
    assert suite.statement == sweep.scale.statement
    assert sweep.suite(cells).statement.endswith("whose name ends in _confirmed).")
    assert sweep.suite(cells).own_seeds == (0,)


@pytest.mark.parametrize(
    ("key", "given", "said"),
    [
        ("train.steps", {"low": 1, "high": 1}, "low 1, high 1; give low < high, or choices"),
        ("train.steps", {"low": 1}, "low 1, high None; give low < high"),
        ("train.steps", {"high": 1}, "low None, high 1; give low < high"),
        ("train.steps", {"low": 1, "high": 5, "step": 0}, "high 5 is not low 1 plus steps of 0"),
        ("train.steps", {"low": 1, "high": 5, "step": -1}, "is not low 1 plus steps of -1"),
        ("train.steps", {"low": 1, "high": 5, "step": 3}, "is not low 1 plus steps of 3"),
        ("train.steps", {"low": 1.0, "high": 5}, "takes whole numbers; write low, high and step"),
        ("train.steps", {"low": 1, "high": 5, "step": 2.0}, "takes whole numbers"),
        ("train.learning_rate", {"low": 0, "high": 1, "log": True}, "log needs low > 0 and no st"),
        (
            *("train.learning_rate", {"low": 1.0, "high": 2.0, "step": 0.5, "log": True}),
            "log needs low > 0 and no step",
        ),
        ("train.precision", {"low": 1, "high": 2}, "is no number; give choices: [...]"),
        ("train.steps", {"choices": []}, "[]; give distinct values, at least one"),
        ("train.steps", {"choices": [1, 2, 1]}, "[1, 2, 1]; give distinct values"),
        ("train.steps", {"choices": [1], "low": 1}, "has a range beside choices; give one of the"),
        ("eval", {"choices": [{"num_beams": 2}]}, "trials are captioned on the validation split"),
        ("runtime.threads", {"choices": [1]}, "holds for a whole run, not for one cell"),
    ],
)
def test_ranges_that_are_none(key, given, said):
    with pytest.raises(InputError) as caught:
        read_axis(key, Dimension.model_validate(given))
    assert caught.value.key == f"space.{key}"
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("key", "given", "axis"),
    [
        ("train.steps", {"low": 1, "high": 2}, Axis("train.steps", "int", 1, 2)),
        (
            *("train.steps", {"low": 1, "high": 7, "step": 3}),
            Axis("train.steps", "int", 1, 7, 3),
        ),
        (
            *("train.learning_rate", {"low": 0.1, "high": 0.4, "step": 0.1}),
            Axis("train.learning_rate", "float", 0.1, 0.4, 0.1),
        ),
        (
            *("train.learning_rate", {"low": 1e-9, "high": 1, "log": True}),
            Axis("train.learning_rate", "float", 1e-9, 1, None, True),
        ),
        (
            *("train.precision", {"choices": ["fp32"]}),
            Axis("train.precision", "choices", choices=("fp32",)),
        ),
    ],
)
def test_ranges_that_are_some(key, given, axis):
    assert read_axis(key, Dimension.model_validate(given)) == axis


def test_what_a_storage_holds_of_choices():
    plain = Axis("k", "choices", choices=(None, True, 1, 0.5, "a"))
    assert plain.labels == plain.probes == plain.choices
    lists = Axis("k", "choices", choices=([1, 2], None))
    assert lists.labels == ("[1, 2]", "none")
    assert (lists.value_of("[1, 2]"), lists.value_of("none")) == ([1, 2], None)
    numbers = Axis("k", "int", 2, 8, 3)
    assert (numbers.probes, numbers.value_of(5)) == ((2, 8), 5)
    assert Axis("k", "int").probes == (0, 0)


@pytest.mark.parametrize("digits", [400, 401])
def test_a_number_has_four_hundred_digits_at_most(digits):
    text = "0." + "0" * (digits - 2)
    if digits == 400:
        assert load_yaml(text) == 0.0
        return
    with pytest.raises(InputError, match="a number of 401 digits; write a smaller one"):
        load_yaml(text)


@pytest.mark.parametrize(("lengths", "number"), [((2, 256), 512), ((3, 171), 174), ((1,), 1)])
def test_every_corner_is_tried_up_to_512(lengths, number):
    axes = [Axis(f"x{n}", "choices", choices=tuple(range(c))) for n, c in enumerate(lengths)]
    corners = _corners(axes)
    assert len(corners) == number
    assert corners[0] == dict.fromkeys((axis.key for axis in axes), 0)
    for axis in axes:
        assert {corner[axis.key] for corner in corners} == set(axis.choices)


def test_an_explicit_cell_has_the_last_word_over_the_rules(write, suite_text):
    more = """
adjust: [{when: {train.steps: 9}, set: {train.learning_rate: 0.5, train.warmup_steps: 3}}]
cells: [{name: own, set: {train.steps: 9, train.learning_rate: 0.25}}]
"""
    *_, own = load_suite(write(suite_text + more)).cells
    assert (own.settings.train.learning_rate, own.settings.train.warmup_steps) == (0.25, 3)
    assert own.adjusted == {"train.warmup_steps": 3}


@pytest.mark.parametrize("single", [False, True])
def test_cells_of_the_axes_and_own_cells_are_counted_together(
    write, suite_text, monkeypatch, single
):
    axes = "axes: {mixer.num_layers: [1, 2, 3], train.steps: [4, 5]}"
    text = suite_text.replace("axes: {mixer.num_layers: [1, 2]}", axes)
    text += (
        f"one_at_a_time: {str(single).lower()}\ncells: [{{name: own, set: {{train.steps: 9}}}}]\n"
    )
    number = (5 if single else 6) + 1
    path = write(text)
    monkeypatch.setattr(axes_module, "MOST_CELLS", number)
    assert len(load_suite(path).cells) <= number
    monkeypatch.setattr(axes_module, "MOST_CELLS", number - 1)
    with pytest.raises(InputError, match=f"cells: {number} cells in all; a suite has {number - 1}"):
        load_suite(path)


def test_a_joined_cell_whose_short_name_is_taken_has_its_first_name(write, suite_text):
    both = "axes: {variant: [sca, most_frequent], mixer.num_layers: [1, 2]}"
    text = suite_text.replace("axes: {mixer.num_layers: [1, 2]}", both)
    taken = "cells: [{name: variant=most_frequent, set: {mixer.num_layers: 3}}]\n"
    found = {cell.name: cell.also for cell in load_suite(write(text + taken)).cells}
    first, second = (f"variant=most_frequent,num_layers={n}" for n in (1, 2))
    assert found[first] == (second,)
    assert found["variant=most_frequent"] == ()
    assert len(found) == 4


def test_a_rule_that_matches_nothing_names_each_value_once(write, suite_text):
    layers = ", ".join(map(str, range(1, 14)))
    axes = f"train.steps: [101, 102], mixer.num_layers: [{layers}]"
    text = suite_text.replace("mixer.num_layers: [1, 2]", axes)
    rule = "adjust: [{when: {train.steps: 7}, set: {train.learning_rate: 0.5}}]\n"
    with pytest.raises(InputError) as caught:
        load_suite(write(text + rule))
    assert "no cell of any profile has 7 there; known: 101, 102" in str(caught.value)
    assert caught.value.key == "adjust.0.when.train.steps"


def test_a_cell_that_stands_for_several_values_counts_once_beside_one():
    fixed = Point("fixed", {}, "fixed", ignored={"mixer.num_layers": [1, 2, 3]})
    for says in ("m(variant=fixed) > m(cell=two)", "m(cell=two) < m(variant=fixed)"):
        sides = claim_cells(parse_claim(says), [fixed, Point("two", {}, "sca")])
        assert sorted(len(side) for side in sides) == [1, 1]
        assert {point.name for side in sides for point in side} == {"fixed", "two"}
