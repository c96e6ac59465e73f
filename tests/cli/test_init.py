"""What `init` writes works as it stands, and never takes the place of something."""

import pytest

from sca_bench.cli import main


@pytest.fixture(autouse=True)
def _somewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


def test_a_suite_from_the_template_is_accepted_as_it_stands(capsys):
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
    assert "cannot be a name; use letters, digits and _" in capsys.readouterr().err
