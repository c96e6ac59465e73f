"""The YAML of a sweep: what it becomes, and one line for every fault."""

import textwrap

import pytest

from sca_bench.errors import InputError
from sca_bench.study.suite.sweep import load_sweep

SWEEP = """
    # Costs nothing.
    sweep: demo
    question: Which rate suits which depth?
    base: {sam: {size: tiny, weights: random}, text_decoder: {weights: random}}
    space:
      mixer.num_layers: {choices: [1, 2]}
      train.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
    objectives: [{metric: cider_d, direction: maximize}]
    metrics: [exact_match]
    trials: 6
    profiles: {tiny: {trials: 4, base: {train: {steps: 7}}}}
"""


@pytest.fixture
def sweep_file(tmp_path):
    def write(old="", new="", more=""):
        text = textwrap.dedent(SWEEP).lstrip()
        assert old in text
        path = tmp_path / "demo.yaml"
        path.write_text(text.replace(old, new) + more, encoding="utf-8")
        return path

    return write


def test_a_sweep_and_its_cells(sweep_file):
    sweep = load_sweep(sweep_file())
    assert (sweep.trials, sweep.batch, sweep.metrics) == (4, 4, ("cider_d", "exact_match"))
    assert [axis.kind for axis in sweep.axes] == ["choices", "float"]
    assert len(sweep.probes) == 4
    params = {"mixer.num_layers": 2, "train.learning_rate": 0.00123456789}
    cell = sweep.cell(3, params, "val")
    assert cell.name == "#3 num_layers=2,learning_rate=0.001235"
    assert cell.settings.train.learning_rate == 0.00123456789
    assert cell.settings.train.steps == 7
    assert cell.settings.eval.split == "val"
    assert cell.settings.runtime.jobs == 1
    assert sweep.cell(3, params, "test").settings.eval.split == "test"
    suite = sweep.suite([cell])
    assert suite.axes == {"mixer.num_layers": [2], "train.learning_rate": [0.00123456789]}
    assert suite.header == "Costs nothing."
    asked = "Which rate suits which depth?"
    assert suite.spec.question == f"{asked} (trials, on the validation split)"
    best = sweep.suite([cell], confirmed=True)
    assert best.spec.question == f"{asked} (the best trial again, on the test split)"
    assert (suite.spec.suite, suite.seeds) == ("demo", (0,))
    assert best.spec.suite.startswith("demo")
    assert best.spec.suite != "demo"
    assert best.seeds == (100, 101, 102)


