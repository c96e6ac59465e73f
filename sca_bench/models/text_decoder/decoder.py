"""The text decoder: a causal language model that continues a prefix of embeddings.

Shape legend: N sequences (regions times caption heads), P prefix positions, T caption tokens (end
token included), L generated tokens, D width of the language model, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import GenerationConfig

from sca_bench.batch import mean_over_images
from sca_bench.captioner import Decoding
from sca_bench.errors import InputError
from sca_bench.models.products import fast_layers
from sca_bench.models.text_decoder.activation_checkpointing import checkpointing
from sca_bench.models.text_decoder.activations import fuse_gelu
from sca_bench.models.text_decoder.attention import attend_without_masks, seen_from
from sca_bench.models.text_decoder.kept_rows import start_rows
from sca_bench.models.text_decoder.search import Generated, beam_search, greedy

IGNORED = -100
"""Label of padding positions."""


@dataclass(frozen=True)
class CaptionTokens:
    """Tokenised captions: no start token, an end token, padded on the right.

    Attributes:
        ids_NT: Token ids; the end token's id on padding.
        labels_NT: The same ids; `IGNORED` on padding.
        wanted_K: Places of what is no padding in the flattened ids; None where they have to be
            looked for, which makes the host wait for the device.
    """

    ids_NT: Tensor
    labels_NT: Tensor
    wanted_K: Tensor | None = None

    def wanted(self) -> Tensor:
        """Return `wanted_K`, looked for where it is not known."""
        if self.wanted_K is not None:
            return self.wanted_K
        return (self.labels_NT.flatten() != IGNORED).nonzero()[:, 0]

    def repeat(self, repeats: int) -> CaptionTokens:
        """Return the tokens with all captions `repeats` times, one time after the other."""
        wanted_K = self.wanted()
        first_R = torch.arange(repeats, device=wanted_K.device) * self.ids_NT.numel()
        return CaptionTokens(
            self.ids_NT.repeat(repeats, 1),
            self.labels_NT.repeat(repeats, 1),
            (first_R[:, None] + wanted_K).flatten(),
        )

    def repeat_interleave(self, repeats: int) -> CaptionTokens:
        """Return the tokens with every caption repeated `repeats` times in a row."""
        wanted_K, width = self.wanted_K, self.ids_NT.shape[1]
        if wanted_K is not None and repeats > 1:
            rows_K, columns_K = wanted_K // width, wanted_K % width
            again = torch.arange(repeats, device=wanted_K.device)
            rows_KR = rows_K[:, None] * repeats + again
            wanted_K = (rows_KR * width + columns_K[:, None]).flatten().sort().values
        return CaptionTokens(
            self.ids_NT.repeat_interleave(repeats, 0),
            self.labels_NT.repeat_interleave(repeats, 0),
            wanted_K,
        )


class TextDecoder(nn.Module):
    """A causal language model of transformers with its tokenizer, as SCA uses it."""

    def __init__(self, language_model: Any, tokenizer: Any | None, *, name: str) -> None:
        """Wrap a language model.

        Args:
            language_model: A causal language model with a plain linear head. It is changed where
                the same can be computed faster: its activations, linear layers,
                masks and generation settings.
            tokenizer: Its tokenizer; None for untrained models, which can only be counted, timed
                and fed with ids.
            name: What the decoder is called in errors.

        Raises:
            InputError: No end token is known, the vocabulary does not fit the embedding, or the
                head is more than a linear layer.
        """
        super().__init__()
        self.language_model = language_model
        self.tokenizer = tokenizer
        self.name = name
        eos = getattr(tokenizer, "eos_token_id", None)
        if eos is None:
            eos = language_model.config.eos_token_id
        if not isinstance(eos, int):
            raise InputError(name, "eos_token_id", f"one end token is needed, found {eos!r}")
        self.eos_token_id = eos
        _check_vocabulary(language_model, tokenizer, eos, name)
        _check_head(language_model, name)
        fuse_gelu(language_model)
        fast_layers(language_model)
        self._without_masks = attend_without_masks(language_model)
        # Whatever a checkpoint asks for (sampling, penalties) would silently change captions.
        language_model.generation_config = GenerationConfig(
            eos_token_id=self.eos_token_id, pad_token_id=self.eos_token_id
        )

    @property
    def width(self) -> int:
        """Width D of the embeddings."""
        return int(self.language_model.get_input_embeddings().embedding_dim)

    @property
    def vocab_size(self) -> int:
        """Rows V of the embedding."""
        return int(self.language_model.get_input_embeddings().num_embeddings)

    def tokenize(self, captions: list[str], max_tokens: int) -> CaptionTokens:
        """Tokenise training captions: cut to `max_tokens`, then append the end token.

        Raises:
            InputError: The decoder has no tokenizer.
        """
        tokenizer = self._tokenizer()
        rows = [
            [*ids[:max_tokens], self.eos_token_id]
            for ids in tokenizer(captions, add_special_tokens=False)["input_ids"]
        ]
        width = max(map(len, rows))
        device = self.language_model.get_input_embeddings().weight.device
        ids_NT = torch.tensor([r + [self.eos_token_id] * (width - len(r)) for r in rows])
        labels_NT = torch.tensor([r + [IGNORED] * (width - len(r)) for r in rows])
        wanted_K = (labels_NT.flatten() != IGNORED).nonzero()[:, 0]
        on_device = (x.to(device, non_blocking=True) for x in (ids_NT, labels_NT, wanted_K))
        return CaptionTokens(*on_device)

    def decode(self, generated: Generated) -> list[str]:
        """Turn generated ids into N captions without special tokens and outer blanks."""
        tokenizer = self._tokenizer()
        rows = [
            ids[:length]
            for ids, length in zip(
                generated.ids_NL.tolist(), generated.lengths_N.tolist(), strict=True
            )
        ]
        return [text.strip() for text in tokenizer.batch_decode(rows, skip_special_tokens=True)]

    def logits(
        self, prefix_NPD: Tensor, ids_NT: Tensor, attention_mask_NT: Tensor | None = None
    ) -> Tensor:
        """Return the logits (N, T + 1, V): of each token given those before it, and one beyond.

        The last position of the prefix predicts the first token.

        Args:
            prefix_NPD: What stands in front of each caption.
            ids_NT: The captions.
            attention_mask_NT: 0 on right padding. It changes the logits on padding only.
        """
        hidden_NTD = self._hidden(prefix_NPD, ids_NT, attention_mask_NT)
        logits: Tensor = self.language_model.get_output_embeddings()(hidden_NTD)
        return logits

    def loss(
        self,
        prefix_NPD: Tensor,
        tokens: CaptionTokens,
        label_smoothing: float = 0.0,
        *,
        image_index_N: Tensor | None = None,
        num_images: int = 0,
        checkpoint: bool = False,
    ) -> Tensor:
        """Return the mean cross entropy over all tokens of all captions, end tokens included.

        Where images are given it is the mean of the single images' means instead.

        Args:
            prefix_NPD: What stands in front of each caption.
            tokens: The captions.
            label_smoothing: Share of the target spread evenly over the vocabulary.
            image_index_N: The image of each caption, 0 to `num_images` - 1.
            num_images: Their number.
            checkpoint: Keep no activations inside the layers; the backward pass computes them
                again, with the same dropout.
        """
        with checkpointing(self.language_model, checkpoint):
            logits_KV, labels_K, wanted_K = self._wanted(prefix_NPD, tokens)
        if image_index_N is None:
            return F.cross_entropy(logits_KV.float(), labels_K, label_smoothing=label_smoothing)
        losses_K = F.cross_entropy(
            logits_KV.float(), labels_K, label_smoothing=label_smoothing, reduction="none"
        )
        rows_K = wanted_K // tokens.labels_NT.shape[1]
        return mean_over_images(losses_K, image_index_N.index_select(0, rows_K), num_images)

    def loss_of_each_cell(
        self,
        prefix_NPD: Tensor,
        tokens: CaptionTokens,
        num_cells: int,
        label_smoothing: float = 0.0,
        *,
        image_index_N: Tensor | None = None,
        num_images: int = 0,
    ) -> Tensor:
        """Return `loss` of each of several cells with the same captions, (cells,), in one pass.

        Args:
            prefix_NPD: What stands in front of each caption, one cell after the other.
            tokens: The captions, once.
            num_cells: Number of cells.
            label_smoothing: As for `loss`.
            image_index_N: The image of each caption, once; as for `loss`.
            num_images: As for `loss`.
        """
        logits_KV, labels_K, _ = self._wanted(prefix_NPD, tokens.repeat(num_cells))
        losses_K = F.cross_entropy(
            logits_KV.float(), labels_K, label_smoothing=label_smoothing, reduction="none"
        )
        losses_GK = losses_K.unflatten(0, (num_cells, -1))
        if image_index_N is None:
            return losses_GK.mean(1)  # type: ignore[no-any-return]
        rows_K = tokens.wanted() // tokens.labels_NT.shape[1]
        index_K = image_index_N.index_select(0, rows_K)
        return torch.stack([mean_over_images(own_K, index_K, num_images) for own_K in losses_GK])

    @torch.no_grad()
    def generate(self, prefix_NPD: Tensor, decoding: Decoding) -> Generated:
        """Decode greedily or by beam search, length normalised, without any sampling.

        All rows are decoded together: one by one would take several times as long. So the last
        digits of a log-probability may depend on what else is in the call, and so may a caption
        where two words are equally likely to that many digits.
        """
        language_model, longest = self.language_model, decoding.max_new_tokens
        head, end = language_model.get_output_embeddings(), self.eos_token_id
        rows = start_rows(language_model, prefix_NPD, longest)
        if decoding.num_beams == 1:
            return greedy(rows, head, end, longest)
        return beam_search(rows, head, end, longest, decoding.num_beams)

    def _wanted(self, prefix_NPD: Tensor, tokens: CaptionTokens) -> tuple[Tensor, Tensor, Tensor]:
        """Return logits, labels and places of what is no padding: (K, V), (K,), (K,)."""
        # The end token is predicted but never read, so it is not fed.
        hidden_NTD = self._hidden(prefix_NPD, tokens.ids_NT[:, :-1])
        wanted_K = tokens.wanted()
        hidden_KD = hidden_NTD.flatten(0, 1).index_select(0, wanted_K)
        logits_KV: Tensor = self.language_model.get_output_embeddings()(hidden_KD)
        return logits_KV, tokens.labels_NT.flatten()[wanted_K], wanted_K

    def _hidden(
        self, prefix_NPD: Tensor, ids_NT: Tensor, attention_mask_NT: Tensor | None = None
    ) -> Tensor:
        # Captions are padded on the right and attention is causal, so no mask is needed: padding
        # cannot reach a position that counts.
        embedded_NTD = self.language_model.get_input_embeddings()(ids_NT)
        mask = None
        if attention_mask_NT is not None:
            seen_NP = attention_mask_NT.new_ones(prefix_NPD.shape[:2])
            mask = torch.cat([seen_NP, attention_mask_NT], dim=1)
            mask = seen_from(mask) if self._without_masks else mask
        output = self.language_model.base_model(
            inputs_embeds=torch.cat([prefix_NPD, embedded_NTD.to(prefix_NPD.dtype)], dim=1),
            attention_mask=mask,
            use_cache=False,
        )
        hidden: Tensor = output.last_hidden_state[:, prefix_NPD.shape[1] - 1 :]
        return hidden

    def _tokenizer(self) -> Any:
        if self.tokenizer is None:
            raise InputError(
                self.name,
                "tokenizer",
                "an untrained text decoder has no tokenizer",
                "name a trained one in text_decoder.weights",
            )
        return self.tokenizer


def _check_vocabulary(language_model: Any, tokenizer: Any | None, eos: int, name: str) -> None:
    rows = language_model.get_input_embeddings().num_embeddings
    largest = eos
    if tokenizer is not None:
        largest = max(eos, *tokenizer.get_vocab().values())
    if largest >= rows:
        raise InputError(
            name,
            "tokenizer",
            f"knows token id {largest}, but the model embeds ids 0 to {rows - 1}",
            "use the tokenizer the model was trained with",
        )


def _check_head(language_model: Any, name: str) -> None:
    """Refuse models whose logits are not just `head(base model)`: their loss would be wrong."""
    embedding = language_model.get_input_embeddings()
    if embedding.weight.is_meta:
        return
    ids_NT = torch.zeros(1, 2, dtype=torch.long, device=embedding.weight.device)
    seen_NT = torch.ones_like(ids_NT)  # without it transformers warns where id 0 is padding
    was_training = language_model.training
    language_model.eval()
    with torch.no_grad():
        whole = language_model(input_ids=ids_NT, attention_mask=seen_NT, use_cache=False).logits
        base = language_model.base_model
        hidden = base(input_ids=ids_NT, attention_mask=seen_NT, use_cache=False).last_hidden_state
        parts = language_model.get_output_embeddings()(hidden)
    language_model.train(was_training)
    if not torch.allclose(whole.float(), parts.float(), atol=1e-3, rtol=1e-3):
        raise InputError(
            name,
            "language model",
            f"{type(language_model).__name__} scales or caps its logits, which is not supported",
            "use a model of the GPT-2 or Llama family",
        )
