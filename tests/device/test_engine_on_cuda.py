"""Every registered variant goes through the engine on CUDA, and gives what it gives on a CPU.

A variant is covered by being registered. Cells that a plan would put in one group run as one.
"""

import functools
import re
import tomllib
from pathlib import Path

import pytest

from device.cells import VARIANTS, make_believe, run_all, smallest

CHANGES = {
    "mixer.dropout": 0.0,
    "text_decoder.dropout_in_training": False,
    "train.learning_rate": 1e-4,  # AdamW makes a whole step of the smallest gradient
}
WAYS = [("fp32", "off"), ("fp32", "encoder"), ("fp16", "off"), ("fp16", "encoder")]


def tells_more(name, precision, cache):
    """Say whether a way is another one for a variant: for what it computes, and what is kept."""
    spec = VARIANTS[name]
    return (precision == "fp32" or spec.looks) and (cache == "off" or bool(spec.parts))


RUNS = [(name, *way) for way in WAYS for name in VARIANTS if tells_more(name, *way)]
NOISE = re.compile(r"\b(k_proj|key)\.bias$")
"""A key's bias adds the same to all scores of a query, which softmax takes away: its gradient is
rounding alone, and AdamW makes whole steps of that."""
ATOL = {"ghost": 1e-5, "cuda": 1e-4}
"""By how much weights may differ, as a root mean square."""


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Return a function: device, precision, cache -> what each variant left, all run once."""

    @functools.cache
    def found(kind, precision, cache):
        folder = tmp_path_factory.mktemp(f"{kind}-{precision}-{cache}")
        changes = {**CHANGES, "train.precision": precision, "features.cache": cache}
        names = [name for name, *way in RUNS if way == [precision, cache]]
        cells = {name: smallest(name, folder / name, changes) for name in names}
        with make_believe(kind) as device:
            return run_all(cells, folder / "runs", device)

    return found


def rms(tensor):
    return float(tensor.square().mean().sqrt())


def test_no_variant_of_this_package_is_left_out():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert set(project["project"]["entry-points"]["sca_bench.variants"]) <= VARIANTS.keys()


@pytest.mark.usefixtures("training")
@pytest.mark.parametrize(("name", "precision", "cache"), RUNS)
def test_a_variant_runs_there_as_here(name, precision, cache, device_kind, ran):
    there, here = ran(device_kind, precision, cache)[name], ran("cpu", "fp32", "off")[name]
    assert not isinstance(here, str), here
    assert not isinstance(there, str), there
    assert there.record.error == ""
    assert there.record.status == here.record.status == "done"
    assert len(there.captions) == len(here.captions) > 0
    assert there.weights.keys() == here.weights.keys()
    assert len(there.losses) == len(here.losses)
    if precision == "fp32":
        assert there.captions == here.captions
        atol = ATOL[device_kind]
        pairs = {key: (here.weights[key], there.weights[key]) for key in here.weights}
        apart = {key: rms(one - other) for key, (one, other) in pairs.items()}
        assert {key: by for key, by in apart.items() if by > atol and not NOISE.search(key)} == {}
    assert there.losses == pytest.approx(here.losses, rel=1e-4 if precision == "fp32" else 0.05)
