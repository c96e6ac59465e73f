"""The shipped weights and the recipes in the code belong together."""

import ast
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from sca_bench import scene_grammar
from sca_bench.embedded import build, lm_recipe, sam_eval, sam_recipe
from sca_bench.embedded.verify import verify
from sca_bench.errors import InputError
from sca_bench.models.sam.sam import build_sam
from sca_bench.weight_paths import WEIGHTS_DIR, resolve

MANIFEST = build.read_manifest(WEIGHTS_DIR)
SAMS = list(sam_recipe.RECIPES)
LM = "lm_scenes"


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module", params=list(lm_recipe.RECIPES))
def text_decoder(request):
    folder = resolve(f"embedded:{request.param}")
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def test_files_checksums_and_digests_are_as_recorded():
    assert set(MANIFEST) == set(build.names())
    assert len(list(verify(losses=False))) == len(build.names())
    (line,) = verify(losses=False, only="sam_tiny_small")
    assert line.startswith("sam_tiny_small: recipe and ")
    recorded = {WEIGHTS_DIR / file for entry in MANIFEST.values() for file in entry["files"]}
    present = {path for path in WEIGHTS_DIR.rglob("*") if path.is_file()}
    assert present == recorded | {WEIGHTS_DIR / build.MANIFEST}
    assert sum(path.stat().st_size for path in present) < 13e6


@pytest.mark.parametrize("name", build.names())
@pytest.mark.usefixtures("training")
def test_a_rerun_begins_with_the_recorded_losses(name):
    assert build.first_losses(name) == pytest.approx(MANIFEST[name]["first_losses"], rel=1e-3)


@pytest.mark.parametrize("name", SAMS)
@pytest.mark.usefixtures("shipped_weights")
def test_masks_on_fresh_scenes_are_as_good_as_recorded(name):
    fresh = replace(sam_recipe.RECIPES[name], eval_first_scene_seed=1_950_000, eval_num_scenes=40)
    sam = build_sam(sam_recipe.RECIPES[name].size, weights=f"embedded:{name}")
    measured = sam_eval.evaluate_sam(fresh, sam)
    assert measured == pytest.approx(MANIFEST[name]["measured"], abs=0.02)
    assert min(measured.values()) > 0.85


