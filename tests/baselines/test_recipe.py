"""The shipped tiny captioners belong to their recipe, and say what its manifest says they do."""

import hashlib
import json

import pytest
import torch

from baselines.sam_captioner.architectures import ARCHITECTURES
from baselines.sam_captioner.loading import load_captioner
from baselines.sam_captioner.recipe import (
    MANIFEST,
    NAMES,
    RECIPES,
    WEIGHTS_DIR,
    Recipe,
    build,
    measure,
    recipe_settings,
    scene_tokenizer,
    subject_of,
    train,
)
from baselines.sam_captioner.sizes import TINY_END, TINY_IMAGE, TINY_PAD, TINY_START, size_config
from sca_bench import scene_grammar
from sca_bench.errors import InputError
from sca_bench.settings import BaselineSettings
from sca_bench.weight_paths import resolve

ENTRIES = json.loads((WEIGHTS_DIR / MANIFEST).read_text(encoding="utf-8"))


def shipped(name):
    weights = f"package:baselines.sam_captioner/weights/{name}"
    return load_captioner(NAMES[name], BaselineSettings(weights=weights), chunk=64)


@pytest.mark.parametrize("name", NAMES)
def test_shipped_files_are_those_of_the_recipe(name):
    entry = ENTRIES[name]
    assert {key: entry[key] for key in ("recipe", "world", "words")} == recipe_settings(name)
    folder = resolve(f"package:baselines.sam_captioner/weights/{name}")
    found = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}
    assert found == entry["files"]
    assert (folder / "model.safetensors").stat().st_size <= 0.8e6
    assert entry["cpu_seconds"] <= 180
    with torch.device("meta"):
        model = ARCHITECTURES[NAMES[name]].model_class(size_config(NAMES[name], "tiny"))
    assert sum(p.numel() for p in model.parameters()) == entry["num_params"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("training")
def test_the_first_losses_repeat(name):
    recorded = ENTRIES[name]["first_losses"]
    losses = train(NAMES[name], RECIPES[NAMES[name]], max_steps=len(recorded))[1]
    assert losses == pytest.approx(recorded, rel=1e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("shipped_weights")
def test_shipped_captioners_read_crops_and_stumble_over_whole_scenes(name):
    recipe = RECIPES[NAMES[name]]
    few = Recipe(first_test_scene=recipe.first_test_scene, num_test_scenes=20)
    found, recorded = measure(shipped(name), few), ENTRIES[name]["measured"]
    assert found["crop_texture"] == found["crop_colour"] == 1.0
    assert found["crop_shape"] >= 0.9
    # A crop is stretched to the captioner's own size, so the object's is hard to tell.
    assert 0.5 < found["crop_size"] < 0.95
    assert recorded["crop_shape"] >= 0.96
    assert recorded["whole_subject"] <= 0.3


def test_tokenizer_and_special_ids_agree():
    tokenizer = scene_tokenizer()
    known = tokenizer.get_vocab()
    assert [known[w] for w in ("[PAD]", "[CLS]", "[SEP]", "<image>")] == [
        TINY_PAD,
        TINY_START,
        TINY_END,
        TINY_IMAGE,
    ]
    caption = "a small striped red cross left of a blue circle"
    ids = tokenizer(caption, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == caption
    assert set(caption.split()) <= set(scene_grammar.VOCABULARY)
    assert subject_of(caption) == "a small striped red cross"


def test_scenes_of_the_recipe_are_nobody_elses():
    for recipe in RECIPES.values():
        first, last = recipe.first_scene, recipe.first_scene + recipe.num_scenes
        assert first >= 2_000_000  # suites stay below 1,000,000, other shipped weights below 2
        assert last <= recipe.first_test_scene


@pytest.mark.usefixtures("training")
def test_the_command_builds_one_by_name(tmp_path, monkeypatch):
    quick = Recipe(num_scenes=4, num_test_scenes=2, steps=2, images_per_step=2)
    monkeypatch.setitem(RECIPES, "git", quick)
    lines = []
    manifest = json.loads(build(tmp_path, "git_scenes", lines.append).read_text())
    assert set(manifest) == {"git_scenes"}
    assert len(manifest["git_scenes"]["first_losses"]) == 2
    assert lines[-1].startswith("git_scenes: {'crop_size'")
    with pytest.raises(InputError, match="did you mean git_scenes"):
        build(tmp_path, "git_scene")
