"""Damaged runs folders, region indices and shards: how they are made, and what must read them.

The good inputs of `records` are a small finished runs folder.

`damage_records` changes values, lines, bytes and whole files (links, pipes, folders, swaps) of
records, manifests, predictions, scores, logs, statistics, masks, sizes and pictures. Of an index
and of shards half of the inputs get fitting checksums, as somebody would make them on purpose.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from safetensors.numpy import save

from fuzz.harness import Target
from sca_bench.cli.lookup.run_table import print_runs
from sca_bench.data.image_files import ImageFolder
from sca_bench.data.index import arrays
from sca_bench.data.index.lookup import index_sizes
from sca_bench.data.region_set import RegionSet
from sca_bench.engine.features.cache import Cache, delete_store, store_folders
from sca_bench.engine.features.shards import DamagedRow, Rows, ShardStore
from sca_bench.engine.mlflow_mirror import layout, notes, previews, tracker
from sca_bench.engine.score_runs import is_scored
from sca_bench.errors import InputError
from sca_bench.plugins import attribute
from sca_bench.report.figures.plotted import PlottedSuite
from sca_bench.report.figures.registry import plots_in_order
from sca_bench.report.figures.sweep.trials import front_of, history_of, importance_of, slices_of
from sca_bench.report.findings.answer import answer_of
from sca_bench.report.findings.claims import claim_results
from sca_bench.report.findings.differences import differences
from sca_bench.report.findings.paper import read_paper
from sca_bench.report.findings.ranking import Rankings
from sca_bench.report.in_short import read_findings
from sca_bench.report.page.gallery import build_gallery
from sca_bench.report.read.regions import read_regions
from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import collect
from sca_bench.report.tables.csv import claims_csv, long_csv, wide_csv
from sca_bench.report.tables.provenance import provenance, signature_legend
from sca_bench.report.tables.tables import Footnotes
from sca_bench.report.write import _tables
from sca_bench.settings import CellSettings
from sca_bench.study.find_run import cell_names, find_finished
from sca_bench.study.runs.record import CellEntry, RunRecord, Score, SuiteManifest
from sca_bench.study.runs.revisions import identity_of, made_with
from sca_bench.study.runs.store import PREDICTIONS, STATISTICS, Store, keep_log_until
from sca_bench.study.runs.sweep_record import SweepRecord, read_sweep, save_sweep
from sca_bench.types import ImageRecord, Region

DEEP, HUGE = "<deep>", "<huge>"
"""Texts that stand for what `json.dumps` cannot write; see `_as_text`."""
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 10**400, 0.5, -0.0, 1e308, DEEP, HUGE),
    *(float("nan"), float("inf"), "", " ", ".", "..", "../../x", "/etc/passwd", "/", "a/b", "-x"),
    *("a\0b", "a\nb", "\x1b[31m", "=1+1", "%s", "{0}", "[red]", "<script>", "x" * 5000, "\ud800"),
    *("é", "2026-13-45T00:00:00Z", "NaN", "1e999", [], {}, [[]], {"": {}}, ["a"] * 50, [1, "a"]),
)
"""What a field may hold instead of its own value."""

# --- damage of text and JSON ------------------------------------------------------------------


def _as_text(content: Any, random: Random) -> bytes:
    text = json.dumps(content, ensure_ascii=random.random() < 0.5)
    deep = "[" * 100_000 if random.random() < 0.5 else "[" * 150 + "]" * 150
    text = text.replace(json.dumps(DEEP), deep).replace(json.dumps(HUGE), "1e400")
    return text.encode("utf-8", "surrogatepass")


def _places(content: Any, found: list[tuple[Any, Any]] | None = None) -> list[tuple[Any, Any]]:
    """Return (container, key) of every value inside."""
    found = [] if found is None else found
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(content, dict):
        items = content.items()
    elif isinstance(content, list):
        items = enumerate(content)
    for key, value in items:
        found.append((content, key))
        _places(value, found)
    return found


def damaged_json(random: Random, content: Any) -> Any:
    """Return JSON with one to three values changed, deleted, copied elsewhere or renamed."""
    content = json.loads(json.dumps(content))
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = _places(content)
        if not places or random.random() < 0.02:
            return deepcopy(random.choice(VALUES))
        inside, key = random.choice(places)
        kind = random.randrange(10)
        if kind < 6:
            inside[key] = deepcopy(random.choice(VALUES))  # which may be changed next
        elif kind == 6:
            del inside[key]
        elif kind == 7:
            other, name = random.choice(places)
            with suppress(LookupError):  # it may be gone by now
                inside[key] = json.loads(json.dumps(other[name]))
        elif isinstance(inside, dict):
            name = random.choice([v for v in VALUES if isinstance(v, str)])
            inside[name] = inside.pop(key)
        else:
            inside.extend(inside[:] * random.choice((1, 3)))
    return content


def damaged_bytes(random: Random, content: bytes) -> bytes:
    """Return bytes with a bit turned, a part gone, doubled or replaced, or nothing of them."""
    if not content:
        return b"\0"
    at, other = random.randrange(len(content)), random.randrange(len(content))
    kind = random.randrange(6)
    if kind == 0:
        return content[:at] + bytes([content[at] ^ 1 << random.randrange(8)]) + content[at + 1 :]
    if kind == 1:
        return content[:at]
    if kind == 2:
        return content[: min(at, other)] + content[max(at, other) :]
    if kind == 3:
        return content[:at] + random.choice((b"\xff\xfe", b"\0", b"\xed\xa0\x80")) + content[at:]
    if kind == 4:
        return content[:at] + content[other:]
    return random.choice((b"", b"{", b"[]", b"null", b"\xef\xbb\xbf{}", content * 2))


def _damage_file(random: Random, path: Path, everything: list[Path]) -> None:
    """Change a file, or put something else in its place."""
    if random.random() < 0.08:
        path.unlink()
        kind = random.randrange(6)
        if kind == 0:
            path.symlink_to("/etc/passwd")
        elif kind == 1:
            os.mkfifo(path)
        elif kind == 2:
            path.mkdir()
        elif kind == 3:
            path.symlink_to(path.name)
        elif kind == 4:
            other = random.choice(everything)
            if other.is_file():
                shutil.copy(other, path)
        return
    content = path.read_bytes()
    if path.suffix in (".json", ".jsonl") and random.random() < 0.8:
        lines = content.splitlines() if path.suffix == ".jsonl" else [content]
        number = random.randrange(len(lines))
        lines[number] = _as_text(damaged_json(random, json.loads(lines[number])), random)
        path.write_bytes(b"\n".join(lines) + b"\n")
    else:
        path.write_bytes(damaged_bytes(random, content))


# --- records, manifests and what lies beside them ---------------------------------------------

_METRICS = ("cider_d", "exact_match")


def records_seeds(folder: Path) -> None:
    """Write a finished runs folder of two cells and a control, each a seed, with six regions."""
    store = Store(folder / "runs")
    cells = [
        CellEntry(cell_id="c-1", name="one layer", coordinates={"mixer.num_layers": 1},
                  variant="sca"),
        CellEntry(cell_id="c-2", name="two layers", coordinates={"mixer.num_layers": 2},
                  variant="sca"),
        CellEntry(cell_id="c-0", name="control", coordinates={}, variant="most_frequent",
                  control=True),
    ]  # fmt: skip
    claim = {"id": "deep", "says": "cider_d(num_layers=2) > cider_d(num_layers=1)"}
    store.save_manifest(
        SuiteManifest(
            suite="small", profile="tiny", default_profile="tiny", file="small.yaml",
            path="/nowhere/small.yaml", question="Is it read?", axes={"mixer.num_layers": [1, 2]},
            seeds=[0], own_seeds=[0], metrics=[*_METRICS], claims=[claim], cells=cells,
            subsets={"first": "first_of_image"}, reference="num_layers=1", command="run",
        )
    )  # fmt: skip
    for number, cell in enumerate(cells):
        _write_run(store, cell, number)
    _write_sweep(store)
    images = store.root / "images" / "feed"
    images.mkdir(parents=True)
    for name in ("im0", "im1"):
        Image.new("RGB", (16, 12), "#403020").save(images / f"{name}.png")
    sizes = {name: [32, 24] for name in ("im0", "im1")}
    (images / "sizes.json").write_text(json.dumps(sizes), encoding="utf-8")
    masks = [{"region_id": f"im{i % 2}/{i}", "size": [12, 16], "counts": "P6"} for i in range(6)]
    (store.root / "masks").mkdir()
    lines = "".join(json.dumps(mask) + "\n" for mask in masks)
    (store.root / "masks" / "feed.jsonl").write_text(lines, encoding="utf-8")


def _write_sweep(store: Store) -> None:
    """Let the two cells be trials of a sweep, one of them confirmed."""
    trials = [
        {"number": n, "state": "complete", "values": [0.5 + n / 10], "cell_id": f"c-{n + 1}",
         "params": {"mixer.num_layers": n + 1, "train.learning_rate": 1e-3 * (n + 1)}}
        for n in range(2)
    ]  # fmt: skip
    failed = {"number": 2, "state": "fail", "reason": "a reason", "params": {}}
    record = {
        "sweep": "searched", "profile": "tiny", "question": "Which?", "trials": [*trials, failed],
        "objectives": [{"metric": "cider_d", "direction": "maximize"}], "best": [1],
        "axes": [
            {"key": "mixer.num_layers", "kind": "choices", "choices": [1, 2]},
            {"key": "train.learning_rate", "kind": "float", "low": 1e-4, "high": 1.0, "log": True},
        ],
        "importances": [{"mixer.num_layers": 0.75, "train.learning_rate": 0.25}], "seeds": [0],
        "confirmed": [{"name": "#1", "cell_id": "c-2", "trial": 1}],
    }  # fmt: skip
    save_sweep(store, SweepRecord.model_validate(record))


def _write_run(store: Store, cell: CellEntry, number: int) -> None:
    signature = {"metric": "cider_d", "region_set": "ab" * 32, "num_regions": 6, "split": "test"}
    scores = {m: Score(value=0.5 + number / 10, signature=signature) for m in _METRICS}
    scenes = {"dataset": "scenes", "num_images": 2, "first_seed": 0}
    given = {"variant": cell.variant, "data": {"train": scenes, "test": scenes}}
    settings = CellSettings.model_validate(given).model_dump(mode="json")
    stage = {"stage": "one", "cell_id": "c-1", "seed": 0, "steps": 5, "weights_sha256": "0" * 64}
    provenance = {
        "started": "2026-01-02T03:04:05Z", "finished": "2026-01-02T03:05:05Z",
        "machine": {"cpu": "x", "threads": 2, "frozen_threads": [1]},
        "split_digests": {"test": "d1" * 32}, "versions": {"torch": "2"},
    }  # fmt: skip
    record = RunRecord(
        cell_id=cell.cell_id, seed=0, status="running" if number == 1 else "done",
        settings=settings, inputs={"sam.weights": "sha256:01"}, variant=cell.variant, revision="1",
        revisions={"features": "1"}, scores=scores, subsets={"first": "d"}, notes=["a note"],
        cost={"num_trainable_params": 10.0, "train_s": 1.5, "step_s": 0.1},
        counters={"train_steps": 40}, provenance=provenance, lineage=[stage] if number == 1 else [],
        images_dir="images/feed", masks_file="masks/feed.jsonl",
    )  # fmt: skip
    if number == 1:
        record = record.model_copy(update={"status": "done"})
    store.save(record)
    folder = store.run_dir(cell.cell_id, 0)
    rows = [
        {
            "region_id": f"im{i % 2}/{i}", "image_id": f"im{i % 2}", "caption": f"a red {i}",
            "references": [f"a red {i}", "a dot"], "box_xyxy": [1, 2, 9 + i, 10],
            "slots": {"colour": "red"}, "log_prob": -0.5,
        }
        for i in range(6)
    ]  # fmt: skip
    ids = [row["region_id"] for row in rows]
    table = {"region_ids": ids, "scores": {m: [0.1 * i for i in range(6)] for m in _METRICS}}
    part = {"region_ids": ids[:2], "scores": {"cider_d": [0.2, 0.3]}}
    files = {
        PREDICTIONS: "".join(json.dumps(row) + "\n" for row in rows),
        "region_scores.json": json.dumps({**table, "parts": {"first": part}}),
        "log.jsonl": "".join(
            json.dumps({"step": s, "loss": 1 / (s + 1), "lr": 1e-3, "val/cider_d": 0.1}) + "\n"
            for s in range(0, 40, 10)
        ),
        "mlflow.json": json.dumps({"a/small": {"run_id": "0" * 32, "rows": 4, "ended": "x"}}),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / STATISTICS).write_bytes(save({"bleu": np.ones((6, 4))}))


def damage_records(random: Random, seeds: Path, work: Path) -> None:
    """Write a copy of the runs folder with one or two damaged files."""
    shutil.copytree(seeds / "runs", work / "runs")
    everything = sorted(path for path in (work / "runs").rglob("*") if path.is_file())
    for _ in range(random.choice((1, 1, 2))):
        often = [
            p
            for p in everything
            if p.name == "record.json" or p.parent.name in ("suites", "sweeps")
        ]
        path = random.choice(often if random.random() < 0.6 else everything)
        everything.remove(path)
        if path.is_file() and not path.is_symlink():
            _damage_file(random, path, everything)
    if random.random() < 0.03:  # a folder that is a link to elsewhere
        folder = random.choice(["cells/c-1", "cells/c-1/seed-0", "images/feed", "suites", "masks"])
        shutil.rmtree(work / "runs" / folder)
        (work / "runs" / folder).symlink_to("/usr")


def check_records(work: Path) -> None:
    """Read a runs folder as `list runs`, `find_run`, `report`, `track sync` and `run` do.

    Each is tried, whatever the one before says; the last refusal is raised at the end.
    """
    refusals: list[InputError] = []
    for read in (_list_runs, _find, report, _search, _mirror, _rest):
        try:
            read(work / "runs", work)
        except InputError as fault:
            refusals.append(fault)
    if refusals:
        raise refusals[-1]


def _list_runs(runs: Path, work: Path) -> None:
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        print_runs(Console(file=nowhere), Store(runs), None, None)


def _find(runs: Path, work: Path) -> None:
    record, folder = find_finished(Store(runs), "c-1/0")
    assert folder == runs / "cells" / "c-1" / "seed-0"
    made_with(record)
    identity_of(record)


def report(runs: Path, work: Path) -> None:
    """Do all that a report does but draw its figures, whose facts are read, and write its page."""
    for manifest in Store(runs).manifests(faults=[]):
        data = collect(Store(runs), manifest)
        samples, notes = Samples(data), Footnotes()
        claims = claim_results(data, samples)
        compared = differences(data, samples, data.main_metric)
        paper = read_paper(data, work / "reports")
        answer, rankings = (
            answer_of(data, samples, claims, paper, compared),
            Rankings(data, samples),
        )
        _tables(data, paper, answer, compared, notes, rankings)
        (provenance(data, paper.source), signature_legend(data))
        claims_csv(answer.results, answer.headline.sentences)
        (long_csv(data, paper), wide_csv(data, paper, rankings.marked))
        build_gallery(read_regions(data))
        plotted = PlottedSuite(data, samples, compared, claims, paper, answer.headline)
        for spec in plots_in_order():
            attribute(spec.facts)(plotted)
        for fault in data.store.faults.values():  # the report is written without it
            raise fault


def _search(runs: Path, work: Path) -> None:
    """Read what the figures of a sweep show; no suite of the folder is its trials."""
    record = read_sweep(Store(runs), "searched", "tiny")
    if record is not None:
        for shown in (slices_of, history_of, importance_of, front_of):
            shown(record)


def _mirror(runs: Path, work: Path) -> None:
    """Read what the mirror reads, without MLflow."""
    store = Store(runs)
    for manifest in store.manifests(faults=[]):
        notes.lacks_runs(store, manifest, "http://127.0.0.1:9")
        mirror = tracker.Tracker(store, manifest, "http://127.0.0.1:9", print)
        for entry in manifest.cells:
            for seed in manifest.seeds:
                if (record := store.record(entry.cell_id, seed)) is not None:
                    notes.read_notes(store.run_dir(record.cell_id, seed))
                    layout.curve_points(store.log(record.cell_id, seed))
                    layout.last_values(manifest, record)
                    layout.milliseconds(record.provenance.get("started"))
                    layout.source_tags(manifest, record)
                    layout.seed_note(manifest, entry, record)
                    layout.params(entry, record, mirror._param_names())
                    json.dumps(layout.datasets(record))
                    mirror._files(record, store.run_dir(record.cell_id, seed), work)
                    with suppress(InputError):
                        previews.write_examples(store, record, work)
        with suppress(InputError):
            read_findings(store, manifest, work / "reports").model_dump_json()


def _rest(runs: Path, work: Path) -> None:
    """Read what `run`, `export` and `score` read of earlier runs."""
    store = Store(runs)
    cell_names(store)
    store.settle_interrupted()
    for record in store.records([]):
        is_scored(record, _METRICS)
        keep_log_until(store.run_dir(record.cell_id, record.seed), 20)
        store.save(record)


# --- the index of a split ---------------------------------------------------------------------


def index_seeds(folder: Path) -> None:
    """Write an annotation file, and an index of three images and seven regions beside it."""
    source = folder / "annotations.json"
    source.write_text("{}", encoding="utf-8")
    images = {f"i{n}": ImageRecord(f"i{n}", 40, 30, f"/none/{n}.png") for n in range(3)}
    regions = [
        Region(f"r{n}", f"i{n // 3}", (1.0, 2.0, 9.0 + n, 20.0), (f"a thing {n}", "an é"), {}, "")
        for n in range(7)
    ]
    made = RegionSet(name="set", images=images, regions=regions, dropped={}, images_left_out={})
    known = arrays.known_sources({"annotations": source})
    arrays.write_index(made, folder / "index", known, "/none")


def damage_index(random: Random, seeds: Path, work: Path) -> None:
    """Write a copy of the index with one damaged file; half of them with fitting checksums."""
    shutil.copy2(seeds / "annotations.json", work / "annotations.json")
    shutil.copytree(seeds / "index", work / "index")
    meta = work / "index" / "index.json"
    body = json.loads(meta.read_bytes())["body"]
    everything = sorted((work / "index").iterdir())
    files = [path for path in everything if path != meta]
    on_purpose = random.random() < 0.5
    if random.random() < 0.5:
        _damage_array(random, random.choice(files), everything)
    else:
        body = damaged_json(random, body)
    if on_purpose and isinstance(body, dict):
        for path in files:
            if path.is_file() and not path.is_symlink() and isinstance(body.get("files"), dict):
                known = body["files"].get(path.name)
                if isinstance(known, dict) and random.random() < 0.9:
                    known.update(arrays._known_file(path))
        sources = body.get("sources")
        if isinstance(sources, dict) and random.random() < 0.9:
            sources.update(arrays.known_sources({"annotations": work / "annotations.json"}))
    text = _as_text({"crc32": 0, "body": body}, random)
    with suppress(ValueError, RecursionError):
        again = json.loads(text)
        text = _as_text({**again, "crc32": arrays._crc(again["body"])}, random)
    meta.unlink()
    meta.write_bytes(text if random.random() < 0.95 else damaged_bytes(random, text))


def _damage_array(random: Random, path: Path, everything: list[Path]) -> None:
    content = bytearray(path.read_bytes())
    if path.suffix != ".npy" or random.random() < 0.3 or len(content) < 136:
        _damage_file(random, path, everything)
        return
    at = 128 + 8 * random.randrange((len(content) - 128) // 8)
    numbers = (0, 1, -1, 2**62, -(2**63), 2**63 - 1, 3, 10**6)
    box = struct.pack("<d", random.choice((float("nan"), float("inf"), -1e300, 1e18)))
    content[at : at + 8] = (
        box if random.random() < 0.4 else struct.pack("<q", random.choice(numbers))
    )
    path.write_bytes(content)


def check_index(work: Path) -> None:
    """Open an index and read all of it, in every way that there is."""
    for _ in index_sizes(work):
        pass
    sources = {"annotations": work / "annotations.json"}
    try:
        found = arrays.open_index(work / "index", sources, ImageFolder("/none"), "caption")
    except arrays.UnusableIndex as fault:
        raise InputError(work / "index", "", str(fault)) from None
    images = list(found.images)
    for image_id in images:
        found.images[image_id]
        found.regions_of(image_id)
    (list(found.regions), found.regions[-1:], found.digest(), found.summary())


# --- shards of frozen features ----------------------------------------------------------------


def shards_seeds(folder: Path) -> None:
    """Write a store of two shards with two arrays each."""
    store = ShardStore(folder / "store")
    for first in (0, 4):
        values = np.arange(4 * 8, dtype=np.float32).reshape(4, 8).view(np.uint8)
        halves = np.arange(4 * 6, dtype=np.float16).reshape(4, 6).view(np.uint8)
        rows = {"a": Rows(values, "F32", (2, 4)), "b": Rows(halves, "F16", (6,))}
        facts = {"threads": 2, "grid_hw": [2, 2], "first_candidate": 1}
        store.append([f"k{first + n}" for n in range(4)], rows, facts)


def damage_shards(random: Random, seeds: Path, work: Path) -> None:
    """Write a copy of the store with one damaged file; half of them with fitting checksums."""
    shutil.copytree(seeds / "store", work / "store")
    everything = sorted((work / "store").iterdir())
    index = random.choice([path for path in everything if path.suffix == ".json"])
    data = index.with_suffix(".safetensors")
    kind = random.randrange(4)
    if kind == 0:
        _damage_file(random, random.choice((index, data)), everything)
        return
    body, content = json.loads(index.read_bytes())["body"], data.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    if kind == 1:
        body = damaged_json(random, body)
    else:
        header = _as_text(damaged_json(random, json.loads(content[8 : 8 + length])), random)
        rows = content[8 + length :]
        rows = damaged_bytes(random, rows) if random.random() < 0.3 else rows
        said = random.choice((len(header), len(header), len(header), 0, 7, 2**40, 2**60, 2**64 - 1))
        head = struct.pack("<Q", said) + header
        data.write_bytes(head + rows)
        body |= {"size": len(head + rows), "header_crc32": zlib.crc32(head)}
    text = _as_text({"crc32": 0, "body": body}, random)
    with suppress(ValueError, RecursionError):
        again = json.loads(text)
        crc = zlib.crc32(json.dumps(again["body"], sort_keys=True).encode())
        text = _as_text({**again, "crc32": crc}, random)
    index.write_bytes(text)


def check_shards(work: Path) -> None:
    """Open a store, read every row, check all of it and clean it; as a run and `cache` do."""
    kept = ShardStore(work / "store", delete=False)
    (kept.kinds(), kept.stated("threads"), kept.verify())
    store = Cache(work).store("store")
    (store.kinds(), store.stated("threads"), len(store))
    keys = [f"k{number}" for number in range(8)]
    _until_sound(lambda: store.take([key for key in keys if key in store]))
    for key in keys:
        if key in store:
            store.facts(key)
    store.verify()
    store.clean()
    Cache(work).used("store", {"family": "mixed"})
    for folder in store_folders(work):
        delete_store(folder)


def _until_sound(take: Callable[[], Any]) -> None:
    for _ in range(3):
        with suppress(DamagedRow):
            take()
            return


TARGETS = (
    Target("records", records_seeds, damage_records, check_records),
    Target("index", index_seeds, damage_index, check_index),
    Target("shards", shards_seeds, damage_shards, check_shards),
)
