import numpy as np
import pytest
from scipy.stats import t as student

from sca_bench.stats.bootstrap import cell_scores
from sca_bench.stats.compare import compare
from sca_bench.stats.holm import holm
from sca_bench.stats.power import (
    Needed,
    detectable,
    equivalence,
    needed,
    noise_floor,
    seed_pairs,
)
from sca_bench.stats.variance import SeedPart

IMAGES = np.arange(300) // 3


def cell(seed_sd, num_seeds, generator, difference=0.0, together=0.5, trained=True):
    rng = np.random.default_rng(generator)
    shared = np.random.default_rng(99).normal(size=300)
    seeds = seed_sd * rng.normal(size=(num_seeds, 1))
    own = together * rng.normal(size=(num_seeds, 300)) + 0.2 * rng.normal(size=300)
    return cell_scores(shared + difference + seeds + own, IMAGES, trained=trained)


@pytest.mark.parametrize(
    ("p", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.01, 0.02, 0.03, 0.04, 0.05], [0.05, 0.08, 0.09, 0.09, 0.09]),
        ([0.5, 0.6, 0.01], [1.0, 1.0, 0.03]),
        ([0.02, 0.02], [0.04, 0.04]),
        ([0.3], [0.3]),
        ([], []),
        ([0.9, 0.8], [1.0, 1.0]),  # never more than one
        ([0.02, 0.02, 0.5], [0.06, 0.06, 0.5]),
    ],
)
def test_holm(p, adjusted):
    assert holm(p) == pytest.approx(np.array(adjusted))


@pytest.mark.parametrize("p", [[-0.1], [1.1], [float("nan")], [[0.1]]])
def test_holm_faults(p):
    with pytest.raises(ValueError, match="from 0 to 1"):
        holm(p)


def test_equivalence_is_two_one_sided_tests():
    found = compare(cell(0.02, 3, 1), cell(0.02, 3, 2))
    margin = 0.2
    nearest = margin - abs(found.difference)
    assert equivalence(found, margin) == pytest.approx(student.sf(nearest / found.se, found.df))
    # Equivalent at 5 % where the 90 % interval lies within the margin.
    narrow = compare(cell(0.02, 3, 1), cell(0.02, 3, 2), level=0.9)
    farthest = max(abs(narrow.low), abs(narrow.high))
    assert equivalence(found, farthest) == pytest.approx(0.05)
    assert equivalence(found, 0.0) >= 0.5
    with pytest.raises(ValueError, match="not negative"):
        equivalence(found, -0.1)


def test_needed_by_hand():
    """Nothing trained: the error falls with the root of the number of images."""
    a, b = (cell(0, 1, g, d, trained=False) for g, d in ((1, 0.05), (2, 0.0)))
    found = compare(a, b)
    wants = needed(found)
    assert wants.seeds is None

    def enough(images):
        t = student.ppf(0.975, images - 1) + student.ppf(0.8, images - 1)
        return abs(found.difference) >= t * found.se * np.sqrt(100 / images)

    assert enough(wants.images)
    assert not enough(wants.images - 1)
    assert wants.regions == 3 * wants.images
    assert needed(found, power=0.9).images > wants.images
    assert needed(found, alpha=0.01).images > wants.images
    quarter = needed(found, distance=found.difference / 2)
    assert quarter.images == pytest.approx(4 * wants.images, rel=0.02)


def test_what_can_be_detected_is_what_needs_no_more_images_or_seeds():
    """Nothing trained: a difference of that size needs the images there are, and no fewer."""
    found = compare(cell(0, 1, 1, 0.05, trained=False), cell(0, 1, 2, trained=False))
    size = detectable(found)
    t = student.ppf(0.975, 99) + student.ppf(0.8, 99)
    assert size == pytest.approx(t * found.se)
    assert needed(found, distance=1.0001 * size).images <= found.num_images
    assert needed(found, distance=0.99 * size).images > found.num_images
    trained = compare(cell(0.05, 3, 1), cell(0.05, 3, 2))
    assert needed(trained, distance=1.0001 * detectable(trained)).seeds <= 3
    assert needed(trained, distance=0.99 * detectable(trained)).seeds > 3
    assert detectable(found, power=0.9) > size
    with pytest.raises(ValueError, match="expected shares"):
        detectable(found, power=1.0)


