"""Checkpoints of untrained tiny captioners, settings, and a registry that knows the baselines."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import json

import pytest
import torch
from tiny_captioners import SPREAD, save_as_published

from baselines.sam_captioner.recipe import new_captioner
from sca_bench import variants
from sca_bench.settings import CellSettings
from sca_bench.study.suite.merge import merge, nest


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Return a function from a kind to the folder of an untrained checkpoint."""
    made = {}

    def folder_of(kind):
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("checkpoints") / kind
            save_as_published(new_captioner(kind, SPREAD), kind, made[kind])
        return made[kind]

    return folder_of


@pytest.fixture
def edited(checkpoints, tmp_path):
    """Return a function that copies a checkpoint and edits one of its JSON files."""

    def copy(kind, file, change):
        folder = tmp_path / f"edited-{kind}"
        folder.mkdir(exist_ok=True)
        for path in checkpoints(kind).iterdir():
            target = folder / path.name
            if not target.exists():
                target.write_bytes(path.read_bytes())
        content = json.loads((folder / file).read_text(encoding="utf-8"))
        change(content)
        (folder / file).write_text(json.dumps(content), encoding="utf-8")
        return folder

    return copy


@pytest.fixture(scope="session")
def cell_settings():
    """Return a function that builds settings on an untrained tiny SAM, with dotted changes."""

    def build(**changes):
        scenes = {"dataset": "scenes", "num_images": 2, "first_seed": 0}
        nested = {
            "sam": {"size": "tiny", "weights": "random"},
            "data": {"train": scenes, "test": {**scenes, "first_seed": 10}},
        }
        for path, value in changes.items():
            nested = merge(nested, nest(path.replace("__", "."), value))
        return CellSettings.model_validate(nested)

    return build


class Point:
    """Stands for an installed entry point, whatever is installed."""

    def __init__(self, value):
        self.value = value

    def load(self):
        module, _, name = self.value.partition(":")
        return getattr(__import__(module, fromlist=[name]), name)


@pytest.fixture
def registered(monkeypatch):
    """Register the baselines as their entry points would."""
    names = ("sam_captioner:GIT", "sam_captioner:BLIP", "sam_captioner:BLIP2")
    names += ("retrieval:SPEC", "label:SPEC", "most_frequent:SPEC", "predictions:SPEC")
    points = [Point(f"baselines.{name}") for name in names]
    monkeypatch.setattr(variants.VARIANTS, "find", lambda group: points)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
