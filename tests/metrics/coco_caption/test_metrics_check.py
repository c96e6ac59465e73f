import json

import pytest

from sca_bench.cli import main
from sca_bench.metrics.coco_caption import reference_scorers
from sca_bench.metrics.score import TOLERANCE

OWN = ("cider_d", "bleu", "rouge_l")
FIELD = {"cider_d", "meteor", "rouge_l", "bleu_1", "bleu_2", "bleu_3", "bleu_4"}


@pytest.fixture
def file(tmp_path, further_rows):
    path = tmp_path / "predictions.jsonl"
    keys = ("region_id", "image_id", "caption", "references")
    lines = [json.dumps({key: getattr(row, key) for key in keys}) for row in further_rows[:30]]
    path.write_text("\n".join(lines))
    return str(path)


def test_values_are_the_fields_own(scorer, further_rows):
    """METEOR's, which both sides ask of its own program, are checked by the command below."""
    result = scorer.score(further_rows, OWN)
    found = scorer.check(further_rows, result)
    assert set(found) == FIELD - {"meteor"}
    assert max(found.values()) < 1e-9


@pytest.mark.usefixtures("java")
def test_command(file, capsys, monkeypatch):
    assert main(["score", file, "--check"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed["check"]) == FIELD
    assert max(printed["check"].values()) <= TOLERANCE
    assert main(["score", file, "--metrics", "bleu_2,exact_match", "--check"]) == 0
    assert set(json.loads(capsys.readouterr().out)["check"]) == {"bleu_2"}
    assert main(["score", file, "--metrics", "rouge_l"]) == 0
    assert "check" not in json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("java")
def test_a_value_that_moved_fails(file, capsys, monkeypatch):
    real = reference_scorers.rouge_l

    def moved(references, captions):
        value, per_region = real(references, captions)
        return value, [per_region[0] + 1e-6, *per_region[1:]]

    monkeypatch.setattr(reference_scorers, "rouge_l", moved)
    assert main(["score", file, "--metrics", "rouge_l", "--check"]) == 1
    assert json.loads(capsys.readouterr().out)["check"]["rouge_l"] == pytest.approx(1e-6)
