"""The table of coverage in `docs/statistics.md`: made here by hand, and held to what it promises.

python -m pytest tests/stats/test_coverage_table.py -m bench
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from coverage_conditions import REAL, SEEDS, WORLDS, covered_in_real, covered_in_world

PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"
TRIALS = 2000
NEAR = "≈ "
LABELS = ["2", "3", "5", "2 and 3", "3 and 5"]
HEAD = [
    "condition",
    *(f"own, {label} seeds" for label in LABELS[:3]),
    *(f"difference, {label} seeds" for label in LABELS),
]


def simulated(name, seeds, num):
    world = WORLDS[name]
    seeds = tuple(s if t else 1 for s, t in zip(seeds, world.trained, strict=True))
    return covered_in_world(replace(world, num_seeds=seeds), num, np.random.default_rng(1))


def real(name, seeds, num):
    return covered_in_real(REAL[name], seeds, num, np.random.default_rng(1))


def section(which):
    text = PAGE.read_text(encoding="utf-8")
    return re.search(f"(?<=<!-- {which} -->\n).*?(?=<!-- end of {which} -->)", text, re.DOTALL)


def rows_of(which):
    """Return condition -> entries of a table of the page."""
    lines = section(which).group().strip().splitlines()
    fields = [[field.strip() for field in line.strip("|").split("|")] for line in lines]
    assert fields[0] == HEAD
    return {name: dict(zip(HEAD[1:], entries, strict=True)) for name, *entries in fields[2:]}


def shown(share, approximate):
    return f"{NEAR if approximate else ''}{100 * share:.1f}"


def write(which, conditions, cover):
    lines = [HEAD, ["---", *["---:"] * (len(HEAD) - 1)]]
    for name in conditions:
        found = [cover(name, seeds, TRIALS) for seeds in SEEDS]
        own = [shown(each.own, each.own_approximate) for each in found[:3]]
        apart = [shown(each.difference, each.difference_approximate) for each in found]
        lines.append([name, *own, *apart])
        print(lines[-1], flush=True)
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    place, text = section(which).span(), PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text[: place[0]] + table + text[place[1] :], encoding="utf-8")


@pytest.mark.bench
@pytest.mark.parametrize(
    ("which", "conditions", "cover"), [("simulated", WORLDS, simulated), ("real", REAL, real)]
)
def test_write_the_table(which, conditions, cover):
    write(which, conditions, cover)


@pytest.mark.parametrize(("which", "conditions"), [("simulated", WORLDS), ("real", REAL)])
def test_what_is_not_marked_covers_93_to_97_percent(which, conditions):
    rows = rows_of(which)
    assert list(rows) == list(conditions)
    for name, entries in rows.items():
        for column, entry in entries.items():
            if not entry.startswith(NEAR):
                assert 93 <= float(entry) <= 97, (name, column)


@pytest.mark.parametrize(
    ("which", "name", "seeds"),
    [
        ("simulated", "images and seeds alike", (3, 3)),
        ("simulated", "seeds make most of it", (2, 2)),
        ("simulated", "seed spreads 10 to 1", (3, 3)),
        ("simulated", "interaction of seeds and images alone", (5, 5)),
        ("real", "CIDEr-D, interaction alone", (3, 3)),
        ("real", "BLEU-4, seeds make most of the error", (3, 3)),
    ],
)
def test_the_table_is_what_the_code_gives(which, name, seeds, simulation):
    num = 300
    found = (simulated if which == "simulated" else real)(name, seeds, num)
    entries = rows_of(which)[name]
    label = LABELS[SEEDS.index(seeds)]
    for kind in ("own", "difference"):
        share = getattr(found, kind)
        entry = entries[f"{kind}, {label} seeds"]
        assert entry.startswith(NEAR) == getattr(found, f"{kind}_approximate")
        error = np.sqrt(0.05 * 0.95 * (1 / num + 1 / TRIALS))
        assert share == pytest.approx(float(entry.removeprefix(NEAR)) / 100, abs=4 * error)
