"""A small runs folder with known numbers: three depths, two controls, two seeds, 30 regions."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from pycocotools import mask as coco

from sca_bench.study.runs.record import CellEntry, RunRecord, Score, SuiteManifest
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.axes import axis_points, cell_name
from sca_bench.variants import all_variants

COLOURS = ("red", "green", "blue", "yellow", "purple")
SHAPES = ("circle", "square", "triangle", "cross")
NUM_IMAGES = 10
SIDE_PX = 192
"""Original size of the images; their thumbnails are half as large."""
MASKS_FILE = "masks/feed-box.jsonl"
SEEDS = (0, 1)
DEPTHS = (1, 2, 4)
# Corpus CIDEr-D (natural units) by cell and seed: what the tests' hand-computed numbers rest on.
CIDER = {
    "depth-1": (8.0, 8.4),
    "depth-2": (8.6, 9.0),
    "depth-4": (8.1, 8.5),
    "permuted captions": (1.0, 0.8),
    "most frequent caption": (1.1, 1.1),
}
SIGNATURE = {
    "scorer": "pycocoevalcap",
    "version": "1.2",
    "tokenizer": "ptb",
    "document_frequency": "references",
    "references_min": 1,
    "references_max": 1,
    "num_regions": 3 * NUM_IMAGES,
    "region_set": "ab12" * 16,
    "language": "en",
    "split": "test",
    "decoding": "greedy, at most 19 tokens",
    "prompt": "box",
}


def signature(metric: str, **changes: Any) -> dict[str, Any]:
    return {"metric": metric, **SIGNATURE, **changes}


def regions() -> list[dict[str, Any]]:
    """Three regions in each image; box, reference and slots follow from the number."""
    draw = random.Random(5)
    rows = []
    for image in range(NUM_IMAGES):
        for index in range(3):
            left, top = 12 + 58 * index, 20 + 40 * ((image + index) % 3)
            slots = {
                "colour": draw.choice(COLOURS),
                "shape": draw.choice(SHAPES),
                "relation": draw.choice(("left of", "above")),
                "neighbour_colour": draw.choice(COLOURS),
            }
            reference = (
                f"a {slots['colour']} {slots['shape']} {slots['relation']} "
                f"a {slots['neighbour_colour']} square"
            )
            rows.append(
                {
                    "region_id": f"scene-{image:03d}/{index}",
                    "image_id": f"scene-{image:03d}",
                    "references": [reference],
                    "box_xyxy": [left, top, left + 46, top + 40],
                    "slots": slots,
                }
            )
    return rows


def manifest(**changes: Any) -> SuiteManifest:
    cells = [CellEntry(cell_id="c-perm", name="permuted captions", coordinates={}, variant="sca",
                       control=True)]  # fmt: skip
    cells += [
        CellEntry(
            cell_id=f"c-depth-{depth}",
            name=f"depth-{depth}",
            coordinates={"mixer.num_layers": depth},
            variant="sca",
        )
        for depth in DEPTHS
    ]
    cells.append(
        CellEntry(
            cell_id="c-freq",
            name="most frequent caption",
            coordinates={},
            variant="most_frequent",
            control=True,
        )
    )
    fields: dict[str, Any] = {
        "suite": "mixer_layers",
        "profile": "tiny",
        "default_profile": "tiny",
        "file": "ablations/mixer_layers.yaml",
        "question": "How deep must the text feature mixer be?",
        "header": "About 200 CPU-seconds.\nExpect depth 2 to be enough.",
        "paper": "table_4",
        "statement": "SAM was pre-trained on rendered scenes: masks, pixel reconstruction and "
        "object descriptors. The text decoder was trained on captions of the same grammar.",
        "axes": {"mixer.num_layers": list(DEPTHS)},
        "seeds": list(SEEDS),
        "metrics": ["cider_d", "bleu", "exact_match", "slots"],
        "claims": [
            {
                "id": "depth_helps",
                "says": "cider_d(mixer.num_layers=2) > cider_d(mixer.num_layers=1)",
            },
            {
                "id": "depth_saturates",
                "says": "cider_d(mixer.num_layers=24) <= cider_d(mixer.num_layers=2)",
            },
        ],
        "cells": cells,
        "overrides": ["train.steps=600"],
        "command": "sca-bench run ablations/mixer_layers.yaml --set train.steps=600",
        "created": "2026-01-02T03:04:05Z",
    }
    return SuiteManifest(**{**fields, **changes})


def cider(name: str, seed: int) -> float:
    """The table's value; a drawn one, the same every time, for cells that are not in it."""
    if name in CIDER:
        return CIDER[name][seed]
    return random.Random(name).uniform(6.0, 9.0) + random.Random(f"{name} {seed}").uniform(0, 0.5)


