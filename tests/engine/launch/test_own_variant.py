"""A third party's variant, as the README describes it, runs through the same loop."""

import dataclasses
import sys
import textwrap

import pytest
import torch
from helpers.command import finish

from sca_bench import variants
from sca_bench.engine.job import Outcome
from sca_bench.engine.worker.prepare import prepare
from sca_bench.metrics.rows import read_rows
from sca_bench.study.runs.store import PREDICTIONS, Store

MODULE = '''
import torch
from torch import nn
from sca_bench.types import Prediction


class Mine(nn.Module):
    """Says `a` for bright images; trains one number."""

    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.rand(()))

    def loss(self, batch):
        return (batch.pixel_values_B3HW.mean() - self.level) ** 2

    def generate(self, batch, decoding):
        return [Prediction(r, "a", 0.0, (), 0.0) for r in batch.region_ids]

    def trainable_state(self):
        return {"level": self.level.detach()}

    def load_trainable_state(self, state, where=""):
        with torch.no_grad():
            self.level.copy_(state["level"])


def build(settings, parts=None, *, where=""):
    return Mine()
'''


class Point:
    """Stands for an installed entry point."""

    value = "my_package:SPEC"

    def load(self):
        return variants.VariantSpec(name="mine", builder="my_package:build", summary="Mine")


@pytest.fixture
def my_package(tmp_path, monkeypatch):
    (tmp_path / "my_package.py").write_text(textwrap.dedent(MODULE), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(variants.VARIANTS, "find", lambda group: [Point()])
    yield
    sys.modules.pop("my_package", None)


def test_it_trains_and_captions(my_package, group_job, run_group):
    job = group_job({"variant": "mine"})
    assert not run_group(job).failed
    store, cell = Store(job.runs_dir), job.cells[0]
    record = store.record(cell.cell_id, 0)
    assert record.cost["num_trainable_params"] == 1
    losses = [row["loss"] for row in store.log(cell.cell_id, 0) if "loss" in row]
    assert len(losses) == 6
    assert torch.isfinite(torch.tensor(losses)).all()
    rows = read_rows(store.run_dir(cell.cell_id, 0) / PREDICTIONS)
    assert {row.caption for row in rows} == {"a"}


def test_an_installed_package_is_found_from_outside(tmp_path, suite_file, process, command):
    """The README's example: a package with an entry point, in processes of its own."""
    site = tmp_path / "site"
    package, info = site / "my_package", site / "my_package-1.0.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").write_text(
        "from sca_bench.variants import VariantSpec\n"
        "SPEC = VariantSpec(\n"
        '    name="mine", builder="my_package.model:build", summary="My captioner"\n)\n'
    )
    (package / "model.py").write_text(textwrap.dedent(MODULE), encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sca_bench.variants]\nmine = my_package:SPEC\n")
    path = suite_file(axes="{variant: [sca, mine]}", changes={"train.steps": 2})
    out = finish(process("list", "variants", site=site))
    assert "My captioner" in out
    finish(process("run", path, "--no-mlflow", site=site))
    statuses = {r.variant: r.status for r in Store(tmp_path / "runs").records()}
    assert statuses == {"sca": "done", "mine": "done"}
    # Without the package the name is unknown, in one line.
    out = command("plan", path, code=2)
    assert "'mine' is not registered" in out


NO_MODULE = """
class Mine:
    def loss(self, batch): ...
    def generate(self, batch, decoding): ...
    def trainable_state(self): ...
    def load_trainable_state(self, state, where=""): ...
def build(settings, parts=None):
    return Mine()
"""
NOTHING_TO_TRAIN = MODULE.replace("torch.rand(())", "torch.rand(()), requires_grad=False")


@pytest.mark.parametrize(
    ("module", "trains", "reason"),
    [
        (NO_MODULE, "gradient", "by gradient, so it has to be a torch.nn.Module"),
        (MODULE.replace("def loss", "def los"), "gradient", "by gradient, but has no loss"),
        (NOTHING_TO_TRAIN, "gradient", "has no parameter that requires one"),
        (MODULE, "once", "learns once, but has neither fit nor fit_features"),
        (NO_MODULE.replace("generate", "generates"), "never", "it has no generate"),
    ],
)
def test_what_the_loop_cannot_train_is_met_before_training(
    my_package, tmp_path, monkeypatch, group_job, module, trains, reason
):
    (tmp_path / "my_package.py").write_text(module, encoding="utf-8")
    spec = dataclasses.replace(Point().load(), trains=trains)
    monkeypatch.setattr(Point, "load", lambda self: spec)
    job = group_job({"variant": "mine"})
    outcome = Outcome()
    prepare(job, outcome, tmp_path / "progress")
    (said,) = outcome.failed.values()
    assert said.startswith("TypeError: Mine is no captioner for mine: it ")
    assert reason in said


DESIGN = """
from sca_bench.models.designs import Design, LearnedQueries, MixerContext, build_text_mixer


def first_tokens_only(features):
    return MixerContext(
        features.need("tokens_NTC")[:, :5],
        features.need("image_tokens_NSC"),
        features.need("image_pe_SC"),
    )


def design(mixer, dims, where):
    text_mixer = build_text_mixer(mixer, dims)
    queries = LearnedQueries(1, mixer.num_query_tokens, dims.embed_dim)
    return Design(queries, ("mixed",), text_mixer, first_tokens_only)
"""


class DesignPoint:
    """Stands for the entry point of a package with one design more."""

    value = "my_design:SPEC"

    def load(self):
        return variants.VariantSpec(
            name="sca_without_prompt_tokens",
            builder="sca_bench.models.build:build_sca",
            parts="sca_bench.models.build:load_frozen_parts",
            design="my_design:design",
            summary="Text queries that see SAM's own tokens only",
        )


def test_another_design_is_one_function_and_joins_the_others(
    tmp_path, monkeypatch, group_job, run_group
):
    (tmp_path / "my_design.py").write_text(DESIGN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(variants.VARIANTS, "find", lambda group: [DesignPoint()])
    job = group_job({"variant": "sca_without_prompt_tokens"}, {"variant": "sca_roi_align"})
    assert len({cell.identity.prefix_key for cell in job.cells}) == 1
    assert not run_group(job).failed
    store = Store(job.runs_dir)
    assert {store.record(cell.cell_id, 0).status for cell in job.cells} == {"done"}
    sys.modules.pop("my_design", None)
