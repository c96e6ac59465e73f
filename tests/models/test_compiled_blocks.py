"""Blocks are compiled, not the loss: captions and numbers of regions make no new graphs.

Graphs are counted with a compiler that does nothing; `tests/device/test_compile_counts.py` has the
real one.
"""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch._dynamo.utils import counters

from sca_bench.captioner import CompilesBlocks, Decoding
from sca_bench.models import compiled_blocks
from sca_bench.models.compiled_blocks import compile_block
from sca_bench.models.text_decoder.activation_checkpointing import layers_of

SHAPES = [(3, 2), (2, 2), (1, 3), (2, 1), (3, 3), (3, 1)] * 2
"""Regions of two images, step by step."""

# Dynamo looks for gradients of what has none, and says so.
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")


@pytest.fixture
def graphs(monkeypatch):
    """The graphs that were handed to the compiler."""
    torch._dynamo.reset()
    counters.clear()
    found = []

    def keep(module, _inputs):
        found.append(module)
        return module.forward

    monkeypatch.setattr(compiled_blocks, "HOW", {"dynamic": True, "backend": keep})
    yield found
    torch._dynamo.reset()


def batches(batch):
    """The batch with other numbers of regions and other captions at every step."""
    words = ["a", "red", "blue", "big", "small", "ball", "box", "on", "the", "left"]
    for step, shape in enumerate(SHAPES):
        mask = torch.arange(3) < torch.tensor(shape)[:, None]
        count = int(mask.sum())
        captions = [" ".join(words[: 1 + (step + n) % 9]) for n in range(count)]
        ids = [f"{step}-{n}" for n in range(count)]
        yield dataclasses.replace(batch, region_mask_BR=mask, region_ids=ids, captions=captions)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param({"variant": "sca_split_mixer"}, marks=pytest.mark.bench),
        pytest.param({"mixer": {"gradient_checkpointing": True}}, marks=pytest.mark.bench),
    ],
    ids=["sca", "shared images", "checkpointed"],
)
def test_no_graph_after_the_second_step(make_model, batch, graphs, changes):
    plain, compiled = make_model(**changes), make_model(**changes)
    compiled.text_decoder = copy.deepcopy(compiled.text_decoder)  # the parts are shared
    assert isinstance(compiled, CompilesBlocks)
    compiled.compile_blocks()
    made = []
    for each in batches(batch):
        features = plain.frozen_features(each)
        each = dataclasses.replace(each, features=features)
        losses = []
        for model in (plain, compiled):
            model.train()
            model.zero_grad()
            torch.manual_seed(5)  # of dropout
            loss = model.loss(each)
            loss.backward()
            losses.append(loss.item())
        assert losses[0] == losses[1]
        made.append(len(graphs))
    assert made[0] > 0
    assert made[-1] == made[1], made
    assert sum(counters["graph_break"].values()) <= 1, counters["graph_break"]
    said = [
        [p.caption for p in m.generate(batch, Decoding(max_new_tokens=4))]
        for m in (plain, compiled)
    ]
    assert said[0] == said[1]


def test_a_shared_decoder_runs_as_written_for_whom_it_computes_again(make_model, batch, graphs):
    again, kept = (
        make_model(text_decoder={"gradient_checkpointing": wanted}) for wanted in (True, False)
    )
    assert again.text_decoder is kept.text_decoder
    again.text_decoder = kept.text_decoder = copy.deepcopy(kept.text_decoder)
    kept.compile_blocks()
    batch = dataclasses.replace(batch, features=kept.frozen_features(batch))
    layers = layers_of(kept.text_decoder.language_model)
    assert all(layer._compiled_call_impl is not None for layer in layers)
    again.train().loss(batch).backward()
    assert graphs == []


def test_a_block_is_compiled_once_only_where_it_is_wanted_and_its_copies_are_not(graphs):
    block, wanted = torch.nn.Linear(2, 2), []
    compile_block(block, when=lambda rows: bool(wanted) and len(rows) > 1)
    call = block._compiled_call_impl
    compile_block(block)
    assert block._compiled_call_impl is call
    rows = torch.randn(3, 2)
    expected = block(rows)
    assert graphs == []
    wanted.append(True)
    assert torch.equal(block(rows), expected)
    assert len(graphs) == 1
    copied = copy.deepcopy(block)
    torch.nn.init.zeros_(copied.weight)
    assert torch.equal(copied(rows), copied.bias.expand(3, 2))
    assert len(graphs) == 1


@pytest.mark.bench
def test_the_image_encoder_is_compiled_where_images_go_together(make_model, batch, graphs):
    plain, compiled = make_model(), make_model()
    compiled.region_encoder = copy.deepcopy(compiled.region_encoder)
    compiled.compile_blocks()
    sams = [model.region_encoder.sam for model in (plain, compiled)]
    with torch.no_grad():  # on a CPU: image by image, as it was written
        one, two = (sam.encode_images(batch.pixel_values_B3HW) for sam in sams)
    assert torch.equal(one, two)
    assert graphs == []
    one, two = (sam.encode_images(batch.pixel_values_B3HW) for sam in sams)
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
    assert graphs
