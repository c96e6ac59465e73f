"""The edges of the statistics: smallest inputs, ties, limits, defaults, numbers by hand."""

import numpy as np
import pytest
from scipy.stats import t as student

from sca_bench.stats import bootstrap as resampling
from sca_bench.stats import power, variance
from sca_bench.stats.bootstrap import (
    CellScores,
    Interval,
    Resampled,
    cell_scores,
    finite_vector,
    image_bootstrap,
    image_weights,
    mean_combine,
    resample,
)
from sca_bench.stats.compare import compare, compare_means, compare_resampled, estimate
from sca_bench.stats.power import Needed, equivalence, needed, seed_pairs
from sca_bench.stats.variance import SeedPart, degrees, spread

EXACT = np.array([[2.0, 0.0], [1.0, 1.0], [1.0, 1.0], [0.0, 2.0]])
"""All resamples of two images, as often as they come."""
SMALL = cell_scores([[1.0, 2.0]], ["a", "b"])


def t_of(df):
    return student.ppf(0.975, df)


# --- resampling -------------------------------------------------------------------------------


def test_defaults_of_resampling_are_a_thousand_draws_of_seed_zero():
    values, images = np.random.default_rng(5).random(40), [f"{k // 4:02}" for k in range(40)]
    assert image_bootstrap(values, images) == image_bootstrap(values, images, 1000, 0, 0.95)
    assert np.array_equal(image_weights(10), image_weights(10, 1000, 0))
    cell = cell_scores(values[None], images)
    assert np.array_equal(resample([cell])[0].draws, resample([cell], image_weights(10))[0].draws)
    assert cell.trained
    assert cell.combine is mean_combine
    assert compare(cell, cell) == compare(cell, cell, image_weights(10), 0.95)
    assert estimate(cell) == estimate(cell, image_weights(10), 0.95)


def test_one_resample_and_one_image_are_enough_to_draw():
    assert image_weights(1, n=1).tolist() == [[1.0]]
    assert image_weights(1, n=2).tolist() == [[1.0], [1.0]]
    one = image_bootstrap([0.0, 1.0], ["a", "b"], n=1)
    assert one.low == one.high
    assert one.low in (0.0, 0.5, 1.0)


@pytest.mark.parametrize("level", [0, 1, -0.5, 1.5])
def test_a_level_is_a_share_between_zero_and_one(level):
    with pytest.raises(ValueError, match="level="):
        image_bootstrap([0.0, 1.0], ["a", "b"], level=level)


def test_ids_of_images_are_read_as_text():
    """As numbers 9 stands before 10, as text behind it; the draws are those of the text's order."""
    values, numbers = [0.0, 0.3, 0.9], [9, 10, 11]
    found = image_bootstrap(values, numbers, n=7, seed=3)
    assert found == image_bootstrap(values, [str(n) for n in numbers], n=7, seed=3)
    weights = image_weights(3, n=7, seed=3)
    means = weights @ np.array([0.3, 0.9, 0.0]) / 3
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])))


def test_the_ends_of_an_interval_are_quantiles_of_the_draws():
    weights = image_weights(2, n=9, seed=1)
    means = weights @ np.array([0.0, 1.0]) / 2
    for level in (0.5, 0.8, 0.95):
        low, high = np.quantile(means, [(1 - level) / 2, 1 - (1 - level) / 2])
        found = image_bootstrap([0.0, 1.0], ["a", "b"], n=9, seed=1, level=level)
        assert found == Interval(0.5, pytest.approx(low), pytest.approx(high))


@pytest.mark.parametrize(
    ("held", "sizes"),
    [(1, [1] * 7), (10, [2, 2, 2, 1]), (14, [2, 2, 2, 1]), (15, [3, 3, 1]), (99, [7])],
)
def test_no_more_images_are_drawn_at_once_than_memory_allows(monkeypatch, held, sizes):
    monkeypatch.setattr(resampling, "_DRAWS", held)
    assert [rows.shape for rows in resampling._drawn_images(5, 7, 0)] == [(n, 5) for n in sizes]


