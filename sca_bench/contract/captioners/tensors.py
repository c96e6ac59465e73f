"""Tensors by name: those of a captioner, those of shared parts, and which of them differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn


def modules_in(parts: object) -> Iterator[tuple[str, nn.Module]]:
    """Yield (name, module) of the torch modules that shared parts hold."""
    if isinstance(parts, nn.Module):
        yield "", parts
        return
    inside: Mapping[Any, Any] = getattr(parts, "__dict__", {})
    if is_dataclass(parts):
        inside = {field.name: getattr(parts, field.name) for field in fields(parts)}
    elif isinstance(parts, Mapping):
        inside = parts
    elif isinstance(parts, list | tuple):
        inside = dict(enumerate(parts))
    for name, value in inside.items():
        if isinstance(value, nn.Module):
            yield str(name), value


def tensors_of(captioner: object) -> dict[str, Tensor]:
    """Return copies of all tensors of a captioner by name; none where it is no module."""
    if not isinstance(captioner, nn.Module):
        return {}
    named = [*captioner.named_parameters(), *captioner.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in named}


def different(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> list[str]:
    """Return the names under which two sets of tensors differ, in a bit or in their shape."""
    names = one.keys() ^ other.keys()
    names |= {n for n in one.keys() & other.keys() if not torch.equal(one[n], other[n])}
    return sorted(names)


def some(names: list[str]) -> str:
    """Return the first three names, and how many more there are."""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
