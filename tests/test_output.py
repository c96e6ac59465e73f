"""Standard streams that stop nothing, and text that is shown as it was written."""

import ast
import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from sca_bench.engine.launch.progress import RunProgress
from sca_bench.output import UNREAD, hide_secrets, text_console, text_table, without_secrets

ROOT = Path(__file__).parents[1]
NAMES = ["SCA [ours]", "SCA [bold]", "[/]", "[link=x]here[/link]", "a :smile: b", "[red]", "\\[x]"]

WORK = """
import sys
from sca_bench.output import end_with_reader, guard_streams
guard_streams()
{before}
for number in range(3000):
    print("line", number, flush={flush})
open("work", "w").write("done")
sys.stdout.flush()
"""


@pytest.fixture
def work(tmp_path):
    """Run a program that prints, and then leaves a file; return what became of it."""

    def run(before="", flush=True, program=WORK, shell="exec", **more):
        (tmp_path / "program.py").write_text(program.format(before=before, flush=flush))
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **more}
        return subprocess.run(
            ["bash", "-c", f"set -o pipefail; {shell.replace('exec', COMMAND)}"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            timeout=60,
        )

    return run


COMMAND = f"{sys.executable} program.py"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("shell", ["exec | head -1", "exec 2>&1 | head -1", "exec | true"])
def test_work_goes_on_when_nobody_reads(work, tmp_path, shell, unbuffered):
    done = work(shell=shell, PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "work").read_text() == "done"


@pytest.mark.parametrize("flush", [True, False])
def test_a_command_that_only_prints_ends_with_its_reader(work, tmp_path, flush):
    done = work("end_with_reader()", flush, shell="exec | head -1")
    assert (done.returncode, done.stderr) == (UNREAD, b"")
    assert done.stdout == b"line 0\n"
    assert not (tmp_path / "work").exists()


def test_a_full_disk_is_said_once_and_the_work_goes_on(work, tmp_path):
    done = work(shell="exec > /dev/full")
    assert done.returncode == 0
    assert done.stderr == b"stdout: No space left on device; the work goes on unseen\n"
    assert (tmp_path / "work").exists()
    assert work(shell="exec > /dev/full 2> /dev/full").returncode == 0


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_streams_closed_from_the_start_lead_nowhere(work, tmp_path, closed):
    """The next file that is opened must not take the place of one, and be printed into."""
    before = "opened = open('mine', 'w'); print('an error', file=sys.stderr)\nimport subprocess\n"
    child = "import os; [os.fstat(number) for number in (0, 1, 2)]"
    before += f"subprocess.run([sys.executable, '-c', {child!r}], check=True)"
    done = work(before, shell=f"exec {closed}")
    assert done.returncode == 0
    assert (tmp_path / "mine").read_text() == ""
    assert (tmp_path / "work").exists()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_no_encoding_stops_the_work(work, encoding):
    before = "print('caf\\u00e9 \\u4e2d \\ud83d'); print('\\u00e9', file=sys.stderr)"
    done = work(before, shell="exec | head -1", PYTHONIOENCODING=encoding)
    line = done.stdout.decode(encoding)
    expected = {"ascii": r"caf\xe9 \u4e2d \ud83d", "latin-1": r"café \u4e2d \ud83d"}
    assert line == expected.get(encoding, r"café 中 \ud83d") + "\n"
    assert b"Traceback" not in done.stderr


def test_streams_of_somebody_else_are_left_alone(work):
    before = "import io; sys.stdout = io.StringIO(); guard_streams(); sys.stdout.name"
    assert b"AttributeError" in work(before).stderr


@pytest.mark.parametrize(
    ("words", "shell", "code"),
    [
        (["list", "metrics"], "exec | true", UNREAD),
        (["describe", "sca"], "exec > /dev/full", 2),
        (["list", "metrics"], "exec > /dev/full", 2),
        (["list", "variants"], "exec >&-", 0),
        (["list", "metrics"], "exec", 0),
        (["--help"], "exec | true", 0),
        (["plan", str(ROOT / "ablations" / "controls.yaml"), "--no-probe"], "exec | true", UNREAD),
    ],
)
def test_commands_end_without_a_traceback(work, words, shell, code):
    more = {"PYTHONIOENCODING": "ascii", "COLUMNS": "20", "TERM": "dumb", "HOME": "/proc/nowhere"}
    program = f"import sys\nfrom sca_bench.cli import main\nsys.exit(main({words}))\n"
    done = work(program=program, shell=shell, **more)
    assert done.returncode == code, done.stderr
    assert done.stderr == (b"stdout: No space left on device\n" if "full" in shell else b"")


@pytest.mark.parametrize("name", NAMES)
def test_names_are_shown_as_they_are_written(name, capsys):
    console = text_console()
    console.print(name)
    table = text_table(name, "number", right=("number",), title=name)
    table.add_row(name, "1")
    console.print(table)
    assert capsys.readouterr().out.count(name) == 4


def test_a_long_name_is_folded_and_not_cut(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    table = text_table("cell", "score")
    table.add_row("train.learning_rate=0.002241659638465149", "1.000")
    text_console().print(table)
    out = capsys.readouterr().out
    assert "…" not in out
    assert "".join(line[:12].strip() for line in out.splitlines()[1:]).endswith("638465149")


@pytest.mark.parametrize("columns", ["0", "5", "many", ""])
def test_a_wrong_width_is_none(columns, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", columns)
    table = text_table("cell", "score")
    table.add_row("SCA", "1.000")
    text_console().print(table)
    assert "SCA   1.000" in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_live_bars_show_names_as_they_are_written(name):
    out = io.StringIO()
    with RunProgress(Console(file=out, force_terminal=True, width=200)) as progress:
        progress.update(name, 1, 2, f"step 1 of {name}")
        progress._live.refresh()
        progress.say(name)
    assert f"step 1 of {name}" in out.getvalue()
    assert out.getvalue().count(name) >= 3


def test_a_terminal_without_a_cursor_gets_plain_lines(monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    out = io.StringIO()
    with RunProgress(Console(file=out, force_terminal=True)) as progress:
        progress.heartbeat("step 1 of 3")
    assert out.getvalue() == "step 1 of 3\n"


def test_rich_reads_no_text_as_markup_anywhere():
    """Consoles and tables come from one place, where markup is off; columns of bars say so.

    A `Text` is shown as it is.
    """
    home, bars = "sca_bench/output.py", "sca_bench/engine/launch/progress.py"
    for path in sorted((ROOT / "sca_bench").rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not any(name.name.split(".")[0] == "rich" for name in node.names), file
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "rich":
                names = {name.name for name in node.names}
                assert file in (home, bars) or names <= {"Console", "Text"}, file
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Console", "TextColumn"):
                switches = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert file == home or ast.unparse(node.func) == "TextColumn", file
                assert switches.get("markup") == "False", file


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://user:word@host:5000/x", "http://***@host:5000/x"),
        ("https://token@host", "https://***@host"),
        ("https://:word@host", "https://***@host"),
        ("postgresql://user:word@host/db", "postgresql://***@host/db"),
        ("mysql+pymysql://user:w%40rd@host:3/db?ssl=1", "mysql+pymysql://***@host:3/db?***"),
        ("http://host/x?token=word", "http://host/x?***"),
        ("http://host/#word", "http://host/#***"),
        ("http://user:wo/rd@host/x", "http://***@host/x"),
        ("http://user:wo?r#d@host/x", "http://***@host/x"),
        ("http://user:wo@rd@host/x", "http://***@host/x"),
        ("user:word@host:5000", "***@host:5000"),
        ("http:/user:word@host", "***@host"),
        ("sqlite:////home/me@work/runs/mlflow.db", "sqlite:////home/me@work/runs/mlflow.db"),
        ("sqlite+pysqlite:////a/x.db?key=word", "sqlite+pysqlite:////a/x.db?***"),
        ("journal:/home/me@work/x.log", "journal:/home/me@work/x.log"),
        ("databricks://profile", "databricks://profile"),
        ("runs/me@work", "runs/me@work"),
        ("", ""),
    ],
)
def test_an_address_is_shown_without_what_lets_somebody_in(uri, shown):
    assert without_secrets(uri) == shown
    assert without_secrets(shown) == shown
    text = hide_secrets(f"at '{uri}': w@rd and w%40rd, (Basic dXNlcjp3b3Jk)", uri)
    assert "rd@" not in text.replace("w@rd and", "")
    assert "user:" not in text


def test_secrets_are_found_in_every_spelling():
    uri = "mysql://someone:w%40rd%2Fkey@host/db"
    for said in ("w@rd/key", "w%40rd%2Fkey", "w%40rd/key", "c29tZW9uZTp3QHJkL2tleQ=="):
        assert said not in hide_secrets(f"denied: {said}; {uri}", uri)
    assert hide_secrets("is up at noon", "http://u:p@h") == "is up at noon"
    assert hide_secrets("word up", secrets=["word"]) == "*** up"
    assert hide_secrets("a https://u:p@h/x?a=1&key=2, b") == "a https://***@h/x?a=1&key=***, b"


@pytest.mark.parametrize("text", ["x" * 400_000, "a://" + "?pass" * 80_000])
def test_secrets_are_looked_for_in_time_that_follows_the_length(text):
    began = time.monotonic()
    assert hide_secrets(text) == text
    assert time.monotonic() - began < 3
