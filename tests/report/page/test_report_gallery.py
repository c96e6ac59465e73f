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
from sca_bench.report.findings.headline import AnswerRegion
from sca_bench.report.page.caption_words import Word, compare_words, joined
from sca_bench.report.page.gallery import Gallery, GallerySize, build_gallery
from sca_bench.report.read.mask_layers import mask_outline
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


def say(runs: Runs, captions: dict[str, str], seeds: tuple[int, ...] = (0, 1)) -> None:
    """Have every cell that is no control say something else of some regions."""
    store, suite = runs
    for entry in suite.cells:
        for seed in () if entry.control else seeds:
            file = store.run_dir(entry.cell_id, seed) / "predictions.jsonl"
            rows = read_jsonl(file)
            for row in rows:
                row["caption"] = captions.get(row["region_id"], row["caption"])
            file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_gallery_shows_every_cell_and_seed(runs: Runs) -> None:
    store, suite = runs
    failed = record(suite.cells[2], 1).model_copy(update={"status": "failed", "error": "no memory"})
    store.save(failed)
    gallery = gallery_of(runs, GallerySize(10, 4))
    assert gallery.seeds == (0, 1)
    for card in gallery.cards:
        said = sorted((one.cell_index, seed) for one in card.captions for seed in one.seeds)
        assert said == [(cell, seed) for cell in range(5) for seed in (0, 1)]
    holes = {s.missing for s in gallery.cards[0].captions if s.cell == "depth-2" and 1 in s.seeds}
    assert holes == {"failed: no memory"}
    disputed = [card for card in gallery.cards if "disputed" in card.kinds]
    assert disputed == list(gallery.cards[:10])
    gaps = [float(card.disagreement) for card in disputed]
    assert gaps == sorted(gaps, reverse=True)
    assert len({card.image_id for card in disputed}) == 10  # ten images give one each
    shown = [region_id for group in gallery.groups for region_id in group.ids]
    assert {card.region_id for card in gallery.cards} == set(shown)
    assert len(gallery.cards) == len(set(shown))


def test_seeds_that_say_the_same_share_a_line(runs: Runs) -> None:
    (region_id,) = choose(read_regions(collect(*runs)), 1, 0)[0].ids
    say(runs, {region_id: "a red thing"})
    store, suite = runs
    for seed in suite.seeds:  # with scores that show as the same
        file = store.run_dir("c-depth-1", seed) / "region_scores.json"
        stored = json.loads(file.read_text(encoding="utf-8"))
        stored["scores"]["cider_d"][stored["region_ids"].index(region_id)] = 5.0
        file.write_text(json.dumps(stored), encoding="utf-8")
    card = next(c for c in gallery_of(runs).cards if c.region_id == region_id)
    assert [s.seeds for s in card.captions if s.cell == "depth-1"] == [(0, 1)]


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
    disputed = choose(regions, 15, 0)[0]
    images = [regions.rows[region_id].image_id for region_id in disputed.ids]
    assert disputed.total == 30
    assert len(set(images)) == 10
    assert max(images.count(image) for image in images) == 2
    assert [group.ids for group in choose(regions, 0, 0)] == [()] * 4


def test_groups_are_what_they_are_called(runs: Runs) -> None:
    say(runs, {"scene-000/0": "nothing", "scene-003/1": "nothing", "scene-004/2": "nothing"})
    store, suite = runs
    own = [entry.cell_id for entry in suite.cells if not entry.control]
    hits: dict[str, list[bool]] = {}
    for cell_id in own:
        for seed in suite.seeds:
            for row in read_jsonl(store.run_dir(cell_id, seed) / "predictions.jsonl"):
                hits.setdefault(row["region_id"], []).append(row["caption"] in row["references"])
    wrong = {region_id for region_id, of in hits.items() if not any(of)}
    right = {region_id for region_id, of in hits.items() if all(of)}
    assert {"scene-000/0", "scene-003/1", "scene-004/2"} <= wrong
    assert right
    groups = {group.kind: group for group in choose(read_regions(collect(*runs)), 5, 2)}
    assert (groups["wrong"].name, groups["right"].name) == ("All wrong", "All right")
    for kind, members in (("wrong", wrong), ("right", right)):
        assert groups[kind].total == len(members)
        assert set(groups[kind].ids) <= members
        assert len(groups[kind].ids) == min(2, len(members))
    assert groups["random"].total == 30
    again = {group.kind: group for group in choose(read_regions(collect(*runs)), 5, 2)}
    assert groups == again


