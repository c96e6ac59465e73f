"""How a GPU computes: in full float32 or with TensorFloat-32, and whether sums keep one order.

A CPU has neither question: nothing here touches what it computes, so that no digit of it depends on
the kind of processor. (torch's `set_float32_matmul_precision` would: on some processors it lets
products of float32 matrices run in bfloat16.)
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sca_bench.devices.gpu import is_gpu, make_current

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
_REPEATABLE = (":4096:8", ":16:8")
"""Values with which cuBLAS adds in one order; the first is the faster one."""


@contextmanager
def arithmetic(
    device: torch.device, *, tf32: bool = False, deterministic: bool = False
) -> Iterator[None]:
    """Compute on a device in one way while this lasts, and leave things as they were.

    The device is the current one from then on (`make_current`).

    Args:
        device: Where to compute. On a CPU nothing is changed.
        tf32: Round the factors of float32 products, of matrices and in convolutions, to 10 bits
            of mantissa (TensorFloat-32, on GPUs since Ampere). torch by itself does so in
            convolutions and not in products of matrices; here both go together.
        deterministic: Use operations that add in one order only. cuBLAS has to know it before it
            starts, so a process enters this before it computes anything. An operation that has no
            such form raises a `RuntimeError` with its name.
    """
    if not is_gpu(device):
        yield
        return
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    # Not `fp32_precision`, which torch has had since 2.9: what asks the one way after somebody set
    # the other gets an error, and torch.compile asks this one.
    products.allow_tf32 = convolutions.allow_tf32 = tf32
    try:
        with _one_order(deterministic):
            make_current(device)
            yield
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before


@contextmanager
def _one_order(wanted: bool) -> Iterator[None]:
    """Have torch, cuDNN and cuBLAS add in one order; leave them alone where it is not wanted."""
    if not wanted:
        yield
        return
    was_on = torch.are_deterministic_algorithms_enabled()
    only_warned = torch.is_deterministic_algorithms_warn_only_enabled()
    searched, workspace = torch.backends.cudnn.benchmark, os.environ.get(_WORKSPACE)
    if workspace not in _REPEATABLE:
        os.environ[_WORKSPACE] = _REPEATABLE[0]
    torch.backends.cudnn.benchmark = False  # it takes whichever algorithm is fastest this time
    torch.use_deterministic_algorithms(True)  # cuDNN's, too
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_on, warn_only=only_warned)
        torch.backends.cudnn.benchmark = searched
        if workspace is None:
            os.environ.pop(_WORKSPACE, None)
        else:
            os.environ[_WORKSPACE] = workspace
