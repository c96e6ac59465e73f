"""`sca_bench test` and the pytest plugin: what they find, print and return."""

import importlib.util
import subprocess
import sys

import pytest
from toys import METRIC, READER

from sca_bench.cli import main
from sca_bench.contract.find import find
from sca_bench.errors import InputError


@pytest.fixture
def here(tmp_path, monkeypatch, own_pytest):
    """Write modules to the working directory; return the function that does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text.replace("MODULE", name), encoding="utf-8")
        importlib.invalidate_caches()

    return write


def run(*words, cwd):
    command = [sys.executable, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


@pytest.mark.usefixtures("process")
def test_the_command_names_each_check_and_what_to_do(here, tmp_path):
    here("bad_metric", METRIC.replace("max(1, len(words))", "len(words)"))
    done = run("-m", "sca_bench", "test", "bad_metric.py", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "metric shared_words"
    assert "  ok       can_be_registered" in lines
    at = lines.index("  FAILED   an_empty_caption_has_a_value")
    said = [line.strip().partition(": ")[0] for line in lines[at + 1 : at + 4]]
    assert said == ["expected", "got", "to do"]
    assert "ZeroDivisionError" in lines[at + 2]
    assert lines[-1] == "15 checks: 14 passed, 1 failed"


def test_a_sound_module_passes_and_only_names_checks(here, capsys):
    here("sound_metric", METRIC)
    assert main(["test", "sound_metric", "--only", "range"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [
        "metric shared_words",
        "  ok       it_gives_a_value_in_its_range",
        "1 check: 1 passed",
    ]


def test_what_skips_says_why(here, capsys):
    here("no_example", READER.replace('    example="MODULE:example",\n', ""))
    assert main(["test", "no_example", "--only", "it_writes_nothing"]) == 0
    out = capsys.readouterr().out
    assert "  skipped  it_writes_nothing: its spec names no `example`" in out
    assert out.endswith("1 check: 1 skipped\n")


def test_an_error_of_ones_own_code_is_shown_with_its_place(here, capsys):
    here("raising", READER.replace('"images": str(folder / "pictures")}', '"images": folder.no}'))
    assert main(["test", "raising", "--only", "it_reads_its_example"]) == 1
    out = capsys.readouterr().out
    for line in ("expected: The example has regions.", "to do: correct what raises it"):
        assert line in out
    assert "got: AttributeError: 'PosixPath' object has no attribute 'no'" in out
    assert "raising.py:" in out


def test_a_registered_name_is_tested(capsys, own_pytest):
    assert main(["test", "distinct_1", "--only", "it_says"]) == 0
    assert "metric distinct_1" in capsys.readouterr().out


def test_a_spec_that_cannot_be_registered_has_one_check(here, capsys):
    here("taken", METRIC.replace('name="shared_words"', 'name="cider_d"'))
    assert main(["test", "taken"]) == 1
    out = capsys.readouterr().out
    assert "got: it is called 'cider_d' as one of sca_bench's own" in out
    assert out.endswith("1 check: 1 failed\n")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["test", "no_such_module_at_all"], "no such module, and nothing is registered so"),
        (["test", "no_such_file.py"], "no_such_file.py: no such file"),
        (["test", "empty"], "empty: holds none of VariantSpec, DesignSpec, MetricSpec"),
        (["test", "failing.py"], "failing.py: cannot be imported (ZeroDivisionError"),
        (["test", "sound", "--only", "no_such_check"], "--only: 'no_such_check' matches no check"),
    ],
    ids=lambda value: value[1] if isinstance(value, list) else None,
)
def test_nothing_to_test_is_one_line_and_exit_code_2(here, words, line, capsys):
    here("empty", "")
    here("failing", "1 / 0")
    here("sound", METRIC)
    assert main(words) == 2
    out, err = capsys.readouterr()
    assert line in err
    assert err.count("\n") == 1
    assert not out


def test_without_pytest_it_says_how_to_get_it(here, monkeypatch, capsys):
    here("needs_pytest", METRIC)
    real = importlib.util.find_spec
    monkeypatch.setattr(
        "sca_bench.contract.run.find_spec", lambda name: None if name == "pytest" else real(name)
    )
    assert main(["test", "needs_pytest"]) == 2
    assert "pip install 'sca_bench[test]'" in capsys.readouterr().err


def test_a_module_in_a_package_is_found_by_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    package = tmp_path / "their_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "score.py").write_text(METRIC.replace("MODULE", "their_package.score"))
    (tested,) = find(str(package / "score.py"))
    assert (tested.kind, tested.name) == ("metric", "shared_words")
    assert tested.contract().spec.compute == "their_package.score:shared_words"


def test_a_registered_spec_with_a_fault_is_an_error(monkeypatch):
    from sca_bench.metrics.registry import METRICS

    class Point:
        name, value = "lost", "lost_package:SPEC"

        def load(self):
            raise ImportError("gone")

    monkeypatch.setattr(METRICS, "find", lambda group: [Point()])
    with pytest.raises(InputError, match=r"lost: .*cannot be loaded \(ImportError: gone\)"):
        find("lost")


@pytest.mark.usefixtures("process")
def test_the_plugin_runs_in_a_ci_of_ones_own(here, tmp_path):
    here("sound_here", METRIC)
    here("test_own", "def test_own():\n    pass\n")
    plugin = ("-m", "pytest", "-p", "sca_bench.contract.plugin", "-q")
    beside = run(*plugin, "-n", "0", "--sca-bench", "sound_here", "test_own.py", cwd=tmp_path)
    assert "16 passed" in beside.stdout, beside.stdout
    alone = run(*plugin, "-n", "1", "--sca-bench", "sound_here", cwd=tmp_path)
    assert "15 passed" in alone.stdout, alone.stdout
    assert alone.returncode == 0


@pytest.mark.usefixtures("process")
def test_the_plugin_says_in_one_line_what_is_wrong(tmp_path):
    plugin = ("-m", "pytest", "-p", "sca_bench.contract.plugin", "-q")
    wrong = run(*plugin, "--sca-bench", "no_such_module_at_all", cwd=tmp_path)
    assert wrong.returncode == pytest.ExitCode.USAGE_ERROR
    assert "ERROR: no_such_module_at_all: no such module" in wrong.stderr


def test_its_classes_are_inherited_as_before():
    from sca_bench import contract

    for name in contract.__all__:
        assert getattr(contract, name).__name__ == name
    with pytest.raises(AttributeError, match="no_such"):
        _ = contract.no_such


def test_metrics_are_tested_without_torch():
    code = (
        "import sys; import sca_bench.contract.plugin, sca_bench.contract.metric\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
