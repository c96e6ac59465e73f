"""Which kinds of processor made a suite's numbers, as far as the runs' records say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sca_bench.report.read.suite_data import CellRuns
from sca_bench.study.runs.record import RunRecord

_FIELDS = ("gpu", "cpu", "cpu_model", "cpu_capability", "blas")
"""Of `machine` in a record's provenance: what decides how a sum is rounded."""


@dataclass(frozen=True, slots=True)
class ProcessorKind:
    """One kind of processor with the kernels that were used on it.

    Attributes:
        stated: What the records say of it, by field; an empty `gpu` where the CPU computed.
        runs: Finished runs that it made, as cell id and seed.
    """

    stated: dict[str, str]
    runs: set[tuple[str, int]] = field(default_factory=set)

    def agrees(self, other: dict[str, str]) -> bool:
        """Say whether nothing that both state differs."""
        return all(self.stated[name] == other[name] for name in self.stated.keys() & other.keys())

    def __str__(self) -> str:
        """Return its name: `AMD EPYC (family 25, model 17, stepping 1), AVX512, mkl 2024.2`."""
        model = self.stated.get("cpu_model")
        cpu = self.stated["cpu"] + (f" ({model})" if model else "")
        rest = (self.stated.get(name) for name in ("cpu_capability", "blas"))
        return ", ".join(filter(None, (self.stated["gpu"], cpu, *rest)))


def processor_kinds(cells: Iterable[CellRuns]) -> list[ProcessorKind]:
    """Return the kinds of processor behind some cells' finished runs, that of most runs first.

    A record without a field (older ones lack some) counts as of the first kind that it agrees with;
    one that names no processor is left out.
    """
    found = [
        (stated, (cell.entry.cell_id, record.seed))
        for cell in cells
        for record in cell.done
        if (stated := _stated(record))
    ]
    kinds: list[ProcessorKind] = []
    for stated, run in sorted(found, key=lambda item: -len(item[0])):  # the fullest records first
        kind = next((kind for kind in kinds if kind.agrees(stated)), None)
        if kind is None:
            kinds.append(kind := ProcessorKind(stated))
        kind.runs.add(run)
    return sorted(kinds, key=lambda kind: -len(kind.runs))


def _stated(record: RunRecord) -> dict[str, str]:
    machine = record.provenance.get("machine")
    if not isinstance(machine, dict) or not machine.get("cpu"):
        return {}
    return {"gpu": ""} | {name: str(machine[name]) for name in _FIELDS if machine.get(name)}


def in_words(kinds: Iterable[ProcessorKind]) -> str:
    """Return the kinds by name, each with the number of its runs."""
    counts = ((kind, len(kind.runs)) for kind in kinds)
    return "; ".join(f"{kind}: {n} run{'s' if n > 1 else ''}" for kind, n in counts)


def processor_notes(cells: Iterable[CellRuns]) -> dict[str, str]:
    """Return cell id -> the note on cells with a run of another kind than most runs are.

    All have the same note; there is none where all runs come from one kind.
    """
    kinds = processor_kinds(cells)
    note = (
        f"runs come from {len(kinds)} kinds of processor ({in_words(kinds)}): last digits, and "
        "through training more than these, may differ by that alone; marked are the cells with "
        "runs of another kind than the first"
    )
    return {cell_id: note for kind in kinds[1:] for cell_id, _ in kind.runs}
