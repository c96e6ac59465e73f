"""The gallery: which regions, image and box and mask in layers, what every cell said."""

import base64
import io
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from report_fake_runs import MASKS_FILE, SIDE_PX, record, save_masks

from sca_bench.reading import read_jsonl
from sca_bench.report.page.gallery import Gallery, GallerySize, build_gallery
from sca_bench.report.read.regions import choose, read_regions
from sca_bench.report.read.suite_data import collect
from sca_bench.report.read.thumbnails import Thumbnails
from sca_bench.study.runs.record import SuiteManifest
from sca_bench.study.runs.store import Store

Runs = tuple[Store, SuiteManifest]


def picture(uri: str) -> Image.Image:
    _, _, encoded = uri.partition(";base64,")
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


def gallery_of(runs: Runs, size: GallerySize | None = None) -> Gallery:
    return build_gallery(read_regions(collect(*runs)), size)


def test_gallery_shows_every_cell_and_seed(runs: Runs) -> None:
    store, suite = runs
    failed = record(suite.cells[2], 1).model_copy(update={"status": "failed", "error": "no memory"})
    store.save(failed)
    gallery = gallery_of(runs, GallerySize(10, 12))
    assert gallery.seeds == (0, 1)
    assert len(gallery.cards) == 22  # ten images give one disputed region each, and 12 more
    assert {len(card.captions) for card in gallery.cards} == {10}
    holes = {s.missing for s in gallery.cards[0].captions if (s.cell, s.seed) == ("depth-2", 1)}
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


def test_an_image_gives_a_second_region_after_all_have_given_one(runs: Runs) -> None:
    regions = read_regions(collect(*runs))
    images = [regions.rows[region_id].image_id for region_id, _ in choose(regions, 15, 0)]
    assert len(set(images)) == 10
    assert max(images.count(image) for image in images) == 2
    assert len(choose(regions, 99, 99)) == 30
    assert choose(regions, 0, 0) == []


def test_box_is_scaled_from_original_pixels(runs: Runs) -> None:
    thumbnails = Thumbnails(runs[0].root)
    shot, reason = thumbnails.shot("images/feed", "scene-000", (48, 96, 144, 192))
    assert reason == ""
    assert shot is not None
    assert (shot.image.width, shot.image.height) == (SIDE_PX // 2, SIDE_PX // 2)
    assert shot.box_xywh == (24, 48, 48, 48)
    again, _ = thumbnails.shot("images/feed", "scene-000", (0, 0, 9, 9))
    assert again is not None
    assert again.image is shot.image
    assert picture(shot.image.uri).size == (SIDE_PX // 2, SIDE_PX // 2)
    smaller, _ = Thumbnails(runs[0].root, 40).shot("images/feed", "scene-000", (48, 96, 144, 192))
    assert smaller is not None
    assert picture(smaller.image.uri).size == (40, 40)
    assert smaller.box_xywh == shot.box_xywh  # boxes keep the frame of the thumbnail


def test_an_image_stands_on_the_page_once(whole_report: Path) -> None:
    root = ElementTree.fromstring((whole_report / "index.html").read_text(encoding="utf-8"))
    stored = root.findall(".//defs/image")
    assert len(stored) == 10
    uses = [use.get("href") for use in root.iter("use")]
    assert len(uses) == 30
    assert set(uses) == {f"#{image.get('id')}" for image in stored}


def test_mask_is_a_see_through_layer_in_the_thumbnails_frame(runs: Runs) -> None:
    gallery = gallery_of(runs)
    assert gallery.mask_sources == ("SAM's mask",)
    assert "highest predicted IoU" in gallery.about_masks
    for card in gallery.cards:
        assert card.shot is not None
        (layer,) = card.shot.layers
        shown = picture(layer.uri).convert("RGBA")
        assert shown.size == (SIDE_PX // 2, SIDE_PX // 2)
        x, y, width, height = (round(value) for value in card.shot.box_xywh)
        opacity = np.asarray(shown)[..., 3]
        assert opacity[y + 1, x + 1] == 255  # its edge
        assert 0 < opacity[y + height // 2, x + width // 2] < 255
        assert opacity.sum() == opacity[y + 1 : y + height - 1, x + 1 : x + width - 1].sum()


def test_masks_of_several_prompts_can_be_chosen_from(runs: Runs) -> None:
    store, suite = runs
    other = "masks/feed-point.jsonl"
    save_masks(store, other)
    changed = {"masks_file": other}
    for seed in suite.seeds:
        store.save(record(suite.cells[2], seed).model_copy(update=changed))
    gallery = gallery_of(runs)
    names = (
        "SAM's mask of depth-1, depth-4, permuted captions and 1 more",
        "SAM's mask of depth-2",
    )
    assert gallery.mask_sources == names
    assert [layer.source for layer in gallery.cards[0].shot.layers] == [0, 1]  # type: ignore[union-attr]


def test_records_without_masks_show_none_and_say_so(runs: Runs) -> None:
    (runs[0].root / MASKS_FILE).unlink()
    gallery = gallery_of(runs)
    assert gallery.mask_sources == ()
    assert "No predicted mask was kept" in gallery.about_masks
    assert {card.shot.layers for card in gallery.cards if card.shot} == {()}


@pytest.mark.parametrize("change", [{"counts": "0"}, {"counts": "!!"}, {"counts": None}])
def test_damaged_masks_are_named(runs: Runs, change: dict[str, str | None]) -> None:
    path = runs[0].root / MASKS_FILE
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row.update(change)
        if row["counts"] is None:
            del row["counts"]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    data = collect(*runs)
    gallery = build_gallery(read_regions(data))
    assert {card.shot.layers for card in gallery.cards if card.shot} == {()}
    assert {fault.where for fault in data.store.faults.values()} == {str(path)}


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


def test_captions_without_slots_and_scores(runs: Runs) -> None:
    store, suite = runs
    for entry in suite.cells:
        for seed in suite.seeds:
            folder = store.run_dir(entry.cell_id, seed)
            rows = read_jsonl(folder / "predictions.jsonl")
            for row in rows:
                del row["slots"]
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / "predictions.jsonl").write_text(lines, encoding="utf-8")
            (folder / "region_scores.json").unlink()
    gallery = gallery_of(runs)
    assert not gallery.has_slots
    assert {word.grade for card in gallery.cards for s in card.captions for word in s.words} == {""}
    assert {card.disagreement for card in gallery.cards} == {""}
