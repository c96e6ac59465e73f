"""The six example packages of `docs/add`, built and installed into an environment of their own."""

import shutil
import subprocess
import sys
import sysconfig
import venv

import pytest
from helpers.printed import ROOT, blocks

KINDS = ("variant", "design", "metric", "reader", "encoder", "plot")
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
SUITE = """
suite: six_doors
question: Do the packages of six strangers run together?
base:
  variant: colour_namer
  train: {steps: 2, images_per_batch: 2, val_every: 2}
  mixer: {mlp_dim: 16}
  data:
    train: {dataset: lines, file: train.txt, images: pictures}
    val: {dataset: lines, file: val.txt, images: pictures}
    test: {dataset: lines, file: test.txt, images: pictures}
axes: {options.width: [2, 4]}
cells:
  - name: other design
    set: {variant: sca_few_tokens, options: {num_sam_tokens: 1}, encoder: {type: patches}}
seeds: [0, 1]
metrics: [brevity, exact_match]
reference: width=2
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """Return the Python of an environment with the six packages; it sees this one's, too."""
    folder = tmp_path_factory.mktemp("six")
    wheels = folder / "wheels"
    for kind in KINDS:
        source = folder / kind
        for block in blocks(ROOT / "docs" / "add" / f"{kind}.md"):
            if block.mark.startswith("file: "):
                path = source / block.mark.removeprefix("file: ")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text, encoding="utf-8")
        words = (sys.executable, "-c", BUILD, str(wheels))
        built = subprocess.run(words, cwd=source, capture_output=True, text=True)
        assert built.returncode == 0, built.stderr
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-index")
    subprocess.run((*pip, "--no-deps", *map(str, wheels.glob("*.whl"))), check=True)
    (site,) = (folder / "venv" / "lib").glob("*/site-packages")
    here = sysconfig.get_paths()["purelib"]
    (site / "what_else_is_here.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    shutil.copy(folder / "reader" / "make_pictures.py", folder)
    return python


@pytest.mark.usefixtures("process")  # as many as commands
def test_six_packages_run_together_from_their_suite_to_the_report(python, tmp_path):
    (tmp_path / "six_doors.yaml").write_text(SUITE, encoding="utf-8")

    def run(*words):
        made = subprocess.run(
            (str(python), *words), cwd=tmp_path, capture_output=True, text=True, timeout=300
        )
        assert made.returncode == 0, made.stdout + made.stderr
        return made.stdout

    run(str(python.parents[2] / "make_pictures.py"))
    sca_bench = ("-m", "sca_bench")
    for what, name in (
        ("variants", "colour_namer"),
        ("designs", "sca_few_tokens"),
        ("metrics", "brevity"),
        ("datasets", "lines"),
        ("encoders", "patches"),
        ("plots", "seed_spread"),
    ):
        assert name in run(*sca_bench, "list", what)
    run(*sca_bench, "run", "six_doors.yaml", "--no-mlflow")
    run(*sca_bench, "report", "six_doors", "--no-mlflow")
    report = tmp_path / "reports" / "six_doors"
    table = (report / "table.md").read_text("utf-8")
    assert table.count("other design") >= 1
    assert "brevity" in table.lower()
    rows = (report / "summary.csv").read_text("utf-8").splitlines()
    assert len(rows) == 1 + 3
    assert (report / "seed_spread.png").stat().st_size > 5_000
    assert 'id="plot-seed-spread"' in (report / "index.html").read_text("utf-8")
