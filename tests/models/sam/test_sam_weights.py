"""SAM weights as transformers saves them: recognised, renamed, equal in their outputs."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import SamConfig, SamModel
from transformers.utils import logging as transformers_logging

from sca_bench.errors import InputError, at
from sca_bench.models.sam.sam import build_sam
from sca_bench.specs.encoders import sam_dims
from sca_bench.specs.sam_dims import SamDims

SMALL = SamDims(
    image_size=64,
    patch_size=8,
    encoder_width=32,
    encoder_depth=2,
    encoder_num_heads=4,
    encoder_mlp_dim=64,
    encoder_window=3,
    encoder_global_blocks=(1,),
    embed_dim=32,
    decoder_depth=2,
    decoder_num_heads=4,
    decoder_mlp_dim=48,
    iou_head_hidden_dim=24,
)
PE = "shared_image_embedding.positional_embedding"


def sam_model(dims, num_heads=None):
    """transformers' own SAM of these sizes, every weight away from its start value."""
    config = SamConfig(
        vision_config={
            "hidden_size": dims.encoder_width,
            "output_channels": dims.embed_dim,
            "num_hidden_layers": dims.encoder_depth,
            "num_attention_heads": dims.encoder_num_heads,
            "image_size": dims.image_size,
            "patch_size": dims.patch_size,
            "window_size": dims.encoder_window,
            "global_attn_indexes": list(dims.encoder_global_blocks),
            "mlp_dim": dims.encoder_mlp_dim,
            "num_pos_feats": dims.embed_dim // 2,
        },
        prompt_encoder_config={
            "hidden_size": dims.embed_dim,
            "image_size": dims.image_size,
            "patch_size": dims.patch_size,
        },
        mask_decoder_config={
            "hidden_size": dims.embed_dim,
            "mlp_dim": dims.decoder_mlp_dim,
            "num_attention_heads": num_heads or dims.decoder_num_heads,
            "iou_head_hidden_dim": dims.iou_head_hidden_dim,
        },
    )
    torch.manual_seed(0)
    model = SamModel(config)
    for tensor in [*model.parameters(), *model.buffers()]:
        torch.nn.init.normal_(tensor, std=0.2)
    return model.eval()


@pytest.fixture(scope="module")
def reference():
    return sam_model(SMALL)


@pytest.fixture(autouse=True)
def _quiet():
    transformers_logging.disable_progress_bar()


def save_safetensors(model, folder):
    model.save_pretrained(folder)
    return folder


def save_bin(model, folder):
    """The older layout: one pickled state dict that holds the shared buffer twice."""
    model.save_pretrained(folder)
    (folder / "model.safetensors").unlink()
    state = model.state_dict()
    state["prompt_encoder.shared_embedding.positional_embedding"] = state[PE].clone()
    torch.save(state, folder / "pytorch_model.bin")
    return folder


def save_shards(model, folder):
    model.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    return folder


def save_file_in_folder(model, folder):
    return save_safetensors(model, folder) / "model.safetensors"


def save_file_alone(model, folder):
    return (save_safetensors(model, folder) / "model.safetensors").rename(
        folder / "sam.safetensors"
    )


