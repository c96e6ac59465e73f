"""Checkpoints in the original's layout: round trips, and refusals that name what is wrong."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from recorded import FIXTURES, checkpoint, original_class, recorded_folders
from safetensors.torch import load_file, save_file

from sca_bench.errors import InputError
from sca_bench.models.build import build_sca, load_frozen_parts
from sca_bench.models.original_layout import LM_HEAD, load_original, save_original

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
    save_original(load_original(recorded, MAIN), tmp_path)
    before, after = (load_file(d / "model.safetensors") for d in (recorded, tmp_path))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    again = load_original(tmp_path)  # the class is in the written configuration
    first = load_original(recorded, MAIN).state_dict()
    assert all(torch.equal(first[n], t) for n, t in again.state_dict().items())
    sizes = json.loads((recorded / "config.json").read_text())
    written = json.loads((tmp_path / "config.json").read_text())
    for part in ("vision_config", "prompt_encoder_config", "mask_caption_decoder_config"):
        assert written[part].items() <= sizes[part].items(), part


def test_own_models_round_trip_with_their_tokenizer(any_lm_dir, make_settings, tmp_path):
    settings = make_settings(
        text_decoder={"weights": str(any_lm_dir)},
        mixer={"mlp_dim": 192, "num_heads": 4, "num_caption_heads": 2},
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
    edit_config(folder, "", architectures=["ScaMultitaskSplitMixerModel"])
    with pytest.raises(InputError, match="ScaMultitaskSplitMixerModel is not supported"):
        load_original(folder)
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
