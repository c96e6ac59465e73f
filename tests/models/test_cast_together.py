"""Matrices cast together: the values and gradients of autocast's own casts, in fewer launches."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from sca_bench.engine.measure.counter import OpCounter
from sca_bench.engine.measure.cuda_rules import cuda_rules
from sca_bench.models import mixer as module
from sca_bench.models.mixer import TwoWayMixer
from sca_bench.models.products import fast_layers


@pytest.fixture
def made():
    torch.manual_seed(0)
    mixer = TwoWayMixer(2, 16, 2, 32)
    fast_layers(mixer)  # as a text mixer is built
    inputs = torch.randn(5, 9, 16), torch.randn(9, 16), torch.randn(5, 3, 16)
    return mixer, inputs


def none(blocks, *_):
    """Cast nothing: autocast does it."""
    return [{} for _ in blocks]


def step(mixer, inputs, monkeypatch, *, together, regions=8, again=False):
    """Return mixed tokens and all gradients; `regions` go through the blocks at a time."""
    monkeypatch.setattr(module, "IMAGE_ELEMENTS_CPU", regions * 9 * 16)
    if not together:
        monkeypatch.setattr(module, "cast_together", none)
    mixer.checkpoint_blocks = again
    mixer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        tokens = mixer.mixed_tokens(*inputs)
        loss = tokens.float().square().sum()
    loss.backward()
    monkeypatch.undo()
    return [tokens.detach(), *(p.grad for p in mixer.parameters() if p.grad is not None)]


@pytest.mark.parametrize("again", [False, True], ids=["kept", "computed again"])
def test_no_bit_moves(made, monkeypatch, again):
    one = step(*made, monkeypatch, together=False, again=again)
    other = step(*made, monkeypatch, together=True, again=again)
    assert len(one) == len(other) > 40
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_gradients_of_parts_are_added_in_float32(made, monkeypatch):
    """Autocast adds those of what it has cast once in half precision."""
    true = step(*made, monkeypatch, together=True)
    one = step(*made, monkeypatch, together=False, regions=1)
    other = step(*made, monkeypatch, together=True, regions=1)

    def far(found):
        return sum((a - b).norm() for a, b in zip(found[1:], true[1:], strict=True))

    assert torch.equal(one[0], other[0])
    assert far(other) < far(one)


def test_in_float32_nothing_is_cast(made, monkeypatch):
    mixer, inputs = made
    monkeypatch.setattr(module, "cast_together", None)
    assert mixer.mixed_tokens(*inputs).dtype == torch.float32


def test_casts_are_few_launches(monkeypatch):
    def launches(together):
        counter = OpCounter()
        with FakeTensorMode(), cuda_rules("fp16"):
            mixer = TwoWayMixer(4, 16, 2, 32)
            fast_layers(mixer)
            inputs = torch.randn(5, 9, 16), torch.randn(9, 16), torch.randn(5, 3, 16)
            if not together:
                monkeypatch.setattr(
                    module, "cast_together", lambda blocks, *_: [{} for _ in blocks]
                )
            with counter:
                mixer.mixed_tokens(*inputs).sum().backward()
        return counter.work().launches

    few = launches(together=True)
    casts = 4 * (3 * 8 + 4 - 2)  # matrices and biases of three attentions and an MLP
    assert launches(together=False) - few > 1.8 * casts
