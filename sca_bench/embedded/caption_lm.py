"""A small text decoder for photos, trained on a user's own captions and phrases.

The same objective as the decoder of the rendered scenes (see `lm_training`), with the content words
of free text in place of grammar slots: every query slot of the prefix holds its own noisy mixture
of all content words of the caption that is to be said. No image is read. What the decoder has read
it knows as *text*: a class name that occurs in no training photo may still be among its words.

Shape legend: B captions, K keywords, P prefix slots, T text tokens, C channels, V vocabulary.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Regex, normalizers
from torch import Tensor
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from sca_bench.data.readers.regions import read_texts
from sca_bench.digests import file_sha256
from sca_bench.embedded import lm_training
from sca_bench.embedded.lm_text import read_captions, read_image_ids, read_phrases
from sca_bench.embedded.lm_training import (
    EOS,
    NUM_PREFIX_SLOTS,
    NUM_TASK_SLOTS,
    LmTraining,
    mix_keywords,
    prefixed_loss,
    slot_noise,
    word_tokenizer,
)
from sca_bench.errors import InputError
from sca_bench.files import write_atomic

_FUNCTION_WORDS = """
a an the this that these those of in on at by to from with without for and or but as is are was were
be being been am has have having had it its his her their they he she there some while which who
up down out into onto over under near next behind
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""Words that carry a sentence but name nothing; they never stand in the prefix."""
STATEMENT = (
    "Trained with the content words of each text in the prefix, where the captioner's query tokens"
    " will stand: not a text-only language model. Phrases were read as text, whichever images they"
    " belong to."
)


@dataclass(frozen=True)
class CaptionLmRecipe(LmTraining):
    """Settings of the training on free text.

    Attributes:
        min_count: Words of captions need so many occurrences; words of phrases need one.
        phrase_share: Share of phrases in every batch, if there are phrases.
        max_words: Longer captions are cut.
        keyword_dropout: Chance of a phrase's content word to be missing in the prefix (one always
            stays), so that the decoder completes what it is told in part: `dining` alone means the
            table. Captions keep all theirs: a single word is to call for a phrase.
    """

    steps: int = 300
    min_count: int = 10
    phrase_share: float = 0.25
    max_words: int = 18
    keyword_dropout: float = 0.3


@dataclass(frozen=True)
class Texts:
    """Encoded texts.

    Attributes:
        ids_NT: Words and the end token, padded with the end token.
        is_text_NT: False on padding.
        keys_NK: Content words of each text (all its words where it has none).
        is_key_NK: False on padding.
    """

    ids_NT: Tensor
    is_text_NT: Tensor
    keys_NK: Tensor
    is_key_NK: Tensor

    def loss(
        self,
        model: GPT2LMHeadModel,
        rows: Tensor,
        noise: float,
        generator: torch.Generator,
        keyword_dropout: float = 0.0,
    ) -> Tensor:
        """Return the mean cross entropy of the texts `rows`, in nats per token."""
        table_VC = model.get_input_embeddings().weight
        prefix_BPC = slot_noise(table_VC, len(rows), noise, generator)
        is_key_BK = drop_keywords(self.is_key_NK[rows], keyword_dropout, generator)
        num_slots = NUM_PREFIX_SLOTS - NUM_TASK_SLOTS
        said_BPC = mix_keywords(table_VC, self.keys_NK[rows], num_slots, generator, is_key_BK)
        silent_BPC = torch.zeros_like(prefix_BPC[:, :NUM_TASK_SLOTS])
        prefix_BPC = prefix_BPC + torch.cat([silent_BPC, said_BPC], dim=1)
        is_text_BT = self.is_text_NT[rows]
        longest = int(is_text_BT.sum(1).max())
        return prefixed_loss(
            model, prefix_BPC, self.ids_NT[rows, :longest], is_text_BT[:, :longest]
        )


def drop_keywords(is_key_BK: Tensor, dropout: float, generator: torch.Generator) -> Tensor:
    """Drop keywords at random, never all of a row: the one drawn highest stays."""
    draws_BK = torch.rand(is_key_BK.shape, generator=generator).masked_fill(~is_key_BK, -1.0)
    highest_BK = draws_BK == draws_BK.amax(1, keepdim=True)
    return is_key_BK & ((draws_BK >= dropout) | highest_BK)


def text_normalizer() -> normalizers.Normalizer:
    """Return what turns free text into words: lower case, punctuation off.

    Hyphens, slashes and apostrophes inside a word stay, so that a phrase such as `wall-brick` comes
    back as it went in.
    """
    return normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Lowercase(),
            normalizers.Replace(Regex(r"[^\w'/-]+|(?<![^\W_])['/-]+|['/-]+(?![^\W_])"), " "),
        ]
    )


def words_of(text: str) -> list[str]:
    """Return the words of a text as the tokenizer sees them."""
    return str(text_normalizer().normalize_str(text)).split()


def build_vocabulary(
    captions: Sequence[str], phrases: Sequence[str], min_count: int
) -> tuple[str, ...]:
    """Return the words in alphabetical order: frequent ones of captions, all of phrases."""
    counts = Counter(word for caption in captions for word in words_of(caption))
    frequent = {word for word, count in counts.items() if count >= min_count}
    return tuple(sorted(frequent | {word for phrase in phrases for word in words_of(phrase)}))


def encode(texts: Sequence[str], tokenizer: PreTrainedTokenizerFast, max_words: int) -> Texts:
    """Turn texts into ids, and pick the words that will stand in the prefix."""
    silent = {tokenizer.unk_token_id, *tokenizer.convert_tokens_to_ids(sorted(FUNCTION_WORDS))}
    end = tokenizer.eos_token_id
    rows, keys = [], []
    for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]:
        shortened = ids[:max_words]
        rows.append([*shortened, end])
        keys.append([i for i in dict.fromkeys(shortened) if i not in silent] or shortened)
    ids_NT, is_text_NT = _pad(rows, end)
    keys_NK, is_key_NK = _pad(keys, end)
    return Texts(ids_NT, is_text_NT, keys_NK, is_key_NK)


def _pad(rows: list[list[int]], filler: int) -> tuple[Tensor, Tensor]:
    width = max(len(row) for row in rows)
    padded = torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    return padded, torch.arange(width) < lengths[:, None]


def train_caption_lm(
    captions: Sequence[str],
    phrases: Sequence[str],
    recipe: CaptionLmRecipe,
    *,
    report: Callable[[int, float], None] | None = None,
) -> tuple[GPT2LMHeadModel, PreTrainedTokenizerFast, list[float]]:
    """Train a text decoder on captions and phrases.

    Args:
        captions: Sentences; at least one.
        phrases: Distinct phrases, perhaps none; each has the same chance.
        recipe: The settings.
        report: Called with step and loss after every step.

    Returns:
        Model in evaluation mode, tokenizer, and the loss of every step.
    """
    words = build_vocabulary(captions, phrases, recipe.min_count)
    tokenizer = word_tokenizer(words, recipe.num_positions, text_normalizer())
    sentences = encode(captions, tokenizer, recipe.max_words)
    names = encode(phrases, tokenizer, recipe.max_words) if phrases else None
    num_names = round(recipe.phrase_share * recipe.captions_per_step) if names else 0

    def draw_loss(model: GPT2LMHeadModel, generator: torch.Generator) -> Tensor:
        count = recipe.captions_per_step - num_names
        rows = torch.randint(len(captions), (count,), generator=generator)
        loss = sentences.loss(model, rows, recipe.noise, generator)
        if names is None or not num_names:
            return loss
        rows = torch.randint(len(phrases), (num_names,), generator=generator)
        share = num_names / recipe.captions_per_step
        named = names.loss(model, rows, recipe.noise, generator, recipe.keyword_dropout)
        return (1 - share) * loss + share * named

    model, losses = lm_training.train(recipe, tokenizer, draw_loss, report=report)
    return model, tokenizer, losses


def build_caption_lm(
    captions_file: Path | None,
    phrase_files: Sequence[Path],
    excluded_files: Sequence[Path],
    out: Path,
    recipe: CaptionLmRecipe | None = None,
    say: Callable[[str], None] = print,
    *,
    tables: Sequence[Path] = (),
    split: str | None = None,
    threads: int = 1,
) -> None:
    """Train on files and write a transformers directory with `recipe.json` beside the weights.

    Args:
        captions_file: COCO-layout captions; None where tables hold them.
        phrase_files: Region descriptions in Visual Genome's layout, or COCO-layout annotations,
            whose category names are the phrases.
        excluded_files: Lists of images whose captions are left out (test images, above all).
        out: A new folder.
        recipe: The settings.
        say: Takes progress lines.
        tables: Tables of regions (`regions.jsonl`, `regions.csv`). Their captions are captions and
            phrases: sentences to say, of words that all count.
        split: Rows of which split of the tables are read, as the reader `regions` divides them;
            all if None.
        threads: CPU threads; their number may move the last digits of the weights.

    Raises:
        InputError: A file is wrong, no caption is left, `out` exists, or `threads` is below 1.
    """
    transformers_logging.disable_progress_bar()
    recipe = recipe or CaptionLmRecipe()
    if threads < 1:
        raise InputError("--threads", str(threads), "expected 1 or more")
    torch.set_num_threads(threads)
    if out.exists():
        raise InputError("--out", str(out), "exists already", "name a new folder")
    excluded = {file: read_image_ids(file) for file in excluded_files}
    captions, left_out = [text for table in tables for text in read_texts(table, split)], 0
    phrases = sorted({*captions, *(text for file in phrase_files for text in read_phrases(file))})
    if captions_file is not None:
        sentences, left_out = read_captions(captions_file, excluded)
        captions = [*sentences, *captions]
    say(
        f"{len(captions)} captions ({left_out} of excluded images left out), {len(phrases)} phrases"
    )

    def report(step: int, loss: float) -> None:
        if (step + 1) % 100 == 0:
            say(f"step {step + 1} of {recipe.steps}: loss {loss:.3f}")

    model, tokenizer, losses = train_caption_lm(captions, phrases, recipe, report=report)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    roles = {
        "captions": [] if captions_file is None else [captions_file],
        "regions": tables,
        "phrases": phrase_files,
        "excluded_images": excluded_files,
    }
    facts = {
        "recipe": asdict(recipe),
        "inputs": [
            {"role": role, "file": file.name, "sha256": file_sha256(file)}
            for role, files in roles.items()
            for file in files
        ],
        **({"regions_split": split} if tables else {}),
        "num_captions": len(captions),
        "num_captions_left_out": left_out,
        "num_phrases": len(phrases),
        "num_words": len(tokenizer),
        "final_loss": round(sum(losses[-20:]) / len(losses[-20:]), 4),
        "statement": STATEMENT,
    }
    write_atomic(out / "recipe.json", json.dumps(facts, indent=1) + "\n")
    say(f"{out}: {len(tokenizer)} words, loss {facts['final_loss']}")


@torch.no_grad()
def say_keywords(
    model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, text: str, noise: float = 0.0
) -> str:
    """Return what the decoder says greedily when the prefix holds the content words of `text`.

    A decoder that can be steered gives a short phrase back.
    """
    generator = torch.Generator().manual_seed(0)
    encoded = encode([text], tokenizer, 18)
    table_VC = model.get_input_embeddings().weight
    prefix = slot_noise(table_VC, 1, noise, generator)
    num_slots = NUM_PREFIX_SLOTS - NUM_TASK_SLOTS
    prefix[:, NUM_TASK_SLOTS:] += mix_keywords(
        table_VC, encoded.keys_NK, num_slots, generator, encoded.is_key_NK
    )
    ids: list[int] = []
    for _ in range(19):
        tail = model.get_input_embeddings()(torch.tensor([ids], dtype=torch.long))
        hidden = model.transformer(inputs_embeds=torch.cat([prefix, tail], dim=1))
        ids.append(int(model.lm_head(hidden.last_hidden_state[:, -1]).argmax()))
        if ids[-1] == tokenizer.convert_tokens_to_ids(EOS):
            break
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
