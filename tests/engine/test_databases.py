"""Databases lie in the runs folder, whatever that is called."""

import contextlib
import os
import shlex
import sqlite3

import pytest
from optuna.storages import RDBStorage
from sqlalchemy import create_engine, text

from sca_bench.engine import databases
from sca_bench.engine.databases import check_database, sqlite_file, sqlite_url
from sca_bench.engine.sweep.optuna_study import default_storage
from sca_bench.errors import InputError

FOLDERS = [
    "runs",
    "with blanks",
    "what?now",
    "pct%20x",
    "100%",
    "a#b",
    "d;e&f=g",
    "{SCHEMA_VERSION}",
    "brace{",
    "caf\u00e9 \u4e2d",
    "quo'te\"s",
    "back\\slash",
    "user:word@host",
    "?mode=memory",
    "new\nline",
]


@pytest.mark.parametrize("name", FOLDERS)
def test_a_url_opens_the_file_that_it_was_made_of(name, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    url = sqlite_url(folder / "some.db")
    engine = create_engine(RDBStorage._fill_storage_url_template(url))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE seen (x)"))
    engine.dispose()
    assert sqlite_file(url) == folder / "some.db"
    assert sqlite3.connect(folder / "some.db").execute("SELECT name FROM sqlite_master").fetchall()
    assert [*tmp_path.iterdir()] == [folder]
    assert [*folder.iterdir()] == [folder / "some.db"]
    assert shlex.split(shlex.quote(url)) == [url]


def test_ordinary_paths_keep_the_url_they_had(tmp_path):
    assert sqlite_url(tmp_path / "a b-1.0" / "x.db") == f"sqlite:///{tmp_path}/a b-1.0/x.db"


def test_a_name_that_no_url_can_hold_is_one_line(tmp_path, monkeypatch):
    folder = tmp_path / os.fsdecode(b"caf\xe9?")
    with pytest.raises(InputError, match="cannot be written as the address of a database"):
        sqlite_url(folder / "x.db")


def test_what_is_no_sqlite_file_has_none():
    assert sqlite_file("postgresql://user:secret@host/name") is None
    assert sqlite_file("sqlite:///:memory:") is None
    assert sqlite_file("journal:file") is None


def test_sweeps_lie_in_the_runs_folder(tmp_path):
    folder = tmp_path / "q?x %41 {b}"
    folder.mkdir()
    RDBStorage(default_storage(folder)).get_all_studies()
    assert [*tmp_path.iterdir()] == [folder]
    assert [*folder.iterdir()] == [folder / "sweeps.db"]


def test_an_older_sqlalchemy_that_undoes_no_escapes_gets_the_path_itself(tmp_path, monkeypatch):
    class Url:
        def __init__(self, url):
            self.database = url.partition(":///")[2].partition("?")[0]

    monkeypatch.setattr("sqlalchemy.engine.make_url", Url)
    assert sqlite_url(tmp_path / "pct%20x") == f"sqlite+pysqlite:///{tmp_path}/pct%20x"
    for name in ("what?now", "{b}"):
        with pytest.raises(InputError, match="rename the folder, or update SQLAlchemy"):
            databases.sqlite_url(tmp_path / name)


MLFLOWS = (
    "CREATE TRIGGER prevent_secrets_aad_mutation BEFORE UPDATE ON secrets FOR EACH ROW "
    "WHEN OLD.secret_id != NEW.secret_id OR OLD.secret_name != NEW.secret_name "
    "BEGIN SELECT RAISE(ABORT, 'are immutable'); END;"
)


def test_a_trigger_that_only_refuses_a_change_is_mlflows_own(tmp_path):
    file = tmp_path / "mlflow.db"
    with sqlite3.connect(file) as database:
        database.execute("CREATE TABLE secrets (secret_id, secret_name)")
        database.execute(MLFLOWS)
    database.close()
    check_database(file)
    with sqlite3.connect(file) as database:
        more = "DELETE FROM secrets; SELECT RAISE"
        database.execute(MLFLOWS.replace("prevent", "x").replace("SELECT RAISE", more))
    database.close()
    with pytest.raises(InputError, match="holds a trigger"):
        check_database(file)


def with_trigger(database):
    database.execute("CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM a; END")


def with_endless_view(database):
    count = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c"
    database.execute(f"CREATE VIEW v AS {count}")


@pytest.mark.parametrize("harm", [with_trigger, with_endless_view])
def test_a_database_with_programs_in_it_is_refused(tmp_path, harm):
    file = tmp_path / "mlflow.db"
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("CREATE TABLE a (x)")
        check_database(file)
        harm(database)
    with pytest.raises(InputError, match=r"mlflow\.db: .: holds a (view|trigger)"):
        check_database(file)


@pytest.mark.parametrize("kind", ["bytes", "torn", "pipe", "folder", "link"])
def test_what_is_no_plain_database_is_refused(tmp_path, kind):
    file, other = tmp_path / "sweeps.db", tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(other)) as database, database:
        database.execute("CREATE TABLE a (x)")
    make = {
        "bytes": lambda: file.write_bytes(b"no database" * 500),
        "torn": lambda: file.write_bytes(other.read_bytes()[:600]),
        "pipe": lambda: os.mkfifo(file),
        "folder": file.mkdir,
        "link": lambda: file.symlink_to(other),
    }
    make[kind]()
    with pytest.raises(InputError, match=r"sweeps\.db: is (no plain|a damaged) database"):
        check_database(file)
    check_database(tmp_path / "absent.db")
    assert not (tmp_path / "absent.db").exists()
