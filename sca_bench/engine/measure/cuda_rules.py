"""CUDA's rules of mixed precision and its fused kernels, on tensors that say they are on a CPU.

A step is sized and counted on tensors without content. Those that say they are on CUDA cannot go
backwards on a machine without a GPU (autograd asks the driver for a context), so the CPU's stand in
for them, and these rules for what CUDA does otherwise: autocast keeps more operations in float32
there, and attention and dropout are one kernel each, which keeps no scores.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


FLOAT32 = _names(
    """
    acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan
    pow.Tensor_Scalar pow.Tensor_Tensor pow.Scalar softplus layer_norm native_layer_norm
    rms_norm group_norm frobenius_norm.dim nuclear_norm nuclear_norm.dim cosine_similarity
    poisson_nll_loss cosine_embedding_loss nll_loss nll_loss2d hinge_embedding_loss kl_div
    l1_loss smooth_l1_loss huber_loss mse_loss margin_ranking_loss multilabel_margin_loss
    soft_margin_loss triplet_margin_loss multi_margin_loss binary_cross_entropy_with_logits dist
    pdist cdist renorm logsumexp upsample_nearest1d _upsample_nearest_exact1d upsample_nearest2d
    _upsample_nearest_exact2d upsample_nearest3d _upsample_nearest_exact3d upsample_linear1d
    upsample_bilinear2d _upsample_bilinear2d_aa upsample_trilinear3d upsample_bicubic2d
    _upsample_bicubic2d_aa norm.Scalar norm.ScalarOpt_dim
    """
)
"""Operations whose arguments CUDA's autocast casts to float32 (ATen's `autocast_mode.h`)."""
FLOAT32_OUT = _names(
    """
    prod prod.dim_int softmax.int log_softmax.int cumprod cumsum linalg_vector_norm
    linalg_matrix_norm linalg_matrix_norm.str_ord sum sum.dim_IntList
    """
)
"""Operations that it asks for a float32 result, of whatever they read: their kernels cast."""
PROMOTED = _names(
    """
    addcdiv addcmul atan2 bilinear cross dot vdot grid_sampler index_put tensordot scatter_add
    """
)
"""Operations whose arguments it casts to float32 where one of them is."""
_CASTING = {"softmax.int": torch._softmax, "log_softmax.int": torch._log_softmax}
"""Kernels that read float16 and write float32, which the CPU's operations would do in two."""
HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}
_AUTOCAST = "AutocastCPU"
_BARE = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)


@contextlib.contextmanager
def cuda_rules(precision: str) -> Iterator[None]:
    """Compute on a CPU's tensors as CUDA does with a training precision: `fp32`, `fp16` or `bf16`.

    Meant for tensors without content: few of CUDA's fused kernels exist for a CPU. The rules hold
    in the whole process while the context is open.
    """
    half = HALF.get(precision)
    with torch.library._scoped_library("aten", "IMPL") as library:
        for name, kernel in _FUSED.items():
            library.impl(name, kernel, "AutogradCPU")
        add_autocast_rules(library, _CASTING)
        with torch.autocast("cpu", half or torch.bfloat16, enabled=half is not None):
            yield


def add_autocast_rules(
    library: torch.library.Library, kernels: Mapping[str, Callable[..., Any]] | None = None
) -> None:
    """Let the CPU's autocast keep in float32 what CUDA's does, as long as a library lives.

    Args:
        library: One that implements operations of `aten`.
        kernels: Operation -> a kernel of it that reads float16 and writes float32, if there is one.
    """
    asking = functools.partial(_asking, kernels=kernels or {})
    for names, rule in ((FLOAT32, _casting), (FLOAT32_OUT, asking), (PROMOTED, _promoting)):
        for name in names:
            if not _has_rule(f"aten::{name}", _AUTOCAST):
                library.impl(name, rule(name), _AUTOCAST)


_has_rule = torch._C._dispatch_has_kernel_for_dispatch_key


def _operation(name: str) -> Any:
    packet, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet), overload or "default")


def _is_half(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype in (torch.half, torch.bfloat16)


def _casting(name: str) -> Callable[..., Any]:
    operation = _operation(name)

    def in_float32(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = tree_map(lambda x: x.float() if _is_half(x) else x, (args, kwargs))
        with torch._C._ExcludeDispatchKeyGuard(_BARE):
            return operation(*args, **kwargs)

    return in_float32


def _asking(name: str, kernels: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    operation, casting = _operation(name), kernels.get(name)
    place = [argument.name for argument in operation._schema.arguments].index("dtype")

    def into_float32(*args: Any, **kwargs: Any) -> Any:
        asked = kwargs.get("dtype") if len(args) <= place else args[place]
        with torch._C._ExcludeDispatchKeyGuard(_BARE):
            if asked is not None or not _is_half(args[0]):
                return operation(*args, **kwargs)
            if casting is not None and args[0].dtype == torch.half:
                return casting(args[0], args[1], True)
            return operation(*args[:place], **{**kwargs, "dtype": torch.float32})

    return into_float32


def _promoting(name: str) -> Callable[..., Any]:
    operation, in_float32 = _operation(name), _casting(name)

    def in_the_widest(*args: Any, **kwargs: Any) -> Any:
        if any(isinstance(x, Tensor) and x.dtype == torch.float for x in tree_leaves(args)):
            return in_float32(*args, **kwargs)
        with torch._C._ExcludeDispatchKeyGuard(_BARE):
            return operation(*args, **kwargs)

    return in_the_widest


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if enable_gqa and key.shape[-3] != query.shape[-3]:
        times = query.shape[-3] // key.shape[-3]
        key, value = (x.repeat_interleave(times, -3) for x in (key, value))
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            attn_mask = torch.empty_like(attn_mask, dtype=query.dtype)
        attn_mask = attn_mask.expand(*query.shape[:-1], key.shape[-2])
    again = torch.is_grad_enabled() and any(x.requires_grad for x in (query, key, value))
    mixed: Tensor = torch.ops.aten._scaled_dot_product_efficient_attention(
        query, key, value, attn_mask, again, dropout_p, is_causal, scale=scale
    )[0]
    return mixed


def _dropout(input: Tensor, p: float, train: bool) -> Tensor:
    return torch.native_dropout(input, p, True)[0] if train and p else input


_FUSED = {"scaled_dot_product_attention": _attention, "dropout": _dropout}
"""Attention and dropout as the one kernel that each is on CUDA."""
