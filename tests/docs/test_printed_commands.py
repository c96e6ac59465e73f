"""Commands that README and the pages print are run, in a folder as a reader has it at that place.

Where a command would take minutes, a few words are added that make it small (`SMALL`), or that
measure nothing (`--no-probe`).
"""

import numpy as np
import pytest
from helpers import command as commands
from helpers import worker_server
from helpers.printed import ROOT, all_blocks, blocks, file_block
from PIL import Image

from sca_bench.data.readers.table import read_rows
from sca_bench.study.suite.suite import load_suite
from sca_bench.study.suite.sweep import load_sweep

SCENES = {"train": 4, "val": 1, "test": 2}
FEW = [f"data.{split}.num_images={count}" for split, count in SCENES.items()]
FEW += ["train.steps=2", "train.images_per_batch=2", "mixer.mlp_dim=16", "train.val_every=2"]
SMALL = [*(word for setting in FEW for word in ("--set", setting)), "--seeds", "0"]
"""Words that make a suite small."""
SOME_NEW = ["--set", "train.label_smoothing=0.05"]
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


def test_a_second_run_computes_nothing_and_another_value_is_new(folder, workers):
    again = commands.run_here("run", SUITE, *SMALL, "--no-mlflow", cwd=folder)
    assert "3 runs, 3 done, 0 to run" in again
    said = commands.run_here("plan", SUITE, *SMALL, *SOME_NEW, "--no-probe", cwd=folder)
    assert "3 to run" in said or "3 runs to do" in said


def printed():
    """Return each command that is printed without a mark, with the block it stands in first."""
    seen = {}
    for block in all_blocks("bash"):
        for words in [] if block.mark else block.commands():
            seen.setdefault(" ".join(words[1:]), pytest.param(block, words[1:], id=" ".join(words)))
    return list(seen.values())


@pytest.mark.parametrize(("block", "words"), printed())
def test_printed_commands_run(folder, workers, block, words):
    if words[:2] in (["plan", SUITE], ["check", SUITE]):
        words = [*words, *SMALL]
    if words[0] == "plan" and "--no-probe" not in words:
        words = [*words, "--no-probe"]
    out = commands.run_here(*words, cwd=folder)
    assert out.strip(), f"{block.page}:{block.line} prints nothing"


@pytest.mark.parametrize("page", ["docs/suites.md", "docs/sweeps.md"])
def test_printed_suites_and_sweeps_can_be_loaded(page, tmp_path):
    (block,) = (b for b in blocks(ROOT / page) if b.mark.startswith("file: "))
    path = tmp_path / block.mark.removeprefix("file: ")
    path.write_text(block.text, encoding="utf-8")
    if block.text.startswith("sweep:"):
        assert load_sweep(path).trials == 12
    else:
        assert load_suite(path).cells[0].name == "num_layers=1"
        assert load_suite(path, profile="paper", allow_missing=True).cells[0].name == "num_layers=2"


@pytest.mark.parametrize(("name", "regions"), [("regions.csv", 3), ("regions.jsonl", 2)])
def test_printed_tables_of_regions_can_be_read(name, regions, tmp_path):
    (tmp_path / name).write_text(file_block("docs/your-data.md", name), encoding="utf-8")
    assert len(read_rows(tmp_path / name)) == regions
