"""How many regions are captioned at a time."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sca_bench.captioner import Decoding, KnowsItsMemory, RegionCaptioner
from sca_bench.devices.gpu import free_memory_bytes
from sca_bench.settings import RuntimeSettings

MOST = 512
"""More regions at a time give a GPU no captions a second."""
LEAST = 8
SHARE = 0.5
"""Of the free memory; the rest is for other processes, and for what the sum leaves out."""


def regions_at_a_time(
    runtime: RuntimeSettings,
    captioners: Sequence[RegionCaptioner],
    decoding: Decoding,
    device: torch.device,
    *,
    kept: bool,
) -> int:
    """Return how many regions a group captions at a time.

    Args:
        runtime: `eval_regions` decides, unless it is 0.
        captioners: Those of the group, on the device; they caption a batch one after the other.
        decoding: How captions are decoded.
        device: Where.
        kept: Whether image embeddings are read from disk; else an image's encoder takes more than
            its regions.
    """
    usual, free = runtime.regions_at_a_time, free_memory_bytes(device)
    if runtime.eval_regions or free is None or not kept:
        return usual
    known = [c.caption_bytes(decoding) for c in captioners if isinstance(c, KnowsItsMemory)]
    if len(known) < len(captioners):
        return usual
    return max(LEAST, min(MOST, int(SHARE * free / max(known))))
