"""A rule or flag that matches nothing is refused, or mentioned where it is for another profile."""

import pytest

from sca_bench.errors import InputError
from sca_bench.study.suite.suite import load_suite

AXES = "axes: {mixer.num_layers: [1, 2]}"


@pytest.mark.parametrize(
    ("rules", "line"),
    [
        ("unless: [{mixer.num_layers: 3}]",
         "unless.0.mixer.num_layers: no cell of any profile has 3 there; known: 1, 2"),
        ("unless: [{mixer.num_layers: 2}, {mixer.mlp_dim: 48}]",
         "unless.1.mixer.mlp_dim: is no axis; known: mixer.num_layers"),
        ("one_at_a_time: true\nunless: [{mixer.num_layers: 1, eval.num_beams: 3}]",
         "unless.0: no cell of any profile has all of mixer.num_layers=1, eval.num_beams=3"),
        ("adjust: [{when: {mixer.num_layers: 3}, set: {train.steps: 3}}]",
         "adjust.0.when.mixer.num_layers: no cell of any profile has 3 there; known: 1, 2"),
        ("adjust: [{when: {mixer.num_layers: 1}, set: {train.steps: 3}},"
         " {when: {variant: sca_splitmixer}, set: {train.steps: 3}}]",
         "adjust.1.when.variant: no cell of any profile has sca_splitmixer there; known: sca"),
        ("adjust: [{when: {mixer.num_layers: 1, eval.num_beams: 5}, set: {train.steps: 3}}]\n"
         "cells: [{name: beams, set: {mixer.num_layers: 2, eval.num_beams: 5}}]",
         "adjust.0.when: no cell of any profile has all of mixer.num_layers=1, eval.num_beams=5"),
        ("profiles: {small: {adjust: [{when: {eval.num_beams: 5}, set: {train.steps: 3}}]}}",
         "profiles.small.adjust.0.when.eval.num_beams: no cell of any profile has 5 there"),
    ],
)  # fmt: skip
def test_a_rule_that_matches_no_cell_of_any_profile(write, suite_text, rules, line):
    axes = "axes: {mixer.num_layers: [1, 2], eval.num_beams: [1, 3]}"
    text = suite_text.replace(AXES, axes) if "one_at_a_time" in rules else suite_text
    with pytest.raises(InputError) as caught:
        load_suite(write(text + rules + "\n"))
    assert f"demo.yaml: {line}" in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "note"),
    [
        ("unless: [{mixer.num_layers: 8}]", "unless.0 (mixer.num_layers=8)"),
        ("adjust: [{when: {mixer.num_layers: 8}, set: {train.steps: 3}}]",
         "adjust.0 (mixer.num_layers=8)"),
    ],
)  # fmt: skip
def test_a_rule_for_another_profile_is_mentioned(write, suite_text, rule, note):
    more = f"{rule}\nprofiles: {{paper: {{axes: {{mixer.num_layers: [4, 8]}}}}}}\n"
    path = write(suite_text + more)
    assert load_suite(path).notes == (f"{note} matches no cell of profile tiny",)
    assert load_suite(path, profile="paper", allow_missing=True).notes == ()


@pytest.mark.parametrize(
    "when", ["{mixer.dropout: 0.0}", "{eval.num_beams: 1}", "{data.flip: never}"]
)
def test_a_rule_sees_the_values_that_nobody_states(write, suite_text, when):
    rule = f"adjust: [{{when: {when}, set: {{train.steps: 3}}}}]\n"
    assert {c.settings.train.steps for c in load_suite(write(suite_text + rule)).cells} == {3}


def test_a_flag_that_no_cell_reads_is_mentioned(write, suite_text):
    constant = suite_text.replace("variant: sca", "variant: most_frequent")
    path = write(constant + "paths: {lm: null}\n")
    flags = ["mixer.mlp_dim=48", "paths.lm=somewhere", "data.test.num_images=3", "runtime.jobs=1"]
    suite = load_suite(path, overrides=flags)
    assert suite.notes[:2] == (
        "--set paths.lm: no cell of the profile reads this path",
        "--set mixer.mlp_dim=48: no cell reads it",
    )
    assert len(suite.notes) == 3  # the axis that is not read either
    read = suite_text + "paths: {lm: null}\ncells: [{name: x, set: {start_from: '{lm}'}}]\n"
    assert load_suite(write(read), overrides=flags[:2]).notes == ()
