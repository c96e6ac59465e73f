"""SAM from parts: equal to segment_anything's own, strict about weights."""

from __future__ import annotations

import functools

import pytest
import torch
from safetensors.torch import save_file
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, TwoWayTransformer

from sca_bench.errors import InputError, at
from sca_bench.models.sam import vit
from sca_bench.models.sam.sam import build_sam
from sca_bench.models.sam.vit import SamImageEncoder, relative_positions
from sca_bench.specs.encoders import of_sam, sam_sizes
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


@pytest.fixture
def sam():
    sam = build_sam(SMALL)
    for parameter in sam.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return sam


def boxes(count):
    corners = torch.rand(count, 2) * 40
    return torch.cat([corners, corners + 20], dim=1)


@pytest.mark.parametrize(("window", "global_blocks"), [(3, (1,)), (0, ()), (4, ())])
def test_image_encoder_equals_explicit_attention(window, global_blocks):
    encoder = SamImageEncoder(
        image_size=64,
        patch_size=8,
        width=32,
        depth=2,
        num_heads=4,
        mlp_dim=50,
        window_size=window,
        global_attention=global_blocks,
        out_channels=16,
    )
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    reference = ImageEncoderViT(
        img_size=64,
        patch_size=8,
        embed_dim=32,
        depth=2,
        num_heads=4,
        mlp_ratio=50.5 / 32,
        out_chans=16,
        norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=window,
        global_attn_indexes=global_blocks,
    )
    reference.load_state_dict(encoder.state_dict(), strict=True)
    pixels = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(encoder(pixels), reference(pixels), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("most", [2 * 64 * 64, 64 * 64, 3 * 8 * 64, 1])
def test_attention_in_pieces_equals_attention_at_once(sam, monkeypatch, most):
    """Pieces of two heads, of one head, of three rows of queries (and a rest), of one row."""
    pixels = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        whole = sam.image_encoder(pixels)
        monkeypatch.setattr(vit, "BIAS_ELEMENTS_CPU", most)
        pieces = sam.image_encoder(pixels)
    torch.testing.assert_close(pieces, whole, atol=1e-6, rtol=1e-6)
    both = sam.image_encoder(pixels.expand(2, -1, -1, -1))  # smaller pieces, of two images
    torch.testing.assert_close(both, whole.expand_as(both), atol=1e-5, rtol=1e-5)


def test_relative_positions_pick_by_offset_and_resize():
    table = torch.arange(5.0)[:, None].expand(5, 2)
    picked = relative_positions(3, table)[..., 0]
    assert picked.tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]
    assert relative_positions(5, table).shape == (5, 5, 2)


def test_regions_of_several_images_equal_metas_mask_decoder(sam):
    reference = MaskDecoder(
        transformer_dim=32,
        transformer=TwoWayTransformer(2, 32, num_heads=4, mlp_dim=48),
        iou_head_hidden_dim=24,
    )
    reference.load_state_dict(sam.mask_decoder.state_dict(), strict=True)
    for module in reference.transformer.layers.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-6
    embeddings, prompts = torch.randn(2, 32, 8, 8), sam.encode_prompts(boxes(5))
    index = torch.tensor([0, 0, 1, 1, 1])
    tokens, image_tokens = sam.mix(embeddings, index, prompts)
    for i in (0, 1):
        _, dense = sam.prompt_encoder(None, boxes(1), None)
        masks, ious = reference.predict_masks(
            embeddings[i : i + 1], sam.prompt_encoder.get_dense_pe(), prompts[index == i], dense
        )
        actual = sam.mask_logits(tokens[index == i], image_tokens[index == i])
        torch.testing.assert_close(actual, masks, atol=1e-4, rtol=1e-4)
        actual = sam.predicted_ious(tokens[index == i])
        torch.testing.assert_close(actual, ious, atol=1e-4, rtol=1e-4)


def test_prompt_tokens(sam):
    box, points = boxes(3), torch.rand(3, 2, 2) * 64
    corners = sam.encode_prompts(box)
    assert corners.shape == (3, 2, 32)
    # Points alone end with a padding token; beside a box they do not.
    alone = sam.encode_prompts(None, points, torch.tensor([[1, 0]] * 3))
    both = sam.encode_prompts(box, points, torch.tensor([[1, 0]] * 3))
    assert (alone.shape[1], both.shape[1]) == (3, 4)
    torch.testing.assert_close(both, torch.cat([alone[:, :2], corners], dim=1))
    padding = sam.prompt_encoder.not_a_point_embed.weight.expand(3, -1)
    torch.testing.assert_close(alone[:, 2], padding)
    # Labels default to foreground, and coordinates are those of pixel centres.
    torch.testing.assert_close(
        sam.encode_prompts(None, points), sam.encode_prompts(None, points, torch.ones(3, 2))
    )
    position = sam.prompt_encoder.pe_layer._pe_encoding((points + 0.5) / 64)
    expected = position[:, 0] + sam.prompt_encoder.point_embeddings[1].weight
    torch.testing.assert_close(alone[:, 0], expected)
    with pytest.raises(ValueError, match="a box or points"):
        sam.encode_prompts(None)


