"""Several cells of equal shapes in one pass: their trained tensors stacked, over the same batch.

What is trained is called under `torch.vmap`, once for all cells. What is not (a frozen text
decoder) gets their rows one cell after the other. Each cell's numbers are those that it has alone,
up to rounding, what is drawn for dropout included.

Shape legend: G cells, N rows of a cell.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sca_bench.devices.gpu import rng_state
from sca_bench.errors import CellError

Stream = Callable[[], AbstractContextManager[Any]]
"""Returns a context in which a cell's own random numbers are drawn."""


_ATTENTION = F.scaled_dot_product_attention


class _Mapping:
    active = False


@contextmanager
def _mapping(active: bool) -> Iterator[None]:
    before, _Mapping.active = _Mapping.active, active
    try:
        yield
    finally:
        _Mapping.active = before


def in_vmap() -> bool:
    """Say whether tensors stand for those of several cells just now."""
    return _Mapping.active


def call_rows(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Call a function each row of whose result depends on that row of its inputs only.

    Under `torch.vmap` it gets the rows of all cells at once, so it may be one that torch cannot
    map.

    Args:
        function: Takes and returns tensors (N, ...).
        *inputs: Its inputs.
    """
    if not in_vmap():
        return function(*inputs)

    def of_cells(*inputs_G: Tensor) -> Tensor:
        folded = (x.flatten(0, 1) for x in inputs_G)
        return function(*folded).unflatten(0, (len(inputs_G[0]), -1))  # type: ignore[no-any-return]

    return call_cells(of_cells, *inputs)


def call_cells(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Call a function, under `torch.vmap`, with the inputs of all cells, (G, ...).

    Args:
        function: Takes and returns tensors (G, ...), with gradients of its own.
        *inputs: Its inputs, as one cell sees them; what all cells share has a first stride of 0.
    """
    found: Tensor = _Cells.apply(function, *inputs)  # type: ignore[no-untyped-call]
    return found


class _Cells(torch.autograd.Function):
    """Never computed by itself: the rule below calls the function, whose gradients are its own."""

    @staticmethod
    def forward(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        with _mapping(False):  # of what is no cell's own, so no gradient is asked for
            return function(*(x[None] for x in inputs))[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise RuntimeError("rows of one cell were called as those of several")

    @staticmethod
    def vmap(info: Any, in_dims: Any, function: Callable[..., Tensor], *inputs: Tensor) -> Any:
        cells = info.batch_size
        of_cells = [
            x.expand(cells, *x.shape) if dim is None else x.movedim(dim, 0)
            for x, dim in zip(inputs, in_dims[1:], strict=True)
        ]
        with _mapping(False):
            return function(*of_cells), 0


def stack_parameters(
    cells: Sequence[Mapping[str, Tensor]], half: Collection[str] = (), dtype: Any = None
) -> dict[str, Tensor]:
    """Return the parameters of cells stacked, (G, ...) each, in a few launches.

    Args:
        cells: Each cell's parameters by name; names and shapes are the same in all.
        half: Names of those that are cast on the way.
        dtype: What these are cast to.

    Returns:
        The stacks by name; their gradients reach the parameters, in the parameters' type.
    """
    names = list(cells[0])
    kinds = tuple(dtype if name in half else cells[0][name].dtype for name in names)
    flat = [cell[name] for name in names for cell in cells]
    stacks: tuple[Tensor, ...] = _Stack.apply(len(cells), kinds, *flat)  # type: ignore[no-untyped-call]
    return dict(zip(names, stacks, strict=True))


class _Stack(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, cells: int, kinds: Sequence[torch.dtype], *parameters: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.cells, firsts = cells, parameters[::cells]
        ctx.kinds = [first.dtype for first in firsts]
        stacks = [
            first.new_empty((cells, *first.shape), dtype=kind)
            for first, kind in zip(firsts, kinds, strict=True)
        ]
        _copy(zip((row for stack in stacks for row in stack.unbind()), parameters, strict=True))
        return tuple(stacks)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Any, ...]:
        wide = [
            g if g is None or g.dtype == kind else torch.empty_like(g, dtype=kind)
            for g, kind in zip(gradients, ctx.kinds, strict=True)
        ]
        pairs = zip(wide, gradients, strict=True)
        _copy((w, g) for w, g in pairs if w is not None and g is not None and w is not g)
        nothing = (None,) * ctx.cells
        return None, None, *(row for w in wide for row in (nothing if w is None else w.unbind()))


def _copy(pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Copy second ones to first ones; those of a pair of types in as few launches as may be."""
    kinds: dict[Any, tuple[list[Tensor], list[Tensor]]] = {}
    for to, source in pairs:
        one, other = kinds.setdefault((to.dtype, source.dtype), ([], []))
        one.append(to)
        other.append(source)
    for one, other in kinds.values():
        torch._foreach_copy_(one, other)


class _Method(nn.Module):
    """A method of a module as a module, which can be called with other parameters."""

    def __init__(self, owner: nn.Module, name: str) -> None:
        super().__init__()
        self.owner, self.name = owner, name

    def forward(self, *inputs: Any) -> Any:
        return getattr(self.owner, self.name)(*inputs)


def of_each_cell(
    owner: nn.Module, method: str, stacks: Mapping[str, Tensor], *rows: Tensor, given: Any = ()
) -> Tensor:
    """Call a method of a captioner with the parameters of each cell in place of its own.

    Args:
        owner: The captioner of any of the cells.
        method: Name of a method that returns a tensor and draws nothing.
        stacks: Stacked parameters by their names in it.
        *rows: Inputs of each cell, (G, ...).
        given: Inputs that all cells share; they come after those.

    Returns:
        The cells' results, (G, ...).
    """
    module = _Method(owner, method)

    def call(named: dict[str, Tensor], *own: Tensor) -> Tensor:
        inputs = (*own, *given)
        found: Tensor = torch.func.functional_call(module, named, inputs, tie_weights=False)
        return found

    parameters = {f"owner.{name}": stack for name, stack in stacks.items()}
    with _mapping(True):
        result: Tensor = torch.vmap(call)(parameters, *rows)
    return result


def dropout_of_each_cell(x_GX: Tensor, p: float, streams: Sequence[Stream]) -> Tensor:
    """Return `F.dropout` of each cell's tensor, drawn in that cell's stream."""
    if not p:
        return x_GX
    pairs = zip(streams, x_GX, strict=True)
    return torch.stack([_drawn(stream, F.dropout, x, p) for stream, x in pairs])


def _drawn(stream: Stream, function: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    with stream():
        return function(*args, **kwargs)


class OwnDraws(TorchFunctionMode):
    """Lets dropout over the rows of several cells be drawn by each cell, as if it were alone.

    Args:
        streams: Each cell's; rows come one cell after the other, equally many of each.
    """

    def __init__(self, streams: Sequence[Stream]) -> None:
        super().__init__()
        self._streams = streams

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.dropout and kwargs.get("p", 0.5) > 0 and kwargs.get("training", True):
            return self._by_cell(func, args, {**kwargs, "inplace": False})
        if func is _ATTENTION and (kwargs.get("dropout_p", 0.0) or any(args[4:5])):
            return self._by_cell(func, args, kwargs)
        return func(*args, **kwargs)

    def _by_cell(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        cells, rows = len(self._streams), args[0].shape[0]

        def parts(value: Any) -> Sequence[Any]:
            if isinstance(value, Tensor) and value.ndim and value.shape[0] == rows:
                return value.chunk(cells)  # once: its gradient is one tensor
            return [value] * cells

        names, first = list(kwargs), len(args)
        own = zip(*(parts(value) for value in (*args, *kwargs.values())), strict=True)
        drawn = [
            _drawn(stream, func, *given[:first], **dict(zip(names, given[first:], strict=True)))
            for stream, given in zip(self._streams, own, strict=True)
        ]
        return torch.cat(drawn)


@contextmanager
def no_other_draws(device: torch.device) -> Iterator[None]:
    """Refuse what draws random numbers inside in another way than `OwnDraws` knows.

    Raises:
        CellError: Something did, in no cell's stream.
    """
    before = _generators(device)
    yield
    if not all(map(torch.equal, before, _generators(device))):
        raise CellError("something beside dropout draws random numbers, for all cells at once")


def _generators(device: torch.device) -> list[Tensor]:
    on_gpu = rng_state(device)
    return [torch.get_rng_state(), *([] if on_gpu is None else [on_gpu])]
