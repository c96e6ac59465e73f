"""Every key of every shipped suite, against a recorded list: a key that moves loses its runs.

`golden_keys.json` holds the keys of each suite and sweep in each profile that it resolves in, with
the digest that `plan` gives to files and folders that are not there, so they are the same on every
machine. If a test here fails without your having wanted to move a number, the change is wrong: mark
a new setting with `since` (`sca_bench.settings.base`). If you did, raise the revision whose code
moves it (of the variant, of the features, of the world), say why under "Scores" in CHANGELOG.md,
and renew the list in that commit:

    python tests/study/keys/test_golden_keys.py --renew
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from pathlib import Path
from unittest import mock

import pytest

from sca_bench.errors import InputError, PathNotGiven
from sca_bench.study.keys.cell import SPLITS, CellIdentity
from sca_bench.study.keys.fingerprint import Fingerprints
from sca_bench.study.keys.training import stages_of
from sca_bench.study.plan.plan import make_plan
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.profiles import profile_names
from sca_bench.study.suite.suite import load_suite
from sca_bench.study.suite.sweep import load_sweep
from sca_bench.types import FAMILIES

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).with_name("golden_keys.json")
SUITES = sorted((ROOT / "ablations").glob("*.yaml"))
SWEEPS = sorted((ROOT / "ablations" / "sweeps").glob("*.yaml"))
SHOWN = 5
"""Differences that a failure names."""


def all_keys():
    """Return `suite.profile` -> what `keys_of` says of its cells."""
    found = {}
    # Whether a hub id has a commit depends on the machine's cache and network.
    no_hub = mock.patch("sca_bench.study.keys.fingerprint.hub_commit", return_value="")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), no_hub:
        store = Store(folder)
        for profile in profile_names():
            for path in SUITES:
                found[f"{path.stem}.{profile}"] = suite_keys(path, profile, store)
            for path in SWEEPS:
                found[f"{path.stem}.{profile}"] = sweep_keys(path, profile, store)
    return {name: keys for name, keys in found.items() if keys is not None}


def suite_keys(path, profile, store):
    try:
        suite = load_suite(path, profile=profile, allow_missing=True)
    except InputError:
        return None  # a suite need not resolve in every profile
    cells = make_plan(suite, store, allow_missing=True).cells
    prints = Fingerprints(store.root / "fingerprints.sqlite", fixes=suite.missing)
    return keys_of([(c.name, c.identity) for c in cells], prints)


def sweep_keys(path, profile, store):
    """A sweep's trials are drawn; what stays are the corners of its space."""
    overrides, sweep = [], None
    while sweep is None:
        try:
            sweep = load_sweep(path, profile=profile, overrides=overrides)
        except PathNotGiven as error:  # as a suite's missing paths are written
            overrides.append(f"{error.key}=<{error.key.removeprefix('paths.')}>")
        except InputError:
            return None
    prints = Fingerprints(store.root / "fingerprints.sqlite", fixes={})
    cells = []
    for number, settings in enumerate(sweep.probes):
        cells.append((f"corner {number}", CellIdentity(settings, prints.inputs(settings))))
    return keys_of(cells, prints)


def keys_of(cells, prints):
    """Return the keys of some cells.

    `cells`: name -> keys of the cell, its training, its group and its masks, then of the trainings
    of its stages. `features`: split and family -> the different keys, in the order of the cells.
    """
    named, features = {}, {}
    for name, cell in cells:
        before = [CellIdentity(s, prints.inputs(s)) for _, s in stages_of(cell.settings)]
        own = [cell.cell_key, cell.training_key, cell.prefix_key, cell.masks_key]
        named[name] = [*own, *(stage.training_key for stage in before)]
        splits = [s for s in SPLITS if cell.split_settings(s) is not None]
        for split in splits:
            for family in FAMILIES:
                kept = features.setdefault(f"{split} {family}", [])
                key = cell.features_key(split, family)
                if key not in kept:
                    kept.append(key)
    return {"cells": named, "features": features}


