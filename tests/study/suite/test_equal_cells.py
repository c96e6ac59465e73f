"""Two names of one cell: one cell with a note, or refused where a layer made them equal."""

import shutil

import pytest

from sca_bench.errors import InputError
from sca_bench.study.plan.manifest import manifest_of
from sca_bench.study.plan.plan import make_plan
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.no_difference import join_equal
from sca_bench.study.suite.profiles import load_profile
from sca_bench.study.suite.resolve import ResolvedCell, Resolver
from sca_bench.study.suite.schema import Patch, SuiteFile
from sca_bench.study.suite.suite import load_suite
from sca_bench.study.suite.yaml_values import load_yaml

AXES = "axes: {mixer.num_layers: [1, 2]}"
BOTH = "axes: {variant: [sca, most_frequent], mixer.num_layers: [1, 2]}"


def refusal(path, *flags, **more):
    with pytest.raises(InputError) as caught:
        load_suite(path, overrides=flags, **more)
    return str(caught.value)


def test_an_axis_that_a_variant_ignores_gives_one_cell(write, suite_text, tmp_path):
    more = "reference: cell=variant=most_frequent\n"
    suite = load_suite(write(suite_text.replace(AXES, BOTH) + more))
    assert [cell.name for cell in suite.cells] == [
        "variant=sca,num_layers=1",
        "variant=sca,num_layers=2",
        "variant=most_frequent",
    ]
    one = suite.cells[-1]
    names = ("variant=most_frequent,num_layers=1", "variant=most_frequent,num_layers=2")
    assert (one.also, one.coordinates) == (names, {"variant": "most_frequent"})
    assert one.ignored == {"mixer.num_layers": (1, 2)}
    note = f"one cell for {' and '.join(names)}: most_frequent does not read mixer.num_layers"
    assert suite.notes == (note,)
    plan = make_plan(suite, Store(tmp_path), only="variant=most_frequent,num_layers=2")
    assert len(plan.jobs) == 2  # seeds
    (entry,) = manifest_of(plan, Store(tmp_path), "", "").cells
    assert (entry.name, entry.also, entry.note) == (one.name, list(names), note)
    assert entry.ignored == {"mixer.num_layers": [1, 2]}


@pytest.mark.parametrize(
    "reference",
    ["'variant=most_frequent,num_layers=2'", "variant=most_frequent, mixer.num_layers=1"],
)
def test_a_cell_is_found_by_each_of_its_names(write, suite_text, reference):
    text = suite_text.replace(AXES, BOTH) + f"reference: {reference}\n"
    assert load_suite(write(text)).reference == "variant=most_frequent"


def test_a_suite_whose_only_axis_is_ignored_is_one_cell(write, suite_text):
    suite = load_suite(write(suite_text.replace("variant: sca", "variant: most_frequent")))
    (cell,) = suite.cells
    assert (cell.name, cell.also) == ("demo", ("num_layers=1", "num_layers=2"))


def test_an_axis_that_moves_no_number_is_one_cell(write, suite_text):
    text = suite_text.replace(AXES, "axes: {features.cache: [off, all], train.steps: [3, 4]}")
    suite = load_suite(write(text))
    assert [cell.name for cell in suite.cells] == ["steps=3", "steps=4"]
    assert "no number depends on features.cache" in suite.notes[0]


def test_a_cell_that_repeats_another_is_the_same(write, suite_text):
    more = "cells: [{name: main, set: {mixer.num_layers: 2}}]\nreference: main\n"
    suite = load_suite(write(suite_text + more))
    assert [(c.name, c.also) for c in suite.cells] == [
        ("num_layers=1", ()),
        ("num_layers=2", ("main",)),
    ]
    assert suite.reference == "num_layers=2"
    assert suite.notes == ("one cell for num_layers=2 and main: they differ in no setting",)


@pytest.mark.parametrize("profile", ["", "profiles: {tiny: {base: {eval: {num_beams: 1}}}}\n"])
def test_the_common_point_of_single_axes_is_one_cell_on_all_of_them(write, suite_text, profile):
    axes = "axes: {mixer.num_layers: [1, 2], eval.num_beams: [1, 3]}\none_at_a_time: true"
    suite = load_suite(write(suite_text.replace(AXES, axes) + profile))
    common = suite.cells[1]
    assert common.name == "num_layers=2,num_beams=1"
    assert common.coordinates == {"mixer.num_layers": 2, "eval.num_beams": 1}
    assert common.also == ("num_layers=2", "num_beams=1")


def test_a_flag_does_not_make_two_cells_one(write, suite_text):
    path = write(suite_text + "cells: [{name: long, set: {mixer.num_layers: 2, train.steps: 9}}]\n")
    assert len(load_suite(path).cells) == 3
    line = refusal(path, "train.steps=9")
    assert line.startswith(
        f"--set: train.steps=9: gives cell num_layers=2 the train.steps=9 that {path}: "
        "cells.long.set.train.steps states for long"
    )


