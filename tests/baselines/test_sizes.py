"""The published configurations, counted on the meta device."""

import pytest
import torch

from baselines.sam_captioner.architectures import ARCHITECTURES
from baselines.sam_captioner.sizes import SIZES, TINY_WORDS, size_config
from sca_bench.errors import InputError


@pytest.mark.parametrize(
    ("kind", "size", "num_params"),
    [
        ("git", "git-base", 176_619_066),  # 176.6 M
        ("git", "git-large", 394_196_026),  # 394.2 M
        ("blip", "blip-base", 223_971_644),  # 224.0 M, word embeddings tied
        ("blip", "blip-large", 446_290_492),  # 446.3 M
        ("blip2", "blip2-opt-2.7b", 3_744_761_856),  # 3744.8 M
    ],
)
def test_published_sizes_have_the_published_counts(kind, size, num_params):
    with torch.device("meta"):
        model = ARCHITECTURES[kind].model_class(size_config(kind, size))
    assert sum(p.numel() for p in model.parameters()) == num_params
    wrapped = ARCHITECTURES[kind](model)
    assert wrapped.image_size == {"git": 224, "blip": 384, "blip2": 224}[kind]
    assert (wrapped.start_id, wrapped.end_ids) == {
        "git": (101, (102,)),
        "blip": (30522, (102,)),
        "blip2": (2, (50118,)),
    }[kind]


def test_blip_has_twelve_heads():
    assert size_config("blip", "blip-base").text_config.num_attention_heads == 12


@pytest.mark.parametrize("kind", SIZES)
def test_tiny_sizes_fit_the_words_and_the_budget(kind):
    with torch.device("meta"):
        model = ARCHITECTURES[kind].model_class(size_config(kind, "tiny"))
    assert ARCHITECTURES[kind](model).vocab_size == len(TINY_WORDS)
    assert sum(p.numel() for p in model.parameters()) * 2 <= 0.8e6


def test_an_unknown_size_names_the_nearest():
    with pytest.raises(InputError, match=r"baseline.size.*did you mean git-large"):
        size_config("git", "git-lrage")
