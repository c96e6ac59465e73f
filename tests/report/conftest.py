from pathlib import Path

import pytest
from report_fake_runs import build, png_alone

from sca_bench.report import write_report
from sca_bench.study.runs.record import SuiteManifest
from sca_bench.study.runs.store import Store


@pytest.fixture
def every_kind() -> None:
    """Figures are written as PNG, SVG and PDF, as a user gets them."""


@pytest.fixture(autouse=True)
def _png_alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports that a file or the session shares are written before this, in every kind."""
    if "every_kind" not in request.fixturenames:
        png_alone(monkeypatch)


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Store, SuiteManifest]:
    return build(tmp_path / "runs")


@pytest.fixture(scope="session")
def whole_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of complete runs, written once; tests only read it."""
    root = tmp_path_factory.mktemp("whole")
    store, manifest = build(root / "runs")
    return write_report(store, manifest, root / "reports")
