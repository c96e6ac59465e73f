"""Is a data set what it should be? Counts, boxes, ids, image files, and overlap of its splits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sca_bench.data.catalogue.checksums import Manifest
from sca_bench.data.catalogue.types import DataSet, PublishedCount
from sca_bench.data.index.lookup import annotations_of
from sca_bench.data.load import load_split
from sca_bench.data.readers.collector import CROWD, EMPTY_PHRASE, NO_REGION, NOT_MET
from sca_bench.data.readers.json_files import check, get, get_id, read_json
from sca_bench.data.region_set import RegionSet
from sca_bench.errors import InputError, at

State = Literal["ok", "note", "fail"]
_COCO_FILES = ("train2017", "val2017")


@dataclass(frozen=True)
class CheckLine:
    """One line of the report.

    Attributes:
        what: What was looked at.
        state: `fail` makes the data set fail; `note` is for the reader to judge.
        found: What was found, and what was expected.
    """

    what: str
    state: State
    found: str


def verify(
    dataset: DataSet, root: Path, *, partial: bool = False, coco: Path | None = None
) -> list[CheckLine]:
    """Check a data set that lies under `root`.

    Args:
        dataset: What should lie there.
        root: The folder.
        partial: The folder holds a part on purpose: counts are noted, not compared, and splits that
            are not there are left out.
        coco: Root of COCO, to see how many of the images are its own too.

    Raises:
        InputError: There is no such folder, or nothing of the data set in it.
    """
    if not root.is_dir():
        raise InputError(root, "--root", "no such folder", f"lay it out as: {dataset.layout}")
    rows: list[CheckLine] = []
    sets: dict[str, RegionSet] = {}
    absent: list[str] = []
    for name, make in dataset.splits.items():
        split = make(root)
        if not annotations_of(split).exists():
            absent.append(name)
            if not partial:
                problem = f"{annotations_of(split)} is not there"
                rows.append(CheckLine(name, "fail", problem))
            continue
        try:
            with at(f"data verify {dataset.name}"):
                # Unusable boxes are counted, also where the paper's profile reads them all.
                sets[name] = load_split(split.model_copy(update={"as_published": ()}))
        except InputError as fault:
            rows.append(CheckLine(name, "fail", str(fault)))
            continue
        rows += _split_rows(name, sets[name], dataset.published[name], partial)
    if len(absent) == len(dataset.splits):
        fix = f"run: data prepare {dataset.name} --root {root}; layout: {dataset.layout}"
        raise InputError(root, "--root", f"holds no annotations of {dataset.name}", fix)
    rows += _overlaps(dataset, sets)
    if dataset.coco_ids is not None:
        rows += _coco_rows(root / dataset.coco_ids, sets, coco)
    rows += [
        CheckLine(name, "fail", problem) for name, problem in Manifest(root).changed(thorough=True)
    ]
    return rows


def _split_rows(
    name: str, region_set: RegionSet, published: PublishedCount, partial: bool
) -> Iterator[CheckLine]:
    dropped, left_out = region_set.dropped, region_set.images_left_out
    inside = {why: n for why, n in dropped.items() if not why.startswith(("in images", "not of"))}
    counts = {
        "images": (len(region_set.images) + left_out.get(NO_REGION, 0), published.images),
        "annotations": (len(region_set.regions) + sum(inside.values()), published.regions),
    }
    for what, (count, expected) in counts.items():
        if expected is None:
            yield CheckLine(f"{name}: {what}", "note", f"{count:,} (no published count)")
        elif partial:
            yield CheckLine(
                f"{name}: {what}", "note", f"{count:,} (all of it would be {expected:,})"
            )
        else:
            state: State = "ok" if count == expected else "fail"
            text = f"{count:,}, published {expected:,} ({published.source})"
            yield CheckLine(f"{name}: {what}", state, text)
    if NOT_MET in left_out:
        state = "note" if partial else "fail"
        yield CheckLine(
            f"{name}: listed images", state, f"{left_out[NOT_MET]:,} are not in the file"
        )
    faults = {why: n for why, n in inside.items() if why not in (CROWD, EMPTY_PHRASE)}
    text = ", ".join(f"{why}: {n:,}" for why, n in faults.items()) or "all can be used"
    text += f"; {region_set.num_clipped:,} cut at the image border"
    clean = not faults and not region_set.num_clipped
    yield CheckLine(f"{name}: boxes", "ok" if clean else "note", text)
    yield CheckLine(f"{name}: ids", "ok", "no image or region id occurs twice")
    missing = region_set.missing_images()
    text = f"{len(missing):,} of {len(region_set.images):,} missing"
    first = f", the first is {missing[0].path}" if missing else ""
    yield CheckLine(f"{name}: image files", "fail" if missing else "ok", text + first)


def _overlaps(dataset: DataSet, sets: dict[str, RegionSet]) -> Iterator[CheckLine]:
    for groups, bad in ((dataset.disjoint, "fail"), (dataset.shared, "note")):
        for group in groups:
            there = [name for name in group if name in sets]
            for k, first in enumerate(there):
                for second in there[k + 1 :]:
                    shared = sets[first].images.keys() & sets[second].images.keys()
                    state: State = "ok" if not shared else "fail" if bad == "fail" else "note"
                    example = f", such as {min(shared)}" if shared else ""
                    text = f"{len(shared):,} images are in both{example}"
                    yield CheckLine(f"{first} and {second}", state, text)


def _coco_rows(file: Path, sets: dict[str, RegionSet], coco: Path | None) -> Iterator[CheckLine]:
    """Say how many images of each split are COCO's too, and in which of its parts."""
    names: dict[str, str] = {}
    for index, record in enumerate(check(read_json(file, "image_data"), "a list", str(file))):
        image_id = get_id(record, "image_id", file, index)
        if record.get("coco_id") is not None:
            names[image_id] = get_id(record, "coco_id", file, index)
    parts: dict[str, set[str]] = {}
    for part in _COCO_FILES if coco is not None else ():
        annotations = Path(coco or "") / "annotations" / f"instances_{part}.json"
        images = get(read_json(annotations, "--coco"), "images", "a list", annotations)
        parts[part] = {
            get_id(image, "id", annotations, "images", k) for k, image in enumerate(images)
        }
    for name, region_set in sets.items():
        own = {names[image_id] for image_id in region_set.images if image_id in names}
        text = f"{len(own):,} of {len(region_set.images):,} images are COCO's"
        for part, ids in parts.items():
            text += f", {len(own & ids):,} in {part}"
        yield CheckLine(f"{name}: shared with COCO", "note" if own else "ok", text)
