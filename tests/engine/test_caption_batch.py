"""How many regions are captioned at a time: as asked, 64, or what a GPU's memory holds."""

from __future__ import annotations

import pytest
import torch

from sca_bench.captioner import Decoding
from sca_bench.engine import caption_batch
from sca_bench.engine.caption_batch import LEAST, MOST, regions_at_a_time
from sca_bench.settings import RuntimeSettings

GREEDY = Decoding(1, 19)


class Says:
    """A captioner that says what a region takes."""

    def __init__(self, mib):
        self.bytes = mib * 2**20

    def generate(self, batch, decoding):
        raise NotImplementedError

    def caption_bytes(self, decoding):
        return self.bytes * decoding.num_beams


class SaysNothing:
    def generate(self, batch, decoding):
        raise NotImplementedError


@pytest.fixture
def at_a_time(monkeypatch):
    """Return a function: how many regions, with so much free memory (None: a CPU)."""

    def ask(*captioners, free_gib, asked=0, kept=True, decoding=GREEDY):
        free = None if free_gib is None else free_gib * 2**30
        monkeypatch.setattr(caption_batch, "free_memory_bytes", lambda _: free)
        runtime = RuntimeSettings(eval_regions=asked)
        return regions_at_a_time(runtime, captioners, decoding, torch.device("cpu"), kept=kept)

    return ask


def test_a_cpu_takes_64_and_what_is_asked_for_decides(at_a_time):
    assert at_a_time(Says(1), free_gib=None) == 64
    assert at_a_time(Says(1), free_gib=None, asked=7) == 7
    assert at_a_time(Says(1), free_gib=64, asked=7) == 7


def test_half_of_a_gpus_free_memory_is_filled(at_a_time):
    assert at_a_time(Says(64), free_gib=32) == 256
    assert at_a_time(Says(64), free_gib=32, decoding=Decoding(4, 19)) == 64
    assert at_a_time(Says(64), Says(128), free_gib=32) == 128  # the largest of a group decides
    assert at_a_time(Says(1), free_gib=64) == MOST
    assert at_a_time(Says(4096), free_gib=2) == LEAST


def test_where_nothing_is_known_of_the_memory_it_is_64(at_a_time):
    assert at_a_time(SaysNothing(), free_gib=64) == 64
    assert at_a_time(Says(1), SaysNothing(), free_gib=64) == 64
    assert at_a_time(Says(1), free_gib=64, kept=False) == 64  # an encoder takes more than regions
