"""Simulated trials: intervals cover, tests hold their level, planted differences are found.

Every trial draws images, seeds and their interaction anew (`simulated_cells`); generators have
fixed seeds. 2,000 trials tell a coverage to half a percentage point (one standard error).
`test_coverage_table.py` has more conditions.
"""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student
from simulated_cells import World, alone, compared, coverage, trials
from two_level_bootstrap import two_level_bootstrap

from sca_bench.stats.bootstrap import image_weights
from sca_bench.stats.power import needed
from sca_bench.stats.verdict import decide

pytestmark = pytest.mark.usefixtures("simulation")
TRIALS = 2000
ERROR = 0.005
"""Standard error of a coverage of 95 %."""


def rng():
    return np.random.default_rng(1)


@pytest.mark.parametrize("num_images", [60, 300])
@pytest.mark.parametrize("num_seeds", [3, 5])
@pytest.mark.parametrize("seed_sd", [0.05, 0.1, 0.3])
def test_coverage(num_images, num_seeds, seed_sd):
    """95 % intervals of a cell and of a difference hold the truth in 93 to 97 % of trials.

    From seeds that add a fifth of the error of 60 images to seeds that make five times that of 300.
    """
    world = World(num_images, (num_seeds, num_seeds), seed=(seed_sd, seed_sd))
    pairs = trials(world, TRIALS, rng(), difference=0.2)
    assert 0.93 <= coverage(compared(pairs), 0.2) <= 0.97
    assert 0.93 <= coverage(alone(pairs), 0.2) <= 0.97


