"""The command line.

Every command imports what it needs when it is called, so that help and lists answer at once and the
light commands never load torch.

Exit codes: 0 all right, 1 some cells failed (the rest is done), 2 the input is wrong.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from sca_bench import __version__
from sca_bench.errors import InputError


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print one line and leave with exit code 2."""
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


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
    commands.add_parser("plan", parents=[suite], help="show a suite's cells and what is left")
    commands.add_parser("check", parents=[suite], help="what a suite needs, and what is missing")

    report = commands.add_parser("report", parents=[common], help="write tables, plots, gallery")
    report.add_argument("suites", nargs="*", metavar="SUITE", help="names or files (all)")
    report.add_argument("--out", default="reports", metavar="DIR", help="reports folder (reports)")

    lists = commands.add_parser("list", parents=[common], help="list what there is")
    lists.add_argument("what", choices=["variants", "suites", "metrics", "profiles", "runs"])

    describe = commands.add_parser("describe", help="describe a variant, metric or setting")
    describe.add_argument("name")

    explain = commands.add_parser("explain", parents=[common], help="what a cell is made of")
    explain.add_argument("cell", help="cell id (or its beginning)")
    explain.add_argument("other", nargs="?", help="a second cell: show what differs")

    score = commands.add_parser("score", help="score a predictions file, print JSON")
    score.add_argument("file")
    score.add_argument("--metrics", metavar="NAME,NAME", help="metrics (all that fit)")
    score.add_argument(
        "--regions",
        metavar="FILE",
        help="FILE holds own detections; these are the regions they should find (any run's"
        " predictions.jsonl): dense captioning mAP",
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

    weights = commands.add_parser(
        "weights", help="the embedded weights; a text decoder of your own"
    )
    weights.add_argument("action", choices=["build", "verify", "train-lm"])
    weights.add_argument("--out", metavar="DIR", help="folder to build into (a new one)")
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
        from sca_bench.cli import suites

        return suites.command(options, words)
    if options.command in ("list", "describe", "explain"):
        from sca_bench.cli import lookup

        return lookup.command(options)
    if options.command == "report":
        from sca_bench.report.write import write_reports
        from sca_bench.study.store import Store

        names = [Path(name).stem for name in options.suites] or None
        for folder in write_reports(Store(options.runs_dir), names, Path(options.out)):
            print(folder / "index.html")
        return 0
    from sca_bench.cli import tools

    return tools.command(options)
