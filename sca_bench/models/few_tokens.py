"""Attention between few tokens and many image tokens, with the projections on the tokens' side.

A key is a product of an image token and a matrix, and a score a product of that key and a query. So
the query can be multiplied by the matrix instead: a few rows where the image has thousands. What is
left to do with image tokens are two matrix products each way, and no keys, values and queries of
theirs have to be written. That is less arithmetic where the rows, one for each token and head, are
no more than the inner channels of an attention.

Shape legend: G cells that are stepped as one, N regions, R rows (heads times tokens, the token runs
fastest), H heads, S image tokens, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sca_bench.models.products import times
from sca_bench.models.stacked import call_cells, call_rows, in_vmap


def read_image(
    keys_NRC: Tensor, offsets_NR: Tensor, image_NSC: Tensor, placed_NSC: Tensor
) -> Tensor:
    """Return for every row the mean of the image tokens that it attends to, (N, R, C).

    Args:
        keys_NRC: What a row's scores are products of, with image tokens at their positions.
        offsets_NR: What is added to a row's scores.
        image_NSC: Image tokens.
        placed_NSC: The same plus their positions, detached: its gradient goes to `image_NSC`.
    """
    if in_vmap():
        return call_cells(_read_of_cells, keys_NRC, offsets_NR, image_NSC, placed_NSC)
    mixed_NRC: Tensor = _Read.apply(keys_NRC, offsets_NR, image_NSC, placed_NSC)
    return mixed_NRC


def _read_of_cells(
    keys_GNRC: Tensor, offsets_GNR: Tensor, image_GNSC: Tensor, placed_GNSC: Tensor
) -> Tensor:
    """Return what the rows of several cells read; an image that they share is not copied."""
    given, cells = (keys_GNRC, offsets_GNR, image_GNSC, placed_GNSC), len(keys_GNRC)
    mixed: Tensor
    if image_GNSC.stride(0) or placed_GNSC.stride(0):
        mixed = _Read.apply(*(x.flatten(0, 1) for x in given))
        return mixed.unflatten(0, (cells, -1))  # type: ignore[no-any-return]
    rows = (x.transpose(0, 1).flatten(1, 2) for x in given[:2])
    mixed = _Read.apply(*rows, image_GNSC[0], placed_GNSC[0])
    return mixed.unflatten(1, (cells, -1)).transpose(0, 1)  # type: ignore[no-any-return]


def write_image(
    keys_NRC: Tensor,
    offsets_NR: Tensor,
    values_NRC: Tensor,
    image_NSC: Tensor,
    placed_NSC: Tensor,
    num_heads: int,
) -> Tensor:
    """Return the image tokens plus what they read from the rows: in each head, of all its tokens.

    Args:
        keys_NRC: What a row's scores are products of, with image tokens at their positions.
        offsets_NR: What is added to a row's scores.
        values_NRC: What is read from a row.
        image_NSC: Image tokens.
        placed_NSC: The same plus their positions, detached: its gradient goes to `image_NSC`.
        num_heads: Heads H.
    """

    def write(*inputs: Tensor) -> Tensor:
        image: Tensor = _Write.apply(*inputs, num_heads)
        return image

    return call_rows(write, keys_NRC, offsets_NR, values_NRC, image_NSC, placed_NSC)


class _Read(torch.autograd.Function):
    """The gradient of both products with the image tokens is summed in one place."""

    @staticmethod
    def forward(
        ctx: Any, keys_NRC: Tensor, offsets_NR: Tensor, image_NSC: Tensor, placed_NSC: Tensor
    ) -> Tensor:
        scores_NRS = times(keys_NRC, placed_NSC, offsets_NR[:, :, None])
        # By name, or autocast would go on in float32.
        weights_NRS = scores_NRS.softmax(2, dtype=scores_NRS.dtype)
        ctx.save_for_backward(keys_NRC, image_NSC, placed_NSC, weights_NRS)
        return times(weights_NRS, image_NSC.transpose(1, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NRC: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        keys_NRC, image_NSC, placed_NSC, weights_NRS = ctx.saved_tensors
        scores_NRS = _of_scores(times(grad_NRC, image_NSC), weights_NRS, 2)
        of_image = None
        if ctx.needs_input_grad[2]:
            of_image = _rows_times(weights_NRS, grad_NRC)
            of_image = _rows_times(scores_NRS, keys_NRC, of_image)
        return times(scores_NRS, placed_NSC.transpose(1, 2)), scores_NRS.sum(2), of_image, None


class _Write(torch.autograd.Function):
    """As `_Read`, with the residual."""

    @staticmethod
    def forward(
        ctx: Any,
        keys_NRC: Tensor,
        offsets_NR: Tensor,
        values_NRC: Tensor,
        image_NSC: Tensor,
        placed_NSC: Tensor,
        num_heads: int,
    ) -> Tensor:
        scores_NRS = times(keys_NRC, placed_NSC, offsets_NR[:, :, None])
        scores_NHTS = scores_NRS.unflatten(1, (num_heads, -1))
        weights_NHTS = scores_NHTS.softmax(2, dtype=scores_NHTS.dtype)
        ctx.save_for_backward(keys_NRC, values_NRC, placed_NSC, weights_NHTS)
        return _rows_times(weights_NHTS.flatten(1, 2), values_NRC, image_NSC)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_NSC: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None, None, None]:
        keys_NRC, values_NRC, placed_NSC, weights_NHTS = ctx.saved_tensors
        of_weights_NHTS = times(values_NRC, grad_NSC).view_as(weights_NHTS)
        scores_NRS = _of_scores(of_weights_NHTS, weights_NHTS, 2).flatten(1, 2)
        of_image = None
        if ctx.needs_input_grad[3]:
            of_image = _rows_times(scores_NRS, keys_NRC, grad_NSC)
        return (
            times(scores_NRS, placed_NSC.transpose(1, 2)),
            scores_NRS.sum(2),
            times(weights_NHTS.flatten(1, 2), grad_NSC.transpose(1, 2)),
            of_image,
            None,
            None,
        )


def _rows_times(weights_NRS: Tensor, rows_NRC: Tensor, added_NSC: Tensor | None = None) -> Tensor:
    """Return for each image token the sum of the rows, each by its weight: (N, S, C)."""
    return times(weights_NRS.transpose(1, 2), rows_NRC.transpose(1, 2), added_NSC)


def _of_scores(of_weights: Tensor, weights: Tensor, dim: int) -> Tensor:
    """Return the gradient of a softmax's input, given that of its output."""
    gradient: Tensor = torch.ops.aten._softmax_backward_data(
        of_weights, weights, dim, weights.dtype
    )
    return gradient
