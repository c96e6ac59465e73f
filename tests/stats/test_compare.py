import numpy as np
import pytest
from scipy.stats import t as student
from two_level_bootstrap import two_level_bootstrap

from sca_bench.stats.bootstrap import cell_scores, image_weights, resample
from sca_bench.stats.compare import compare, compare_means, compare_resampled, estimate
from sca_bench.stats.variance import degrees

EXACT = np.array([[2.0, 0.0], [1.0, 1.0], [1.0, 1.0], [0.0, 2.0]])
"""All resamples of two images, as often as they come."""
IDS = ["x", "y"]


def test_two_cells_by_hand():
    """Image variance, seed variance, interaction and degrees of freedom, worked out on paper.

    a's seeds score 2 and 4; resampled means over seeds are 2, 3, 3, 4, variance 2/3, times
    I / (I - 1) = 2. Its seeds move together: no interaction. Seed variance 2, of the mean 1.
    b's seeds both score 1/2, variance 0, and move against each other: deviations -1/2, 0, 0, 1/2 of
    each, summed variance 1/3, times 2 = 2/3 of interaction, of the mean 1/3. Of the resampled
    differences' variance, 4/3, that leaves 1 to images alone.
    """
    a = cell_scores([[1.0, 3.0], [3.0, 5.0]], IDS)
    b = cell_scores([[0.0, 1.0], [1.0, 0.0]], IDS)
    found = compare(a, b, EXACT)
    assert found.difference == pytest.approx(2.5)
    assert found.se_images == pytest.approx(1.0)
    assert found.se_seeds == pytest.approx(1.0)
    assert found.se == pytest.approx(np.sqrt(2))
    # One degree of freedom of images (less of resamples: floored), one of seeds; two together.
    quantile = np.sqrt((student.ppf(0.975, 2) ** 2 + student.ppf(0.975, 1) ** 2) / 2)
    assert student.ppf(0.975, found.df) == pytest.approx(quantile)
    half = quantile * np.sqrt(2)
    assert (found.low, found.high) == pytest.approx((2.5 - half, 2.5 + half))
    assert found.p == pytest.approx(2 * student.sf(2.5 / np.sqrt(2), found.df))
    assert (found.num_seeds, found.num_images, found.num_regions) == ((2, 2), 2, 2)
    assert found.covers_seeds
    assert found.approximate == (
        "two seeds say little of how far seeds lie apart and "
        "2 test images are few where scores are skewed"
    )
    first, second = found.parts
    assert (first.square, first.seeds, first.interaction) == pytest.approx((2.0, 2.0, 0.0))
    assert (second.square, second.seeds, second.interaction) == pytest.approx((0.0, 0.0, 2 / 3))


def test_one_cell_by_hand():
    found = estimate(cell_scores([[1.0, 3.0], [3.0, 5.0]], IDS), EXACT)
    assert found.value == pytest.approx(3.0)
    assert (found.se_images, found.se_seeds) == pytest.approx((np.sqrt(4 / 3), 1.0))
    assert found.low == pytest.approx(3.0 - student.ppf(0.975, found.df) * found.se)
    assert (found.num_seeds, found.num_images, found.num_regions) == (2, 2, 2)
    assert found.covers_seeds


