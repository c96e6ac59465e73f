import pytest

from sca_bench.errors import InputError
from sca_bench.study.suite import merge as m
from sca_bench.study.suite.profiles import load_profile, profile_names
from sca_bench.study.suite.suite import load_suite


def test_axes_are_a_product_with_names_and_coordinates(write, suite_text):
    text = suite_text.replace(
        "axes: {mixer.num_layers: [1, 2]}",
        "axes: {mixer.num_layers: [1, 2], train.learning_rate: [0.1, 0.2]}",
    )
    suite = load_suite(write(text))
    assert [cell.name for cell in suite.cells] == [
        "num_layers=1,learning_rate=0.1",
        "num_layers=1,learning_rate=0.2",
        "num_layers=2,learning_rate=0.1",
        "num_layers=2,learning_rate=0.2",
    ]
    assert suite.cells[2].settings.mixer.num_layers == 2
    assert suite.cells[2].coordinates == {"mixer.num_layers": 2, "train.learning_rate": 0.1}
    assert suite.header == "Costs nothing.\nExpect nothing."


def test_one_at_a_time_and_unless(write, suite_text):
    axes = "axes: {mixer.num_layers: [1, 2], eval.num_beams: [1, 3]}"
    text = suite_text.replace("axes: {mixer.num_layers: [1, 2]}", axes)
    single = load_suite(write(text + "one_at_a_time: true\n"))
    assert [c.name for c in single.cells] == [
        "num_layers=1", "num_layers=2,num_beams=1", "num_beams=3",
    ]  # fmt: skip
    rule = "unless: [{mixer.num_layers: 2, eval.num_beams: 3}]\n"
    assert len(load_suite(write(text + rule)).cells) == 3


def test_adjust_applies_where_it_matches_and_is_recorded(write, suite_text):
    rule = "adjust: [{when: {mixer.num_layers: 2}, set: {train.learning_rate: 0.5}}]\n"
    one, two = load_suite(write(suite_text + rule)).cells
    assert two.settings.train.learning_rate == 0.5
    assert two.adjusted == {"train.learning_rate": 0.5}
    assert one.settings.train.learning_rate != 0.5
    assert one.adjusted == {}


def test_precedence_of_layers(write, suite_text):
    text = suite_text + (
        "profiles: {tiny: {base: {train: {steps: 7}}, seeds: [3]}}\n"
        "cells: [{name: extra, set: {train.steps: 9}, control: true}]\n"
    )
    suite = load_suite(write(text))
    assert [c.settings.train.steps for c in suite.cells] == [7, 7, 9]
    assert suite.cells[2].control
    assert suite.seeds == (3,)
    flagged = load_suite(write(text), overrides=["train.warmup_steps=5"], seeds=[5])
    assert {c.settings.train.warmup_steps for c in flagged.cells} == {5}
    assert flagged.seeds == (5,)


def test_another_dataset_replaces_instead_of_mixing():
    base = {"train": {"dataset": "scenes", "num_images": 3}}
    patch = {"train": {"dataset": "coco_instances", "images": "x"}}
    assert m.merge(base, patch) == patch
    assert m.merge(base, {"train": {"num_images": 4}})["train"] == {
        "dataset": "scenes",
        "num_images": 4,
    }


def test_named_paths(write, suite_text):
    text = suite_text + "paths: {lm: null}\n"
    text = text.replace("text_decoder: {weights: random}", "text_decoder: {weights: '{lm}/x'}")
    with pytest.raises(InputError, match=r"paths\.lm: not set; give --set paths\.lm=PATH"):
        load_suite(write(text))
    suite = load_suite(write(text), overrides=["paths.lm=/some/where"])
    assert suite.cells[0].settings.text_decoder.weights == "/some/where/x"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("mixer.num_layers", "mixer.num_layer", "unknown setting; did you mean mixer.num_layers?"),
        ("seeds: [0, 1]", "sedes: [0, 1]", "unknown key; did you mean seeds?"),
        ("question:", "# question:", "question: missing"),
        ("variant: sca", "variant: scaa", "did you mean sca?"),
        ("variant: sca", "varient: sca", "base.varient: unknown setting; did you mean variant?"),
        ("[1, 2]", "[1, many]", "axes: mixer.num_layers: 'many' is wrong"),
        ("[1, 2]", "[1, 1]", "give distinct values"),
        ("[1, 2]", "[]", "give distinct values"),
        ("seeds: [0, 1]", "seeds: [0, 0]", "give distinct seeds"),
        ("seeds: [0, 1]", "seeds: zero", "seeds: 'zero' is wrong"),
        ("size: tiny", "size: teeny", "sam.size: 'teeny' is wrong"),
        ("suite: demo", "suite: 'a b'", "suite: 'a b' is wrong"),
    ],
)
def test_every_fault_is_one_clear_line(write, suite_text, old, new, message):
    path = write(suite_text.replace(old, new))
    with pytest.raises(InputError) as caught:
        load_suite(path)
    line = str(caught.value)
    assert message in line
    assert path.name in line
    assert "\n" not in line


