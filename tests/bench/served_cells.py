"""Measures pieces of work of one checkout, as asked: a name a line in, a line of JSON out.

`before.py` starts one process for each of two checkouts and asks them in turns. Started in a
checkout's folder of benchmarks, it builds that checkout's cells.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import torch
from vit_b_cells import DEPTHS, NEW_TOKENS, REGIONS, Cells, cost_of, rows_of

from sca_bench.captioner import Decoding


def main() -> None:
    """Build the deepest cell, and answer until the input ends."""
    torch.set_num_threads(1)
    cells = Cells.build(DEPTHS[-1:])
    features = cells.features()
    group, member = cells.group(), cells.members[0]
    batch = replace(cells.batch, pixel_values_B3HW=None, features=features)
    twice = rows_of(features, [*range(REGIONS)] * 2)

    def own_step() -> object:
        with member.rng.active():
            member.captioner.train()
            return group._step(member, batch, cells.wrappers[member.key]).item()

    def mixer() -> object:
        with torch.no_grad():
            return member.captioner.eval().query_outputs(twice).norm().item()

    def captions(num_beams: int) -> object:
        decoding = Decoding(num_beams, NEW_TOKENS)
        with torch.no_grad():
            made = member.captioner.eval().generate_ids(twice, ["caption"] * 2 * REGIONS, decoding)
        return made.ids_NL.tolist()

    pieces = {
        "own step": own_step,
        "mixer": mixer,
        "greedy": lambda: captions(1),
        "3 beams": lambda: captions(3),
    }
    print(json.dumps(list(pieces)), flush=True)
    for line in sys.stdin:
        work, seen = pieces[line.strip()], []
        cost = cost_of(lambda work=work, seen=seen: seen.append(work()))
        print(json.dumps([cost.cpu_s, cost.wall_s, seen[0]]), flush=True)


if __name__ == "__main__":
    main()
