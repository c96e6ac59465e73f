"""A language model that goes on from what it has read: keys and values are kept, in place.

Shape legend: N prefixes, B beams, R rows (N at first, then N times B, beams running fastest), P
prefix positions, D width of the language model, H heads, T positions, E channels of a head.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_CACHE_NAMES = ("cache", "past_key_values")
"""What models call their cache: transformers has renamed it."""


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, in room that is taken once for all positions to come.

    transformers' own layer copies all it holds at every token, and again for every order of beams.
    """

    def __init__(self, num_positions: int) -> None:
        super().__init__()
        self.num_positions = num_positions
        self.length, self.shared = 0, 0
        self.room: list[Tensor] = []

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write keys and values behind those that are kept; return all, as views."""
        start, self.length = self.length, self.length + key_states.shape[2]
        if not self.room:
            self.device, self.is_initialized = key_states.device, True
            self._take_room(key_states, value_states)
        for room, new in zip(self.room, (key_states, value_states), strict=True):
            room[:, :, start : self.length] = new
        return self._show()

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Let every row go on as several, which share all that is kept so far."""
        before, self.shared = self._show(), self.length
        self._take_room(*(each.repeat_interleave(repeats, 0) for each in before))
        for room, kept in zip(self.room, before, strict=True):
            rows = room[:, :, : self.length].unflatten(0, (-1, repeats))
            rows.copy_(kept[:, None].expand_as(rows))
        self._show()

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Let row i go on from row `beam_idx[i]`, which shares its beginning."""
        for room in self.room:
            own = room[:, :, self.shared : self.length]
            own.copy_(own.index_select(0, beam_idx))

    def _take_room(self, *like: Tensor) -> None:
        self.room = [x.new_empty(*x.shape[:2], self.num_positions, x.shape[3]) for x in like]

    def _show(self) -> tuple[Tensor, Tensor]:
        self.keys, self.values = (room[:, :, : self.length] for room in self.room)
        return self.keys, self.values


class KeptRows:
    """Rows of a language model that grow by a token a step; the prefix is read once.

    Args:
        language_model: A causal language model of transformers.
        prefix_NPD: What stands in front of every row.
        max_new_tokens: Tokens that will follow at most.
    """

    def __init__(self, language_model: Any, prefix_NPD: Tensor, max_new_tokens: int) -> None:
        self._model, self._embed = language_model.base_model, language_model.get_input_embeddings()
        self._cache_name = cache_name(language_model)
        self._cache = DynamicCache(config=language_model.config)
        room = prefix_NPD.shape[1] + max_new_tokens
        self._cache.layers = [
            _RoomyLayer(room) if type(layer) is DynamicLayer else layer
            for layer in self._cache.layers
        ]
        self.hidden_RD = self._read(prefix_NPD)

    def expand(self, beams: int) -> None:
        """Go on with `beams` rows for each."""
        self._cache.batch_repeat_interleave(beams)

    def reorder(self, rows_R: Tensor) -> None:
        """Let row i go on from what row `rows_R[i]`, of the same prefix, has said."""
        self._cache.reorder_cache(rows_R)

    def step(self, ids_R: Tensor) -> Tensor:
        """Read one more token of each row; return the hidden states (R, D) that say the next."""
        self.hidden_RD = self._read(self._embed(ids_R[:, None]))
        return self.hidden_RD

    def _read(self, embedded_RTD: Tensor) -> Tensor:
        output = self._model(
            inputs_embeds=embedded_RTD, use_cache=True, **{self._cache_name: self._cache}
        )
        hidden_RD: Tensor = output.last_hidden_state[:, -1]
        return hidden_RD


class ReadAgain:
    """The same for a model that keeps nothing: every step reads all rows from their beginning."""

    def __init__(self, language_model: Any, prefix_NPD: Tensor) -> None:
        self._model, self._embed = language_model.base_model, language_model.get_input_embeddings()
        self._embedded_RTD = prefix_NPD
        self.hidden_RD = self._read()

    def expand(self, beams: int) -> None:
        """Go on with `beams` rows for each."""
        self._embedded_RTD = self._embedded_RTD.repeat_interleave(beams, 0)

    def reorder(self, rows_R: Tensor) -> None:
        """Let row i go on from what row `rows_R[i]` has said."""
        self._embedded_RTD = self._embedded_RTD.index_select(0, rows_R)

    def step(self, ids_R: Tensor) -> Tensor:
        """Read one more token of each row; return the hidden states (R, D) that say the next."""
        self._embedded_RTD = torch.cat([self._embedded_RTD, self._embed(ids_R[:, None])], dim=1)
        self.hidden_RD = self._read()
        return self.hidden_RD

    def _read(self) -> Tensor:
        output = self._model(inputs_embeds=self._embedded_RTD, use_cache=False)
        hidden_RD: Tensor = output.last_hidden_state[:, -1]
        return hidden_RD


def cache_name(language_model: Any) -> str:
    """Return what a model calls the cache that it takes; empty where it takes none."""
    known = inspect.signature(language_model.base_model.forward).parameters
    return next((name for name in _CACHE_NAMES if name in known), "")


def start_rows(
    language_model: Any, prefix_NPD: Tensor, max_new_tokens: int
) -> KeptRows | ReadAgain:
    """Read the prefixes; the rows' `hidden_RD` says the first token."""
    if cache_name(language_model):
        return KeptRows(language_model, prefix_NPD, max_new_tokens)
    return ReadAgain(language_model, prefix_NPD)
