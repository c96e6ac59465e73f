"""Opening the store of a mirror; the runs folder's own is made whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from sca_bench.engine.databases import check_database, sqlite_file, sqlite_url
from sca_bench.engine.mlflow_mirror.addresses import own_file
from sca_bench.engine.mlflow_mirror.faults import MirrorFault
from sca_bench.errors import InputError
from sca_bench.files import connect, delete_folder, publish, rename
from sca_bench.lifetime import scratch
from sca_bench.study.runs.store import Store

_BUSY_S = 5.0
"""How long a database may be in somebody else's hands."""
_DAMAGED = ("not a database", "malformed", "file is encrypted")


def import_client(uri: str) -> None:
    """Import what a client of the store at an address needs, before there is work for it."""
    with contextlib.suppress(Exception):  # whoever opens it meets the fault, and says it
        import_module("mlflow.tracking")

        if sqlite_file(uri) is not None:
            import_module("mlflow.store.tracking.sqlalchemy_store")


def open_client(store: Store, uri: str) -> Any:
    """Return a client of the store at an address.

    Raises:
        Exception: Whatever MLflow, SQLAlchemy or a driver says where it cannot be opened.
    """
    from mlflow import MlflowClient

    for name in ("alembic", "mlflow"):  # after the import, which sets its own levels
        logging.getLogger(name).setLevel(logging.WARNING)
    file = sqlite_file(uri)
    if file is not None and file == own_file(store) and not file.exists():
        _make(file)
    check_file(file)
    if file is not None:
        try:
            check_database(file)
        except InputError as fault:
            raise MirrorFault(str(fault)) from None
    if not uri.startswith("http"):
        _try_once()
    client = MlflowClient(tracking_uri=uri)
    _forget_artifact_places()
    return client


def _try_once() -> None:
    """Have MLflow try once to open a database, not for two minutes; the mirror itself comes again.

    MLflow has no setting for it.
    """
    from mlflow.store.db import utils

    if hasattr(utils, "MAX_RETRY_COUNT"):
        utils.MAX_RETRY_COUNT = 1


def _make(file: Path) -> None:
    """Make the tables of an empty store, which MLflow does in many steps, under another name.

    A process that is killed at it leaves no half of a database, which MLflow could not repair.
    """
    from mlflow import MlflowClient

    scratch.sweep(file.parent)
    folder = scratch.claim(file.parent)
    try:
        new = folder / file.name
        MlflowClient(tracking_uri=sqlite_url(new)).get_experiment_by_name("none")
        publish(new, file)
    finally:
        delete_folder(folder)


def check_file(file: Path | None) -> None:
    """Look whether an SQLite file can be read and written now, since MLflow tries for minutes.

    Raises:
        sqlite3.Error: It cannot.
    """
    if file is None or not file.exists():
        return
    with contextlib.closing(connect(file, timeout=_BUSY_S)) as connection:
        connection.isolation_level = None
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        connection.execute("ROLLBACK")


def set_damaged_aside(store: Store, uri: str) -> str:
    """Set the runs folder's own database aside where it is none any more; return a line about it.

    All that is in it can be written again from the files. Empty where nothing was done.
    """
    file = own_file(store)
    if sqlite_file(uri) != file:
        return ""
    try:
        check_file(file)
        return ""
    except sqlite3.Error as fault:
        if not any(text in str(fault) for text in _DAMAGED):
            return ""
        aside = file.with_name(f"{file.name}.damaged")
        rename(file, aside)
        return f"  {store.root / file.name}: damaged: {fault}; set aside as {aside.name}"


@contextlib.contextmanager
def one_writer(store: Store) -> Iterator[None]:
    """Keep other writers of this folder's mirror waiting, so that no run is written twice.

    Nothing is left of it. Where a file system has no such locks, nobody waits.

    Raises:
        TimeoutError: Somebody else goes on writing.
    """
    handle, until = os.open(store.root, os.O_RDONLY), time.monotonic() + _BUSY_S
    try:
        while not _is_taken(handle):
            if time.monotonic() > until:
                raise TimeoutError("another process writes this mirror")
            time.sleep(0.1)
        yield
    finally:
        os.close(handle)


def _is_taken(handle: int) -> bool:
    """Take the lock of an open folder; False where somebody else has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _forget_artifact_places() -> None:
    """Have MLflow ask again where a run's artifacts go: it remembers that by the run's id alone.

    A copy of a runs folder has the same ids.
    """
    from mlflow.tracking._tracking_service import utils

    getattr(utils, "_artifact_repos_cache", {}).clear()
