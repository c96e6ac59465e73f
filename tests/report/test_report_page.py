"""The page: well-formed, self-contained, the same bytes twice; gallery, marks and thumbnails."""

import base64
import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from report_fake_runs import SIDE_PX, build, manifest, record

from sca_bench.errors import InputError
from sca_bench.report import write_report
from sca_bench.report.collect import collect
from sca_bench.report.gallery import Gallery, build_gallery
from sca_bench.report.marks import mark_words, slot_vocabulary
from sca_bench.report.thumbnails import LONG_SIDE_PX, Thumbnails
from sca_bench.study.record import SuiteManifest
from sca_bench.study.store import Store

Runs = tuple[Store, SuiteManifest]


def test_same_records_give_the_same_bytes(whole_report: Path, tmp_path: Path) -> None:
    store, suite = build(tmp_path / "elsewhere")
    again = write_report(store, suite, tmp_path / "reports")
    names = sorted(path.name for path in whole_report.iterdir())
    assert names == [
        *("distribution.pdf", "distribution.png", "distribution.svg", "index.html"),
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
    assert not re.search(r"https?://|@import|url\(", text)
    local = {"table.csv", "summary.csv", "table.md"}
    ids = {element.get("id") for element in root.iter() if element.get("id")}
    for element in root.iter():
        source = element.get("src")
        if source is not None:
            assert source.startswith("data:image/")
        target = element.get("href")
        if target is not None:
            assert target in local or target.removeprefix("#") in ids, target
        assert element.tag not in {"link", "iframe"}
    everything = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(everything) == len(set(everything))


def test_page_says_what_it_must(whole_report: Path) -> None:
    text = (whole_report / "index.html").read_text(encoding="utf-8")
    for part in (
        "How deep must the text feature mixer be?",
        "pixel reconstruction and object descriptors",
        "Expect depth 2 to be enough.",
        "train.steps=600",
        "2-core CPU",
        "sha256:0123abcd",
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


def gallery_of(runs: Runs) -> Gallery:
    return build_gallery(collect(*runs))


def test_gallery_shows_every_cell_and_seed(runs: Runs) -> None:
    store, suite = runs
    failed = record(suite.cells[2], 1).model_copy(update={"status": "failed", "error": "no memory"})
    store.save(failed)
    gallery = gallery_of(runs)
    assert gallery.seeds == (0, 1)
    assert len(gallery.cards) == 22  # ten images give one disputed region each, and 12 more
    assert {len(card.said) for card in gallery.cards} == {10}
    holes = {s.missing for s in gallery.cards[0].said if (s.cell, s.seed) == ("depth-2", 1)}
    assert holes == {"failed: no memory"}
    groups = [card.group for card in gallery.cards]
    assert groups == ["disagreement"] * 10 + ["even"] * 12
    gaps = [float(card.disagreement) for card in gallery.cards[:10]]
    assert gaps == sorted(gaps, reverse=True)
    assert len({card.image_id for card in gallery.cards[:10]}) == 10


def test_disagreement_is_the_range_of_seed_means(runs: Runs) -> None:
    store, suite = runs
    card = gallery_of(runs).cards[0]
    means = []
    for depth in (1, 2, 4):
        values = []
        for seed in suite.seeds:
            stored = store.region_scores(f"c-depth-{depth}", seed)
            at = stored["region_ids"].index(card.region_id)
            values.append(stored["scores"]["cider_d"][at])
        means.append(sum(values) / 2)
    assert card.disagreement == f"{100 * (max(means) - min(means)):.1f}"


def test_words_are_right_only_in_the_right_part() -> None:
    reference = "a red cross left of a blue square"
    vocabulary = slot_vocabulary([{"a": "red"}, {"b": "blue"}, {"c": "cross", "d": "square"}])
    words = mark_words("a blue cross left of a red square.", reference, vocabulary)
    assert [(word.text, word.mark) for word in words] == [
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
    words = mark_words("a red cross", "a striped red cross", vocabulary)
    assert [word.mark for word in words] == ["", "right", "right"]
    assert mark_words("", "a red cross", vocabulary) == []


def test_box_is_scaled_from_original_pixels(runs: Runs) -> None:
    store, _ = runs
    uri, reason = Thumbnails(store.root).data_uri("images/feed", "scene-000", (48, 96, 144, 192))
    assert reason == ""
    kind, _, encoded = uri.partition(";base64,")
    assert kind in ("data:image/png", "data:image/jpeg")
    image = Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB")
    assert image.size == (LONG_SIDE_PX, LONG_SIDE_PX)
    scale = LONG_SIDE_PX / SIDE_PX

    def is_box(x: float, y: float) -> bool:
        red, green, blue = image.getpixel((round(x), round(y)))  # type: ignore[misc]
        return bool(red > 200 and green > 160 and blue < 90)

    assert is_box(48 * scale + 1, 144 * scale)
    assert is_box(144 * scale - 3, 144 * scale)
    assert is_box(96 * scale, 96 * scale + 1)
    assert not is_box(96 * scale, 60 * scale)


def test_missing_thumbnails_are_said(runs: Runs) -> None:
    store, suite = runs
    (store.root / "images" / "feed" / "sizes.json").unlink()
    assert {c.no_image for c in gallery_of(runs).cards} == {
        "the region's box or the image's original size is not known"
    }
    for path in (store.root / "images" / "feed").iterdir():
        path.unlink()
    reasons = {card.no_image for card in gallery_of(runs).cards}
    assert "no thumbnail images/feed/scene-000.png" in reasons
    for entry in suite.cells:
        for seed in suite.seeds:
            store.save(record(entry, seed).model_copy(update={"images_dir": ""}))
    assert {c.no_image for c in gallery_of(runs).cards} == {"no thumbnails were kept for this run"}


def test_page_holds_a_limited_number_of_bytes(runs: Runs) -> None:
    store, _ = runs
    thumbnails = Thumbnails(store.root, bytes_left=10)
    uri, reason = thumbnails.data_uri("images/feed", "scene-000", (0, 0, 9, 9))
    assert uri == ""
    assert reason.startswith("left out")


def test_captions_without_slots_and_scores(runs: Runs) -> None:
    store, suite = runs
    for entry in suite.cells:
        for seed in suite.seeds:
            folder = store.run_dir(entry.cell_id, seed)
            rows = store.predictions(entry.cell_id, seed)
            for row in rows:
                del row["slots"]
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / "predictions.jsonl").write_text(lines, encoding="utf-8")
            (folder / "region_scores.json").unlink()
    gallery = gallery_of(runs)
    assert not gallery.has_slots
    assert {word.mark for card in gallery.cards for s in card.said for word in s.words} == {""}
    assert {card.disagreement for card in gallery.cards} == {""}


def test_report_of_another_profile_has_its_own_folder(tmp_path: Path) -> None:
    suite = manifest(profile="paper")
    folder = write_report(Store(tmp_path / "runs"), suite, tmp_path / "reports")
    assert folder == tmp_path / "reports" / "mixer_layers.paper"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("record.json", "{"),
        ("region_scores.json", "{"),
        ("region_scores.json", '{"region_ids": ["a"], "scores": {"cider_d": [1, 2]}}'),
        ("region_scores.json", '{"region_ids": ["a"], "scores": {"cider_d": [null]}}'),
        ("predictions.jsonl", '{"region_id": "a"}\n'),
        ("predictions.jsonl", "{\n"),
        ("log.jsonl", "{\n"),
    ],
)
def test_damaged_files_are_named(runs: Runs, name: str, text: str) -> None:
    store, suite = runs
    path = store.run_dir("c-depth-2", 0) / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(str(path))):
        write_report(store, suite, store.root.parent / "reports")
