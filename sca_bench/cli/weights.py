"""`weights`: checkpoints of others, the embedded weights, a text decoder of your own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sca_bench.errors import InputError

if TYPE_CHECKING:
    from sca_bench.cli import Commands


def add_parser(commands: Commands) -> None:
    """Add `weights` to the command line."""
    weights = commands.add_parser(
        "weights", help="checkpoints of others; the embedded weights; a text decoder of your own"
    )
    weights.add_argument("action", choices=["import", "build", "verify", "train-lm"])
    weights.add_argument(
        "source",
        nargs="?",
        metavar="SOURCE",
        help="import: a SAM weight file, a transformers SAM folder, or an original SCA checkpoint",
    )
    weights.add_argument("--out", metavar="DIR", help="folder to write into (a new one)")
    weights.add_argument("--only", metavar="NAME", help="one of the embedded weights")
    lm = weights.add_argument_group("train-lm", "train a small text decoder on captions")
    lm.add_argument("--captions", metavar="JSON", help="captions in COCO's layout")
    lm.add_argument(
        "--phrases",
        metavar="JSON",
        nargs="+",
        default=[],
        help="region descriptions (Visual Genome's layout) or annotations (COCO's): the phrases",
    )
    lm.add_argument(
        "--exclude-images",
        metavar="JSON",
        nargs="+",
        default=[],
        help="images whose captions are left out: image_data, COCO's layout, or a list of ids",
    )
    lm.add_argument(
        "--regions",
        metavar="TABLE",
        nargs="+",
        default=[],
        help="your own regions (regions.jsonl or regions.csv): their captions",
    )
    lm.add_argument(
        "--split",
        metavar="NAME",
        help="which rows of --regions are read: a split as the reader `regions` divides the table,"
        " or `all` (train)",
    )
    lm.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads (1)")
    weights.set_defaults(execute=command)


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Run one of the actions; return the exit code."""
    _refuse_idle_flags(options)
    if options.action == "import":
        return _import(options)
    if options.action == "train-lm":
        return _train_lm(options)
    if options.action == "verify":
        from sca_bench.embedded.verify import verify

        for line in verify(only=options.only):
            print(line)
        return 0
    from sca_bench.embedded.build import build_all

    if options.out is None:
        raise InputError("weights build", "--out", "missing", "name a folder to build into")
    build_all(Path(options.out), [options.only] if options.only else None)
    return 0


_TAKEN_BY = {
    "SOURCE": ("import",),
    "--out": ("import", "build", "train-lm"),
    "--only": ("build", "verify"),
    "--captions": ("train-lm",),
    "--phrases": ("train-lm",),
    "--exclude-images": ("train-lm",),
    "--regions": ("train-lm",),
    "--split": ("train-lm",),
    "--threads": ("train-lm",),
}
"""Flag -> the actions that read it."""
_NOT_GIVEN: tuple[object, ...] = (None, [], 1)
"""What such a flag is where nobody gave it."""


def _refuse_idle_flags(options: argparse.Namespace) -> None:
    for flag, actions in _TAKEN_BY.items():
        value = getattr(options, flag.strip("-").lower().replace("-", "_"))
        if value not in _NOT_GIVEN and options.action not in actions:
            key = options.source if flag == "SOURCE" else flag
            fix = f"{' and '.join(actions)} {'does' if len(actions) == 1 else 'do'}"
            raise InputError("weights", key, f"{options.action} takes no {flag}", f"only {fix}")


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

    if options.captions is None and not options.regions:
        fix = "give --regions TABLE, or --captions JSON"
        raise InputError("weights train-lm", "--captions", "missing", fix)
    if options.out is None:
        raise InputError("weights train-lm", "--out", "missing", "give --out PATH")
    for flag, given, needs in (
        ("--split", options.split, "--regions"),
        ("--exclude-images", options.exclude_images, "--captions"),
    ):
        if given and not getattr(options, needs.strip("-")):
            problem = f"has no meaning without {needs}"
            raise InputError("weights train-lm", flag, problem, f"drop it, or give {needs}")
    split = options.split or "train"
    build_caption_lm(
        None if options.captions is None else Path(options.captions),
        [Path(file) for file in options.phrases],
        [Path(file) for file in options.exclude_images],
        Path(options.out),
        tables=[Path(file) for file in options.regions],
        split=None if split == "all" else split,
        threads=options.threads,
    )
    return 0
