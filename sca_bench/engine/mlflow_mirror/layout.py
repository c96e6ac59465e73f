"""What MLflow shows of a suite, and what it is called there: few names, alike in all runs.

Parameters are what a suite varies. Metrics are the suite's own as `test/NAME` (the split that was
captioned), curves as `train/NAME`, `val/NAME` and `time/NAME`, and some costs as `usage/NAME`:
MLflow sorts its charts by these names, so scores come first. All else is in `record.json`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from sca_bench.metrics.registry import spec_of_value, values_of
from sca_bench.metrics.value_names import SEEN, TRAIN, ValueName
from sca_bench.output import markdown_code, markdown_text
from sca_bench.study.runs.findings import CellFinding, SuiteFindings
from sca_bench.study.runs.record import CellEntry, RunRecord, SuiteManifest
from sca_bench.study.suite.merge import get, leaves, moves_numbers
from sca_bench.study.suite.yaml_values import show_value

LAYOUT = 2
"""Of what this code writes. Runs of the first one are flat, with other names and no such tag."""
LAYOUT_TAG, KIND_TAG, SUMMARY_TAG = "sca_bench.layout", "sca_bench.kind", "sca_bench.summary"
CELL_TAG, VERDICT_TAG, STANDING_TAG, SEEDS_TAG = "cell", "verdict", "standing", "seeds"
PARENT_TAG = "mlflow.parentRunId"
SEED_RUN, CELL_RUN, SUMMARY_RUN = "seed", "cell", "summary"
"""Kinds of runs: one of a seed, that of a cell over its seeds, and that of the suite's report."""
VIEW = "sca_bench"
"""Name of the view of the table of runs that an experiment is given."""
_ANY = "any"
_LONGEST = 250
_MOST_PARAMS = 20
_DIGEST_SIGNS = 16
_CURVES = {
    "loss": "train/loss",
    "lr": "train/lr",
    "step_s": "time/step_s",
    "elapsed_s": "time/elapsed_s",
}
_USAGE = (
    *("train_s", "shared_s", "generate_s", "captions_per_s"),
    *("peak_memory_mib", "num_trainable_params"),
)
_CONTEXTS = {"train": "training", "val": "validation"}


# --- numbers ------------------------------------------------------------------------------------


def curve_points(rows: Iterable[Mapping[str, Any]]) -> list[tuple[str, float, int, float]]:
    """Return name, value, step and time (always 0) of every number in rows of a log."""
    return [
        (_curve_name(key), float(value), int(row["step"]), 0.0)
        for row in rows
        for key, value in row.items()
        if key != "step" and isinstance(value, int | float)
    ]


def _curve_name(key: str) -> str:
    return _CURVES.get(key) or (key if "/" in key else f"train/{key}")


def split_of(record: RunRecord) -> str:
    """Return the split that a run captioned."""
    return str(get(record.settings, "eval.split") or "test")


def shown_values(manifest: SuiteManifest) -> list[str]:
    """Return the values of a suite's metrics, the main one first: of BLEU there are four."""
    return list(dict.fromkeys(v for metric in manifest.metrics for v in values_of(metric)))


def is_shown(name: str, manifest: SuiteManifest) -> bool:
    """Say whether a value is one of a suite's metrics: over all regions, or over a named part."""
    value = ValueName.parse(name)
    parts = {*manifest.subsets, TRAIN, SEEN, ""}
    return not value.slot and value.part in parts and str(value.whole) in shown_values(manifest)


def last_values(manifest: SuiteManifest, record: RunRecord) -> dict[str, float]:
    """Return what is known of a run when it has ended: the suite's metrics, and some costs."""
    scores = {
        f"{split_of(record)}/{name}": score.value
        for name, score in record.scores.items()
        if score.value is not None and is_shown(name, manifest)
    }
    return scores | {f"usage/{key}": record.cost[key] for key in _USAGE if key in record.cost}


def cell_values(
    manifest: SuiteManifest, found: CellFinding, metric: str, split: str
) -> dict[str, float]:
    """Return what is known of a cell over its seeds.

    Args:
        manifest: The suite.
        found: What was found of the cell.
        metric: The main metric.
        split: The split that was captioned.
    """
    values: dict[str, float | None] = {
        f"{split}/{name}": mean for name, mean in found.means.items() if is_shown(name, manifest)
    }
    values |= {f"{split}/{metric}_low": found.low, f"{split}/{metric}_high": found.high}
    beside = f"versus_reference/{metric}"
    values |= {beside: found.difference}
    values |= {f"{beside}_low": found.difference_low, f"{beside}_high": found.difference_high}
    return {name: value for name, value in values.items() if value is not None}


def claim_values(found: SuiteFindings) -> dict[str, float]:
    """Return the observed difference of every claim, with the ends of its interval."""
    values = {
        f"verdict/{metric_name(claim.id)}{end}": value
        for claim in found.claims
        for end, value in (("", claim.difference), ("_low", claim.low), ("_high", claim.high))
    }
    return {name: value for name, value in values.items() if value is not None}


