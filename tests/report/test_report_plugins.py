"""Metrics and plots of another package, from its files to the report; one that fails hurts none."""

import functools
import importlib
import importlib.metadata
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from report_fake_runs import build, manifest
from safetensors.numpy import load_file

from sca_bench.cli import main
from sca_bench.engine.score_runs import score_runs
from sca_bench.errors import InputError
from sca_bench.metrics.registry import METRICS, corpus_value, get_metric
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.score import Scorer
from sca_bench.report import write_report
from sca_bench.report.figures.picture import KINDS
from sca_bench.report.figures.registry import PLOTS, plots_in_order
from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import collect
from sca_bench.settings.cell import RuntimeSettings
from sca_bench.study.runs.store import STATISTICS

METRIC = """
import numpy as np
from sca_bench.errors import NotComputed
from sca_bench.metrics.protocol import Scored
from sca_bench.metrics.registry import MetricSpec, Requirement

SHOUTED = MetricSpec("shouted", "Share of captions in capitals; 0-1", "shouted", "mine shouted",
                     package="", tokenizer="none", compute="my_package:shouted")
PRECISION = MetricSpec(
    "word_precision", "Words said that a reference has / words said; 0-1", "words", "mine words",
    package="", tokenizer="spaces", compute="my_package:precision", level="corpus",
    values=("word_precision", "word_precision.first"), statistics="my_package:of_sums",
    requires=(Requirement("a word list", "my_package:word_list"),),
)
ON_TOKENS = MetricSpec("num_tokens", "Tokens of a caption; words", "num_tokens", "mine tokens",
                       package="", unit="words", compute="my_package:on_tokens")

def shouted(rows, context):
    values = [float(row.caption.isupper()) for row in rows]
    return [Scored(context.name, sum(values) / len(values), values, rows)]

def counts(text, references, words=None):
    known = {word for reference in references for word in reference.split()}
    said = text.split()[:words]
    return [len(said), sum(word in known for word in said)]

def precision(rows, context):
    both = np.array([counts(r.caption, r.references) + counts(r.caption, r.references, 3)
                     for r in rows], dtype=float)
    return [Scored(name, float(of_sums(name, both.sum(0))), of_sums(name, both).tolist(), rows,
                   statistics=both) for name in PRECISION.values]

def of_sums(value, sums):
    first = 2 if value.endswith("first") else 0
    return sums[..., first + 1] / np.maximum(sums[..., first], 1)

def word_list():
    raise NotComputed("no list of words: set MY_WORDS to its file")

def on_tokens(rows, context):
    tokens = context.tokens(rows)
    assert tokens.references[0] and tokens.index.has_words
    values = [float(len(text.split())) for text in tokens.captions]
    return [Scored(context.name, sum(values) / len(values), values, rows)]
"""
PLOT = """
from matplotlib.figure import Figure
from sca_bench.report.figures.registry import PlotSpec, Shown

SPREAD = PlotSpec("seed_spread", "Spread over seeds", "Bars: range over seeds.",
                  facts="my_package:facts", draw="my_package:draw")

def facts(suite):
    frame = suite.frame
    own = frame[(frame["metric"] == suite.main_metric) & ~frame["control"]]
    assert suite.seeds == [0, 1] and set(own["cell"]) <= set(suite.cells) - set(suite.controls)
    assert suite.coordinates("depth-2") == {"mixer.num_layers": 2} and suite.axes
    assert len(suite.region_scores("depth-2", 0, "cider_d")) == 30
    if own["value"].isna().all():
        return None
    ranges = own.groupby("cell")["value"].agg(lambda v: v.max() - v.min())
    return {str(cell): float(value) for cell, value in ranges.items()}

def draw(ranges):
    figure = Figure(figsize=(4, 2))
    figure.add_subplot().bar(list(ranges), list(ranges.values()))
    return figure
"""
README = """
from sca_bench.metrics.protocol import Scored
from sca_bench.metrics.registry import MetricSpec

SPEC = MetricSpec(
    "shouted",
    "Share of captions in capitals; 0-1",
    "shouted",
    "my_package shouted",
    package="my-package",
    tokenizer="none",
    compute="my_package:shouted",
)


def shouted(rows, context):  # context.images(image_id) gives pixels, where there are any
    values = [float(row.caption.isupper()) for row in rows]
    return [Scored(context.name, sum(values) / len(values), values, rows)]
"""
"""The metric that the first release's README printed, which runs as it is."""
EVAL = {"prompt": "box", "num_beams": 1, "max_new_tokens": 19, "split": "test"}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a package of one module with its entry points."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("COLUMNS", "300")  # one line a row
    modules = []

    def add(code, module="my_package", **points):
        info = site / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        groups = [f"[sca_bench.{group}]\n{text}\n" for group, text in points.items()]
        (info / "entry_points.txt").write_text("".join(groups))
        (site / f"{module}.py").write_text(code)
        modules.append(module)
        importlib.invalidate_caches()
        for registry in (METRICS, PLOTS):  # new functions, since what one finds is kept
            monkeypatch.setattr(
                registry, "find", functools.partial(importlib.metadata.entry_points)
            )

    yield add
    for module in modules:
        sys.modules.pop(module, None)


