"""CUDA's autocast over tensors that C++ believes to be on the CPU: its device, and its lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from sca_bench.engine.measure.cuda_rules import add_autocast_rules

_autocast = torch.autocast


class Autocast(_autocast):
    """`torch.autocast`, for which `cuda` is the CPU with CUDA's default type."""

    def __init__(
        self,
        device_type: str,
        dtype: torch.dtype | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        if device_type == "cuda":
            device_type, dtype = "cpu", dtype or torch.float16
        super().__init__(device_type, dtype, enabled, cache_enabled)


def autocast_queries() -> dict[str, Callable[..., Any]]:
    """Return torch's questions about autocast, answered for `cuda` as for the CPU."""

    def asked(question: Callable[..., Any]) -> Callable[..., Any]:
        def answer(device_type: str = "cuda", *rest: Any) -> Any:
            return question("cpu" if device_type == "cuda" else device_type, *rest)

        return answer

    names = ("is_autocast_enabled", "get_autocast_dtype")
    return {name: asked(getattr(torch, name)) for name in names}


def autocast_lists() -> torch.library.Library:
    """Give the CPU's autocast CUDA's lists; the library that is returned undoes it (`_destroy`).

    They are those by which steps are sized. `tests/engine/measure/test_cuda_rules.py` compares
    them with torch's own headers, and with the true autocast on tensors without content.
    """
    library = torch.library.Library("aten", "IMPL")
    add_autocast_rules(library)
    return library
