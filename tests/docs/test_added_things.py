"""Every example of `docs/add` is installed from outside, as its page prints it, and runs."""

import functools
import importlib
import importlib.metadata
import runpy
import sys
import tomllib

import pytest
from helpers import command as commands
from helpers.printed import ROOT, blocks
from setuptools.dist import Distribution

from sca_bench.metrics.registry import METRICS
from sca_bench.report.figures.registry import PLOTS
from sca_bench.specs.designs import DESIGNS
from sca_bench.specs.encoders import ENCODERS
from sca_bench.specs.readers import READERS
from sca_bench.study.runs.store import Store
from sca_bench.variants import VARIANTS

REGISTRIES = (VARIANTS, DESIGNS, METRICS, READERS, ENCODERS, PLOTS)
KINDS = ("variant", "design", "metric", "reader", "encoder", "plot")
FEW = {"train.steps": 2, "train.images_per_batch": 2, "train.val_every": 2, "mixer.mlp_dim": 16}
SCENES = {"train": 4, "val": 1, "test": 2}


def written(page, folder):
    """Write the files of a page; return their names."""
    names = []
    for block in blocks(ROOT / "docs" / "add" / f"{page}.md"):
        if block.mark.startswith("file: "):
            path = folder / block.mark.removeprefix("file: ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
            names.append(path.name)
    return names


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Return a function that installs a page's package for this process and its workers."""
    before = set(sys.modules)

    def install(page):
        names = written(page, tmp_path)
        project = tomllib.loads((tmp_path / "pyproject.toml").read_text("utf-8"))["project"]
        info = tmp_path / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        info.mkdir()
        head = f"Name: {project['name']}\nVersion: {project['version']}\n"
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\n{head}")
        points = [
            line
            for group, entries in project["entry-points"].items()
            for line in (f"[{group}]", *(f"{key} = {value}" for key, value in entries.items()))
        ]
        (info / "entry_points.txt").write_text("\n".join(points) + "\n")
        monkeypatch.syspath_prepend(tmp_path)
        importlib.invalidate_caches()
        for registry in REGISTRIES:
            find = functools.partial(importlib.metadata.entry_points)
            monkeypatch.setattr(registry, "find", find)
        return names

    yield install
    for name in set(sys.modules) - before:
        if name.startswith("my_"):
            del sys.modules[name]


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_runs_from_its_suite_to_its_scores(
    kind, installed, tmp_path, workers, monkeypatch
):
    names = installed(kind)
    monkeypatch.chdir(tmp_path)
    if "make_pictures.py" in names:
        runpy.run_path("make_pictures.py")
        few = FEW
    else:
        few = FEW | {f"data.{split}.num_images": count for split, count in SCENES.items()}
    project = tomllib.loads((tmp_path / "pyproject.toml").read_text("utf-8"))["project"]
    ((name, value),) = (e for entries in project["entry-points"].values() for e in entries.items())
    assert name in commands.run_here("describe", name, cwd=tmp_path)
    tested = commands.run_here("test", value.partition(":")[0], cwd=tmp_path)
    assert "failed" not in tested
    (suite,) = (name for name in names if name.endswith(".yaml"))
    small = [word for key, value in few.items() for word in ("--set", f"{key}={value}")]
    small += ["--seeds", "0,1" if kind == "plot" else "0"]
    commands.run_here("run", suite, *small, "--no-mlflow", cwd=tmp_path)
    records = list(Store(tmp_path / "runs").records())
    assert len(records) >= 2
    assert {record.status for record in records} == {"done"}
    if kind == "metric":
        assert all(r.scores["brevity"].value is not None for r in records)
    if kind == "plot":
        commands.run_here("report", "my_spread", "--no-pages", "--no-mlflow", cwd=tmp_path)
        assert (tmp_path / "reports" / "my_spread" / "seed_spread.png").stat().st_size > 5_000


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_can_be_installed_with_other_files_beside_it(kind, tmp_path, monkeypatch):
    names = written(kind, tmp_path)
    for beside in ("runs", "reports", "pictures"):
        (tmp_path / beside).mkdir()
    (tmp_path / "draw.py").write_text("")
    monkeypatch.chdir(tmp_path)
    package = Distribution()
    package.parse_config_files(["pyproject.toml"])
    package.set_defaults()
    found = [*(package.packages or []), *(package.py_modules or [])]
    assert found == [next(n for n in names if n.endswith(".yaml")).removesuffix(".yaml")]


def test_each_page_is_tried():
    pages = {path.stem for path in (ROOT / "docs" / "add").glob("*.md")} - {"index"}
    assert pages == set(KINDS)
