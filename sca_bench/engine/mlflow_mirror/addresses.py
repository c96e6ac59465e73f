"""Where a runs folder is mirrored to."""

from __future__ import annotations

import os
from pathlib import Path

from sca_bench.engine.databases import sqlite_file, sqlite_url
from sca_bench.output import without_secrets
from sca_bench.study.runs.store import Store


def default_uri(store: Store) -> str:
    """Return MLFLOW_TRACKING_URI, or the SQLite file in the runs folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or own_uri(store)


def is_named(asked: str | None) -> bool:
    """Say whether the user named where to: by `--tracking-uri` (`asked`), or the environment."""
    return bool(asked or os.environ.get("MLFLOW_TRACKING_URI"))


def own_uri(store: Store) -> str:
    """Return the URI of the SQLite file in the runs folder."""
    return sqlite_url(own_file(store))


def own_file(store: Store) -> Path:
    """Return the SQLite file in the runs folder."""
    return store.root.resolve() / "mlflow.db"


def shown_place(store: Store, uri: str) -> str:
    """Return what messages call a mirror: its file, or its address without what lets one in."""
    file = sqlite_file(uri)
    if file is None:
        return without_secrets(uri)
    return str(store.root / "mlflow.db") if file == own_file(store) else str(file)
