"""The journal of the make-believe device: what passed between it and the host, and where."""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

READ, BLOCKING, PAGEABLE, PINNED = "read", "blocking copy", "pageable copy", "pinned copy"
EVENT = "event"
_WAITS = (READ, BLOCKING, EVENT)
_OWN = ("ghost.py", "journal.py", "cuda_rules.py", "cuda_functions.py")
_HOSTS = ("sca_bench", "baselines", "tests", "transformers", "mmengine", "optim", "amp")
"""Folders whose code a line of the journal names; the rest is torch's own plumbing."""


class Entry(NamedTuple):
    """One line of the journal.

    Attributes:
        kind: `read`, `blocking copy`, `pageable copy`, `pinned copy` or `event`.
        what: The operation.
        shape: Of the tensor.
        num_bytes: Of the tensor.
        where: The innermost calls, innermost first.
    """

    kind: str
    what: str
    shape: tuple[int, ...]
    num_bytes: int
    where: str

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape)) or "1"
        return f"{self.kind:13}  {self.what}  {shape}  {self.num_bytes} bytes  {self.where}"


class Journal:
    """What happened between host and device."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.emptied = 0  # how often unused memory was given back

    def __str__(self) -> str:
        return "\n".join(map(str, self.entries)) or "nothing between host and device"

    def clear(self) -> None:
        """Forget all of it."""
        self.entries.clear()
        self.emptied = 0

    def note(self, kind: str, what: str, tensor: Tensor | None = None) -> None:
        """Add a line, with the place that it is called from."""
        shape = () if tensor is None else tuple(tensor.shape)
        size = 0 if tensor is None else tensor.numel() * tensor.element_size()
        self.entries.append(Entry(kind, what, shape, size, _place()))

    def of(self, *kinds: str) -> list[Entry]:
        """Return the lines of these kinds."""
        return [entry for entry in self.entries if entry.kind in kinds]

    @property
    def waits(self) -> list[Entry]:
        """What the host waits for: contents, copies that block, events."""
        return self.of(*_WAITS)

    def pageable(self, over_bytes: int = 64 * 1024) -> list[Entry]:
        """Return the copies from pageable memory of more than so many bytes."""
        return [entry for entry in self.of(PAGEABLE) if entry.num_bytes > over_bytes]


@functools.cache
def _file(name: str) -> str:
    """Return what a line calls a file; empty for torch's plumbing, and for the device's own."""
    path = Path(name)
    shown = path.name not in _OWN and any(part in _HOSTS for part in path.parts[-4:-1])
    return f"{path.parts[-2]}/{path.name}" if shown else ""


def _place(most: int = 4) -> str:
    """Return the innermost calls that `_HOSTS` made, innermost first."""
    found: list[str] = []
    frame: Any = sys._getframe(2)
    while frame is not None and len(found) < most:
        if file := _file(frame.f_code.co_filename):
            found.append(f"{file}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return " < ".join(found)
