"""A language model that goes on from what it has read: keys and values are kept, in place.

Shape legend: N prefixes, R rows (N at first, then N times the beams, which run fastest), P prefix
positions, D width of the language model, H heads, T positions, E channels of a head.
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


class _Room:
    """One block of memory for the keys and values of all layers that are alike.

    All is moved at once where beams are put in order, and the positions that all beams of a row
    share are not moved at all.

    Args:
        slots: How many tensors there will be: two of each layer.
        positions: Length T that each may grow to.
    """

    def __init__(self, slots: int, positions: int) -> None:
        self._slots, self._positions = slots, positions
        self._blocks: list[Tensor] = []  # each (slots, R, H, T, E); a second one for odd shapes
        self._taken: list[tuple[int, int]] = []

    def take(self, like_RHTE: Tensor) -> int:
        """Make room for a tensor that grows along its positions; return its number."""
        rows, heads, _, channels = like_RHTE.shape
        wanted = (rows, heads, self._positions, channels)
        for number, block in enumerate(self._blocks):
            used = sum(n == number for n, _ in self._taken)
            alike = (block.shape[1:], block.dtype) == (wanted, like_RHTE.dtype)
            if alike and used < len(block):
                break
        else:
            number, used = len(self._blocks), 0
            slots = 1 if self._blocks else self._slots
            self._blocks.append(like_RHTE.new_empty(slots, *wanted))
        self._taken.append((number, used))
        return len(self._taken) - 1

    def __getitem__(self, number: int) -> Tensor:
        """Return a tensor by its number, (R, H, T, E), all positions."""
        block, slot = self._taken[number]
        return self._blocks[block][slot]

    def expand(self, repeats: int, length: int) -> None:
        """Let every row go on as several, each with the first `length` positions."""
        for number, block in enumerate(self._blocks):
            slots, rows, heads, positions, channels = block.shape
            new = block.new_empty(slots, rows, repeats, heads, positions, channels)
            new[..., :length, :] = block[:, :, None, :, :length]
            self._blocks[number] = new.flatten(1, 2)

    def reorder(self, rows_R: Tensor, start: int, end: int) -> None:
        """Let row i go on from what row `rows_R[i]` holds at the positions from start to end."""
        for block in self._blocks:
            own = block[:, :, :, start:end]
            own.copy_(own.index_select(1, rows_R))


class _RoomyLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer, in a room that is made once for all positions to come.

    transformers' own layer copies all it holds at every token, and again for every order of beams.
    """

    def __init__(self, room: _Room) -> None:
        super().__init__()
        self.room, self.places, self.length = room, [], 0

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write keys and values behind those that are kept; return all, as views."""
        start, self.length = self.length, self.length + key_states.shape[2]
        given = (key_states, value_states)
        if not self.is_initialized:
            self.device, self.is_initialized = key_states.device, True
            self.places = [self.room.take(each) for each in given]
        for place, new in zip(self.places, given, strict=True):
            self.room[place][:, :, start : self.length] = new
        self.keys, self.values = (self.room[place][:, :, : self.length] for place in self.places)
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
        layers = self._cache.layers
        self._shared = self._length = prefix_NPD.shape[1]
        self._room = _Room(2 * len(layers), self._shared + max_new_tokens)
        plain = [type(layer) is DynamicLayer for layer in layers]
        self._others = [layer for layer, roomy in zip(layers, plain, strict=True) if not roomy]
        self._cache.layers = [
            _RoomyLayer(self._room) if roomy else layer
            for layer, roomy in zip(layers, plain, strict=True)
        ]
        self.hidden_RD = self._read(prefix_NPD)

    def expand(self, beams: int) -> None:
        """Go on with `beams` rows for each."""
        self._room.expand(beams, self._length)
        for layer in self._others:
            layer.batch_repeat_interleave(beams)

    def reorder(self, rows_R: Tensor) -> None:
        """Let row i go on from what row `rows_R[i]`, of the same prefix, has said."""
        self._room.reorder(rows_R, self._shared, self._length)
        for layer in self._others:
            layer.reorder_cache(rows_R)

    def step(self, ids_R: Tensor) -> Tensor:
        """Read one more token of each row; return the hidden states (R, D) that say the next."""
        self._length += 1
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
