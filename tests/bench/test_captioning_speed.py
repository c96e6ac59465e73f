"""Captions of 16 regions from kept features, beside the code before and beside their arithmetic.

Depth 12, GPT-2, one thread; 3 beams and greedy, 19 tokens each, for untrained captions never end.

OMP_NUM_THREADS=1 python -m pytest tests/bench/test_captioning_speed.py -m bench -n 0 -s
"""

import pytest
import torch
from before import in_turns
from torch.utils.flop_counter import FlopCounterMode
from vit_b_cells import DEPTHS, MOST_REPEATS, NEW_TOKENS, QUICK, REGIONS, Cells, cost_of, rows_of

from sca_bench.captioner import Decoding

PIECES = {"greedy": 1, "3 beams": 3}
MOST_OF_BEFORE = 0.5
MOST_OF_ARITHMETIC = 1.8
SIDE = 1024
"""Rows and columns of the product that says what a core can do."""


def flops_a_second() -> float:
    """Return what one core does in a product of two large matrices."""
    one = torch.randn(SIDE, SIDE)
    best_s = min(cost_of(lambda: one @ one).cpu_s for _ in range(10))
    return 2 * SIDE**3 / best_s


def counted() -> dict[str, int]:
    """Return the floating-point operations of each piece of work, those of products alone."""
    cells = Cells.build(DEPTHS[-1:])
    features = rows_of(cells.features(), [*range(REGIONS)] * 2)
    captioner, found = cells.members[0].captioner.eval().requires_grad_(False), {}
    for piece, beams in PIECES.items():
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            captioner.generate_ids(features, ["caption"] * 2 * REGIONS, Decoding(beams, NEW_TOKENS))
        found[piece] = counter.get_total_flops()
    return found


@pytest.mark.bench
def test_captions_take_half_of_before_and_come_near_their_arithmetic(tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        flops = counted()
        rates = [flops_a_second()]
        found = in_turns(tmp_path, tuple(PIECES))
        rates.append(flops_a_second())
    finally:
        torch.set_num_threads(threads)
    if found is None:
        pytest.skip("git does not know the commit before")
    shares = {}
    for piece in PIECES:
        (before, old_ids), (now, ids) = found["before", piece], found["now", piece]
        assert ids == old_ids
        limit_s = flops[piece] / max(rates)
        shares[piece] = (now.cpu_s / before.cpu_s, now.cpu_s / limit_s)
        print(
            f"\n{piece}, {2 * REGIONS} regions, least of {MOST_REPEATS}: "
            f"before {before.cpu_s:.2f}, now {now.cpu_s:.2f} CPU s: {shares[piece][0]:.2f}; "
            f"{flops[piece] / 1e9:.0f} GFLOP at {max(rates) / 1e9:.0f} a second are "
            f"{limit_s:.2f} s: {shares[piece][1]:.2f} times that",
            end="",
        )
    print()
    if QUICK:
        return
    for piece, (of_before, of_arithmetic) in shares.items():
        assert of_before <= MOST_OF_BEFORE, piece
        assert of_arithmetic <= MOST_OF_ARITHMETIC, piece
