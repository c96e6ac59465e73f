"""What `init` writes works as it stands, and never takes the place of something."""

import importlib
import importlib.metadata
import itertools
import tomllib
import unittest

import pytest

from sca_bench.cli import main
from sca_bench.cli.init import PACKAGES
from sca_bench.cli.lookup.kinds import registry
from sca_bench.contract.find import check_names


@pytest.fixture(autouse=True)
def _somewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


def test_a_suite_from_the_template_is_accepted_as_it_stands(capsys, rendering):
    assert main(["init", "suite", "my_suite"]) == 0
    assert "plan my_suite.yaml" in capsys.readouterr().out
    assert main(["check", "my_suite.yaml"]) == 0
    assert "3 cells x 3 seeds; all right" in capsys.readouterr().out
    assert main(["plan", "my_suite.yaml", "--no-probe"]) == 0
    assert "9 to run" in capsys.readouterr().out
    assert main(["describe", "my_suite.yaml"]) == 0
    assert "What this suite asks" in capsys.readouterr().out


def test_what_the_suites_comments_offer_is_accepted_too(tmp_path, capsys):
    assert main(["init", "suite", "mine", "--out", "suites"]) == 0
    file = tmp_path / "suites" / "mine.yaml"
    lines = file.read_text().splitlines()
    header = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    opened = [line.replace("# ", "", 1) if _is_offer(line) else line for line in lines[header:]]
    assert opened != lines[header:]
    file.write_text("\n".join(opened).replace("[1, 2]", "[1, 2, 4]", 1))
    assert main(["plan", str(file), "--no-probe"]) == 0
    assert "num_layers=4 (" in capsys.readouterr().out


def _is_offer(line):
    """Say whether a comment is YAML that may be let in, and no sentence."""
    inner = line.strip().removeprefix("# ")
    return line.strip().startswith("# ") and (
        inner.startswith(("- {", "adjust:", "  - {", "profiles:", "  paper:", "    "))
    )


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("mine")
    assert main(["init", "suite", "mine"]) == 2
    assert "mine.yaml: is there already" in capsys.readouterr().err
    assert (tmp_path / "mine.yaml").read_text() == "mine"


def test_a_name_that_cannot_be_one_is_refused(capsys):
    assert main(["init", "suite", "my suite"]) == 2
    assert "cannot be a name; use small letters, digits and _" in capsys.readouterr().err


# --- packages -----------------------------------------------------------------------------------

_NUMBERS = itertools.count()


@pytest.fixture
def begun(tmp_path, monkeypatch, capsys):
    """Let `init` write a package under a name that no other has; return name, folder, module."""

    def begin(kind):
        name = f"begun_{kind}_{next(_NUMBERS)}"
        assert main(["init", kind, name]) == 0
        assert f"next: pip install -e {name}" in capsys.readouterr().out
        folder = tmp_path / name
        monkeypatch.syspath_prepend(folder)
        importlib.invalidate_caches()
        return name, folder, importlib.import_module(f"test_{name}")

    return begin


def failed_checks(contract):
    """Run every check of a contract's class; return name -> error."""
    failed = {}
    for name in check_names(contract()):
        case = contract()
        case.setup_method()
        try:
            getattr(case, name)()
        except unittest.SkipTest:
            pass
        except Exception as error:
            failed[name] = error
        finally:
            case.teardown_method()
    return failed


@pytest.mark.usefixtures("training")
@pytest.mark.parametrize("kind", PACKAGES)
def test_a_package_from_a_template_keeps_its_contract(begun, kind):
    _, _, test = begun(kind)
    assert failed_checks(test.TestContract) == {}


@pytest.mark.parametrize("kind", PACKAGES)
def test_a_package_is_known_by_its_entry_point(begun, kind, monkeypatch, capsys):
    name, folder, _ = begun(kind)
    project = tomllib.loads((folder / "pyproject.toml").read_text())
    ((group, points),) = project["project"]["entry-points"].items()
    kept = registry(PACKAGES[kind].kinds)
    assert group == kept.group
    (point,) = points.items()
    found = [importlib.metadata.EntryPoint(*point, group)]
    for kinds in {package.kinds for package in PACKAGES.values()}:
        one = registry(kinds)
        mine = found if one is kept else []
        monkeypatch.setattr(one, "find", lambda group, mine=mine: mine)
    assert main(["list", PACKAGES[kind].kinds, name]) == 0
    assert name in capsys.readouterr().out
    assert main(["describe", name]) == 0
    out = capsys.readouterr().out
    assert f"{name}" in out
    if "class Options" in (folder / f"{name}.py").read_text():
        assert "its settings:" in out


def test_a_package_is_not_called_as_what_there_is(capsys):
    assert main(["init", "metric", "cider_d"]) == 2
    assert "is the name of one of the metrics; give it another one" in capsys.readouterr().err
    assert main(["init", "plot", "json"]) == 2
    assert "is the name of a module that is installed" in capsys.readouterr().err
