"""`weights`: checkpoints of others, the embedded weights, a text decoder of your own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sca_bench.cli.frame import Actions
from sca_bench.errors import InputError
from sca_bench.output import say

if TYPE_CHECKING:
    from sca_bench.cli.frame import Commands


def add_parser(commands: Commands) -> None:
    """Add `weights` to the command line."""
    weights = commands.add_parser(
        "weights",
        help="checkpoints of others; the embedded weights; a text decoder of your own",
        description="Take checkpoints of others in, build and verify the embedded weights, and "
        "train a text decoder of your own.",
        examples=("weights import sam_vit_b.pth --out SAM", "weights train-lm --help"),
    )
    actions = Actions(weights)
    out = {"metavar": "DIR", "help": "folder to write into (a new one)"}
    which = {"metavar": "NAME", "help": "one of the embedded weights, such as sam_tiny (all)"}

    take = actions.add(
        "import",
        "take apart a SAM checkpoint, or an original SCA checkpoint, for `paths` and `start_from`",
        ("weights import sam_vit_b.pth --out SAM", "weights import SCA_CHECKPOINT --out SCA"),
    )
    what = "a SAM weight file, a transformers SAM folder, or an original SCA checkpoint"
    take.add("source", nargs="?", metavar="SOURCE", help=what)
    take.add("--out", **out)

    build = actions.add(
        "build",
        "make the embedded weights anew, by their recipes",
        ("weights build --out WEIGHTS --only sam_tiny",),
    )
    build.add("--out", **out)
    build.add("--only", **which)

    verify = actions.add(
        "verify",
        "check that the embedded weights are those of their recipes",
        ("weights verify", "weights verify --only lm_scenes"),
    )
    verify.add("--only", **which)

    lm = actions.add(
        "train-lm",
        "train a small text decoder on captions (about a minute)",
        (
            "weights train-lm --captions captions_val2017.json --out LM",
            "weights train-lm --regions regions.csv --out LM",
        ),
    )
    lm.add("--captions", metavar="JSON", help="captions in COCO's layout")
    lm.add(
        "--phrases",
        metavar="JSON",
        nargs="+",
        default=[],
        help="region descriptions (Visual Genome's layout) or annotations (COCO's): the phrases",
    )
    lm.add(
        "--exclude-images",
        metavar="JSON",
        nargs="+",
        default=[],
        help="images whose captions are left out: image_data, COCO's layout, or a list of ids",
    )
    lm.add(
        "--regions",
        metavar="TABLE",
        nargs="+",
        default=[],
        help="your own regions (regions.jsonl or regions.csv): their captions",
    )
    lm.add(
        "--split",
        metavar="NAME",
        help="which rows of --regions are read: a split as the reader `regions` divides the table,"
        " or `all` (train)",
    )
    lm.add("--out", **out)
    lm.add("--threads", type=int, default=1, metavar="N", help="CPU threads (1)")
    weights.set_defaults(execute=command)


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Run one of the actions; return the exit code."""
    if options.action == "import":
        return _import(options)
    if options.action == "train-lm":
        return _train_lm(options)
    if options.action == "verify":
        from sca_bench.embedded.verify import verify

        for line in verify(only=options.only):
            say(line)
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
        say(line)
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
