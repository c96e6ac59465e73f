"""How the tiny text decoder is trained: captions of the grammar, no image.

A frozen language model this small cannot be steered by a prefix it has never met: trained on plain
captions it ignores the prefix, and a mixer in front of it learns next to nothing. So it is trained
to say a caption whose keywords were handed to it through the prefix: each prefix slot holds a noisy
random mixture of keyword embeddings, those of the region itself in `SUBJECT_SLOTS`, those of its
surroundings in `CONTEXT_SLOTS`. That is a departure from a text-only language model, and the roles
of the slots match the captioner's prefix (6 task tokens, then 8 caption query tokens).

Shape legend: B captions, K keywords, P prefix slots, T text tokens, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from sca_bench import scene_grammar
from sca_bench.embedded import lm_training
from sca_bench.embedded.lm_training import (
    EOS,
    NUM_TASK_SLOTS,
    LmTraining,
    mix_keywords,
    prefixed_loss,
    slot_noise,
    word_tokenizer,
)

SUBJECT_SLOTS = range(6, 10)
CONTEXT_SLOTS = range(10, 14)
SUBJECT_KEYWORDS = ("size", "texture", "colour", "shape")
CONTEXT_KEYWORDS = ("relation", "neighbour_colour", "neighbour_shape")


@dataclass(frozen=True)
class LmRecipe(LmTraining):
    """Settings of the language model's training; all of them enter the digest in the manifest."""

    noise: float = 2.0
    eval_captions: int = 500

    def as_dict(self) -> dict[str, object]:
        """Return all settings, the words included."""
        return asdict(self) | {"vocabulary": list(scene_grammar.VOCABULARY)}


RECIPE = LmRecipe()
RECIPES = {"lm_scenes": RECIPE, "lm_scenes_small": LmRecipe(width=64, num_layers=1)}
"""By the name of the weights. The small one is the other side of every question about the size of
the text decoder."""


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return the word tokenizer: one token a word of the grammar, end token = padding token."""
    return word_tokenizer(scene_grammar.VOCABULARY, RECIPE.num_positions)


def sample_slots(count: int, generator: torch.Generator) -> list[dict[str, str]]:
    """Draw the slots of `count` captions, every word of a slot equally likely."""
    draws = torch.randint(2**30, (count, len(scene_grammar.WORDS)), generator=generator).tolist()
    return [
        {
            slot: words[draw % len(words)]
            for draw, (slot, words) in zip(row, scene_grammar.WORDS.items(), strict=True)
        }
        for row in draws
    ]


def keyword_prefix(
    embeddings_VC: Tensor,
    tokenizer: PreTrainedTokenizerFast,
    slots: list[dict[str, str]],
    noise: float,
    generator: torch.Generator,
) -> Tensor:
    """Return prefixes that hold the keywords of captions.

    Every slot of a role holds its own random mixture of that role's keyword embeddings, scaled to
    the spread of the embedding table, plus noise of `noise` times that spread; the other slots
    (the captioner's task tokens) hold noise alone.

    Args:
        embeddings_VC: Word embeddings.
        tokenizer: Word tokenizer; the first word represents a keyword of several words.
        slots: Slots of B captions.
        noise: Standard deviation of the noise, relative to the embeddings' spread.
        generator: Source of mixture weights and noise.

    Returns:
        (B, P, C).
    """
    prefix_BPC = slot_noise(embeddings_VC, len(slots), noise, generator)
    roles = ((SUBJECT_SLOTS, SUBJECT_KEYWORDS), (CONTEXT_SLOTS, CONTEXT_KEYWORDS))
    parts = [torch.zeros_like(prefix_BPC[:, :NUM_TASK_SLOTS])]
    for places, kinds in roles:
        words = [[slot[kind].split()[0] for kind in kinds] for slot in slots]
        ids_BK = torch.tensor([tokenizer.convert_tokens_to_ids(row) for row in words])
        parts.append(mix_keywords(embeddings_VC, ids_BK, len(places), generator))
    return prefix_BPC + torch.cat(parts, dim=1)


def caption_loss(
    model: GPT2LMHeadModel,
    tokenizer: PreTrainedTokenizerFast,
    slots: list[dict[str, str]],
    noise: float,
    generator: torch.Generator,
) -> Tensor:
    """Return the mean cross entropy of the captions' tokens (end token included), in nats."""
    captions = [scene_grammar.make_caption(slot) + f" {EOS}" for slot in slots]
    batch = tokenizer(captions, return_tensors="pt", padding=True)
    ids_BT, is_text_BT = batch["input_ids"], batch["attention_mask"].bool()
    table_VC = model.get_input_embeddings().weight
    prefix_BPC = keyword_prefix(table_VC, tokenizer, slots, noise, generator)
    return prefixed_loss(model, prefix_BPC, ids_BT, is_text_BT)


def train_lm(
    recipe: LmRecipe,
    *,
    max_steps: int | None = None,
    report: Callable[[int, float], None] | None = None,
) -> tuple[GPT2LMHeadModel, list[float]]:
    """Train the text decoder.

    Args:
        recipe: The settings.
        max_steps: Stop after so many steps of the full schedule (to check the first losses).
        report: Called with step and loss after every step.

    Returns:
        The model in evaluation mode, and the loss of every step.
    """
    tokenizer = build_tokenizer()

    def draw_loss(model: GPT2LMHeadModel, generator: torch.Generator) -> Tensor:
        slots = sample_slots(recipe.captions_per_step, generator)
        return caption_loss(model, tokenizer, slots, recipe.noise, generator)

    return lm_training.train(recipe, tokenizer, draw_loss, max_steps=max_steps, report=report)


def save_lm(model: GPT2LMHeadModel, folder: Path) -> None:
    """Write model and tokenizer as a transformers directory."""
    model.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)


@torch.no_grad()
def evaluate_lm(recipe: LmRecipe, model: GPT2LMHeadModel) -> dict[str, float]:
    """Return the perplexity per token of fresh captions, by how much the prefix says.

    `perplexity_clean`: keywords without noise; `perplexity_noisy`: as in training.
    """
    tokenizer = build_tokenizer()
    result = {}
    for name, noise in (("clean", 0.0), ("noisy", recipe.noise)):
        generator = torch.Generator().manual_seed(recipe.seed + 1)
        slots = sample_slots(recipe.eval_captions, generator)
        loss = caption_loss(model, tokenizer, slots, noise, generator)
        result[f"perplexity_{name}"] = math.exp(float(loss))
    return result
