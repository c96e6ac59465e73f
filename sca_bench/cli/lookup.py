"""`list`, `describe` and `explain`: looking things up, without torch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sca_bench.errors import InputError, did_you_mean
from sca_bench.output import text_console, text_table

if TYPE_CHECKING:
    from rich.console import Console

    from sca_bench.cli import Commands
    from sca_bench.study.runs.store import Store


def add_parsers(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add `list`, `describe` and `explain` to the command line."""
    lists = commands.add_parser("list", parents=[common], help="list what there is")
    lists.add_argument("what", choices=["variants", "suites", "metrics", "profiles", "runs"])
    lists.set_defaults(execute=list_command)

    describe = commands.add_parser("describe", help="describe a variant, metric or setting")
    describe.add_argument("name")
    describe.set_defaults(execute=describe_command)

    explain = commands.add_parser("explain", parents=[common], help="what a cell is made of")
    explain.add_argument("cell", help="cell id (or its beginning)")
    explain.add_argument("other", nargs="?", help="a second cell: show what differs")
    explain.set_defaults(execute=explain_command)


def list_command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Print a table of the variants, suites, metrics, profiles or runs that there are."""
    from sca_bench.study.runs.store import Store

    _list(text_console(), options.what, Store(options.runs_dir))
    return 0


def describe_command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Print what is known of a variant, a metric or a setting."""
    _describe(text_console(), options.name)
    return 0


def explain_command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Print what a cell is made of, or in what two cells differ."""
    from sca_bench.study.runs.store import Store

    _explain(text_console(), Store(options.runs_dir), options.cell, options.other)
    return 0


def _rows(console: Console, columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    table = text_table(*columns)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _list(console: Console, what: str, store: Store) -> None:
    if what == "variants":
        from sca_bench.variants import all_variants

        lines = [(v.name, v.summary, v.licence) for v in all_variants().values()]
        _rows(console, ("variant", "what it is", "licence"), lines)
    elif what == "metrics":
        from sca_bench.metrics.registry import all_metrics

        listed = [(m.name, m.summary) for m in all_metrics().values()]
        _rows(console, ("metric", "what it is"), listed)
    elif what == "profiles":
        from sca_bench.study.suite.profiles import load_profile, profile_names

        statements = [(name, load_profile(name).statement) for name in profile_names()]
        _rows(console, ("profile", "what it says of itself"), statements)
    elif what == "suites":
        _rows(console, ("suite", "question", "paper"), _suites())
    else:
        from sca_bench.study.runs.revisions import OLDER, age_of

        rows = []
        for r in store.records():
            about = (r.cell_id, str(r.seed), r.status, r.variant, r.provenance.get("started", ""))
            rows.append((*about, OLDER if age_of(r) else ""))
        _rows(console, ("cell", "seed", "status", "variant", "started", "code"), rows)


def _suites() -> list[tuple[str, ...]]:
    """Return a row for every suite or sweep below `ablations`, then for every shipped one."""
    from sca_bench.study.suite.shipped import SUITES, shipped, shipped_suites

    here, came = Path(SUITES), shipped(SUITES)
    own = [*sorted(here.glob("*.yaml")), *sorted(here.glob("sweeps/*.yaml"))]
    files = {str(path): path for path in own}
    if came is not None and here.resolve() != came.resolve():
        files |= shipped_suites()
    if not files:
        print(f"no suite comes with this installation, and none is in {here}", file=sys.stderr)
    return [row for name, path in files.items() if (row := _suite_row(name, path))]


def _suite_row(name: str, path: Path) -> tuple[str, ...]:
    """Return name, question and table of a suite or sweep; what is neither is said and left out."""
    from sca_bench.study.suite.profiles import read_mapping

    kind = "sweep" if path.parent.name == "sweeps" else "suite"
    try:
        content = read_mapping(path, f"{kind}, question, ...")
        if not content.keys() & {"suite", "sweep"}:
            raise InputError(path, kind, "missing", f"expected a mapping with {kind}, question")
    except InputError as error:
        print(f"left out: {error}", file=sys.stderr)
        return ()
    last = "sweep" if "sweep" in content else str(content.get("paper") or "")
    return (name, str(content.get("question", "")), last)


def _describe(console: Console, name: str) -> None:
    from sca_bench.metrics.registry import all_metrics
    from sca_bench.settings import kind_of
    from sca_bench.study.suite.merge import field_of, known_paths
    from sca_bench.variants import all_variants

    variants, metrics = all_variants(), all_metrics()
    if name in variants:
        v = variants[name]
        facts = {
            "variant": v.name,
            "what": v.summary,
            "frozen": ", ".join(v.frozen) or "nothing",
            "trained": ", ".join(v.trained) or "nothing",
            **({"as published": v.as_published or "no difference"} if v.design else {}),
            "learns": v.trains,
            "builder": v.builder,
            "revision": v.revision,
            "source": v.source,
            "licence": v.licence,
        }
    elif name in metrics:
        m = metrics[name]
        facts = {"metric": m.name, "what": m.summary, "scorer": m.scorer, "tokenizer": m.tokenizer}
        facts["document frequency"] = m.document_frequency
        facts["needs"] = m.needs or "nothing else"
    elif name in known_paths():
        model, field = field_of(name)
        info = model.model_fields[field]
        default = "required" if info.is_required() else repr(info.default)
        facts = {"setting": name, "type": str(info.annotation), "default": default}
        facts["kind"] = kind_of(model, field)
    else:
        known = [*variants, *metrics, *known_paths()]
        raise InputError("describe", name, "nothing of that name", did_you_mean(name, known))
    for key, value in facts.items():
        console.print(f"{key + ':':<20}{value}", highlight=False, markup=False, soft_wrap=True)


def _explain(console: Console, store: Store, cell: str, other: str | None) -> None:
    import json

    first = _identity(store, cell)
    if other is None:
        print(json.dumps(first, indent=1, sort_keys=True))
        return
    second = _identity(store, other)
    keys = sorted(k for k in first.keys() | second.keys() if first.get(k) != second.get(k))
    _rows(
        console,
        ("setting", cell, other),
        [(key, str(first.get(key, "-")), str(second.get(key, "-"))) for key in keys],
    )


def _identity(store: Store, cell: str) -> dict[str, Any]:
    from sca_bench.study.runs.revisions import OLDER, age_of, identity_of

    for record in store.records():
        if record.cell_id.startswith(cell):
            if age := age_of(record):
                print(f"{record.cell_id}: {OLDER}: {age}", file=sys.stderr)
            return identity_of(record).key_values
    known = sorted({record.cell_id for record in store.records()})
    raise InputError(store.root, cell, "no such cell", did_you_mean(cell, known))
