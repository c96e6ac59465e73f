"""Packages that register variants and metrics: one that is broken is listed, and hurts nobody."""

import functools
import importlib.metadata
import sys
import textwrap

import pytest

from sca_bench import variants
from sca_bench.cli import main
from sca_bench.errors import InputError
from sca_bench.metrics.registry import METRICS, all_metrics, get_metric
from sca_bench.specs.designs import DESIGNS
from sca_bench.variants import all_variants, get_variant

SUITE = """
suite: mine
question: Does it run?
base:
  variant: {variant}
  train: {{steps: 1}}
  data: {{train: {{num_images: 2}}, test: {{num_images: 1}}}}
axes: {{mixer.num_layers: [1, 2]}}
metrics: [{metric}]
profiles: {{tiny: {{}}}}
"""
FAULTS = {
    "module_gone": ("gone.module:SPEC", "", "cannot be loaded (ModuleNotFoundError"),
    "attribute_gone": ("bad:NOPE", "", "cannot be loaded (AttributeError"),
    "raises": ("bad:SPEC", "1 / 0", "cannot be loaded (ZeroDivisionError"),
    "leaves": ("bad:SPEC", "import sys; sys.exit(3)", "cannot be loaded (SystemExit: 3)"),
    "panics": ("bad:SPEC", "raise BaseException('panic')", "(BaseException: panic)"),
    "needs_a_package": ("bad:SPEC", "import no_such_package", "(ModuleNotFoundError: No module"),
    "no_spec": ("bad:SPEC", "SPEC = {'name': 'bad'}", "is dict, expected a "),
    "no_text": ("bad:SPEC", "SPEC = spec(7)", "names its "),
    "no_address": ("bad:SPEC", "SPEC = spec('bad', '')", ""),
}
"""Case -> what the entry point names, the module `bad`, and what the fault says."""
KINDS = {
    "variants": "from sca_bench.variants import VariantSpec\n"
    "def spec(name, builder='good:build'):\n    return VariantSpec(name, builder, 'Mine')\n",
    "metrics": "from sca_bench.metrics.registry import MetricSpec\n"
    "def spec(name, compute='good:compute'):\n"
    "    return MetricSpec(name, 'Mine', 'mine', 'mine', package='', compute=compute)\n",
}
ALL = {"variants": all_variants, "metrics": all_metrics}
TAKEN = {"variants": "sca", "metrics": "meteor"}


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def install(tmp_path, monkeypatch, kind):
    """Return a function that installs a package with one entry point of the kind."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("COLUMNS", "300")  # one line a row

    def look_again():
        importlib.invalidate_caches()
        find = functools.partial(importlib.metadata.entry_points)  # what one finds is kept
        for registered in (variants.VARIANTS, DESIGNS, METRICS):
            monkeypatch.setattr(registered, "find", find)

    def add(package, point, code=""):
        module, name = point.split(" = ")[1].partition(":")[0], package.replace("-", "_")
        info = tmp_path / "site" / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[sca_bench.{kind}]\n{point}\n")
        if "." not in module:
            text = KINDS[kind] + textwrap.dedent(code)
            (tmp_path / "site" / f"{module}.py").write_text(text)
        look_again()

    yield add
    for module in ("good", "bad", "worse"):
        sys.modules.pop(module, None)


def listed(kind, capsys):
    assert main(["list", kind]) == 0
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("case", FAULTS)
def test_a_broken_package_is_listed_with_its_fault(install, kind, case, capsys):
    value, code, fault = FAULTS[case]
    before = set(ALL[kind]())
    install("bad-one", f"bad = {value}", code)
    install("good-one", "good = good:SPEC", "SPEC = spec('good')")
    found = ALL[kind]()
    assert found.keys() == before | {"bad", "good"}
    assert not found["good"].fault
    assert found["bad"].fault.startswith(f"the entry point bad = {value} ")
    assert fault in found["bad"].fault
    assert f"the entry point bad = {value}" in listed(kind, capsys)


@pytest.mark.parametrize("case", ["module_gone", "no_spec", "raises"])
def test_it_hurts_only_a_suite_that_uses_it(install, kind, case, tmp_path, capsys, monkeypatch):
    value, code, fault = FAULTS[case]
    install("bad-one", f"bad = {value}", code)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.yaml"
    path.write_text(SUITE.format(variant="sca", metric="exact_match"))
    assert main(["plan", str(path), "--no-probe"]) == 0
    assert main(["describe", "cider_d"]) == main(["describe", "sca"]) == 0
    assert main(["describe", "bad"]) == 0
    out, _ = capsys.readouterr()
    assert "2 cells" in out
    assert "the entry point bad = " in out
    if kind == "metrics":  # it is not computed, with this as the reason
        assert get_metric("bad").fault
        return
    path.write_text(SUITE.format(variant="bad", metric="exact_match"))
    for words in (["plan", "--no-probe"], ["check"], ["run"]):
        assert main([words[0], str(path), *words[1:]]) == 2
        _, err = capsys.readouterr()
        assert err.startswith(
            f"{path}: variant: 'bad' cannot be used: the entry point bad = {value}"
        )
        assert fault in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("kind", ["variants"], indirect=True)
@pytest.mark.parametrize("builder", ["gone.model:build", "good.model:build", "raises.model:build"])
def test_code_that_is_not_there_is_missing_before_a_run(install, builder, tmp_path, capsys):
    install("good-one", "good = good:SPEC", f"SPEC = spec('good', '{builder}')")
    (tmp_path / "site" / "raises.py").write_text("1 / 0")
    importlib.invalidate_caches()
    path = tmp_path / "mine.yaml"
    path.write_text(SUITE.format(variant="good", metric="exact_match"))
    assert main(["plan", str(path), "--no-probe", "--runs-dir", str(tmp_path / "runs")]) == 0
    assert main(["check", str(path), "--runs-dir", str(tmp_path / "runs")]) == 2
    assert f"builder {builder}: no module" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["variants"], indirect=True)
def test_a_builder_that_leaves_is_a_fault_of_its_cell(install, tmp_path, capsys):
    leaves = "def build(settings, parts):\n    raise SystemExit(5)\n"
    spec = "SPEC = VariantSpec('good', 'good:build', 'Mine', trains='never', looks=False)"
    install("good-one", "good = good:SPEC", f"{leaves}{spec}")
    path = tmp_path / "mine.yaml"
    path.write_text(SUITE.format(variant="good", metric="exact_match"))
    small = ["--set", "data.train.num_images=2", "--set", "data.test.num_images=1"]
    assert main(["check", str(path), *small, "--runs-dir", str(tmp_path / "runs")]) == 2
    assert "refused: " in (out := capsys.readouterr().out)
    assert "SystemExit: 5" in out


@pytest.mark.parametrize("kind", ["metrics"], indirect=True)
def test_a_metric_without_its_code_is_named_before_a_run(install, tmp_path, capsys):
    install("good-one", "good = good:SPEC", "SPEC = spec('good', 'gone.model:compute')")
    path = tmp_path / "mine.yaml"
    path.write_text(SUITE.format(variant="most_frequent", metric="exact_match, good"))
    assert main(["check", str(path), "--runs-dir", str(tmp_path / "runs")]) == 0
    out, _ = capsys.readouterr()
    assert "compute gone.model:compute: no module gone.model" in out
    assert out.endswith("without metric good\n")


STAGES = """
stages: {first: {data: {train: {dataset: scenes, num_images: 3, first_seed: 5}}, train: {steps: 1}}}
"""


@pytest.mark.parametrize("kind", ["variants"], indirect=True)
@pytest.mark.parametrize("stage", [False, True])
def test_a_published_loss_that_a_variant_does_not_have_is_refused(install, stage, tmp_path, capsys):
    own = "SPEC = spec('good')\nMORE = dataclasses.replace(SPEC, name='more', published_loss=True)"
    install("good-one", "good = good:SPEC", f"import dataclasses\n{own}")
    install("more-one", "more = good:MORE", f"import dataclasses\n{own}")
    path, runs = tmp_path / "mine.yaml", ["--no-probe", "--runs-dir", str(tmp_path / "runs")]
    published = "train.as_published=[loss]"
    for variant in ("good", "more", "sca", "most_frequent"):
        text = SUITE.format(variant=variant, metric="exact_match")
        if stage:
            text = text.replace("train: {steps: 1}", "pretraining: first") + STAGES.replace(
                "train: {steps: 1}", "train: {steps: 1, as_published: [loss]}"
            )
        path.write_text(text)
        code = main(["plan", str(path), *runs, *([] if stage else ["--set", published])])
        err = capsys.readouterr().err
        assert code == (2 if variant == "good" else 0), err
        if variant == "good":
            key = "pretraining.0.train" if stage else "train"
            assert err.startswith(f"{path}: {key}.as_published: loss: good does not say how it ")
            assert err.count("\n") == 1


def test_a_name_of_our_own_stays_ours(install, kind, capsys):
    name = TAKEN[kind]
    own = ALL[kind]()[name]
    install("bad-one", f"{name} = bad:SPEC", f"SPEC = spec('{name}')")
    install("worse-one", f"{name} = worse:SPEC", f"SPEC = spec('{name}', 'worse:it')")
    found = ALL[kind]()
    assert found[name] is own
    for module in ("bad", "worse"):
        fault = found[f"{name} ({module}:SPEC)"].fault
        assert fault.startswith(f"the entry point {name} = {module}:SPEC is called as one of sca_b")
    assert f"{name} (bad:SPEC)" in listed(kind, capsys)


@pytest.mark.parametrize("kind", ["variants"], indirect=True)
def test_a_baseline_comes_before_a_strangers_twin(install):
    """Baselines are entry points, too, of this distribution."""
    own = all_variants()["grit"]
    install("aaa", "grit = bad:SPEC", "SPEC = spec('grit')")
    found = all_variants()
    assert found["grit"] == own
    assert "is called as one of sca_bench's own" in found["grit (bad:SPEC)"].fault


def test_a_name_that_two_packages_have_is_neithers(install, kind):
    install("bad-one", "mine = bad:SPEC", "SPEC = spec('mine')")
    install("worse-one", "mine = worse:SPEC", "SPEC = spec('mine', 'worse:it')")
    fault = ALL[kind]()["mine"].fault
    assert fault.startswith("registered twice, by ")
    assert "bad:SPEC" in fault
    assert "worse:SPEC" in fault
    if kind == "variants":
        with pytest.raises(InputError, match="'mine' cannot be used: registered twice, by "):
            get_variant("mine")


def test_one_spec_that_two_entry_points_name_is_one(install, kind):
    install("bad-one", "mine = bad:SPEC", "SPEC = spec('mine')")
    install("worse-one", "mine = worse:SPEC", "from bad import SPEC")
    found = ALL[kind]()
    assert not found["mine"].fault
    assert not [name for name in found if name.startswith("mine (")]


def test_a_fault_takes_no_name_from_what_works(install, kind):
    install("bad-one", "mine = gone:SPEC")
    install("good-one", "mine = good:SPEC", "SPEC = spec('mine')")
    found = ALL[kind]()
    assert not found["mine"].fault
    assert "cannot be loaded" in found["mine (gone:SPEC)"].fault
    assert METRICS.own().keys() <= all_metrics().keys()


def test_a_broken_name_is_not_suggested(install, kind):
    install("bad-one", "exakt_match = gone:SPEC")
    with pytest.raises(InputError, match=r"did you mean exact_match\?"):
        get_metric("exakt_matsh")
