"""`compare`: two runs, cells, suites or files of captions against each other."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sca_bench.errors import InputError, did_you_mean
from sca_bench.output import say

if TYPE_CHECKING:
    from sca_bench.cli.frame import Commands, Parser
    from sca_bench.report.compare.compared import Compared

_REGIONS = {"terminal": 6, "markdown": 20, "json": 100, "html": 60}
"""Regions whose captions are shown, at most."""


def add_parser(commands: Commands, common: Parser) -> None:
    """Add `compare` to the command line."""
    compare = commands.add_parser(
        "compare",
        parents=[common],
        help="the difference of two cells, suites or caption files, with its interval",
        description="Compare B with A region by region: the difference of each metric with its "
        "95 % interval, and the regions that changed. Unlike things are refused, with the reason.",
        examples=(
            "compare mixer_layers/num_layers=1 mixer_layers/num_layers=2",
            "compare mixer_layers mixer_layers --runs-dir main/runs --runs-dir-b branch/runs",
            "compare before.jsonl after.jsonl --metrics cider_d,meteor --html changed.html",
            "compare main_cell branch_cell --markdown --fail-if-worse cider_d",
        ),
    )
    what = "a cell or run as `list runs` prints it, a suite, or a file of captions (.jsonl, .json)"
    compare.add_argument("a", metavar="A", help=what)
    compare.add_argument("b", metavar="B", help="the same; differences are B - A")
    compare.add_argument(
        "--metrics",
        metavar="NAME,NAME",
        help="metrics, or values such as bleu_4 and slot/colour, the main one first (those that "
        "both have; of suites the main metric)",
    )
    compare.add_argument(
        "--references",
        metavar="FILE",
        help="references of the regions, where a file of captions has none: such a file with"
        " references, such as a run's predictions.jsonl",
    )
    compare.add_argument(
        "--shared-regions",
        action="store_true",
        help="compare the regions that both have, scored anew, where each has others, too",
    )
    compare.add_argument(
        "--runs-dir-b", metavar="DIR", help="runs folder of B, where that is another one"
    )
    compare.add_argument(
        "--fail-if-worse",
        nargs="*",
        metavar="METRIC",
        help="exit with 1 where B is significantly worse by one of these (by the main metric)",
    )
    compare.add_argument(
        "--margin",
        type=_margin,
        metavar="N",
        help="--fail-if-worse: only where B is worse by more than N, in the unit of the table (0)",
    )
    compare.add_argument(
        "--markdown", action="store_true", help="print Markdown, as for a pull request"
    )
    compare.add_argument("--json", metavar="FILE", help="write all numbers to a file, as JSON")
    compare.add_argument(
        "--html", metavar="FILE", help="write a page with pictures of the regions that changed"
    )
    compare.set_defaults(execute=command)


def _margin(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError
    return value


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Print the comparison; return 1 where B must not be worse, and is."""
    from sca_bench.report.compare.changed import with_captions
    from sca_bench.report.compare.compared import compare_sides
    from sca_bench.report.compare.sides import find_side
    from sca_bench.study.runs.store import Store

    gates = _gates(options)
    _check_outputs(options)
    named = [name for name in (options.metrics or "").split(",") if name]
    references = None if options.references is None else Path(options.references)
    folders = (options.runs_dir, options.runs_dir_b or options.runs_dir)
    sides = [
        find_side(Store(folder), text, references)
        for folder, text in zip(folders, (options.a, options.b), strict=True)
    ]
    if references is not None and all(side.kind != "file" for side in sides):
        problem = "says nothing: neither A nor B is a file of captions"
        raise InputError("compare", "--references", problem, "leave it out")
    asked = named + [name for name in gates or () if named and name not in named]
    compared = compare_sides(sides[0], sides[1], asked, shared=options.shared_regions)
    worse = [] if gates is None else _worse(compared, gates, options.margin or 0.0)
    kinds = ["markdown" if options.markdown else "terminal"]
    kinds += [kind for kind in ("json", "html") if getattr(options, kind) is not None]
    pairs = [(one.pair, one.changes) for one in compared.pairs]
    most = max(_REGIONS[kind] for kind in kinds)
    regions = with_captions(compared.a, compared.b, pairs, most)
    if options.json is not None:
        import json

        from sca_bench.report.compare.as_json import compared_json

        content = compared_json(compared, regions[: _REGIONS["json"]])
        content |= {"worse": worse} if gates is not None else {}
        _write(Path(options.json), json.dumps(content, indent=1) + "\n")
    if options.html is not None:
        from sca_bench.report.compare.html import compared_html

        _write(Path(options.html), compared_html(compared, regions[: _REGIONS["html"]]))
    if options.markdown:
        from sca_bench.report.compare.markdown import compared_markdown

        print(compared_markdown(compared, regions[: _REGIONS["markdown"]]), end="")
    else:
        from sca_bench.output import text_console
        from sca_bench.report.compare.text import print_compared

        print_compared(text_console(), compared, regions[: _REGIONS["terminal"]])
    for line in worse:
        say(line, error=True)
    return 1 if worse else 0


def _check_outputs(options: argparse.Namespace) -> None:
    """Refuse to write over what is compared, or one file over the other."""
    taken = {Path(text).absolute() for text in (options.a, options.b, options.references) if text}
    for flag in ("json", "html"):
        text = getattr(options, flag)
        if text is not None and Path(text).absolute() in taken:
            problem = "is compared, or written, already"
            raise InputError("compare", f"--{flag}", f"{text} {problem}", "name another file")
        taken |= {Path(text).absolute()} if text is not None else set()


def _write(path: Path, content: str) -> None:
    from sca_bench.files import drop_unfinished_of, write_atomic

    drop_unfinished_of(path)
    write_atomic(path, content)


def _gates(options: argparse.Namespace) -> list[str] | None:
    """Return the metrics by which B must not be worse, empty for the main one; None for none."""
    if options.fail_if_worse is None:
        if options.margin is not None:
            problem, fix = "says nothing without --fail-if-worse", "add it, or leave this out"
            raise InputError("compare", "--margin", problem, fix)
        return None
    return [name for text in options.fail_if_worse for name in text.split(",") if name]


def _worse(compared: Compared, gates: Sequence[str], margin: float) -> list[str]:
    """Return a line for each metric by which B is worse by more than a margin."""
    from sca_bench.report.compare.compared import worse_pairs
    from sca_bench.report.names import metric_label, metric_scale

    lines = []
    for metric in gates or compared.metrics[:1]:
        if metric not in compared.metrics:
            fix = did_you_mean(metric, compared.metrics)
            raise InputError("compare", "--fail-if-worse", f"{metric!r} is not compared", fix)
        names = worse_pairs(compared, metric, margin / metric_scale(metric))
        by = f" by more than {margin:g}" if margin else ""
        which = f" in {', '.join(names)}" if len(compared.pairs) > 1 else ""
        lines += [f"B is worse{by}, {metric_label(metric)}{which}"] if names else []
    return lines
