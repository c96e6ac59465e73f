"""What a wheel holds: all that runs and reports read, though a checkout has it elsewhere."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SUITES = [path for kind in ("yaml", "json") for path in ROOT.glob(f"ablations/**/*.{kind}")]
"""The shipped suites and sweeps, and the schemas that they name."""
LEFT_OUT = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.safetensors", "*.npz")
BUILD = """
import sys
from setuptools import build_meta
out = sys.argv[1]  # which a build replaces
build_meta.build_sdist(out)
build_meta.build_wheel(out)
"""


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """Build a source distribution and a wheel from a copy of the sources, without weights."""
    try:
        found = int(version("setuptools").partition(".")[0])
    except PackageNotFoundError:
        found = 0
    if found < 77:
        pytest.skip(f"setuptools is {found or 'not installed'}, a build needs 77 or newer")
    folder = tmp_path_factory.mktemp("build")
    source, out = folder / "source", folder / "out"
    source.mkdir()
    for name in ("sca_bench", "baselines", "ablations"):
        shutil.copytree(ROOT / name, source / name, ignore=LEFT_OUT)
    (source / "reports").mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "reports/published.csv"):
        shutil.copy(ROOT / name, source / name)
    made = subprocess.run(
        [sys.executable, "-c", BUILD, str(out)], cwd=source, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


def test_a_wheel_has_suites_and_published_numbers(distributions):
    _, wheel = distributions
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
        for source in [*SUITES, ROOT / "reports" / "published.csv"]:
            inside = f"sca_bench/shipped/{source.relative_to(ROOT).as_posix()}"
            assert archive.read(inside) == source.read_bytes()
    tops = {name.partition("/")[0] for name in held}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"sca_bench", "baselines"}
    for path in [*ROOT.glob("sca_bench/**/*"), *ROOT.glob("baselines/**/*")]:
        kept = path.suffix in (".py", ".yaml", ".json", ".j2", ".css", ".js")
        if kept and "__pycache__" not in path.parts:
            assert path.relative_to(ROOT).as_posix() in held


def test_a_source_distribution_has_what_a_wheel_is_made_of(distributions):
    sdist, _ = distributions
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"setup.py", "pyproject.toml", "reports/published.csv"} <= names
    assert {path.relative_to(ROOT).as_posix() for path in SUITES} <= names