WHAT = ("cell", "training", "group", "masks")


def differences(old, new):
    """Return a line for every key that is not what it was, the suites' own order kept."""
    lines = []
    for suite in dict.fromkeys([*old, *new]):
        if suite not in new or suite not in old:
            lines.append(f"{suite}: {'resolves no more' if suite in old else 'is not in the list'}")
            continue
        before, after = old[suite]["cells"], new[suite]["cells"]
        for cell in dict.fromkeys([*before, *after]):
            was, now = before.get(cell, []), after.get(cell, [])
            for number in range(max(len(was), len(now))):
                what = WHAT[number] if number < len(WHAT) else f"stage {number - len(WHAT) + 1}"
                pair = [keys[number] if number < len(keys) else "none" for keys in (was, now)]
                if pair[0] != pair[1]:
                    lines.append(f"{suite}, {cell!r}: {what} key {pair[0]} is now {pair[1]}")
        before, after = old[suite]["features"], new[suite]["features"]
        for kind in dict.fromkeys([*before, *after]):
            pair = [", ".join(keys.get(kind, ["none"])) for keys in (before, after)]
            if pair[0] != pair[1]:
                lines.append(f"{suite}: features key of {kind} {pair[0]} is now {pair[1]}")
    return lines


def dumped(keys):
    """Return the list as JSON with a line for each suite, so that a diff can be read."""
    lines = [
        f"{json.dumps(suite)}: {json.dumps(found, separators=(',', ':'), ensure_ascii=False)}"
        for suite, found in sorted(keys.items())
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


@pytest.fixture(scope="module")
def golden():
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


def test_every_key_is_what_it_was(golden):
    found = differences(golden, all_keys())
    more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    assert not found, "\n".join(
        [
            f"{len(found)} keys moved; runs made with the old ones are no longer found:",
            *found[:SHOWN],
            *more,
            "If no number was to move, mark the new setting with `since`. Else raise a revision, "
            'say why under "Scores" in CHANGELOG.md, and renew the list in that commit: '
            "python tests/study/keys/test_golden_keys.py --renew",
        ]
    )


def test_the_list_covers_the_shipped_suites_and_is_small(golden):
    shipped = {path.stem for path in (*SUITES, *SWEEPS)}
    assert {name.partition(".")[0] for name in golden} == shipped
    for stem in shipped - {"photos"}:
        assert {f"{stem}.{profile}" for profile in ("tiny", "small", "paper")} <= golden.keys()
    assert str(ROOT) not in GOLDEN.read_text(encoding="utf-8")
    assert GOLDEN.stat().st_size < 300_000


def test_a_key_that_moves_is_named(golden):
    moved = json.loads(json.dumps(golden))
    cell = next(iter(moved["mixer_layers.tiny"]["cells"]))
    old = golden["mixer_layers.tiny"]["cells"][cell][0]
    moved["mixer_layers.tiny"]["cells"][cell][0] = "0" * 12
    moved["mixer_layers.tiny"]["features"]["captioned mixed"] = ["1" * 12]
    del moved["photos.photos"]
    kept = ", ".join(golden["mixer_layers.tiny"]["features"]["captioned mixed"])
    assert sorted(differences(golden, moved)) == [
        f"mixer_layers.tiny, {cell!r}: cell key {old} is now {'0' * 12}",
        f"mixer_layers.tiny: features key of captioned mixed {kept} is now {'1' * 12}",
        "photos.photos: resolves no more",
    ]


if __name__ == "__main__":
    if sys.argv[1:] != ["--renew"]:
        sys.exit(f"usage: python {sys.argv[0]} --renew")
    GOLDEN.write_text(dumped(all_keys()), encoding="utf-8")
    print(f"{GOLDEN}: {GOLDEN.stat().st_size:,} bytes")
