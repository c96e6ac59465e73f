"""Every text of a report made hostile, and every file of the report looked through."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from browser import BINARY, browser
from browser import NAMES as BROWSERS
from helpers.hostile import HOSTILE, begins_a_formula, unseen
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from matplotlib.text import Text
from report_fake_runs import build, manifest, record, save_images, save_run

from sca_bench.output import one_line, visible
from sca_bench.report.figures.picture import Picture
from sca_bench.report.tables import csv_fields, latex_escape, markdown
from sca_bench.report.write import write_report, write_reports
from sca_bench.study.runs.record import CellEntry, SuiteManifest
from sca_bench.study.runs.store import Store

ALL = " ".join(HOSTILE).replace("\ud83d", "")
NAMES = tuple(text.replace("\ud83d", "") for text in HOSTILE)
JOINERS = "\u200c\u200d"
AXIS = "mixer.<b>=|num_layers"
VALUES = ("-0.3", "-1e-5", "+5 %", "=1", "-x", "-inf")
CELLS = [
    *(f"{number} cell" for number in range(len(VALUES))),
    *NAMES,
]


def suite() -> SuiteManifest:
    cells = [
        CellEntry(
            cell_id=f"c-{number}",
            name=name,
            coordinates={AXIS: VALUES[number]} if number < len(VALUES) else {},
            variant=NAMES[number % len(NAMES)],
            control=number % 7 == 6,
        )
        for number, name in enumerate(CELLS)
    ]
    says = "cider_d(cell=0 cell) > cider_d(cell=1 cell)"
    return manifest(
        question=ALL,
        header=ALL,
        statement=ALL,
        file=ALL,
        paper=None,
        axes={AXIS: list(VALUES)},
        seeds=[0],
        metrics=["cider_d", "exact_match"],
        cells=cells,
        claims=[{"id": name, "says": says} for name in NAMES],
        overrides=list(NAMES),
        remarks=list(NAMES),
        command=ALL,
        created=ALL,
    )


def hostile_record(entry: CellEntry, number: int) -> Any:
    done = record(entry, 0)
    if number % 9 == 8:
        return done.model_copy(update={"status": "failed", "error": ALL, "scores": {}})
    provenance = {"command": ALL, "machine": NAMES[number % len(NAMES)], "versions": {ALL: ALL}}
    scores = {
        name: score.model_copy(update={"signature": {**score.signature, "split": ALL}})
        for name, score in done.scores.items()
    }
    more = {"provenance": provenance, "inputs": {ALL: ALL}, "notes": [ALL], "scores": scores}
    return done.model_copy(update=more)


def write_captions(store: Store, entry: CellEntry, number: int) -> None:
    file = store.run_dir(entry.cell_id, 0) / "predictions.jsonl"
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    for place, row in enumerate(rows):
        row["caption"] = NAMES[(place + number) % len(NAMES)]
        row["references"] = [NAMES[place % len(NAMES)]]
        row["slots"] = {}
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def picture(*_: Any) -> list[Picture]:
    """Stand for the plots, which are looked at by themselves."""
    return [Picture("plot", ALL, "data:image/png;base64,AA==", ALL, ALL, failed=True)]


@pytest.fixture(scope="module")
def hostile_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the reports of two suites; one has no question that can be read."""
    root = tmp_path_factory.mktemp("hostile")
    store, first = Store(root / "runs"), suite()
    save_images(store)
    for number, entry in enumerate(first.cells):
        save_run(store, entry, 0, hostile_record(entry, number))
        write_captions(store, entry, number)
    store.save_manifest(first)
    store.save_manifest(first.model_copy(update={"suite": "other", "cells": first.cells[:3]}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sca_bench.report.write.write_pictures", picture)
        write_reports(store, None, root / "reports")
    return root / "reports"


@pytest.fixture
def folder(hostile_report: Path) -> Path:
    return hostile_report / "mixer_layers"


def texts_of(page: Path) -> ElementTree.Element:
    text = page.read_text(encoding="utf-8")
    assert unseen(text, JOINERS + "\t") == []
    return ElementTree.fromstring(text)


@pytest.mark.parametrize("name", ["mixer_layers/index.html", "index.html"])
def test_pages_hold_no_markup_but_their_own(hostile_report: Path, name: str) -> None:
    root = texts_of(hostile_report / name)
    assert len(root.findall(".//script")) == len(root.findall(".//style")) == 1
    for element in root.iter():
        assert element.tag != "b" or "alert" not in "".join(element.attrib)
        assert not [key for key in element.attrib if key.startswith("on")]
        target = element.get("href", "#")
        assert target.startswith(("#", "data:image/", "mixer_layers/", "other/")) or re.fullmatch(
            r"[a-z]+\.(csv|md|tex)", target
        )
        assert element.tag != "img" or element.get("src", "").startswith("data:image/png")
    shown = "".join(root.itertext())
    for text in NAMES:
        assert visible(text, joiners=True) in shown or "\n" in text or "," in text, text


def test_pages_show_captions_as_they_are(folder: Path) -> None:
    root = texts_of(folder / "index.html")
    found = {" ".join("".join(e.itertext()).split()) for e in root.iterfind(".//tr/td[1]")}
    captions = {" ".join(visible(" ".join(text.split()), joiners=True).split()) for text in NAMES}
    assert captions <= found


@pytest.mark.parametrize("name", ["table.csv", "summary.csv", "claims.csv"])
def test_no_field_of_a_csv_file_is_a_formula(folder: Path, name: str) -> None:
    text = (folder / name).read_text(encoding="utf-8")
    assert unseen(text) == []
    head, *rows = csv.reader(text.splitlines(keepends=True), strict=True)
    assert rows
    assert {len(row) for row in rows} == {len(head)}
    numeric = set(pd.read_csv(folder / name).select_dtypes("number").columns)
    assert numeric & {"value", "cider_d_mean", "difference"}
    for row in [head, *rows]:
        for key, field in zip(head, row, strict=True):
            is_value = key in numeric or key == csv_fields.field(AXIS)
            if not (is_value and re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?( %)?|-inf", field)):
                assert not begins_a_formula(field), (key, field)


def test_names_are_read_back_and_numbers_stay_numbers(folder: Path) -> None:
    frame = pd.read_csv(folder / "summary.csv", keep_default_na=False, dtype=str)
    assert {csv_fields.original(name) for name in frame["cell"]} == set(map(one_line, CELLS))
    claims = pd.read_csv(folder / "claims.csv", keep_default_na=False)
    assert list(map(csv_fields.original, claims["claim"])) == list(map(one_line, NAMES))
    values = [value for value in frame[csv_fields.field(AXIS)] if value]
    assert values == ["-0.3", "-1e-5", "+5 %", "'=1", "'-x", "-inf"]


SIGNS = {"textbackslash", "textasciitilde", "textasciicircum", "alpha", "beta", "i"}
"""LaTeX's commands for characters of the hostile texts."""


def commands(tex: str) -> set[str]:
    return set(re.findall(r"\\(?:([A-Za-z]+)|[^A-Za-z])", tex)) - {""}


@pytest.mark.parametrize("text", HOSTILE)
def test_every_medium_gives_back_or_holds_a_text(text: str) -> None:
    assert csv_fields.original(csv_fields.field(text)) == one_line(text)
    assert not begins_a_formula(csv_fields.field(text))
    tex = latex_escape.escape(text)
    assert tex.isascii()
    assert commands(tex) <= SIGNS
    assert "^^" not in tex
    assert not re.search(r"(?<!\\)[%&#_]", tex)
    for before in ("", "- ", "> ", "# ", "a "):
        tokens = MARKDOWN.parse(before + markdown.escape(text))
        inner = [part for token in tokens for part in token.children or ()]
        assert {part.type for part in inner} <= {"text", "text_special"}, before
        expected = " ".join(visible(" ".join(text.split()), joiners=True).split())
        assert "".join(part.content for part in inner).removeprefix("a ") == expected
    (paragraph, inline, _) = MARKDOWN.parse(markdown.code(text))
    assert paragraph.type == "paragraph_open"
    assert [part.type for part in inline.children or ()] == ["code_inline"]


MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


@pytest.mark.parametrize("name", ["mixer_layers/table.md", "index.md"])
def test_markdown_holds_no_markup_but_its_own(hostile_report: Path, name: str) -> None:
    text = (hostile_report / name).read_text(encoding="utf-8")
    assert unseen(text, JOINERS) == []
    tokens = MARKDOWN.parse(text)
    kinds = {token.type for token in tokens}
    assert not kinds & {"html_block", "fence", "code_block", "hr", "ordered_list_open"}
    inner = [part for token in tokens for part in token.children or ()]
    assert not {part.type for part in inner} & {"html_inline", "image", "em_open", "s_open"}
    links = [part.attrs["href"] for part in inner if part.type == "link_open"]
    assert links == (["mixer_layers/index.html", "other/index.html"] if "index" in name else [])
    headings = [t.content for t, o in zip(tokens[1:], tokens, strict=False)
                if o.type == "heading_open"]  # fmt: skip
    own = "Claims and|CIDEr-D with|Scores|Slot|Accuracy by|Notes|What the|Plots that|Suites"
    assert [h for h in headings if not re.match(own, h) and "alert" not in h] == []
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [t for t in tokens if t.type == "tr_open"]
    assert len(rows) == len(lines) - sum(set(line) <= set("|-: ") for line in lines)


@pytest.mark.parametrize("name", ["tables.tex", "scores.tex"])
def test_latex_holds_no_command_but_its_own(folder: Path, name: str, whole_report: Path) -> None:
    text = (folder / name).read_text(encoding="utf-8")
    assert text.isascii()
    assert unseen(text) == []
    own = set(SIGNS)
    for tame in ("tables.tex", "scores.tex"):
        own |= commands((whole_report / tame).read_text("utf-8"))
    assert commands(text) <= own
    assert not re.search(r"\\(input|write|csname)(?![A-Za-z])|\^\^", text)
    assert not re.search(r"(\\\\|rule)\s*[\[*]", text)
    body = re.sub(r"\\.", "", text)
    assert body.count("{") == body.count("}")
    for line in text.splitlines():
        assert not re.search(r"(?<!\\)%.*\S", line) or line.startswith(("% Suite", "% Needs"))


@pytest.mark.skipif(BINARY is None, reason=f"none of {', '.join(BROWSERS)} is installed")
def test_a_browser_runs_nothing_and_the_layout_holds(hostile_report: Path) -> None:
    with browser() as tab:
        for name in ("index.html", "mixer_layers/index.html"):
            for width in (1280, 390):
                tab.show(hostile_report / name, width)
                tab.js("document.querySelectorAll('details').forEach(d => { d.open = true; })")
                assert tab.js("document.documentElement.scrollWidth") <= width, (name, width)
                assert tab.complaints == []
        tab.js("document.querySelector('button.shot').click()")
        assert tab.js("document.getElementById('viewer').open")
        assert tab.js("document.querySelectorAll('script').length") == 1
        assert tab.complaints == []


@pytest.mark.usefixtures("every_kind")
def test_figures_show_hostile_names(tmp_path: Path) -> None:
    """Each is drawn; controls would make an SVG file invalid, and matplotlib omits `_names`."""
    names = ["_one \x1b[31m", "$x$ \u202e -- > <b>&amp;", "\\frac{1}{2} $"]
    plain = manifest()
    cells = [cell.model_copy(update={"name": name}) for cell, name in zip(plain.cells, names)]  # noqa: B905
    store, named = build(tmp_path / "runs", manifest(cells=cells, claims=[]))
    shown: set[str] = set()
    before = tmp_path / "reports" / named.report_name
    before.mkdir(parents=True)
    (before / "forest_old.png").write_bytes(b"old")
    (before / "notes.md").write_text("stays", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        real = Figure.savefig

        def savefig(figure: Figure, file: Any, **more: Any) -> None:
            if more["format"] == "svg":
                real(figure, file, **more)
                shown.update(text.get_text().strip() for text in figure.findobj(Text))

        patch.setattr(Figure, "savefig", savefig)
        patch.setattr("sca_bench.report.figures.write_figures.png_uri", lambda _: "data:image/png,")
        folder = write_report(store, named, tmp_path / "reports")
    assert folder == before
    assert not (folder / "forest_old.png").exists()
    assert (folder / "notes.md").exists()
    files = sorted(folder.glob("*.svg"))
    assert files
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert unseen(text) == []
        assert ElementTree.fromstring(text).tag.endswith("svg")
    assert set(map(visible, names)) <= shown