def test_nothing_can_be_detected_where_seeds_are_not_known():
    assert detectable(compare(cell(0.1, 1, 1), cell(0.1, 1, 2))) is None


def test_no_number_of_one_kind_is_enough():
    """Seeds do not help where images limit; images do not where seeds do."""
    seeds_limit = compare(cell(0.5, 3, 1, 0.1, 0.1), cell(0.5, 3, 2, 0.0, 0.1))
    assert needed(seeds_limit, distance=0.2).images is None
    assert needed(seeds_limit, distance=0.2).seeds > 3
    images_limit = compare(cell(0, 3, 1, 0.0, 0.0), cell(0, 3, 2, 0.0, 0.0))
    assert needed(images_limit, distance=0.01).seeds is None
    assert needed(images_limit, distance=0.01).images > 100


def test_needed_where_nothing_can_be_said():
    same = cell(0.1, 3, 1)
    assert needed(compare(same, same)) == Needed(None, None, None)
    assert needed(compare(cell(0.1, 1, 1), cell(0.1, 3, 2))) == Needed(2, None, None)
    one = cell_scores([[1.0, 2.0], [2.0, 4.0]], ["a", "a"])
    assert needed(compare(one, one)) == Needed(None, None, None)
    with pytest.raises(ValueError, match="alpha=5"):
        needed(compare(same, same), alpha=5)


@pytest.mark.parametrize(
    ("parts", "floor"),
    [
        # Two means of three seeds each, equal spreads: four degrees of freedom.
        ([SeedPart(3, True, 3.0), SeedPart(3, True, 3.0)], student.ppf(0.975, 4) * 2**0.5),
        # One cell's seeds all alike, or untrained: those of the other alone.
        ([SeedPart(3, True, 3.0), SeedPart(3, True, 0.0)], student.ppf(0.975, 2)),
        ([SeedPart(3, True, 3.0), SeedPart(1, False)], student.ppf(0.975, 2)),
        ([SeedPart(3, True, 0.0), SeedPart(3, True, 0.0)], 0.0),
        ([SeedPart(3, True, 3.0), SeedPart(1, True)], None),  # one seed: not known
        ([SeedPart(1, False), SeedPart(1, False)], None),
        ([], None),
    ],
)
def test_noise_floor_by_hand(parts, floor):
    assert noise_floor(parts) == (None if floor is None else pytest.approx(floor))
    assert noise_floor(parts[::-1]) == noise_floor(parts)


@pytest.mark.parametrize("spreads", [(1.0, 1.0), (2.3, 1.0), (2.3, 0.9), (1.0, 3.0)])
def test_a_noise_floor_holds_for_the_pair_it_belongs_to(spreads):
    """95 % of differences that three seeds each make lie below it, however unequal the spreads."""
    draws = np.random.default_rng(6).normal(size=(2000, 2, 3)) * np.array(spreads)[:, None]
    below = []
    for pair in draws:
        floor = noise_floor([SeedPart(3, True, float(own.var(ddof=1))) for own in pair])
        below.append(abs(pair[0].mean() - pair[1].mean()) <= floor)
    assert 0.93 <= np.mean(below) <= 0.975


def test_seed_pairs_of_cells_on_other_images():
    other = cell_scores(np.random.default_rng(0).random((2, 90)), np.arange(90) // 3)
    assert seed_pairs([cell(0.1, 3, 1), other]).num_pairs == 4
    single = cell_scores([[1.0], [2.0]], ["x"])
    untrained = cell(0.1, 3, 1, trained=False)
    assert seed_pairs([single, untrained]).num_pairs == seed_pairs([]).num_pairs == 0


def test_seed_noise_puts_pairs_outside():
    """Seeds that add nothing leave one pair in twenty outside; seeds that do, most of them."""
    quiet = seed_pairs([cell(0.0, 5, g) for g in range(20)])
    loud = seed_pairs([cell(0.3, 5, g) for g in range(20)])
    assert quiet.num_pairs == loud.num_pairs == 200
    assert quiet.outside < 25
    assert loud.outside > 120
