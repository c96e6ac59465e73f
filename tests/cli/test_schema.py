"""`schema`: editors take what the package takes, and find a word that it does not take."""

import importlib.metadata
import json
from pathlib import Path

import pytest
from helpers.json_schema import faults_of

from sca_bench.cli import main
from sca_bench.metrics.registry import METRICS
from sca_bench.plugins import is_own
from sca_bench.settings import Settings
from sca_bench.specs.encoders import ENCODERS
from sca_bench.specs.readers import READERS
from sca_bench.study.suite.merge import known_paths
from sca_bench.study.suite.profiles import read_yaml
from sca_bench.study.suite.suite import header_of
from sca_bench.variants import VARIANTS, VariantSpec

ROOT = Path(__file__).parents[2]
KINDS = {"suite": ROOT / "ablations", "sweep": ROOT / "ablations/sweeps"}
FILES = [pytest.param(k, f, id=f.stem) for k, d in KINDS.items() for f in sorted(d.glob("*.yaml"))]


def shipped(kind):
    return json.loads((KINDS[kind] / f"{kind}.schema.json").read_text("utf-8"))


def faults(kind, content):
    schema = shipped(kind)
    return faults_of(content, schema, schema)


def own_points(group):
    return [point for point in importlib.metadata.entry_points(group=group) if is_own(point.value)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_shipped_schema_is_what_the_command_prints(kind, capsys, monkeypatch, tmp_path):
    for registry in (METRICS, ENCODERS, READERS, VARIANTS):
        monkeypatch.setattr(registry, "find", own_points)
    assert main(["schema", kind]) == 0
    text = (KINDS[kind] / f"{kind}.schema.json").read_text("utf-8")
    again = f"sca-bench schema {kind} --out {KINDS[kind].relative_to(ROOT)}/{kind}.schema.json"
    assert capsys.readouterr().out == text, f"make it anew: {again}"
    assert main(["schema", kind, "--out", str(tmp_path / "new.json")]) == 0
    assert (tmp_path / "new.json").read_text("utf-8") == text
    assert capsys.readouterr().out == f"{tmp_path / 'new.json'}\n"


@pytest.mark.parametrize(("kind", "file"), FILES)
def test_every_shipped_file_names_its_schema_and_keeps_to_it(kind, file):
    first = file.read_text("utf-8").partition("\n")[0]
    assert first == f"# yaml-language-server: $schema={kind}.schema.json"
    assert (file.parent / first.partition("=")[2]).is_file()
    assert "yaml-language-server" not in header_of(file)
    assert faults(kind, read_yaml(file)) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"axis": {}}, "axis is unknown"),
        ({"axes": {"mixer.num_layer": [1, 2]}}, "mixer.num_layer is unknown"),
        ({"axes": {"mixer.num_layers": ["two"]}}, "'two': is no integer"),
        ({"base": {"train": {"step": 5}}}, "step is unknown"),
        ({"base": {"train": {"precision": "fp8"}}}, "'fp8': is none of"),
        ({"base": {"train": {"images_per_batch": 0}}}, "0: is below 1"),
        ({"base": {"variant": "scaa"}}, "'scaa': is none of"),
        ({"base": {"data": {"train": {"dataset": "visual_genom"}}}}, "'visual_genom': is none of"),
        ({"metrics": ["cider"]}, "'cider': is"),
        ({"cells": [{"name": "blank", "set": {"data.blank_image": True}}]}, "is unknown"),
        ({"adjust": [{"when": {"sam.sice": "vit_b"}, "set": {}}]}, "sam.sice is unknown"),
        ({"profiles": {"tinny": {}}}, "tinny is unknown"),
    ],
)
def test_a_wrong_word_in_a_suite_is_found(change, fault):
    right = {"suite": "my", "question": "Which?"}
    assert faults("suite", right) == []
    found = faults("suite", right | change)
    assert any(fault in line for line in found), found


def test_a_wrong_word_in_a_sweep_is_found():
    space = {"train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    goals = [{"metric": "cider_d", "direction": "maximize"}]
    right = {"sweep": "my", "question": "?", "space": space, "objectives": goals, "trials": 3}
    assert faults("sweep", right) == []
    assert faults("sweep", right | {"space": {"train.rate": {"choices": [1]}}})
    assert faults("sweep", {k: v for k, v in right.items() if k != "trials"}) == [
        ": trials is missing"
    ]


def test_every_setting_is_offered_by_its_name_with_its_sentence():
    schema = shipped("suite")
    assert known_paths() <= schema["$defs"]["axes"]["properties"].keys()
    assert known_paths() <= schema["$defs"]["dotted"]["properties"].keys()
    batch = schema["$defs"]["TrainSettings"]["properties"]["images_per_batch"]
    assert batch["description"]
    assert (batch["type"], batch["minimum"]) == ("integer", 1)


def test_a_setting_of_an_installed_package_is_offered(capsys):
    """The schema that a user makes has what the installation adds."""
    spec = VariantSpec("mine", "mine:build", "Mine", options=f"{__name__}:Mine")
    with VARIANTS.also(spec):
        assert main(["schema", "suite"]) == 0
    settings = json.loads(capsys.readouterr().out)["$defs"]["settings"]["properties"]
    assert "mine" in settings["variant"]["enum"]
    assert settings["options"]["properties"]["width"]["description"] == "Channels of the head."


class Mine(Settings):
    width: int = 8
    """Channels of the head."""
