"""Where embedded weights are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from sca_bench.embedded import paths
from sca_bench.errors import InputError


@pytest.fixture
def weights(tmp_path, monkeypatch):
    (tmp_path / "sam_scenes.safetensors").write_bytes(b"")
    (tmp_path / "lm_scenes").mkdir()
    monkeypatch.setattr(paths, "WEIGHTS_DIR", tmp_path)
    return tmp_path


def test_files_and_directories(weights):
    assert paths.resolve("embedded:sam_scenes") == weights / "sam_scenes.safetensors"
    assert paths.resolve("embedded:lm_scenes") == weights / "lm_scenes"
    assert paths.resolve("~/x.pth") == Path("~/x.pth").expanduser()


def test_unknown_names_are_suggested(weights):
    with pytest.raises(InputError, match=r"s\.yaml: sam\.weights: .*did you mean sam_scenes"):
        paths.resolve("embedded:sam_scene", "s.yaml", "sam.weights")


def test_an_installation_without_weights_says_so(weights, monkeypatch):
    monkeypatch.setattr(paths, "WEIGHTS_DIR", weights / "none")
    with pytest.raises(InputError, match="embeds no weights"):
        paths.resolve("embedded:lm_scenes")
