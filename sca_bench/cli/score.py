"""`score`: the metrics of a predictions file, as a table for people and as JSON for programs."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sca_bench.errors import InputError
from sca_bench.files import write_atomic
from sca_bench.output import takes_any_sign, visible

if TYPE_CHECKING:
    from sca_bench.cli.frame import Commands


def add_parser(commands: Commands) -> None:
    """Add `score` to the command line."""
    score = commands.add_parser(
        "score",
        help="score a predictions file",
        description="Compute metrics of captions in a file. A terminal gets a table, with scores"
        " times 100 and 95 % intervals over images, as papers and reports print them. A pipe gets"
        " JSON, in natural units: CIDEr-D ends at 10, nearly all others at 1.",
        examples=(
            "score predictions.jsonl --metrics cider_d,meteor",
            "score predictions.jsonl --json scores.json",
            "score predictions.jsonl --subset one_per_image=first_of_image",
            "score detections.jsonl --regions runs/cells/ID/seed-0/predictions.jsonl",
        ),
    )
    what = "captions with their references (JSON Lines, or COCO's results layout as .json)"
    score.add_argument("file", metavar="FILE", help=what)
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
        "--device",
        help="where metrics with a model compute: auto, cpu, cuda or cuda:N (auto)",
    )
    score.add_argument(
        "--subset",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="score the regions of FILE by themselves, too: ids, or annotations with bbox and"
        " caption, or first_of_image in place of a file (repeatable)",
    )
    score.add_argument("--table", action="store_true", help="print the table into a pipe, too")
    score.add_argument(
        "--json",
        metavar="FILE",
        help="write all values, intervals and signatures to a file, beside the table; - prints"
        " them in its place",
    )
    score.set_defaults(execute=command)


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Print the scores; return 1 where a value is not the one that the field's own scorers give."""
    import json

    from sca_bench.metrics.score import TOLERANCE
    from sca_bench.metrics.score_file import score_detections, score_file

    metrics = None if options.metrics is None else options.metrics.split(",")
    if options.regions is not None:
        for flag in ("--images", "--subset", "--check", "--device"):
            if getattr(options, flag.removeprefix("--")):
                raise InputError("score", flag, "does not go with --regions", f"leave {flag} out")
        result = score_detections(options.file, options.regions, metrics)
    else:
        subsets = _subsets(options.subset)
        device = options.device or "auto"
        if re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", device) is None:
            raise InputError("--device", device, "is no device", "use auto, cpu, cuda or cuda:N")
        result = score_file(options.file, metrics, options.images, subsets, options.check, device)
    if options.json not in (None, "-"):
        write_atomic(Path(options.json), json.dumps(result, indent=1) + "\n")
    if options.json != "-" and (options.table or options.json or sys.stdout.isatty()):
        _print_table(result)
    else:
        text = json.dumps(result, indent=1, ensure_ascii=False)
        if visible(text) != text or not takes_any_sign(sys.stdout):
            text = json.dumps(result, indent=1)
        print(text)
    if options.check and not result["check"]:
        problem = "none of the values is one that the field's own scorers compute"
        raise InputError("score", "--check", problem, "ask for cider_d, bleu, rouge_l or meteor")
    return 1 if any(moved > TOLERANCE for moved in result.get("check", {}).values()) else 0


def _print_table(result: dict[str, Any]) -> None:
    """Print values times 100 with their intervals, what was not computed, and what all share."""
    from sca_bench.metrics.value_names import ValueName
    from sca_bench.output import num_text, text_console, text_table
    from sca_bench.report.names import metric_label, show_score

    intervals, signatures = result.get("intervals", {}), result["signatures"]
    columns = ("metric", "value", *(("95 % interval",) if intervals else ()), "computed by")
    table = text_table(*columns, right=("value", "95 % interval"))
    left_out = 0
    for key, value in result["values"].items():
        if value is None:
            continue
        if ValueName.parse(key).num_objects is not None:
            left_out += 1
            continue
        ends = [show_score(end, metric=key) for end in intervals.get(key, ())]
        interval = [f"{ends[0]} to {ends[1]}" if ends else "-"] if intervals else []
        by = signatures.get(key, {})
        program = f"{by.get('scorer', '')} {by.get('version', '')}".strip()
        table.add_row(metric_label(key), show_score(value, metric=key), *interval, program)
    console = text_console()
    console.print(table)
    images, regions = (num_text(result[f"num_{what}s"], what) for what in ("image", "region"))
    lines = [f"{result['file']}: {regions} in {images}; scores times 100"]
    if intervals:
        lines[0] += "; intervals over images, not over seeds"
    whole = [s for s in signatures.values() if s.get("num_regions") == result["num_regions"]]
    lines.append(f"signature: {_shared(whole or list(signatures.values()))}")
    if left_out:
        lines.append(f"{left_out} values by the number of objects: --json FILE has them")
    reasons = result["not_computed"].items()
    lines += [f"{metric_label(key)}: not computed: {why}" for key, why in reasons]
    lines += [f"note: {note}" for note in result["notes"]]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _shared(signatures: Sequence[dict[str, Any]]) -> str:
    """Return what all values of a file have in common of how they were measured, on one line."""
    names = {
        "tokenizer": "tok",
        "document_frequency": "df",
        "references_min": "refs",
        "num_regions": "regions",
        "region_set": "set",
        "language": "lang",
    }
    parts = []
    for key, short in names.items():
        values = list(dict.fromkeys(str(one.get(key, "")) for one in signatures))
        if key == "references_min":
            values = [f"{one.get(key)}-{one.get('references_max')}" for one in signatures]
            values = list(dict.fromkeys("-".join(dict.fromkeys(v.split("-"))) for v in values))
        if len(values) == 1 and values[0]:
            parts.append(f"{short}:{values[0][:12] if key == 'region_set' else values[0]}")
    return "|".join(parts) or "no two values were measured alike"


def _subsets(texts: Sequence[str]) -> dict[str, str]:
    files: dict[str, str] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        if not equals or not file or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            fix = "give NAME=FILE, the name of letters, digits, _ and -"
            raise InputError("--subset", text, "is no subset", fix)
        if name in files:
            raise InputError("--subset", text, f"{name!r} is named twice", "give it another name")
        files[name] = file
    return files
