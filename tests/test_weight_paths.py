"""Where embedded weights are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from sca_bench import weight_paths
from sca_bench.errors import InputError, at


@pytest.fixture
def weights(tmp_path, monkeypatch):
    (tmp_path / "sam_scenes.safetensors").write_bytes(b"")
    (tmp_path / "lm_scenes").mkdir()
    monkeypatch.setattr(weight_paths, "WEIGHTS_DIR", tmp_path)
    return tmp_path


def test_files_and_directories(weights):
    assert weight_paths.resolve("embedded:sam_scenes") == weights / "sam_scenes.safetensors"
    assert weight_paths.resolve("embedded:lm_scenes") == weights / "lm_scenes"
    assert weight_paths.resolve("~/x.pth") == Path("~/x.pth").expanduser()


def test_files_inside_packages(tmp_path, monkeypatch):
    (tmp_path / "pack" / "sub" / "weights").mkdir(parents=True)
    for package in ("pack", "pack/sub"):
        (tmp_path / package / "__init__.py").write_text("", encoding="utf-8")
    (tmp_path / "pack" / "module.py").write_text("raise SystemExit\n", encoding="utf-8")
    (tmp_path / "pack" / "sub" / "weights" / "a.safetensors").write_bytes(b"")
    monkeypatch.syspath_prepend(tmp_path)
    found = weight_paths.resolve("package:pack.sub/weights/a.safetensors")
    assert found == tmp_path / "pack" / "sub" / "weights" / "a.safetensors"
    for spec, says in {
        "package:pack.sub/weights/b.safetensors": "did you mean weights/a.safetensors",
        "package:pack.sub/../sub/weights": "no such file or folder",
        "package:pack.sub": "name a file or folder after the module",
        "package:pack.none/weights": "no package 'pack.none' is installed",
        "package:pack.module/weights": "no package 'pack.module' is installed",
        "package:none.at.all/weights": "no package 'none.at.all' is installed",
    }.items():
        with (
            pytest.raises(InputError, match=rf"s\.yaml: baseline\.weights: .*{says}"),
            at("s.yaml"),
        ):
            weight_paths.resolve(spec, "baseline.weights")


def test_unknown_names_are_suggested(weights):
    line = r"s\.yaml: sam\.weights: .*did you mean sam_scenes"
    with pytest.raises(InputError, match=line), at("s.yaml"):
        weight_paths.resolve("embedded:sam_scene", "sam.weights")


def test_an_installation_without_weights_says_so(weights, monkeypatch):
    monkeypatch.setattr(weight_paths, "WEIGHTS_DIR", weights / "none")
    with pytest.raises(InputError, match="embeds no weights"):
        weight_paths.resolve("embedded:lm_scenes")