def metric_name(text: str) -> str:
    """Return a text as MLflow takes it for the name of a metric or tag."""
    name = "".join(sign if sign.isalnum() or sign in "_-. " else "_" for sign in text)
    return name[:_LONGEST].strip(". ") or "_"


# --- parameters ---------------------------------------------------------------------------------


def param_names(manifest: SuiteManifest, records: Iterable[RunRecord]) -> list[str]:
    """Return the settings that a suite varies.

    Args:
        manifest: The suite.
        records: Runs of its cells, which are asked where an older manifest does not say what its
            explicit cells are.
    """
    names = dict.fromkeys(manifest.axes)
    for entry in manifest.cells:
        stated = [path for path, _ in leaves(entry.stated)]
        names |= dict.fromkeys((*entry.coordinates, *entry.ignored, *stated, *entry.adjusted))
    if len({entry.variant for entry in manifest.cells}) > 1:
        names["variant"] = None
    explicit = [entry for entry in manifest.cells if not entry.coordinates]
    if explicit and len(manifest.cells) > 1 and not any(entry.stated for entry in explicit):
        names |= dict.fromkeys(islice(_differing(records), _MOST_PARAMS))
    return list(names)


def _differing(records: Iterable[RunRecord]) -> Iterator[str]:
    """Yield the settings in which runs differ and that move numbers."""
    first: dict[str, Any] | None = None
    differing: dict[str, None] = {}
    for record in records:
        found = dict(leaves(record.settings))
        first = found if first is None else first
        for path in {**first, **found}:
            if path not in differing and first.get(path) != found.get(path):
                differing[path] = None
    yield from (path for path in differing if moves_numbers(path))


def params(entry: CellEntry, record: RunRecord, names: Iterable[str]) -> dict[str, str]:
    """Return a cell's parameters.

    Args:
        entry: The cell.
        record: A run of it.
        names: What the suite varies (`param_names`).
    """
    return {name: _param(entry, record, name) for name in names}


def _param(entry: CellEntry, record: RunRecord, name: str) -> str:
    if name in entry.ignored:
        return _ANY
    value = entry.coordinates[name] if name in entry.coordinates else get(record.settings, name)
    if isinstance(value, list | dict) and value:  # stages of a pretraining, say: by their name
        value = entry.stated.get(name, value)
    shown = "none" if isinstance(value, list | dict) and not value else show_value(value)
    return shown[:_LONGEST] or "none"


# --- tags and texts -----------------------------------------------------------------------------


def identity_tags(manifest: SuiteManifest, record: RunRecord) -> dict[str, str]:
    """Return the tags that tell the run of a seed from all others, that of the revision last."""
    return {
        "sca_bench.cell_id": record.cell_id,
        "sca_bench.seed": str(record.seed),
        "sca_bench.suite": manifest.suite,
        "sca_bench.profile": manifest.profile,
        "sca_bench.revision": record.revision,
    }


def suite_tags(manifest: SuiteManifest, kind: str) -> dict[str, str]:
    """Return the tags of a run that is none of a seed."""
    return {
        "sca_bench.suite": manifest.suite,
        "sca_bench.profile": manifest.profile,
        LAYOUT_TAG: str(LAYOUT),
        KIND_TAG: kind,
        "mlflow.source.name": manifest.file or manifest.suite,
        "mlflow.source.type": "LOCAL",
    }


def is_ours(tag: str) -> bool:
    """Say whether a tag is MLflow's or this package's, and not a user's."""
    named = (CELL_TAG, VERDICT_TAG, STANDING_TAG, SEEDS_TAG)
    return tag in named or tag.startswith(("mlflow.", "sca_bench."))


def source_tags(manifest: SuiteManifest, record: RunRecord) -> dict[str, str]:
    """Return the tags for where a run's numbers come from: file, and commit of the code."""
    tags = {"mlflow.source.name": manifest.file or manifest.suite, "mlflow.source.type": "LOCAL"}
    commit, _, dirty = str(record.provenance.get("git_commit") or "").partition("+")
    if commit:
        tags["mlflow.source.git.commit"] = commit
        tags["mlflow.source.git.dirty"] = str(bool(dirty)).lower()
    return tags


def finding_tags(found: CellFinding, num_seeds: int) -> dict[str, str]:
    """Return the tags for what was found of a cell.

    Args:
        found: What it is.
        num_seeds: How many seeds the suite has.
    """
    verdicts = "; ".join(f"{name}: {verdict}" for name, verdict in found.verdicts.items())
    return {
        VERDICT_TAG: verdicts or "no claim",
        STANDING_TAG: found.standing,
        SEEDS_TAG: f"{found.num_seeds} of {num_seeds}",
    }


