"""MobileSAM: TinyViT by weights, against the real ONNX encoder and against an explicit reading."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
import torch
from helpers.given import given_folder
from onnx import numpy_helper
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from sca_bench.data.pipeline.preprocess import preprocess
from sca_bench.errors import InputError, at
from sca_bench.models.sam.onnx_encoder import OnnxImageEncoder
from sca_bench.models.sam.sam import build_sam
from sca_bench.models.sam.tiny_vit import TinyVitDims, TinyVitEncoder
from sca_bench.specs.encoders import of_sam

SMALL = TinyVitDims(
    widths=(8, 12, 16, 20), depths=(1, 2, 1, 1), num_heads=(0, 2, 4, 5), windows=(0, 7, 3, 4)
)
CLASSIFIER = {
    "norm_head.weight": (320,),
    "norm_head.bias": (320,),
    "head.weight": (1000, 320),
    "head.bias": (1000,),
}


@pytest.fixture
def encoder():
    return perturbed(TinyVitEncoder(SMALL, image_size=64, out_channels=6)).eval()


def perturbed(module):
    """Give every weight and every running statistic a value of its own."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0, generator=generator)
        elif tensor.is_floating_point():
            tensor.normal_(0.0, 0.2, generator=generator)
    return module


@pytest.fixture(scope="module")
def published():
    with torch.device("meta"):
        return build_sam("vit_t")


def test_shapes(encoder):
    assert encoder(torch.randn(2, 3, 64, 64)).shape == (2, 6, 4, 4)


def test_parameters(published):
    """6.07 M with the classifier that `mobile_sam.pt` carries along, 10.13 M the whole."""
    count = sum(p.numel() for p in published.image_encoder.parameters())
    classifier = 2 * 320 + 1000 * 320 + 1000
    assert count == 5_743_892
    assert round((count + classifier) / 1e6, 2) == 6.07
    assert sum(p.numel() for p in published.parameters()) == 9_808_452


def test_names_and_shapes_are_those_of_the_published_file(published):
    state = {n: tuple(t.shape) for n, t in published.image_encoder.state_dict().items()}
    conv_bn = [f"{p}.{n}" for p in ("c", "bn") for n in ("weight",)]
    conv_bn += [f"bn.{n}" for n in ("bias", "running_mean", "running_var", "num_batches_tracked")]
    names = [f"patch_embed.seq.{i}.{n}" for i in (0, 2) for n in conv_bn]
    for stage, depth in enumerate((2, 2, 6, 2)):
        for block in range(depth):
            prefix = f"layers.{stage}.blocks.{block}"
            if stage == 0:
                names += [f"{prefix}.conv{i}.{n}" for i in (1, 2, 3) for n in conv_bn]
                continue
            names += [f"{prefix}.local_conv.{n}" for n in conv_bn]
            names.append(f"{prefix}.attn.attention_biases")
            for part in ("attn.norm", "attn.qkv", "attn.proj", "mlp.norm", "mlp.fc1", "mlp.fc2"):
                names += [f"{prefix}.{part}.{n}" for n in ("weight", "bias")]
        if stage < 3:
            names += [f"layers.{stage}.downsample.conv{i}.{n}" for i in (1, 2, 3) for n in conv_bn]
    names += ["neck.0.weight", "neck.1.weight", "neck.1.bias", "neck.2.weight"]
    names += ["neck.3.weight", "neck.3.bias"]
    assert sorted(names) == sorted(state)
    for name, shape in {
        "patch_embed.seq.0.c.weight": (32, 3, 3, 3),
        "layers.0.blocks.1.conv2.c.weight": (256, 1, 3, 3),
        "layers.1.blocks.0.attn.attention_biases": (4, 49),
        "layers.2.blocks.5.attn.attention_biases": (5, 196),
        "layers.2.blocks.5.attn.qkv.weight": (480, 160),
        "layers.2.downsample.conv2.c.weight": (320, 1, 3, 3),
        "layers.3.blocks.1.mlp.fc1.weight": (1280, 320),
        "neck.0.weight": (256, 320, 1, 1),
    }.items():
        assert state[name] == shape, name


