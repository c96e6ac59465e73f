"""Groups are cut where workers would be idle, and nowhere else: arithmetic on made-up costs."""

import random

import pytest

from sca_bench.study.plan.balance import balanced, makespan


def ends(groups, workers, parts, shared=None):
    base = shared or [0.0] * len(groups)
    costs = [base[number] + sum(groups[number][m] for m in members) for number, members in parts]
    assert costs == sorted(costs, reverse=True), "the longest part starts first"
    kept = sorted((number, m) for number, members in parts for m in members)
    assert kept == [(n, m) for n, own in enumerate(groups) for m in range(len(own))]
    return makespan(costs, workers)


def bound(groups, workers):
    """Return what no schedule of whole cells can beat."""
    every = [cost for own in groups for cost in own]
    return max(sum(every) / workers, max(every))


def test_three_seeds_of_three_depths_keep_two_workers_busy_to_the_end():
    """The main job: two seeds whole, the third cut by depth; one whole group a time took 20."""
    seeds = [[2.0, 3.0, 5.0]] * 3
    parts = balanced(seeds, 2)
    assert parts == [(0, (0, 1, 2)), (1, (0, 1, 2)), (2, (2,)), (2, (1, 0))]
    assert ends(seeds, 2, parts) == 15.0 == bound(seeds, 2)
    assert makespan([10.0, 10.0, 10.0], 2) == 20.0


@pytest.mark.parametrize(
    ("groups", "workers", "parts"),
    [
        ([[5, 5], [5, 5]], 2, 2),  # nobody is idle
        ([[5, 5]] * 40, 2, 40),
        ([[5, 5]] * 41, 2, 41),  # the last one costs less than a fiftieth
        ([[2, 7, 3]], 1, 1),
        ([[2, 7, 3]], 2, 2),
        ([[2, 7, 3]], 3, 3),
        ([[2, 7, 3]], 9, 3),
        ([[4, 6], [2]], 2, 3),  # as many groups as workers, and one of them long
        ([[1, 1, 1, 1]] * 2, 3, 5),  # the first cut alone would not help
        ([[0, 0]], 2, 2),
        ([], 4, 0),
    ],
)
def test_what_is_cut(groups, workers, parts):
    found = balanced(groups, workers)
    assert len(found) == parts
    ends(groups, workers, found)


def test_what_a_part_pays_again_is_weighed_against_what_a_cut_saves():
    seeds = [[2, 3, 5]] * 3
    assert len(balanced(seeds, 2, shared=[1] * 3)) == 4
    assert len(balanced(seeds, 2, shared=[1000] * 3)) == 3
    assert len(balanced(seeds, 2, may_cut=[False] * 3)) == 3
    assert balanced(seeds, 2, may_cut=[True, False, False])[-1][0] == 0


def test_random_costs_end_near_the_lower_bound():
    draw, ratios = random.Random(0), []
    for _ in range(300):
        workers = draw.randint(1, 8)
        groups = [
            [draw.randint(1, 9) for _ in range(draw.randint(1, 6))]
            for _ in range(draw.randint(1, 9))
        ]
        parts = balanced(groups, workers)
        whole = makespan(map(sum, groups), workers)
        end = ends(groups, workers, parts)
        assert end <= whole
        ratios.append(end / bound(groups, workers))
    assert sum(ratios) / len(ratios) < 1.05
    assert max(ratios) < 1.5
