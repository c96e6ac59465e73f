"""Metrics of other packages: found by entry point, computed by name, and never in the way."""

from dataclasses import replace

import numpy as np
import pytest

from sca_bench.cli import main
from sca_bench.errors import InputError
from sca_bench.metrics.protocol import Scored
from sca_bench.metrics.registry import (
    METRICS,
    MetricSpec,
    Requirement,
    get_metric,
    spec_of_value,
)
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.score import Scorer
from sca_bench.plugins import attribute

ROWS = [CaptionRow("1", "i", "A DOG", ("a dog",)), CaptionRow("2", "i", "a cat", ("a cat",))]
PLUGIN = """
from sca_bench.metrics.protocol import Scored
from sca_bench.metrics.registry import MetricSpec

SPEC = MetricSpec(
    "shouted", "Share of captions in capitals; 0-1", "shouted", "my_metrics shouted",
    package="", tokenizer="none", compute="my_metrics:shouted",
)

def shouted(rows, context):
    values = [float(row.caption.isupper()) for row in rows]
    named = {"version": "7"}
    part = Scored(context.name + ".first", values[0], values[:1], rows[:1])
    return [Scored(context.name, sum(values) / len(values), values, rows, named, ("loud",)), part]

def broken(rows, context):
    raise RuntimeError("two\\nlines")

def leaves(rows, context):
    raise SystemExit(3)

def other_name(rows, context):
    return [Scored("meteor", 1.0, [], rows)]

def part_only(rows, context):
    return [Scored(context.name + ".part", 1.0, [], rows)]

def no_scored(rows, context):
    return [1.0]
"""


class Point:
    """An entry point as `importlib.metadata` gives it."""

    def __init__(self, name, load, value="my_metrics:SPEC"):
        self.name, self.load, self.value = name, load, value


@pytest.fixture
def plug(tmp_path, monkeypatch):
    (tmp_path / "my_metrics.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)

    def install(*points):
        def find(group):
            return list(points) if group == "sca_bench.metrics" else []

        monkeypatch.setattr(METRICS, "find", find)

    return install


def _spec():
    import my_metrics

    return my_metrics.SPEC


def _with(attribute):
    return MetricSpec("mine", "Mine", "mine", "mine", package="", compute=f"my_metrics:{attribute}")


def _score(*names):
    with Scorer() as scorer:
        return scorer.score(ROWS, names)


def test_a_package_adds_a_metric(plug, capsys):
    plug(Point("shouted", _spec))
    result = _score("shouted", "exact_match")
    assert result.values == {"shouted": 0.5, "shouted.first": 1.0, "exact_match": 1.0}
    assert result.per_region["shouted"] == [1.0, 0.0]
    assert result.signatures["shouted"].scorer == "my_metrics shouted"
    assert result.signatures["shouted"].version == "7"
    assert result.signatures["shouted.first"].num_regions == 1
    assert result.notes == ["loud"]
    assert spec_of_value("shouted.first") is get_metric("shouted") is _spec()
    assert main(["list", "metrics"]) == 0
    assert "Share of captions in capitals" in capsys.readouterr().out
    assert main(["describe", "shouted"]) == 0


def test_a_near_name_is_suggested(plug):
    plug(Point("shouted", _spec))
    with pytest.raises(InputError, match=r"'shoutet' is unknown; did you mean shouted\?"):
        get_metric("shoutet")


def _import_fault():
    import no_such_package_at_all  # noqa: F401


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        (_import_fault, "cannot be loaded (ModuleNotFoundError: No module named 'no_such_pack"),
        (lambda: 1 / 0, "cannot be loaded (ZeroDivisionError"),
        (lambda: "SPEC", "is str, expected a MetricSpec"),
        (lambda: MetricSpec("a/b", "", "", "", compute="m:a"), "names its metric 'a/b'"),
        (lambda: MetricSpec("mine", "", "mine", ""), "names no computation"),
    ],
)
def test_a_package_that_cannot_be_loaded_is_a_reason(plug, load, reason):
    plug(Point("mine", load), Point("shouted", _spec))
    result = _score("mine", "exact_match", "shouted")
    assert result.values["mine"] is None
    assert result.not_computed["mine"].startswith("the entry point mine = my_metrics:SPEC ")
    assert reason in result.not_computed["mine"]
    assert (result.values["exact_match"], result.values["shouted"]) == (1.0, 0.5)


@pytest.mark.parametrize(
    ("attribute", "reason"),
    [
        ("broken", "my_metrics:broken raised RuntimeError: two lines"),
        ("leaves", "my_metrics:leaves raised SystemExit: 3"),
        ("nothing", "my_metrics:nothing raised AttributeError"),
        ("other_name", "my_metrics:other_name gave 'meteor', expected 'mine'"),
        ("part_only", "my_metrics:part_only gave no value named 'mine'"),
        ("no_scored", "my_metrics:no_scored gave float, expected Scored"),
    ],
)
def test_a_computation_that_fails_is_a_reason(plug, attribute, reason):
    plug(Point("mine", lambda: _with(attribute)))
    result = _score("mine", "exact_match")
    assert result.not_computed["mine"].startswith(reason)
    assert list(result.not_computed) == ["mine"]
    assert result.values["exact_match"] == 1.0


def test_every_own_computation_is_found():
    for spec in METRICS.own().values():
        if spec.compute:
            assert callable(attribute(spec.compute)), spec.name


def test_scored_parts_keep_their_rows():
    one = Scored("x", 1.0, [1.0], ROWS[:1])
    assert (one.named, one.notes) == ({}, ())


