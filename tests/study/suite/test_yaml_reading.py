"""YAML as it is read: 1.2's plain values, one meaning for every number, and limits.

Kinds K4 and K16 of the catalogue of faults that public bug reports led to; B08 and B10 are its
cases.
"""

import math

import pytest

from sca_bench.errors import InputError
from sca_bench.settings import CellSettings
from sca_bench.study.keys.cell import keyed_values
from sca_bench.study.suite.axes import MOST_CELLS
from sca_bench.study.suite.claims import parse_claim
from sca_bench.study.suite.profiles import read_yaml
from sca_bench.study.suite.suite import MOST_RUNS, load_suite
from sca_bench.study.suite.sweep import load_sweep
from sca_bench.study.suite.yaml_values import MOST_LEVELS, MOST_VALUES, dump_yaml, load_yaml

SPLITS = {
    name: {"dataset": "scenes", "num_images": 2, "first_seed": 0} for name in ("train", "test")
}
SWEEP = """
sweep: demo
question: Which depth?
base: {sam: {size: tiny, weights: random}, text_decoder: {weights: random}}
space: {mixer.num_layers: {choices: [1, 2]}}
objectives: [{metric: cider_d, direction: maximize}]
trials: 4
"""


def refusal(action, *arguments, **named):
    with pytest.raises(InputError) as caught:
        action(*arguments, **named)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("text", ["yes", "no", "on", "off", "Yes", "NO", "On", "y", "=", "0b"])
def test_words_of_yaml_1_1_are_text(text):
    assert load_yaml(text) == text
    assert load_yaml(f"{text}: 1") == {text: 1}


@pytest.mark.parametrize("text", ["2024-01-01", "2001-12-14 21:59:43", "2024-13-45", "08:30"])
def test_dates_and_times_of_day_are_text(text):
    assert load_yaml(text) == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1.5e3", 1500.0),
        ("+.5", 0.5),
        ("0.10", 0.1),
        ("0o17", 15),
        ("0x1f", 31),
        ("-.inf", -math.inf),
        ("TRUE", True),
        ("~", None),
        ("!!str 010", "010"),
        ("!!float 3", 3.0),
    ],
)
def test_plain_values_of_yaml_1_2(text, value):
    found = load_yaml(text)
    assert (found, type(found)) == (value, type(value))
    assert load_yaml(dump_yaml(found)) == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("010", "010 is 8 in YAML 1.1 and 10 in YAML 1.2; write the number you mean"),
        ("-0777", "-0777 is -511 in YAML 1.1 and -777 in YAML 1.2"),
        ("08", "08 is text in YAML 1.1 and 8 in YAML 1.2"),
        ("1:30", "1:30 is 90 in YAML 1.1 and text in YAML 1.2"),
        ("1:30.5", "1:30.5 is 90.5 in YAML 1.1 and text in YAML 1.2"),
        ("190:20:30", "190:20:30 is 685230 in YAML 1.1"),
        ("1_000", "1_000 is 1000 in YAML 1.1 and text in YAML 1.2"),
        ("0b11", "0b11 is 3 in YAML 1.1"),
        ("!!int 010", "010 is 8 in YAML 1.1"),
        ("1e400", "1e400 is more than a floating-point number can hold"),
        ("9" * 30, "is more than 64 bits can hold"),
        ("9" * 5000, "a number of 5000 digits"),
        ("!!int true", "'true' is not what its tag says"),
        ("!!set {a}", "line 1: not YAML without tags (!!set)"),
    ],
)
def test_a_number_with_two_meanings_is_refused(text, says):
    assert refusal(load_yaml, f"train: {{steps: {text}}}").startswith("train.steps: ")
    assert says in refusal(load_yaml, f"- {text}", "axes")
    assert says in refusal(load_yaml, text, "train.steps")


