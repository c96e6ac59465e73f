"""`score --table` prints what papers print; JSON keeps natural units."""

import json

from sca_bench.cli import main


def test_a_table_has_scores_times_100_and_their_signatures(tmp_path, capsys):
    rows = [("a", "a red dog", "a red dog"), ("b", "a cat", "a red cat")]
    file = tmp_path / "predictions.jsonl"
    file.write_text(
        "".join(
            json.dumps({"region_id": r, "image_id": r, "caption": said, "references": [reference]})
            + "\n"
            for r, said, reference in rows
        )
    )
    words = ["score", str(file), "--metrics", "exact_match,caption_length,slots"]
    assert main([*words, "--table"]) == 0
    out = capsys.readouterr().out
    assert "Exact match" in out
    assert "50.0" in out
    assert "2.5" in out  # words are counted, not scaled
    assert "2 regions in 2 images; scores times 100" in out
    assert "not computed" in out
    assert "exact_match|sca_bench exact_match" in out
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["values"]["exact_match"] == 0.5