def test_a_window_block_equals_an_explicit_reading(encoder):
    """Window by window and head by head, with the bias looked up pair by pair."""
    block = encoder.layers[1].blocks[0]  # side 8, window 7: padded to 14
    x = torch.randn(1, 12, 8, 8)
    padded = F.pad(x, (0, 6, 0, 6))
    mixed = torch.zeros_like(padded)
    attn = block.attn
    for top in (0, 7):
        for left in (0, 7):
            window = padded[0, :, top : top + 7, left : left + 7].flatten(1).T
            heads = []
            qkv = attn.qkv(attn.norm(window)).reshape(49, 2, 18)
            for h in range(2):
                q, k, v = qkv[:, h].split(6, dim=1)
                score = q @ k.T / 6**0.5
                for i in range(49):
                    for j in range(49):
                        rows, columns = abs(i // 7 - j // 7), abs(i % 7 - j % 7)
                        score[i, j] += attn.attention_biases[h, rows * 7 + columns]
                heads.append(score.softmax(1) @ v)
            out = attn.proj(torch.cat(heads, dim=1))
            mixed[0, :, top : top + 7, left : left + 7] = out.T.reshape(12, 7, 7)
    y = block.local_conv(x + mixed[:, :, :8, :8])
    expected = y + block.mlp(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(block(x), expected, atol=1e-5, rtol=1e-5)


def test_a_batch_equals_its_images(encoder):
    images = torch.randn(3, 3, 64, 64)
    singles = torch.cat([encoder(image[None]) for image in images])
    torch.testing.assert_close(encoder(images), singles, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope="module")
def mobile_sam_state():
    """Random weights with the names and shapes of `mobile_sam.pt`, classifier included."""
    state = perturbed(build_sam("vit_t")).state_dict()
    return {
        **state,
        **{f"image_encoder.{name}": torch.randn(shape) for name, shape in CLASSIFIER.items()},
    }


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_checkpoint_in_mobile_sams_layout_loads(mobile_sam_state, tmp_path, suffix):
    path = tmp_path / f"mobile_sam{suffix}"
    state = {n: t.contiguous() for n, t in mobile_sam_state.items()}
    torch.save(state, path) if suffix == ".pt" else save_file(state, path)
    sam = build_sam("vit_t", weights=str(path))
    loaded = sam.state_dict()
    assert loaded.keys() == {n for n in state if not re.search(r"encoder\.(norm_)?head\.", n)}
    assert all(torch.equal(loaded[n], state[n]) for n in loaded)
    assert not any(m.training for m in sam.modules())  # batch norms use their running statistics
    assert not any(p.requires_grad for p in sam.parameters())


def test_another_size_is_one_clear_line(mobile_sam_state, tmp_path):
    path = tmp_path / "mobile_sam.pt"
    torch.save(mobile_sam_state, path)
    with pytest.raises(InputError) as caught, at("suite.yaml"):
        build_sam("vit_b", weights=str(path))
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(f"suite.yaml: sam.weights: {path} lacks image_encoder.pos_embed")
    assert line.endswith("; sam.size must name the SAM that the weights belong to")
    del mobile_sam_state["image_encoder.neck.0.weight"]
    torch.save(mobile_sam_state, path)
    with pytest.raises(InputError, match=r"lacks image_encoder.neck.0.weight \(256, 320, 1, 1\)"):
        build_sam("vit_t", weights=str(path))


# --- the real encoder ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weights_dir():
    return given_folder("SCA_BENCH_WEIGHTS_DIR", "mobilesam") / "mobilesam"


def from_onnx(path):
    """The tensors of the ONNX encoder under this package's names.

    The graph's node names tell which weight is whose. Batch norms are folded into the
    convolutions there, so they become identities here, with the convolution's bias as their shift.
    """
    graph = onnx.load(path).graph
    stored = {i.name: torch.tensor(numpy_helper.to_array(i)) for i in graph.initializer}
    state = {n: t for n, t in stored.items() if not n.startswith("onnx::")}
    norms = []
    for node in graph.node:
        owner = node.name.strip("/").rpartition("/")[0]
        owner = re.sub(r"/seq\.(\d)/", r"/\1/", f"{owner}/").strip("/").replace("/", ".")
        if node.op_type == "Conv" and owner.endswith(".c"):
            state[f"{owner}.weight"] = stored[node.input[1]]
            bn, channels = owner.removesuffix(".c") + ".bn", len(stored[node.input[2]])
            state[f"{bn}.weight"] = torch.ones(channels)
            state[f"{bn}.bias"] = stored[node.input[2]]
            state[f"{bn}.running_mean"] = torch.zeros(channels)
            state[f"{bn}.running_var"] = torch.ones(channels)
            state[f"{bn}.num_batches_tracked"] = torch.tensor(0)
        elif node.op_type == "MatMul" and node.input[1] in stored:
            state[f"{owner}.weight"] = stored[node.input[1]].T.contiguous()
        elif node.op_type == "Constant" and owner.endswith(".attn"):
            bias = torch.tensor(numpy_helper.to_array(node.attribute[0].t))
            if bias.ndim == 3:  # between all pairs; those of the first position are all offsets
                state[f"{owner}.attention_biases"] = bias[:, 0].contiguous()
        elif node.op_type in ("Mul", "Add") and owner.startswith("neck."):
            norms += [stored[name] for name in node.input if name in stored]
    for name, tensor in zip(
        [f"neck.{i}.{n}" for i in (1, 3) for n in ("weight", "bias")],
        [t for t in norms if t.ndim == 3],
        strict=True,
    ):
        state[name] = tensor.flatten()
    return state


@pytest.fixture(scope="module")
def both(weights_dir):
    path = weights_dir / "image_encoder.onnx"
    spec = of_sam("vit_t")
    encoder = spec.load()(None, spec.dims)
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = 0.0  # folded already
    encoder.load_state_dict(from_onnx(path), strict=True)
    reference = OnnxImageEncoder(path, image_size=1024, embedding_shape=(256, 64, 64))
    return encoder.eval(), reference


def test_the_real_encoder_on_noise(both):
    encoder, reference = both
    pixels = torch.randn(1, 3, 1024, 1024)
    with torch.no_grad():
        torch.testing.assert_close(encoder(pixels), reference(pixels), atol=2e-5, rtol=0)


def test_the_real_encoder_on_photos(both):
    images = "coco_mini_permissive/images"
    photos = sorted((given_folder("SCA_BENCH_DATA_DIR", images) / images).rglob("*.jpg"))[:2]
    assert photos
    encoder, reference = both
    for photo in photos:
        image = np.asarray(Image.open(photo).convert("RGB"))
        pixels = preprocess(image, 1024)[None]
        with torch.no_grad():
            torch.testing.assert_close(encoder(pixels), reference(pixels), atol=2e-5, rtol=0)


def test_a_whole_mobile_sam_from_its_real_tensors(weights_dir, both, tmp_path):
    """Encoder and decoder in one file, as `sam.weights` names it."""
    state = {f"image_encoder.{n}": t for n, t in both[0].state_dict().items()}
    state |= load_file(weights_dir / "prompt_encoder_mask_decoder.safetensors")
    save_file(state, tmp_path / "mobile_sam.safetensors")
    sam = build_sam("vit_t", weights=str(tmp_path / "mobile_sam.safetensors"))
    pixels = torch.full((1, 3, 1024, 1024), -1.0)
    pixels[:, 0, 300:700, 200:600] = 1.5
    with torch.no_grad():
        prompts = sam.encode_prompts(torch.tensor([[190.0, 290.0, 610.0, 710.0]]))
        tokens, image_tokens = sam.mix(sam.encode_images(pixels), torch.tensor([0]), prompts)
        best = sam.predicted_ious(tokens)[0, 1:].argmax() + 1
        mask = sam.mask_logits(tokens, image_tokens)[0, best] > 0
    square = torch.zeros_like(mask)
    square[75:175, 50:150] = True
    assert (mask & square).sum() / (mask | square).sum() > 0.9