def faulty(name="mine", **facts):
    return MetricSpec(name, "Mine", "mine", "mine", package="", **{"compute": "m:a", **facts})


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        (faulty(compute=""), "names no computation; set compute='module:attribute'"),
        (faulty(compute=3), "names no computation; set compute='module:attribute'"),
        (faulty("Mine"), "names its metric 'Mine', expected small letters, digits and _"),
        (faulty("2_mine"), "names its metric '2_mine'"),
        (faulty(""), "names its metric ''"),
        (faulty("exact_match_without_a"), "names its metric 'exact_match_without_a'"),
        (faulty(values=["a"]), "has values that are no tuple of names, or requires that are none"),
        (faulty(values=("a", 3)), "has values that are no tuple of names"),
        (faulty(requires=("Java",)), "has values that are no tuple of names, or requires that"),
        (faulty(prepare="begin"), "has prepare 'begin', expected 'module:attribute'"),
        (faulty(doubts="m."), "has doubts 'm.', expected 'module:attribute'"),
        (
            faulty(requires=(Requirement("Java", "java"),)),
            "has requires (Java) 'java', expected 'module:attribute'",
        ),
        (faulty(level="image"), "has level 'image', expected one of region, corpus"),
        (
            faulty(statistics="m:s"),
            "has statistics, which a mean over regions does not need; set level='corpus'",
        ),
        (faulty(), ""),
        (faulty("m_2", values=("a", "b"), requires=(Requirement("Java", "m:java"),)), ""),
        (faulty(statistics="m:s", level="corpus", prepare="m:p"), ""),
    ],
)
def test_what_is_wrong_with_a_metric_of_another_package(plug, spec, fault):
    plug(Point("mine", lambda: spec))
    found = METRICS.all()
    added = [one for name, one in found.items() if name not in METRICS.own()]
    assert len(added) == 1
    assert (fault in added[0].fault) if fault else added[0].fault == ""
    if fault:
        assert added[0].name == "mine"
        assert added[0].fault.startswith("the entry point mine = my_metrics:SPEC ")


def test_a_metric_that_is_unknown_names_those_that_can_be_used(plug):
    plug(Point("mine", lambda: 1 / 0), Point("shouted", _spec))
    with pytest.raises(InputError) as caught:
        get_metric("minee")
    assert "mine" not in caught.value.fix.replace("minee", "")
    assert (caught.value.key, caught.value.problem) == ("metrics", "'minee' is unknown")
    for name in ("shouted.first", "exact_match_without_"):
        with pytest.raises(InputError):
            get_metric(name)
    assert get_metric("exact_match_without_a_dog").name == "exact_match"


def test_doubts_that_raise_are_a_note(plug, monkeypatch):
    import my_metrics

    def doubts(values, rows):
        assert values == {"shouted": 0.5, "shouted.first": 1.0}
        assert [row.region_id for row in rows] == ["1", "2"]
        raise KeyError("two\nlines")

    monkeypatch.setattr(my_metrics, "doubts", doubts, raising=False)
    one = replace(_spec(), doubts="my_metrics:doubts")
    plug(Point("shouted", lambda: one))
    (loud, note) = _score("shouted").notes
    assert (loud, note) == ("loud", "my_metrics:doubts raised KeyError('two\\nlines')")
    monkeypatch.setattr(my_metrics, "doubts", lambda values, rows: [3, "odd"])
    assert _score("shouted").notes == ["loud", "3", "odd"]


@pytest.mark.parametrize(
    ("statistics", "reason"),
    [
        ([[[1.0]] * 2, [[1.0]] * 2], ""),
        ([[[1.0]] * 2, [[2.0]] * 2], "gave several statistics, expected one for all values"),
        ([[[1.0]] * 2, [[1.0]] * 2, [[2.0]] * 2], "gave several statistics"),
        ([None, [[1.0]] * 2], ""),
    ],
)
def test_the_values_of_a_computation_share_their_statistics(plug, monkeypatch, statistics, reason):
    import my_metrics

    def compute(rows, context):
        names = ["mine", *(f"mine.part{n}" for n in range(1, len(statistics)))]
        return [
            Scored(name, 2.0, [1.0, 1.0], rows, statistics=None if s is None else np.array(s))
            for name, s in zip(names, statistics, strict=True)
        ]

    monkeypatch.setattr(my_metrics, "compute", compute, raising=False)
    monkeypatch.setattr(my_metrics, "corpus", lambda key, sums: 0 * sums[..., 0] + 2, raising=False)
    spec = faulty(compute="my_metrics:compute", level="corpus", statistics="my_metrics:corpus")
    plug(Point("mine", lambda: spec))
    found = _score("mine")
    assert reason in found.not_computed.get("mine", "")
    assert bool(reason) == ("mine" in found.not_computed)
    if not reason:
        assert list(found.statistics) == ["mine"]


@pytest.mark.parametrize(
    ("sums", "value", "near"),
    [
        (0.0, 1e-6, True),  # the largest difference that passes
        (0.0, 1.01e-6, False),
        (0.0, -1e-6, True),
        (8.0, 8.0 + 7.9e-6, True),  # of what is larger than one, a millionth
        (8.0, 8.0 + 8.1e-6, False),
        (-8.0, -8.0 + 7.9e-6, True),
    ],
)
def test_statistics_give_the_value_to_a_millionth(plug, monkeypatch, sums, value, near):
    import my_metrics

    rows = np.ones((2, 1))
    monkeypatch.setattr(
        my_metrics,
        "compute",
        lambda given, context: [Scored("mine", value, [1.0, 1.0], given, statistics=rows)],
        raising=False,
    )
    monkeypatch.setattr(my_metrics, "corpus", lambda key, s: np.array(sums), raising=False)
    spec = faulty(compute="my_metrics:compute", level="corpus", statistics="my_metrics:corpus")
    plug(Point("mine", lambda: spec))
    assert ("mine" in _score("mine").not_computed) != near
