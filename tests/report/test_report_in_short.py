"""What a mirror is told of a suite is what the report says, number for number."""

import csv
import re
from pathlib import Path

import pytest

from sca_bench.report import write_reports
from sca_bench.report.in_short import read_findings
from sca_bench.study.runs.findings import SuiteFindings
from sca_bench.study.runs.store import Store


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def number(text: str) -> float | None:
    return float(text) if text else None


def test_findings_are_the_numbers_of_the_report(whole_report: Path) -> None:
    store = Store(whole_report.parents[1] / "runs")
    (manifest,) = store.manifests()
    found = read_findings(store, manifest, whole_report.parent)
    cells = {cell.cell_id: cell for cell in found.cells}
    summary = rows(whole_report / "summary.csv")
    assert {row["cell_id"] for row in summary} == cells.keys()
    for row in summary:
        cell = cells[row["cell_id"]]
        assert cell.num_seeds == int(row["seeds_done"])
        for name, mean in cell.means.items():
            assert mean == pytest.approx(float(row[f"{name}_mean"]), rel=1e-9)
        wanted = {
            key.removesuffix("_mean")
            for key, value in row.items()
            if key.endswith("_mean") and value and not key.startswith(("cost/", "slot"))
        }
        assert cell.means.keys() - {"slots"} == wanted
    table = (whole_report / "table.md").read_text(encoding="utf-8")
    section = table.partition("with its interval")[2].partition("\n## ")[0]
    for row in summary:
        cell = cells[row["cell_id"]]
        line = next(line for line in section.splitlines() if line.startswith(f"| {row['cell']} "))
        ends = re.search(r"([\d,.]+) to ([\d,.]+)", line)
        assert ends is not None
        low, high = (float(end.replace(",", "")) / 100 for end in ends.groups())
        assert (cell.low, cell.high) == pytest.approx((low, high), abs=0.051)  # tens of points

    claims = {claim.id: claim for claim in found.claims}
    written = rows(whole_report / "claims.csv")
    assert [row["claim"] for row in written] == list(claims)
    for row in written:
        claim = claims[row["claim"]]
        assert claim.verdict == row["verdict"]
        for key in ("difference", "low", "high"):
            value = number(row[key])
            assert getattr(claim, key) == (value and pytest.approx(value, rel=1e-9))
        sides = {name for key in ("left", "right") for name in row[key].split("; ") if name}
        named = {row["cell"]: cells[row["cell_id"]] for row in summary}
        assert {name for name, cell in named.items() if claim.id in cell.verdicts} == sides
    assert {cell.standing for cell in found.cells} & {"reference"}


def test_a_report_hands_over_what_it_found(whole_report: Path, tmp_path: Path) -> None:
    store = Store(whole_report.parents[1] / "runs")
    (manifest,) = store.manifests()
    found: dict[str, SuiteFindings] = {}
    write_reports(store, None, tmp_path, pages=False, found=found)
    assert found == {manifest.report_name: read_findings(store, manifest, tmp_path)}
