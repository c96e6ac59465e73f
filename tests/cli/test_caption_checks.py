"""What `caption` is asked for is checked before torch is loaded; what a run never saw is said."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from sca_bench.cli import main
from sca_bench.engine.finished.overlay import draw_overlay
from sca_bench.engine.finished.region import asked_region
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.store import Store

ROOT = Path(__file__).parents[2]


def finished(folder, *datasets):
    """Leave a finished run that was trained on these data sets."""
    parts = [{"weight": 1, "split": {"dataset": name}} for name in datasets]
    split = parts[0]["split"] if len(parts) == 1 else {"dataset": "mixture", "parts": parts}
    store = Store(folder / "runs")
    fields = {"settings": {"data": {"train": split}}, "variant": "sca", "revision": "1"}
    store.save(RunRecord(cell_id="abc123", seed=0, status="done", **fields))
    return store


@pytest.fixture
def photo(tmp_path):
    Image.new("RGB", (300, 200), "red").save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["no.png", "--box", "1,1,9,9"], "no.png: no such image"),
        (["photo.png"], "caption: --box: missing; give --box, --point or both"),
        (["photo.png", "--box", "1,1,9"], "--box: 1,1,9: expected 4 numbers"),
        (["photo.png", "--box", "9,9,1,1"], "is empty; expected x1 < x2 and y1 < y2"),
        (["photo.png", "--box", "1,1,301,9"], "reaches outside; the image is 300 x 200 pixels"),
        (["photo.png", "--point", "1,201"], "lies outside; the image is 300 x 200 pixels"),
        (["photo.png", "--box", "1,1,9,9", "--out", "x.txt"], "end the name in .png or .jpg"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_wrong_request_is_one_line(tmp_path, photo, monkeypatch, capsys, words, line):
    monkeypatch.chdir(tmp_path)
    finished(tmp_path, "scenes")
    assert main(["caption", *words, "--run", "abc123"]) == 2
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("words", ["no.png --box 1,1,9,9", "--examples 1"], ids=str)
def test_it_is_told_without_torch(tmp_path, words):
    finished(tmp_path, "scenes")
    words = ["caption", *words.split(), "--run", "no such run" if "-" in words[:2] else "abc123"]
    code = (
        "import sys; from sca_bench.cli import main\n"
        f"assert main({words!r}) == 2\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("datasets", "size", "warning"),
    [
        (["scenes"], (300, 200), "rendered scenes of 96 x 96 pixels; a photo is outside"),
        (["scenes"], (96, 96), ""),
        (["visual_genome"], (300, 200), ""),
        (["visual_genome"], (96, 96), "trained on visual_genome; a rendered scene is outside"),
        (["visual_genome", "scenes"], (96, 96), ""),
        (["visual_genome", "scenes"], (300, 200), ""),
    ],
)
def test_an_image_of_another_world_is_warned_of(tmp_path, datasets, size, warning):
    store = finished(tmp_path, *datasets)
    Image.new("RGB", size).save(tmp_path / "image.png")
    asked = asked_region(store, "abc123", tmp_path / "image.png", (1, 1, 9, 9), None)
    assert warning in asked.warning
    assert bool(warning) == bool(asked.warning)


def test_an_overlay_leaves_every_object_its_colour():
    import numpy as np

    image = np.full((100, 100, 3), (228, 200, 52), dtype=np.uint8)
    mask = np.zeros((100, 100), dtype=bool)
    mask[20:80, 20:80] = True
    drawn = np.asarray(draw_overlay(image, mask, None, None, "a yellow square"))
    assert tuple(drawn[240, 240]) == (228, 200, 52)  # the middle, enlarged to 480 pixels
    assert tuple(drawn[240, 97]) == (0, 114, 178)  # the contour
