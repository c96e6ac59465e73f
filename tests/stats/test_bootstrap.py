import numpy as np
import pytest

from sca_bench.stats import bootstrap as resampling
from sca_bench.stats.bootstrap import (
    CellScores,
    Interval,
    cell_scores,
    image_bootstrap,
    image_weights,
    mean_combine,
    resample,
)


def geometric(sums, counts):
    """A corpus score that is no mean over regions: two precisions and a brevity penalty."""
    precisions = sums[..., 0] / sums[..., 1] * sums[..., 2] / sums[..., 3]
    length = sums[..., 1] / (sums[..., 3] + counts)
    return np.sqrt(precisions) * np.exp(np.minimum(0.0, 1 - 1 / length))


@pytest.fixture
def corpus():
    """Two seeds, 60 regions in 17 images, four columns."""
    rng = np.random.default_rng(2)
    images = np.concatenate([np.arange(17), rng.integers(17, size=43)])
    total = rng.integers(6, 12, size=(2, 60, 1)).astype(float)
    values = np.concatenate([total * 0.6, total, (total - 1) * 0.3, total - 1], axis=2)
    values[:, :, [0, 2]] *= rng.random((2, 60, 2))
    return values, images


def test_sums_by_hand():
    cell = cell_scores([[1.0, 2.0, 4.0], [0.0, 1.0, 1.0]], ["b", "a", "b"])
    assert cell.sums.tolist() == [[[2.0], [5.0]], [[1.0], [1.0]]]
    assert cell.counts.tolist() == [1.0, 2.0]
    assert (cell.num_seeds, cell.num_images, cell.num_regions) == (2, 2, 3)
    assert cell.scores() == pytest.approx([7 / 3, 2 / 3])
    assert cell.covers_seeds
    assert not cell_scores([[1.0]], ["a"]).covers_seeds
    assert cell_scores([[1.0]], ["a"], trained=False).covers_seeds


def test_scores_of_any_kind_of_number_are_summed_in_double_precision():
    """Sums of float32 would be off by more than rounding; a mean is that of the first column."""
    tenths = np.full((1, 1000), 0.1, dtype=np.float32)
    cell = cell_scores(tenths, ["a"] * 1000)
    assert cell.sums.dtype == np.float64
    assert cell.sums.item() == pytest.approx(1000 * float(np.float32(0.1)), rel=1e-12)
    mean = mean_combine(np.float32([[1.0, 5.0]]), np.float32([3.0]))
    assert (mean.dtype, mean.shape) == (np.float64, (1,))


def test_the_order_of_regions_does_not_matter(corpus):
    values, images = corpus
    order = np.random.default_rng(0).permutation(60)
    one, other = cell_scores(values, images), cell_scores(values[:, order], images[order])
    assert np.array_equal(one.counts, other.counts)
    assert one.sums == pytest.approx(other.sums)


def test_a_resample_is_the_corpus_rebuilt(corpus):
    """Every resample equals scoring the regions of its images, each as often as it was drawn."""
    values, images = corpus
    weights = image_weights(17, n=25, seed=4)
    (found,) = resample([cell_scores(values, images, geometric)], weights)
    for number, row in enumerate(weights.astype(int)):
        drawn = np.repeat(np.arange(17), row)
        regions = np.concatenate([np.flatnonzero(images == image) for image in drawn])
        rebuilt = values[:, regions].sum(axis=1)
        expected = geometric(rebuilt, np.full(2, float(regions.size)))
        assert found.draws[:, number] == pytest.approx(expected, rel=1e-12)
    assert found.scores == pytest.approx(geometric(values.sum(axis=1), np.full(2, 60.0)))


def test_the_draws_are_those_of_image_bootstrap(corpus):
    values, images = corpus
    (found,) = resample([cell_scores(values[:1, :, 0], images)], image_weights(17, 500, seed=9))
    # image_bootstrap sorts ids as text.
    interval = image_bootstrap(values[0, :, 0], [f"{i:02}" for i in images], n=500, seed=9)
    assert np.quantile(found.draws[0], [0.025, 0.975]) == pytest.approx(
        [interval.low, interval.high]
    )


def test_weights_are_multinomial_counts(monkeypatch):
    weights = image_weights(5, n=20_000, seed=1)
    assert weights.shape == (20_000, 5)
    assert weights.dtype == np.float64
    assert (weights.sum(axis=1) == 5).all()
    covariance = np.cov(weights.T)
    expected = np.eye(5) - 1 / 5  # n p (1 - p) and -n p p with n = 5, p = 1/5
    assert covariance == pytest.approx(expected, abs=0.03)
    assert np.array_equal(image_weights(5, 30, seed=1), weights[:30])
    monkeypatch.setattr(resampling, "_DRAWS", 17)
    assert np.array_equal(image_weights(5, 30, seed=1), weights[:30])


