"""SPICE's call, around a stand-in for Java: its language models cannot be had offline."""

import pytest

from sca_bench.errors import NotComputed
from sca_bench.metrics.coco_caption.java import Java
from sca_bench.metrics.coco_caption.spice import CORENLP_JARS, CORENLP_VARIABLE, spice

# Answers like the jar: in the order of the sorted ids, here backwards to prove ids are used.
PROGRAM = """
import json, os, sys
arguments = sys.argv[1:]
classes = arguments[arguments.index("-cp") + 1].split(os.pathsep)
assert classes[0].endswith("spice-1.0.jar") and classes[2].endswith("/*"), classes
main = arguments.index("edu.anu.spice.SpiceScorer")
records = json.load(open(arguments[main + 1]))
assert os.path.isdir(arguments[arguments.index("-cache") + 1])
assert [r["image_id"] for r in records] == sorted(r["image_id"] for r in records)
def f(record):
    return {"scores": {"All": {"f": {VALUE}}}, "image_id": record["image_id"]}
json.dump([f(r) for r in reversed(records)], open(arguments[arguments.index("-out") + 1], "w"))
"""
LENGTH = "len(record['test']) / 100 + len(record['refs']) / 10"


@pytest.fixture
def corenlp(tmp_path, monkeypatch):
    folder = tmp_path / "corenlp"
    folder.mkdir()
    for name in CORENLP_JARS:
        (folder / name).touch()
    monkeypatch.setenv(CORENLP_VARIABLE, str(folder))
    return folder


def test_values_follow_the_rows(corenlp, fake_java):
    hypotheses = ["a" * n for n in range(12, 0, -1)]
    references = [["x"] * (1 + n % 3) for n in range(12)]
    java = fake_java(PROGRAM.replace("{VALUE}", LENGTH))
    value, per_region = spice(java, references, hypotheses)
    expected = [len(h) / 100 + len(r) / 10 for h, r in zip(hypotheses, references, strict=True)]
    assert per_region == pytest.approx(expected)
    assert value == pytest.approx(sum(expected) / 12)


@pytest.mark.parametrize("answer", ["None", "float('nan')", "'n/a'"])
def test_a_region_without_a_number_is_refused(corenlp, fake_java, answer):
    with pytest.raises(NotComputed, match="SPICE"):
        spice(fake_java(PROGRAM.replace("{VALUE}", answer)), [["a"]], ["a"])


def test_missing_jars_are_named(corenlp, fake_java, monkeypatch):
    java = fake_java("raise SystemExit('must not run')")
    (corenlp / CORENLP_JARS[1]).unlink()
    with pytest.raises(NotComputed, match=r"lacks stanford-corenlp-3.6.0-models.jar"):
        spice(java, [["a"]], ["a"])
    monkeypatch.delenv(CORENLP_VARIABLE)
    with pytest.raises(NotComputed, match=r"set SCA_BENCH_CORENLP to a folder"):
        spice(java, [["a"]], ["a"])


def test_the_jar_itself_starts_and_names_the_missing_models(corenlp):
    """With empty CoreNLP jars the real program fails, and its own words come back."""
    from sca_bench.metrics.coco_caption.java import find_java

    with pytest.raises(NotComputed, match=r"SPICE failed \(exit code 1\): .*(edu|stanford)"):
        spice(find_java(), [["a dog"]], ["a dog"])


def test_scratch_stays_out_of_the_package(corenlp, fake_java):
    from sca_bench.metrics.coco_caption.java import scorer_folder

    before = sorted(path.name for path in (scorer_folder() / "spice").iterdir())
    spice(fake_java(PROGRAM.replace("{VALUE}", LENGTH)), [["a"]], ["a"])
    assert sorted(path.name for path in (scorer_folder() / "spice").iterdir()) == before


OPENED = ["lang", "math", "util", "util.concurrent", "net", "text"]


def test_java_17_is_told_what_to_open(corenlp, fake_java):
    opened = [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in OPENED]
    asked = f"assert [a for a in arguments if a.startswith('--add-opens')] == {opened!r}\n"
    asked += "assert '-Xmx8G' in arguments and '-silent' in arguments and '-subset' in arguments\n"
    program = PROGRAM.replace("{VALUE}", "0.5").replace("main = ", f"{asked}main = ", 1)
    assert spice(fake_java(program), [["a"]], ["a"]) == (0.5, [0.5])


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import sys; print('no heap', file=sys.stderr); sys.exit(3)", "exit code 3.*no heap"),
        ("pass", r"exit code 0"),  # it wrote nothing
        ("import time; time.sleep(9)", "SPICE took longer than 0.2 s"),
    ],
)
def test_a_program_that_fails_says_how(corenlp, fake_java, program, said):
    with pytest.raises(NotComputed, match=said):
        spice(fake_java(program), [["a"]], ["a"], timeout_s=0.2 if "sleep" in program else 60)


def test_a_program_that_does_not_start_says_so(corenlp, tmp_path):
    with pytest.raises(NotComputed, match=r"SPICE: .*none does not start"):
        spice(Java(str(tmp_path / "none"), "test"), [["a"]], ["a"])
