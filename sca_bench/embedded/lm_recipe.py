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
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from sca_bench import grammar
from sca_bench.embedded.sam_recipe import learning_rate_at

NUM_PREFIX_SLOTS = 14
SUBJECT_SLOTS = range(6, 10)
CONTEXT_SLOTS = range(10, 14)
SUBJECT_KEYWORDS = ("size", "texture", "colour", "shape")
CONTEXT_KEYWORDS = ("relation", "neighbour_colour", "neighbour_shape")
EOS, UNKNOWN = "<eos>", "<unk>"


@dataclass(frozen=True)
class LmRecipe:
    """Settings of the language model's training; all of them enter the digest in the manifest."""

    seed: int = 0
    width: int = 128
    num_layers: int = 2
    num_heads: int = 4
    num_positions: int = 64
    init_std: float = 0.06
    steps: int = 300
    captions_per_step: int = 64
    learning_rate: float = 3e-3
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    noise: float = 1.0
    eval_captions: int = 500

    def as_dict(self) -> dict[str, object]:
        """Return all settings, the words included."""
        return asdict(self) | {"vocabulary": list(grammar.VOCABULARY)}


RECIPE = LmRecipe()


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Return the word tokenizer: one token a word of the grammar, end token = padding token."""
    words = (EOS, UNKNOWN, *grammar.VOCABULARY)
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=EOS,
        pad_token=EOS,
        unk_token=UNKNOWN,
        model_max_length=RECIPE.num_positions - NUM_PREFIX_SLOTS,
        clean_up_tokenization_spaces=False,
    )


def sample_slots(count: int, generator: torch.Generator) -> list[dict[str, str]]:
    """Draw the slots of `count` captions, every word of a slot equally likely."""
    draws = torch.randint(2**30, (count, len(grammar.WORDS)), generator=generator).tolist()
    return [
        {
            slot: words[draw % len(words)]
            for draw, (slot, words) in zip(row, grammar.WORDS.items(), strict=True)
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
        tokenizer: Word tokenizer; the first word stands for a keyword of several words.
        slots: Slots of B captions.
        noise: Standard deviation of the noise, relative to the embeddings' spread.
        generator: Source of mixture weights and noise.

    Returns:
        (B, P, C).
    """
    spread = embeddings_VC.detach().std()
    count, channels = len(slots), embeddings_VC.shape[1]
    shape = (count, NUM_PREFIX_SLOTS, channels)
    prefix = noise * spread * torch.randn(shape, generator=generator)
    roles = ((SUBJECT_SLOTS, SUBJECT_KEYWORDS), (CONTEXT_SLOTS, CONTEXT_KEYWORDS))
    parts = []
    for places, kinds in roles:
        words = [[slot[kind].split()[0] for kind in kinds] for slot in slots]
        ids_BK = torch.tensor([tokenizer.convert_tokens_to_ids(row) for row in words])
        mixture_BPK = torch.rand(count, len(places), len(kinds), generator=generator) + 0.1
        mixed_BPC = mixture_BPK @ embeddings_VC[ids_BK]
        parts.append(mixed_BPC * (spread / mixed_BPC.detach().std(-1, keepdim=True)))
    silent_BPC = torch.zeros(count, SUBJECT_SLOTS.start, channels)
    return prefix + torch.cat([silent_BPC, *parts], dim=1)


def caption_loss(
    model: GPT2LMHeadModel,
    tokenizer: PreTrainedTokenizerFast,
    slots: list[dict[str, str]],
    noise: float,
    generator: torch.Generator,
) -> Tensor:
    """Return the mean cross entropy of the captions' tokens (end token included), in nats."""
    captions = [grammar.make_caption(slot) + f" {EOS}" for slot in slots]
    batch = tokenizer(captions, return_tensors="pt", padding=True)
    ids_BT, is_text_BT = batch["input_ids"], batch["attention_mask"].bool()
    embeddings = model.get_input_embeddings()
    prefix_BPC = keyword_prefix(embeddings.weight, tokenizer, slots, noise, generator)
    inputs = torch.cat([prefix_BPC, embeddings(ids_BT)], dim=1)
    hidden = model.transformer(inputs_embeds=inputs).last_hidden_state
    before_text = hidden[:, NUM_PREFIX_SLOTS - 1 : -1][is_text_BT]
    return F.cross_entropy(model.lm_head(before_text), ids_BT[is_text_BT])


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
    generator = torch.Generator().manual_seed(recipe.seed)
    tokenizer = build_tokenizer()
    model = GPT2LMHeadModel(_config(recipe, tokenizer))
    _initialise(model, recipe.init_std, generator)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=recipe.weight_decay,
    )
    losses = []
    for step in range(recipe.steps if max_steps is None else max_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(
                step, recipe.steps, recipe.learning_rate, recipe.warmup_share
            )
        slots = sample_slots(recipe.captions_per_step, generator)
        loss = caption_loss(model, tokenizer, slots, recipe.noise, generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        losses.append(float(loss.detach()))
        if report:
            report(step, losses[-1])
    return model.eval(), losses


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


def _config(recipe: LmRecipe, tokenizer: PreTrainedTokenizerFast) -> GPT2Config:
    return GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=recipe.num_positions,
        n_embd=recipe.width,
        n_layer=recipe.num_layers,
        n_head=recipe.num_heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _initialise(model: nn.Module, std: float, generator: torch.Generator) -> None:
    """Set every parameter by its name; tied weights count once."""
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.ndim >= 2:
                parameter.copy_(std * torch.randn(parameter.shape, generator=generator))
            else:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
