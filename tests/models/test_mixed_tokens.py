"""The text mixer's own formulas against Meta's: equal results and gradients, up to rounding."""

from __future__ import annotations

import itertools

import pytest
import torch

from sca_bench.models import mixer as mixer_file
from sca_bench.models import products
from sca_bench.models.few_tokens import read_image, write_image
from sca_bench.models.mixer import TwoWayMixer

C, S, HEADS, REGIONS = 32, 9, 4, 5
INDEX = torch.tensor([0, 1, 1, 0, 1])
FEW, MANY = 4, 7
"""Tokens whose rows are as many as the inner channels of an attention, and more."""


@pytest.fixture(params=[False, True], ids=["together", "one by one"], autouse=True)
def _products(request, monkeypatch):
    """Small products are made together, large ones one by one; here all are either."""
    monkeypatch.setattr(products, "WORTH_A_CALL", 0 if request.param else 2**62)


def given(tokens, dtype=torch.float64, depth=3):
    """Return a mixer, image tokens of two images, their positions and tokens."""
    torch.manual_seed(0)
    mixer = TwoWayMixer(depth, C, HEADS, mlp_dim=48).to(dtype)
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    image, pe = torch.randn(2, S, C, dtype=dtype), torch.randn(S, C, dtype=dtype)
    return mixer, image, pe, torch.randn(REGIONS, tokens, C, dtype=dtype)


def results(mixer, mix, image, pe, tokens, index):
    """Return mixed tokens and the gradients of all that learns, image tokens and tokens too."""
    mixer.zero_grad()
    leaves = [x.clone().requires_grad_() for x in (image, tokens)]
    mixed = mix(leaves[0], pe, leaves[1], index)
    mixed.square().mean().backward()
    found = {name: p.grad for name, p in mixer.named_parameters()}
    return found | {
        "tokens": mixed.detach(),
        "of image": leaves[0].grad,
        "of tokens": leaves[1].grad,
    }


def by_meta(mixer):
    return lambda *inputs: mixer(*inputs)[0]


def assert_close(found, expected, tolerance):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if value is None:
            assert found[name] is None, name
            continue
        off = (found[name] - value).abs().max() / value.abs().max().clamp_min(tolerance)
        small = value.abs().max() < 1e-12  # keys' biases, which no softmax shows
        assert off <= tolerance or (small and found[name].abs().max() < 1e-12), (name, off)


@pytest.mark.parametrize("tokens", [FEW, MANY])
@pytest.mark.parametrize("shared", [True, False], ids=["shared images", "an image each"])
def test_equals_meta_in_float64(tokens, shared):
    mixer, image, pe, start = given(tokens)
    assert mixer.final_attn_token_to_image.suits(start) == (tokens == FEW)
    inputs = (image, pe, start, INDEX) if shared else (image[INDEX], pe, start, None)
    expected = results(mixer, by_meta(mixer), *inputs)
    assert_close(results(mixer, mixer.mixed_tokens, *inputs), expected, 1e-10)


def test_float32_is_as_near_to_float64_as_metas_formulas_are():
    mixer, image, pe, start = given(FEW)
    exact = results(mixer, by_meta(mixer), image, pe, start, INDEX)
    single, *_ = given(FEW, torch.float32)
    single.load_state_dict(mixer.state_dict())
    off = {}
    for name, mix in (("meta", by_meta(single)), ("own", single.mixed_tokens)):
        found = results(single, mix, image.float(), pe.float(), start.float(), INDEX)
        ratios = [
            float((found[n] - v).abs().max() / v.abs().max())
            for n, v in exact.items()
            if v is not None and v.abs().max() > 1e-12
        ]
        off[name] = max(ratios)
    assert off["own"] < max(2 * off["meta"], 1e-5), off


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("tokens", [FEW, MANY])
def test_half_precision_between_blocks_stays_as_near_to_float32(dtype, tokens):
    mixer, image, pe, start = given(tokens, torch.float32, depth=6)
    inputs = (image, pe, start, INDEX)
    exact = results(mixer, by_meta(mixer), *inputs)["tokens"]
    with torch.no_grad(), torch.autocast("cpu", dtype):
        meta = mixer(*inputs)[0]
        own = mixer.mixed_tokens(*inputs)
    off = [float((x.float() - exact).norm() / exact.norm()) for x in (own, meta)]
    print(off)
    assert off[0] < 1.5 * off[1], off


def test_gradients_of_the_parts():
    generator = torch.Generator().manual_seed(1)

    def drawn(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()

    keys, values, image = drawn(2, 6, 4), drawn(2, 6, 4), drawn(2, 5, 4)
    pe = drawn(5, 4).detach()

    def read(keys, offsets, image):
        return read_image(keys, offsets, image, image.detach() + pe)

    def write(keys, offsets, values, image):
        return write_image(keys, offsets, values, image, image.detach() + pe, 3)

    # One side of a difference moves `placed` along; that of autograd counts it to the image.
    assert torch.autograd.gradcheck(read, (keys, drawn(2, 6), image))
    assert torch.autograd.gradcheck(write, (keys, drawn(2, 6), values, image))


@pytest.mark.parametrize("tokens", [FEW, MANY])
def test_checkpoints_change_no_bit(tokens):
    mixer, *inputs = given(tokens, torch.float32)
    plain = results(mixer, mixer.mixed_tokens, *inputs, INDEX)
    mixer.checkpoint_blocks = True
    again = results(mixer, mixer.mixed_tokens, *inputs, INDEX)
    for name, value in plain.items():
        assert (value is None and again[name] is None) or torch.equal(value, again[name]), name


@pytest.mark.parametrize("tokens", [FEW, MANY])
@pytest.mark.parametrize("shared", [True, False], ids=["shared images", "an image each"])
def test_how_many_regions_go_together_changes_no_result(tokens, shared, monkeypatch):
    mixer, image, pe, start = given(tokens)
    inputs = (image, pe, start, INDEX) if shared else (image[INDEX], pe, start, None)
    whole = results(mixer, mixer.mixed_tokens, *inputs)
    for regions in (1, 2):
        monkeypatch.setattr(mixer_file, "IMAGE_ELEMENTS_CPU", regions * S * C)
        assert_close(results(mixer, mixer.mixed_tokens, *inputs), whole, 1e-10)


def test_frozen_image_tokens_get_no_gradient_and_cost_none():
    mixer, image, pe, start = given(FEW, torch.float32, depth=1)
    mixer.mixed_tokens(image, pe, start, INDEX).sum().backward()
    assert image.grad is None
    assert all(p.grad is not None for p in mixer.layers[0].cross_attn_token_to_image.parameters())


def test_no_regions():
    mixer, image, pe, start = given(FEW)
    assert mixer.mixed_tokens(image, pe, start[:0], INDEX[:0]).shape == (0, FEW, C)


def test_regions_do_not_see_each_other():
    mixer, image, pe, start = given(FEW, torch.float32)
    whole = mixer.mixed_tokens(image, pe, start, INDEX)
    for order in itertools.islice(itertools.permutations(range(REGIONS)), 0, 120, 37):
        places = list(order)
        there = mixer.mixed_tokens(image, pe, start[places], INDEX[places])
        torch.testing.assert_close(there, whole[places], atol=1e-5, rtol=1e-5)
