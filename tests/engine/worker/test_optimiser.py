"""The optimiser against AdamW written by hand: decay groups, clipping, betas, rates, schedule."""

import copy
import math
import re

import pytest
import torch
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    get_cosine_schedule_with_warmup,
)

from sca_bench.engine.worker.cell_group import Member
from sca_bench.engine.worker.mmengine_runner import (
    build_optimiser,
    build_schedule,
    parameter_groups,
)
from sca_bench.engine.worker.rng import RngStream
from sca_bench.models.build import FrozenParts, build_sca
from sca_bench.models.sam.sam import build_sam
from sca_bench.models.text_decoder.decoder import TextDecoder
from sca_bench.specs.encoders import sam_dims
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.variants import all_variants

CPU = torch.device("cpu")
DESIGNS = sorted(n for n, spec in all_variants().items() if spec.builder.endswith(":build_sca"))
RATE, DECODER_RATE, DECAY, BETAS, FINAL_RATIO = 0.01, 0.003, 0.1, (0.8, 0.95), 0.1
# Five steps: two of warm-up, then the cosine from its top, a third and two thirds of its way down.
FACTORS = [1 / 2, 1.0, 1.0, 0.1 + 0.9 * 0.75, 0.1 + 0.9 * 0.25]
# AdamW does not see a constant factor on all gradients: clipping shows where their norms change.
NORMS = [5.0, 0.4, 20.0, 0.2, 2.0]
FREE_OF_DECAY = re.compile(
    r"bias$|^text_mixer\..*norm\w*\.weight$|\.ln_(1|2|f)\.weight$|^text_decoder\..*norm\.weight$"
)
"""Names of biases, of the text mixer's LayerNorms, of GPT-2's and of Llama's RMSNorms."""
IDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}


def gpt2():
    size = {"n_positions": 32, "n_embd": 16, "n_layer": 1, "n_head": 2}
    return GPT2LMHeadModel(GPT2Config(vocab_size=9, **size, **IDS))


def llama():
    size = {"hidden_size": 16, "intermediate_size": 24, "max_position_embeddings": 32}
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=9, **size, **layers, **IDS))


@pytest.fixture(scope="module")
def sam():
    """SAM at tiny size, untrained; no test changes it."""
    return build_sam(sam_dims("tiny"), weights="random")


@pytest.fixture
def member(cell_settings, sam):
    """Return a function that builds a cell; its trained weights are drawn far from 0 and 1."""

    def build(variant="sca", language_model=gpt2, decoder=None, **train):
        changes = {
            "variant": variant,
            "text_decoder": decoder or {"trainable": True, "learning_rate": DECODER_RATE},
            "train": {
                "steps": len(NORMS),
                "learning_rate": RATE,
                "betas": list(BETAS),
                "weight_decay": DECAY,
                "final_lr_ratio": FINAL_RATIO,
                **train,
            },
        }
        settings = cell_settings(changes)
        torch.manual_seed(0)
        text_decoder = TextDecoder(language_model(), None, name="made up")
        captioner = build_sca(settings, FrozenParts(sam, text_decoder))
        with torch.no_grad():
            for parameter in trained(captioner).values():
                parameter.normal_()
        return Member("one", captioner, CellIdentity(settings, {}), RngStream(0, CPU))

    return build