def test_no_more_sums_are_multiplied_at_once_than_memory_allows(monkeypatch):
    """Of two images, one column: a cell of s seeds has 2 s sums."""
    cells = [cell_scores(np.ones((seeds, 2)), ["a", "b"]) for seeds in (1, 4, 1, 6, 1, 1)]
    monkeypatch.setattr(resampling, "_ELEMENTS", 10)
    parts = resampling._parts(cells, 2)
    assert [[cell.num_seeds for cell in part] for part in parts] == [[1, 4], [1], [6], [1, 1]]
    assert [len(part) for part in resampling._parts(cells, 28)] == [6]  # as much as the weights


@pytest.mark.parametrize("shape", [(0, 2, 1), (1, 0, 1), (1, 2, 0)])
def test_sums_hold_at_least_one_of_each(shape):
    with pytest.raises(ValueError, match="sums: expected"):
        CellScores(np.ones(shape), np.ones(shape[1]), mean_combine)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0, 0.0])
def test_counts_are_finite_and_above_zero(bad):
    with pytest.raises(ValueError, match="at least one region of every image"):
        CellScores(np.ones((1, 2, 1)), np.array([1.0, bad]), mean_combine)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_sums_weights_and_numbers_are_finite(bad):
    with pytest.raises(ValueError, match="sums: expected finite"):
        CellScores(np.array([[[1.0], [bad]]]), np.ones(2), mean_combine)
    with pytest.raises(ValueError, match="weights: expected finite"):
        resample([SMALL], np.array([[1.0, 1.0], [bad, 1.0]]))
    with pytest.raises(ValueError, match="numbers: expected a non-empty list"):
        finite_vector([1.0, bad], "numbers")


@pytest.mark.parametrize("bad", [[], [[1.0]], 1.0])
def test_a_vector_is_a_list_of_at_least_one_number(bad):
    with pytest.raises(ValueError, match="numbers: expected a non-empty list"):
        finite_vector(bad, "numbers")
    assert finite_vector([2], "numbers").dtype == np.float64


@pytest.mark.parametrize("bad", [np.ones(2), np.ones((2, 2, 1)), np.ones((1, 2)), np.ones((2, 1))])
def test_weights_are_a_table_with_a_column_for_each_image(bad):
    with pytest.raises(ValueError, match=r"expected \(resamples, 2\) with at least 2"):
        resample([SMALL], bad)


def test_weights_may_be_two_rows_of_shares_some_of_them_zero():
    (found,) = resample([SMALL], np.array([[0.5, 0.0], [0.25, 0.25]]))
    assert found.draws.tolist() == [[1.0, 1.5]]
    with pytest.raises(ValueError, match="holds no image"):
        resample([SMALL], np.array([[0.0, 0.0], [1.0, 1.0]]))


def test_cells_of_one_image_have_no_draws_whatever_the_weights():
    cells = [cell_scores(np.ones((seeds, 2)), ["a", "a"]) for seeds in (1, 3)]
    found = resample(cells, np.ones((5, 1)))
    assert [one.draws.shape for one in found] == [(1, 0), (3, 0)]
    assert [one.scores.tolist() for one in found] == [[1.0], [1.0] * 3]


def test_every_cell_is_of_the_first_one_s_images():
    other = cell_scores([[1.0, 2.0, 3.0]], ["a", "b", "b"])
    for cells in ([SMALL, SMALL, other], [other, SMALL, SMALL], [SMALL, other, SMALL]):
        with pytest.raises(ValueError, match="different images or regions"):
            resample(cells)


# --- variance ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_images", "num_draws", "df"),
    [(5, 9, 8 / 3), (3, 2, 1.0), (2, 2, 1.0), (2, 1000, 1.0), (11, 1001, 1000 / 101)],
)
def test_images_have_degrees_of_freedom_of_images_and_resamples(num_images, num_draws, df):
    """1 / (1 / (I - 1) + 1 / (B - 1)), not below one; nothing was trained."""
    rng = np.random.default_rng(num_images)
    cell = cell_scores(rng.normal(size=(1, num_images)), np.arange(num_images), trained=False)
    found = estimate(cell, image_weights(num_images, num_draws, seed=2))
    assert found.df == pytest.approx(df)
    assert found.se_seeds == 0.0
    half = student.ppf(0.975, df) * found.se
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half))


