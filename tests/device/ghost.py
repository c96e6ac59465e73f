"""A make-believe CUDA device: tensors with content that say they lie on `cuda:0`, without a GPU.

    def test_something(ghost):  # the fixture of tests/conftest.py: `with ghost_cuda() as journal:`
        model.to("cuda")  # and the engine's own code with device "cuda"
        ghost.clear()
        model.loss(batch.to("cuda")).backward()
        assert not ghost.waits, ghost  # what the host would have waited for, and where

A `Ghost` wraps a tensor of the CPU. As on CUDA, it refuses the company of tensors that lie there,
but for those of no dimension, and indices. It draws from a generator of its own. The journal has a
line for whatever passes between host and device: contents that the host reads (`item`, `tolist`,
`nonzero`, a boolean index, `.cpu()`), copies that block, copies from pageable memory and from
pinned, waits for events. Python alone is deceived: C++ believes a ghost to be on the CPU and
computes there, so numbers and gradients are real. Autocast follows CUDA's lists.

It has no streams, graphs, compiler, Triton or allocator, and it is one device. What C++ makes for
itself inside an operation lies on the CPU and is refused; attention's causal mask is made here for
that reason. Half precision that the CPU has no kernel for is computed in float32 and rounded. Other
threads may use ghosts and pin memory, but can make no tensor on `cuda`.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing

from device.cuda_autocast import Autocast, autocast_lists, autocast_queries
from device.cuda_functions import CUDA, Device, StandIn, stand_ins
from device.journal import BLOCKING, PAGEABLE, PINNED, READ, Journal

_HALF = (torch.float16, torch.bfloat16)
_ASKS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
_ALSO_ASKS = {"nms", "multinomial"}
"""Operations that look at contents on the host, beside those that torch marks with `_ASKS`."""
_INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}


class MixedDevices(RuntimeError):
    """An operation was given tensors of both devices."""


_DEVICE = Device()


class Ghost(Tensor):
    """A tensor that says it lies on `cuda:0`; `raw` is what it holds, a tensor of the CPU."""

    raw: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, raw: Tensor) -> Ghost:
        made: Ghost = Tensor._make_wrapper_subclass(
            cls,
            raw.size(),
            strides=raw.stride(),
            storage_offset=raw.storage_offset(),
            dtype=raw.dtype,
            layout=raw.layout,
            device="cpu",  # so that autograd, which asks in C++, uses the CPU's queue
        )
        made.raw = raw.detach()
        _DEVICE.count(made.raw)
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})

    def __tensor_flatten__(self) -> tuple[list[str], None]:  # modules then swap parameters whole
        return ["raw"], None

    @staticmethod
    def __tensor_unflatten__(inner: Any, meta: Any, size: Any, stride: Any) -> Ghost:
        return Ghost(inner["raw"])

    def __repr__(self, **_: Any) -> str:
        return f"Ghost({self.raw!r})"

    def __reduce_ex__(self, protocol: Any) -> Any:  # `torch.save`, `copy.copy`
        _DEVICE.journal.note(READ, "pickle", self)
        return self.raw.__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copy: Any = Ghost(self.raw.clone())
        if isinstance(self, nn.Parameter):
            copy = nn.Parameter(copy, self.requires_grad)
        return memo.setdefault(id(self), copy)

    @property
    def device(self) -> torch.device:
        return CUDA

    @property
    def is_cuda(self) -> bool:
        return True

    @property
    def is_cpu(self) -> bool:
        return False

    def get_device(self) -> int:
        return 0

    @property
    def data(self) -> Tensor:
        return Ghost(self.raw)

    @data.setter
    def data(self, other: Tensor) -> None:
        if not isinstance(other, Ghost):
            raise MixedDevices("data of a tensor on cuda:0 set to a tensor on cpu")
        self.raw = other.raw

    def cpu(self) -> Tensor:
        return self.to("cpu")

    def tolist(self) -> Any:
        _DEVICE.journal.note(READ, "tolist", self)
        return self.raw.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    __array__ = numpy

    def new_tensor(self, data: Any, *, dtype: Any = None, **_: Any) -> Tensor:
        return _tensor(data, dtype=dtype or self.dtype, device=CUDA)


def _is_cuda(device: Any) -> bool:
    return device is not None and str(device).startswith("cuda")


def _raw(tensor: Tensor) -> Tensor:
    return tensor.raw if isinstance(tensor, Ghost) else tensor


def _ghost(tensor: Tensor) -> Tensor:
    return tensor if isinstance(tensor, Ghost) else Ghost(tensor)


# --- copies between host and device ---------------------------------------------------------------


class _Move(torch.autograd.Function):
    """A copy to the other device, and its gradient back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dtype: Any, non_blocking: bool) -> Tensor:
        ctx.dtype = x.dtype
        return _moved(x, dtype, non_blocking)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return _moved(gradient, ctx.dtype, False), None, None


