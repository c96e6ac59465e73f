"""What the trainings of small steerable text decoders share: prefix, loss, model, loop.

A frozen language model this small cannot be steered by a prefix it has never met: trained on plain
captions it ignores the prefix, and a mixer in front of it learns next to nothing. So it is trained
to say a caption whose keywords were handed to it through the prefix, as noisy random mixtures of
their embeddings in the slots where the captioner's query tokens will stand. That is a departure
from a text-only language model.

Shape legend: B captions, K keywords, P prefix slots, T text tokens, C channels, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from torch import Tensor, nn
from torch.nn import functional as nnf
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from sca_bench.embedded.sam_recipe import learning_rate_at

NUM_TASK_SLOTS = 6
NUM_PREFIX_SLOTS = 14
"""The captioner's prefix: 6 task tokens, then 8 caption query tokens."""
EOS, UNKNOWN = "<eos>", "<unk>"


@dataclass(frozen=True)
class LmTraining:
    """Settings of a training of a text decoder."""

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


def word_tokenizer(
    words: Iterable[str],
    num_positions: int,
    normalizer: normalizers.Normalizer | None = None,
) -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token a word; end token = padding token.

    Args:
        words: The vocabulary, in the order of the ids that follow end token and unknown word.
        num_positions: Positions of the model; the prefix takes its share of them.
        normalizer: What is done to a text before it is cut at white space.
    """
    vocabulary = {word: i for i, word in enumerate((EOS, UNKNOWN, *words))}
    core = Tokenizer(models.WordLevel(vocabulary, UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if normalizer is not None:
        core.normalizer = normalizer
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=EOS,
        pad_token=EOS,
        unk_token=UNKNOWN,
        model_max_length=num_positions - NUM_PREFIX_SLOTS,
        clean_up_tokenization_spaces=False,
    )


def slot_noise(
    embeddings_VC: Tensor, count: int, noise: float, generator: torch.Generator
) -> Tensor:
    """Return (B, P, C) noise of `noise` times the spread of the embedding table."""
    spread = embeddings_VC.detach().std()
    shape = (count, NUM_PREFIX_SLOTS, embeddings_VC.shape[1])
    return noise * spread * torch.randn(shape, generator=generator)


def mix_keywords(
    embeddings_VC: Tensor,
    ids_BK: Tensor,
    num_slots: int,
    generator: torch.Generator,
    is_word_BK: Tensor | None = None,
) -> Tensor:
    """Return a random mixture of each caption's keywords for each of `num_slots` slots.

    Args:
        embeddings_VC: Word embeddings.
        ids_BK: Keywords.
        num_slots: Slots, each with weights of its own.
        generator: Source of the weights.
        is_word_BK: False where a caption has fewer keywords than K.

    Returns:
        (B, num_slots, C), every slot scaled to the spread of the embedding table.
    """
    spread = embeddings_VC.detach().std()
    weights_BPK = torch.rand(len(ids_BK), num_slots, ids_BK.shape[1], generator=generator) + 0.1
    if is_word_BK is not None:
        weights_BPK = weights_BPK * is_word_BK[:, None]
    mixed_BPC = weights_BPK @ embeddings_VC[ids_BK]
    return mixed_BPC * (spread / mixed_BPC.detach().std(-1, keepdim=True))


def prefixed_loss(
    model: GPT2LMHeadModel, prefix_BPC: Tensor, ids_BT: Tensor, is_text_BT: Tensor
) -> Tensor:
    """Return the mean cross entropy of the captions' tokens (end token included), in nats."""
    embeddings = model.get_input_embeddings()
    inputs = torch.cat([prefix_BPC, embeddings(ids_BT)], dim=1)
    hidden = model.transformer(inputs_embeds=inputs).last_hidden_state
    before_text = hidden[:, NUM_PREFIX_SLOTS - 1 : -1][is_text_BT]
    return nnf.cross_entropy(model.lm_head(before_text), ids_BT[is_text_BT])


def train(
    recipe: LmTraining,
    tokenizer: PreTrainedTokenizerFast,
    draw_loss: Callable[[GPT2LMHeadModel, torch.Generator], Tensor],
    *,
    max_steps: int | None = None,
    report: Callable[[int, float], None] | None = None,
) -> tuple[GPT2LMHeadModel, list[float]]:
    """Train a text decoder from nothing.

    Args:
        recipe: The settings.
        tokenizer: Decides the vocabulary.
        draw_loss: Draws one batch with the generator and returns its loss.
        max_steps: Stop after so many steps of the full schedule (to check the first losses).
        report: Called with step and loss after every step.

    Returns:
        The model in evaluation mode, and the loss of every step.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
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
        loss = draw_loss(model, generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.step()
        losses.append(float(loss.detach()))
        if report:
            report(step, losses[-1])
    return model.eval(), losses


def _config(recipe: LmTraining, tokenizer: PreTrainedTokenizerFast) -> GPT2Config:
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
