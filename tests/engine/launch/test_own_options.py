"""A stranger's captioner with settings of its own on two axes: from YAML to table and verdict."""

import json

import pytest
from helpers.command import finish
from helpers.own_options import CAPTIONER, DESIGN, write_package

from sca_bench.study.runs.store import Store

CLAIMS = """
claims:
  - {id: wider, says: "exact_match(width=8) > exact_match(width=4)"}
"""


@pytest.fixture
def site(tmp_path):
    write_package(tmp_path / "site", "wide", "variants", CAPTIONER)
    write_package(tmp_path / "site", "first_tokens", "designs", DESIGN)
    return tmp_path / "site"


def test_two_widths_times_two_depths(site, tmp_path, suite_file, process, command):
    changes = {"variant": "wide", "train.steps": 2}
    axes = "{options.width: [4, 8], options.depth: [1, 2]}"
    path = suite_file("own", axes, changes=changes, extra=CLAIMS)
    finish(process("run", path, "--no-mlflow", site=site))
    records = list(Store(tmp_path / "runs").records())
    assert {record.status for record in records} == {"done"}
    params = {
        (r.settings["options"]["width"], r.settings["options"]["depth"]): r.cost[
            "num_trainable_params"
        ]
        for r in records
    }
    # Layers from 4 numbers to `width` channels, `depth` of them, and one to a single number.
    assert params == {(4, 1): 25, (8, 1): 49, (4, 2): 45, (8, 2): 121}
    finish(process("report", path, site=site))
    pages = list((tmp_path / "reports" / "own").rglob("*.md"))
    text = "\n".join(page.read_text() for page in pages)
    for name in ("width", "depth", "wider"):
        assert name in text
    assert any(verdict in text for verdict in ("reproduced", "contradicted", "undecided"))
    # Without the package its runs are still listed and reported.
    assert command("list", "runs").count("width=") == 4
    command("report")
    assert "variant: 'wide' is not registered" in command("plan", path, code=2)


def test_a_design_reads_its_own_settings(site, tmp_path, suite_file, process):
    changes = {"variant": "first_tokens", "train.steps": 1}
    path = suite_file("design", "{options.count: [2, 5]}", changes=changes)
    finish(process("run", path, "--no-mlflow", site=site))
    records = list(Store(tmp_path / "runs").records())
    assert {record.status for record in records} == {"done"}
    losses = [Store(tmp_path / "runs").log(r.cell_id, 0)[0] for r in records]
    assert len({json.dumps(row.get("loss")) for row in losses}) == 2