def test_the_variance_of_images_by_hand():
    """Means of two images, 1 and 3: resampled 1, 2, 2, 3; variance 2/3, times I / (I - 1) = 2."""
    found = estimate(cell_scores([[1.0, 3.0]], ["a", "b"], trained=False), EXACT)
    assert (found.value, found.se_images, found.se) == pytest.approx(
        (2.0, (4 / 3) ** 0.5, (4 / 3) ** 0.5)
    )


def test_a_part_of_no_variance_counts_nowhere():
    only = degrees((2.0, 50.0), [(1.0, 4.0)])
    assert degrees((2.0, 50.0), [(1.0, 4.0), (0.0, 1.0)]) == only
    assert degrees((2.0, 50.0), [(0.0, 1.0), (1.0, 4.0)]) == only
    two = degrees((2.0, 50.0), [(1.0, 4.0), (1.0, 4.0)])
    assert degrees((2.0, 50.0), [(1.0, 4.0), (1.0, 4.0), (0.0, 1.0)]) == two
    assert degrees((0.0, 1.0), [(1.0, 4.0)]) == 4.0


@pytest.mark.parametrize(
    ("images", "seeds"), [((0.0, 0.5), []), ((1.0, 0.5), []), ((0.0, 9.0), [(1.0, 0.2)])]
)
def test_one_part_has_at_least_one_degree_of_freedom(images, seeds):
    assert degrees(images, seeds) == 1.0


def test_parts_of_any_weight_between_cells_with_unequal_numbers_of_seeds():
    """Each mean is weighted by variance: of both cells' seeds (5), then of images (2) and these."""
    found = degrees((2.0, 30.0), [(4.0, 2.0), (1.0, 5.0)])
    narrow = t_of(49 / (4 / 30 + 16 / 2 + 1 / 5))
    of_seeds = (t_of(25 / (16 / 2 + 1 / 5)) + (4 * t_of(2) + t_of(5)) / 5) / 2
    wide = (2 * t_of(30) + 5 * of_seeds) / 7
    assert t_of(found) == pytest.approx(((narrow**2 + wide**2) / 2) ** 0.5, rel=1e-6)


@pytest.mark.parametrize("df", [1.0, 1.5, 2.0, 3.7, 12.0, 99.0, 5000.0])
def test_degrees_are_those_at_which_t_has_the_quantile(df):
    assert variance._degrees_of(float(t_of(df)), 1.0) == pytest.approx(df, rel=2e-3)
    assert variance._degrees_of(float(t_of(df)), df + 1) == df + 1


def test_no_quantile_has_more_than_ten_million_degrees():
    assert variance._degrees_of(1.0, 1.0) == pytest.approx(1e7)
    assert degrees((1.0, 1e9), [(1.0, 1e9)]) == 1e9  # never fewer than its part of fewest


@pytest.mark.parametrize(
    ("value", "cleaned"), [(0.9e-22, 0.0), (1e-11**2, 0.0), (1.1e-22, 1.1e-22)]
)
def test_a_variance_is_rounding_up_to_the_square_of_a_share_of_the_scores(value, cleaned):
    """Scores of 10: a standard error of up to 1e-11 is rounding."""
    assert variance._clean(value, 10.0) == cleaned
    assert variance._clean(-value, 10.0) == 0.0


@pytest.mark.parametrize(
    ("seeds", "images", "said"),
    [
        ((3, 3), 60, ""),
        ((2, 3), 60, "two seeds say little of how far seeds lie apart"),
        ((3, 2), 61, "two seeds say little of how far seeds lie apart"),
        ((1, 1), 60, ""),  # unknown, which is said elsewhere
        ((3, 3), 59, "59 test images are few where scores are skewed"),
        (
            (2, 2),
            2,
            "two seeds say little of how far seeds lie apart and "
            "2 test images are few where scores are skewed",
        ),
    ],
)
def test_what_makes_an_interval_approximate(seeds, images, said):
    rng = np.random.default_rng(0)
    a, b = (cell_scores(rng.normal(size=(n, images)), np.arange(images)) for n in seeds)
    assert compare(a, b, image_weights(images, 20)).approximate == said