def points(**names):
    return "\n".join(f"{name} = my_package:{attribute}" for name, attribute in names.items())


def scored_runs(tmp_path, metrics, **changes):
    """Fake runs, scored by the metrics from their captions."""
    store, suite = build(tmp_path / "runs", manifest(metrics=metrics, **changes))
    jobs, settings = [], SimpleNamespace(runtime=RuntimeSettings())
    for record in list(store.records()):
        store.save(record.model_copy(update={"settings": {**record.settings, "eval": EVAL}}))
        jobs.append(
            SimpleNamespace(
                name=record.cell_id,
                cell=SimpleNamespace(cell_id=record.cell_id, settings=settings),
                seed=record.seed,
            )
        )
    said = []
    own = [metric for metric in metrics if not get_metric(metric).is_own]
    assert score_runs(store, jobs, own, said.append) == len(jobs)
    return store, suite


def test_metrics_of_a_stranger_reach_the_report(install, tmp_path):
    install(METRIC, metrics=points(shouted="SHOUTED", word_precision="PRECISION"))
    says = "word_precision(mixer.num_layers=2) > word_precision(cell=permuted captions)"
    claims = [{"id": "reads", "says": says}]
    metrics = ["word_precision", "shouted", "cider_d"]
    store, suite = scored_runs(tmp_path, metrics, claims=claims)
    kept = load_file(store.run_dir("c-depth-2", 0) / STATISTICS)
    assert {name: rows.shape for name, rows in kept.items()} == {"word_precision": (30, 4)}
    data = collect(store, suite)
    assert data.metrics == ["word_precision", "word_precision.first", "shouted", "cider_d"]
    cell = next(cell for cell in data.cells if cell.entry.name == "depth-2")
    samples = Samples(data)
    sample = samples.of(cell, "word_precision")
    values = [record.scores["word_precision"].value for record in cell.done]
    assert sample.resampled is not None
    np.testing.assert_allclose(sample.resampled.scores, values, rtol=0, atol=1e-12)
    assert values[0] != pytest.approx(sample.means.mean())  # of all words, no mean over regions
    of_images = kept["word_precision"].reshape(10, 3, 4).sum(1)  # three regions an image
    drawn = samples.weights(10) @ of_images
    np.testing.assert_allclose(sample.resampled.draws[0], drawn[:, 1] / drawn[:, 0], atol=1e-12)
    folder = write_report(store, suite, tmp_path / "reports")
    text = (folder / "table.md").read_text()
    assert "Word precision (×100, max 100)" in text  # noqa: RUF001
    assert "Shouted (×100, max 100)" in text  # noqa: RUF001
    said = "| Two layers beat permuted captions in Word precision "
    row = next(line for line in text.splitlines() if line.startswith(said))
    number = r"\d+(\.\d)?"
    assert re.search(rf"\+{number} \| −{number} to \+{number}", row), row  # noqa: RUF001
    assert "which is not the corpus score" not in text


def test_the_metric_of_the_first_release_s_readme_runs_unchanged(install):
    install(README, metrics=points(shouted="SPEC"))
    rows = [CaptionRow("1", "i", "A DOG", ("a dog",)), CaptionRow("2", "i", "a cat", ("a cat",))]
    with Scorer() as scorer:
        result = scorer.score(rows, ["shouted"])
    assert (result.values, result.per_region) == ({"shouted": 0.5}, {"shouted": [1.0, 0.0]})
    assert result.signatures["shouted"].scorer == "my_package shouted"
    assert not result.statistics


