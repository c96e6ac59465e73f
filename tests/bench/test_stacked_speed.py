"""What stepping small cells as one brings, and how far it moves them: `train.stacked`.

    OMP_NUM_THREADS=1 python -m pytest tests/bench/test_stacked_speed.py -m bench -s

CPU seconds of a step, stacked and in lockstep in turns, of cells of the profile `tiny`; launches of
an own step by CUDA's rules, without a GPU; and, of every design, the distance to a cell alone after
100 steps. Two minutes of one core. docs/caching.md shows its figures.
"""

import contextlib
import time
from types import SimpleNamespace

import pytest
import torch
from device.count_launches import BASE, LARGE, SMALL, cell
from helpers.stacking import TinyCells, distance
from torch._subclasses.fake_tensor import FakeTensorMode

from sca_bench.engine.forecast.gpu_hours import GPUS, MATRIX_SHARE
from sca_bench.engine.measure import step_memory
from sca_bench.engine.measure.counter import OpCounter
from sca_bench.engine.measure.cuda_rules import cuda_rules
from sca_bench.models.text_decoder.decoder import CaptionTokens, TextDecoder
from sca_bench.variants import SCA_PARTS, all_variants

pytestmark = pytest.mark.bench

TINY = {
    "sam.size": "tiny",
    "sam.weights": "embedded:sam_tiny",
    "text_decoder.weights": "embedded:lm_scenes",
    "mixer.mlp_dim": 192,
    "mixer.init_std": 0.06,
    "prefix.num_task_tokens": 6,
    "prefix.gain": 0.06,
    "train.learning_rate": 3.0e-3,
    "train.betas": [0.9, 0.98],
    "mixer.dropout": 0.0,
}
"""Cells of the profile `tiny`."""
IMAGES = 12
"""Of a step, with two regions each."""
ROUNDS = 20
MOST = 1e-3
DESIGNS = [
    name
    for name, spec in all_variants().items()
    if spec.trains == "gradient" and spec.parts == SCA_PARTS
]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def cpu_s(work):
    before = time.process_time()
    work()
    return time.process_time() - before


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("number", [3, 8])
def test_a_step_in_cpu_seconds(number, layers):
    shared = TinyCells("sca", {**TINY, "mixer.num_layers": layers}, IMAGES // 2)
    seeds = [(seed, {}) for seed in range(number)]
    groups = {stacked: shared.group(*seeds, stacked=stacked) for stacked in (True, False)}
    for group in groups.values():
        group.train(3)
    found = {True: [], False: []}
    for _ in range(ROUNDS):
        for stacked, group in groups.items():
            found[stacked].append(cpu_s(group.step))
    assert groups[True].cell_group.notes == []
    least = {stacked: min(seconds) for stacked, seconds in found.items()}
    middle = {stacked: sorted(seconds)[ROUNDS // 2] for stacked, seconds in found.items()}
    print(
        f"\n{number} cells of {layers} layers: stacked {1e3 * least[True]:.1f} ms,"
        f" lockstep {1e3 * least[False]:.1f},"
        f" ratio {least[True] / least[False]:.2f}, of medians {middle[True] / middle[False]:.2f}"
    )


def count_own_steps(settings, number):
    """Count the own parts of a step of some cells, stacked, and of one alone."""
    counters = OpCounter(), OpCounter()
    captioners = [step_memory.bare_captioner(settings)[0] for _ in range(number)]
    decoder = captioners[0].text_decoder
    for captioner in captioners:
        captioner.text_decoder = decoder
        captioner.region_encoder = captioners[0].region_encoder
    step_memory.cast_frozen(captioners[0], settings.train.precision)
    with FakeTensorMode(), cuda_rules(settings.train.precision):
        for captioner in captioners:
            step_memory.give_contents_up(captioner)
            captioner.text_decoder = captioners[0].text_decoder
            captioner.train()
        encoder = captioners[0].region_encoder
        images, regions = settings.train.images_per_batch, settings.train.regions_per_image
        side = encoder.sam.dims.image_size
        with torch.no_grad():
            embeddings = encoder.sam.encode_images(torch.empty(images, 3, side, side))
            features = step_memory.features_of(captioners[0], embeddings, images * regions)
        batch = batch_of(features, images * regions)
        with counters[1]:
            captioners[0].loss(batch).backward()
        captioners[0].zero_grad()
        with counters[0]:
            losses = captioners[0].stacked_losses(captioners, batch, [nothing] * number)
            torch.autograd.backward(losses)
    stacked, alone = (counter.work() for counter in counters)
    return stacked, alone


def nothing():
    return contextlib.nullcontext()


def batch_of(features, count):
    """Return what a loss reads of a batch; a mask without content cannot be looked through."""
    names = [f"r{n}" for n in range(count)]
    tasks = ["caption"] * count
    return SimpleNamespace(captions=names, features=features, region_tasks=lambda: tasks)


SIZES = {
    "tiny": (SMALL, 3),
    "tiny, 8 cells": (SMALL, 8),
    "ViT-B, GPT-2, 2 layers, one image": (
        {**BASE, "train.images_per_batch": 1, "mixer.num_layers": 2},
        3,
    ),
    "the same without dropout": (
        {
            **BASE,
            "train.images_per_batch": 1,
            "mixer.num_layers": 2,
            "text_decoder.dropout_in_training": False,
        },
        3,
    ),
    "ViT-H, GPT-2 large, 2 layers": ({**LARGE, "mixer.num_layers": 2}, 3),
}


@pytest.mark.parametrize("size", SIZES)
def test_launches_of_an_own_step(size, monkeypatch):
    changes, number = SIZES[size]
    settings = cell(changes)

    def tokenize(self, captions, longest):
        ids = torch.zeros(len(captions), longest + 1, dtype=torch.long)
        return CaptionTokens(ids, ids, torch.arange(ids.numel()))

    monkeypatch.setattr(TextDecoder, "tokenize", tokenize)
    monkeypatch.setattr("sca_bench.models.sca.no_other_draws", lambda device: nothing())
    stacked, alone = count_own_steps(settings, number)
    h200 = GPUS["h200"]
    ms = [1e3 * h200.seconds(work, MATRIX_SHARE) for work in (stacked, alone)]
    print(
        f"\n{size}, {number} cells: {stacked.launches} launches, {number} x {alone.launches}:"
        f" ratio {stacked.launches / (number * alone.launches):.2f};"
        f" bytes {stacked.bytes / (number * alone.bytes):.2f};"
        f" H200 ms {ms[0]:.2f}, {number} x {ms[1]:.2f}: ratio {ms[0] / (number * ms[1]):.2f}"
    )
    assert stacked.flop == pytest.approx(number * alone.flop, rel=0.05)
    assert stacked.launches < number * alone.launches


@pytest.mark.parametrize("variant", DESIGNS)
def test_how_far_100_steps_lead(variant):
    shared = TinyCells(variant, {"mixer.dropout": 0.1})
    seeds = [(seed, {}) for seed in range(3)]
    rates = [(0, {"train.learning_rate": rate}) for rate in (0.0003, 0.002)]
    for cells in (seeds, [seeds[0], *rates]):
        stack = shared.group(*cells).train(100)
        assert stack.cell_group.notes == []
        for place, one in enumerate(cells):
            alone = shared.group(one, stacked=False).train(100)
            found = distance(stack.weights(place), alone.weights())
            print(f"\n{variant} {one}: {found:.1e}", end="")
            assert found <= MOST
