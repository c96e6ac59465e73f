"""What an axis or an explicit cell states stays so, whatever rules and flags say."""

import pytest

from sca_bench.errors import InputError
from sca_bench.study.suite.suite import load_suite

AXES = "axes: {mixer.num_layers: [1, 2]}"


def refusal(path, *flags, **more):
    with pytest.raises(InputError) as caught:
        load_suite(path, overrides=flags, **more)
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("axes", "flag", "key"),
    [
        (AXES, "mixer.num_layers=4", "mixer.num_layers"),
        (AXES, "mixer.num_layers=1", "mixer.num_layers"),
        (AXES, "mixer={num_layers: 4}", "mixer.num_layers"),
        (AXES, "mixer=null", "mixer.num_layers"),
        ("axes: {mixer: [{num_layers: 1}, {num_layers: 2}]}", "mixer.num_layers=1", "mixer"),
        ("axes: {mixer: [{num_layers: 1}, {num_layers: 2}]}", "mixer.mlp_dim=48", "mixer"),
        ("axes: {mixer: [{num_layers: 1}, {num_layers: 2}]}", "mixer={num_layers: 1}", "mixer"),
        ("axes: {data.lsj_scale: [null, [0.1, 2.0]]}", "data.lsj_scale=[0.5, 2.0]",
         "data.lsj_scale"),
        ("axes: {data.lsj_scale: [null, [0.1, 2.0]]}", "data={lsj_scale: [0.5, 2.0]}",
         "data.lsj_scale"),
        ("axes: {data.test.num_images: [3, 4]}",
         "data.test={dataset: scenes, first_seed: 5, num_images: 5}", "data.test.num_images"),
        ("axes: {eval.num_beams: [1, 3], mixer.num_layers: [1, 2]}", "eval.num_beams=3",
         "eval.num_beams"),
        (AXES + "\none_at_a_time: true", "mixer.num_layers=2", "mixer.num_layers"),
    ],
)  # fmt: skip
def test_a_flag_does_not_move_an_axis(write, suite_text, axes, flag, key):
    path = write(suite_text.replace(AXES, axes))
    line = refusal(path, flag)
    assert line.startswith(f"--set: {flag}: changes what {path}: axes.{key} states, ")
    assert line.endswith("; leave it out, or change the file")


@pytest.mark.parametrize("control", ["", ", control: true"])
@pytest.mark.parametrize("flag", ["train.steps=11", "train={steps: 11}"])
def test_a_flag_does_not_move_an_explicit_cell(write, suite_text, control, flag):
    path = write(suite_text + f"cells: [{{name: long, set: {{train.steps: 9}}{control}}}]\n")
    line = refusal(path, flag)
    assert f"{path}: cells.long.set.train.steps states, 9 in cell long; leave it out" in line


def test_the_place_is_that_of_the_profile_in_use(write, suite_text):
    more = (
        "profiles: {tiny: {axes: {eval.num_beams: [1, 2]},"
        " cells: [{name: deep, set: {mixer.num_layers: 4}}]}}\n"
    )
    path = write(suite_text + more)
    for profile in ("tiny", "small"):  # `small` extends `tiny`
        line = refusal(path, "eval.num_beams=2", profile=profile)
        assert f"{path}: profiles.tiny.axes.eval.num_beams states, 1 in cell num_beams=1" in line
    line = refusal(path, "mixer.num_layers=2")
    assert f"{path}: profiles.tiny.cells.deep.set.mixer.num_layers states" in line


@pytest.mark.parametrize(
    "flags",
    [
        ("train.steps=3",),
        ("mixer.mlp_dim=48",),
        ("mixer={mlp_dim: 48}",),
        ("data.permute_captions=false", "train.steps=3"),
    ],
)
def test_a_flag_beside_what_is_stated_is_obeyed(write, suite_text, flags):
    more = "cells: [{name: same, set: {mixer.num_layers: 4, data.permute_captions: false}}]\n"
    suite = load_suite(write(suite_text + more), overrides=flags)
    assert [cell.settings.mixer.num_layers for cell in suite.cells] == [1, 2, 4]