def test_statistics_that_make_another_value_are_refused(install):
    rows = [CaptionRow("1", "i", "a b c d e", ("a b",)), CaptionRow("2", "i", "a", ("a",))]
    broken = METRIC.replace("maximum(sums[..., first], 1)", "maximum(sums[..., first], 9)", 1)
    several = METRIC.replace("statistics=both)", "statistics=both * (1 + len(name)))")
    for module, code, reason in (
        ("one", broken.replace("float(of_sums(name, both.sum(0)))", "0.5"), "of all regions' stat"),
        ("two", several, "gave several statistics"),
        ("three", METRIC.replace("of_sums(name, both).tolist()", "[]"), "and 0 values of regions"),
        ("four", METRIC.replace("for name in PRECISION.values", "for name in ['word_precision']"),
         "gave no value named 'word_precision.first'"),
        ("five", METRIC.replace("for name in PRECISION.values", "for name in ['cider_d']"),
         "gave 'cider_d', expected 'word_precision'"),
    ):  # fmt: skip
        code = code.replace("my_package:", f"{module}:").replace('"word_precision', f'"w_{module}')
        code = code.replace("'word_precision", f"'w_{module}")
        install(code, module, metrics=f"x = {module}:PRECISION")
        name = f"w_{module}"
        with Scorer() as scorer:
            result = scorer.score(rows, [name, "exact_match"])
        wanted = reason.replace("word_precision", name)
        assert wanted in result.not_computed[name], module
        assert set(result.not_computed) == {name, f"{name}.first"}
        assert result.values["exact_match"] == 0.5


@pytest.mark.usefixtures("java")
def test_a_stranger_s_metric_sees_the_tokens_of_the_fields_scorers(install):
    install(METRIC, metrics=points(num_tokens="ON_TOKENS"))
    rows = [CaptionRow("1", "i", "It's a dog, isn't it?", ("a dog",))]
    with Scorer() as scorer:
        result = scorer.score(rows, ["num_tokens", "rouge_l"])
    assert not result.not_computed
    assert result.values["num_tokens"] == 7.0  # it 's a dog is n't it: no punctuation


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ('level="corpus"', 'level="page" has level'),
        ('statistics="my_package:of_sums"', 'statistics="of_sums" has statistics'),
        ('level="corpus"', 'level="region" set level='),
        ('"my_package:word_list"', '"word_list" has requires (a word list)'),
    ],
)
def test_a_spec_that_says_nonsense_is_listed_with_its_fault(install, change, fault, capsys):
    new, _, said = fault.partition(" ")
    install(METRIC.replace(change, new), metrics=points(word_precision="PRECISION"))
    assert said in METRICS.all()["word_precision"].fault
    assert main(["list", "metrics"]) == 0
    assert said in capsys.readouterr().out


def test_what_a_stranger_s_metric_requires_is_looked_for_by_check(
    install, tmp_path, capsys, rendering
):
    raises = METRIC.replace("raise NotComputed(", "raise ValueError(")
    install(METRIC, metrics=points(word_precision="PRECISION"))
    other = raises.replace("my_package:", "other:").replace('"word_precision', '"other_precision')
    install(other, "other", metrics="o = other:PRECISION")
    path = tmp_path / "mine.yaml"
    path.write_text(
        "suite: mine\nquestion: Does it run?\nbase: {variant: most_frequent}\n"
        "metrics: [exact_match, word_precision, other_precision]\nprofiles: {tiny: {}}\n"
    )
    runs = ["--runs-dir", str(tmp_path / "runs")]
    assert main(["plan", str(path), "--no-probe", *runs]) == 0
    line = "not scored without a word list, for word_precision: no list of words: set MY_WORDS to "
    assert line in capsys.readouterr().out
    assert main(["check", str(path), *runs]) == 0
    out = capsys.readouterr().out
    assert "a word list, for word_precision: no list of words: set MY_WORDS to its file" in out
    assert "other:word_list raised ValueError: no list of words" in out
    assert "all right, without a word list, for word_precision; a word list, for other_prec" in out


def pictures_of(folder, name):
    return {f"{name}.{kind}" for kind in KINDS} & {path.name for path in folder.iterdir()}


