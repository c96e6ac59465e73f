"""A tiny captioner on the CPU: tiny SAM with random weights, two tiny language models."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from sca_bench.batch import RegionBatch
from sca_bench.models.build import build_sca, load_frozen_parts
from sca_bench.settings import CellSettings

FIXED_QUERIES = ("sca_sam_query", "sca_sam_query_v1", "sca_roi_align")
"""Variants that say themselves how many queries there are."""
WORDS = ("a", "red", "blue", "big", "small", "ball", "box", "on", "the", "left", "right", "table")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tokenizer():
    vocabulary = {word: i for i, word in enumerate(["<end>", "<unk>", *WORDS])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", unk_token="<unk>")


def gpt2(vocab_size):
    config = GPT2Config(
        vocab_size=vocab_size,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.3,
    )
    return GPT2LMHeadModel(config)


def llama(vocab_size):
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config)


@pytest.fixture(scope="session", params=[gpt2, llama], ids=["gpt2", "llama"])
def any_lm_dir(request, tokenizer, tmp_path_factory):
    return _save(request.param, tokenizer, tmp_path_factory)


@pytest.fixture(scope="session")
def lm_dir(tokenizer, tmp_path_factory):
    return _save(gpt2, tokenizer, tmp_path_factory)


def _save(build, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lm")
    torch.manual_seed(0)
    build(len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def make_settings(lm_dir):
    def make(**changes):
        scenes = {"dataset": "scenes", "num_images": 1, "first_seed": 0}
        tree = {
            "sam": {"size": "tiny"},
            "mixer": {"num_layers": 2, "num_query_tokens": 3, "mlp_dim": 64, "num_heads": 4},
            "prefix": {"num_task_tokens": 2},
            "text_decoder": {"weights": str(lm_dir)},
            "data": {"train": scenes, "test": scenes},
        }
        if changes.get("variant") in FIXED_QUERIES:
            del tree["mixer"]["num_query_tokens"]
        for key, value in changes.items():
            tree[key] = {**tree.get(key, {}), **value} if isinstance(value, dict) else value
        return CellSettings.model_validate(tree)

    return make


@pytest.fixture(scope="session")
def parts_of():
    cache = {}

    def load(settings):
        key = (settings.sam, settings.encoder, settings.text_decoder.weights)
        if key not in cache:
            cache[key] = load_frozen_parts(settings)
        return cache[key]

    return load


@pytest.fixture
def make_model(make_settings, parts_of):
    def make(**changes):
        settings = make_settings(**changes)
        torch.manual_seed(1)
        # A wider start than the paper's, so that a wrong wire shows in the outputs.
        settings = settings.model_copy(
            update={"mixer": settings.mixer.model_copy(update={"init_std": 0.2})}
        )
        return build_sca(settings, parts_of(settings))

    return make


@pytest.fixture
def model(make_model):
    return make_model()


@pytest.fixture
def batch():
    """Two images with three and two regions; the last cell of the second image is padding."""
    generator = torch.Generator().manual_seed(3)
    corners = torch.rand(2, 3, 2, generator=generator) * 50
    boxes = torch.cat([corners, corners + 20], dim=-1)
    return RegionBatch(
        image_ids=["i0", "i1"],
        region_ids=["r0", "r1", "r2", "r3", "r4"],
        region_mask_BR=torch.tensor([[True, True, True], [True, True, False]]),
        boxes_xyxy_input_BR4=boxes,
        pixel_values_B3HW=torch.randn(2, 3, 96, 96, generator=generator),
        input_sizes_hw=[(96, 96), (96, 96)],
        captions=["a red ball", "the big blue box", "a box", "a small ball on the left", "a"],
        tasks=["caption", "recognition"],
    )
