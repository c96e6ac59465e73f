"""What frozen features in half precision move: weights and captions of a `tiny` cell.

    python -m pytest tests/bench/test_half_precision.py -m bench -s

Trains `num_layers=2` of mixer_layers once in float32 and once for each setting, seed 0, 20 steps,
and prints the norm of what moved relative to that of all trained weights, and the share of test
captions that changed. (After hundreds of steps any difference, in the last digit or in the third,
has grown to that of another seed.)
"""

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from sca_bench.metrics.rows import read_rows
from sca_bench.study.runs.store import PREDICTIONS, Store

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "float32": (),
    "float32, cache off": ("features.cache=off",),
    "features.dtype float16": ("features.dtype=float16",),
    "features.dtype bfloat16": ("features.dtype=bfloat16",),
    "features.encoder_dtype float16": ("features.encoder_dtype=float16",),
    "features.encoder_dtype bfloat16": ("features.encoder_dtype=bfloat16",),
}


def run(overrides, runs):
    words = ["run", str(ROOT / "ablations" / "mixer_layers.yaml"), "--only", "num_layers=2"]
    words += ["--set", "train.steps=20", "--seeds", "0", "--no-mlflow", "--runs-dir", str(runs)]
    words += [word for change in overrides for word in ("--set", change)]
    subprocess.run([sys.executable, "-m", "sca_bench", *words], check=True, capture_output=True)
    store = Store(runs)
    (record,) = store.records()
    folder = store.run_dir(record.cell_id, 0)
    captions = [row.caption for row in read_rows(folder / PREDICTIONS)]
    return record.cell_id, load_file(folder / "trainable.safetensors"), captions


def norm(weights):
    return sum(float(w.double().square().sum()) for w in weights.values()) ** 0.5


@pytest.mark.bench
def test_what_half_precision_moves(tmp_path):
    found = {name: run(changes, tmp_path / name) for name, changes in SETTINGS.items()}
    exact_id, exact, said = found["float32"]
    print()
    moved = {}
    for name, (cell_id, weights, captions) in found.items():
        moved[name] = norm({k: weights[k] - exact[k] for k in exact}) / norm(exact)
        changed = sum(a != b for a, b in zip(captions, said, strict=True)) / len(said)
        print(f"{name}: weights {moved[name]:.1e}, captions {changed:.1%}")
        assert (cell_id == exact_id) == name.startswith("float32"), "rounding is part of the key"
    assert moved["float32, cache off"] == 0.0
    assert all(moved[name] > 0 for name in SETTINGS if "float16" in name)