def test_the_seed_variance_of_a_cell():
    part = SeedPart(4, True, square=2.0, interaction=0.5)
    assert (part.seeds, part.variance, part.counted) == (1.5, (0.5, 3.0), True)
    assert SeedPart(4, True, square=1.0, interaction=3.0).seeds == 0.0
    assert not SeedPart(1, True).counted
    assert not SeedPart(4, False).counted
    assert SeedPart(2, True).counted
    assert (SeedPart(1, False).square, SeedPart(1, False).interaction) == (0.0, 0.0)


def test_a_share_counts_by_its_square():
    rng = np.random.default_rng(4)
    one, other = resample([cell_scores(rng.normal(size=(3, 30)), np.arange(30)) for _ in "ab"])
    whole, less = spread([one, other], 1.0), spread([one, other], 1.0, (0.5, -0.25))
    for part, smaller, share in zip(whole.parts, less.parts, (0.5, 0.25), strict=True):
        assert smaller.square == pytest.approx(part.square * share**2)
        assert smaller.interaction == pytest.approx(part.interaction * share**2)
    assert spread([one], 1.0).parts == whole.parts[:1]
    assert whole.parts[0].square == pytest.approx(one.scores.var(ddof=1))
    moved = one.draws - one.draws.mean(axis=0)
    by_seed = moved.var(axis=1, ddof=1).sum() / 2  # of three seeds
    assert whole.parts[0].interaction == pytest.approx(30 / 29 * by_seed)


# --- comparison -------------------------------------------------------------------------------


def flat(value, images=3, seeds=1):
    """A cell of which nothing varies."""
    return cell_scores(np.full((seeds, images), value), np.arange(images), trained=False)


def test_where_nothing_varies_images_that_agree_count():
    found = compare(flat(0.5), flat(0.25))
    assert found.p_value_above(0.5) == 0.125  # 2^-3
    assert found.p_value_above(0.25) == 0.5
    assert found.p_value_above(0.0) == 0.875
    assert found.p_value_below(0.5) == 0.875
    assert found.p_value_below(0.25) == 0.5
    assert found.p_value_below(0.0) == 0.125
    assert compare(flat(0.5), flat(0.5)).p == 1.0


@pytest.mark.parametrize(("a", "b"), [(1e6, 1e6 + 1e-7), (-1e6, -1e6 - 1e-7), (0.0, 0.0)])
def test_a_difference_below_rounding_of_the_larger_score_is_none(a, b):
    assert compare(flat(a), flat(b)).difference == 0.0
    assert compare(flat(b), flat(a)).difference == 0.0


@pytest.mark.parametrize(("a", "b"), [(1e6, 1e6 + 1e-5), (1e-9, 0.0), (0.0, -1e-9)])
def test_a_difference_above_rounding_is_one(a, b):
    assert compare(flat(a), flat(b)).difference == a - b
    assert compare(flat(b), flat(a)).difference == b - a


def test_p_of_a_difference_by_hand():
    """Draws of the difference 0, 1, 1, 2: variance 2/3 times 2; one degree of freedom."""
    a = cell_scores([[0.0, 2.0]], ["a", "b"], trained=False)
    found = compare(a, flat(0.0, images=2), EXACT)
    se = (4 / 3) ** 0.5
    assert (found.difference, found.se, found.df) == pytest.approx((1.0, se, 1.0))
    assert found.p == pytest.approx(2 * student.sf(1 / se, 1))
    assert compare(flat(0.0, images=2), a, EXACT).p == found.p
    assert found.p_value_above(3.0) == pytest.approx(student.cdf(-2 / se, 1))
    assert found.p_value_below(-1.0) == pytest.approx(student.cdf(-2 / se, 1))
    half = student.ppf(0.95, 1) * se
    narrow = compare(a, flat(0.0, images=2), EXACT, level=0.9)
    assert (narrow.low, narrow.high) == pytest.approx((1 - half, 1 + half))


