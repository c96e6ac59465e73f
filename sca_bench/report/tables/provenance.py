"""Where the numbers come from: what all runs share, what tells them apart, and the signatures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sca_bench.output import hide_secrets
from sca_bench.report.names import metric_label, short_region_set
from sca_bench.report.read.lineage import stage_facts
from sca_bench.report.read.processors import in_words, processor_kinds
from sca_bench.report.read.score_frame import REGION_SET, signature_hash
from sca_bench.report.read.suite_data import Run, SuiteData
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.revisions import OLDER
from sca_bench.study.suite.yaml_values import show_value

_SEPARATE = ("metric", "short")


@dataclass(frozen=True, slots=True)
class RunFacts:
    """One run with the facts that are not the same for all."""

    cell: str
    cell_id: str
    seed: int
    status: str
    facts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class SignatureLine:
    """What one group of numbers is: its signature, and the metrics that carry it.

    Attributes:
        metrics: The metrics, in words.
        hashes: Short hashes as `table.csv` has them.
        parts: The signature, part by part.
    """

    metrics: str
    hashes: str
    parts: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Provenance:
    """All that is needed to repeat the suite.

    Attributes:
        suite: Facts of the suite as it was last run.
        shared: Facts that all started runs have in common.
        runs: The runs with what differs between them.
    """

    suite: tuple[tuple[str, str], ...]
    shared: tuple[tuple[str, str], ...]
    runs: tuple[RunFacts, ...]


def provenance(data: SuiteData, published: str = "") -> Provenance:
    """Gather command, versions, digests, machine, times and counters of every run.

    Args:
        data: The suite.
        published: Where published numbers were read from; empty where none are shown.
    """
    manifest, processors = data.manifest, processor_kinds(data.cells)
    suite = {
        "suite": manifest.suite,
        "file": manifest.file,
        "profile": manifest.profile,
        "command": manifest.command,
        "overrides": ", ".join(manifest.overrides) or "none",
        "seeds": ", ".join(map(str, manifest.seeds)),
        "metrics": ", ".join(manifest.metrics),
        "created": manifest.created,
        "published numbers": published,
        "kinds of processor": in_words(processors) if len(processors) > 1 else "",
    }
    started = [
        (cell, run, _facts(run.record) | _age(run))
        for cell in data.cells
        for run in cell.runs
        if run.record is not None
    ]
    shared: dict[str, str] = {}
    if len(started) > 1:
        first = started[0][2]
        shared = {k: v for k, v in first.items() if all(f.get(k) == v for _, _, f in started)}
    runs = []
    for cell in data.cells:
        for run in cell.runs:
            facts = {} if run.record is None else _facts(run.record) | _age(run)
            own = _shown({key: value for key, value in facts.items() if key not in shared})
            entry = cell.entry
            status = run.hole or "done"
            runs.append(RunFacts(entry.name, entry.cell_id, run.seed, status, own))
    return Provenance(
        _shown({key: value for key, value in suite.items() if value}),
        _shown(shared),
        tuple(runs),
    )


def _shown(facts: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return facts without what lets somebody in: commands of older versions may hold it."""
    return tuple((key, hide_secrets(value)) for key, value in facts.items())


def signature_legend(data: SuiteData) -> list[SignatureLine]:
    """Return what each number is; metrics whose signatures differ in nothing else share a line."""
    groups: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {}
    for key, metrics in data.scores.signatures_in_use().items():
        signature = data.scores.signatures[key]
        parts = {name: value for name, value in signature.items() if name not in _SEPARATE}
        _, names, hashes = groups.setdefault(signature_hash(parts) or key, (parts, [], []))
        names += [metric_label(metric) for metric in metrics]
        hashes.append(key)
    return [
        SignatureLine(
            ", ".join(dict.fromkeys(names)),
            ", ".join(hashes),
            tuple((name.replace("_", " "), _part(name, value)) for name, value in parts.items()),
        )
        for parts, names, hashes in groups.values()
    ]


def _part(name: str, value: Any) -> str:
    return short_region_set(str(value)) if name == REGION_SET else show_value(value)


def _facts(record: RunRecord) -> dict[str, str]:
    facts = {"variant": record.variant, "variant revision": record.revision}
    facts.update({f"{name} revision": value for name, value in record.revisions.items()})
    facts.update(stage_facts(record))
    facts.update(_flat(record.provenance))
    facts.update({f"input {key}": value for key, value in record.inputs.items()})
    facts.update({f"counter {key}": f"{value:,}" for key, value in record.counters.items()})
    facts.update({f"cost {key}": _shown_cost(value) for key, value in record.cost.items()})
    return facts


def _shown_cost(value: float) -> str:
    """Return a cost with six digits, and a count with all of its own."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.6g}"


def _age(run: Run) -> dict[str, str]:
    return {OLDER: run.age} if run.age else {}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            flat.update(_flat(value, f"{name}."))
        else:
            flat[name] = show_value(value)
    return flat
