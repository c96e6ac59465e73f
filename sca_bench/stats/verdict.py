"""Whether comparisons bear out what was claimed of them, each family of claims held to one level.

A strict claim (`a > b`) is reproduced where the difference is found with the sign claimed, and
contradicted where it is found with the other. A weak one (`a <= b`, "no better than") comes with a
margin: it is reproduced where the difference is found below the margin, and contradicted where it
is found above it. Everything else is undecided, which is not the same as equal.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sca_bench.stats.compare import Comparison
from sca_bench.stats.holm import holm
from sca_bench.stats.power import Needed, needed

Verdict = Literal["reproduced", "contradicted", "undecided"]
COMPARATORS = (">", "<", ">=", "<=")


@dataclass(frozen=True, slots=True)
class Decision:
    """What a comparison says of a claim.

    Attributes:
        verdict: Whether the claim is borne out.
        p: The claim's p by itself; None with fewer than two images.
        p_adjusted: The p of the verdict, adjusted for its family by Holm; of an undecided claim the
            adjusted p of the claim, which is one where seeds are not covered.
        needed: For an undecided claim, what would decide it at its family's level if the difference
            is as observed; None where it is decided or has fewer than two images.
        margin: The margin, natural units.
    """

    verdict: Verdict
    p: float | None
    p_adjusted: float | None
    needed: Needed | None
    margin: float


@dataclass(frozen=True, slots=True)
class _Claim:
    """A claim seen from its own side: differences are positive where they speak for `>` or `>=`."""

    support: float
    contra: float
    difference: float
    decidable: bool

    @property
    def p(self) -> float:
        return min(self.support, self.contra)


def decide(
    comparisons: Sequence[Comparison | None],
    comparators: Sequence[str],
    margins: Sequence[float],
    families: Sequence[str],
    alpha: float = 0.05,
) -> list[Decision | None]:
    """Decide claims, with Holm's adjustment within each family.

    A family holds every claim that was stated, whatever became of its runs: were those without
    numbers left out, a run that fails would make the other claims easier. A comparison that is
    missing, or that does not cover seeds (one seed of a trained cell), decides nothing; in its
    family it counts with a p of one.

    Args:
        comparisons: The comparison of each claim, the left side less the right; None where there
            are no numbers.
        comparators: What each claims: `>`, `<`, `>=` or `<=`.
        margins: Of each weak claim, how much the worse side may be better and the claim still
            holds; natural units, not negative. Not read of a strict claim.
        families: The family of each claim.
        alpha: Level of each family.

    Returns:
        The decision on each claim; None where there is no comparison.

    Raises:
        ValueError: Lengths differ, or a comparator, margin or level that cannot be.
    """
    if not len(comparisons) == len(comparators) == len(margins) == len(families):
        raise ValueError("comparisons, comparators, margins and families differ in length")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha={alpha}: expected a share between 0 and 1")
    claims = [_claim(*given) for given in zip(comparisons, comparators, margins, strict=True)]
    members: dict[str, list[int]] = defaultdict(list)
    for index, family in enumerate(families):
        members[family].append(index)
    decisions: dict[int, Decision] = {}
    for indices in members.values():
        p_values = [claims[i].p if claims[i].decidable else 1.0 for i in indices]
        for number, i in enumerate(indices):
            comparison = comparisons[i]
            if comparison is not None:
                decisions[i] = _decide_one(
                    comparison, comparators[i], margins[i], claims[i], p_values, number, alpha
                )
    return [decisions.get(i) for i in range(len(claims))]


def _claim(comparison: Comparison | None, comparator: str, margin: float) -> _Claim:
    if comparator not in COMPARATORS:
        raise ValueError(f"comparator {comparator!r}: expected one of {', '.join(COMPARATORS)}")
    if not (math.isfinite(margin) and margin >= 0):
        raise ValueError(f"margin={margin}: expected a finite number that is not negative")
    if comparison is None:
        return _Claim(1.0, 1.0, 0.0, False)
    difference = comparison.difference if comparator[0] == ">" else -comparison.difference
    if comparison.p is None:
        return _Claim(1.0, 1.0, difference, False)
    if comparator in (">", "<"):
        support = comparison.p if difference > 0 else 1.0
        contra = comparison.p if difference < 0 else 1.0
    else:
        edge = margin if comparator == "<=" else -margin
        above, below = comparison.p_value_above(edge), comparison.p_value_below(edge)
        assert above is not None
        assert below is not None
        sides = (above, below) if comparator == "<=" else (below, above)
        support, contra = (min(1.0, 2 * p) for p in sides)
    return _Claim(support, contra, difference, comparison.covers_seeds)


def _decide_one(
    comparison: Comparison,
    comparator: str,
    margin: float,
    claim: _Claim,
    p_values: list[float],
    number: int,
    alpha: float,
) -> Decision:
    p = None if comparison.p is None else claim.p
    if not claim.decidable:
        wanted = None if p is None else needed(comparison)
        return Decision("undecided", p, None if p is None else 1.0, wanted, margin)
    support = _adjusted(p_values, number, claim.support)
    if support < alpha:
        return Decision("reproduced", p, support, None, margin)
    contra = _adjusted(p_values, number, claim.contra)
    if contra < alpha:
        return Decision("contradicted", p, contra, None, margin)
    # A weak claim is decided by the distance to its margin.
    distance = claim.difference + (margin if comparator.endswith("=") else 0.0)
    wanted = needed(comparison, alpha / len(p_values), distance=distance)
    return Decision("undecided", p, min(support, contra), wanted, margin)


def _adjusted(p_values: list[float], number: int, p: float) -> float:
    """Return the adjusted p of one claim of a family, were this its p."""
    changed = [*p_values[:number], p, *p_values[number + 1 :]]
    return float(holm(changed)[number])