def test_each_side_has_the_seeds_of_its_smallest_cell():
    cells = resample([flat(0.1 * n, seeds=n) for n in (5, 2, 4, 3)])
    assert compare_means(cells[:2], cells[2:]).num_seeds == (2, 3)
    assert compare_means(cells[:1], cells[1:]).num_seeds == (5, 2)


def test_a_cell_named_twice_counts_twice():
    a, b, c = resample([flat(1.0), flat(4.0), flat(0.0)])
    assert compare_means([a, b], [c]).difference == 2.5
    assert compare_means([a, a, b], [c]).difference == 2.0
    assert compare_means([c], [a, b, b, b]).difference == -3.25


@pytest.mark.parametrize("sides", [("", "a"), ("a", ""), ("", "")])
def test_both_sides_need_a_cell(sides):
    (one,) = resample([flat(1.0)])
    with pytest.raises(ValueError, match="at least one cell on each side"):
        compare_means(*([one] * len(side) for side in sides))


def test_cells_are_compared_on_as_many_resamples_only():
    cell = cell_scores([[1.0, 2.0]], ["a", "b"])
    one, other = resample([cell], image_weights(2, 5))[0], resample([cell], image_weights(2, 6))[0]
    with pytest.raises(ValueError, match="different images or resamples"):
        compare_resampled(one, other)
    turned = Resampled(cell_scores([[1.0, 2.0, 3.0]], ["a", "b", "b"]), one.scores, one.draws)
    with pytest.raises(ValueError, match="different images or resamples"):
        compare_resampled(one, turned)


# --- what a comparison needs ------------------------------------------------------------------


@pytest.mark.parametrize("margin", [-1e-9, float("nan"), float("inf")])
def test_a_margin_of_equivalence_is_finite_and_not_negative(margin):
    with pytest.raises(ValueError, match="expected a finite number that is not negative"):
        equivalence(compare(flat(0.5), flat(0.25)), margin)


def test_equivalence_is_the_larger_of_two_p_values():
    found = compare(flat(0.5), flat(0.25))
    assert equivalence(found, 0.5) == 0.125
    assert equivalence(found, 0.25) == 0.5
    assert equivalence(found, 0.0) == 0.875
    one = cell_scores([[1.0]], ["a"], trained=False)
    assert equivalence(compare(one, one), 0.1) is None


@pytest.mark.parametrize(
    ("alpha", "chance"), [(0, 0.8), (1, 0.8), (0.05, 0), (0.05, 1), (-0.1, 0.8), (0.05, 1.2)]
)
def test_level_and_power_are_shares(alpha, chance):
    with pytest.raises(ValueError, match="expected shares between 0 and 1"):
        needed(compare(flat(0.5), flat(0.25)), alpha, chance)


def test_the_least_number_is_found_at_both_ends_and_between():
    for least in (2, 3, 4, 5, 8, 9, 63, 64, 65, 99, 100):
        asked = []
        found = power._least(
            lambda n, least=least, asked=asked: asked.append(n) or n >= least, 2, 100
        )
        assert found == least
        assert min(asked) >= 2
        assert max(asked) == 100
        assert len(asked) < 20
    assert power._least(lambda n: n >= 101, 2, 100) is None
    assert power._least(lambda n: True, 2, 100) == 2


def test_what_is_planned_by_hand():
    """Twice the images halve their part and the interaction; more seeds divide their own."""
    rng = np.random.default_rng(1)
    a, b = (
        cell_scores(rng.normal(size=(3, 40)) + rng.normal(size=(3, 1)), np.arange(40)) for _ in "ab"
    )
    found = compare(a, b)
    parts = [(part.seeds, part.interaction) for part in found.parts]
    se, df = power._planned(found, None, 80)
    seeds = [(seed + both / 2) / 3 for seed, both in parts]
    assert se == pytest.approx((found.se_images**2 / 2 + sum(seeds)) ** 0.5)
    assert df == degrees((found.se_images**2 / 2, 79.0), [(one, 2.0) for one in seeds])
    se, df = power._planned(found, 7, 40)
    seeds = [(seed + both) / 7 for seed, both in parts]
    assert se == pytest.approx((found.se_images**2 + sum(seeds)) ** 0.5)
    assert df == degrees((found.se_images**2, 39.0), [(one, 6.0) for one in seeds])