def test_a_plot_of_a_stranger_is_in_the_report(install, tmp_path, every_kind):
    store, suite = build(tmp_path / "runs")
    before = write_report(store, suite, tmp_path / "before")
    install(PLOT, plots=points(seed_spread="SPREAD"))
    assert [spec.name for spec in plots_in_order()] == [
        *("headline_figure", "sweep_slices", "sweep_history", "sweep_importance", "sweep_front"),
        *("forest", "metric_over_axis", "pareto", "distribution", "learning_curves", "seed_spread"),
    ]
    folder = write_report(store, suite, tmp_path / "reports")
    assert pictures_of(folder, "seed_spread") == {f"seed_spread.{kind}" for kind in KINDS}
    page = (folder / "index.html").read_text()
    assert re.search(r'<div id="plot-seed-spread">\s*<h3>Spread over seeds</h3>', page)
    assert "Bars: range over seeds." in page
    for path in before.iterdir():
        if path.name != "index.html":
            assert (folder / path.name).read_bytes() == path.read_bytes(), path.name
    again = write_report(store, suite, tmp_path / "again")
    for path in folder.iterdir():
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name


BROKEN = {
    "facts_raise": (PLOT.replace("frame = suite.frame", "1 / 0"), "ZeroDivisionError: division"),
    "draw_leaves": (
        PLOT.replace("figure = Figure", "raise SystemExit(3)\n    Figure"),
        "SystemExit: 3",
    ),
    "no_figure": (PLOT.replace("return figure", "return 7"), "gave int, expected a Figure"),
    "other_files": (
        PLOT.replace("return {str", "return Shown(1, name='table')\n    return {str"),
        "names its files 'table', expected seed_spread or seed_spread_...",
    ),
    "one_name_twice": (
        PLOT.replace("return {str", "return [Shown(1), Shown(2)]\n    return {str"),
        "gives two figures one name; set Shown.name",
    ),
    "no_import": (f"import no_such_package\n{PLOT}", "cannot be loaded (ModuleNotFoundError"),
    "no_facts": (PLOT.replace('facts="my_package:facts"', 'facts=""'), "expected 'module:attrib"),
    "no_spec": ("SPREAD = 7", "is int, expected a PlotSpec"),
    "bad_name": (PLOT.replace('"seed_spread"', '"seed spread"'), "names its plot 'seed spread'"),
    "taken": (PLOT.replace('"seed_spread"', '"pareto"'), "is called as one of sca_bench's own"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_plot_that_fails_leaves_a_line(install, tmp_path, case):
    code, reason = BROKEN[case]
    install(code, plots=points(seed_spread="SPREAD"))
    store, suite = build(tmp_path / "runs")
    folder = write_report(store, suite, tmp_path / "reports")
    text = (folder / "table.md").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("- The plot ")]
    assert reason in line.replace("\\", "")
    assert "cannot be drawn: " in (folder / "index.html").read_text()
    assert pictures_of(folder, "pareto")
    assert not pictures_of(folder, "seed_spread")


def test_a_plot_with_nothing_to_show_is_left_out(install, tmp_path):
    install(PLOT.replace("frame = suite.frame", "return None"), plots=points(s="SPREAD"))
    store, suite = build(tmp_path / "runs")
    folder = write_report(store, suite, tmp_path / "reports")
    assert "Spread over seeds" not in (folder / "index.html").read_text()


def test_a_plot_that_two_packages_have_is_neithers_and_near_names_are_suggested(install):
    install(PLOT, plots=points(seed_spread="SPREAD"))
    with pytest.raises(InputError, match=r"'seed_spreat' is not registered; did you mean seed_sp"):
        PLOTS.get("seed_spreat")
    install(PLOT.replace("my_package:", "other:"), "other", plots="s = other:SPREAD")
    with pytest.raises(InputError, match="registered twice, by my_package:SPREAD and by other:SP"):
        PLOTS.get("seed_spread")


def test_the_value_of_a_sum_is_asked_of_the_metric(install):
    install(METRIC, metrics=points(word_precision="PRECISION"))
    sums = np.array([[10.0, 5.0, 4.0, 1.0], [2.0, 1.0, 1.0, 1.0]])
    assert corpus_value("word_precision", sums, 7.0).tolist() == [0.5, 0.5]
    assert corpus_value("word_precision.first", sums, 7.0).tolist() == [0.25, 1.0]
