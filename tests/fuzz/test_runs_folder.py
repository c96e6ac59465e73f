"""A short run of the damage that others do to runs folders, indices and shards."""

import os
from pathlib import Path
from random import Random

import pytest

from fuzz import runs_folder
from sca_bench.errors import InputError

NUMBERS = {"records": 60, "index": 250, "shards": 150}


@pytest.mark.parametrize("kind", NUMBERS)
def test_damage_is_refused_or_read_and_nothing_lies_outside(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # a power cut is not what this is about
    seeds, place = tmp_path / "seeds", tmp_path / "work"
    seeds.mkdir()
    getattr(runs_folder, f"{kind}_seeds")(seeds)
    before = everything(seeds)
    said: list[str] = []
    for number in range(NUMBERS[kind]):
        work = place / str(number)
        work.mkdir(parents=True)
        getattr(runs_folder, f"damage_{kind}")(Random(f"{kind} 16 {number}"), seeds, work)
        try:
            getattr(runs_folder, f"check_{kind}")(work)
        except InputError as fault:
            said.append(str(fault))
    assert [line for line in said if "\n" in line or len(line) > 2000] == []
    assert [line for line in said if "root:" in line] == []  # what a link led to
    assert everything(seeds) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seeds", "work"]
    assert said or kind == "shards"  # damaged shards are left out


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
