"""Runs of one table that come from different kinds of processor: the report names them."""

from pathlib import Path
from typing import Any

import pytest
from report_fake_runs import record

from sca_bench.report import write_report
from sca_bench.report.read.processors import processor_kinds, processor_notes
from sca_bench.report.read.suite_data import collect
from sca_bench.report.tables.provenance import provenance
from sca_bench.study.runs.record import SuiteManifest
from sca_bench.study.runs.store import Store

Runs = tuple[Store, SuiteManifest]
OLD = {"cpu": "AMD EPYC", "device": "cpu", "threads": 1}
EPYC = {
    **OLD,
    "cpu_model": "family 25, model 17, stepping 1",
    "cpu_capability": "AVX512",
    "blas": "mkl 2024.2",
}
OTHER = {**EPYC, "cpu_model": "family 23, model 49, stepping 0", "cpu_capability": "AVX2"}
EPYC_SAID = "AMD EPYC (family 25, model 17, stepping 1), AVX512, mkl 2024.2"
OTHER_SAID = "AMD EPYC (family 23, model 49, stepping 0), AVX2, mkl 2024.2"


def save_machines(runs: Runs, machine: Any, **by_cell: Any) -> None:
    """Write the machine of every run: of some cells (by the end of their id) another one."""
    store, suite = runs
    for entry in suite.cells:
        for seed in suite.seeds:
            own = by_cell.get(entry.cell_id.removeprefix("c-").replace("-", "_"), machine)
            own = own[seed] if isinstance(own, list) else own
            done = record(entry, seed)
            done.provenance["machine"] = own
            store.save(done)


def kinds(runs: Runs) -> list[tuple[str, int]]:
    return [(str(kind), len(kind.runs)) for kind in processor_kinds(collect(*runs).cells)]


def test_one_kind_is_not_spoken_of(runs: Runs, tmp_path: Path) -> None:
    save_machines(runs, EPYC, depth_2={**EPYC, "threads": 2, "system": "another kernel"})
    assert kinds(runs) == [(EPYC_SAID, 10)]
    folder = write_report(*runs, tmp_path / "reports")
    for name in ("table.md", "index.html", "tables.tex", "scores.tex"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "kinds of processor" not in text
        assert ("family 25, model 17, stepping 1" in text) == (name == "index.html")  # provenance


def test_two_kinds_are_one_note_under_the_scores(runs: Runs, tmp_path: Path) -> None:
    save_machines(runs, EPYC, depth_4=OTHER, depth_1=[EPYC, OTHER])
    assert kinds(runs) == [(EPYC_SAID, 7), (OTHER_SAID, 3)]
    folder = write_report(*runs, tmp_path / "reports")
    said = f"runs come from 2 kinds of processor ({EPYC_SAID}: 7 runs; {OTHER_SAID}: 3 runs)"
    text = (folder / "table.md").read_text(encoding="utf-8")
    (note,) = [line for line in text.splitlines() if "kinds of processor" in line]
    assert said in note
    assert note.endswith("marked are the cells with runs of another kind than the first")
    number = note.partition(":")[0]  # `[^3]`
    lines = text.partition("## Scores and costs")[2].partition("\n## ")[0].splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    marked = [row.partition("[")[0] for row in rows if row.endswith(number)]
    assert marked == ["depth-1", "depth-4"] * 2  # in the chosen columns, and in the others
    assert text.count(number) == 5
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert page.count(said) == 1
    for name, tables in (("tables.tex", 2), ("scores.tex", 1)):
        tex = (folder / name).read_text(encoding="utf-8")
        assert tex.count("runs come from 2 kinds of processor") == tables, name
    facts = dict(provenance(collect(*runs)).suite)
    assert facts["kinds of processor"] == f"{EPYC_SAID}: 7 runs; {OTHER_SAID}: 3 runs"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("cpu", "Intel Xeon", EPYC_SAID.replace("AMD EPYC", "Intel Xeon")),
        ("cpu_capability", "AVX2", EPYC_SAID.replace("AVX512", "AVX2")),
        ("blas", "open", EPYC_SAID.replace("mkl 2024.2", "open")),
        ("gpu", "NVIDIA H200", f"NVIDIA H200, {EPYC_SAID}"),
    ],
)
def test_each_part_of_a_kind_counts(runs: Runs, field: str, value: str, said: str) -> None:
    save_machines(runs, EPYC, depth_2={**EPYC, field: value})
    assert kinds(runs) == [(EPYC_SAID, 8), (said, 2)]


def test_what_an_older_record_lacks_does_not_make_it_another_kind(runs: Runs) -> None:
    save_machines(runs, OLD, depth_2=EPYC, depth_4="2-core CPU", freq=None)
    assert kinds(runs) == [(EPYC_SAID, 6)]
    assert processor_notes(collect(*runs).cells) == {}
    save_machines(runs, OLD, depth_2={**OLD, "cpu": "Intel Xeon"})
    assert kinds(runs) == [("AMD EPYC", 8), ("Intel Xeon", 2)]


def test_a_run_without_a_result_makes_no_kind(runs: Runs) -> None:
    save_machines(runs, EPYC, depth_2=OTHER)
    store, suite = runs
    for entry in suite.cells:
        for seed in suite.seeds if entry.cell_id == "c-depth-2" else ():
            done = store.record(entry.cell_id, seed)
            assert done is not None
            store.save(done.model_copy(update={"status": "failed", "error": "out of memory"}))
    assert kinds(runs) == [(EPYC_SAID, 8)]
