"""Image encoders from ONNX files."""

from __future__ import annotations

import sys

import onnx
import pytest
import torch
from helpers.given import given_folder
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file

from sca_bench.batch import RegionBatch
from sca_bench.errors import InputError
from sca_bench.models.build import build_sca
from sca_bench.models.sam.onnx_encoder import OnnxImageEncoder
from sca_bench.models.sam.region_encoder import RegionEncoder
from sca_bench.models.sam.sam import build_sam
from sca_bench.specs.encoders import IMAGENET

SIDE, CHANNELS, GRID = 96, 96, 12


@pytest.fixture(scope="module")
def weight():
    return torch.randn(CHANNELS, 3, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def onnx_file(weight, tmp_path_factory):
    """One 8x8 convolution whose graph declares any batch, yet reshapes to a batch of one."""
    path = tmp_path_factory.mktemp("onnx") / "encoder.onnx"
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["input", "weight"], ["map"], strides=[8, 8]),
            helper.make_node("Reshape", ["map", "shape"], ["output"]),
        ],
        "encoder",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["B", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["B", CHANNELS, GRID, GRID])],
        [
            numpy_helper.from_array(weight.numpy(), "weight"),
            numpy_helper.from_array(torch.tensor([1, CHANNELS, GRID, GRID]).numpy(), "shape"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, path)
    return path


def open_encoder(path, **changes):
    shape = {"image_size": SIDE, "embedding_shape": (CHANNELS, GRID, GRID)}
    return OnnxImageEncoder(path, **{**shape, **changes})


def test_runs_one_image_at_a_time(onnx_file, weight):
    images = torch.randn(3, 3, SIDE, SIDE)
    expected = torch.nn.functional.conv2d(images, weight, stride=8)
    actual = open_encoder(onnx_file)(images)
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def test_wrong_sizes_are_refused(onnx_file):
    with pytest.raises(InputError, match=r"takes \['B', 3, 96, 96\], expected \[B, 3, 64, 64\]"):
        open_encoder(onnx_file, image_size=64)
    encoder = open_encoder(onnx_file, embedding_shape=(256, 64, 64))
    with pytest.raises(InputError, match=r"yields \(1, 96, 12, 12\), expected \(1, 256, 64, 64\)"):
        encoder(torch.zeros(1, 3, SIDE, SIDE))


def test_unreadable_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        open_encoder(tmp_path / "none.onnx")
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(InputError, match="cannot be read as ONNX"):
        open_encoder(tmp_path / "junk.onnx")


def test_absent_onnxruntime_names_the_extra(onnx_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"pip install 'sca-bench\[onnx\]'"):
        open_encoder(onnx_file)


@pytest.mark.parametrize("with_encoder_keys", [False, True])
def test_sam_without_a_vit(onnx_file, tmp_path, make_settings, batch, with_encoder_keys):
    state = build_sam("tiny", random_seed=5).state_dict()
    if not with_encoder_keys:
        state = {k: v for k, v in state.items() if not k.startswith("image_encoder.")}
    save_file(state, tmp_path / "decoder.safetensors")
    settings = make_settings(
        sam={"weights": str(tmp_path / "decoder.safetensors")},
        encoder={"type": "onnx", "path": str(onnx_file)},
    )
    model = build_sca(settings)
    sam = model.region_encoder.sam
    assert not any(name.startswith("image_encoder") for name, _ in sam.named_parameters())
    features = model.frozen_features(batch)
    embeddings = open_encoder(onnx_file)(batch.pixel_values_B3HW)
    prompts = sam.encode_prompts(batch.boxes_xyxy_input_BR4[batch.region_mask_BR])
    expected, _ = sam.mix(embeddings, torch.tensor([0, 0, 0, 1, 1]), prompts)
    torch.testing.assert_close(features.tokens_NTC, expected)
    name = "mask_decoder.mask_tokens.weight"
    assert torch.equal(sam.state_dict()[name], state[name])
    model.loss(batch).backward()


def test_real_mobile_sam_finds_a_square():
    folder = given_folder("SCA_BENCH_WEIGHTS_DIR", "mobilesam") / "mobilesam"
    encoder = OnnxImageEncoder(
        folder / "image_encoder.onnx", image_size=1024, embedding_shape=(256, 64, 64)
    )
    weights = folder / "prompt_encoder_mask_decoder.safetensors"
    sam = build_sam("vit_h", weights=str(weights), image_encoder=encoder)
    pixels = torch.full((1, 3, 1024, 1024), 40.0)
    pixels[:, 0, 300:700, 200:600] = 230.0
    mean, std = (torch.tensor(c).view(3, 1, 1) for c in IMAGENET)
    batch = RegionBatch(
        image_ids=["square"],
        region_ids=["square"],
        region_mask_BR=torch.tensor([[True]]),
        boxes_xyxy_input_BR4=torch.tensor([[[190.0, 290.0, 610.0, 710.0]]]),
        pixel_values_B3HW=(pixels - mean) / std,
    )
    features = RegionEncoder(sam)(batch, with_masks=True)
    best = features.ious_NM.argmax(1)
    mask = features.mask_logits_NMhw[0, best[0]] > 0
    square = torch.zeros_like(mask)
    square[75:175, 50:150] = True
    assert (mask & square).sum() / (mask | square).sum() > 0.9
