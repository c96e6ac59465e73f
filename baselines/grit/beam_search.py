"""Search for captions: greedy, and the original's beam search with one continuation per beam.

Shape legend: N regions, K beams, R = N * K rows (beams running fastest), L tokens, V words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

_REPEATED = -10_000.0
"""Logit of the token that was just said: no token follows itself."""


class Steps(Protocol):
    """What the search asks of a text decoder."""

    def next_logits(self, ids_RT: Tensor) -> Tensor:
        """Return the logits (R, V) of the token after each row."""
        ...

    def expand(self, beams: int) -> None:
        """Go on with `beams` rows per region."""
        ...

    def reorder(self, rows_R: Tensor) -> None:
        """Let row i go on from what row `rows_R[i]` has said."""
        ...


@dataclass(frozen=True)
class Captions:
    """Captions of N regions, K per region, best first.

    Attributes:
        ids_NKL: Begin token, words, then end tokens to the width of the longest.
        log_prob_NK: Mean log-probability of words and end token (at least one token).
    """

    ids_NKL: Tensor
    log_prob_NK: Tensor


def search(
    steps: Steps, begin_N: Tensor, end_token: int, *, max_tokens: int, beams: int = 1
) -> Captions:
    """Search as GRiT does.

    The first token's `beams` best choices each start a beam; from then on every beam has one
    continuation, its best, so beams differ by their first token only and are ranked by their sum
    of log-probabilities. No token follows itself; the first one may. No length penalty.

    Where greedy search ends every caption at once, the original returns the end tokens without the
    begin token; here the begin token is always there.

    Args:
        steps: The decoder, standing before the begin token.
        begin_N: Begin token of each region.
        end_token: The token that ends a caption.
        max_tokens: Longest caption, begin token included.
        beams: 1 is greedy.

    Raises:
        ValueError: Fewer than two tokens, or no beam.
    """
    if max_tokens < 2 or beams < 1:
        raise ValueError(f"max_tokens {max_tokens}, beams {beams}: need at least 2 and 1")
    num_regions = len(begin_N)
    first_NV = steps.next_logits(begin_N[:, None]).float().log_softmax(-1)
    total_NK, words_NK = first_NV.topk(beams)
    ids_RL = torch.stack([begin_N.repeat_interleave(beams), words_NK.flatten()], dim=1)
    if beams > 1:
        steps.expand(beams)
    while ids_RL.shape[1] < max_tokens:
        last_R = ids_RL[:, -1]
        ended_R = last_R == end_token
        if ended_R.all():
            break
        logits_RV = steps.next_logits(ids_RL).float()
        logits_RV = logits_RV.scatter(1, last_R[:, None], _REPEATED)
        gain_R, word_R = logits_RV.log_softmax(-1).max(-1)
        word_R = torch.where(ended_R, end_token, word_R)
        total_NK = total_NK + torch.where(ended_R, 0.0, gain_R).view(num_regions, beams)
        ids_RL = torch.cat([ids_RL, word_R[:, None]], dim=1)
        if beams > 1:
            total_NK, order_NK = total_NK.topk(beams)
            offset_N1 = torch.arange(num_regions, device=order_NK.device)[:, None] * beams
            rows_R = (order_NK + offset_N1).flatten()
            ids_RL = ids_RL[rows_R]
            steps.reorder(rows_R)
    ids_NKL = ids_RL.view(num_regions, beams, -1)
    ends_NKL = ids_NKL[:, :, 1:] == end_token
    num_tokens_NK = (~ends_NKL).sum(-1) + ends_NKL.any(-1)
    return Captions(ids_NKL, total_NK / num_tokens_NK.clamp(min=1))
