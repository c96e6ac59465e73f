"""Fuzz every reader of files that may come from others; see `tests/fuzz/harness.py`."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

sys.path.insert(0, str(Path(__file__).parents[1]))

from fuzz import harness
from fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"of: {', '.join(TARGETS)} (default: all)")
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("--number", type=int, help="inputs of each (default: the target's own)")
    parser.add_argument("--only", type=int, help="one input, in this process, with its traceback")
    flags = parser.parse_args()
    if unknown := set(flags.targets) - set(TARGETS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    chosen = [TARGETS[name] for name in flags.targets or TARGETS]
    if flags.only is not None:
        return _one(chosen[0], flags.seed, flags.only)
    bad = 0
    for target in chosen:
        result = harness.fuzz(target, flags.seed, flags.number or target.number)
        print(result, flush=True)
        for finding in result.findings:
            print(f"  {finding}\n    " + "\n    ".join(finding.detail.splitlines()[-8:]))
        bad += len(result.findings)
    print(f"{bad} findings")
    return 1 if bad else 0


def _one(target: harness.Target, seed: int, index: int) -> int:
    made = Path(tempfile.mkdtemp(prefix="fuzz-"))
    (made / "seeds").mkdir()
    target.seeds(made / "seeds")
    outcome, detail = harness.try_one(target, made / "seeds", seed, index, made / "work")
    print(f"{made / 'work'}: {outcome or 'taken'}\n{detail}")
    return 0 if outcome in {"", "refused"} else 1


if __name__ == "__main__":
    sys.exit(main())