def test_faults_in_overrides_name_the_flag(write):
    with pytest.raises(InputError, match=r"^--set: train.stepz: .* did you mean train.steps\?"):
        load_suite(write(), overrides=["train.stepz=3"])
    with pytest.raises(InputError, match=r"^--set: train.steps: 'x' is wrong"):
        load_suite(write(), overrides=["train.steps=x"])
    with pytest.raises(InputError, match=r"expected path=value"):
        load_suite(write(), overrides=["train.steps"])


def test_faults_of_files(tmp_path, write):
    with pytest.raises(InputError, match=r"no such file"):
        load_suite(tmp_path / "nothing.yaml")
    (tmp_path / "broken.yaml").write_text("suite: [", encoding="utf-8")
    with pytest.raises(InputError, match=r"broken.yaml: line \d+: not YAML"):
        load_suite(tmp_path / "broken.yaml")
    (tmp_path / "list.yaml").write_text("- 1", encoding="utf-8")
    with pytest.raises(InputError, match=r"expected a mapping"):
        load_suite(tmp_path / "list.yaml")
    (tmp_path / "tag.yaml").write_text("!!python/object/apply:os.getcwd []", encoding="utf-8")
    with pytest.raises(InputError, match=r"not YAML"):
        load_suite(tmp_path / "tag.yaml")


@pytest.mark.parametrize("name", profile_names())
def test_every_shipped_profile_says_what_it_is(name):
    profile = load_profile(name)
    assert profile.statement
    assert profile.base


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("profiles: {tiny: {axes: {mixer.num_layers: [1]}}, small: {axes: {mixer.depth: [1]}}}",
         "profiles.small.axes.mixer.depth: unknown setting"),
        ("profiles: {small: {base: {mixer: {depth: 1}}}}", "profiles.small.base.mixer.depth"),
        ("claims: [{id: a, says: banana}]", "claims.a: cannot read the claim 'banana'"),
        ("cells: [{name: x, set: {runtime.threads: 1}}]", "holds for a whole run"),
        ("unless: [{mixer.num_layers: 1}, {mixer.num_layers: 2}]", "leaves no cell"),
        ("profiles: {small: {claims: [{id: a, says: 'x(a=1)'}]}}", "profiles.small.claims.a"),
    ],
)  # fmt: skip
def test_every_part_of_the_file_is_checked_whatever_the_profile(write, suite_text, extra, message):
    with pytest.raises(InputError) as caught:
        load_suite(write(suite_text + extra + "\n"))
    assert message in str(caught.value)


def test_an_unknown_axis_is_met_even_where_the_profile_has_its_own(write, suite_text):
    text = suite_text.replace("mixer.num_layers: [1, 2]", "mixer.num_layer: [1, 2]")
    with pytest.raises(InputError, match=r"did you mean mixer\.num_layers"):
        load_suite(write(text + "profiles: {tiny: {axes: {mixer.num_layers: [1]}}}\n"))


def test_subsets(write, suite_text, tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("1")
    text = suite_text + (
        f"paths: {{vg: '{tmp_path}'}}\n"
        "subsets: {one: first_of_image, ids: '{vg}/ids.txt'}\n"
        "profiles: {small: {subsets: {first: first_of_image}}}\n"
    )
    suite = load_suite(write(text))
    assert suite.subsets == {"one": "first_of_image", "ids": str(path)}
    assert suite.paths == {"vg": str(tmp_path)}
    small = load_suite(write(text), profile="small")
    assert small.subsets == {"first": "first_of_image"}
    assert load_suite(write(suite_text)).subsets == {}


@pytest.mark.parametrize(
    ("subsets", "message"),
    [
        ("{a/b: first_of_image}", r"subsets.a/b: cannot be a subset's name; use letters"),
        ("{train: first_of_image}", r"subsets.train: cannot be a subset's name"),
        ("{one: first_of_images}", r"subsets.one: first_of_images is no file; name a file of"),
        ("{one: '{vg}/x'}", r"paths.vg: .* nothing declares it; write `paths: {vg: null}`"),
        ("[one]", "subsets: "),
    ],
)
def test_faults_of_subsets(write, suite_text, subsets, message):
    with pytest.raises(InputError, match=message):
        load_suite(write(suite_text + f"subsets: {subsets}\n"))