def _moved(x: Tensor, dtype: torch.dtype | None, non_blocking: bool) -> Tensor:
    _note_copy(x, non_blocking)
    copy = _raw(x).detach().to(dtype=dtype, copy=True)
    return copy if isinstance(x, Ghost) else Ghost(copy)


def _note_copy(x: Tensor, non_blocking: bool) -> None:
    if isinstance(x, Ghost):
        # One that does not wait would need pinned memory to arrive in, and an event to wait for.
        kind = READ
    elif not non_blocking:
        kind = BLOCKING
    else:
        kind = PINNED if _DEVICE.is_pinned(x) else PAGEABLE
    _DEVICE.journal.note(kind, "copy", x)


_torch_to = torch._C.TensorBase.to


def _to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """`Tensor.to`, for tensors of both devices."""
    device, dtype, non_blocking, copy = _wanted(*args, **kwargs)
    if device is None or _is_cuda(device) == isinstance(self, Ghost):
        if isinstance(self, Ghost):
            if not copy and dtype in (None, self.dtype):
                return self
            return _torch_to(self, dtype=dtype or self.dtype, copy=copy)
        return _torch_to(self, *args, **kwargs)
    if self.requires_grad and torch.is_grad_enabled():
        moved: Tensor = _Move.apply(self, dtype, non_blocking)
        return moved
    return _moved(self, dtype, non_blocking)


def _wanted(*args: Any, **kwargs: Any) -> tuple[Any, torch.dtype | None, bool, bool]:
    """Return device, dtype, non_blocking and copy of a call of `Tensor.to`."""
    device, dtype = kwargs.get("device"), kwargs.get("dtype")
    flags: list[bool] = []
    for given in (*args, kwargs.get("other")):
        if isinstance(given, Tensor):
            device, dtype = given.device, given.dtype
        elif isinstance(given, torch.dtype):
            dtype = given
        elif isinstance(given, bool):
            flags.append(given)
        elif given is not None:
            device = given
    flags += [kwargs.get(name, False) for name in ("non_blocking", "copy")[len(flags) :]]
    return device, dtype, flags[0], flags[1]


_torch_tensor, _torch_as_tensor = torch.tensor, torch.as_tensor


def _tensor(data: Any, *, device: Any = None, **kwargs: Any) -> Tensor:
    """`torch.tensor`: what is made on a device is made on the host, and copied."""
    if not _is_cuda(device):
        return _torch_tensor(data, device=device, **kwargs)
    gradient = kwargs.pop("requires_grad", False)
    made = _moved(_torch_tensor(data, **kwargs), None, non_blocking=False)
    return made.requires_grad_(gradient)


