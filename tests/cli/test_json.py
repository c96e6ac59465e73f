"""`--json` of commands that look things up: one document, and nothing beside it."""

import json

import pytest

from sca_bench.cli import main

SUITE = """
suite: demo
question: How deep?
axes: {mixer.num_layers: [1, 2]}
seeds: [0, 1]
metrics: [exact_match]
"""


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo.yaml").write_text(SUITE)

    def run(*words, code=0):
        assert main([*words, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return run


def test_lists(said):
    variants = said("list", "variants")
    assert {row["variant"] for row in variants} >= {"sca", "most_frequent"}
    assert all(row["what it is"] for row in variants)
    assert said("list", "metrics", "bleu_4")[0]["metric"] == "bleu_4"
    (rate,) = said("list", "settings", "train.learning_rate")
    assert rate["type"] == "a number above 0"
    assert said("list", "runs") == []


def test_a_plan(said):
    plan = said("plan", "demo.yaml")
    assert [(run["cell"], run["seed"], run["state"]) for run in plan["runs"]] == [
        (f"num_layers={layers}", seed, "to run") for layers in (1, 2) for seed in (0, 1)
    ]


def test_a_check(said):
    found = said("check", "demo.yaml")
    assert found["all_right"]
    assert found["refused"] == found["missing"] == []
    assert {need["state"] for need in found["needs"]} >= {"there"}
