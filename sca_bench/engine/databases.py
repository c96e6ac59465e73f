"""Addresses of the databases in a runs folder, whatever the folder is called."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import quote

from sca_bench.errors import InputError


def sqlite_url(path: Path) -> str:
    """Return the URL under which SQLAlchemy, and so MLflow and Optuna, open an SQLite file.

    A `?` would begin its options and a `%` an escape, Optuna fills in `{...}`, and some versions of
    SQLAlchemy undo escapes in a file's name where others take them as they are. So the URL is the
    first that the installed version reads back as the file. Escapes go with the driver's name:
    MLflow makes the folder of what follows a bare `sqlite:///`, without undoing them.

    Args:
        path: The file, absolute.

    Raises:
        InputError: There is no such URL.
    """
    if re.fullmatch(r"[\w./ ~+@,=-]*", str(path), re.ASCII):
        return f"sqlite:///{path}"
    from sqlalchemy.engine import make_url

    try:
        escaped = quote(str(path), safe="/")
    except UnicodeEncodeError:  # bytes that are no text
        escaped = ""
    literal = "" if {"{", "}"} & set(str(path)) else str(path)
    for name in filter(None, (escaped, literal)):
        url = f"sqlite+pysqlite:///{name}"
        if make_url(url).database == str(path):
            return url
    problem = "its path cannot be written as the address of a database here"
    raise InputError(path.parent, "", problem, "rename the folder, or update SQLAlchemy")


def sqlite_file(url: str) -> Path | None:
    """Return the file of an SQLite URL, resolved; None where it is no file's."""
    if not url.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url

    name = make_url(url).database
    return Path(name).resolve() if name and name != ":memory:" else None