@pytest.mark.parametrize("text", ["010", "1:30", "1_000", "08", "1e-3", "0o17", "yes", "~", "<<"])
def test_a_text_that_looks_like_something_else_is_written_in_quotes(text):
    assert load_yaml(f"'{text}'") == text
    assert load_yaml(dump_yaml({"base": {text: text}})) == {"base": {text: text}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("base: {a: 1}\nb: 2\nbase: {a: 2}", "base: is given twice, on lines 1 and 3"),
        ("t:\n  steps: 5\n  steps: 3", "t.steps: is given twice, on lines 2 and 3; keep one"),
        ("a: [{b: 1}, {c: 1, 'c': 1}]", "a.1.c: is given twice, on lines 1 and 1"),
        ("a: {1: x, 1.0: y}", "a.1.0: is given twice"),
        ("<<: {a: 1}\n<<: {b: 1}", "<<: is given twice, on lines 1 and 2; write <<: [*one, *two]"),
        ("? [a]\n: 1", "line 1: a list or mapping is no key"),
        ("a: {<<: 3}", "a.<<: expected a mapping, or a list of mappings"),
    ],
)
def test_a_key_stands_once(text, says):
    assert refusal(load_yaml, text).startswith(says)


def test_anchors_and_merges_stay():
    text = "a: &a {x: 1, y: 2}\nb: &b {x: 5, z: 6}\nc: {<<: [*a, *b], y: 3}\nd: [*a, {<<: *b}]"
    a, b = {"x": 1, "y": 2}, {"x": 5, "z": 6}
    found = load_yaml(text)
    assert found == {"a": a, "b": b, "c": {"x": 1, "y": 3, "z": 6}, "d": [a, b]}
    assert list(found["c"]) == ["x", "y", "z"]
    assert load_yaml("'<<': 1\n<<: {b: 2}") == {"<<": 1, "b": 2}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("axes: &a {depth: [1, *a]}", "axes.depth.1: is an alias of what it stands in (line 1)"),
        ("&a [*a]", "0: is an alias of what it stands in"),
        ("a: &a\n  b: {<<: *a}", "a.b.<<: is an alias of what it stands in (line 2)"),
        ("[" * 100_000, f"0.0.0.0.0: more than {MOST_LEVELS} levels of mappings and lists"),
        ("a: " + "{b: " * 60, f"a.b.b.b.b: more than {MOST_LEVELS} levels"),
        ("a: " + "[" * 60 + "]" * 60, f"more than {MOST_LEVELS} levels"),
    ],
)
def test_what_has_no_end_or_no_bottom_is_refused(text, says):
    assert says in refusal(load_yaml, text)


def test_aliases_count_as_often_as_they_stand():
    text = "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n"
    for old, new in ("ab", "bc", "cd", "de", "ef", "fg"):
        text += f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    assert f"more than {MOST_VALUES:,} values in one file" in refusal(load_yaml, text)


