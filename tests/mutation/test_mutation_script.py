"""The script itself, on a repository of one function: what is a fault, which are noticed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from small_faults import faults_of
from targets import drawn, faults_of_target, guards_of

ROOT = Path(__file__).parents[2]
SOURCE = '''"""One function."""

MOST = 3


def clipped(number: int, most: int = MOST) -> int:
    """Return a number, or the most."""
    if number < 0:
        raise ValueError(f"{number} is below zero, expected more")
    if number > most:
        return most
    return number
'''
TESTS = """
import pytest
from sca_bench.stats.clip import clipped


@pytest.mark.parametrize(("number", "found"), [(0, 0), (2, 2), (3, 3), (9, 3)])
def test_clipped(number, found):
    assert clipped(number) == found


def test_below():
    with pytest.raises(ValueError, match="-1"):
        clipped(-1)
"""
ROW = "| `stats` | statistics | `tests/stats` |\n"
ALIKE = """
- file: sca_bench/stats/clip.py
  line: "if number > most:"
  changes: [number > most -> (number >= most)]
  reason: at the most, both are the same number
"""


@pytest.fixture
def repository(tmp_path):
    """A repository with one function, its tests, and one fault that is known to change nothing."""
    files = {
        "sca_bench/__init__.py": "",
        "sca_bench/stats/__init__.py": "",
        "sca_bench/stats/clip.py": SOURCE,
        "tests/stats/test_clip.py": TESTS,
        "CONTRIBUTING.md": ROW,
        "tests/mutation/equivalent.yaml": ALIKE,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def changes(source):
    return {(fault.before, fault.after) for fault in faults_of("a.py", source)}


def test_every_fault_of_a_function():
    assert changes(SOURCE) == {
        ("3", "4"),
        ("3", "(2)"),
        ("number < 0", "(number <= 0)"),
        ("number < 0", "(number >= 0)"),
        ("0", "1"),
        ("0", "(-1)"),
        ('raise ValueError(f"{number} is below zero, expected more")', "pass"),
        ("ValueError", "Exception"),
        ("number > most", "(number >= most)"),
        ("number > most", "(number <= most)"),
        ("most", "None"),
        ("number", "None"),
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a = b + c", {("b + c", "(b - c)")}),
        ("a += b", {("a += b", "a -= b"), ("a += b", "pass")}),
        ("x = a and not b", {("a and not b", "(a or not b)"), ("not b", "(b)")}),
        ("x = y[1:]", {("1:", ":"), ("1", "2"), ("1", "(0)")}),
        ("x = sorted(y, key=f)", {
            ("sorted(y, key=f)", "list(y)"), ("sorted(y, key=f)", "sorted(y)"),
        }),
        ("x = [a for a in b if c]", {("c", "True")}),
        ("x = f(a, b=True)", {("True", "False"), ("f(a, b=True)", "f(a)")}),
        ("x = 'word'", {("'word'", "''")}),
        ("x: int | None = None", set()),
        ("x = 'words for a person'", set()),
        ("x = zip(a, strict=True)", set()),
        ("assert a > 1", set()),
        ("print('word')", set()),
        ("x = 1  # pragma: no mutate", set()),
        ("fix = 'word'", set()),
    ],
)  # fmt: skip
def test_what_is_a_fault(line, expected):
    assert changes(line) == expected


def test_every_fault_of_this_package_is_a_program():
    for target in ("stats", "optimiser"):
        for file, faults in faults_of_target(ROOT, target).items():
            source = (ROOT / file).read_text(encoding="utf-8")
            for fault in faults[::7]:
                compile(fault.applied(source), file, "exec")
                assert fault.applied(source) != source


def test_every_fault_that_is_said_to_change_nothing_is_one():
    """An entry that fits no fault any more has lost its line."""
    for entry in yaml.safe_load((ROOT / "tests/mutation/equivalent.yaml").read_text("utf-8")):
        source = (ROOT / entry["file"]).read_text(encoding="utf-8")
        keys = {fault.key for fault in faults_of(entry["file"], source)}
        for change in entry["changes"]:
            assert (entry["file"], entry["line"], change) in keys
        assert len(entry["reason"]) > 20


def test_each_file_gets_its_share():
    faults = faults_of_target(ROOT, "stats")
    whole = sum(map(len, faults.values()))
    picked = drawn(faults, 100, seed=1)
    assert len({(f.file, f.start, f.end, f.after) for f in picked}) == 100
    for file, of_file in faults.items():
        taken = sum(fault.file == file for fault in picked)
        assert abs(taken - 100 * len(of_file) / whole) < 1
    assert drawn(faults, 100, seed=1) == picked != drawn(faults, 100, seed=2)
    assert len(drawn(faults, 10**6, seed=1)) == whole


def test_the_map_of_contributing_names_the_tests():
    assert "tests/stats/test_bootstrap.py" in guards_of(ROOT, "stats")
    assert "tests/engine/worker/test_optimiser.py" in guards_of(ROOT, "optimiser")
    study = guards_of(ROOT, "study")
    assert {"tests/engine/test_equal_keys.py", "tests/study/suite/test_suite.py"} <= set(study)


def run(repository, *words):
    script = ROOT / "tests/mutation/mutate.py"
    given = ["--root", repository, "--targets", "stats", "--number", "100", *words]
    found = subprocess.run(
        [sys.executable, script, *map(str, given)], capture_output=True, text=True, timeout=120
    )
    rows = (repository / "build/mutation/results-16.jsonl").read_text().splitlines()
    return found, {(row["diff"], row["outcome"]): row for row in map(json.loads, rows)}


def test_what_is_noticed_what_survives_and_what_changes_nothing(repository):
    found, rows = run(repository)
    assert found.returncode == 0, found.stdout + found.stderr
    count = [outcome for _, outcome in rows]
    assert (count.count("killed"), count.count("equivalent")) == (11, 1)
    assert "stats      11 of 11 noticed (100.0%)" in found.stdout
    # Without the test of what is below zero, two faults survive, and the draw goes on from results.
    path = repository / "tests/stats/test_clip.py"
    path.write_text(TESTS.partition("def test_below")[0])
    (repository / "build/mutation/results-16.jsonl").unlink()
    found, rows = run(repository, "--only", "raise ")
    assert [outcome for _, outcome in rows] == ["survived"]
    assert found.returncode == 1
