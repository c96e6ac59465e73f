"""`score` prints a table to people and JSON to programs; JSON keeps natural units."""

import json

import numpy as np
import pytest

from sca_bench.cli import main
from sca_bench.stats.bootstrap import cell_scores
from sca_bench.stats.compare import estimate


@pytest.fixture
def file(tmp_path):
    rows = [("a", "a red dog", "a red dog"), ("b", "a cat", "a red cat")]
    file = tmp_path / "predictions.jsonl"
    file.write_text(
        "".join(
            json.dumps({"region_id": r, "image_id": r, "caption": said, "references": [reference]})
            + "\n"
            for r, said, reference in rows
        )
    )
    return file


METRICS = ["--metrics", "exact_match,caption_length,slots"]


def test_a_table_has_scores_times_100_intervals_and_one_signature(file, capsys):
    words = ["score", str(file), *METRICS]
    assert main([*words, "--table"]) == 0
    lines = capsys.readouterr().out.splitlines()
    ends = estimate(cell_scores([[1.0, 0.0]], ["a", "b"], trained=False))
    interval = f"{100 * ends.low:.1f} to {100 * ends.high:.1f}"
    (row,) = (line for line in lines if line.split()[:2] == ["Exact", "match"])
    assert row.split("match")[1].split(interval)[0].strip() == "50.0"
    assert "sca_bench" in row
    assert any("2.5" in line for line in lines), "words are counted, not scaled"
    (about,) = (line for line in lines if "2 regions in 2 images; scores times 100" in line)
    assert about.endswith("intervals over images, not over seeds")
    (signature,) = (line for line in lines if line.startswith("signature: "))
    assert "|regions:2|set:" in signature
    assert "refs:1|" in signature
    assert any("not computed" in line for line in lines)
    assert len(lines) < 20


def test_a_pipe_gets_json_and_a_terminal_the_table(file, capsys, monkeypatch):
    words = ["score", str(file), *METRICS]
    assert main(words) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["values"]["exact_match"] == 0.5
    assert said["intervals"]["exact_match"][0] < 0.5 < said["intervals"]["exact_match"][1]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert main(words) == 0
    assert "signature: " in capsys.readouterr().out


def test_json_goes_to_a_file_beside_the_table(file, tmp_path, capsys):
    words = ["score", str(file), *METRICS]
    assert main([*words, "--json", str(tmp_path / "new" / "scores.json")]) == 0
    assert "Exact match" in capsys.readouterr().out
    written = json.loads((tmp_path / "new" / "scores.json").read_text())
    assert written["values"]["exact_match"] == 0.5
    assert main([*words, "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == written


def test_a_corpus_score_has_the_interval_of_its_statistics(tmp_path, capsys):
    """BLEU is no mean over regions: its interval comes from what regions add to it."""
    draw = np.random.default_rng(0)
    words = ["a", "red", "blue", "green", "dog", "cat", "on", "the", "grass", "sky"]
    rows = []
    for number in range(24):
        reference = [words[k] for k in draw.integers(0, len(words), 6)]
        caption = [*reference[:4], "x"] if draw.random() < 0.5 else reference
        ids = {"region_id": str(number), "image_id": str(number // 2)}
        rows.append(ids | {"caption": " ".join(caption), "references": [" ".join(reference)]})
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["score", str(file), "--metrics", "bleu_4,rouge_l"]) == 0
    said = json.loads(capsys.readouterr().out)
    if said["values"]["bleu_4"] is None:
        pytest.skip(f"no BLEU here: {said['not_computed']['bleu_4']}")
    for key in ("bleu_4", "rouge_l"):
        low, high = said["intervals"][key]
        assert low < said["values"][key] < high
        assert high - low < 0.5


def test_a_file_that_is_not_there_is_no_such_file(capsys):
    assert main(["score", "nofile"]) == 2
    assert capsys.readouterr().err == "nofile: no such file\n"
