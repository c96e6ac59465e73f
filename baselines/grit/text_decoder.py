"""The text decoder: a post-norm transformer that reads [visual tokens ; text] as a prefix model.

Visual tokens see each other and never the text; text sees all visual tokens and the text before
it. That is why visual keys and values may be computed once: the cached steps are exact.

Shape legend: N regions, R rows (regions times beams, beams running fastest), S visual tokens, T
text tokens, X = S + T, K targets of all regions, C channels of the pyramid, D width, A heads, E
channels of a head, V words.

Source: Wang et al., GIT: A Generative Image-to-text Transformer, 2022, as GRiT uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.grit.config import TextDecoderConfig
from sca_bench.batch import mean_over_images

IGNORED = -100
"""Target of padding positions."""
_TEXT_NORM_EPS = 1e-8
_LAYER_NORM_EPS = 1e-12


@dataclass(frozen=True)
class TargetsOfImages:
    """The K targets of captions that are no padding, in order, and the images they belong to.

    Attributes:
        places_K: Their places among the N * (T - 1) targets, padding included.
        image_index_K: The image of each, 0 to `num_images` - 1.
        num_images: Number of images.
    """

    places_K: Tensor
    image_index_K: Tensor
    num_images: int


class DecoderLayer(nn.Module):
    """One transformer layer, in pieces: keys and values may come from a cache."""

    def __init__(self, config: TextDecoderConfig) -> None:
        super().__init__()
        width = config.width
        self.num_heads = config.num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.attention_out = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=_LAYER_NORM_EPS)
        self.mlp_in = nn.Linear(width, config.mlp_dim)
        self.mlp_out = nn.Linear(config.mlp_dim, width)
        self.mlp_norm = nn.LayerNorm(width, eps=_LAYER_NORM_EPS)

    def project(self, x_RXD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, each (R, A, X, E)."""
        return (
            self._heads(self.query(x_RXD)),
            self._heads(self.key(x_RXD)),
            self._heads(self.value(x_RXD)),
        )

    def attend(
        self, x_RXD: Tensor, q_RAXE: Tensor, k: Tensor, v: Tensor, seen: Tensor | None = None
    ) -> Tensor:
        """Return the layer's output for the tokens that asked.

        Args:
            x_RXD: The layer's input.
            q_RAXE: Its queries.
            k: Keys of everything they may see.
            v: Values of the same.
            seen: Mask, True where a query may see a key; None for all.
        """
        mixed = F.scaled_dot_product_attention(q_RAXE, k, v, attn_mask=seen)
        mixed = self.attention_out(mixed.transpose(1, 2).flatten(2))
        x_RXD = self.attention_norm(x_RXD + mixed)
        out: Tensor = self.mlp_norm(x_RXD + self.mlp_out(F.gelu(self.mlp_in(x_RXD))))
        return out

    def _heads(self, x_RXD: Tensor) -> Tensor:
        heads_RAXE: Tensor = x_RXD.unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        return heads_RAXE


class TextDecoder(nn.Module):
    """Says what a region's pooled features show.

    Args:
        config: Sizes.
        channels: Channels C of the pooled features.
    """

    def __init__(self, config: TextDecoderConfig, channels: int) -> None:
        super().__init__()
        self.config = config
        self.projection = nn.Linear(channels, config.width)
        self.projection_norm = nn.LayerNorm(config.width)
        self.words = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Embedding(config.num_positions, config.width)
        self.text_norm = nn.LayerNorm(config.width, eps=_TEXT_NORM_EPS)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.num_layers))
        # The output matrix is the word embedding; only its bias is its own.
        self.output_bias = nn.Parameter(torch.zeros(config.vocab_size))

    def visual_tokens(self, features_NSC: Tensor) -> Tensor:
        """Project object features to visual tokens (N, S, D); they have no positions."""
        tokens_NSD: Tensor = self.projection_norm(self.projection(features_NSC))
        return tokens_NSD

    def embed(self, ids_RT: Tensor, first_position: int = 0) -> Tensor:
        """Embed text tokens that stand at `first_position` and after it, (R, T, D)."""
        end = first_position + ids_RT.shape[1]
        places_T = torch.arange(first_position, end, device=ids_RT.device)
        text_RTD: Tensor = self.text_norm(self.words(ids_RT) + self.positions(places_T))
        return text_RTD

    def read_out(self, x_RTD: Tensor) -> Tensor:
        """Return logits (R, T, V)."""
        return F.linear(x_RTD, self.words.weight, self.output_bias)

    def logits(self, visual_NSD: Tensor, ids_NT: Tensor) -> Tensor:
        """Return the logits (N, T, V) of what follows each text token, all computed at once."""
        num_visual, num_text = visual_NSD.shape[1], ids_NT.shape[1]
        x_NXD = torch.cat([visual_NSD, self.embed(ids_NT)], dim=1)
        seen_XX = torch.ones(x_NXD.shape[1], x_NXD.shape[1], dtype=torch.bool, device=x_NXD.device)
        seen_XX = seen_XX.tril()
        seen_XX[:num_visual, :num_visual] = True
        for layer in _layers(self):
            x_NXD = layer.attend(x_NXD, *layer.project(x_NXD), seen_XX)
        return self.read_out(x_NXD[:, -num_text:])

    def loss(
        self,
        visual_NSD: Tensor,
        ids_NT: Tensor,
        label_smoothing: float,
        *,
        of_images: TargetsOfImages | None = None,
    ) -> Tensor:
        """Return the mean token loss of captions; where images are given, that of their means.

        Args:
            visual_NSD: Visual tokens of each region.
            ids_NT: Begin token, words, end token; `IGNORED` on padding.
            label_smoothing: Share of each target spread over the vocabulary.
            of_images: Which image each target belongs to.
        """
        targets = ids_NT[:, 1:]
        read = ids_NT[:, :-1].clamp(min=0)
        logits_NTV = self.logits(visual_NSD, read).float()
        losses = F.cross_entropy(
            logits_NTV.flatten(0, 1),
            targets.flatten(),
            ignore_index=IGNORED,
            label_smoothing=label_smoothing,
            reduction="mean" if of_images is None else "none",
        )
        if of_images is None:
            return losses
        wanted_K = losses[of_images.places_K]
        return mean_over_images(wanted_K, of_images.image_index_K, of_images.num_images)


