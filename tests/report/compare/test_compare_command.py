"""`compare` at the command line: what it prints, writes, refuses, and returns."""

import json
import re
from html.parser import HTMLParser

import pytest
from helpers.hostile import HOSTILE, unseen
from report_fake_runs import build, manifest

from sca_bench.cli import main
from sca_bench.study.runs.store import Store

A, B = "mixer_layers/depth-1", "mixer_layers/depth-2"
CONTROL = "mixer_layers/permuted captions"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A runs folder that tests only read."""
    folder = tmp_path_factory.mktemp("compare") / "runs"
    build(folder)
    return folder


@pytest.fixture
def wide(monkeypatch):
    """A terminal in which no line is folded."""
    monkeypatch.setenv("COLUMNS", "300")


def compare(root, *words):
    return main(["compare", *words, "--runs-dir", str(root)])


def rows_file(path, captions, references=("a red circle",), image=None, **more):
    """Write a file of captions, one region an image."""
    rows = []
    for number, caption in enumerate(captions):
        row = {"region_id": f"r{number}", "image_id": image or f"i{number}", "caption": caption}
        rows.append({**row, "references": list(references), **more})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_terminal_gets_the_answer_a_table_and_captions(root, capsys, wide):
    assert compare(root, A, B) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == f"A  {A} (seeds 0, 1)"
    assert lines[2] == "30 regions in 10 images"
    assert lines[4].startswith("No difference found by CIDEr-D: +")
    numbers = r"\d+ +\d+ +\+\d+ +≈ −[\d,]+ to \+[\d,]+"  # noqa: RUF001
    assert re.search(rf"^ *CIDEr-D +{numbers} +no difference found *$", out, re.M)
    assert re.search(r"^ *Exact match .* not compared: A: no region scores", out, re.M)
    assert "note: approximate: two seeds say little" in out
    assert len(re.findall(r"^ +reference ", out, re.M)) == 6
    assert "2 of 2 seeds" in out
    assert re.search(r"\*\w+\*", out), "words that differ stand between stars"
    assert "Words between *stars* are not in the caption of the other side." in lines


def test_sentences_are_folded_between_words_where_somebody_looks(root, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "72")
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert compare(root, A, B, "--metrics", "cider_d") == 0
    lines = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= 72
    assert any(line.startswith("No difference found by CIDEr-D: +") for line in lines)


def test_a_json_file_has_every_number_in_natural_units(root, tmp_path, capsys):
    file = tmp_path / "found.json"
    assert compare(root, A, CONTROL, "--json", str(file), "--metrics", "cider_d") == 0
    found = json.loads(file.read_text())
    (pair,) = found["pairs"]
    row = pair["scores"]["cider_d"]
    assert row["difference"] == pytest.approx(row["b"] - row["a"])
    assert row["low"] < row["difference"] < row["high"] < 0
    assert row["finding"] == "worse"
    assert row["num_regions"] == 30
    assert pair["b"]["seeds"] == [0, 1]
    assert len(found["regions"]) == 30
    assert "worse" not in found


@pytest.mark.parametrize(
    ("words", "code", "line"),
    [
        ((A, CONTROL, "--fail-if-worse"), 1, "B is worse, CIDEr-D"),
        ((CONTROL, A, "--fail-if-worse"), 0, ""),
        ((A, A, "--fail-if-worse", "cider_d"), 0, ""),
        ((A, CONTROL, "--fail-if-worse", "--margin", "900"), 0, ""),
        ((A, CONTROL, "--fail-if-worse", "--margin", "50"), 1, "B is worse by more than 50, CID"),
        ((A, CONTROL, "--fail-if-worse", "cider"), 2, "did you mean cider_d?"),
        ((A, CONTROL, "--fail-if-worse", "exact_match"), 2, "no region scores"),
        ((A, CONTROL, "--margin", "3"), 2, "--margin: says nothing without --fail-if-worse"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_gate_fails_with_1_and_faults_with_2(root, words, code, line, capsys):
    assert compare(root, *words) == code
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == bool(line)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("mixer_layers/depth-9", B), "no such run; did you mean mixer_layers/depth-"),
        (("gone.jsonl", B), "gone.jsonl: no such file"),
        ((A, B, "--metrics", "ciderd"), "'ciderd' is unknown; did you mean cider_d?"),
        ((A, B, "--metrics", "meteor"), "compare: meteor: A has no such value"),
        (("mixer_layers", A), "no cell in common"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_fault_is_one_line(root, words, line, capsys):
    expected = 0 if line == "no cell in common" else 2  # a suite has the cell
    assert compare(root, *words) == expected
    err = capsys.readouterr().err
    assert (line in err) == (expected == 2)
    assert err.count("\n") == (1 if expected else 0)


def change_records(root, cell_id, change):
    for path in (root / "cells" / cell_id).glob("seed-*/record.json"):
        found = json.loads(path.read_text())
        change(found)
        path.write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("change", "code", "line"),
    [
        ({"status": "killed", "error": "interrupted"}, 2, "no finished run: seed 0 killed: inter"),
        ({"scores": {}}, 2, "has no scores; run its suite, which scores it"),
    ],
)
def test_a_cell_without_a_result_says_why(tmp_path, change, code, line, capsys):
    root = tmp_path / "runs"
    build(root)
    change_records(root, "c-depth-2", lambda found: found.update(change))
    assert compare(root, A, B) == code
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1


def test_a_seed_that_was_killed_is_left_out_and_named(tmp_path, capsys, wide):
    root = tmp_path / "runs"
    build(root)
    path = root / "cells/c-depth-2/seed-1/record.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps({**found, "status": "killed", "error": "interrupted"}))
    assert compare(root, A, B) == 0
    out = capsys.readouterr().out
    assert "note: B: seed 1 is left out: killed: interrupted" in out
    assert "one seed of a trained cell" in out


def test_a_metric_that_is_no_number_has_its_reason(tmp_path, capsys, wide):
    root = tmp_path / "runs"
    build(root)

    def change(found):
        found["scores"]["cider_d"]["value"] = float("nan")
        found["scores"]["exact_match"] |= {"value": None, "reason": "no Java"}

    change_records(root, "c-depth-2", change)
    assert compare(root, A, B, "--metrics", "exact_match") == 2
    assert "exact_match: B has no such value: no Java" in capsys.readouterr().err
    assert compare(root, A, B, "--metrics", "cider_d") == 2
    assert "cider_d: B has no such value" in capsys.readouterr().err
    assert compare(root, A, B) == 2  # no metric that is left has scores of regions
    assert "bleu_1: A: no region scores of this metric" in capsys.readouterr().err


def damage(root, name, change):
    path = root / "cells/c-depth-2/seed-0" / name
    path.write_text(change(path.read_text()))


def no_number(text):
    stored = json.loads(text)
    stored["scores"]["cider_d"][3] = float("nan")
    return json.dumps(stored)


def twice(text):
    stored = json.loads(text)
    stored["region_ids"][1] = stored["region_ids"][0]
    return json.dumps(stored)


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("region_scores.json", lambda text: text[:50], "region_scores.json"),
        ("region_scores.json", twice, "30 values for 29 different region ids"),
        ("region_scores.json", no_number, "cider_d: a region's score is not a number"),
        ("predictions.jsonl", lambda text: text[: len(text) // 2], "predictions.jsonl"),
        ("record.json", lambda text: text[:50], "record.json"),
    ],
)
def test_damage_is_refused_and_nothing_compared_without_it(tmp_path, name, change, line, capsys):
    root = tmp_path / "runs"
    build(root)
    damage(root, name, change)
    assert compare(root, B, A, "--fail-if-worse") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert line in err


def test_two_files_are_scored_and_compared(tmp_path, capsys, wide):
    right, wrong = "a red circle", "a blue circle"
    one = rows_file(tmp_path / "one.jsonl", [right] * 40 + [wrong] * 10)
    other = rows_file(tmp_path / "other.jsonl", [right] * 10 + [wrong] * 40)
    words = (one, other, "--metrics", "exact_match", "--fail-if-worse")
    assert compare(tmp_path, *words) == 1
    out = capsys.readouterr().out
    assert "B is worse by Exact match: −60" in out  # noqa: RUF001
    assert "30 went from right to wrong and 0 from wrong to right; both have 10 right" in out
    assert "a *red* circle" in out
    assert "a *blue* circle" in out
    assert "A and B are files: nothing is known of other seeds" in out


def test_references_may_stand_in_a_file_of_their_own(tmp_path, capsys, wide):
    rows = [{"region_id": i, "caption": "a red circle"} for i in ("r0", "r1")]
    bare = tmp_path / "bare.jsonl"
    bare.write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole = rows_file(tmp_path / "whole.jsonl", ["a red circle", "a dog"])
    words = (str(bare), whole, "--metrics", "exact_match")
    assert compare(tmp_path, *words) == 2
    assert "image_id" in capsys.readouterr().err
    rows = [{**row, "image_id": row["region_id"].replace("r", "i")} for row in rows]
    bare.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert compare(tmp_path, *words) == 2
    assert "line 1: has no references; name a file" in capsys.readouterr().err
    assert compare(tmp_path, *words, "--references", whole) == 0
    assert "−50" in capsys.readouterr().out  # noqa: RUF001
    other = rows_file(tmp_path / "few.jsonl", ["a red circle"])
    assert compare(tmp_path, *words, "--references", other) == 2
    assert "line 2: has no references and" in capsys.readouterr().err


def test_a_file_is_compared_with_a_run(root, tmp_path, capsys, wide):
    file = tmp_path / "copy.jsonl"
    file.write_text((root / "cells/c-depth-1/seed-0/predictions.jsonl").read_text())
    assert compare(root, str(file), str(file), "--metrics", "exact_match,slots") == 0
    out = capsys.readouterr().out
    assert "A and B have the same scores by Exact match." in out
    assert compare(root, A, str(file), "--metrics", "exact_match") == 2
    assert "other references" not in capsys.readouterr().err


@pytest.mark.parametrize("count", [1, 2])
def test_few_images_have_no_interval_or_an_approximate_one(tmp_path, count, capsys, wide):
    one = rows_file(tmp_path / "one.jsonl", ["a red circle"] * count)
    other = rows_file(tmp_path / "other.jsonl", ["a blue circle"] * count)
    assert compare(tmp_path, one, other, "--metrics", "exact_match") == 0
    out = capsys.readouterr().out
    said = "Nothing can be said by Exact match" if count == 1 else "No difference found by Exact"
    assert said in out
    assert compare(tmp_path, one, other, "--metrics", "exact_match", "--fail-if-worse") == (
        2 if count == 1 else 0
    )
    assert ("no interval" in capsys.readouterr().err) == (count == 1)


def test_a_region_that_stands_twice_is_refused(tmp_path, capsys):
    file = tmp_path / "one.jsonl"
    rows_file(file, ["a", "b"])
    file.write_text(file.read_text().replace('"r1"', '"r0"'))
    assert compare(tmp_path, str(file), str(file)) == 2
    assert "'r0' appears twice" in capsys.readouterr().err


def hostile_runs(folder):
    """Two cells whose names and captions come from somebody who means harm."""
    names = [text.replace("\ud83d", "") for text in HOSTILE]
    cells = [
        cell.model_copy(update={"name": name})
        for cell, name in zip(manifest().cells, names, strict=False)
    ]
    store, suite = build(folder, manifest(cells=cells, claims=[], reference=""))
    for cell in suite.cells:
        for seed in suite.seeds:
            path = store.run_dir(cell.cell_id, seed) / "predictions.jsonl"
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            for number, row in enumerate(rows):
                row["caption"] = names[(number + seed + len(cell.cell_id)) % len(names)]
                row["references"] = [names[number % len(names)]]
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return store.root


def test_hostile_names_and_captions_are_shown_as_text(tmp_path, capsys, wide):
    root = hostile_runs(tmp_path / "runs")
    page, file = tmp_path / "page.html", tmp_path / "found.json"
    words = ("c-depth-1", "c-depth-4", "--html", str(page), "--json", str(file))
    assert compare(root, *words) == 0
    out = capsys.readouterr().out
    assert unseen(out) == []
    assert compare(root, "c-depth-1", "c-depth-4", "--markdown") == 0
    text = capsys.readouterr().out
    assert unseen(text) == []
    assert set(re.findall(r"<(\w+)", text)) <= {"code", "b", "br", "details", "summary"}
    assert not re.search(r"@\w|https?://|www\.|\]\(|#\d|^#", text.replace("&#", ""), re.M)
    tags = Tags()
    tags.feed(page.read_text())
    assert tags.found <= Tags.allowed
    assert not tags.events
    json.loads(file.read_text())


class Tags(HTMLParser):
    """Collects the elements of a page, and attributes that would run something."""

    allowed = frozenset(
        (
            *("html", "head", "meta", "title", "style", "body", "header", "main", "section"),
            *("footer", "h1", "h2", "p", "b", "br", "code", "div", "span", "svg", "defs", "image"),
            *("use", "rect", "path", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"),
            *("article", "wbr"),
        )
    )

    def __init__(self):
        super().__init__()
        self.found, self.events = set(), []

    def handle_starttag(self, tag, attrs):
        self.found.add(tag)
        self.events += [name for name, _ in attrs if name.startswith("on")]

    handle_startendtag = handle_starttag


def test_a_page_has_a_picture_of_every_region(root, tmp_path, capsys):
    page = tmp_path / "changed.html"
    assert compare(root, A, CONTROL, "--html", str(page)) == 0
    text = page.read_text()
    assert text.count("<article") == 30
    assert len(re.findall(r'<rect class="box"', text)) == 30
    assert text.count('<image id="image-') == 10
    assert "differs" in text
    assert len(text) < 2_000_000


def test_markdown_has_a_table_and_folded_captions_that_fit_a_comment(root, capsys):
    assert compare(root, A, CONTROL, "--markdown") == 0
    text = capsys.readouterr().out
    assert text.startswith("**B is worse by CIDEr-D: −")  # noqa: RUF001
    assert "| CIDEr-D | " in text
    assert text.count("<details>") == text.count("</details>") == 1
    assert len(text) < 65_536


def test_suites_in_two_folders_are_compared_cell_by_cell(tmp_path, capsys, wide):
    one, other = tmp_path / "one", tmp_path / "other"
    build(one)
    build(other)
    words = ("mixer_layers", "mixer_layers", "--runs-dir-b", str(other))
    assert compare(one, *words, "--fail-if-worse") == 0
    out = capsys.readouterr().out
    assert "No difference found in" in out or "The same scores in" in out
    assert out.count("depth-4") >= 2
    assert compare(one, *words, "--markdown") == 0


def test_what_is_written_can_fail(root, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "found.json"
    assert compare(root, A, B, "--json", str(place)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert str(tmp_path / "file") in err
    one = rows_file(tmp_path / "one.jsonl", ["a"])
    assert compare(root, one, B, "--json", one) == 2
    assert "is compared, or written, already" in capsys.readouterr().err
    killed = tmp_path / ".found.json.999999999.tmp"
    killed.write_text("half")
    assert compare(root, A, B, "--json", str(tmp_path / "found.json")) == 0
    assert not killed.exists()


def test_a_damaged_manifest_is_named(tmp_path, capsys):
    root = tmp_path / "runs"
    build(root)
    path = next((root / "suites").iterdir())
    path.write_text(path.read_text()[:40])
    assert compare(root, "mixer_layers", "mixer_layers") == 2
    assert path.name in capsys.readouterr().err
    assert Store(root).manifests(faults=[]) == []
