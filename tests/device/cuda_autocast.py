"""CUDA's autocast over tensors that C++ believes to be on the CPU: its device, and its lists."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

_HALF = (torch.float16, torch.bfloat16)
_autocast = torch.autocast

IN_FLOAT32 = (
    "acos",
    "asin",
    "cosh",
    "erfinv",
    "exp",
    "expm1",
    "log",
    "log10",
    "log2",
    "log1p",
    "reciprocal",
    "rsqrt",
    "sinh",
    "tan",
    "pow.Tensor_Scalar",
    "pow.Tensor_Tensor",
    "pow.Scalar",
    "softplus",
    "layer_norm",
    "native_layer_norm",
    "group_norm",
    "rms_norm",
    "cosine_similarity",
    "nll_loss",
    "nll_loss2d",
    "kl_div",
    "l1_loss",
    "smooth_l1_loss",
    "mse_loss",
    "binary_cross_entropy_with_logits",
    "dist",
    "renorm",
    "logsumexp",
    "upsample_linear1d",
    "upsample_bilinear2d",
    "upsample_bicubic2d",
    "softmax.int",
    "log_softmax.int",
    "cumsum",
    "prod",
    "sum",
    "sum.dim_IntList",
    "linalg_vector_norm",
    "norm.Scalar",
)
"""What CUDA's autocast computes in float32; the CPU's own list is much shorter.

Source: torch, `aten/src/ATen/autocast_mode.h`.
"""


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
    """Give the CPU's autocast CUDA's list; the library that is returned undoes it (`_destroy`)."""
    library = torch.library.Library("aten", "IMPL")
    for name in IN_FLOAT32:
        if not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", "AutocastCPU"):
            library.impl(name, _in_float32(name), "AutocastCPU")
    return library


def _in_float32(name: str) -> Callable[..., Any]:
    packet, _, overload = name.partition(".")
    operation = getattr(getattr(torch.ops.aten, packet), overload or "default")
    autocast = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)

    def up(item: Any) -> Any:
        return item.float() if isinstance(item, Tensor) and item.dtype in _HALF else item

    def kernel(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(autocast):
            return operation(*tree_map(up, args), **tree_map(up, kwargs))

    return kernel