def _as_tensor(data: Any, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
    if isinstance(data, Tensor):
        return data.to(device=device, dtype=dtype)
    if not _is_cuda(device):
        return _torch_as_tensor(data, dtype=dtype, device=device)
    return _tensor(data, dtype=dtype, device=device)


# --- operations -----------------------------------------------------------------------------------


class _Facts(NamedTuple):
    """What is asked about an operation at every call."""

    name: str
    asks: bool
    draws: bool
    writes: bool
    reshapes: bool


@functools.cache
def _facts(func: Any) -> _Facts:
    name, tags = func._schema.name.split("::")[-1], set(func.tags)
    asks = bool(_ASKS & tags) or name in _ALSO_ASKS
    draws, reshapes = torch.Tag.nondeterministic_seeded in tags, torch.Tag.inplace_view in tags
    return _Facts(name, asks, draws, func._schema.is_mutable, reshapes)


class _Dispatch(TorchDispatchMode):
    """Sees the operations that have no ghost among their arguments: those that make tensors."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _compute(func, args, kwargs or {})


def _tensors(item: Any) -> Iterator[Tensor]:
    """Yield the tensors among arguments."""
    if isinstance(item, Tensor):
        yield item
    elif isinstance(item, (list, tuple)):
        for part in item:
            yield from _tensors(part)


def _mapped(function: Any, item: Any) -> Any:
    """Return arguments with a function applied to their tensors. Pytrees can more, and are slow."""
    if isinstance(item, Tensor):
        return function(item)
    if isinstance(item, (list, tuple)):
        return type(item)([_mapped(function, part) for part in item])
    return item


def _compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Do one operation of torch on what the ghosts hold."""
    tensors = [*_tensors(args), *_tensors(tuple(kwargs.values()))]
    ghosts = [tensor for tensor in tensors if isinstance(tensor, Ghost)]
    if not ghosts and not _is_cuda(kwargs.get("device")):
        return func(*args, **kwargs)
    facts = _facts(func)
    if kwargs.get("generator") is not None:
        raise MixedDevices("Expected a 'cuda' device type for generator but found 'cpu'")
    if facts.name == "_to_copy" and not ghosts:
        return _moved(args[0], kwargs.get("dtype"), kwargs.get("non_blocking", False))
    if facts.name == "copy_" and isinstance(args[0], Ghost) != isinstance(args[1], Ghost):
        _note_copy(args[1], bool(args[2]) if len(args) > 2 else kwargs.get("non_blocking", False))
        _raw(args[0]).copy_(_raw(args[1]))
        return args[0]
    if len(ghosts) < len(tensors):
        _refuse_a_mix(func, facts, args, ghosts, [t for t in tensors if not isinstance(t, Ghost)])
    _note_read(facts, args, kwargs, ghosts)
    raw_args = _mapped(_raw, args)
    raw_kwargs = {name: _mapped(_raw, value) for name, value in kwargs.items()}
    if "device" in kwargs:
        raw_kwargs["device"] = torch.device("cpu")
    with _DEVICE.drawing() if facts.draws else contextlib.nullcontext():
        out = _on_cpu(func, raw_args, raw_kwargs)
    if facts.reshapes:
        return return_and_correct_aliasing(func, args, kwargs, _mapped(_ghost, out))
    if facts.writes:
        written = {id(ghost.raw): ghost for ghost in ghosts}
        return _mapped(lambda raw: written[id(raw)] if id(raw) in written else _ghost(raw), out)
    return _mapped(_ghost, out)


def _refuse_a_mix(
    func: Any, facts: _Facts, args: Any, ghosts: list[Any], hosts: list[Tensor]
) -> None:
    written = facts.writes and any(args[0] is host for host in hosts)
    wide = [host for host in hosts if host.dim() > 0]
    if wide and facts.name in _INDEXED and isinstance(args[0], Ghost):
        for index in wide:
            _DEVICE.journal.note(BLOCKING, f"index of {facts.name}", index)
    elif wide or written:
        shapes = [[tuple(t.shape) for t in each] for each in (ghosts, hosts)]
        raise MixedDevices(
            "Expected all tensors to be on the same device, but found at least two devices, cuda:0"
            f" and cpu! ({func}: {shapes[0]} on cuda:0, {shapes[1]} on cpu)"
        )


def _note_read(facts: _Facts, args: Any, kwargs: Any, ghosts: list[Any]) -> None:
    asks = facts.asks and bool(ghosts)
    if facts.name in _INDEXED:
        places = [place for place in _tensors(args[1]) if isinstance(place, Ghost)]
        asks = any(place.dtype in (torch.bool, torch.uint8) for place in places)
    elif facts.name == "repeat_interleave":
        asks = asks and kwargs.get("output_size") is None
    if asks:
        _DEVICE.journal.note(READ, facts.name, ghosts[0])


def _on_cpu(func: Any, args: Any, kwargs: Any) -> Any:
    try:
        return func(*args, **kwargs)
    except RuntimeError as error:
        if not any(f"not implemented for '{name}'" in str(error) for name in ("Half", "BFloat16")):
            raise
        every = (args, tuple(kwargs.values()))
        half = next(x.dtype for x in _tensors(every) if x.dtype in _HALF)
        up = functools.partial(_cast, _HALF, torch.float32)
        down = functools.partial(_cast, (torch.float32,), half)
        more = {name: _mapped(up, value) for name, value in kwargs.items()}
        return _mapped(down, func(*_mapped(up, args), **more))


def _cast(dtypes: tuple[torch.dtype, ...], to: torch.dtype, tensor: Tensor) -> Tensor:
    return tensor.to(to) if tensor.dtype in dtypes else tensor


_attention = F.scaled_dot_product_attention


def _sdpa(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **kwargs: Any,
) -> Tensor:
    """Attention whose causal mask lies where the query does; C++ would make one on the CPU."""
    if is_causal and isinstance(query, Ghost):
        size = query.shape[-2], key.shape[-2]
        attn_mask, is_causal = Ghost(torch.ones(size, dtype=torch.bool).tril()), False
    return _attention(query, key, value, attn_mask, dropout_p, is_causal, **kwargs)


_group = torch._C._group_tensors_by_device_and_dtype


def _grouped(lists: Any, with_indices: bool = False) -> Any:
    """Torch's grouping of tensors, by the devices that they say they lie on."""

    def device_of(group: Any, device: torch.device) -> torch.device:
        first = next((t for tensors in group[0] for t in tensors if t is not None), None)
        return CUDA if isinstance(first, Ghost) else device

    found = _group(lists, with_indices)
    return {(device_of(group, d), dtype): group for (d, dtype), group in found.items()}


def _empty(made: Any, *size: Any, pin_memory: bool = False, **kwargs: Any) -> Tensor:
    """`torch.empty`, also in pinned memory, for which torch asks a driver."""
    tensor: Tensor = made(*size, **kwargs)
    return _DEVICE.pin(tensor) if pin_memory else tensor


# --- the context manager --------------------------------------------------------------------------


def _patches() -> Iterator[StandIn]:
    """Yield what is to stand in for torch's own as long as there is the device."""
    device = _DEVICE
    yield from stand_ins(device)
    yield Tensor, "to", _to
    yield (
        Tensor,
        "cuda",
        lambda self, device=CUDA, non_blocking=False: _to(self, device, non_blocking=non_blocking),
    )
    yield Tensor, "type_as", lambda self, other: _to(self, other)
    yield Tensor, "pin_memory", lambda self, *_: device.pin(self)
    yield Tensor, "is_pinned", lambda self, *_: device.is_pinned(self)
    yield torch, "empty", functools.partial(_empty, torch.empty)
    yield torch, "tensor", _tensor
    yield torch, "as_tensor", _as_tensor
    yield torch, "autocast", Autocast
    yield torch.amp, "autocast", Autocast
    yield from ((torch, name, query) for name, query in autocast_queries().items())
    yield F, "scaled_dot_product_attention", _sdpa
    yield torch._C, "_group_tensors_by_device_and_dtype", _grouped


@contextlib.contextmanager
def ghost_cuda(seed: int = 0) -> Iterator[Journal]:
    """Let there be a CUDA device; yield its journal.

    Args:
        seed: Of the device's generator.
    """
    global _DEVICE
    _DEVICE = Device()
    _DEVICE.seed(seed)
    _device_constructors()  # torch lists its own functions once, so before others stand there
    absent = object()
    before: list[tuple[Any, str, Any]] = []
    lists = autocast_lists()
    try:
        for owner, name, stand_in in _patches():
            before.append((owner, name, vars(owner).get(name, absent)))
            setattr(owner, name, stand_in)
        with _Dispatch():
            yield _DEVICE.journal
    finally:
        for owner, name, real in reversed(before):
            delattr(owner, name) if real is absent else setattr(owner, name, real)
        lists._destroy()
