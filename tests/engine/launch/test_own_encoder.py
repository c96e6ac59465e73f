"""A stranger's image encoder, one file and one entry point, from a suite to its report."""

import sys

import pytest
from helpers.command import finish
from helpers.own_encoder import install, look_again

from sca_bench.metrics.rows import read_rows
from sca_bench.study.runs.store import PREDICTIONS, Store


@pytest.fixture
def suite(tmp_path, suite_file):
    """Two widths of `my_encoder`, with two steps each; and the folder it is installed in."""
    site = tmp_path / "site"
    install(site)
    path = suite_file(axes="{encoder.options.width: [2, 4]}", changes={"train.steps": 2})
    text = path.read_text(encoding="utf-8")
    named = text.replace('base: {"', 'base: {"encoder": {"type": "conv"}, "', 1)
    assert named != text
    path.write_text(named, encoding="utf-8")
    return path, site


@pytest.fixture
def here(suite, monkeypatch):
    """Let this process see the package, too."""
    monkeypatch.syspath_prepend(suite[1])
    look_again(monkeypatch)
    yield
    sys.modules.pop("my_encoder", None)


@pytest.mark.usefixtures("here")
def test_one_file_from_a_suite_to_a_report(suite, tmp_path, process, command):
    path, site = suite
    assert "tiny, conv, width 2, fp32, kept" in command("plan", path, "--no-probe")
    finish(process("run", path, "--no-mlflow", site=site))
    records = list(Store(tmp_path / "runs").records())
    assert {r.status for r in records} == {"done"}
    assert {r.settings["encoder"]["options"]["width"] for r in records} == {2, 4}
    assert {r.revisions["encoder.conv"] for r in records} == {
        "1, pixels (127.5, 127.5, 127.5) / (127.5, 127.5, 127.5)"
    }
    assert "captions" in command("verify", records[0].cell_id)
    command("report", path, "--no-mlflow")
    table = (tmp_path / "reports" / "demo" / "table.md").read_text(encoding="utf-8")
    assert "encoder.options.width" in table
    # A photo is made ready as the split's images were.
    run = Store(tmp_path / "runs").run_dir(records[0].cell_id, 0)
    captions = [row.caption for row in read_rows(run / PREDICTIONS)]
    shown = command("caption", "--run", records[0].cell_id, "--examples", "3").splitlines()
    assert len(shown) == 3
    assert all(line.split(": ", 1)[1].split("   (")[0] in captions for line in shown)


def test_without_its_package_the_name_is_unknown_in_one_line(suite, command):
    path, _ = suite
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("encoder.options.width", "mixer.num_layers"), encoding="utf-8")
    out = command("plan", path, code=2)
    assert "encoder.type: 'conv' is wrong; " in out
    assert out.count("\n") == 1


@pytest.mark.usefixtures("here")
def test_check_sizes_it(suite, command, monkeypatch):
    path, site = suite
    assert "not sized" not in command("check", path, "--build")
    module = site / "my_encoder.py"
    text = module.read_text(encoding="utf-8")
    module.write_text(text.replace("    width =", "    [].gone\n    width ="))
    sys.modules.pop("my_encoder")
    look_again(monkeypatch)
    out = command("check", path, "--build", code=2)
    assert "not sized: encoder.type: conv cannot be built (AttributeError" in out
