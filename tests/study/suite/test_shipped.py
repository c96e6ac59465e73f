"""Suites by name, wherever the package is: a checkout, or an installed copy of it."""

import pytest

from sca_bench.cli import main
from sca_bench.errors import InputError
from sca_bench.study.suite import shipped as module
from sca_bench.study.suite.published import find_published
from sca_bench.study.suite.shipped import find_suite, shipped, shipped_suites


@pytest.fixture(params=["checkout", "installed"])
def place(request, tmp_path, monkeypatch):
    """Lay out a package with two suites and a sweep as both kinds of installation do."""
    site = tmp_path / "site"
    top = site if request.param == "checkout" else site / "sca_bench" / "shipped"
    for name in ("ablations/depth.yaml", "ablations/width.yaml", "ablations/sweeps/rate.yaml"):
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        kind = "sweep" if "sweeps" in name else "suite"
        path.write_text(f"{kind}: {path.stem}\nquestion: How much {path.stem}?\n")
    (top / "reports").mkdir()
    (top / "reports" / "published.csv").touch()
    if request.param == "checkout":
        (site / "pyproject.toml").touch()
    (site / "sca_bench").mkdir(exist_ok=True)
    monkeypatch.setattr(module, "_PACKAGE", site / "sca_bench")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return top


def test_all_of_them_have_names(place):
    assert list(shipped_suites()) == ["depth", "width", "sweeps/rate"]
    assert find_published() == place / "reports" / "published.csv"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("depth", "ablations/depth.yaml"),
        ("ablations/depth.yaml", "ablations/depth.yaml"),
        ("ablations/depth", "ablations/depth.yaml"),
        ("rate", "ablations/sweeps/rate.yaml"),
        ("sweeps/rate", "ablations/sweeps/rate.yaml"),
        ("ablations/sweeps/rate.yaml", "ablations/sweeps/rate.yaml"),
        ("ablations", "ablations"),
        ("ablations/", "ablations"),
    ],
)
def test_a_suite_is_found_by_name_and_by_its_path_in_a_checkout(place, given, found):
    assert find_suite(given) == place / found


def test_what_lies_here_comes_first(place, tmp_path):
    own = tmp_path / "here" / "ablations"
    own.mkdir()
    (own / "depth.yaml").touch()
    (tmp_path / "here" / "width").mkdir()  # a folder that holds no suite is none
    assert str(find_suite("ablations/depth.yaml")) == "ablations/depth.yaml"
    assert str(find_suite("ablations")) == "ablations"
    assert find_suite("ablations/width.yaml") == place / "ablations" / "width.yaml"
    assert find_suite("width") == place / "ablations" / "width.yaml"


@pytest.mark.parametrize("given", ["depth.yaml", "mine/depth.yaml", "../depth", "/x/depth"])
def test_a_path_to_somewhere_else_is_no_shipped_suite(place, given):
    assert str(find_suite(given)) == given


@pytest.mark.parametrize("given", ["dept", "ablations/dept.yaml"])
def test_a_name_that_none_has_is_one_clear_line(place, given, capsys):
    with pytest.raises(InputError, match=rf"^{given}: no such file, .*did you mean depth\?$"):
        find_suite(given)
    for command in ("run", "plan", "check", "sweep"):
        assert main([command, given]) == 2
        assert capsys.readouterr().err.startswith(f"{given}: no such file")


def test_the_list_names_them_outside_a_checkout(place, tmp_path, capsys):
    assert main(["list", "suites"]) == 0
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert rows == ["suite", "depth", "width", "sweeps/rate"]
    own = tmp_path / "here" / "ablations"
    own.mkdir()
    (own / "mine.yaml").write_text("suite: mine\nquestion: Mine?\n")
    assert main(["list", "suites"]) == 0
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert rows == ["suite", "ablations/mine.yaml", "depth", "width", "sweeps/rate"]


def test_the_list_shows_those_of_a_checkout_once(place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    assert main(["list", "suites"]) == 0
    rows = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert rows == ["suite", *(f"ablations/{n}.yaml" for n in ("depth", "width", "sweeps/rate"))]
    assert str(find_suite("depth")) == "ablations/depth.yaml"


def test_an_installation_without_them_says_so(tmp_path, monkeypatch, capsys):
    """A folder beside an installed package is anybody's."""
    (tmp_path / "ablations").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setattr(module, "_PACKAGE", tmp_path / "sca_bench")
    monkeypatch.chdir(tmp_path / "here")
    assert shipped("ablations") is None
    assert find_published() is None
    assert main(["list", "suites"]) == 0
    assert "no suite comes with this installation" in capsys.readouterr().err
    assert main(["plan", "mixer_layers"]) == 2
    assert capsys.readouterr().err.startswith("mixer_layers: no such file")