def test_more_values_than_anybody_writes_are_refused_before_they_are_read(write, monkeypatch):
    monkeypatch.setattr("sca_bench.study.suite.yaml_values.MOST_VALUES", 500)
    long = ", ".join(map(str, range(100_000)))
    line = refusal(load_suite, write(f"seeds: [{long}]"))
    assert "demo.yaml: seeds.497: more than 500 values in one file" in line


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        # B10: no number, no truth value
        ("[1, 2]", "[yes, 2]", "axes: mixer.num_layers: 'yes' is wrong; expected a whole number"),
        ("[1, 2]", "[true, 2]", "axes: mixer.num_layers: True is wrong; expected a whole number"),
        ("[1, 2]", "['1', 2]", "mixer.num_layers: '1' is wrong; expected a whole number"),
        ("[1, 2]", "[010, 12]", "axes.mixer.num_layers.0: 010 is 8 in YAML 1.1"),
        ("seeds: [0, 1]", "seeds: [yes]", "seeds: ['yes'] is wrong; expected a whole number"),
        ("seeds: [0, 1]", "seeds: [true]", "seeds: [True] is wrong; expected a whole number"),
        ("seeds: [0, 1]", "seeds: [1:30]", "seeds.0: 1:30 is 90 in YAML 1.1"),
        ("{variant: sca", "{train: {steps: on}", "train.steps: 'on' is wrong; expected a whole"),
        ("{variant: sca", "{train: {steps: true}", "train.steps: True is wrong; expected a whole"),
        ("{variant: sca", "{train: {learning_rate: '1'}", "'1' is wrong; expected a number"),
        ("{variant: sca", "{train: {learning_rate: true}", "True is wrong; expected a number"),
        ("{variant: sca", "{train: {betas: [true, 0.9]}", "train.betas: [True, 0.9] is wrong"),
        ("{variant: sca", "{mixer: {as_published: yes}", "'yes' is wrong; expected true or false"),
        ("{variant: sca", "{mixer: {as_published: 1}", "1 is wrong; expected true or false"),
        ("{variant: sca", "{data: {flip: no}", "data.flip: 'no' is wrong"),
        ("{variant: sca", "{data: {flip: 1}", "data.flip: 1 is wrong"),
        ("metrics:", "one_at_a_time: on\nmetrics:", "one_at_a_time: 'on' is wrong; expected true"),
        ("metrics:", "cells: [{name: yes, control: 1, set: {}}]\nmetrics:", "cells.0.control: 1 "),
        # B08: a key twice
        ("seeds:", "base: {variant: sca}\nseeds:", "base: is given twice, on lines 5 and 7"),
        ("seeds:", "axes: {eval.num_beams: [1]}\nseeds:", "axes: is given twice, on lines 6 and 7"),
        ("{variant: sca", "{sam: {}", "base.sam: is given twice, on lines 5 and 5"),
        # An alias to itself
        ("{mixer.num_layers: [1, 2]}", "&a {mixer.num_layers: [1, *a]}", "is an alias of what it"),
        # More than anybody means
        (
            "{mixer.num_layers: [1, 2]}",
            "{" + ", ".join(f"x{i}: [{', '.join(map(str, range(40)))}]" for i in range(9)) + "}",
            f"axes: {' x '.join(['40'] * 9)} values make 262,144,000,000,000 cells; a suite has",
        ),
    ],
)  # fmt: skip
def test_a_suite_says_one_thing(write, suite_text, old, new, line):
    assert old in suite_text
    found = refusal(load_suite, write(suite_text.lstrip().replace(old, new)))
    assert "demo.yaml: " in found
    assert line in found


def test_axes_of_another_profile_are_counted_too(write, suite_text):
    values = ", ".join(map(str, range(101)))
    axes = f"mixer.num_layers: [{values}], mixer.mlp_dim: [{values}]"
    more = f"profiles: {{small: {{axes: {{{axes}}}}}}}\n"
    line = refusal(load_suite, write(suite_text + more))
    assert "profiles.small.axes: 101 x 101 values make 10,201 cells" in line
    assert f"{MOST_CELLS:,} at most; give fewer values, or set one_at_a_time: true" in line
    assert len(load_suite(write(suite_text + more + "one_at_a_time: true\n")).cells) == 2


def test_runs_are_counted(write):
    line = refusal(load_suite, write(), seeds=range(MOST_RUNS))
    assert f"demo.yaml: seeds: 2 cells x {MOST_RUNS:,} seeds are too many runs; give fewer" in line
    assert len(load_suite(write(), seeds=range(100)).seeds) == 100


@pytest.mark.parametrize(
    ("flag", "line"),
    [
        ("train.steps=yes", "--set: train.steps: 'yes' is wrong; expected a whole number"),
        ("train.steps=true", "--set: train.steps: True is wrong; expected a whole number"),
        ("train.steps=010", "--set: train.steps: 010 is 8 in YAML 1.1 and 10 in YAML 1.2"),
        ("train.steps=1:30", "--set: train.steps: 1:30 is 90 in YAML 1.1"),
        ("text_decoder.trainable=off", "--set: text_decoder.trainable: 'off' is wrong"),
        ("train={steps: 1, steps: 2}", "--set: train.steps: is given twice"),
        ("train=&a [*a]", "--set: train.0: is an alias of what it stands in"),
    ],
)
def test_flags_say_one_thing(write, flag, line):
    assert refusal(load_suite, write(), overrides=[flag]).startswith(line)