def test_a_flag_is_to_blame_where_a_profile_has_its_part_in_it(write, suite_text):
    path = write(suite_text + "cells: [{name: long, set: {train.steps: 9}}]\n")
    line = refusal(path, "train.steps=9")  # 2 layers are what `tiny` says
    assert line.startswith("--set: train.steps=9: gives cell num_layers=2 the train.steps=9 that ")


def test_a_rule_does_not_make_two_cells_one(write, suite_text):
    more = (
        "adjust: [{when: {mixer.num_layers: 1}, set: {train.steps: 9}}]\n"
        "cells: [{name: long, set: {mixer.num_layers: 1, train.steps: 9}}]\n"
    )
    path = write(suite_text + more)
    line = refusal(path)
    assert line.startswith(f"{path}: adjust.0: gives cell num_layers=1 the train.steps=9 that ")
    assert "cells.long.set.train.steps states for long; so both are one cell" in line


@pytest.mark.parametrize(
    ("patch", "who"),
    [
        ("profiles: {tiny: {base: {train: {steps: 9}}}}\n", "profiles.tiny.base: "),
        ("", "profile tiny: "),
    ],
)
def test_a_profile_does_not_make_two_cells_one(write, suite_text, patch, who):
    steps = 9 if patch else 250  # 250 is what `tiny` says
    more = f"cells: [{{name: long, set: {{mixer.num_layers: 2, train.steps: {steps}}}}}]\n"
    line = refusal(write(suite_text + more + patch))
    assert f"{who}gives cell num_layers=2 the train.steps={steps} that" in line


def test_two_paths_given_alike_do_not_make_two_cells_one(write, suite_text):
    axes = "axes: {start_from: ['{one}', '{two}']}\npaths: {one: null, two: null}"
    path = write(suite_text.replace(AXES, axes))
    line = refusal(path, "paths.one=x", "paths.two=x")
    assert "axes.start_from: {one} and {two} are both x, so start_from={one} and" in line
    assert line.endswith("give --set paths.one, --set paths.two other files (line 6)")


def test_two_files_of_one_content_are_not_two_cells(write, suite_text, tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text("weights" if name != "c" else "others")
    shutil.copy(tmp_path / "a", tmp_path / "b")
    for second, fine in (("c", True), ("b", False)):
        axes = f"axes: {{start_from: ['{tmp_path}/a', '{tmp_path}/{second}']}}"
        suite = load_suite(write(suite_text.replace(AXES, axes)))
        assert len(suite.cells) == 2
        if fine:
            assert len(make_plan(suite, Store(tmp_path / "runs")).cells) == 2
            continue
        with pytest.raises(InputError, match=r"demo.yaml: start_from: .* have one content, so"):
            make_plan(suite, Store(tmp_path / "runs"))


def test_two_published_rows_of_one_cell_are_mentioned(write, suite_text, tmp_path):
    text = suite_text.replace("variant: sca", "variant: most_frequent").replace("[1, 2]", "[2, 4]")
    rows = "paper: table_4\npublished: {num_layers=2: 2 layers, num_layers=4: 4 layers}\n"
    suite = load_suite(write(text + rows))
    assert suite.notes[-1] == "demo has no one published row: 2 layers; 4 layers"
    store = Store(tmp_path)
    (entry,) = manifest_of(make_plan(suite, store), store, "", "").cells
    assert entry.published_row == ""


def test_a_cell_beside_the_axes_lends_its_name_where_it_comes_first(write, suite_text):
    """It stands nowhere on the axes, so it does not move the place of the others."""
    text = suite_text + "cells: [{name: main, set: {mixer.num_layers: 2}}]\n"
    path, spec = write(text), SuiteFile.model_validate(load_yaml(text))
    resolver = Resolver(path, spec, Patch(), "tiny", load_profile("tiny"), ())
    main, *others = join_equal(resolver.cells()[::-1], resolver)
    assert (main.name, main.also) == ("main", ("num_layers=2",))
    assert main.coordinates == {"mixer.num_layers": 2}
    assert [cell.name for cell in others] == ["num_layers=1"]


def test_what_is_shown_of_a_cell_leaves_out_where_its_settings_come_from(write, suite_text):
    cell = load_suite(write(suite_text)).cells[0]
    assert isinstance(cell, ResolvedCell)
    assert (cell.stated, bool(cell.origin)) == ({"mixer.num_layers": 1}, True)
    assert repr(cell).startswith("ResolvedCell(name='num_layers=1', coordinates={")
    assert "stated=" not in repr(cell)
    assert "origin=" not in repr(cell)