NAMED = {
    # Two seeds that make all of the error: t with about 1.4 degrees of freedom is a little wide.
    "two seeds dominant": (World(100, (2, 2), seed=(2.0, 2.0)), 0.96, 0.985),
    "five seeds dominant": (World(100, (5, 5), seed=(2.0, 2.0)), 0.94, 0.97),
    "two seeds add nothing": (World(60, (2, 2), seed=(0.0, 0.0)), 0.95, 0.985),
    "seeds add nothing": (World(100, (3, 3), seed=(0.0, 0.0)), 0.94, 0.975),
    # Cells that differ in nothing but what each seed makes of each image.
    "two seeds by image": (World(100, (2, 2), own=0, together=0.5, seed=(0, 0)), 0.96, 0.985),
    "three seeds by image": (World(100, (3, 3), own=0, together=0.5, seed=(0, 0)), 0.93, 0.97),
    "unequal numbers": (World(100, (2, 5), seed=(0.1, 0.1)), 0.93, 0.97),
    "unequal seed variance": (World(100, (3, 3), seed=(0.2, 0.02)), 0.93, 0.97),
    # Where it covers least: two seeds a cell, and one cell's seeds spread ten times the other's.
    "two seeds, unequal variance": (World(100, (2, 2), seed=(0.3, 0.03)), 0.89, 0.94),
    "nothing trained": (World(100, (1, 1), trained=(False, False)), 0.94, 0.97),
    "three against untrained": (
        World(100, (3, 1), seed=(0.1, 0), trained=(True, False)),
        0.93,
        0.97,
    ),
    "two against untrained": (
        World(100, (2, 1), seed=(0.3, 0), trained=(True, False)),
        0.91,
        0.96,
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_coverage_of_corners(name):
    """What the rule makes of cases at its edges; where it leaves 93 to 97 %, it is marked."""
    world, low, high = NAMED[name]
    found = compared(trials(world, TRIALS, rng(), difference=-0.1))
    assert low <= coverage(found, -0.1) <= high
    assert found[0].approximate or 0.93 <= coverage(found, -0.1) <= 0.975


def precisions(mean, counts):
    """Return numerators and denominators of two precisions that an image's value moves."""
    rate = 1 / (1 + np.exp(-mean))
    first, second = 8 * counts, 7 * counts
    parts = [first * rate, np.broadcast_to(first, rate.shape)]
    parts += [second * rate**3, np.broadcast_to(second, rate.shape)]
    return np.stack(parts, axis=-1)


def geometric(sums, counts):
    return np.sqrt(sums[..., 0] / sums[..., 1] * sums[..., 2] / sums[..., 3])


@pytest.mark.parametrize("num_seeds", [3, 5])
def test_coverage_of_a_corpus_score(num_seeds):
    """A score that is no mean: the root of two corpus precisions; no true difference."""
    world = World(150, (num_seeds, num_seeds), seed=(0.1, 0.1))
    found = compared(trials(world, TRIALS, rng(), combine=geometric, columns=precisions))
    assert 0.93 <= coverage(found, 0.0) <= 0.97


def test_a_bootstrap_over_few_seeds_covers_too_little():
    """Why the interval is that of t: percentiles over seeds and images miss far too often."""
    world = World(60, (2, 2), seed=(1.0, 1.0))
    pairs = trials(world, 400, rng())
    weights = image_weights(60, 400, seed=3)
    held = 0
    for number, (a, b) in enumerate(pairs):
        interval = two_level_bootstrap(a, b, seed=number, weights=weights)
        held += interval.low <= 0 <= interval.high
    assert held / 400 < 0.80
    assert coverage(compared(pairs), 0.0) > 0.93


def test_images_alone_do_not_cover_seeds():
    """One seed each, though seeds vary: too narrow, and the comparison says what it covers."""
    found = compared(trials(World(100, (1, 1), seed=(0.2, 0.2)), 500, rng()))
    assert not any(c.covers_seeds for c in found)
    assert coverage(found, 0.0) < 0.80


def test_a_planted_null_is_rarely_decided():
    """Without a difference the two-sided test rejects at most at its level, at several levels."""
    found = compared(trials(World(100, (3, 3), seed=(0.1, 0.1)), TRIALS, rng()))
    p = np.array([c.p for c in found])
    for level in (0.01, 0.05, 0.1, 0.5):
        assert np.mean(p < level) <= level + 3 * np.sqrt(level * (1 - level) / TRIALS)


@pytest.mark.parametrize("seed_sd", [0.0, 0.1])
def test_families_rarely_err(seed_sd):
    """Five claims without a difference: any is decided in at most 5 % of families."""
    families = 500
    found = compared(trials(World(100, (3, 3), seed=(seed_sd,) * 2), 5 * families, rng()))
    names = [str(number // 5) for number in range(5 * families)]
    signs = [(">", "<")[number % 2] for number in range(5 * families)]
    decisions = decide(found, signs, [0.0] * len(found), names)
    wrong = {name for name, j in zip(names, decisions, strict=True) if j.verdict != "undecided"}
    assert len(wrong) / families <= 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / families)
    alone = decide(found, signs, [0.0] * len(found), [str(n) for n in range(len(found))])
    apart = {name for name, j in zip(names, alone, strict=True) if j.verdict != "undecided"}
    assert len(apart) > 2 * len(wrong), "without Holm about one family in five errs"


@pytest.mark.parametrize("num_seeds", [2, 3])
def test_at_its_margin_a_weak_claim_is_rarely_reproduced(num_seeds):
    """A true difference of exactly the margin: half the level, the interval being two-sided."""
    world = World(100, (num_seeds, num_seeds), seed=(0.05, 0.05))
    found = compared(trials(world, TRIALS, rng(), difference=0.3))
    names = [str(n) for n in range(TRIALS)]
    for comparator, signed in (("<=", 1), (">=", -1)):
        claims = found if signed == 1 else [_turned(c) for c in found]
        decisions = decide(claims, [comparator] * TRIALS, [0.3] * TRIALS, names)
        share = np.mean([j.verdict == "reproduced" for j in decisions])
        assert share <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / TRIALS)
    # No difference at all, a margin of three and more errors: reproduced.
    none = compared(trials(world, 300, rng()))
    decisions = decide(none, ["<="] * 300, [0.6] * 300, names[:300])
    assert np.mean([j.verdict == "reproduced" for j in decisions]) > 0.9


def _turned(c):
    return replace(c, difference=-c.difference, low=-c.high, high=-c.low)


def test_a_planted_difference_is_found_as_often_as_said():
    """At the difference that should be found in 80 % of trials it is, with its sign."""
    world = World(100, (5, 5), seed=(0.1, 0.1))
    null = compared(trials(world, TRIALS, rng()))
    error = np.std([c.difference for c in null])
    df = np.median([c.df for c in null])
    planted = (student.ppf(0.975, df) + student.ppf(0.8, df)) * error
    found = compared(trials(world, TRIALS, np.random.default_rng(2), difference=planted))
    decisions = decide(found, [">"] * TRIALS, [0.0] * TRIALS, [str(n) for n in range(TRIALS)])
    verdicts = [j.verdict for j in decisions]
    assert 0.75 <= verdicts.count("reproduced") / TRIALS <= 0.85
    assert "contradicted" not in verdicts


@pytest.mark.parametrize("kind", ["seeds", "images"])
def test_what_is_needed_is_enough(kind):
    """Given that many seeds or images, a difference as large is found in about 80 % of trials."""
    world = World(100, (5, 5), seed=(0.15, 0.15))
    pilot = compared(trials(world, TRIALS, rng()))
    middle = _typical(pilot)
    difference = 0.33
    wants = getattr(needed(replace(middle, difference=difference)), kind)
    assert wants > (5 if kind == "seeds" else 100)
    world = (
        replace(world, num_seeds=(wants, wants))
        if kind == "seeds"
        else replace(world, num_images=wants)
    )
    found = compared(trials(world, 600, np.random.default_rng(2), difference=difference))
    assert 0.74 <= np.mean([c.p < 0.05 for c in found]) <= 0.88


def _typical(comparisons):
    """Return a comparison whose variances are the means of many."""

    def mean(read):
        return float(np.mean([read(c) for c in comparisons]))

    parts = tuple(
        replace(
            part,
            square=mean(lambda c, i=i: c.parts[i].square),
            interaction=mean(lambda c, i=i: c.parts[i].interaction),
        )
        for i, part in enumerate(comparisons[0].parts)
    )
    images = mean(lambda c: c.se_images**2) ** 0.5
    return replace(comparisons[0], se_images=images, parts=parts)