def seed_note(manifest: SuiteManifest, entry: CellEntry, record: RunRecord) -> str:
    """Return what describes the run of one seed, Markdown."""
    head = f"**{markdown_text(entry.name)}**, seed {record.seed}, of the suite "
    parts = [
        f"{head}*{markdown_text(manifest.suite)}* (profile {markdown_text(manifest.profile)})."
    ]
    command = record.provenance.get("command")
    parts += [f"Made by {markdown_code(str(command))}."] if command else []
    parts += [markdown_text(note) for note in record.notes]
    parts.append(
        "`captions.json` has captions beside their references, `predictions.jsonl` all of them, "
        "`record.json` every setting, score and cost."
    )
    return "\n\n".join(parts)


def cell_note(manifest: SuiteManifest, entry: CellEntry) -> str:
    """Return what describes the run of a cell, Markdown."""
    metric = shown_values(manifest)[0]
    parts = [
        f"**{markdown_text(entry.name)}** of the suite *{markdown_text(manifest.suite)}*: the runs "
        "below differ in their seed alone.",
        f"Scores are means over seeds. `{metric}_low` and `{metric}_high` are the ends of the 95 % "
        "interval, and `versus_reference` is the difference to the reference cell. They are "
        "written at the end of `run`, by `report` and by `track sync`.",
    ]
    return "\n\n".join([*parts, *([markdown_text(entry.note)] if entry.note else [])])


def summary_note(manifest: SuiteManifest, found: SuiteFindings | None) -> str:
    """Return what describes a suite's summary, Markdown: the question, and the answers."""
    lines = [f"**{markdown_text(manifest.question)}**"]
    if found is not None:
        answers = (f"- {markdown_text(claim.answer)}" for claim in found.claims if claim.answer)
        lines += ["\n".join(answers), markdown_text(found.sure)]
    if manifest.statement:
        lines.append(markdown_text(manifest.statement))
    return "\n\n".join(filter(None, lines))


def experiment_note(manifest: SuiteManifest, number: str) -> str:
    """Return what describes an experiment, Markdown.

    Args:
        manifest: The suite.
        number: What MLflow calls the experiment.
    """
    return "\n\n".join(
        (
            f"**{markdown_text(manifest.question)}**",
            f"[Table of cells](#/experiments/{number}/runs?viewStateShareKey={VIEW}) with what the "
            "suite varies, its metrics and verdicts. A cell's run holds its seeds; *summary* holds "
            "the report.",
        )
    )


def table_view(manifest: SuiteManifest, names: Iterable[str], split: str) -> str:
    """Return the columns of the table of runs, as MLflow's page keeps a view that is shared.

    Args:
        manifest: The suite.
        names: Its parameters.
        split: The split that was captioned.
    """
    main, score = shown_values(manifest)[0], f"metrics.`{split}/"
    columns = [
        *(f"params.`{name}`" for name in names),
        f"{score}{main}`",
        f"{score}{main}_low`",
        f"{score}{main}_high`",
        f"tags.`{VERDICT_TAG}`",
        f"tags.`{STANDING_TAG}`",
        f"tags.`{SEEDS_TAG}`",
    ]
    return json.dumps({"selectedColumns": columns})


def is_higher_better(metric: str) -> bool:
    """Say whether more of a metric is better, as far as that is known."""
    spec = spec_of_value(metric)
    return spec is None or spec.higher_is_better is not False


def datasets(record: RunRecord) -> list[dict[str, str]]:
    """Return the data that a run read: name, digest, source, profile and context of each split."""
    digests = record.provenance.get("split_digests") or {}
    texts = record.provenance.get("splits")
    found = []
    for split, digest in digests.items():
        said = get(record.settings, f"data.{split}")
        name = str(said.get("dataset") or "") if isinstance(said, dict) else ""
        source = said if isinstance(said, dict) else {}
        shown = str(texts.get(split, "")) if isinstance(texts, dict) else ""
        found.append(
            {
                "name": f"{name} {split}".strip()[:_LONGEST],
                "digest": str(digest)[:_DIGEST_SIGNS],
                "source": json.dumps(source, sort_keys=True)[:60_000],
                "profile": json.dumps({"digest": str(digest), "split": shown}),
                "context": _CONTEXTS.get(str(split), "testing"),
            }
        )
    return [one for one in found if one["digest"]]


# --- when ---------------------------------------------------------------------------------------


def milliseconds(stamp: str | None) -> int | None:
    """Turn a record's time into MLflow's; None (its own clock) where there is none."""
    try:
        return round(datetime.fromisoformat(stamp).timestamp() * 1000) if stamp else None
    except (ValueError, OverflowError):
        return None


def cell_status(statuses: Sequence[str]) -> str:
    """Return how a cell stands by its runs' statuses, as MLflow calls them."""
    for status in ("RUNNING", "FAILED", "KILLED"):
        if status in statuses:
            return status
    return "FINISHED"
