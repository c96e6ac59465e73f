"""`check` opens what `run` opens: nothing that a run refuses is all right."""

import json

import pytest
import torch
from PIL import Image

from sca_bench.cli import main
from sca_bench.engine.launch import inputs

SUITE = """
suite: own
question: Is this file read?
base:
  variant: {variant}
  train: {{steps: 3, images_per_batch: 2, warmup_steps: 1}}
  data:
    train: {{dataset: coco_instances, annotations: train.json, images: images}}
    val: null
    test: {{dataset: coco_instances, annotations: test.json, images: images}}
metrics: [exact_match]
"""


def annotations(*images):
    """Return COCO's form of some images of 12 x 8, with one box each."""
    return {
        "images": [
            {"id": n, "file_name": f"{n}.png", "width": 12, "height": 8} for n in images
        ],
        "annotations": [
            {"id": 10 + n, "image_id": n, "category_id": 1, "bbox": [1, 1, 5, 5], "iscrowd": 0,
             "area": 25} for n in images
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }  # fmt: skip


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Four images, two for each split, in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "images").mkdir()
    for number in (1, 2, 3, 4):
        Image.new("RGB", (12, 8), (60 * number, 0, 0)).save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "train.json").write_text(json.dumps(annotations(1, 2)))
    (tmp_path / "test.json").write_text(json.dumps(annotations(3, 4)))
    return tmp_path


@pytest.fixture
def check(files, capsys):
    """Check a suite over the files; return the exit code and what was printed."""

    def checked(*words, variant="most_frequent", more=""):
        (files / "own.yaml").write_text(SUITE.format(variant=variant) + more)
        code = main(["check", "own.yaml", "--runs-dir", str(files / "runs"), *words])
        out, err = capsys.readouterr()
        return code, out + err

    return checked


def test_sound_files_are_all_right_and_nothing_is_written(check, files):
    code, out = check()
    assert (code, out.splitlines()[-1]) == (
        0,
        "own.yaml (profile tiny): 1 cell x 1 seed; all right",
    )
    assert "train: coco_instances train.json" in out
    assert not list((files / "runs").glob("*/*"))


def _no_object(files):
    (files / "train.json").write_text(json.dumps([{"image": "1.png", "caption": "a cat"}]))


def _torn(files):
    (files / "test.json").write_text((files / "test.json").read_text()[:50])


def _no_regions(files):
    (files / "test.json").write_text(json.dumps({**annotations(3), "annotations": []}))


def _no_image(files):
    (files / "images" / "4.png").unlink()


def _broken_image(files):
    path = files / "images" / "2.png"
    path.write_bytes(path.read_bytes()[:45])


def _other_size(files):
    Image.new("RGB", (8, 12)).save(files / "images" / "3.png")


def _overlap(files):
    (files / "test.json").write_text(json.dumps(annotations(2, 3)))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_no_object, "train.json: top level: expected an object"),
        (_torn, "test.json: "),
        (_no_regions, "test.json: "),
        (_no_image, "4.png: images: no such image file (1 of 2 images are missing)"),
        (_broken_image, "2.png: cannot be decoded"),
        (_other_size, "3.png: is 8 x 12 pixels, but its annotations are for 12 x 8"),
        (_overlap, "data.train: shares 1 images with data.test"),
    ],
)
def test_a_file_that_run_refuses_is_refused(check, files, spoil, says):
    spoil(files)
    code, out = check()
    assert code == 2
    assert any("refused: " in line and says in line for line in out.splitlines()), out
    assert "all right" not in out
    assert out.splitlines()[-1].endswith("refused: 1 fault")


@pytest.mark.parametrize(
    ("words", "more", "says"),
    [
        (["--set", "eval.prompt=mask_point"], "", "mask"),
        (
            [],
            "subsets: {some: ids.txt}\n",
            "ids.txt: 99: 1 of 2 regions are not in the predictions",
        ),
        (["--set", "runtime.device=cuda:9"], "", "'cuda:9': this machine has"),
    ],
)
def test_settings_that_the_data_or_the_machine_do_not_fit(check, files, words, more, says):
    (files / "ids.txt").write_text("13\n99\n")
    code, out = check(*words, more=more)
    assert code == 2
    assert says in out
    assert "all right" not in out


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("sam.weights=weights.pth", "weights.pth"),
        ("start_from=weights.pth", "weights.pth"),
        ("text_decoder.weights=decoder", "decoder"),
        ("train.precision=fp16", "fp16 needs CUDA"),
        ("train.precision=tf32", "tf32 needs CUDA"),
        ("mixer.num_heads=7", "num_heads"),
    ],
)
def test_weights_that_do_not_load_are_refused(check, files, setting, says):
    if "precision" in setting and torch.cuda.is_available():
        pytest.skip("there is CUDA here")
    (files / "weights.pth").write_bytes(b"no weights at all")
    (files / "decoder").mkdir()
    (files / "decoder" / "config.json").write_text("{}")
    code, out = check("--set", setting, variant="sca")
    assert code == 2, out
    assert any("refused: " in line and says in line for line in out.splitlines()), out


def test_one_missing_file_hides_no_fault_of_another(check, files):
    _no_object(files)
    lost = "{name: b, set: {data.test.annotations: nowhere.json}}"
    code, out = check(more=f"cells:\n  - {{name: a, set: {{}}}}\n  - {lost}\n")
    assert code == 2
    assert "refused: train.json: top level" in out
    assert "missing: data.test.annotations; refused: 1 fault" in out.splitlines()[-1]


def test_what_takes_long_is_named_and_not_called_all_right(check, files, monkeypatch):
    monkeypatch.setattr(inputs, "MOST_PICTURES", 1)
    code, out = check()
    assert code == 0
    assert "not judged, `run` reads it: 1 of 2 pictures of data.train" in out
    assert out.splitlines()[-1].endswith("nothing wrong was found, but not all was judged")
    monkeypatch.setattr(inputs, "MOST_BYTES", 10)
    _torn(files)
    code, out = check(variant="sca")
    assert "not judged, `run` reads it: data.test (test.json, 0 MiB, no index)" in out
    assert "not judged, `run` reads it: sam.weights (embedded:sam_tiny" in out
    assert "all right" not in out


@pytest.mark.parametrize(
    "setting", ["text_decoder.weights=random:gpt2-large", "sam.size=vit_h", "baseline.size=large"]
)
def test_large_models_without_weights_are_not_built(check, setting):
    words = ["--set", setting, "--set", "sam.weights=random"]
    _, out = check(*words, variant="sam_git" if "baseline" in setting else "sca")
    assert "not judged" in out


def test_a_finished_suite_opens_nothing(check, files, monkeypatch):
    monkeypatch.setattr("sca_bench.study.plan.plan._is_done", lambda *_: True)
    _torn(files)
    code, _ = check()
    assert code == 0
