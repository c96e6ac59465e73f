"""`score`, `caption`, `export`, `verify`, `weights` and `track`."""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path

from sca_bench.errors import InputError
from sca_bench.study.runs.store import Store


def command(options: argparse.Namespace) -> int:
    """Run one of the commands; return the exit code."""
    if options.command == "score":
        return _score(options)
    if options.command == "caption":
        return _caption(options)
    if options.command == "export":
        return _export(options)
    if options.command == "verify":
        return _verify(options)
    if options.command == "weights":
        return _weights(options)
    return _track(options)


def _score(options: argparse.Namespace) -> int:
    from sca_bench.metrics.coco_caption.check_against_reference import TOLERANCE
    from sca_bench.metrics.score_file import score_detections, score_file

    metrics = options.metrics.split(",") if options.metrics else None
    if options.regions is not None:
        for flag in ("--images", "--subset", "--check"):
            if getattr(options, flag.removeprefix("--")):
                raise InputError("score", flag, "does not go with --regions", f"leave {flag} out")
        found = score_detections(options.file, options.regions, metrics)
    else:
        subsets = _subsets(options.subset)
        found = score_file(options.file, metrics, options.images, subsets, options.check)
    print(json.dumps(found, indent=1, ensure_ascii=False))
    if options.check and not found["check"]:
        problem = "none of the values is one that the field's own scorers compute"
        raise InputError("score", "--check", problem, "ask for cider_d, bleu, rouge_l or meteor")
    return 1 if any(moved > TOLERANCE for moved in found.get("check", {}).values()) else 0


def _subsets(texts: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        if not equals or not file or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            fix = "give NAME=FILE, the name of letters, digits, _ and -"
            raise InputError("--subset", text, "is no subset", fix)
        if name in found:
            raise InputError("--subset", text, f"{name!r} is named twice", "give it another name")
        found[name] = file
    return found


def _numbers(text: str | None, count: int, flag: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise InputError(flag, text, f"expected {count} numbers with commas between them")
    return numbers


def _caption(options: argparse.Namespace) -> int:
    from sca_bench.engine.finished.caption import caption_examples, caption_region

    if options.examples is not None:
        if options.image or options.box or options.point or options.examples < 1:
            problem = "takes regions of the run's test split: no image, box or point, a number >= 1"
            raise InputError("caption", "--examples", problem)
        folder = Path(options.out or "examples")
        store = Store(options.runs_dir)
        for line in caption_examples(store, options.run, options.examples, folder):
            print(line)
        return 0
    if options.image is None:
        raise InputError("caption", "IMAGE", "missing", "name an image file, or give --examples N")
    box = _numbers(options.box, 4, "--box")
    point = _numbers(options.point, 2, "--point")
    out = Path(options.out or "caption.png")
    if options.examples is None and out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError("caption", "--out", f"{out}", "end the name in .png or .jpg")
    found = caption_region(
        Store(options.runs_dir), options.run, Path(options.image), box, point, out
    )
    print(found.caption)
    ious = ", ".join(f"{value:.3f}" for value in found.predicted_ious)
    print(f"log-probability {found.log_prob:.3f}, predicted IoUs {ious}; overlay: {out}")
    return 0


def _export(options: argparse.Namespace) -> int:
    from sca_bench.engine.finished.export import export_run

    for line in export_run(Store(options.runs_dir), options.run, Path(options.out)):
        print(line)
    return 0


def _verify(options: argparse.Namespace) -> int:
    from sca_bench.engine.finished.verify import verify_run

    if options.regions < 1:
        raise InputError(
            "verify", "--regions", f"{options.regions} is too few", "give a number >= 1"
        )
    failed = False
    for check in verify_run(Store(options.runs_dir), options.run, options.regions):
        print(check.line(), flush=True)
        failed |= not check.passed
    return 1 if failed else 0


def _weights(options: argparse.Namespace) -> int:
    if options.action == "import":
        return _import(options)
    if options.source is not None:
        problem = f"{options.action} takes no SOURCE"
        raise InputError("weights", options.source, problem, "only import does")
    if options.action == "train-lm":
        return _train_lm(options)
    if options.action == "verify":
        from sca_bench.embedded.verify import verify

        for line in verify():
            print(line)
        return 0
    from sca_bench.embedded.build import build_all

    if options.out is None:
        raise InputError("weights build", "--out", "missing", "name a folder to build into")
    build_all(Path(options.out), [options.only] if options.only else None)
    return 0


def _import(options: argparse.Namespace) -> int:
    from sca_bench.engine.finished.import_weights import import_weights

    for name, value in (("SOURCE", options.source), ("--out", options.out)):
        if value is None:
            raise InputError("weights import", name, "missing", "give SOURCE --out DIR")
    for line in import_weights(Path(options.source), Path(options.out)):
        print(line)
    return 0


def _train_lm(options: argparse.Namespace) -> int:
    from sca_bench.embedded.caption_lm import build_caption_lm

    for flag, value in (("--captions", options.captions), ("--out", options.out)):
        if value is None:
            raise InputError("weights train-lm", flag, "missing", f"give {flag} PATH")
    build_caption_lm(
        Path(options.captions),
        [Path(file) for file in options.phrases],
        [Path(file) for file in options.exclude_images],
        Path(options.out),
        threads=options.threads,
    )
    return 0


def _track(options: argparse.Namespace) -> int:
    from sca_bench.engine.mlflow_mirror import default_uri, sync

    store = Store(options.runs_dir)
    wanted = len(store.manifests())
    if not wanted:
        raise InputError(store.root, "", "no suite was run here", "run one first")
    count = sync(store, options.tracking_uri or default_uri(store), print)
    print(f"{count} of {wanted} suites mirrored")
    return 0 if count == wanted else 1
