"""A made-up suite in a runs folder, for plots: three depths, two seeds, a control, known scores."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from sca_bench.study.runs.record import CellEntry, RunRecord, Score, SuiteManifest
from sca_bench.study.runs.store import PREDICTIONS, Store
from sca_bench.variants import get_variant

_DEPTHS, _SEEDS, _NUM_IMAGES = (1, 2, 4), (0, 1), 6
_METRICS = ("cider_d", "exact_match")
_SIGNATURE = {
    "scorer": "made up",
    "version": "1",
    "tokenizer": "blanks",
    "document_frequency": "none",
    "references_min": 1,
    "references_max": 1,
    "num_regions": 2 * _NUM_IMAGES,
    "region_set": "ab12" * 16,
    "language": "en",
    "split": "test",
    "decoding": "greedy, at most 19 tokens",
    "prompt": "box",
}
_COLOURS = ("red", "green", "blue", "yellow")


def fake_suite(root: Path, *, with_runs: bool) -> tuple[Store, SuiteManifest]:
    """Write a suite to a runs folder; return both.

    Args:
        root: The runs folder.
        with_runs: Whether any run has finished; there is nothing to show otherwise.
    """
    store, manifest = Store(root), _manifest()
    store.save_manifest(manifest)
    for entry in manifest.cells if with_runs else ():
        for seed in _SEEDS:
            _save_run(store, entry, seed)
    return store, manifest


def _manifest() -> SuiteManifest:
    depths = [
        CellEntry(
            cell_id=f"depth{depth}",
            name=f"num_layers={depth}",
            coordinates={"mixer.num_layers": depth},
            variant="sca",
        )
        for depth in _DEPTHS
    ]
    control = CellEntry(
        cell_id="control",
        name="permuted captions",
        coordinates={},
        variant="sca",
        control=True,
    )
    fields: dict[str, Any] = {
        "suite": "made_up",
        "profile": "tiny",
        "file": "made_up.yaml",
        "question": "How deep must the mixer be?",
        "axes": {"mixer.num_layers": list(_DEPTHS)},
        "seeds": list(_SEEDS),
        "metrics": list(_METRICS),
        "claims": [{"id": "deeper", "says": "cider_d(num_layers=4) > cider_d(num_layers=1)"}],
        "cells": [*depths, control],
        "command": "sca_bench run made_up.yaml",
        "created": "2026-01-02T03:04:05Z",
    }
    return SuiteManifest(**fields)


def _save_run(store: Store, entry: CellEntry, seed: int) -> None:
    draw = random.Random(f"{entry.name} {seed}")
    depth = entry.coordinates.get("mixer.num_layers", 0)
    rows = [_row(draw, image, number) for image in range(_NUM_IMAGES) for number in range(2)]
    values = {name: [draw.uniform(0, 0.5) + depth / 10 for _ in rows] for name in _METRICS}
    means = {name: sum(each) / len(each) for name, each in values.items()}
    record = RunRecord(
        cell_id=entry.cell_id,
        seed=seed,
        status="done",
        settings={"train": {"steps": 100}},
        variant=entry.variant,
        revision=get_variant(entry.variant).revision,
        scores={
            name: Score(value=mean, signature={"metric": name, **_SIGNATURE})
            for name, mean in means.items()
        },
        cost={
            "num_total_params": 1e6,
            "num_trainable_params": 1e5 * (1 + depth),
            "train_s": 10.0 + 5 * depth + seed,
            "step_s": 0.01 * (1 + depth),
            "peak_memory_mib": 100.0 + 50 * depth,
            "shared_s": 2.0,
            "generate_s": 1.0,
        },
        counters={"train_steps": 100},
        provenance={"command": "sca_bench run made_up.yaml", "started": "2026-01-02T03:04:05Z"},
    )
    store.save(record)
    folder = store.run_dir(entry.cell_id, seed)
    _write(folder / PREDICTIONS, rows)
    ids = [row["region_id"] for row in rows]
    scores = {"region_ids": ids, "scores": values}
    (folder / "region_scores.json").write_text(json.dumps(scores), encoding="utf-8")
    steps = range(10, 101, 10)
    log = [{"step": step, "loss": 3 / step + draw.random() / 10, "lr": 1e-3} for step in steps]
    log.append({"step": 100, "val/loss": 0.5, "val/cider_d": means["cider_d"]})
    _write(folder / "log.jsonl", log)


def _row(draw: random.Random, image: int, number: int) -> dict[str, Any]:
    reference, caption = (f"a {draw.choice(_COLOURS)} square" for _ in range(2))
    return {
        "region_id": f"image-{image}-{number}",
        "image_id": f"image-{image}",
        "caption": caption,
        "references": [reference],
        "box_xyxy": [4, 4, 20 + image * 5, 30 + number * 20],
        "log_prob": -0.5,
        "predicted_ious": [],
        "seconds": 0.01,
    }


def _write(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
