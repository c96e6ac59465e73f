"""The two-way mixer against Meta's TwoWayTransformer."""

from __future__ import annotations

import pytest
import torch
from segment_anything.modeling import TwoWayTransformer

from sca_bench.models.mixer import TwoWayMixer

C, GRID, TOKENS = 32, 5, 7


@pytest.fixture(params=[1, 3], ids=["1 block", "3 blocks"])
def pair(request):
    reference = TwoWayTransformer(request.param, C, num_heads=4, mlp_dim=48)
    for parameter in reference.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    # Meta's blocks have torch's default epsilon; SCA's have 1e-6.
    mixer = TwoWayMixer(request.param, C, num_heads=4, mlp_dim=48, layer_norm_eps=1e-5)
    mixer.load_state_dict(reference.state_dict(), strict=True)
    return mixer, reference


@pytest.fixture
def inputs():
    return torch.randn(2, C, GRID, GRID), torch.randn(1, C, GRID, GRID), torch.randn(5, TOKENS, C)


INDEX = torch.tensor([0, 1, 1, 0, 1])


def flat(maps):
    return maps.flatten(2).transpose(1, 2)


def test_equals_meta(pair, inputs):
    mixer, reference = pair
    image, pe, tokens = inputs
    expected = reference(image[INDEX], pe.expand(5, -1, -1, -1), tokens)
    for pe_shape in (flat(pe), flat(pe)[0]):
        actual = mixer(flat(image)[INDEX], pe_shape, tokens)
        for a, e in zip(actual, expected, strict=True):
            torch.testing.assert_close(a, e, atol=1e-5, rtol=1e-5)


def test_takes_the_maps_of_metas_mask_decoder(pair, inputs):
    mixer, reference = pair
    image, pe, tokens = inputs
    maps = image[INDEX], pe.expand(5, -1, -1, -1), tokens
    for a, e in zip(mixer(*maps), reference(*maps), strict=True):
        torch.testing.assert_close(a, e, atol=1e-5, rtol=1e-5)


def test_sharing_images_changes_nothing(pair, inputs):
    mixer, _ = pair
    image, pe, tokens = inputs
    shared = mixer(flat(image), flat(pe)[0], tokens, INDEX)
    for a, e in zip(shared, mixer(flat(image)[INDEX], flat(pe)[0], tokens), strict=True):
        torch.testing.assert_close(a, e, atol=1e-5, rtol=1e-5)


def test_gradients_equal_meta(pair, inputs):
    mixer, reference = pair
    image, pe, tokens = inputs
    mixer(flat(image), flat(pe)[0], tokens, INDEX)[0].square().mean().backward()
    reference(image[INDEX], pe.expand(5, -1, -1, -1), tokens)[0].square().mean().backward()
    expected = dict(reference.named_parameters())
    compared = 0
    for name, parameter in mixer.named_parameters():
        if expected[name].grad is None:
            assert parameter.grad is None, name
            continue
        torch.testing.assert_close(parameter.grad, expected[name].grad, atol=1e-5, rtol=1e-4)
        compared += 1
    assert compared > 20


def test_epsilons():
    mixer = TwoWayMixer(2, C, num_heads=4, mlp_dim=48)
    eps = {m.eps for m in mixer.layers.modules() if isinstance(m, torch.nn.LayerNorm)}
    assert eps == {1e-6}
    assert mixer.norm_final_attn.eps == 1e-5


def test_first_block_replaces_its_tokens():
    mixer = TwoWayMixer(1, C, num_heads=4, mlp_dim=48)
    block = mixer.layers[0]
    torch.nn.init.zeros_(block.self_attn.out_proj.weight)
    tokens, image = torch.randn(2, TOKENS, C), torch.randn(2, 4, C)
    seen = []
    block.norm1.register_forward_hook(lambda _module, args, _output: seen.append(args[0]))
    mixer(image, torch.randn(4, C), tokens)
    torch.testing.assert_close(seen[0], block.self_attn.out_proj.bias.expand_as(tokens))


def test_widths_must_divide():
    with pytest.raises(ValueError, match="multiple of num_heads"):
        TwoWayMixer(1, 30, num_heads=4, mlp_dim=8)