class CachedSteps:
    """Token by token with kept keys and values: of the visual tokens once, of the text as it grows.

    Args:
        decoder: The text decoder.
        visual_NSD: Visual tokens of each region.
        max_tokens: Longest text, begin token included.
    """

    def __init__(self, decoder: TextDecoder, visual_NSD: Tensor, max_tokens: int) -> None:
        self._decoder, self._max_tokens = decoder, max_tokens
        self._num_visual, self._num_text = visual_NSD.shape[1], 0
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        x_NSD = visual_NSD
        for layer in _layers(decoder):
            q, k, v = layer.project(x_NSD)
            self._keys.append(F.pad(k, (0, 0, 0, max_tokens)))
            self._values.append(F.pad(v, (0, 0, 0, max_tokens)))
            x_NSD = layer.attend(x_NSD, q, k, v)

    def next_logits(self, ids_RT: Tensor) -> Tensor:
        """Return the logits (R, V) of the next token; all before the last token is known."""
        position = self._num_text
        end = self._num_visual + position + 1
        x_R1D = self._decoder.embed(ids_RT[:, -1:], position)
        for layer, keys, values in zip(
            _layers(self._decoder), self._keys, self._values, strict=True
        ):
            q, k, v = layer.project(x_R1D)
            keys[:, :, end - 1 : end], values[:, :, end - 1 : end] = k, v
            x_R1D = layer.attend(x_R1D, q, keys[:, :, :end], values[:, :, :end])
        self._num_text += 1
        return self._decoder.read_out(x_R1D)[:, 0]

    def expand(self, beams: int) -> None:
        """Go on with `beams` rows per region."""
        self._keys = [kept.repeat_interleave(beams, 0) for kept in self._keys]
        self._values = [kept.repeat_interleave(beams, 0) for kept in self._values]

    def reorder(self, rows_R: Tensor) -> None:
        """Let row i go on from what row `rows_R[i]`, of the same region, has said."""
        start, end = self._num_visual, self._num_visual + self._num_text
        for kept in (*self._keys, *self._values):
            kept[:, :, start:end] = kept[rows_R, :, start:end]


class UncachedSteps:
    """The same from scratch at every token, as the original does; to check the cache against."""

    def __init__(self, decoder: TextDecoder, visual_NSD: Tensor) -> None:
        self._decoder, self._visual_RSD = decoder, visual_NSD

    def next_logits(self, ids_RT: Tensor) -> Tensor:
        """Return the logits (R, V) of the token after the text."""
        return self._decoder.logits(self._visual_RSD, ids_RT)[:, -1]

    def expand(self, beams: int) -> None:
        """Go on with `beams` rows per region."""
        self._visual_RSD = self._visual_RSD.repeat_interleave(beams, 0)

    def reorder(self, rows_R: Tensor) -> None:
        """Nothing is kept of the text."""


def _layers(decoder: TextDecoder) -> Sequence[DecoderLayer]:
    return [layer for layer in decoder.layers if isinstance(layer, DecoderLayer)]