def test_words_that_were_truth_values_are_names(write, suite_text):
    more = "cells: [{name: off, set: {eval.num_beams: 3}}]\nreference: off\n"
    suite = load_suite(write(suite_text + more), overrides=["features.cache=off"])
    assert (suite.cells[-1].name, suite.reference) == ("off", "off")
    assert suite.cells[0].settings.features.cache == "off"


def test_claims_say_one_thing():
    assert parse_claim("a(cell=yes) > a(cell=2024-01-01)").right.where == {"cell": "2024-01-01"}
    line = refusal(parse_claim, "a(mixer.num_layers=010) > a(mixer.num_layers=2)", "claims.deep")
    assert line.startswith("claims.deep: mixer.num_layers: 010 is 8 in YAML 1.1")
    assert "1:30" in refusal(parse_claim, "a(x=1:30) > a(x=1)")
    assert "alias" in refusal(parse_claim, "a(x=&a [*a]) > a(x=1)")
    assert parse_claim("a(cell='010') > a(cell=2)").left.where == {"cell": "010"}


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("trials: 4", "trials: true", "trials: True is wrong; expected a whole number"),
        ("trials: 4", "trials: 040", "trials: 040 is 32 in YAML 1.1 and 40 in YAML 1.2"),
        ("trials: 4", "trials: 4\nseed: yes", "seed: 'yes' is wrong; expected a whole number"),
        ("trials: 4", "trials: 4\ntrials: 5", "trials: is given twice, on lines 6 and 7"),
        ("{choices: [1, 2]}", "{low: true, high: 4}", "low: True is wrong; expected a number"),
        ("{choices: [1, 2]}", "{low: 1, high: 4, log: on}", "log: 'on' is wrong; expected true"),
        ("{choices: [1, 2]}", "{choices: [yes, 2]}", "mixer.num_layers: 'yes' is wrong"),
        ("trials: 4", "trials: 4\nsampler: {name: TPESampler, multivariate: no}",
         "multivariate: no is text; write true or false"),
        ("[1, 2]", f"[{', '.join(map(str, range(MOST_CELLS + 1)))}]",
         "space.mixer.num_layers: 2,001 values make 2,001 cells"),
    ],
)  # fmt: skip
def test_a_sweep_says_one_thing(tmp_path, old, new, line):
    assert old in SWEEP
    path = tmp_path / "demo.yaml"
    path.write_text(SWEEP.lstrip().replace(old, new), encoding="utf-8")
    found = refusal(load_sweep, path)
    assert "demo.yaml: " in found
    assert line in found


def test_rules_tell_one_from_true(write, suite_text):
    axes = "axes: {mixer.num_layers: [1, 2]}\nunless: [{mixer.num_layers: true}]"
    text = suite_text.replace("axes: {mixer.num_layers: [1, 2]}", axes)
    line = "no cell of any profile has true there; known: 1, 2"
    assert f"unless.0.mixer.num_layers: {line}" in refusal(load_suite, write(text))
    rule = "adjust: [{when: {mixer.num_layers: true}, set: {train.steps: 3}}]\n"
    found = refusal(load_suite, write(suite_text + rule))
    assert f"adjust.0.when.mixer.num_layers: {line}" in found