@pytest.mark.parametrize(
    "save", [save_safetensors, save_bin, save_shards, save_file_in_folder, save_file_alone]
)
def test_outputs_equal_transformers(reference, save, tmp_path):
    sam = build_sam(SMALL, weights=str(save(reference, tmp_path)))
    pixels = torch.randn(2, 3, 64, 64)
    corners = torch.rand(2, 3, 2) * 40
    boxes = torch.cat([corners, corners + 20], dim=-1)
    with torch.no_grad():
        expected = reference(pixel_values=pixels, input_boxes=boxes, multimask_output=True)
        embeddings = sam.encode_images(pixels)
        prompts = sam.encode_prompts(boxes.flatten(0, 1))
        index = torch.tensor([0, 0, 0, 1, 1, 1])
        tokens, image_tokens = sam.mix(embeddings, index, prompts)
        ious = sam.predicted_ious(tokens)[:, 1:].unflatten(0, (2, 3))
        masks = sam.mask_logits(tokens, image_tokens)[:, 1:].unflatten(0, (2, 3))
        hidden = reference.get_image_embeddings(pixels)
    torch.testing.assert_close(embeddings, hidden, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ious, expected.iou_scores, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(masks, expected.pred_masks, atol=1e-4, rtol=1e-4)


def test_every_tensor_arrives(reference, tmp_path):
    """Also those that no box reaches: the embedding of mask prompts, of points."""
    sam = build_sam(SMALL, weights=str(save_safetensors(reference, tmp_path)))
    stored = load_file(tmp_path / "model.safetensors")
    state = sam.state_dict()
    assert len(state) == len(stored)
    assert state["prompt_encoder.mask_downscaling.6.weight"].equal(
        stored["prompt_encoder.mask_embed.conv3.weight"]
    )
    assert state["prompt_encoder.point_embeddings.2.weight"].equal(
        stored["prompt_encoder.point_embed.2.weight"]
    )
    assert sorted(t.sum().item() for t in state.values()) == pytest.approx(
        sorted(t.sum().item() for t in stored.values())
    )


@pytest.fixture
def complaint(reference, tmp_path):
    """What is said about a folder that was changed."""

    def build(change=lambda folder: None, dims=SMALL, path=tmp_path):
        save_safetensors(reference, tmp_path)
        change(tmp_path)
        with pytest.raises(InputError) as caught, at("suite.yaml"):
            build_sam(dims, weights=str(path))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return build


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_weights(folder, edit):
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_another_size_is_one_clear_line(complaint, tmp_path):
    line = complaint(dims=sam_dims("tiny"))
    assert line.startswith(
        f"suite.yaml: sam.weights: the configuration of {tmp_path} has image_size"
    )
    assert "64, but sam.size 96; no sam.size has its sizes" in line
    # Heads show in no shape, only in the configuration.
    sam_model(SMALL, num_heads=2).save_pretrained(tmp_path / "heads")
    line = complaint(path=tmp_path / "heads")
    assert "has decoder_num_heads 2, but sam.size 4" in line


def test_the_size_that_fits_is_named(tmp_path):
    sam_model(sam_dims("tiny_small")).save_pretrained(tmp_path)
    build_sam("tiny_small", weights=str(tmp_path))
    with pytest.raises(InputError, match=r"it is sam\.size: tiny_small"):
        build_sam("tiny", weights=str(tmp_path))


def test_what_does_not_fit_is_named_as_the_file_names_it(complaint, tmp_path):
    name = "mask_decoder.transformer.layers.0.layer_norm1.bias"
    assert f"lacks {name} (32,) and 0 more" in complaint(
        lambda folder: edit_weights(folder, lambda tensors: tensors.pop(name))
    )
    assert "holds zebra (2,), which the model has not" in complaint(
        lambda folder: edit_weights(folder, lambda t: t.update(zebra=torch.zeros(2)))
    )
    assert "differs from shared_image_embedding" in complaint(
        lambda folder: edit_weights(
            folder,
            lambda t: t.update({"prompt_encoder.shared_embedding.positional_embedding": t[PE] + 1}),
        )
    )


def test_other_folders_are_refused(complaint, tmp_path):
    assert "says model_type 'vit', expected 'sam'" in complaint(
        lambda folder: edit_config(folder, model_type="vit")
    )
    assert "`python -m sca_bench weights import` takes SCA checkpoints apart" in complaint(
        lambda folder: edit_config(folder, model_type="sca")
    )
    vision = {"vision_config": {"hidden_act": "relu"}}
    assert "vision_config.hidden_act: 'relu' is not supported" in complaint(
        lambda folder: edit_config(folder, **vision)
    )
    assert "is a folder without config.json" in complaint(
        lambda folder: (folder / "config.json").unlink()
    )
    assert "holds no weights (model.safetensors or" in complaint(
        lambda folder: (folder / "model.safetensors").unlink()
    )


class _Encoder:
    """An image encoder that is no torch module, as one from an ONNX file."""

    image_size = 64

    def __call__(self, pixel_values_B3HW):
        return torch.zeros(len(pixel_values_B3HW), 32, 8, 8)


def test_the_image_encoder_of_a_folder_may_be_left_out(reference, tmp_path):
    save_safetensors(reference, tmp_path)
    sam = build_sam(SMALL, weights=str(tmp_path), image_encoder=_Encoder())
    assert not any(name.startswith("image_encoder") for name in sam.state_dict())
    expected = reference.mask_decoder.iou_token.weight
    assert sam.mask_decoder.iou_token.weight.equal(expected)
