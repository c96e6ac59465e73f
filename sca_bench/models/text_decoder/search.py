"""Greedy decoding and beam search over rows of a language model, as transformers defines them.

The library's own loop reads the prefix once for every beam, copies all keys and values twice a
token, asks the device twice a token whether to go on, and cannot say what the chosen words scored
without keeping every word's score. Here are the same rules without that.

Shape legend: N regions, B beams, K candidates (2 B), R rows (N, or N times B with beams running
fastest), L tokens, D width of the language model, V vocabulary.

Source: transformers' `GenerationMixin._sample` and `_beam_search`, with `length_penalty` 1,
`early_stopping` False, and one end token, which is the padding as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

NEVER = -1e9
"""Score of what is not to be chosen."""


class Rows(Protocol):
    """What decoding asks of a language model that has read N prefixes."""

    hidden_RD: Tensor

    def expand(self, beams: int) -> None:
        """Go on with `beams` rows for each."""

    def reorder(self, rows_R: Tensor) -> None:
        """Let row i go on from what row `rows_R[i]` has said."""

    def step(self, ids_R: Tensor) -> Tensor:
        """Read one more token of each row; return hidden states (R, D)."""


Head = Callable[[Tensor], Tensor]
"""From hidden states (R, D) to logits (R, V)."""


class Generated(NamedTuple):
    """Decoded sequences.

    Attributes:
        ids_NL: Token ids; behind the end token, the end token again.
        lengths_N: Tokens of each, end token included.
        log_prob_N: Mean log-probability of those tokens.
    """

    ids_NL: Tensor
    lengths_N: Tensor
    log_prob_N: Tensor


def greedy(rows: Rows, head: Head, end: int, max_new_tokens: int) -> Generated:
    """Take the likeliest word of every step, until all rows have ended."""
    ids: list[Tensor] = []
    hidden_RD = rows.hidden_RD
    open_N = torch.ones(len(hidden_RD), dtype=torch.bool, device=hidden_RD.device)
    lengths_N = torch.zeros_like(open_N, dtype=torch.long)
    total_N = torch.zeros_like(open_N, dtype=torch.float)
    while True:
        logits_NV = head(hidden_RD).float()
        best_N, chosen_N = logits_NV.max(-1)
        total_N += (best_N - logits_NV.logsumexp(-1)).masked_fill(~open_N, 0.0)
        lengths_N += open_N
        ids.append(chosen_N.where(open_N, end))
        open_N = open_N & (chosen_N != end)
        if len(ids) == max_new_tokens or not bool(open_N.any()):
            return Generated(torch.stack(ids, dim=1), lengths_N, total_N / lengths_N)
        hidden_RD = rows.step(ids[-1])


def beam_search(rows: Rows, head: Head, end: int, max_new_tokens: int, beams: int) -> Generated:
    """Keep the `beams` likeliest beginnings; return of each row the best that has ended.

    What has ended competes by its mean log-probability. A region is done once its best open
    beginning, at its length of now, scores lower than all `beams` that have ended.
    """
    num, device = len(rows.hidden_RD), rows.hidden_RD.device
    state = Beams(num, beams, end, max_new_tokens, device)
    hidden_RD = rows.hidden_RD
    first_row_N1 = torch.arange(num, device=device)[:, None] * beams
    for length in range(1, max_new_tokens + 1):
        rows_NB = state.grow(head(hidden_RD).float(), length)
        if length == max_new_tokens or not bool(state.improvable_N1.any()):
            break
        if length == 1:
            rows.expand(beams)  # which of the beams, all alike, a word comes from means nothing
        else:
            rows.reorder((rows_NB + first_row_N1).flatten())
        hidden_RD = rows.step(state.open_ids_NBL[:, :, length - 1].flatten())
    ids_NL, lengths_N = state.ended_ids_NBL[:, 0], state.ended_lengths_NB[:, 0]
    return Generated(ids_NL[:, : int(lengths_N.max())], lengths_N, state.ended_scores_NB[:, 0])


class Beams:
    """Beginnings that are open, and the best captions that have ended, of N regions."""

    def __init__(
        self, num: int, beams: int, end: int, max_new_tokens: int, device: torch.device
    ) -> None:
        self.beams, self.end, self.max_new_tokens = beams, end, max_new_tokens
        shape = (num, beams)
        self.open_ids_NBL = torch.full((*shape, max_new_tokens), end, device=device)
        self.open_scores_NB = torch.zeros(shape, device=device)
        self.open_scores_NB[:, 1:] = NEVER  # at first all beams are alike
        self.ended_ids_NBL = self.open_ids_NBL.clone()
        self.ended_scores_NB = torch.full(shape, NEVER, device=device)
        self.ended_lengths_NB = torch.zeros(shape, dtype=torch.long, device=device)
        self.has_ended_NB = torch.zeros(shape, dtype=torch.bool, device=device)
        self.improvable_N1 = torch.ones(num, 1, dtype=torch.bool, device=device)

    def grow(self, logits_RV: Tensor, length: int) -> Tensor:
        """Give the open beginnings their `length`-th token; return the beam each comes from."""
        scores_NK, from_NK, words_NK = self._candidates(logits_RV)
        ids_NKL = _of_beams(self.open_ids_NBL, from_NK)
        ids_NKL[:, :, length - 1] = words_NK
        ends_NK = words_NK == self.end
        if length == self.max_new_tokens:
            ends_NK = torch.ones_like(ends_NK)
        # Of twice as many candidates at least `beams` have not ended.
        open_scores_NK = scores_NK + ends_NK * NEVER
        next_NB = open_scores_NK.topk(self.beams).indices
        self._collect(scores_NK, ids_NKL, ends_NK, length)
        self.open_ids_NBL = _of_beams(ids_NKL, next_NB)
        self.open_scores_NB = open_scores_NK.gather(1, next_NB)
        worst_NB = self.ended_scores_NB.amin(1, keepdim=True).where(self.has_ended_NB, NEVER)
        hope_N1 = self.open_scores_NB[:, :1] / length
        self.improvable_N1 = self.improvable_N1 & (hope_N1 > worst_NB).any(1, keepdim=True)
        return from_NK.gather(1, next_NB)

    def _candidates(self, logits_RV: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the best 2 B of all beams' words: scores, beams and words, each (N, K)."""
        num, wanted = len(self.open_scores_NB), 2 * self.beams
        kept = min(wanted, logits_RV.shape[1])
        log_probs_RK, words_RK = logits_RV.log_softmax(-1).topk(kept)
        # Before the first token there is one row for all beams of a region.
        log_probs_NBK = log_probs_RK.unflatten(0, (num, -1)).expand(-1, self.beams, -1)
        words_NBK = words_RK.unflatten(0, (num, -1)).expand(-1, self.beams, -1)
        scores_NC = (log_probs_NBK + self.open_scores_NB[:, :, None]).flatten(1)
        scores_NK, places_NK = scores_NC.topk(wanted)
        words_NK = words_NBK.flatten(1).gather(1, places_NK)
        return scores_NK, places_NK // kept, words_NK

    def _collect(self, scores_NK: Tensor, ids_NKL: Tensor, ends_NK: Tensor, length: int) -> None:
        """Let the candidates that end compete with what has ended."""
        counts_NK = ends_NK.clone()
        counts_NK[:, self.beams :] = False  # the other candidates are a reserve of open ones
        means_NK = scores_NK / length + ~self.improvable_N1 * NEVER + ~counts_NK * NEVER
        merged = torch.cat([self.ended_scores_NB, means_NK], dim=1)
        best_NB = merged.topk(self.beams).indices
        self.ended_scores_NB = merged.gather(1, best_NB)
        self.ended_ids_NBL = _of_beams(torch.cat([self.ended_ids_NBL, ids_NKL], 1), best_NB)
        new_NK = torch.full_like(ids_NKL[:, :, 0], length)
        lengths = torch.cat([self.ended_lengths_NB, new_NK], 1)
        self.ended_lengths_NB = lengths.gather(1, best_NB)
        self.has_ended_NB = torch.cat([self.has_ended_NB, counts_NK], 1).gather(1, best_NB)


def _of_beams(values_NBL: Tensor, beams_NK: Tensor) -> Tensor:
    return values_NBL.gather(1, beams_NK[:, :, None].expand(-1, -1, values_NBL.shape[2]))
