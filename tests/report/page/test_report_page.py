"""The page: well-formed, self-contained, the same bytes twice; marks and damage."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from report_fake_runs import build, manifest, record

from sca_bench.report import write_report
from sca_bench.report.findings.headline import Sentence, SentenceVerdict
from sca_bench.report.page.caption_words import grade_words, slot_vocabulary
from sca_bench.report.page.page import tone
from sca_bench.study.runs.record import SuiteManifest
from sca_bench.study.runs.store import Store

Runs = tuple[Store, SuiteManifest]


@pytest.mark.usefixtures("every_kind")
def test_same_records_give_the_same_bytes(whole_report: Path, tmp_path: Path) -> None:
    store, suite = build(tmp_path / "elsewhere")
    again = write_report(store, suite, tmp_path / "reports")
    names = sorted(path.name for path in whole_report.iterdir())
    assert names == [
        *("claims.csv", "distribution.pdf", "distribution.png", "distribution.svg"),
        *("forest.pdf", "forest.png", "forest.svg"),
        *("headline_figure.pdf", "headline_figure.png", "headline_figure.svg", "index.html"),
        *("learning_curves.pdf", "learning_curves.png", "learning_curves.svg"),
        *("metric_over_axis.pdf", "metric_over_axis.png", "metric_over_axis.svg"),
        *("pareto.pdf", "pareto.png", "pareto.svg", "scores.tex"),
        *("summary.csv", "table.csv", "table.md", "tables.tex"),
    ]
    assert names == sorted(path.name for path in again.iterdir())
    for name in names:
        assert (whole_report / name).read_bytes() == (again / name).read_bytes(), name


def test_page_is_well_formed_and_self_contained(whole_report: Path) -> None:
    text = (whole_report / "index.html").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    policy = root.find(".//meta[@http-equiv='Content-Security-Policy']")
    assert policy is not None
    assert policy.get("content", "").startswith("default-src 'none'; img-src data:;")
    local = {path.name for path in whole_report.iterdir()}
    ids = {element.get("id") for element in root.iter() if element.get("id")}
    for element in root.iter():
        source = element.get("src")
        if source is not None:
            assert source.startswith("data:image/")
        target = element.get("href")
        if element.tag == "image":
            assert str(target).startswith("data:image/")
        elif target is not None:
            assert target in local or target.removeprefix("#") in ids, target
        assert element.tag not in {"link", "iframe"}
    everything = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(everything) == len(set(everything))


def test_controls_have_labels_and_images_a_text(whole_report: Path) -> None:
    root = ElementTree.fromstring((whole_report / "index.html").read_text(encoding="utf-8"))
    labelled = {label.get("for") for label in root.iter("label")}
    inside = {control for label in root.iter("label") for control in label.iter("input")}
    for tag in ("input", "select"):
        for control in root.iter(tag):
            assert control in inside or control.get("id") in labelled
    for button in root.iter("button"):
        assert button.get("aria-label") or (button.text or "").strip()
        assert button.get("type") in ("button", "reset")
    for image in root.iter("img"):
        assert image.get("alt")
    for svg in root.iter("svg"):
        assert svg.get("aria-label") or svg.get("aria-hidden") == "true"
    names = {name for element in root.iter() for name in element.attrib}
    drawn = {e for svg in root.findall(".//figure[@class='plot']/svg") for e in svg.iter()}
    assert drawn
    styled = [e for e in root.iter() if "style" in e.attrib and e not in drawn]
    assert not [name for name in names if name.startswith("on")]
    assert styled == []


def test_without_a_script_every_card_is_there_and_no_control_pretends(whole_report: Path) -> None:
    root = ElementTree.fromstring((whole_report / "index.html").read_text(encoding="utf-8"))
    cards = root.findall(".//article[@class='card']")
    assert len(cards) > 24
    assert {card.get("hidden") for card in cards} == {None}
    assert {form.get("hidden") for form in root.iter("form")} == {"hidden"}
    shots = [b for b in root.iter("button") if b.get("class") == "shot"]
    assert {button.get("disabled") for button in shots} == {"disabled"}


def test_page_says_what_it_must(whole_report: Path) -> None:
    text = (whole_report / "index.html").read_text(encoding="utf-8")
    for part in (
        "How deep must the text feature mixer be?",
        "pixel reconstruction and object descriptors",
        "Expect depth 2 to be enough.",
        "train.steps=600",
        "2-core CPU",
        "sha256:0123abcd",
        "c0ffeec0ffee",
        "d1d1d1d1",
        "split_digests.test",
        "torch",
        "sca-bench run ablations/mixer_layers.yaml",
        "pycocoevalcap",
        "2026-01-02T03:01:00Z",
        "permuted captions (control)",
        "of 30 test regions",
    ):
        assert part in text, part


def test_texts_of_records_are_escaped(runs: Runs) -> None:
    store, suite = runs
    evil = suite.model_copy(update={"question": "a <script>alert(1)</script> & b?"})
    store.save(record(suite.cells[1], 0).model_copy(update={"status": "failed", "error": "<b>"}))
    folder = write_report(store, evil, store.root.parent / "reports")
    root = ElementTree.fromstring((folder / "index.html").read_text(encoding="utf-8"))
    assert len(root.findall(".//script")) == 1
    heading = root.find(".//h1")
    assert heading is not None
    assert heading.text == "a <script>alert(1)</script> & b?"


def test_a_name_breaks_between_its_words(runs: Runs) -> None:
    store, suite = runs
    first, *others = suite.cells
    named = first.model_copy(update={"name": "num_layers=1,num_query_tokens=4"})
    suite = suite.model_copy(update={"cells": (named, *others)})
    folder = write_report(store, suite, store.root.parent / "reports")
    root = ElementTree.fromstring((folder / "index.html").read_text(encoding="utf-8"))
    cells = [td for td in root.findall(".//td") if "".join(td.itertext()).startswith(named.name)]
    assert cells
    for td in cells:
        broken = str(td.text) + "".join(f"|{e.tail or ''}" for e in td if e.tag == "wbr")
        assert broken.startswith("num_|layers=1,|num_|query_|tokens=4")


def test_words_are_right_only_in_the_right_part() -> None:
    reference = "a red cross left of a blue square"
    vocabulary = slot_vocabulary([{"a": "red"}, {"b": "blue"}, {"c": "cross", "d": "square"}])
    words = grade_words("a blue cross left of a red square.", reference, vocabulary)
    assert [(word.text, word.grade) for word in words] == [
        ("a", ""),
        ("blue", "wrong"),
        ("cross", "right"),
        ("left", ""),
        ("of", ""),
        ("a", ""),
        ("red", "wrong"),
        ("square.", "right"),
    ]


def test_a_missing_word_shifts_no_mark() -> None:
    vocabulary = slot_vocabulary([{"t": "striped", "c": "red", "s": "cross"}])
    words = grade_words("a red cross", "a striped red cross", vocabulary)
    assert [word.grade for word in words] == ["", "right", "right"]
    assert grade_words("", "a red cross", vocabulary) == []


def test_report_of_another_profile_has_its_own_folder(tmp_path: Path) -> None:
    suite = manifest(profile="paper")
    folder = write_report(Store(tmp_path / "runs"), suite, tmp_path / "reports")
    assert folder == tmp_path / "reports" / "mixer_layers.paper"


def test_the_answer_comes_first(whole_report: Path) -> None:
    root = ElementTree.fromstring((whole_report / "index.html").read_text(encoding="utf-8"))
    top = root.find(".//header")
    assert top is not None
    heading = top.find("h1")
    assert heading is not None
    assert heading.text == "How deep must the text feature mixer be?"
    sentences = top.findall(".//li")
    assert [str(li.get("class")).split()[1] for li in sentences] == ["undecided", "undecided"]
    assert len(top.findall(".//figure[@class='plot']")) == 1
    examples = top.findall(".//figure[@class='example']")
    assert len(examples) == 3
    for example in examples:
        assert len(example.findall(".//p[@class='line']")) == 2
        picture = example.find("svg")
        assert picture is not None
        lines = example.findall(".//p[@class='line']")
        said = [" ".join("".join(line.itertext()).split()) for line in lines]
        words = [one.split(" ", 1) for one in said]  # the cell's name, and its caption
        for cell, caption in words:
            assert f"{cell}: {caption}." in str(picture.get("aria-label"))
    facts = {p[0].text: "".join(p[1].itertext()) for p in top.iterfind(".//p[@class='fact']")}
    assert list(facts)[:2] == ["How sure", "Cost"]
    assert "30 test regions of 10 images" in facts["How sure"]
    assert "10 runs" in facts["Cost"]


def test_method_is_folded_and_nothing_else(whole_report: Path) -> None:
    root = ElementTree.fromstring((whole_report / "index.html").read_text(encoding="utf-8"))
    folded = {e for details in root.iter("details") for e in details.iter()}
    assert not any("open" in details.attrib for details in root.iter("details"))
    for name in ("claims-table", "interval-table", "scores-table", "regions"):
        found = root.find(f".//*[@id='{name}']")
        assert found is not None
        assert found not in folded
    for name in ("note-1", "scores-more-table"):
        found = root.find(f".//*[@id='{name}']")
        assert found is not None
        assert found in folded


def test_only_a_contradiction_of_the_paper_as_it_is_is_red() -> None:
    def sentence(verdict: SentenceVerdict, *, scoped: bool = False) -> Sentence:
        return Sentence("a", verdict, "label", "claim", "text", scoped=scoped)

    assert tone(sentence("contradicted")) == "contradicted"
    assert tone(sentence("contradicted", scoped=True)) == "scoped"
    assert tone(sentence("undecided")) == "undecided"
    assert tone(sentence("not comparable")) == "incomparable"
    assert tone(sentence("")) == "plain"
