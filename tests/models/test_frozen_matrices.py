"""Frozen matrices are cast to autocast's type once, and no bit moves."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from sca_bench.captioner import CastsFrozen, Decoding
from sca_bench.models.frozen_matrices import MATRICES
from sca_bench.models.products import FastConv1D
from sca_bench.variants import all_variants

DESIGNS = [name for name, spec in all_variants().items() if spec.builder.endswith(":build_sca")]
DECODINGS = (Decoding(1, 6), Decoding(3, 6))


def results(model, batch, dtype):
    """Everything that a group asks of a captioner in mixed precision, gradients included."""
    with torch.autocast("cpu", dtype=dtype):
        features = model.frozen_features(batch, with_masks=True)
        model.train()
        torch.manual_seed(5)  # of the dropout
        loss = model.loss(batch)
    loss.backward()
    model.eval()
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        said = [
            [dataclasses.replace(p, seconds=0) for p in model.generate(batch, decoding)]
            for decoding in DECODINGS
        ]
    parts = {
        name: value for name, value in vars(features).items() if isinstance(value, torch.Tensor)
    }
    gradients = {name: p.grad for name, p in model.trainable_parameters().items()}
    return {"loss": loss.detach(), **parts, **gradients}, said


@pytest.mark.parametrize("variant", DESIGNS)
def test_no_bit_moves(make_model, batch, variant):
    model = make_model(variant=variant)
    assert isinstance(model, CastsFrozen)
    cast = copy.deepcopy(model)
    cast.cast_frozen(torch.bfloat16)
    (plain, said), (found, again) = (results(m, batch, torch.bfloat16) for m in (model, cast))
    assert plain.keys() == found.keys()
    assert [name for name in plain if not torch.equal(plain[name], found[name])] == []
    assert said == again


def test_what_is_cast_and_what_is_not(make_model):
    model = copy.deepcopy(make_model())  # its parts serve other tests
    model.cast_frozen(torch.float16)
    language_model = model.text_decoder.language_model
    head = language_model.get_output_embeddings().weight
    assert head.dtype == torch.float16
    assert language_model.get_input_embeddings().weight.dtype == torch.float32
    assert {p.dtype for p in model.trainable_parameters().values()} == {torch.float32}
    norms = [m for m in model.modules() if "norm" in type(m).__name__.lower()]
    assert norms
    assert {p.dtype for norm in norms for p in norm.parameters()} == {torch.float32}
    matrices = [m for m in model.modules() if isinstance(m, MATRICES)]
    assert FastConv1D in {type(m) for m in matrices}
    frozen = [p for m in matrices for p in m.parameters() if not p.requires_grad]
    assert {p.dtype for p in frozen} == {torch.float16}
    before = [id(p) for p in model.parameters()]
    model.cast_frozen(torch.float16)  # other cells of the group share these parts
    assert [id(p) for p in model.parameters()] == before


def test_a_decoder_that_learns_is_left_alone(make_model):
    model = copy.deepcopy(make_model(text_decoder={"trainable": True}))
    model.cast_frozen(torch.bfloat16)
    assert {p.dtype for p in model.text_decoder.parameters()} == {torch.float32}
