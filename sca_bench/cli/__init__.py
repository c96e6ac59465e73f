"""The command line.

Every command imports what it needs when it is called, so that help and lists answer at once and the
light commands never load torch.

Exit codes: 0 all right, 1 some cells failed (the rest is done), 2 the input is wrong.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from typing import NoReturn

from sca_bench import __version__
from sca_bench.data.catalogue.layouts import layout_help
from sca_bench.errors import InputError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print one line and leave with exit code 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def _megabytes(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share; give a number up to 1")
    return value


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = _Parser(
        prog="sca_bench",
        description="Experiment and ablation benchmarks for region captioning.",
    )
    parser.add_argument("--version", action="version", version=f"sca_bench {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    common = _Parser(add_help=False)
    common.add_argument("--runs-dir", default="runs", metavar="DIR", help="runs folder (runs)")

    suite = _Parser(add_help=False, parents=[common])
    suite.add_argument("suite", metavar="SUITE", help="a suite's YAML file, or a folder of them")
    suite.add_argument("--profile", help="tiny, small, paper, ... (the suite's own)")
    suite.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", dest="overrides")
    suite.add_argument("--seeds", metavar="N,N", help="seeds in place of the suite's")
    suite.add_argument("--only", metavar="PATTERN", help="only cells whose name matches")

    run = commands.add_parser("run", parents=[suite], help="run what is not done of a suite")
    run.add_argument("--tracking-uri", metavar="URI", help="MLflow (SQLite in the runs folder)")
    run.add_argument("--no-mlflow", action="store_true", help="do not mirror to MLflow")
    run.add_argument(
        "--rescore", action="store_true", help="try again what metrics could not be computed"
    )
    run.add_argument(
        "--budget", metavar="TIME", help="start nothing that does not fit: 45s, 90m, 2h, 1h30m"
    )
    plan = commands.add_parser(
        "plan", parents=[suite], help="what a suite's cells share, what is left, what it takes"
    )
    plan.add_argument("--no-probe", action="store_true", help="measure nothing on this machine")
    plan.add_argument(
        "--gpu", metavar="NAME,NAME", help="GPU-hours on a100, h100 (both with --profile paper)"
    )
    plan.add_argument(
        "--utilisation",
        type=_share,
        default=0.35,
        metavar="SHARE",
        help="share of that GPU's peak to assume (0.35)",
    )
    sweep = commands.add_parser(
        "sweep", parents=[common], help="search settings with Optuna; the best is run again on test"
    )
    sweep.add_argument("suite", metavar="SWEEP", help="a sweep's YAML file")
    sweep.add_argument("--profile", help="tiny, small, paper, ... (the sweep's own)")
    sweep.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", dest="overrides")
    sweep.add_argument("--trials", type=int, metavar="N", help="trials in place of the sweep's")
    sweep.add_argument("--tracking-uri", metavar="URI", help="MLflow (SQLite in the runs folder)")
    sweep.add_argument("--no-mlflow", action="store_true", help="do not mirror to MLflow")
    check = commands.add_parser(
        "check", parents=[suite], help="what a suite needs, and what is missing"
    )
    check.add_argument(
        "--build", action="store_true", help="size every cell: parameters, shapes, memory"
    )

    report = commands.add_parser("report", parents=[common], help="write tables, plots, gallery")
    report.add_argument("suites", nargs="*", metavar="SUITE", help="names or files (all)")
    report.add_argument("--out", default="reports", metavar="DIR", help="reports folder (reports)")
    report.add_argument("--tracking-uri", metavar="URI", help="MLflow (SQLite in the runs folder)")
    report.add_argument("--no-mlflow", action="store_true", help="no summary run in MLflow")
    report.add_argument(
        "--limit-mb",
        type=_megabytes,
        default=8.0,
        metavar="N",
        help="most megabytes of each page; images, then plots are left out before (8)",
    )

    lists = commands.add_parser("list", parents=[common], help="list what there is")
    lists.add_argument("what", choices=["variants", "suites", "metrics", "profiles", "runs"])

    describe = commands.add_parser("describe", help="describe a variant, metric or setting")
    describe.add_argument("name")

    explain = commands.add_parser("explain", parents=[common], help="what a cell is made of")
    explain.add_argument("cell", help="cell id (or its beginning)")
    explain.add_argument("other", nargs="?", help="a second cell: show what differs")

    score = commands.add_parser("score", help="score a predictions file, print JSON")
    score.add_argument("file")
    score.add_argument(
        "--metrics", metavar="NAME,NAME", help="metrics, see `list metrics` (the common ones)"
    )
    score.add_argument(
        "--regions",
        metavar="FILE",
        help="FILE holds own detections; these are the regions they should find (any run's"
        " predictions.jsonl): dense captioning mAP",
    )
    score.add_argument(
        "--check",
        action="store_true",
        help="compute CIDEr-D, BLEU, ROUGE-L and METEOR again with the field's own scorers; fail if"
        " a value differs by more than 1e-9",
    )

    score.add_argument(
        "--images", metavar="FOLDER", help="the images by their id, for metrics that look at them"
    )
    score.add_argument(
        "--subset",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="score the regions of FILE by themselves, too: ids, or annotations with bbox and"
        " caption, or first_of_image in place of a file (repeatable)",
    )

    caption = commands.add_parser("caption", parents=[common], help="caption a region of an image")
    caption.add_argument("image", nargs="?", metavar="IMAGE")
    caption.add_argument("--box", metavar="X1,Y1,X2,Y2", help="in original pixels")
    caption.add_argument("--point", metavar="X,Y", help="in original pixels")
    caption.add_argument("--run", required=True, metavar="RUN", help="CELL[/SEED] or a run folder")
    caption.add_argument(
        "--examples", type=int, metavar="N", help="N regions of the run's test split, one an image"
    )
    caption.add_argument("--out", metavar="PATH", help="overlay file, or folder (caption.png)")

    export = commands.add_parser("export", parents=[common], help="a run as an SCA checkpoint")
    export.add_argument("run", metavar="CELL", help="CELL[/SEED] or a run folder")
    export.add_argument("--out", required=True, metavar="DIR", help="folder to write (a new one)")

    verify = commands.add_parser("verify", parents=[common], help="check that a run still holds")
    verify.add_argument("run", metavar="CELL", help="CELL[/SEED] or a run folder")
    verify.add_argument(
        "--regions", type=int, default=8, metavar="N", help="regions to caption again, at least (8)"
    )

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
    lm.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads (1)")

    data = commands.add_parser(
        "data",
        help="get a data set, see what it holds",
        description="prepare fetches what is missing, records checksums, builds indices and "
        "verifies; verify compares counts with published ones and looks for missing images, "
        "repeated ids, unusable boxes and images that two splits share.",
        epilog=layout_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    data.add_argument("action", choices=["prepare", "verify"])
    data.add_argument("name", metavar="NAME", help="one of those below")
    data.add_argument("--root", required=True, metavar="DIR", help="folder of the data set")
    data.add_argument(
        "--partial", action="store_true", help="a part of the data set is meant: compare no counts"
    )
    data.add_argument("--coco", metavar="DIR", help="root of coco, to see which images are COCO's")
    data.add_argument(
        "--no-download", action="store_true", help="prepare: only say what is to be fetched"
    )

    cache = commands.add_parser(
        "cache", parents=[common], help="frozen features that are kept: list, size, check, delete"
    )
    cache.add_argument("action", choices=["ls", "du", "verify", "clear"])
    cache.add_argument("keys", nargs="*", metavar="STORE", help="beginnings of names (all)")
    cache.add_argument("--dir", metavar="DIR", help="cache folder (features/ in the runs folder)")
    cache.add_argument(
        "--older-than", type=float, metavar="DAYS", help="only what was not used for so long"
    )

    track = commands.add_parser("track", parents=[common], help="the MLflow mirror")
    track.add_argument("action", choices=["sync"])
    track.add_argument("--tracking-uri", metavar="URI")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = build_parser().parse_args(words)
    try:
        return _dispatch(options, words)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0
    except OSError as error:  # a folder that cannot be written, a full disk
        print(f"{error.filename or options.command}: {error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 130


def _dispatch(options: argparse.Namespace, words: list[str]) -> int:
    if options.command in ("run", "plan", "check"):
        from sca_bench.cli import run as suites

        return suites.command(options, words)
    if options.command == "sweep":
        from sca_bench.cli import sweep as sweeps

        return sweeps.command(options, words)
    if options.command in ("list", "describe", "explain"):
        from sca_bench.cli import lookup

        return lookup.command(options)
    if options.command == "report":
        from sca_bench.cli import report as report_command

        return report_command.command(options)
    if options.command == "cache":
        from sca_bench.cli import cache

        return cache.command(options)
    if options.command == "data":
        from sca_bench.cli import data

        return data.command(options)
    from sca_bench.cli import weights as tools

    return tools.command(options)