def trained(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def gradients_of(parameters):
    """Return name -> gradient for each step; all gradients of a step have its norm together."""
    steps = []
    for norm in NORMS:
        drawn = {name: torch.randn_like(p) for name, p in parameters.items()}
        whole = math.sqrt(sum(float(g.square().sum()) for g in drawn.values()))
        steps.append({name: g * (norm / whole) for name, g in drawn.items()})
    return steps


def train(member, gradients):
    """Take the group's steps, with a loss that has just these gradients; return the rates too."""
    parameters = trained(member.captioner)
    wrapper = build_optimiser(member, CPU)
    schedule = build_schedule(wrapper, member.settings.train)
    rates = []
    for step in gradients:
        rates.append({group["lr"] for group in wrapper.param_groups})
        loss = sum((parameters[name] * g).sum() for name, g in step.items())
        wrapper.backward(wrapper.scale_loss(loss))
        wrapper.step()
        wrapper.zero_grad()
        for scheduler in schedule:
            scheduler.step()
    return rates


def adamw(start, gradients, rates, factors, clip_norm=1.0):
    """AdamW with decoupled decay, in plain arithmetic and double precision.

    Args:
        start: Name -> weights before the first step.
        gradients: For each step, name -> gradient before clipping.
        rates: Name -> learning rate at its highest.
        factors: What the rate of each step is multiplied by.
        clip_norm: Largest norm of all gradients together.
    """
    weights = {name: value.double() for name, value in start.items()}
    first = {name: torch.zeros_like(value) for name, value in weights.items()}
    second = {name: torch.zeros_like(value) for name, value in weights.items()}
    one, two = BETAS
    for t, (step, factor) in enumerate(zip(gradients, factors, strict=True), 1):
        norm = math.sqrt(sum(float(g.double().square().sum()) for g in step.values()))
        scale = min(1.0, clip_norm / norm)
        for name, w in weights.items():
            g, rate = step[name].double() * scale, rates[name] * factor
            decay = 0.0 if FREE_OF_DECAY.search(name) else DECAY
            first[name] = one * first[name] + (1 - one) * g
            second[name] = two * second[name] + (1 - two) * g * g
            mean, square = first[name] / (1 - one**t), second[name] / (1 - two**t)
            weights[name] = w - rate * decay * w - rate * mean / (square.sqrt() + 1e-8)
    return weights


def assert_follows_adamw(member, decoder_rate, clip_norm=1.0):
    before = {name: p.detach().clone() for name, p in member.captioner.named_parameters()}
    parameters = trained(member.captioner)
    gradients = gradients_of(parameters)
    peaks = {n: decoder_rate if n.startswith("text_decoder.") else RATE for n in parameters}
    seen = train(member, gradients)
    for found, factor in zip(seen, FACTORS, strict=True):
        assert sorted(found) == pytest.approx(sorted({peak * factor for peak in peaks.values()}))
    start = {name: before[name] for name in parameters}
    expected = adamw(start, gradients, peaks, FACTORS, clip_norm)
    for name, parameter in member.captioner.named_parameters():
        if name in expected:
            torch.testing.assert_close(
                parameter.detach(),
                expected[name].float(),
                rtol=2e-6,
                atol=2e-6,
                msg=lambda text, name=name: f"{name}: {text}",
            )
        else:
            assert torch.equal(parameter, before[name]), name  # frozen


@pytest.mark.parametrize("variant", DESIGNS)
def test_every_design_takes_the_steps_of_adamw_written_by_hand(member, variant):
    """Mixer at its own rate, trained decoder at another; norms of gradients above and below 1."""
    assert_follows_adamw(member(variant), DECODER_RATE)


def test_a_trained_llama_decoder_takes_them_too(member):
    """Its RMSNorms are of a class of transformers' own, and free of decay as every norm is."""
    one = member(language_model=llama)
    norms = {n for n in trained(one.captioner) if re.search(r"^text_decoder\..*norm\.weight$", n)}
    assert len(norms) == 3  # two in the layer, one at the end
    decay_of = {
        id(p): group["weight_decay"]
        for group in parameter_groups(one.captioner, one.settings)
        for p in group["params"]
    }
    assert {decay_of[id(trained(one.captioner)[name])] for name in norms} == {0.0}
    assert_follows_adamw(one, DECODER_RATE)


def test_a_trained_decoder_without_a_rate_of_its_own_has_the_mixers(member):
    assert_follows_adamw(member(decoder={"trainable": True}), RATE)


def test_a_frozen_decoder_is_left_as_it_is_and_the_norm_is_that_of_the_setting(member):
    assert_follows_adamw(member(decoder={"trainable": False}, clip_norm=0.3), RATE, clip_norm=0.3)


def test_gradients_are_clipped_at_one_by_default(cell_settings):
    assert cell_settings().train.clip_norm == 1.0


def test_norms_and_biases_of_any_module_are_free_of_decay(cell_settings):
    class StrangersRMSNorm(nn.Module):
        def __init__(self):
            super().__init__()
            self.gain = nn.Parameter(torch.ones(2))
            self.table = nn.Parameter(torch.ones(2, 2))

    class Normaliser(StrangersRMSNorm):
        """No norm by its name."""

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(2))
            self.scale = nn.Parameter(torch.ones(2))
            self.linear, self.table = nn.Linear(2, 2), nn.Embedding(2, 2)
            self.inner = nn.Sequential(nn.LayerNorm(2), nn.GroupNorm(1, 2), nn.Conv2d(1, 1, 1))
            self.rms = nn.Sequential(nn.RMSNorm(2), StrangersRMSNorm(), Normaliser())
            self.batch = nn.BatchNorm2d(2)
            self.frozen = nn.Linear(2, 2).requires_grad_(False)

    model = Small()
    settings = cell_settings({"train": {"learning_rate": RATE, "weight_decay": DECAY}})
    names = {id(p): name for name, p in model.named_parameters()}
    found = {
        (group["lr"], group["weight_decay"]): {names[id(p)] for p in group["params"]}
        for group in parameter_groups(model, settings)
    }
    assert found == {
        (RATE, DECAY): {
            *("scale", "linear.weight", "table.weight", "inner.2.weight"),
            *("rms.1.table", "rms.2.gain", "rms.2.table"),
        },
        (RATE, 0.0): {
            *("bias", "linear.bias", "inner.2.bias", "batch.weight", "batch.bias"),
            *("rms.0.weight", "rms.1.gain"),
            *(f"inner.{norm}.{leaf}" for norm in (0, 1) for leaf in ("weight", "bias")),
        },
    }


