from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t as student

from sca_bench.stats.compare import Comparison
from sca_bench.stats.power import Needed
from sca_bench.stats.variance import SeedPart
from sca_bench.stats.verdict import decide


def comparison(difference, se=1.0, covers=True):
    """A difference with 1,000 degrees of freedom, a hundredth of its variance from seeds."""
    df = 1000.0
    half = student.ppf(0.975, df) * se
    seeds = (0.01 * se**2) * 3 / 2
    return Comparison(
        difference=difference,
        low=difference - half,
        high=difference + half,
        se=se,
        se_images=np.sqrt(0.99) * se,
        se_seeds=0.1 * se if covers else None,
        df=df,
        p=2 * student.sf(abs(difference) / se, df),
        num_seeds=(3, 3),
        num_images=500,
        num_regions=1500,
        covers_seeds=covers,
        parts=(SeedPart(3, True, seeds), SeedPart(3, True, seeds)),
    )


def one(difference, comparator, margin=0.0, **kwargs):
    (found,) = decide([comparison(difference, **kwargs)], [comparator], [margin], ["f"])
    return found


@pytest.mark.parametrize(
    ("difference", "comparator", "margin", "verdict"),
    [
        (3.0, ">", 0.0, "reproduced"),
        (-3.0, ">", 0.0, "contradicted"),
        (1.0, ">", 0.0, "undecided"),
        (-1.0, ">", 0.0, "undecided"),
        (0.0, ">", 0.0, "undecided"),
        (3.0, "<", 0.0, "contradicted"),
        (-3.0, "<", 0.0, "reproduced"),
        (3.0, ">", 9.0, "reproduced"),  # a strict claim has no margin
        (-3.0, "<=", 0.0, "reproduced"),
        (0.0, "<=", 0.0, "undecided"),
        (0.0, "<=", 3.0, "reproduced"),  # the interval ends at 1.96
        (0.0, "<=", 1.5, "undecided"),
        (3.0, "<=", 0.0, "contradicted"),
        (3.0, "<=", 4.0, "undecided"),  # above zero, but whether above the margin is open
        (3.0, "<=", 1.0, "contradicted"),  # begins at 1.04
        (3.0, "<=", 6.0, "reproduced"),  # above zero, but by less than the margin
        (3.0, ">=", 0.0, "reproduced"),
        (0.0, ">=", 3.0, "reproduced"),
        (0.0, ">=", 1.5, "undecided"),
        (-3.0, ">=", 4.0, "undecided"),
        (-3.0, ">=", 1.0, "contradicted"),
        (-3.0, ">=", 6.0, "reproduced"),
    ],
)
def test_verdicts(difference, comparator, margin, verdict):
    found = one(difference, comparator, margin)
    assert found.verdict == verdict
    assert found.margin == margin
    assert (found.needed is None) == (verdict != "undecided")
    assert (found.p_adjusted < 0.05) == (verdict != "undecided")


def test_p_values():
    two_sided = 2 * student.sf(2.5, 1000)
    assert one(2.5, ">").p == pytest.approx(two_sided)
    assert one(-2.5, ">").p == pytest.approx(two_sided)
    assert one(0.5, "<=", 3.0).p == pytest.approx(two_sided)  # 2.5 below the margin
    assert one(-0.5, ">=", 3.0).p == pytest.approx(two_sided)
    assert one(3.5, "<=", 1.0).p == pytest.approx(two_sided)  # 2.5 above the margin
    assert one(0.1, "<=", 0.0).p == pytest.approx(2 * student.sf(0.1, 1000))  # contra
    assert one(0.0, "<=", 0.0).p == 1.0


@pytest.mark.parametrize("difference", [1e-9, 0.5, 1.0, 20.0])
def test_a_claim_of_more_holds_however_small_the_difference(difference):
    """What counts is how often chance makes it so large, whatever the scale of the metric."""
    for comparator, sign in ((">", 1), ("<", -1)):
        holds = one(sign * difference, comparator, se=difference / 5)
        fails = one(-sign * difference, comparator, se=difference / 5)
        assert (holds.verdict, fails.verdict) == ("reproduced", "contradicted")


def test_the_interval_decides_a_weak_claim():
    """Alone in its family, it is reproduced exactly where the interval ends below the margin."""
    found = comparison(0.3)
    for margin, verdict in ((found.high * 1.001, "reproduced"), (found.high * 0.999, "undecided")):
        assert decide([found], ["<="], [margin], ["f"])[0].verdict == verdict


def test_families_are_held_to_one_level():
    """Three claims at p = .0125: undecided together (adjusted .037 at alpha .03), decided alone."""
    difference = student.isf(0.00625, 1000)
    given = [comparison(difference)] * 3
    apart = decide(given, [">"] * 3, [0.0] * 3, ["a", "b", "c"], alpha=0.03)
    together = decide(given, [">"] * 3, [0.0] * 3, ["a"] * 3, alpha=0.03)
    assert [j.verdict for j in apart] == ["reproduced"] * 3
    assert [j.verdict for j in together] == ["undecided"] * 3
    assert [j.p_adjusted for j in apart] == pytest.approx([0.0125] * 3)
    assert [j.p_adjusted for j in together] == pytest.approx([0.0375] * 3)
    assert together[0].p == pytest.approx(0.0125)


def test_families_keep_the_order_of_claims():
    given = [comparison(d) for d in (9.0, 0.0, -9.0, 0.1)]
    found = decide(given, [">"] * 4, [0.0] * 4, ["a", "b", "a", "b"])
    assert [j.verdict for j in found] == ["reproduced", "undecided", "contradicted", "undecided"]


