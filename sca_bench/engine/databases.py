"""Addresses of the databases in a runs folder, whatever the folder is called."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path
from urllib.parse import quote

from sca_bench.digests import is_plain_database
from sca_bench.errors import InputError
from sca_bench.files import connect
from sca_bench.reading import shown_text


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


def check_database(file: Path) -> None:
    """Refuse an SQLite file that is no plain database, before a library opens it.

    Such a file may have come with a runs folder. Views and triggers are programs that would run
    whenever it is read or written. Optuna makes none, and MLflow such as only refuse a change.

    Raises:
        InputError: It is no regular file, no database, has a view or a trigger, or its journal is
            of a transaction over several databases.
        sqlite3.Error: It cannot be opened now.
    """
    fix = "delete it, or move it elsewhere"
    if not is_plain_database(file):
        raise InputError(file, "", "is no plain database file", fix)
    if not file.exists() or not file.stat().st_size:
        return
    with contextlib.closing(connect(file, timeout=30)) as connection:
        connection.execute("PRAGMA trusted_schema = OFF")
        programs = "SELECT type, name, sql FROM sqlite_master WHERE type IN ('view', 'trigger')"
        try:
            rows = connection.execute(programs).fetchall()
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise
            raise InputError(file, "", f"is a damaged database ({error})", fix) from None
        except sqlite3.DatabaseError as error:
            raise InputError(file, "", f"is a damaged database ({error})", fix) from None
    found = next((row for row in rows if not _only_refuses(row[2])), None)
    if found is not None:
        problem = f"holds a {found[0]}, which nobody makes here"
        raise InputError(file, shown_text(str(found[1])), problem, fix)


_REFUSING = re.compile(
    r"CREATE TRIGGER \w+ (?:BEFORE|AFTER) (?:UPDATE|INSERT|DELETE)(?: OF \w+(?:, \w+)*)? ON \w+"
    r"(?: FOR EACH ROW)?(?: WHEN [^();]*)?"
    r" BEGIN SELECT RAISE\((?:ABORT|FAIL|ROLLBACK), '[^']*'\); END;?",
    re.ASCII,
)


def _only_refuses(program: object) -> bool:
    """Say whether a trigger does nothing but keep columns from being changed."""
    return isinstance(program, str) and bool(_REFUSING.fullmatch(" ".join(program.split())))
