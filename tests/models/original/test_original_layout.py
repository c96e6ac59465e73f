"""Checkpoints in the original's layout: round trips, and refusals that name what is wrong."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
import torch
from recorded import FIXTURES, checkpoint, original_class, recorded_folders
from safetensors.torch import load_file, save_file

from sca_bench.errors import InputError
from sca_bench.models.build import build_sca, load_frozen_parts
from sca_bench.models.designs.queries import MaskTokenQueries
from sca_bench.models.original import config as config_json
from sca_bench.models.original.classes import CLASSES
from sca_bench.models.original.layout import LM_HEAD, load_original, save_original
from sca_bench.variants import get_variant

RECORDED = recorded_folders()
MAIN = "ScaMultitaskV2Model"


@pytest.fixture
def folder(tmp_path):
    """A writable copy of a recorded checkpoint."""
    for name in ("config.json", "model.safetensors"):
        shutil.copy(FIXTURES / "multitask_v2" / name, tmp_path)
    return tmp_path


def edit_config(folder, part, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    (config[part] if part else config).update(changes)
    path.write_text(json.dumps(config))


def edit_weights(folder, edit):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda p: p.name)
def test_round_trip_is_bit_identical(recorded, tmp_path):
    source, name = checkpoint(recorded), original_class(recorded)
    save_original(load_original(source, name), tmp_path)
    before, after = (load_file(d / "model.safetensors") for d in (source, tmp_path))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    again = load_original(tmp_path)  # the class is in the written configuration
    first = load_original(source, name).state_dict()
    assert all(torch.equal(first[n], t) for n, t in again.state_dict().items())
    sizes = json.loads((recorded / "config.json").read_text())
    written = json.loads((tmp_path / "config.json").read_text())
    for part in ("vision_config", "prompt_encoder_config", "mask_caption_decoder_config"):
        assert written[part].items() <= sizes[part].items(), part
    assert written["vl_projector_type"] == sizes["vl_projector_type"]
    assert written.get("num_task_tokens", 6) == sizes["num_task_tokens"]
    assert config_json.INTENDED not in written


def test_every_class_is_recorded():
    assert {original_class(folder) for folder in RECORDED} == set(CLASSES)


VARIANTS = {
    "ScaMultitaskV2Model": ("sca", {"num_query_tokens": 2, "num_caption_heads": 3}, 1),
    "ScaMultitaskSplitMixerModel": ("sca_split_mixer", {"num_query_tokens": 2}, 1),
    "ScaDirectDecodingV2Model": ("sca_sam_query", {}, 1),
    "ScaDirectDecodingModel": ("sca_sam_query_v1", {}, 0),
    "ScaMultitaskROIPoolModel": ("sca_roi_align", {}, 1),
    "ScaMultitaskModel": ("sca_mask_heads", {"num_query_tokens": 2}, 1),
    "ScaModel": ("sca_mask_heads", {"num_query_tokens": 2}, 0),
}


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("name", CLASSES)
def test_own_models_of_every_class_round_trip(make_model, batch, tmp_path, name, published):
    variant, mixer, num_task_tokens = VARIANTS[name]
    model = make_model(
        variant=variant,
        mixer={"mlp_dim": 192, "as_published": published, **mixer},
        prefix={"num_task_tokens": num_task_tokens},
        train={"label_smoothing": CLASSES[name].label_smoothing},
        eval={"select": "first"},
    )
    save_original(model, tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written["architectures"] == [name]
    again = load_original(tmp_path)
    # Whether it was trained as published is remembered where it matters.
    matters = bool(get_variant(variant).as_published)
    assert written.get(config_json.INTENDED, True) == (published or not matters)
    assert again.as_published == (published or not matters)
    state = model.state_dict()
    assert state.keys() == again.state_dict().keys()
    assert all(torch.equal(state[n], t) for n, t in again.state_dict().items())
    if isinstance(again.caption_query_tokens, MaskTokenQueries):
        again.caption_query_tokens.counts_images = False  # as a cell does: see the design
    assert torch.equal(model.loss(batch), again.loss(batch))


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_projections_of_roi_align_are_stacks(make_model, tmp_path, kind):
    model = make_model(variant="sca_roi_align", prefix={"projection": kind})
    save_original(model, tmp_path)
    names = load_file(tmp_path / "model.safetensors")
    layers = {n.split(".")[1] for n in names if n.startswith("language_project.")}
    assert layers == ({"0"} if kind == "linear" else {"0", "2", "4"})
    again = load_original(tmp_path)
    prefixes = [m.prefix(torch.ones(1, 1, 36, 96), ["caption"]) for m in (model, again)]
    assert torch.equal(*prefixes)


def test_weights_load_as_published_or_as_intended(batch):
    folder = checkpoint(FIXTURES / "direct_decoding_v2")
    name = original_class(FIXTURES / "direct_decoding_v2")
    heads = []
    for asked in (None, True, False):
        model = load_original(folder, name, as_published=asked)
        boxes = batch.boxes_xyxy_input_BR4
        wide = dataclasses.replace(
            batch, pixel_values_B3HW=torch.randn(2, 3, 128, 128), boxes_xyxy_input_BR4=boxes
        )
        heads.append(model.query_outputs(model.frozen_features(wide)).shape[1])
    assert heads == [2, 2, 3]


@pytest.mark.parametrize(
    ("folder", "name", "line"),
    [
        ("roi_pool", MAIN, r"no text mixer, which ScaMultitaskV2Model has; .*ROIPoolModel"),
        ("multitask_v2", "ScaMultitaskROIPoolModel", r"hold a text mixer, .* ScaMultitaskV2Model"),
        ("direct_decoding_v2", MAIN, r"no caption query tokens, .* ScaDirectDecodingV2Model"),
        ("direct_decoding_v2", "ScaDirectDecodingModel", r"hold task tokens, .*DecodingV2Model"),
        ("base", "ScaMultitaskModel", r"no task tokens, which ScaMultitaskModel has; .* ScaModel"),
        ("multitask_v1", MAIN, r"caption_tokens\.weight: has shape \(16, 32\), expected \(4, 32\)"),
        ("multitask_v2", "ScaMultitaskModel", r"has shape \(4, 32\), expected \(16, 32\)"),
    ],
)
def test_weights_of_another_class_are_one_clear_line(folder, name, line):
    with pytest.raises(InputError, match=line) as caught:
        load_original(checkpoint(FIXTURES / folder), name)
    assert "\n" not in str(caught.value)


def test_own_models_round_trip_with_their_tokenizer(any_lm_dir, make_settings, tmp_path):
    settings = make_settings(
        text_decoder={"weights": str(any_lm_dir)},
        mixer={"mlp_dim": 192, "num_heads": 4, "num_caption_heads": 3},
    )
    model = build_sca(settings, load_frozen_parts(settings))
    save_original(model, tmp_path)
    again = load_original(tmp_path)
    state = model.state_dict()
    assert state.keys() == again.state_dict().keys()
    assert all(torch.equal(state[n], t) for n, t in again.state_dict().items())
    tokens = [m.text_decoder.tokenize(["a red ball"], 5).ids_NT for m in (model, again)]
    assert torch.equal(*tokens)
    prefix = torch.randn(2, 3, 32)
    logits = [m.text_decoder.logits(prefix, tokens[0].expand(2, -1)) for m in (model, again)]
    torch.testing.assert_close(*logits)


def test_reads_pytorch_files_and_shards(folder):
    expected = load_original(folder, MAIN).state_dict()
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    # Old GPT-2 checkpoints carry buffers that hold no weights.
    torch.save(
        {**tensors, "language_model.transformer.h.0.attn.bias": torch.ones(1, 1, 4, 4)},
        folder / "pytorch_model.bin",
    )
    loaded = load_original(folder, MAIN).state_dict()
    assert all(torch.equal(expected[n], t) for n, t in loaded.items())
    (folder / "pytorch_model.bin").unlink()
    names = sorted(tensors)
    halves = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, part in halves.items():
        save_file({n: tensors[n] for n in part}, folder / file)
    weight_map = {n: file for file, part in halves.items() for n in part}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    loaded = load_original(folder, MAIN).state_dict()
    assert all(torch.equal(expected[n], t) for n, t in loaded.items())


def test_buffers_of_old_checkpoints_are_left_out(any_lm_dir, make_settings, tmp_path):
    settings = make_settings(text_decoder={"weights": str(any_lm_dir)}, mixer={"mlp_dim": 192})
    model = build_sca(settings, load_frozen_parts(settings))
    save_original(model, tmp_path)
    buffers = {
        "gpt2": "language_model.transformer.h.1.attn.masked_bias",
        "llama": "language_model.model.layers.1.self_attn.rotary_emb.inv_freq",
    }
    name = buffers[model.text_decoder.language_model.config.model_type]
    edit_weights(tmp_path, lambda tensors: tensors.update({name: torch.ones(4)}))
    again = load_original(tmp_path).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())


def test_a_dropped_tied_head_is_tied_again(folder):
    expected = load_original(folder, MAIN).state_dict()
    edit_weights(folder, lambda tensors: tensors.pop(LM_HEAD))
    model = load_original(folder, MAIN)
    language_model = model.text_decoder.language_model
    assert language_model.lm_head.weight is language_model.transformer.wte.weight
    assert all(torch.equal(expected[n], t) for n, t in model.state_dict().items())


def test_a_head_that_is_not_tied_after_all_is_refused(folder):
    edit_weights(folder, lambda tensors: tensors[LM_HEAD].add_(1.0))
    with pytest.raises(InputError, match=r"lm_head\.weight: differs from .*wte\.weight"):
        load_original(folder, MAIN)


def test_what_does_not_fit_is_refused(folder):
    with pytest.raises(InputError, match="architectures: None is not supported"):
        load_original(folder)
    edit_config(folder, "", architectures=["ScaTimmMultitaskV2Model"])
    with pytest.raises(InputError, match="ScaTimmMultitaskV2Model is not supported; did you mean"):
        load_original(folder)
    edit_config(folder, "", vl_projector_type="mlp")
    with pytest.raises(InputError, match=r"vl_projector_type: 'mlp' is not supported, .* linear"):
        load_original(folder, MAIN)
    edit_config(folder, "", vl_projector_type="linear")
    edit_config(folder, "", architectures=[MAIN])
    load_original(folder)
    edit_config(folder, "mask_caption_decoder_config", additional_num_hidden_layers=4)
    with pytest.raises(InputError, match=r"additional_transformer\.layers\.3\.\S+: is missing"):
        load_original(folder)
    edit_config(folder, "mask_caption_decoder_config", additional_num_hidden_layers=2)
    with pytest.raises(InputError, match=r"additional_transformer\.layers\.2\.\S+: is unknown"):
        load_original(folder)
    edit_config(folder, "mask_caption_decoder_config", additional_num_hidden_layers=3)
    edit_config(folder, "", num_task_tokens=5)
    with pytest.raises(InputError, match=r"task_tokens\.weight: has shape \(6, 48\), expected"):
        load_original(folder)
    edit_config(folder, "", num_task_tokens=3)
    edit_config(folder, "mask_caption_decoder_config", layer_norm_eps=1e-5)
    with pytest.raises(InputError, match=r"mask_caption_decoder_config\.layer_norm_eps: 1e-05"):
        load_original(folder)
    edit_config(folder, "", model_type="sam")
    with pytest.raises(InputError, match="model_type: is not 'sca'"):
        load_original(folder)
    (folder / "config.json").unlink()
    with pytest.raises(InputError, match=r"config\.json: cannot be read as JSON"):
        load_original(folder)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"prefix": {"gain": 0.5}}, "prefix.gain"),
        ({"prefix": {"num_task_tokens": 0}}, "prefix.num_task_tokens"),
        ({"prefix": {"projection": "mlp"}}, "prefix.projection"),
        ({"variant": "sca_sam_query_v1"}, "prefix.num_task_tokens"),
        ({"mixer": {"image_grid": 4}}, "mixer.image_grid"),
        ({"mixer": {"mlp_dim": 64}}, "mixer"),
    ],
)
def test_what_the_layout_cannot_express_is_not_written(make_model, tmp_path, changes, key):
    mixer = {"mlp_dim": 192, **changes.get("mixer", {})}
    model = make_model(**{**changes, "mixer": mixer})
    with pytest.raises(InputError, match=f"{key}: the original's layout cannot express"):
        save_original(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