@pytest.mark.parametrize(
    "wrong",
    [{"mixer": {"num_layers": True}}, {"train": {"steps": "3"}}, {"eval": {"also_train": 1}}],
)
def test_settings_from_code_are_read_as_strictly(wrong):
    with pytest.raises(ValueError, match=r"expected (a whole number|true or false)"):
        CellSettings.model_validate({"data": SPLITS, **wrong})


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("seeds: [0, 1]", "seeds: [0, 1.5]", "seeds.1: 1.5 is wrong"),
        ("seeds: [0, 1]", "seeds: ['1']", "seeds: ['1'] is wrong; expected a whole number"),
        ("num_layers: [1, 2]", "num_layers: [1, 2.5]", "mixer.num_layers: 2.5 is wrong"),
        ("mixer.num_layers: [1, 2]", "mixer.image_grid: [4, true]", "image_grid: True is wrong"),
        ("mixer.num_layers: [1, 2]", "train.betas: [[true, 0.9]]", "expected a number"),
        ("mixer.num_layers: [1, 2]", "data.lsj_scale: [[false, 2.0]]", "expected a number"),
        ("mixer.num_layers: [1, 2]", "train.weight_decay: [false]", "False is wrong; expected a n"),
        ("seeds", "claims: [{id: a, says: 'm(variant=sca) <= m(variant=b)', margin: true}]\nseeds",
         "margin: True is wrong; expected a number"),
    ],
)  # fmt: skip
def test_a_truth_value_is_no_number_anywhere(write, suite_text, old, new, line):
    assert line in refusal(load_suite, write(suite_text.replace(old, new)))


def test_a_whole_number_may_be_written_with_a_point(write, suite_text):
    one, other = (
        load_suite(write(suite_text.replace("seeds: [0, 1]", more)))
        for more in (
            "cells: [{name: x, set: {train.steps: 3, train.clip_norm: 1}}]\nseeds: [0, 1]",
            "cells: [{name: x, set: {train.steps: 3.0, train.clip_norm: 1.0}}]\nseeds: [0, 1.0]",
        )
    )
    assert other.seeds == (0, 1)
    keys = [str(keyed_values(suite.cells[-1].settings, {})) for suite in (one, other)]
    assert keys[0] == keys[1]


def test_minus_zero_is_zero(write, suite_text):
    keys = []
    for zero, beta in ((0.0, 0.0), (-0.0, -0.0)):
        train = {"weight_decay": zero, "final_lr_ratio": zero, "betas": (beta, 0.9)}
        settings = CellSettings.model_validate({"data": SPLITS, "train": train})
        keys.append(str(keyed_values(settings, {})))
    assert keys[0] == keys[1]
    assert str(load_yaml("[-0.0, -0, -.0, -0e3]")) == "[0.0, 0, 0.0, 0.0]"
    zeros = suite_text.replace("mixer.num_layers: [1, 2]", "mixer.dropout: [0, -0.0]")
    assert "give distinct values" in refusal(load_suite, write(zeros))


def test_files_that_cannot_be_read(tmp_path):
    (tmp_path / "folder.yaml").mkdir()
    assert "folder.yaml: is no regular file (a folder)" in refusal(
        read_yaml, tmp_path / "folder.yaml"
    )
    (tmp_path / "loop.yaml").symlink_to(tmp_path / "loop.yaml")
    assert "loop.yaml: cannot be read" in refusal(read_yaml, tmp_path / "loop.yaml")


def test_a_claim_in_words_is_a_clause_and_makes_no_cell_new(write, suite_text):
    claim = "claims:\n- id: deep\n  says: m(num_layers=2) > m(num_layers=1)\n"
    plain, worded = (
        load_suite(write(suite_text + claim + more))
        for more in ("", "  text: |\n    two layers\n    beat one.\n")
    )
    assert [one.claims[0].text for one in (plain, worded)] == ["", "two layers beat one"]
    keys = [[str(keyed_values(c.settings, {})) for c in one.cells] for one in (plain, worded)]
    assert keys[0] == keys[1]
    found = refusal(load_suite, write(suite_text + claim + "  text: ''\n"))
    assert "claims.0.text: '' is wrong; give a clause, such as: two layers beat one; or" in found