def test_numbers_are_those_recorded():
    """Of an older version. Sums of whole numbers: no order of addition is in them."""
    images = [k // 3 for k in range(90)]
    a = cell_scores([[k * k % 11 + s for k in range(90)] for s in (0, 2, 3)], images)
    b = cell_scores([[k * 7 % 13 + s for k in range(90)] for s in (0, 1)], images)
    found = compare(a, b)
    assert found.difference.hex() == "-0x1.d27d27d27d280p-1"
    assert found.se.hex() == "0x1.26c9a61358492p+0"
    assert found.se_images.hex() == "0x1.1798507c14b7fp-1"
    assert found.se_seeds.hex() == "0x1.0387fcced3d7cp+0"
    assert found.df == pytest.approx(2.5944663655792564, rel=1e-9)
    assert (found.low, found.high) == pytest.approx(
        (-4.922103033647863, 3.09988081142564), rel=1e-9
    )
    assert found.p == pytest.approx(0.494722227477527, rel=1e-9)


@pytest.fixture
def cells():
    rng = np.random.default_rng(8)
    images = rng.integers(40, size=150)
    shared = rng.normal(size=150)
    a, b = (cell_scores(shared + 0.3 * rng.normal(size=(3, 150)), images) for _ in "ab")
    return a, b


def test_swapping_cells_mirrors(cells):
    a, b = cells
    one, other = compare(a, b), compare(b, a)
    assert one.difference == -other.difference
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.p == pytest.approx(other.p)
    assert one.p_value_above(0.1) == pytest.approx(other.p_value_below(-0.1))


def test_p_and_interval_agree(cells):
    """The two-sided p is the level at which the interval ends at zero; one-sided p at its ends."""
    found = compare(*cells)
    at_zero = compare(*cells, level=1 - found.p)
    assert min(abs(at_zero.low), abs(at_zero.high)) < 1e-10
    assert found.p_value_above(found.high) == pytest.approx(0.025)
    assert found.p_value_below(found.low) == pytest.approx(0.025)
    assert found.p_value_above(0.0) == pytest.approx(1 - found.p_value_below(0.0))


def test_many_at_once_equal_one_by_one(cells):
    a, b = cells
    weights = image_weights(a.num_images, 300)
    first, second = resample([a, b], weights)
    assert compare_resampled(first, second).se == pytest.approx(compare(a, b, weights).se)


def test_pairing_narrows(cells):
    a, b = cells
    assert compare(a, b).se_images < 0.5 * estimate(a).se_images


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("trained", [True, False])
def test_identical_cells(seeds, trained):
    values = np.random.default_rng(0).random((1, 30)).repeat(seeds, axis=0)
    cell = cell_scores(values, np.arange(30) // 3, trained=trained)
    turned = cell_scores(values[::-1] + 0.0, np.arange(30) // 3, trained=trained)
    found = compare(cell, turned)
    assert (found.difference, found.low, found.high, found.se, found.p) == (0, 0, 0, 0, 1)
    assert (found.p_value_above(0.1), found.p_value_above(0.0)) == (0.5**10, 0.5)


def test_rounding_is_no_difference():
    """Seeds averaged in another order differ in the last digit and in nothing else."""
    values = np.random.default_rng(0).random((3, 30)) * 0.1
    a, b = (cell_scores(v, np.arange(30) // 3, trained=False) for v in (values, values[[2, 0, 1]]))
    found = compare(a, b)
    assert (found.difference, found.se, found.p) == (0.0, 0.0, 1.0)


def test_a_difference_that_nothing_moves():
    found = compare(*(cell_scores([[v] * 6], list("aabbcc"), trained=False) for v in (0.5, 0.25)))
    assert (found.low, found.high, found.p) == (0.25, 0.25, 0.25)  # three images agree


def test_one_seed_covers_images_only(cells):
    a, b = cells
    single = cell_scores(np.random.default_rng(1).random((1, 60)), np.arange(60) // 3)
    untrained = cell_scores(np.ones((1, 60)), np.arange(60) // 3, trained=False)
    assert not estimate(single).covers_seeds
    assert estimate(single).se_seeds is None
    found = compare(single, untrained)
    assert not found.covers_seeds
    assert found.se_seeds is None
    assert found.se == found.se_images
    plain = compare(untrained, cell_scores(np.zeros((1, 60)), np.arange(60) // 3, trained=False))
    assert plain.covers_seeds
    assert plain.se_seeds == 0.0
    assert compare(a, b).covers_seeds


def test_one_image_has_no_interval():
    one = cell_scores([[1.0, 2.0], [2.0, 4.0]], ["a", "a"])
    found = compare(one, cell_scores([[1.0, 1.0]], ["a", "a"]))
    assert found.difference == pytest.approx(1.25)
    assert (found.low, found.high, found.se, found.df, found.p) == (None,) * 5
    assert found.p_value_above(1.0) is None
    alone = estimate(one)
    assert alone.value == pytest.approx(2.25)
    assert (alone.low, alone.high, alone.se, alone.se_seeds) == (None,) * 4


@pytest.mark.parametrize(
    ("images", "seeds", "df"),
    [
        ((0.0, 99.0), [(0.0, 1.0)], 99.0),  # nothing varies
        ((1.0, 99.0), [], 99.0),
        ((1.0, 99.0), [(0.0, 2.0)], 99.0),
        ((0.0, 99.0), [(1.0, 2.0), (1.0, 2.0)], 4.0),  # equal: both
        ((0.0, 99.0), [(1.0, 2.0), (0.0, 2.0)], 2.0),  # one alone
        ((0.0, 99.0), [(1.0, 1.0)], 1.0),
        ((1.0, 0.5), [(1e-9, 1.0)], 1.0),  # never below one
    ],
)
def test_degrees_of_freedom(images, seeds, df):
    assert degrees(images, seeds) == pytest.approx(df, rel=1e-6)


def t_of(df):
    return student.ppf(0.975, df)


def test_degrees_of_freedom_between_images_and_seeds():
    """Half of the squared t is Satterthwaite's, half that of the mean of both parts' own t."""
    found = degrees((1.0, 99.0), [(1.0, 2.0)])
    narrow, wide = t_of(4 / (1 / 99 + 1 / 2)), (t_of(99) + t_of(2)) / 2
    assert t_of(found) ** 2 == pytest.approx((narrow**2 + wide**2) / 2)
    several = degrees((1.0, 99.0), [(1.0, 2.0), (1.0, 2.0)])
    narrow, wide = t_of(9 / (1 / 99 + 1 / 2 + 1 / 2)), (t_of(99) + 2 * t_of(4)) / 3
    assert t_of(several) ** 2 == pytest.approx((narrow**2 + wide**2) / 2)


def test_degrees_of_freedom_of_unequal_numbers_of_seeds():
    found = degrees((0.0, 99.0), [(3.0, 2.0), (1.0, 4.0)])
    narrow = t_of(16 / (9 / 2 + 1 / 4))
    wide = (narrow + (3 * t_of(2) + t_of(4)) / 4) / 2
    assert t_of(found) ** 2 == pytest.approx((narrow**2 + wide**2) / 2)


def test_degrees_of_freedom_lie_between_those_of_the_smallest_part_and_of_all():
    draws = np.random.default_rng(5)
    for _ in range(300):
        images = (draws.exponential() ** 3, float(draws.integers(1, 200)))
        seeds = [
            (draws.exponential() ** 3, float(draws.integers(1, 6)))
            for _ in range(draws.integers(4))
        ]
        df = [images[1], *(own for _, own in seeds)]
        found = degrees(images, seeds)
        assert found >= 1
        assert min(df) * (1 - 1e-6) <= found <= sum(df) * (1 + 1e-3)


@pytest.mark.parametrize("num_images", [2, 3])
@pytest.mark.parametrize("seeds", [2, 3])
def test_few_images_keep_a_finite_interval(num_images, seeds):
    """What seeds make of the images is more than images make: no degree of freedom below one."""
    draws = np.random.default_rng(2)
    for _ in range(40):
        a, b = (
            cell_scores(draws.normal(size=(seeds, num_images)), range(num_images)) for _ in "ab"
        )
        for found in (compare(a, b), estimate(a)):
            assert found.df >= 1
            assert found.high - found.low <= 2 * student.ppf(0.975, 1) * found.se * (1 + 1e-9)
            assert f"{num_images} test images are few" in found.approximate


def test_parts_add_up_and_interaction_counts_once():
    """The variance is that of images, which all seeds share, and of seeds, each in one number."""
    draws = np.random.default_rng(3)
    images = np.arange(300) // 3
    a, b = (cell_scores(draws.normal(size=(3, 300)), images) for _ in "ab")
    found = compare(a, b)
    assert found.se**2 == pytest.approx(found.se_images**2 + found.se_seeds**2)
    assert found.se_seeds**2 == pytest.approx(sum(part.square / 3 for part in found.parts))
    # Cells that share nothing but what each seed makes of a region: images alone add nothing.
    assert found.se_images < 0.3 * np.sqrt(2 / 900)
    assert found.approximate == ""


def test_two_level_bootstrap(cells):
    found = two_level_bootstrap(*cells, n=500)
    assert found.low < found.mean < found.high
    assert found == two_level_bootstrap(*cells, n=500)
    assert found != two_level_bootstrap(*cells, n=500, seed=1)
    one = cell_scores([[1.0]], ["a"])
    assert two_level_bootstrap(one, one).low is None


@pytest.mark.parametrize("level", [0, 1, 95])
def test_level(cells, level):
    for call in (estimate, lambda a, level: compare(a, a, level=level)):
        with pytest.raises(ValueError, match="level="):
            call(cells[0], level=level)


def test_other_images(cells):
    other = cell_scores([[1.0, 2.0]], IDS)
    with pytest.raises(ValueError, match="different images"):
        compare(cells[0], other)
    with pytest.raises(ValueError, match="different images"):
        compare_resampled(resample([cells[0]])[0], resample([other])[0])


def drawn(seed, num_seeds=3):
    """A cell whose seeds differ as a whole and image by image."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(num_seeds, 60)) + rng.normal(scale=0.3, size=(num_seeds, 1))
    return cell_scores(values + 2 * rng.normal(size=60) + seed, np.arange(60) // 3)


def test_means_of_cells_are_compared_as_a_contrast():
    """The difference, its image and its seed variance, each worked out by another way."""
    cells = resample([drawn(seed, 2 + seed % 2) for seed in range(4)], image_weights(20, 200))
    found = compare_means(cells[:2], cells[2:])
    means = [one.scores.mean() for one in cells]
    assert found.difference == pytest.approx((means[0] + means[1] - means[2] - means[3]) / 2)
    moved = [one.draws.mean(axis=0) for one in cells]
    of_both = ((moved[0] + moved[1] - moved[2] - moved[3]) / 2).var(ddof=1) * 20 / 19
    parts = [compare_resampled(one, cells[0]).parts[0] for one in cells]
    of_images = of_both - sum(part.interaction / part.num_seeds for part in parts) / 4
    assert of_images > 0
    assert found.se_images == pytest.approx(of_images**0.5)
    of_seeds = sum(part.square / part.num_seeds for part in parts) / 4
    assert found.se_seeds == pytest.approx(of_seeds**0.5)
    assert found.se == pytest.approx((of_images + of_seeds) ** 0.5)
    assert found.num_seeds == (2, 2)
    assert compare_means(cells[2:], cells[:2]).low == pytest.approx(-found.high)


def test_a_mean_of_one_cell_is_that_cell():
    a, b = resample([drawn(0), drawn(1)], image_weights(20, 200))
    assert compare_means([a], [b]) == compare_resampled(a, b)
    assert compare_means([a, a], [b, b]) == compare_resampled(a, b)  # one cell, not two


def test_the_more_cells_the_smaller_the_part_of_their_seeds():
    """Seeds of different cells are independent, images are those of all."""
    cells = resample([drawn(0) for _ in range(8)], image_weights(20, 200))
    one, four = compare_means(cells[:1], cells[4:5]), compare_means(cells[:4], cells[4:])
    assert four.se_seeds == pytest.approx(one.se_seeds / 2)


def test_a_mean_needs_cells_of_the_same_images():
    a, b = (resample([drawn(seed)])[0] for seed in (0, 1))
    other = resample([cell_scores([[1.0, 2.0]], ["a", "b"])])[0]
    for left, right in (([a, other], [b]), ([a], [b, other])):
        with pytest.raises(ValueError, match="different images"):
            compare_means(left, right)
    with pytest.raises(ValueError, match="at least one cell"):
        compare_means([a], [])


def test_one_seed_of_one_averaged_cell_leaves_seeds_unknown():
    cells = resample([drawn(0), drawn(1, 1), drawn(2), drawn(3)], image_weights(20, 200))
    assert not compare_means(cells[:2], cells[2:]).covers_seeds
    assert compare_means(cells[:2], cells[2:]).se_seeds is None