def test_a_prompt_whose_embedding_sums_to_zero_is_not_dropped(sam):
    prompts = torch.zeros(2, 2, 32)
    tokens, _ = sam.mix(torch.randn(1, 32, 8, 8), torch.tensor([0, 0]), prompts)
    assert tokens.shape == (2, 7, 32)


def test_everything_is_frozen_and_in_evaluation_mode():
    sam = build_sam("tiny")
    assert not any(p.requires_grad for p in sam.parameters())
    assert not any(m.training for m in sam.modules())


def test_random_weights_depend_on_their_seed_only():
    before = torch.random.get_rng_state()
    one = build_sam(SMALL, random_seed=3).state_dict()
    assert torch.equal(before, torch.random.get_rng_state())
    torch.randn(5)
    again, other = (build_sam(SMALL, random_seed=s).state_dict() for s in (3, 4))
    assert all(torch.equal(one[k], again[k]) for k in one)
    assert not torch.equal(
        one["mask_decoder.iou_token.weight"], other["mask_decoder.iou_token.weight"]
    )


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_round_trip(sam, tmp_path, suffix):
    path = tmp_path / f"sam{suffix}"
    state = {k: v.contiguous() for k, v in sam.state_dict().items()}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    loaded = build_sam(SMALL, weights=str(path)).state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[k], state[k]) for k in state)


@pytest.mark.parametrize("with_encoder", [True, False])
def test_an_untrained_encoder_keeps_the_trained_rest(sam, tmp_path, with_encoder):
    state = {k: v.contiguous() for k, v in sam.state_dict().items()}
    kept = {k: v for k, v in state.items() if with_encoder or not k.startswith("image_encoder.")}
    save_file(kept, tmp_path / "sam.safetensors")
    weights = str(tmp_path / "sam.safetensors")
    loaded = build_sam(SMALL, weights=weights, random_seed=3, untrained_encoder=True).state_dict()
    drawn = build_sam(SMALL, random_seed=3).state_dict()
    other = build_sam(SMALL, weights=weights, random_seed=4, untrained_encoder=True).state_dict()
    assert loaded.keys() == state.keys()
    for name, tensor in loaded.items():
        expected = drawn if name.startswith("image_encoder.") else state
        assert torch.equal(tensor, expected[name]), name
    patches = "image_encoder.patch_embed.proj.weight"
    assert not torch.equal(loaded[patches], other[patches])


def test_bad_weights_are_one_clear_line(sam, tmp_path):
    state = {k: v.contiguous() for k, v in sam.state_dict().items()}
    name = "mask_decoder.iou_token.weight"

    def complaint(**changes):
        path = tmp_path / "bad.safetensors"
        save_file({k: v for k, v in {**state, **changes}.items() if v is not None}, path)
        with pytest.raises(InputError) as caught, at("suite.yaml"):
            build_sam(SMALL, weights=str(path))
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(f"suite.yaml: sam.weights: {path}")
        return str(caught.value)

    assert f"lacks {name} (1, 32)" in complaint(**{name: None})
    assert "holds zebra (2,), which the model has not" in complaint(zebra=torch.zeros(2))
    text = complaint(**{name: torch.zeros(1, 31)})
    assert f"{name} of shape (1, 31), but the model has (1, 32)" in text
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    for file, problem in (("junk.safetensors", "cannot be read"), ("no.pth", "does not exist")):
        with pytest.raises(InputError, match=problem):
            build_sam(SMALL, weights=str(tmp_path / file))


def test_pickled_code_is_not_run(tmp_path):
    torch.save({"weights": SMALL}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="cannot be read as weights"):
        build_sam(SMALL, weights=str(tmp_path / "evil.pth"))


def test_unknown_names_are_suggested():
    with pytest.raises(InputError, match="did you mean vit_b"):
        build_sam("vit_bb")
    with pytest.raises(InputError, match="not embedded"):
        build_sam("tiny", weights="embedded:no_such_sam")


@pytest.mark.parametrize("size", sam_sizes())
def test_every_sam_has_a_whole_grid(size):
    dims = of_sam(size).dims
    assert dims.image_size % dims.patch_size == 0
    assert max(dims.encoder_global_blocks, default=-1) == dims.encoder_depth - 1
