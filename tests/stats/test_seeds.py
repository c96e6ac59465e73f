import numpy as np
import pytest

from sca_bench.stats.seeds import (
    Interval,
    image_bootstrap,
    seed_summary,
)


def test_seed_summary():
    summary = seed_summary([1.0, 2.0, 4.0])
    assert summary.mean == pytest.approx(7 / 3)
    assert summary.sd == pytest.approx(np.sqrt(7 / 3))  # squared deviations 16/9, 1/9, 25/9, by 2
    assert summary.num_seeds == 3
    assert seed_summary([0.5]).sd is None


def test_two_images_by_hand():
    """Draws of two images: both A (mean 0), both B (mean 1), one of each (mean 1/4)."""
    values, images = [0.0, 0.0, 0.0, 1.0], ["A", "A", "A", "B"]
    interval = image_bootstrap(values, images, n=4000, level=0.4)
    assert interval == Interval(0.25, 0.25, 0.25)
    assert image_bootstrap(values, images, n=4000, level=0.95) == Interval(0.25, 0.0, 1.0)


def test_one_image_has_no_interval():
    assert image_bootstrap([0.0, 1.0], ["A", "A"]) == Interval(0.5, None, None)


def test_constant_values_give_a_point():
    assert image_bootstrap([0.3] * 6, list("AABBCC")).low == pytest.approx(0.3)


def test_regions_of_one_image_are_no_independent_draws():
    """Ten equal regions an image: as wide as one region an image, not sqrt(10) narrower."""
    rng = np.random.default_rng(3)
    per_image = rng.normal(size=200)
    images = [str(i) for i in range(200)]
    one = image_bootstrap(per_image, images, n=2000)
    ten = image_bootstrap(np.repeat(per_image, 10), np.repeat(images, 10).tolist(), n=2000)
    naive = image_bootstrap(np.repeat(per_image, 10), [str(i) for i in range(2000)], n=2000)
    width = one.high - one.low
    assert ten.high - ten.low == pytest.approx(width, rel=0.01)
    assert naive.high - naive.low == pytest.approx(width / np.sqrt(10), rel=0.1)
    assert width == pytest.approx(2 * 1.96 * per_image.std() / np.sqrt(200), rel=0.08)


def test_coverage():
    """Of 200 simulated samples about 95 % of the intervals hold the true mean."""
    rng = np.random.default_rng(11)
    images = [str(i // 3) for i in range(180)]
    held = 0
    for trial in range(200):
        effect = np.repeat(rng.normal(size=60), 3)
        interval = image_bootstrap(effect + rng.normal(size=180), images, n=300, seed=trial)
        held += interval.low <= 0 <= interval.high
    assert 0.90 <= held / 200 <= 0.99


def test_seed_is_honoured_and_the_global_generator_is_not_touched():
    values, images = np.random.default_rng(0).random(50), [str(i) for i in range(50)]
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first = image_bootstrap(values, images, seed=4)
    assert np.array_equal(np.random.get_state()[1], before)
    np.random.seed(2)
    assert image_bootstrap(values, images, seed=4) == first
    assert image_bootstrap(values, images, seed=5) != first


def test_chunks_do_not_change_the_draws(monkeypatch):
    values, images = np.random.default_rng(0).random(50), [str(i) for i in range(50)]
    whole = image_bootstrap(values, images)
    monkeypatch.setattr("sca_bench.stats.seeds._CHUNK", 130)
    assert image_bootstrap(values, images) == whole


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: seed_summary([]), "non-empty"),
        (lambda: seed_summary([1.0, float("nan")]), "finite"),
        (lambda: image_bootstrap([1.0, 2.0], ["A"]), "2 values, 1 image ids"),
        (lambda: image_bootstrap([1.0], ["A"], n=0), "n >= 1"),
        (lambda: image_bootstrap([1.0], ["A"], level=95), "level=95"),
    ],
)
def test_faults(call, message):
    with pytest.raises(ValueError, match=message):
        call()
