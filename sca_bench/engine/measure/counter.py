"""Counts what a GPU would do: kernels that it launches, their operations, the bytes they move.

The rules, which `tests/engine/measure/test_counter.py` has in small:

- An operation that reaches the dispatcher is one launch, unless it is a view or only asks for
  memory. Attention, dropout and a normalisation are one each; operations over lists of tensors are
  as many launches as torch cuts the lists into.
- Bytes are all inputs and all outputs, as they are stored: what is broadcast counts once. What
  picks rows out of a table reads those rows, and not the table.
- Operations (a multiply and an add are two) are those of matrix products, convolutions and
  attention, by torch's own formulas.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from sca_bench.engine.forecast.costs import Kernels, Rate, Work

_NO_KERNEL = {
    "_local_scalar_dense",
    "_unsafe_view",
    "empty",
    "empty_like",
    "empty_permuted",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "resize_",
    "set_",
}
_OVERWRITES = {"copy_", "fill_", "normal_", "uniform_", "zero_"}
"""In place, without reading what was there."""
_PICKS = {"embedding", "gather", "index", "index_select", "nll_loss_forward"}
"""Their first tensor is a table of which they read what they return."""
_ADDS_AT = {"_index_put_impl_", "index_add", "index_add_", "index_put", "index_put_"}
"""Of their first tensor they touch as much as they are given."""
_LISTS = ("_foreach_", "_fused_", "_amp_foreach_")
_ATTENTION = "_scaled_dot_product"
_TENSORS_A_LAUNCH = {1: 110, 2: 64, 3: 48, 4: 36, 5: 30}
"""Lists that an operation walks side by side -> tensors in one launch (`MultiTensorApply.cuh`)."""
_BLOCKS_A_LAUNCH, _BLOCK = 320, 65_536


class OpCounter(TorchDispatchMode):
    """Counts while it is active; tensors may be without content.

    Args:
        tf32: Whether float32 products and convolutions are made in TensorFloat-32. Attention is
            not: torch's kernels make up for what that rounds off.

    Attributes:
        names: Part -> name of an operation -> launches.
    """

    def __init__(self, *, tf32: bool = False) -> None:
        super().__init__()
        self._tf32 = tf32
        self.names: dict[str, Counter[str]] = {}
        self._kinds: dict[str, Counter[tuple[Rate, float, float, int]]] = {}
        self._part = ""

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what is computed inside as a part of this name."""
        outer, self._part = self._part, name
        try:
            yield
        finally:
            self._part = outer

    def work(self, *parts: str) -> Work:
        """Return what was counted in some parts; in all where none is named."""
        return Work.of(
            Kernels(rate=rate, launches=n * launches, flop=n * flop, bytes=n * moved)
            for part in parts or self._kinds
            for (rate, flop, moved, launches), n in self._kinds.get(part, Counter()).items()
        )

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if launches := _launches(func, args):
            flop = _flop(func, args, kwargs, out)
            moved = _bytes(func, args, kwargs, out)
            self._add(func, launches, flop, moved, self._rate(func, args))
        return out

    def _rate(self, func: Any, args: Any) -> Rate:
        """Say which of a GPU's peaks bounds an operation."""
        floats = [x.dtype for x in _tensors(args) if x.is_floating_point()]
        if floats and all(x.itemsize == 2 for x in floats):
            return "half"
        return "tf32" if self._tf32 and not _name(func).startswith(_ATTENTION) else "single"

    def _add(self, func: Any, launches: int, flop: float, moved: float, rate: Rate) -> None:
        kind = (rate if flop else "none", flop, moved, launches)
        self._kinds.setdefault(self._part, Counter())[kind] += 1
        self.names.setdefault(self._part, Counter())[str(func)] += launches


def _name(func: Any) -> str:
    return str(func._schema.name.partition("::")[2])


def _launches(func: Any, args: Any) -> int:
    """Return how many kernels an operation launches: none for views and for memory."""
    name, schema = _name(func), func._schema
    if func.namespace != "aten" or name in _NO_KERNEL:
        return 0
    aliases = [a.alias_info for a in schema.arguments if a.alias_info is not None]
    if any(not alias.is_write for alias in aliases):
        return 0  # a view
    if name.startswith(_LISTS):
        return _launches_of_lists(args)
    returns = any("Tensor" in str(r.type) for r in schema.returns)
    return int(returns or bool(aliases))


def _launches_of_lists(args: Any) -> int:
    """Return the launches of an operation over lists of tensors, by torch's way of cutting them."""
    lists = [x for x in args if isinstance(x, list | tuple) and x and isinstance(x[0], Tensor)]
    most = _TENSORS_A_LAUNCH[min(len(lists), max(_TENSORS_A_LAUNCH))]
    launches = tensors = blocks = 0
    for tensor in lists[0]:
        tensors += 1
        for _ in range(max(1, math.ceil(tensor.numel() / _BLOCK))):
            blocks += 1
            if blocks == _BLOCKS_A_LAUNCH:
                launches, tensors, blocks = launches + 1, 1, 0
        if tensors == most and blocks:
            launches, tensors, blocks = launches + 1, 0, 0
    return launches + bool(blocks)


def _flop(func: Any, args: Any, kwargs: Any, out: Any) -> float:
    formula = flop_registry.get(func._overloadpacket)
    return float(formula(*args, **kwargs, out_val=out)) if formula is not None else 0.0


def _tensors(tree: Any) -> Iterable[Tensor]:
    return (x for x in tree_leaves(tree) if isinstance(x, Tensor))


def _stored(tensor: Tensor) -> int:
    """Return the bytes of a tensor without those that stand for one another."""
    sizes = (s for s, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride)
    return math.prod(sizes) * tensor.element_size() if tensor.numel() else 0


def _bytes(func: Any, args: Any, kwargs: Any, out: Any) -> float:
    """Return the bytes that an operation reads and writes."""
    name = _name(func)
    inputs = [_stored(x) for x in _tensors((args, kwargs))]
    outputs = [_stored(x) for x in _tensors(out)]
    if not outputs:  # lists that are changed in place
        outputs = [
            _stored(x)
            for argument, given in zip(func._schema.arguments, args, strict=False)
            if argument.alias_info is not None
            for x in _tensors(given)
        ]
    if name in _OVERWRITES:
        inputs = inputs[1:]
    elif name in _PICKS:
        inputs[0] = min(inputs[0], sum(outputs))
    elif name in _ADDS_AT and len(inputs) > 1:
        given = max(inputs[1:])
        whole = 0 if name.endswith("_") else inputs[0] + outputs[0]  # it is copied first
        return whole + sum(inputs[1:]) + 2 * min(inputs[0], given)
    return float(sum(inputs) + sum(outputs))