@pytest.mark.parametrize(
    ("steps", "warmup", "ratio", "factors"),
    [
        (6, 2, 0.0, [0.5, 1, 1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4]),
        (6, 2, 0.2, [0.5, 1, 1, 0.2 + 0.2 * (2 + 2**0.5), 0.6, 0.2 + 0.2 * (2 - 2**0.5)]),
        (4, 0, 0.0, [1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4]),
        (4, 1, 0.0, [1, 1, 0.75, 0.25]),
        (4, 200, 0.0, [1 / 3, 2 / 3, 1, 1]),  # all but the last step are warm-up
        (1, 200, 0.0, [1]),
    ],
)
def test_rates_of_every_step(cell_settings, steps, warmup, ratio, factors):
    assert_rates(cell_settings, factors, steps=steps, warmup_steps=warmup, final_lr_ratio=ratio)


@pytest.mark.parametrize(
    ("steps", "warmup", "ratio", "factors"),
    [
        (6, 2, 0.0, [0, 0.5, 1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4]),
        (6, 2, 0.2, [0, 0.5, 1, 0.2 + 0.2 * (2 + 2**0.5), 0.6, 0.2 + 0.2 * (2 - 2**0.5)]),
        (4, 0, 0.0, [1, (2 + 2**0.5) / 4, 0.5, (2 - 2**0.5) / 4]),
        (4, 1, 0.0, [0, 1, 0.75, 0.25]),
        (4, 4, 0.0, [0, 0.25, 0.5, 0.75]),
        (4, 200, 0.0, [0, 0.005, 0.01, 0.015]),  # the original does not cut a warm-up short
    ],
)
def test_rates_of_every_step_as_published(cell_settings, steps, warmup, ratio, factors):
    changes = {"steps": steps, "warmup_steps": warmup, "final_lr_ratio": ratio}
    assert_rates(cell_settings, factors, as_published=["warmup"], **changes)


def test_the_rates_as_published_are_those_of_transformers(cell_settings):
    """Two hundred steps of warm-up in a run of a thousand, to the last digits."""
    optimiser = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=1.0)
    schedule = get_cosine_schedule_with_warmup(optimiser, 200, 1000)
    factors = []
    for _ in range(1000):
        factors.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    assert_rates(cell_settings, factors, as_published=["warmup"], steps=1000, warmup_steps=200)


def test_a_warm_up_as_published_goes_on_where_a_checkpoint_left_it(member):
    """State of optimiser and schedule after each step, put into new ones."""
    one = member(as_published=["warmup"], warmup_steps=3)
    wrapper = build_optimiser(one, CPU)
    schedule = build_schedule(wrapper, one.settings.train)
    rates = []
    for _ in NORMS:
        rates.append(max(group["lr"] for group in wrapper.param_groups))
        kept = [wrapper.state_dict(), *(copy.deepcopy(s.state_dict()) for s in schedule)]
        wrapper = build_optimiser(one, CPU)
        schedule = build_schedule(wrapper, one.settings.train)
        for part, state in zip([wrapper, *schedule], kept, strict=True):
            part.load_state_dict(state)
        wrapper.step()
        for scheduler in schedule:
            scheduler.step()
    assert rates == pytest.approx([RATE * f for f in (0, 1 / 3, 2 / 3, 1, 0.1 + 0.9 * 0.5)])


def assert_rates(cell_settings, factors, *, steps, **changes):
    """Compare the rates of all steps of a training with the highest times these factors."""
    changes = {"steps": steps, **changes}
    settings = cell_settings({"train": {**changes, "learning_rate": RATE}})
    captioner = nn.Linear(2, 2)
    one = Member("one", captioner, CellIdentity(settings, {}), RngStream(0, CPU))
    rates = train(one, [{"weight": torch.ones(2, 2), "bias": torch.ones(2)}] * steps)
    assert [rate for (rate,) in rates] == pytest.approx([RATE * factor for factor in factors])