def test_whole_numbers_and_choices_that_are_no_plain_values(sweep_file):
    more = """space:
      train.betas: {choices: [[0.9, 0.98], [0.9, 0.999]]}
      mixer.image_grid: {low: 2, high: 6, step: 2}
      text_decoder.trainable: {choices: [true, false]}"""
    sweep = load_sweep(sweep_file("space:", more.replace("\n    ", "\n")))
    betas, grid, trainable, *_ = sweep.axes
    assert betas.labels == ("[0.9, 0.98]", "[0.9, 0.999]")
    assert betas.value_of("[0.9, 0.999]") == [0.9, 0.999]
    assert (grid.kind, grid.step) == ("int", 2)
    assert trainable.labels == (True, False)


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("trials: 6", "trial: 6", r"trial: unknown key; did you mean trials\?|trials: missing"),
        ("trials: 6", "trials: 0", r"trials: 0 is wrong"),
        ("sweep: demo", "suite: demo", r"suite: this is a suite; use `run`"),
        ("{choices: [1, 2]}", "{choice: [1, 2]}", r"choice: unknown key; did you mean choices\?"),
        ("mixer.num_layers", "mixer.num_layer", "unknown setting; did you mean mixer.num_layers"),
        ("mixer.num_layers", "runtime.threads", r"space\.runtime\.threads: holds for a whole run"),
        ("mixer.num_layers", "eval.split", r"space\.eval\.split: trials are captioned on the val"),
        ("[1, 2]", "[1, 1]", r"space\.mixer\.num_layers: \[1, 1\]; give distinct values"),
        ("[1, 2]", "[1, 99]", r"mixer\.num_layers: 99 is wrong"),
        ("[1, 2]", "[1, many]", r"mixer\.num_layers: 'many' is wrong"),
        ("{choices: [1, 2]}", "{low: 1, high: 2.5}", r"takes whole numbers"),
        ("{choices: [1, 2]}", "{low: 1, high: 4, step: 2}", r"is not low 1 plus steps of 2"),
        ("{choices: [1, 2]}", "{low: 2, high: 1}", r"give low < high, or choices"),
        ("{choices: [1, 2]}", "{choices: [1], log: true}", r"has a range beside choices"),
        ("mixer.num_layers: {choices: [1, 2]}", "variant: {low: 1, high: 2}", "is no number"),
        ("low: 1.0e-4", "low: 0.0", r"log needs low > 0"),
        ("low: 1.0e-4", "low: -1.0", r"log needs low > 0"),
        (", log: true", "", ""),
        ("low: 1.0e-4, high: 1.0e-2, log: true", "low: -1.0, high: 1.0", "learning_rate: -1.0 is"),
        (
            "base: {sam",
            "base: {variant: most_frequent, sam",
            "num_layers: moves no number of most_",
        ),
        (
            "mixer.num_layers: {choices: [1, 2]}",
            "features.cache: {choices: [off, all]}",
            r"space\.features\.cache: moves no number of sca; search another setting",
        ),
        (
            "mixer.num_layers:",
            "mixer: {choices: [{mlp_dim: 8}]}\n  mixer.num_layers:",
            r"space\.mixer\.num_layers: is a part of space\.mixer",
        ),
        ("direction: maximize", "direction: up", r"objectives\.0\.direction: 'up' is wrong"),
        ("direction: maximize", "way: up", r"way: unknown key; |direction: missing"),
        ("base: {sam", "base: {eval: {split: val}, sam", r"base\.eval\.split: trials are captione"),
        ("{trials: 4", "{trial: 4", r"profiles\.tiny\.trial: unknown key; did you mean trials\?"),
        ("tiny: {trials", "tinny: {trials", r"profiles\.tinny: no such profile; did you mean tiny"),
    ],
)
def test_a_fault_is_one_line(sweep_file, old, new, line):
    path = sweep_file(old, new)
    if not line:
        load_sweep(path)
        return
    with pytest.raises(InputError, match=line) as error:
        load_sweep(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("seeds", ["[0, 1]", "[1, 1]", "[-1]"])
def test_confirmation_needs_fresh_seeds(sweep_file, seeds):
    with pytest.raises(InputError, match=r"confirm\.seeds: .* other than train_seed"):
        load_sweep(sweep_file(more=f"confirm: {{seeds: {seeds}}}\n"))


@pytest.mark.parametrize(
    ("flag", "line"),
    [
        ("mixer.num_layers=1", r"--set: mixer.num_layers=1: changes what .*demo.yaml: space.mixer"),
        ("mixer={num_layers: 1}", r"num_layers: 1}: changes what .* space.mixer.num_layers states"),
        ("train.learning_rate=1e-3", r"changes what .* space.train.learning_rate states"),
        ("eval.split=test", "trials are captioned on val"),
        ("eval.split=val", "trials are captioned on val"),
        ("eval={split: val}", "trials are captioned on val"),
        ("train.step=1", r"did you mean train\.steps\?"),
    ],
)
def test_flags_do_not_touch_what_is_searched(sweep_file, flag, line):
    with pytest.raises(InputError, match=line):
        load_sweep(sweep_file(), overrides=[flag])


@pytest.mark.parametrize("flag", ["eval.split=test", "eval={num_beams: 2, split: test}"])
def test_a_flag_names_no_split(sweep_file, flag):
    with pytest.raises(InputError, match=r"^--set: .*eval.*: trials are captioned on val"):
        load_sweep(sweep_file(), overrides=[flag])
    sweep = load_sweep(sweep_file(), overrides=["eval.num_beams=2"])
    assert {probe.eval.num_beams for probe in sweep.probes} == {2}


def test_settings_of_a_profile_that_is_not_in_use_are_checked(sweep_file):
    more = "small: {trials: 3, base: {train: {step: 7}}}"
    path = sweep_file("profiles: {tiny:", f"profiles: {{{more}, tiny:")
    with pytest.raises(
        InputError, match=r"profiles\.small\.base\.train\.step: unknown setting; did"
    ):
        load_sweep(path)


def test_a_profile_that_is_none_is_the_fault_of_who_named_it(sweep_file):
    path = sweep_file("metrics:", "profile: tinny\nmetrics:")
    for given, named in ((None, path), ("tinny", "--profile")):
        with pytest.raises(InputError, match="tinny") as caught:
            load_sweep(path, profile=given)
        assert str(caught.value.where) == str(named)
