import numpy as np
import pytest

from sca_bench.stats.seeds import seed_summary


def test_seed_summary():
    summary = seed_summary([1.0, 2.0, 4.0])
    assert summary.mean == pytest.approx(7 / 3)
    assert summary.sd == pytest.approx(np.sqrt(7 / 3))  # squared deviations 16/9, 1/9, 25/9, by 2
    assert summary.num_seeds == 3
    assert seed_summary([0.5]).sd is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: seed_summary([]), "non-empty"),
        (lambda: seed_summary([1.0, float("nan")]), "finite"),
    ],
)
def test_faults(call, message):
    with pytest.raises(ValueError, match=message):
        call()