def test_cells_together_equal_cells_apart(corpus, monkeypatch):
    values, images = corpus
    cells = [
        cell_scores(values, images, geometric),
        cell_scores(values[:1, :, 0], images),
        cell_scores(values[::-1], images, geometric),
    ]
    together = resample(cells)
    monkeypatch.setattr(resampling, "_ELEMENTS", 140)
    for whole, part, cell in zip(together, resample(cells), cells, strict=True):
        assert whole.draws == pytest.approx(part.draws, rel=1e-13)
        assert whole.draws == pytest.approx(resample([cell])[0].draws, rel=1e-13)
        assert whole.draws.shape == (cell.num_seeds, 1000)
    assert resample([]) == []


def test_one_image_has_no_draws():
    (found,) = resample([cell_scores([[1.0, 2.0]], ["a", "a"])])
    assert found.draws.shape == (1, 0)
    assert found.scores.tolist() == [1.5]


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
    monkeypatch.setattr(resampling, "_DRAWS", 130)
    assert image_bootstrap(values, images) == whole


RECORDED = {
    (50, 50, 1000, 0, 0.95): "0x1.ff2865259f3a8p-2 0x1.9756076b4517cp-2 0x1.2ffe6e32f1682p-1",
    (300, 37, 500, 4, 0.95): "0x1.00406b2526477p-1 0x1.ed15b02d7e7f6p-2 0x1.09a0ecfb709d8p-1",
    (40, 3, 1000, 7, 0.9): "0x1.eeecbe0291550p-2 0x1.937f0727239e2p-2 0x1.1013e8d9e6344p-1",
}
"""Regions, images, resamples, seed and level -> mean, lower and upper end, of an older version."""


@pytest.mark.parametrize("given", RECORDED)
def test_intervals_are_those_recorded_to_the_last_bit(given):
    num, num_images, n, seed, level = given
    values = [(k * 389) % 997 / 997 for k in range(num)]
    images = [f"image {k * k % num_images}" for k in range(num)]
    found = image_bootstrap(values, images, n, seed, level)
    assert " ".join(x.hex() for x in (found.mean, found.low, found.high)) == RECORDED[given]


SMALL = cell_scores([[1.0, 2.0]], ["a", "b"])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cell_scores([1.0, 2.0], ["a", "b"]), r"expected \(seeds, regions"),
        (lambda: cell_scores([[]], []), r"expected \(seeds, regions"),
        (lambda: cell_scores([[1.0, 2.0]], ["a"]), "2 regions, image ids of shape"),
        (lambda: cell_scores([[1.0, np.nan]], ["a", "b"]), "finite"),
        (lambda: CellScores(np.ones((1, 2)), np.ones(2), mean_combine), r"got \(1, 2\)"),
        (lambda: CellScores(np.ones((1, 2, 1)), np.ones(3), mean_combine), "expected 2"),
        (lambda: CellScores(np.ones((1, 2, 1)), np.zeros(2), mean_combine), "one region"),
        (lambda: image_weights(0), "at least 1"),
        (lambda: image_weights(3, n=0), "at least 1"),
        (lambda: image_bootstrap([1.0, 2.0], ["A"]), "2 values, 1 image ids"),
        (lambda: image_bootstrap([], []), "^values_per_region: expected a non-empty list"),
        (lambda: image_bootstrap([1.0], ["A"], n=0), "n >= 1"),
        (lambda: image_bootstrap([1.0], ["A"], level=95), "level=95"),
        (lambda: resample([SMALL], np.ones((5, 3))), r"expected \(resamples, 2\)"),
        (lambda: resample([SMALL], np.ones((1, 2))), "at least 2"),
        (lambda: resample([SMALL], -np.ones((5, 2))), "not negative"),
        (lambda: resample([SMALL], np.zeros((5, 2))), "holds no image"),
        (lambda: resample([SMALL, cell_scores([[1.0, 2.0]], ["a", "a"])]), "different images"),
        (lambda: resample([cell_scores([[1.0, 2.0]], "ab", mean_combine)]), "shape"),
        (lambda: cell_scores([[1.0]], ["a"], lambda s, n: s).scores(), "expected shape"),
        (lambda: cell_scores([[1.0]], ["a"], lambda s, n: n * np.inf).scores(), "not finite"),
    ],
)
def test_faults(call, message):
    with pytest.raises(ValueError, match=message):
        call()