def test_regions_needed_are_rounded_up():
    """Seven regions in three images; images are needed whole, and so are regions."""
    counts = np.array([1.0, 2.0, 4.0])
    a, b = (
        CellScores((counts * np.array(row))[None, :, None], counts, mean_combine, trained=False)
        for row in ([1.0, 1.2, 0.8], [0.6, 0.5, 0.9])
    )
    wants = needed(compare(a, b), distance=0.2)
    assert wants.images > 3
    assert wants.regions == int(np.ceil(wants.images * 7 / 3))
    assert (wants.regions - 1) * 3 < wants.images * 7
    assert needed(compare(a, b), distance=0.0) == Needed(None, None, None)
    assert needed(compare(a, b), distance=-0.2) == wants


def test_pairs_of_seeds_by_hand():
    """Seeds 0 and 1 differ by the same on each of six images (p = 2^-5); seed 2 equals seed 0."""
    values = np.arange(6.0)[None] + np.array([[0.0], [1.0], [0.0]])
    cell = cell_scores(values, np.arange(6))
    found = seed_pairs([cell])
    assert (found.num_pairs, found.outside) == (3, 2)
    few = cell_scores(values[:, :5], np.arange(5))  # p = 2^-4
    assert (seed_pairs([few]).num_pairs, seed_pairs([few]).outside) == (3, 0)
    assert seed_pairs([cell, few]).num_pairs == 6
    assert seed_pairs([cell, cell], image_weights(6, 30)).num_pairs == 6


def test_each_seed_is_a_cell_of_its_own():
    values = np.arange(12.0).reshape(3, 4)
    (whole,) = resample([cell_scores(values, np.arange(4))], image_weights(4, 20))
    for seed, one in enumerate(power._single(whole)):
        assert one.cell.sums[:, :, 0].tolist() == [values[seed].tolist()]
        assert one.cell.scores().tolist() == one.scores.tolist() == [values[seed].mean()]
        assert np.array_equal(one.draws, whole.draws[seed : seed + 1])
        assert not one.cell.trained
    assert seed == 2


def test_cells_are_grouped_by_the_regions_of_their_images():
    a, b, c = (cell_scores(np.ones((2, 3)), list(ids)) for ids in ("aab", "abb", "xxy"))
    assert power._by_images([a, b, c]) == [[a, c], [b]]
    assert power._by_images([]) == []


@pytest.mark.parametrize("kind", ["seeds", "images"])
def test_a_number_that_is_out_of_reach_is_none(kind):
    """A thousand seeds, or a thousand times the images: what needs one more has no number."""
    rng = np.random.default_rng(1)
    a, b = (
        cell_scores(rng.normal(size=(3, 40)) + 9 * rng.normal(size=(3, 1)), np.arange(40))
        for _ in "ab"
    )
    found, most = compare(a, b), {"seeds": 1000, "images": 40_000}[kind]

    def distance(number):
        seeds, images = (number, 40) if kind == "seeds" else (None, number)
        se, df = power._planned(found, seeds, images)
        return (student.ppf(0.975, df) + student.ppf(0.8, df)) * se

    last = needed(found, distance=(distance(most) + distance(most - 1)) / 2)
    assert getattr(last, kind) == most
    beyond = needed(found, distance=(distance(most) + distance(most + 1)) / 2)
    assert getattr(beyond, kind) is None


def test_weights_of_pairs_are_those_given():
    cell = cell_scores(np.arange(6.0).reshape(2, 3), np.arange(3))
    with pytest.raises(ValueError, match=r"expected \(resamples, 3\)"):
        seed_pairs([cell], np.ones((5, 2)))
