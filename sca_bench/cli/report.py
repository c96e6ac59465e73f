"""`report`: tables, plots and pages from the runs folder, and their mirror in MLflow."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from sca_bench.report.write import write_reports
from sca_bench.study.runs.store import Store


def command(options: argparse.Namespace) -> int:
    """Write the reports and print where they are; return the exit code."""
    store = Store(options.runs_dir)
    files = (".yaml", ".yml")
    names = [Path(n).stem if n.endswith(files) else n for n in options.suites] or None
    folders = write_reports(store, names, Path(options.out), options.limit_mb)
    overview = [Path(options.out)] if len(folders) > 1 else []
    for folder in folders + overview:
        print(folder / "index.html", flush=True)
    if not options.no_mlflow:
        _mirror(store, folders, options.tracking_uri)
    return 0


def _mirror(store: Store, folders: list[Path], uri: str | None) -> None:
    """Write each report into its suite's summary run, where its runs are mirrored, too."""
    wanted = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not wanted and not (store.root / "mlflow.db").exists():
        return  # the runs were not mirrored either
    from sca_bench.engine.mlflow_mirror import Tracker, default_uri

    manifests = {manifest.report_name: manifest for manifest in store.manifests()}
    for folder in folders:
        tracker = Tracker(store, manifests[folder.name], wanted or default_uri(store), print)
        tracker.summarise(folder)
        if tracker.broken:
            return
