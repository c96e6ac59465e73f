"""Metrics of other packages: found by entry point, computed by name, and never in the way."""

import pytest

from sca_bench.cli import main
from sca_bench.errors import InputError
from sca_bench.metrics.protocol import Scored
from sca_bench.metrics.registry import METRICS, MetricSpec, get_metric, spec_of_value
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
