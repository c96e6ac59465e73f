import numpy as np
import pytest

from sca_bench.stats import bootstrap as resampling
from sca_bench.stats.bootstrap import (
    CellScores,
    cell_scores,
    image_weights,
    mean_combine,
    resample,
)
from sca_bench.stats.seeds import image_bootstrap


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