def test_free_text_is_grouped_by_score(runs: Runs) -> None:
    say(runs, dict.fromkeys(read_regions(collect(*runs)).rows, "free words"))
    regions = read_regions(collect(*runs))
    _, low, high, _ = choose(regions, 0, 30)
    assert (low.name, high.name) == ("Lowest scores", "Highest scores")
    means = [regions.outcomes[region_id].mean or 0.0 for region_id in low.ids]
    assert means == sorted(means)
    assert high.ids == low.ids[::-1]


def test_a_region_is_called_by_its_image_and_number(runs: Runs) -> None:
    names = {card.region_id: card.name for card in gallery_of(runs).cards}
    assert len(names) > 20
    for region_id, name in names.items():
        image, _, number = region_id.partition("/")
        assert name == f"{image}, region {int(number) + 1}"


def test_reference_and_best_other_cell_stand_below_a_picture(runs: Runs) -> None:
    gallery = gallery_of(runs)
    assert [gallery.cells[place] for place in gallery.pair] == ["depth-1", "depth-2"]
    assert list(gallery.cells.values()) == ["depth-1", "depth-2", "depth-4"]  # no controls
    data = collect(*runs)
    by_name = build_gallery(read_regions(data), None, "depth-2")
    assert [by_name.cells[place] for place in by_name.pair] == ["depth-2", "depth-4"]
    for card in gallery.cards:
        assert [one.cell for one in card.pair] == ["depth-1", "depth-2"]
        assert all(card.seed in one.seeds for one in card.pair)
        own = [one for one in card.captions if one.cell_index in gallery.pair]
        ways = [len({one.words for one in own if seed in one.seeds}) for seed in (0, 1)]
        telling = "disputed" in card.kinds and ways == [1, 2]
        assert card.seed == int(telling)
        words = [{w.text for w in one.words if w.differs} for one in card.pair]
        same = card.pair[0].words == card.pair[1].words
        assert (words == [set(), set()]) == same


def test_regions_of_the_answer_are_shown_whatever_the_size(runs: Runs) -> None:
    answer = (
        AnswerRegion("scene-004/1", "scene-004", "depth-4", "depth-2", 1.0),
        AnswerRegion("not there", "scene-000", "depth-4", "depth-2", 1.0),
    )
    gallery = build_gallery(read_regions(collect(*runs)), GallerySize(0, 0), "", answer)
    assert gallery.cards == ()
    assert [card.region_id for card in gallery.top] == ["scene-004/1"]
    assert [one.cell for one in gallery.top[0].pair] == ["depth-4", "depth-2"]
    assert len(gallery.images) == 1


def test_words_that_two_captions_differ_in_are_marked() -> None:
    one, other = ([Word(w) for w in text.split()] for text in ("a red cross", "a big red square"))
    left, right = compare_words(one, other)
    assert [word.text for word in left if word.differs] == ["cross"]
    assert [word.text for word in right if word.differs] == ["big", "square"]
    assert [word.text for word in joined(left)] == ["a red", "cross"]
    assert compare_words(one, []) == ([Word(w.text, differs=True) for w in one], [])


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
    uses = [h for use in root.iter("use") if (h := str(use.get("href"))).startswith("#image-")]
    shown = [*root.iter("article"), *root.findall(".//figure[@class='example']")]
    assert len(uses) == len(shown) > 27
    assert set(uses) == {f"#{image.get('id')}" for image in stored}


def test_mask_is_an_outline_in_the_thumbnails_frame(runs: Runs) -> None:
    gallery = gallery_of(runs)
    assert gallery.mask_sources == ("SAM's mask",)
    assert "highest predicted IoU" in gallery.about_masks
    for card in gallery.cards:
        assert card.shot is not None
        (layer,) = card.shot.layers
        points = corners(layer.outline)
        x, y, width, height = (round(value) for value in card.shot.box_xywh)
        # The mask is the box without a margin of one pixel; an outline is counted in half pixels.
        (left, top), (right, bottom) = points.min(axis=0) / 2, points.max(axis=0) / 2
        assert (left, top) == (x + 1, y + 1)
        assert (right, bottom) == (x + width - 1, y + height - 1)
        assert len(points) <= 9  # each corner is cut by half a pixel


def corners(outline: str) -> np.ndarray:
    """Return the points of an outline of one part."""
    start, _, moves = outline.removeprefix("M").removesuffix("z").partition("l")
    steps = np.array([*map(int, moves.split())]).reshape(-1, 2)
    return np.array([[*map(int, start.split())]]) + np.vstack([[0, 0], np.cumsum(steps, axis=0)])


def test_an_outline_goes_around_holes_and_parts() -> None:
    mask = np.zeros((9, 9), dtype=bool)
    mask[1:6, 1:6] = True
    mask[3, 3] = False
    mask[8, 8] = True
    assert mask_outline(mask).count("M") == 3
    assert mask_outline(np.zeros((4, 4), dtype=bool)) == ""


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