def test_a_flag_that_says_what_every_cell_states_changes_nothing(write, suite_text):
    path = write(suite_text.replace("[1, 2]", "[2]"))
    plain, flagged = load_suite(path), load_suite(path, overrides=["mixer.num_layers=2"])
    assert [c.settings for c in flagged.cells] == [c.settings for c in plain.cells]
    assert flagged.notes == ()


@pytest.mark.parametrize("place", ["", "profiles.tiny."])
@pytest.mark.parametrize(
    ("axes", "rule", "key"),
    [
        (AXES, "{mixer.num_layers: 4}", "mixer.num_layers"),
        (AXES, "{mixer: {num_layers: 4}}", "mixer.num_layers"),
        ("axes: {mixer: [{num_layers: 1}, {num_layers: 2}]}", "{mixer.num_layers: 4}", "mixer"),
        ("axes: {variant: [sca, sca_split_mixer]}", "{variant: sca_roi_align}", "variant"),
    ],
)
def test_a_rule_does_not_move_an_axis(write, suite_text, axes, rule, key, place):
    rules = f"adjust: [{{when: {{}}, set: {rule}}}]"
    more = f"profiles: {{tiny: {{{rules}}}}}\n" if place else f"{rules}\n"
    path = write(suite_text.replace(AXES, axes) + more)
    line = refusal(path)
    assert f"{path}: {place}adjust.0.set: changes {key}, which axes.{key} states for cell " in line


def test_a_rule_may_set_what_the_axis_leaves_open(write, suite_text):
    axes = "axes: {mixer: [{num_layers: 1}, {num_layers: 2}]}"
    rule = "adjust: [{when: {mixer.num_layers: 2}, set: {mixer.mlp_dim: 48}}]\n"
    one, two = load_suite(write(suite_text.replace(AXES, axes) + rule)).cells
    assert (one.settings.mixer.mlp_dim, two.settings.mixer.mlp_dim) == (192, 48)
    assert two.adjusted == {"mixer.mlp_dim": 48}


def test_an_explicit_cell_has_the_last_word_over_rules(write, suite_text):
    more = (
        "adjust: [{when: {}, set: {train.steps: 7, eval.num_beams: 2}}]\n"
        "cells: [{name: long, set: {train.steps: 9}}]\n"
    )
    cells = load_suite(write(suite_text + more), overrides=["eval.num_beams=3"]).cells
    assert [cell.settings.train.steps for cell in cells] == [7, 7, 9]
    assert [cell.adjusted for cell in cells] == [{"train.steps": 7}, {"train.steps": 7}, {}]


def test_a_profile_may_replace_axes_cells_and_rules(write, suite_text):
    more = (
        "adjust: [{when: {mixer.num_layers: 1}, set: {train.steps: 7}}]\n"
        "cells: [{name: wide, set: {mixer.mlp_dim: 48}}]\n"
        "profiles: {tiny: {axes: {eval.num_beams: [1, 3]}, cells: [],"
        " adjust: [{when: {eval.num_beams: 3}, set: {train.steps: 8}}]}}\n"
    )
    cells = load_suite(write(suite_text + more)).cells
    assert [(c.name, c.settings.train.steps) for c in cells] == [
        ("num_beams=1", 250),
        ("num_beams=3", 8),
    ]


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        (AXES, "axes: {mixer.num_layers: [1, 2], mixer: [{mlp_dim: 48}]}", "axes"),
        ("seeds", "cells: [{name: x, set: {mixer: {num_layers: 1}, mixer.num_layers: 2}}]\nseeds",
         "cells.x.set"),
        ("seeds", "adjust: [{when: {}, set: {mixer: {mlp_dim: 8}, mixer.num_layers: 2}}]\nseeds",
         "adjust.0.set"),
    ],
)  # fmt: skip
def test_a_setting_and_a_part_of_it_are_not_stated_both(write, suite_text, old, new, place):
    line = refusal(write(suite_text.replace(old, new)))
    assert f"{place}.mixer.num_layers: is a part of {place}.mixer; give the whole" in line
