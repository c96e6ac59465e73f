"""Commands that README and the pages print are run, in a folder as a reader has it at that place.

Where a command would take minutes, a few words are added that make it small (`SMALLER`).
"""

import re
import shutil

import numpy as np
import pytest
from helpers import command as commands
from helpers import worker_server
from helpers.printed import all_blocks, file_block
from PIL import Image

SCENES = {"train": 4, "val": 1, "test": 2}
FEW = [f"data.{split}.num_images={count}" for split, count in SCENES.items()]
FEW += ["train.steps=2", "train.images_per_batch=2", "mixer.mlp_dim=16", "train.val_every=2"]
SMALL = [word for setting in FEW for word in ("--set", setting)]
SMALLER = {
    "plan": ["--no-probe", *SMALL],
    "check": SMALL,
}
"""Command -> words that are added to it, unless it has them."""
SUITE = "my_suite.yaml"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the first suite, run as the README says, with little data and few steps."""
    worker_server.start()
    folder = tmp_path_factory.mktemp("reader")
    (folder / SUITE).write_text(file_block("README.md", SUITE), encoding="utf-8")
    for name, page in (("predictions.jsonl", "docs/metrics.md"), ("depth.yaml", "docs/suites.md")):
        (folder / name).write_text(file_block(page, name), encoding="utf-8")
    pixels = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.jpg")
    commands.run_here("run", SUITE, *SMALL, "--no-mlflow", cwd=folder)
    return folder


def test_the_first_suite_is_the_same_on_both_pages():
    assert file_block("README.md", SUITE) == file_block("docs/first-hour.md", SUITE)


def test_a_second_run_computes_nothing_and_one_more_value_one_cell(folder, workers):
    again = commands.run_here("run", SUITE, *SMALL, "--no-mlflow", cwd=folder)
    assert "0 to run" in again or "nothing to do" in again or "done" in again
    said = commands.run_here(
        "plan", SUITE, *SMALL, "--set", "train.steps=3", "--no-probe", cwd=folder
    )
    assert "9 to run" in said or "9 runs to do" in said


def printed():
    seen = {}
    for block in all_blocks("bash"):
        if not block.mark:
            for words in block.commands():
                seen.setdefault(" ".join(words[1:]), (block, words[1:]))
    return [pytest.param(block, words, id=key[:70]) for key, (block, words) in seen.items()]


@pytest.mark.parametrize(("block", "words"), printed())
def test_printed_commands_run(folder, workers, block, words, tmp_path):
    words = [*words]
    more = SMALLER.get(words[0], [])
    if more and words[1] != SUITE:
        more = [word for word in more if word == "--no-probe"]
    if "--profile" in words:  # says what is missing, and that is its answer
        code = 2
    else:
        code = 0
    words += [word for word in more if word not in words or word == "--set"]
    if "--out" in words:
        shutil.rmtree(folder / words[words.index("--out") + 1], ignore_errors=True)
    out = commands.run_here(*words, cwd=folder, code=code)
    assert out, f"{block.page}:{block.line} prints nothing"
    assert not re.search(r"Traceback", out)