def region_values(name: str, seed: int) -> list[float]:
    """Region scores whose mean is the corpus value, different from region to region."""
    mean = cider(name, seed)
    draw = random.Random(f"{name} {seed}")
    count = 3 * NUM_IMAGES // 2
    steps = [draw.uniform(0.0, min(mean, 10 - mean)) for _ in range(count)]
    values = [mean + step for step in steps] + [mean - step for step in steps]
    draw.shuffle(values)
    return values


def axis_manifest(
    axes: dict[str, list[Any]], one_at_a_time: bool = False, controls: bool = True, **changes: Any
) -> SuiteManifest:
    """A suite over any axes, its cells called what the resolver calls them."""
    cells = [
        CellEntry(
            cell_id=f"c-{number}",
            name=cell_name(point, "axes"),
            coordinates=point,
            variant=str(point.get("variant", "sca")),
        )
        for number, point in enumerate(axis_points(axes, one_at_a_time))
    ]
    if controls:
        cells += [cell for cell in manifest().cells if cell.control]
    fields = {"suite": "axes", "axes": axes, "cells": cells, "claims": [], "paper": None}
    return manifest(**{**fields, **changes})


PUBLISHED_CLAIM = {
    "depth_helps": {
        "says": "cider_d(mixer.num_layers=12) > cider_d(mixer.num_layers=2)",
        "left": "12 layers",
        "right": "2 layers",
    }
}


def published_manifest() -> SuiteManifest:
    """The suite with published rows for two of its depths, and for a claim on other ones."""
    rows = {"depth-2": "2 layers", "depth-4": "4 layers"}
    cells = [
        cell.model_copy(update={"published_row": rows.get(cell.name, "")})
        for cell in manifest().cells
    ]
    return manifest(cells=cells, published_claims=PUBLISHED_CLAIM)


TINY_SETTINGS: dict[str, Any] = {
    "sam": {"size": "tiny"},
    "encoder": {"type": "sam"},
    "text_decoder": {"weights": "embedded:lm_scenes"},
    "data": {"train": {"dataset": "scenes"}, "test": {"dataset": "scenes"}},
    "train": {"steps": 600},
}


def _revision(variant):
    """Return today's revision of a variant; names that a test made up have the first."""
    known = all_variants()
    return known[variant].revision if variant in known else "1"


def record(entry: CellEntry, seed: int) -> RunRecord:
    depth = entry.coordinates.get("mixer.num_layers") or 2
    trained = entry.variant != "most_frequent"
    scores = {"cider_d": Score(value=cider(entry.name, seed), signature=signature("cider_d"))}
    for n in range(1, 5):
        value = 0.9 - 0.1 * n + 0.01 * seed
        scores[f"bleu_{n}"] = Score(value=value, signature=signature(f"bleu_{n}"))
    scores["exact_match"] = Score(value=0.5 + 0.02 * seed, signature=signature("exact_match"))
    for slot in ("colour", "shape", "relation"):
        scores[f"slot/{slot}"] = Score(value=0.9, signature=signature(f"slot/{slot}"))
    for k in (2, 3):
        name = f"slot_by_objects/{k}/relation"
        scores[name] = Score(value=0.8, signature=signature(name, num_regions=10 * k))
    cost: dict[str, float] = {"num_total_params": 1_000_000.0, "generate_s": 2.5}
    cost["captions_per_s"] = 12.0
    if trained:
        cost |= {
            "num_trainable_params": 100_000.0 * depth,
            "train_s": 40.0 + 10 * seed,
            "step_s": 0.05 + 0.01 * seed,
            "peak_memory_mib": 512.0,
            "shared_s": 7.5,
        }
    return RunRecord(
        cell_id=entry.cell_id,
        seed=seed,
        status="done",
        settings=TINY_SETTINGS,
        inputs={"sam.weights": "sha256:0123abcd"},
        variant=entry.variant,
        revision=_revision(entry.variant),
        scores=scores,
        cost=cost,
        counters={"train_steps": 600 if trained else 0},
        provenance={
            "command": "sca-bench run ablations/mixer_layers.yaml",
            "versions": {"sca_bench": "0.1.0", "torch": "2.14.1"},
            "machine": "2-core CPU",
            "git_commit": "c0ffee" * 6,
            "split_digests": {"test": "d1" * 32},
            "started": f"2026-01-02T03:0{seed}:00Z",
        },
        images_dir="images/feed",
        masks_file=MASKS_FILE,
    )


