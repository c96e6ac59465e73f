"""GRiT against recorded outputs of the original, unmodified code, in both modes.

`python -m pytest tests/parity --parity-dir DIR` checks every folder of DIR (or DIR itself) whose
`meta.json` names a GRiT commit.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from grit_recorded import DETECT, GIVEN, SEARCHED, grit_folders, read_grit
from safetensors import safe_open
from safetensors.torch import load_file, save_file

FIXTURES = Path(__file__).parent / "fixtures"
TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}
PIXELS = re.compile(r".*\b(in_|final_)?boxes(_\w+)?")
"""Boxes in pixels: their noise grows with the strides of the pyramid, not with their values."""


def _root(config):
    return Path(config.getoption("--parity-dir") or FIXTURES)


def pytest_generate_tests(metafunc):
    folders = grit_folders(_root(metafunc.config))
    if "recorded_name" in metafunc.fixturenames:
        cases = [(folder, name) for folder in folders for name in _names(folder)]
        ids = [f"{folder.name}-{name}" for folder, name in cases]
        metafunc.parametrize(
            ("grit_folder", "recorded_name"), cases or [(None, None)], ids=ids or ["none"]
        )
    elif "grit_folder" in metafunc.fixturenames:
        ids = [folder.name for folder in folders]
        metafunc.parametrize("grit_folder", folders or [None], ids=ids or ["none"])


def _names(folder):
    names = []
    for file in sorted(folder.glob("*.safetensors")):
        if file.stem != "state_dict":
            with safe_open(file, "pt") as content:
                names += sorted(content.keys())
    return names


@pytest.fixture
def grit(request, grit_folder):
    if grit_folder is None:
        root = _root(request.config)
        if root == FIXTURES:
            pytest.fail(f"{FIXTURES} holds no recorded GRiT; its copy ships with the tests")
        pytest.skip(f"{root} records no GRiT")
    return read_grit(grit_folder)


def test_recorded_output(grit, recorded_name):
    compare(grit, recorded_name)


def compare(grit, recorded_name):
    expected, actual = grit.recorded[recorded_name], grit.computed[recorded_name]
    if recorded_name.endswith("tokens"):
        actual, expected = grit.same_width(actual, expected)
    if PIXELS.fullmatch(recorded_name):
        atol = 1e-5 * max(grit.image.size_hw)
        torch.testing.assert_close(actual, expected, atol=atol, rtol=0)
    elif expected.is_floating_point():
        torch.testing.assert_close(actual, expected, **TOLERANCE)
    else:
        assert torch.equal(actual, expected), f"{actual}\n{expected}"


@pytest.fixture(scope="module")
def narrow(tmp_path_factory):
    """A recording in which every caption of given boxes and searches ends.

    It holds those regions of the shipped one whose captions end, as wide as the longest of them;
    how the others are captioned depends on none of them.
    """
    (source,) = grit_folders(FIXTURES)
    folder = tmp_path_factory.mktemp("narrow")
    for file in ("meta.json", "state_dict.safetensors"):
        (folder / file).symlink_to(source / file)
    eos = json.loads((source / "meta.json").read_text())["eos"]
    given, found = load_file(source / GIVEN), load_file(source / DETECT)
    ends = (given["given.tokens"] == eos).any(1)
    assert ends.sum() >= 2
    assert not ends.all()
    given = {name: rows[ends] if len(rows) == len(ends) else rows for name, rows in given.items()}
    searched = {name for name in (*given, *found) if SEARCHED.fullmatch(name)}
    for content, name in [(c, n) for c in (given, found) for n in c]:
        if name in searched:
            content[name] = content[name][:1]
        if name == "given.tokens" or (name in searched and name.endswith("tokens")):
            lengths = (content[name] == eos).int().argmax(-1) + 1
            content[name] = content[name][..., : lengths.max()].contiguous()
    save_file(given, folder / GIVEN)
    save_file(found, folder / DETECT)
    return read_grit(folder)


def test_a_recording_is_as_wide_as_its_longest_caption(narrow):
    names = [n for n in narrow.recorded if n.startswith("given.") or SEARCHED.fullmatch(n)]
    widths = {narrow.recorded[n].shape[-1] for n in names if n.endswith("tokens")}
    assert max(widths) < narrow.meta["max_steps"]
    for name in names:
        compare(narrow, name)


def test_another_token_after_the_recorded_width_is_a_difference(narrow):
    """What follows must be end tokens: a caption that goes on is not the recorded one."""
    ids = narrow.recorded["given.tokens"]
    longer = torch.nn.functional.pad(ids, (0, 1), value=narrow.meta["eos"] - 1)
    assert not torch.equal(*narrow.same_width(ids, longer))


def test_both_modes_and_searches_were_recorded(grit):
    names = set(grit.recorded)
    assert {"det.tokens", "det.boxes", "given.tokens", "given.logprobs"} <= names
    beams = {int(found[2]) for found in map(SEARCHED.fullmatch, names) if found}
    assert 1 in beams
    assert max(beams) > 1


@pytest.mark.parametrize("beams", [1, 3])
def test_cached_decoding_equals_uncached(grit, beams):
    visual = grit.visual_tokens(grit.recorded["det.boxes"])
    begin = torch.full((len(visual),), grit.meta["begin_token"])
    cached, plain = (
        grit.model.caption(visual, begin, beams=beams, cached=cached) for cached in (True, False)
    )
    assert torch.equal(cached.ids_NKL, plain.ids_NKL)
    torch.testing.assert_close(cached.log_prob_NK, plain.log_prob_NK, atol=1e-5, rtol=1e-5)
