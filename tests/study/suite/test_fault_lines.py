"""A fault of a suite says its line; several faults are said at once; types are said in words."""

import pytest

from sca_bench.cli import main
from sca_bench.errors import InputError
from sca_bench.study.suite.suite import load_suite
from sca_bench.study.suite.yaml_values import line_of

SUITE = """\
# About.
suite: demo
question: Why?
base:
  train: {steps: 5}
axes:
  mixer.num_layers: [1, 2]
claims:
  - {id: one, says: "cider_d(num_layers=2) > cider_d(num_layers=1)"}
cells:
  - name: blank images
    set: {data.blank_images: true}
"""


@pytest.fixture
def write(tmp_path):
    def suite(old="", new=""):
        assert old in SUITE
        path = tmp_path / "demo.yaml"
        path.write_text(SUITE.replace(old, new) if old else SUITE)
        return path

    return suite


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("suite", 2),
        ("base.train.steps", 5),
        ("axes.mixer.num_layers", 7),
        ("claims.one", 9),
        ("claims.0.says", 9),
        ("cells.blank images.set.data.blank_images", 12),
        ("axes.mixer.mlp_dim", 6),  # as far as it is there
        ("seeds", 0),
    ],
)
def test_a_dotted_key_has_a_line(write, key, line):
    assert line_of(write(), key) == line


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("axes:", "axis:", "demo.yaml: axis: unknown key; did you mean axes? (line 6)"),
        ("mixer.num_layers:", "mixer.num_layer:", "did you mean mixer.num_layers? (line 7)"),
        ("steps: 5", "steps: many", "train.steps: 'many' is wrong; expected a whole number (line"),
        ("num_layers=2)", "num_layers=7)", "num_layers has 1, 2 (line 9)"),
        ("[1, 2]", "3", "axes.mixer.num_layers: 3 is wrong; expected a list, such as [3] (line 7)"),
        ("{steps: 5}", "{learning_rate: -1}", "-1 is wrong; expected a number above 0 (line 5)"),
        (
            "{steps: 5}",
            "{precision: fp8}",
            "'fp8' is wrong; expected 'fp32', 'tf32', 'bf16' or 'fp16'",
        ),
    ],
)
def test_a_fault_says_its_line_and_what_was_expected(write, old, new, line):
    with pytest.raises(InputError) as caught:
        load_suite(write(old, new))
    assert line in str(caught.value)


def test_a_fault_of_a_flag_has_no_line(write):
    with pytest.raises(InputError) as caught:
        load_suite(write(), overrides=["train.step=5"])
    assert "(line" not in str(caught.value)


def test_several_faults_are_said_at_once(write, capsys):
    path = write("axes:", "seed: 3\nmetric: [cider_d]\naxes:")
    assert main(["plan", str(path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("demo.yaml: ")[2] for line in lines] == [
        "seed: unknown key; did you mean seeds? (line 6)",
        "metric: unknown key; did you mean metrics? (line 7)",
    ]
    path = write("{steps: 5}", "{step: 5, learning_rat: 1}")
    assert main(["plan", str(path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_path_that_nothing_declares_says_what_to_write(write):
    path = write("{steps: 5}", "{steps: 5}\n  start_from: '{weights}/x.safetensors'")
    with pytest.raises(InputError) as caught:
        load_suite(path)
    line = "write `paths: {weights: null}` into the file, then give --set paths.weights=PATH"
    assert line in str(caught.value)


def test_what_photos_need_is_said_with_the_command_that_makes_it(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["check", "photos"]) == 2
    out = capsys.readouterr().out
    assert "weights train-lm --captions captions_val2017.json --out LM` (a minute)" in out
    assert "a folder with image_encoder.onnx and prompt_encoder_mask_decoder.safetensors" in out
    own = tmp_path / "own.yaml"
    split = "{dataset: scenes, first_seed: 0, num_images: 2}"
    data = f"base: {{data: {{train: {split}, test: {split}}}}}"
    own.write_text(f"suite: own\nquestion: Why?\nprofile: photos\n{data}\n")
    assert main(["check", str(own)]) == 2
    assert "--set paths.sam=PATH" in capsys.readouterr().out