@pytest.mark.parametrize("name", SAMS)
def test_sam_files_hold_half_precision_in_metas_layout(name):
    with safe_open(resolve(f"embedded:{name}"), "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    assert {"image_encoder.pos_embed", "mask_decoder.iou_token.weight"} <= set(tensors)
    assert set(tensors) == set(build_sam(sam_recipe.RECIPES[name].size).state_dict())
    assert all(t.dtype == torch.float16 and t.isfinite().all() for t in tensors.values())


def test_sam_training_never_sees_a_word():
    for module in ("sam_data", "sam_recipe", "sam_eval"):
        path = Path(sam_recipe.__file__).with_name(f"{module}.py")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        names |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        assert not names & {"caption", "slots", "grammar", "WORDS", "parse"}


@pytest.mark.parametrize("name", list(lm_recipe.RECIPES))
@pytest.mark.usefixtures("shipped_weights")
def test_a_text_decoder_measures_as_recorded(name):
    model = AutoModelForCausalLM.from_pretrained(resolve(f"embedded:{name}")).eval()
    measured = lm_recipe.evaluate_lm(lm_recipe.RECIPES[name], model)
    assert measured == pytest.approx(MANIFEST[name]["measured"], rel=1e-3)


def test_the_tokenizer_gives_captions_back(text_decoder):
    _, tokenizer = text_decoder
    assert tokenizer.eos_token_id == tokenizer.pad_token_id is not None
    slots = lm_recipe.sample_slots(50, torch.Generator().manual_seed(5))
    for caption in map(scene_grammar.make_caption, slots):
        ids = tokenizer(caption)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode([*ids, tokenizer.eos_token_id], skip_special_tokens=True) == caption
    assert tokenizer("a zebra")["input_ids"][1] == tokenizer.unk_token_id


@torch.no_grad()
def test_the_text_decoder_says_what_its_prefix_names(text_decoder):
    model, tokenizer = text_decoder
    generator = torch.Generator().manual_seed(11)
    slots = lm_recipe.sample_slots(60, generator)
    table = model.get_input_embeddings().weight
    prefix = lm_recipe.keyword_prefix(table, tokenizer, slots, 1.0, generator)
    ids = model.generate(
        inputs_embeds=prefix,
        attention_mask=torch.ones(prefix.shape[:2], dtype=torch.long),
        max_new_tokens=14,
        do_sample=False,
    )
    said = [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
    right = sum(s == scene_grammar.make_caption(slot) for s, slot in zip(said, slots, strict=True))
    assert right >= 57


@pytest.mark.usefixtures("training")
def test_a_short_build_writes_files_and_their_record(tmp_path, monkeypatch):
    short = replace(lm_recipe.RECIPE, steps=4, eval_captions=20)
    monkeypatch.setattr(lm_recipe, "RECIPES", {LM: short})
    sams = {"sam_tiny": replace(sam_recipe.RECIPES["sam_tiny"], steps=2, eval_num_scenes=2)}
    monkeypatch.setattr(sam_recipe, "RECIPES", sams)
    lines = []
    build.build_all(tmp_path, say=lines.append)
    assert len(list(verify(tmp_path))) == 2
    entry = json.loads((tmp_path / build.MANIFEST).read_text())["sam_tiny"]
    assert entry["recipe"]["steps"] == 2
    assert len(entry["first_losses"]) == 2
    assert any("step 2 of 2" in line for line in lines)
    build_sam("tiny", weights=str(tmp_path / "sam_tiny.safetensors"))

    # Building one again leaves the record of the other as it was.
    build.build_all(tmp_path, only=LM, say=lines.append)
    assert build.read_manifest(tmp_path)["sam_tiny"] == entry


def damaged(tmp_path):
    folder = tmp_path / "weights"
    shutil.copytree(WEIGHTS_DIR, folder)
    return folder


def test_verify_names_a_changed_file(tmp_path):
    folder = damaged(tmp_path)
    with (folder / "sam_tiny.safetensors").open("ab") as file:
        file.write(b" ")
    with pytest.raises(InputError, match=r"sam_tiny\.safetensors: has changed"):
        list(verify(folder, losses=False))


def test_verify_names_a_missing_file_and_a_missing_record(tmp_path):
    folder = damaged(tmp_path)
    (folder / "lm_scenes" / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"tokenizer\.json: missing"):
        list(verify(folder, losses=False))
    (folder / build.MANIFEST).write_text("{}")
    with pytest.raises(InputError, match="sam_tiny: not in the manifest"):
        list(verify(folder, losses=False))
    (folder / build.MANIFEST).unlink()
    with pytest.raises(InputError, match="no such file; run"):
        list(verify(folder, losses=False))


@pytest.mark.usefixtures("training")
def test_verify_names_losses_that_do_not_repeat(tmp_path, monkeypatch):
    folder = damaged(tmp_path)
    manifest = build.read_manifest(folder)
    manifest[LM]["first_losses"][2] *= 1.01
    (folder / build.MANIFEST).write_text(json.dumps(manifest))
    monkeypatch.setattr("sca_bench.embedded.verify.names", lambda: [LM])
    with pytest.raises(InputError, match="lm_scenes: the recipe's losses are"):
        list(verify(folder))


def test_verify_names_a_changed_recipe(monkeypatch):
    changed = replace(sam_recipe.RECIPES["sam_tiny"], steps=9)
    monkeypatch.setitem(sam_recipe.RECIPES, "sam_tiny", changed)
    with pytest.raises(InputError, match="sam_tiny: was made by another recipe"):
        list(verify(losses=False))


def test_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(InputError, match="did you mean sam_tiny"):
        build.build_all(tmp_path / "new", only=["sam_tinny"])
    assert not (tmp_path / "new").exists()
