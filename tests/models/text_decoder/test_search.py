"""Greedy decoding and beam search: transformers' words and scores, without its work."""

from __future__ import annotations

import pytest
import torch
from helpers.library_decoding import generate as by_the_library
from torch.utils.flop_counter import FlopCounterMode
from transformers import MistralConfig, MistralForCausalLM

from sca_bench.captioner import Decoding
from sca_bench.models.text_decoder import kept_rows
from sca_bench.models.text_decoder.attention import NAME
from sca_bench.models.text_decoder.decoder import TextDecoder
from sca_bench.models.text_decoder.loading import load_text_decoder

SEEDS = 12


@pytest.fixture
def decoder(any_lm_dir):
    return load_text_decoder(str(any_lm_dir))


@pytest.fixture
def scenes():
    return load_text_decoder("embedded:lm_scenes")


def prefixes(decoder, seed, regions=9):
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(regions, 1 + seed % 5, decoder.width, generator=generator)


def assert_same(found, expected):
    assert torch.equal(found.ids_NL, expected.ids_NL)
    assert torch.equal(found.lengths_N, expected.lengths_N)
    torch.testing.assert_close(found.log_prob_N, expected.log_prob_N, atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("beams", [1, 2, 3, 8])
def test_words_and_scores_are_the_librarys(decoder, beams):
    """With eight beams twice as many candidates are asked for as there are words."""
    lengths = set()
    for seed in range(SEEDS):
        prefix, decoding = prefixes(decoder, seed), Decoding(beams, 1 + (seed * 5) % 19)
        expected = by_the_library(decoder, prefix, decoding)
        assert_same(decoder.generate(prefix, decoding), expected)
        lengths |= set(expected.lengths_N.tolist())
    assert len(lengths) > 5


@pytest.mark.parametrize("beams", [1, 3])
def test_the_embedded_decoder_says_what_the_library_makes_it_say(scenes, beams):
    for seed in range(3):
        prefix, decoding = prefixes(scenes, seed), Decoding(beams, 19)
        assert_same(scenes.generate(prefix, decoding), by_the_library(scenes, prefix, decoding))


@pytest.mark.parametrize("beams", [1, 3])
def test_a_model_without_a_cache_reads_again_and_says_the_same(decoder, beams, monkeypatch):
    prefix, decoding = prefixes(decoder, 4), Decoding(beams, 8)
    expected = decoder.generate(prefix, decoding)
    monkeypatch.setattr(kept_rows, "_CACHE_NAMES", ())
    assert_same(decoder.generate(prefix, decoding), expected)


@pytest.mark.parametrize("beams", [1, 3])
def test_layers_with_a_window_keep_their_own_caches(beams):
    """They have masks of their own, too, so transformers' are left to them."""
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=30,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=4,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.3,
    )
    decoder = TextDecoder(MistralForCausalLM(config).eval(), None, name="window").eval()
    assert decoder.language_model.config._attn_implementation != NAME
    prefix, decoding = prefixes(decoder, 4), Decoding(beams, 9)
    assert_same(decoder.generate(prefix, decoding), by_the_library(decoder, prefix, decoding))


@pytest.mark.parametrize("beams", [1, 3])
def test_the_prefix_is_read_once_and_every_token_once(scenes, beams):
    """Counted: no product for the other beams' prefixes, and none a second time."""
    prefix, decoding = prefixes(scenes, 4), Decoding(beams, 19)
    model = scenes.language_model
    said = scenes.generate(prefix, decoding)
    with FlopCounterMode(display=False) as counter:
        scenes.generate(prefix, decoding)
    steps = said.ids_NL.shape[1] if beams == 1 else None
    regions, positions = prefix.shape[:2]
    head = model.get_output_embeddings().weight
    blocks = sum(p.numel() for p in model.base_model.h.parameters() if p.ndim == 2)
    counts = counter.get_flop_counts()["Global"]
    kinds = (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.mkldnn._linear_pointwise)
    done = sum(n for op, n in counts.items() if op in kinds)
    asked = done - 2 * regions * (positions * blocks + head.numel())
    a_step = 2 * regions * beams * (blocks + head.numel())
    assert asked % a_step == 0
    assert asked // a_step <= decoding.max_new_tokens - 1
    if steps is not None:
        assert asked // a_step == steps - 1


def test_padding_is_masked_where_transformers_makes_no_masks(decoder):
    """What a position says changes with its own padding only, as with transformers' masks."""
    model = decoder.language_model
    assert model.config._attn_implementation == NAME
    prefix, ids = prefixes(decoder, 4, regions=3), torch.tensor([[3, 4, 5]]).expand(3, -1)
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0]])
    found = decoder.logits(prefix, ids, mask)
    model.set_attn_implementation("sdpa")
    decoder._without_masks = False
    torch.testing.assert_close(found, decoder.logits(prefix, ids, mask), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[0], decoder.logits(prefix, ids)[0], atol=1e-5, rtol=1e-5)