def save_run(store: Store, entry: CellEntry, seed: int, done: RunRecord | None = None) -> None:
    done = done or record(entry, seed)
    store.save(done)
    folder = store.run_dir(entry.cell_id, seed)
    draw = random.Random(f"{entry.name} {seed} captions")
    rows = regions()
    wrong = 0.8 if entry.control else 0.15
    with (folder / "predictions.jsonl").open("w", encoding="utf-8") as handle:
        for row in rows:
            words = row["references"][0].split()
            if draw.random() < wrong:
                words[1] = draw.choice(COLOURS)
            if draw.random() < wrong:
                words[2] = draw.choice(SHAPES)
            caption = {"caption": " ".join(words), "log_prob": -0.1, "seconds": 0.01}
            handle.write(json.dumps({**row, **caption}) + "\n")
    scores = {
        "region_ids": [row["region_id"] for row in rows],
        "scores": {"cider_d": region_values(entry.name, seed)},
    }
    (folder / "region_scores.json").write_text(json.dumps(scores), encoding="utf-8")
    if entry.variant != "most_frequent":
        with (folder / "log.jsonl").open("w", encoding="utf-8") as handle:
            for step in range(20, 601, 20):
                loss = 3.0 / (1 + step / 60) + 0.1 * draw.random()
                line: dict[str, float] = {"step": step, "loss": loss, "learning_rate": 1e-3}
                if step % 100 == 0:
                    line["val/cider_d"] = cider(entry.name, seed) * (1 - 60 / step)
                    line["val/loss"] = loss + 0.1
                    line["val/exact_match"] = 0.5 * (1 - 60 / step)
                handle.write(json.dumps(line) + "\n")


def save_images(store: Store) -> None:
    folder = store.root / "images" / "feed"
    folder.mkdir(parents=True, exist_ok=True)
    sizes = {}
    for row in regions():
        path = folder / f"{row['image_id']}.png"
        half = SIDE_PX // 2
        image = Image.open(path) if path.exists() else Image.new("RGB", (half, half), "#31363f")
        box = [value / 2 for value in row["box_xyxy"]]
        shape = [box[0] + 4, box[1] + 3, box[2] - 4, box[3] - 3]
        ImageDraw.Draw(image).ellipse(shape, fill=row["slots"]["colour"])
        image.save(path)
        sizes[row["image_id"]] = [SIDE_PX, SIDE_PX]
    (folder / "sizes.json").write_text(json.dumps(sizes), encoding="utf-8")


def save_masks(store: Store, name: str = MASKS_FILE) -> None:
    """A mask for every region, in the thumbnail's frame: its box without a margin of one pixel."""
    lines = []
    for row in regions():
        mask = np.zeros((SIDE_PX // 2, SIDE_PX // 2), dtype=np.uint8, order="F")
        left, top, right, bottom = (value // 2 for value in row["box_xyxy"])
        mask[top + 1 : bottom - 1, left + 1 : right - 1] = 1
        packed = coco.encode(mask)
        found = {key: row[key] for key in ("region_id", "image_id")}
        counts = packed["counts"].decode("ascii")
        lines.append(
            json.dumps({**found, "size": list(map(int, packed["size"])), "counts": counts})
        )
    path = store.root / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def build(root: Path, suite: SuiteManifest | None = None) -> tuple[Store, SuiteManifest]:
    """Write the whole runs folder."""
    store, suite = Store(root), suite or manifest()
    save_images(store)
    save_masks(store)
    for entry in suite.cells:
        for seed in suite.seeds:
            save_run(store, entry, seed)
    store.save_manifest(suite)
    return store, suite


def png_alone(patch: pytest.MonkeyPatch) -> None:
    """Let figures be written as PNG alone, which is what pages hold: a third of the time."""
    real = Figure.savefig

    def savefig(figure: Figure, file: Any, **more: Any) -> None:
        if more["format"] not in {"svg", "pdf"}:
            real(figure, file, **more)

    patch.setattr(Figure, "savefig", savefig)
