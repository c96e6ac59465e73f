"""A bounded memory of rows of numbers, so that what was computed once is not computed again."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

_FIRST_ROWS = 1024


class RowMemo:
    """Rows of `width` float64 numbers by key; the oldest make room for the newest.

    Args:
        width: Numbers in a row.
        most: Rows kept at most, `8 * width` bytes each beside their keys.
    """

    def __init__(self, width: int, most: int) -> None:
        self._most = most
        self._rows: NDArray[np.float64] = np.empty((min(most, _FIRST_ROWS), width))
        self._slots: dict[Hashable, int] = {}
        self._keys: list[Hashable] = []
        self._next = 0

    def __len__(self) -> int:
        return len(self._slots)

    def rows(
        self,
        keys: Sequence[Hashable],
        compute: Callable[[list[int]], NDArray[np.float64]],
    ) -> NDArray[np.float64]:
        """Return one row for each key.

        Args:
            keys: Keys, repeated ones among them.
            compute: Takes the indices in `keys` of the first row of each unknown key, and
                returns their rows, (indices, width).

        Returns:
            (keys, width), a copy. More keys than are kept are no fault.
        """
        number_of: dict[Hashable, int] = {}
        first: list[int] = []
        order = np.empty(len(keys), dtype=np.int64)
        for index, key in enumerate(keys):
            order[index] = at = number_of.setdefault(key, len(first))
            if at == len(first):
                first.append(index)
        slots = np.fromiter((self._slots.get(key, -1) for key in number_of), np.int64, len(first))
        values = np.empty((len(first), self._rows.shape[1]))
        known = slots >= 0
        values[known] = self._rows[slots[known]]
        if not known.all():
            unknown = [first[at] for at in np.flatnonzero(~known)]
            values[~known] = compute(unknown)
            for index, row in zip(unknown, values[~known], strict=True):
                self._remember(keys[index], row)
        return values[order]

    def _remember(self, key: Hashable, row: NDArray[np.float64]) -> None:
        slot = self._next
        self._next = (slot + 1) % self._most
        if slot < len(self._keys):
            del self._slots[self._keys[slot]]
            self._keys[slot] = key
        else:
            self._keys.append(key)
            if slot >= len(self._rows):
                more = min(2 * len(self._rows), self._most)
                grown = np.empty((more, self._rows.shape[1]))
                grown[:slot] = self._rows
                self._rows = grown
        self._rows[slot] = row
        self._slots[key] = slot