@pytest.mark.parametrize(("difference", "verdict"), [(3.0, "reproduced"), (7.12, "contradicted")])
def test_a_family_turns_a_decision_into_no_other(difference, verdict):
    """Weakly below (above) the margin: decided alone, and beside another claim undecided."""
    weak = comparison(difference)
    (alone,) = decide([weak], ["<="], [5.06], ["f"])
    assert alone.verdict == verdict
    found, _ = decide([weak, comparison(0.0)], ["<=", ">"], [5.06, 0.0], ["f", "f"])
    assert found.verdict == "undecided"
    assert found.p == pytest.approx(alone.p)
    assert found.p_adjusted == pytest.approx(2 * alone.p)


@pytest.mark.parametrize(
    ("difference", "comparator", "margin", "verdict"),
    [
        (2.5, ">", 0.0, "reproduced"),
        (-2.5, ">", 0.0, "contradicted"),
        (0.0, "<=", 2.5, "reproduced"),
        (5.0, "<=", 2.5, "contradicted"),
    ],
)
def test_a_p_must_be_below_the_level(difference, comparator, margin, verdict):
    p = one(difference, comparator, margin).p_adjusted
    for alpha, found in ((p, "undecided"), (np.nextafter(p, 1), verdict)):
        given = [comparison(difference)], [comparator], [margin], ["f"]
        assert decide(*given, alpha=alpha)[0].verdict == found


@pytest.mark.usefixtures("simulation")
def test_a_weak_claim_that_holds_is_rarely_contradicted():
    """True differences between zero and the margin: contradicted in no more than 2.5 %."""
    draws = np.random.default_rng(4)
    for true in (0.3, 0.6, 1.0):
        found = [one(true + draws.normal(), "<=", 1.0).verdict for _ in range(2000)]
        assert found.count("contradicted") / 2000 < 0.035


def test_one_seed_decides_nothing():
    found = one(9.0, ">", covers=False)
    assert found.verdict == "undecided"
    assert found.needed == Needed(2, None, None)
    assert found.p < 1e-10
    assert found.p_adjusted == 1.0
    # It counts in its family as a claim that cannot be rejected.
    beside = decide(
        [comparison(9.0, covers=False), comparison(2.1)], [">", ">"], [0.0, 0.0], ["f", "f"]
    )
    assert beside[1].p_adjusted == pytest.approx(2 * comparison(2.1).p)


@pytest.mark.parametrize("missing", [None, comparison(9.0, covers=False)])
@pytest.mark.parametrize("others", [1, 2])
def test_a_claim_without_numbers_stays_in_its_family(missing, others):
    """What became of a claim's runs makes the other claims no easier: it counts with p = 1."""
    given = [comparison(2.1), *[missing] * others]
    found, *rest = decide(given, [">"] * len(given), [0.0] * len(given), ["f"] * len(given))
    assert found.verdict == "undecided"
    assert found.p_adjusted == pytest.approx(len(given) * comparison(2.1).p)
    assert all(one is None or one.p_adjusted == 1.0 for one in rest)
    assert [one is None for one in rest] == [missing is None] * others
    (alone, _) = decide([given[0], missing], [">"] * 2, [0.0] * 2, ["f", "another"])
    assert alone.verdict == "reproduced"


def test_what_a_claim_needs_counts_those_without_numbers():
    alone, beside = (
        decide(
            [comparison(1.0), *[None] * more],
            [">"] * (1 + more),
            [0.0] * (1 + more),
            ["f"] * (1 + more),
        )[0]
        for more in (0, 1)
    )
    assert beside.needed.images > alone.needed.images


def test_one_image_decides_nothing():
    gone = dict.fromkeys(["low", "high", "se", "se_images", "se_seeds", "df", "p"])
    (found,) = decide([replace(comparison(9.0), **gone, parts=())], [">"], [0.0], ["f"])
    assert (found.verdict, found.p, found.p_adjusted, found.needed) == ("undecided",) + (None,) * 3


def test_what_an_undecided_claim_needs():
    strict = one(1.0, ">").needed
    assert strict.images > 500
    assert strict.regions == 3 * strict.images
    assert strict.seeds is None  # images make up nearly all of the error
    assert one(0.0, ">").needed == Needed(None, None, None)
    # A weak claim needs its distance to the margin, not its difference, to be told from zero.
    assert one(0.0, "<=", 1.0).needed == strict
    assert one(-0.5, "<=", 0.5).needed == strict
    assert one(0.5, ">=", 0.5).needed == strict
    # A strict claim has no margin.
    assert one(1.0, ">", 0.5).needed == one(-1.0, "<", 0.5).needed == strict
    # Beyond its margin there is only contradiction to be had.
    assert one(1.5, "<=", 0.5).needed == strict
    beside = decide([comparison(1.0)] * 2, [">", ">"], [0.0, 0.0], ["f", "f"])
    assert beside[0].needed.images > strict.images


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"comparators": ["=="]}, "comparator '=='"),
        ({"comparators": [">", ">"]}, "differ in length"),
        ({"margins": [-1.0]}, "margin=-1.0"),
        ({"margins": [float("inf")]}, "margin=inf"),
        ({"alpha": 5}, "alpha=5"),
        ({"alpha": 1}, "alpha=1"),
        ({"alpha": 0}, "alpha=0"),
        ({"margins": [float("nan")]}, "margin=nan"),
        ({"margins": []}, "differ in length"),
        ({"families": ["f", "g"]}, "differ in length"),
    ],
)
def test_faults(change, message):
    given = {"comparators": [">"], "margins": [0.0], "families": ["f"], **change}
    with pytest.raises(ValueError, match=message):
        decide([comparison(1.0)], **given)
