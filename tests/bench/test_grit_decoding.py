"""What the key and value cache saves, at the size of the released text decoder.

OMP_NUM_THREADS=1 python -m pytest tests/bench/test_grit_decoding.py -m bench -s
"""

import time
from statistics import median

import pytest
import torch

from baselines.grit.beam_search import search
from baselines.grit.config import SIZES
from baselines.grit.model import MAX_TOKENS
from baselines.grit.text_decoder import CachedSteps, TextDecoder, UncachedSteps

REGIONS, PAIRS = 4, 3
LEAST_RATIO = 5.0
"""Measured: see the README of the baseline; the margin is for busy machines."""


@pytest.fixture(scope="module")
def decoder():
    torch.manual_seed(0)
    config = SIZES["grit_b_densecap"]
    decoder = TextDecoder(config.text_decoder, config.pyramid_channels).eval()
    with torch.no_grad():
        # Untrained captions never end, so every pair decodes all 39 tokens.
        decoder.output_bias[config.text_decoder.end_token] = -1e4
    return decoder.requires_grad_(False)


@pytest.mark.bench
def test_cached_against_uncached(decoder):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        features = torch.randn(REGIONS, 14 * 14, 256, generator=torch.Generator().manual_seed(1))
        ratios = []
        for _ in range(PAIRS):  # paired: whatever else the machine does hits both
            visual = decoder.visual_tokens(features)
            cached, cached_s = timed(lambda v=visual: CachedSteps(decoder, v, MAX_TOKENS))
            plain, plain_s = timed(lambda v=visual: UncachedSteps(decoder, v))
            assert torch.equal(cached.ids_NKL, plain.ids_NKL)
            assert cached.ids_NKL.shape[-1] == MAX_TOKENS
            ratios.append(plain_s / cached_s)
            print(f"\n{REGIONS} regions: cached {cached_s:.2f} s, uncached {plain_s:.2f} s", end="")
    finally:
        torch.set_num_threads(threads)
    print(f"\nuncached / cached: {', '.join(f'{r:.1f}' for r in ratios)}")
    assert median(ratios) > LEAST_RATIO


def timed(make_steps):
    started = time.perf_counter()
    captions = search(
        make_steps(), torch.full((REGIONS,), 101), 102, max_tokens=MAX_TOKENS, beams=1
    )
    return captions, time.perf_counter() - started