@pytest.fixture
def small(cell_settings):
    """Return a function that makes a cell of two numbers."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.numbers = nn.Parameter(torch.ones(2))

    def build(**train):
        settings = cell_settings({"train": {"learning_rate": RATE, "warmup_steps": 0, **train}})
        return Member("one", Two(), CellIdentity(settings, {}), RngStream(0, CPU))

    return build


def test_half_precision_is_made_for_its_device(small, monkeypatch):
    """As CUDA's wrapper would be made; there need be no GPU."""
    asked = []
    monkeypatch.setattr(torch.amp, "GradScaler", asked.append)
    wrapper = build_optimiser(small(precision="fp16", clip_norm=0.5), torch.device("cuda"))
    assert asked == ["cuda"]
    assert wrapper.clip_grad_kwargs == {"max_norm": 0.5}
    optimiser = wrapper.optimizer
    assert (type(optimiser), optimiser.param_groups[0]["fused"]) == (torch.optim.AdamW, True)


def test_half_precision_scales_its_losses_clips_and_is_kept(small):
    """torch's scaler works on any device. mmengine would make one of a deprecated class."""
    wrapper = build_optimiser(small(precision="fp16", clip_norm=0.5), CPU)
    assert type(wrapper.loss_scaler) is torch.amp.GradScaler
    (parameter,) = wrapper.optimizer.param_groups[0]["params"]

    def step(gradient):
        wrapper.backward(wrapper.scale_loss(parameter @ torch.tensor(gradient)))
        wrapper.step()
        seen = parameter.grad.tolist()
        wrapper.zero_grad()
        return seen

    assert step([3.0, 4.0]) == pytest.approx([0.3, 0.4], rel=1e-5)  # of the loss, not of its scale
    assert wrapper.loss_scaler.get_scale() == 2.0**16
    before = parameter.detach().clone()
    step([float("inf"), 1.0])
    assert torch.equal(parameter, before)
    assert wrapper.loss_scaler.get_scale() == 2.0**15
    again = build_optimiser(small(precision="fp16", clip_norm=0.5), CPU)
    again.load_state_dict(copy.deepcopy(wrapper.state_dict()))
    assert again.state_dict()["loss_scaler"] == wrapper.state_dict()["loss_scaler"]
    assert again.loss_scaler.state_dict()["scale"] == 2.0**15
    assert int(again.optimizer.state_dict()["state"][0]["step"]) == 1


def test_what_the_settings_say_reaches_adamw(small):
    wrapper = build_optimiser(small(betas=[0.5, 0.75], weight_decay=0.25, clip_norm=0.125), CPU)
    assert type(wrapper.optimizer) is torch.optim.AdamW
    (group,) = wrapper.optimizer.param_groups
    assert (group["lr"], group["betas"], group["weight_decay"]) == (RATE, (0.5, 0.75), 0.25)
    assert (group["eps"], group["amsgrad"], group["fused"]) == (1e-8, False, False)
    assert wrapper.clip_grad_kwargs == {"max_norm": 0.125}


@pytest.mark.parametrize(
    ("gradient", "clipped"), [((0.3, 0.4), (0.3, 0.4)), ((3.0, 4.0), (0.6, 0.8))]
)
def test_the_norm_of_all_gradients_is_clipped(small, gradient, clipped):
    wrapper = build_optimiser(small(clip_norm=1.0), CPU)
    (parameter,) = wrapper.optimizer.param_groups[0]["params"]
    parameter.grad = torch.tensor(gradient)
    wrapper._clip_grad()
    assert parameter.grad.tolist() == pytest.approx(clipped, rel=1e-5)
    parameter.grad = None
    wrapper._clip_grad()  # nothing to clip


def test_a_schedule_of_no_steps_is_empty(small):
    for published in ([], ["warmup"]):
        one = small(steps=0, as_published=published)
        wrapper = build_optimiser(one, CPU)
        assert build_schedule(wrapper, one.settings.train) == []


@pytest.mark.parametrize(
    ("steps", "warmup", "published", "ends"),
    [
        (6, 2, [], [(0, 2), (2, 6)]),
        (6, 6, [], [(0, 5), (5, 6)]),
        (6, 6, ["warmup"], [(0, 7)]),
        (6, 2, ["warmup"], [(0, 3), (2, 6)]),
        (6, 0, [], [(0, 6)]),
        (6, 0, ["warmup"], [(0, 6)]),
        (1, 9, [], [(0, 1)]),
    ],
)
def test_warm_up_and_cosine_follow_each_other(small, steps, warmup, published, ends):
    one = small(steps=steps, warmup_steps=warmup, as_published=published)
    wrapper = build_optimiser(one, CPU)
    schedule = build_schedule(wrapper, one.settings.train)
    assert [(part.begin, part.end) for part in schedule] == ends
    assert not any(part.by_epoch for part in schedule)
