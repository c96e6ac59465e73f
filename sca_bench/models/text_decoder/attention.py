"""Causal attention whose mask nobody has to look for.

transformers makes a mask for every forward pass, and looks through the position ids (for several
texts packed into one row) and through the given mask (for padding) to see whether it can do without
one. Each look makes the host wait for the device. Rows here are one text each, padded on the right
if at all, so what it would find is known.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "sca_bench_causal"
PLAIN = ("gpt2", "llama")
"""Types of models all of whose layers see everything before them, and nothing else."""


AttentionInterface.register(NAME, sdpa_attention_forward)


def attend_without_masks(language_model: Any) -> bool:
    """Let a language model attend without asking for masks, if its type is one of `PLAIN`.

    Attention is transformers' `sdpa` under another name, for which transformers makes no mask:
    torch's kernel is causal by itself where there are several queries, and the one query of a row
    that grows by a token sees all keys. A mask (N, T) given to such a model is ignored; hand in
    what `seen_from` makes of it.

    Returns:
        Whether the model does so now.
    """
    config = language_model.config
    if config.model_type not in PLAIN or config._attn_implementation != "sdpa":
        return False
    language_model.set_attn_implementation(NAME)
    return True


def seen_from(seen_NT: Tensor) -> Tensor:
    """Return what each position of each row sees, (N, 1, T, T): itself and those before it.

    Args:
        seen_NT: 0 on padding, which nobody sees.
    """
    length = seen_NT.shape[1]
    before_TT = torch.ones(length, length, dtype=torch.bool, device=seen_NT.device).tril()
    return seen_NT[:, None, None].bool() & before_TT
