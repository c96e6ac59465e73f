"""Adds to a wheel what a checkout keeps beside the package; all else stands in pyproject.toml."""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = (
    *("ablations/*.yaml", "ablations/*.json"),
    *("ablations/sweeps/*.yaml", "ablations/sweeps/*.json"),
    "reports/published.csv",
)
INSIDE = "sca_bench/shipped"
"""Where `sca_bench.study.suite.shipped` looks for them in an installed package."""


class BuildWithSuites(build_py):
    """Builds the packages, then copies the suites and the published numbers into one of them.

    An editable installation needs no copies: there they are found where they lie.
    """

    def run(self) -> None:
        """Build, and copy."""
        super().run()
        if self.editable_mode:
            return
        for source, target in self._copies().items():
            self.mkpath(str(Path(target).parent))
            self.copy_file(source, target, preserve_mode=False)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Name what is built, the copies included."""
        built: list[str] = super().get_outputs(include_bytecode)
        return built if self.editable_mode else [*built, *self._copies().values()]

    def get_source_files(self) -> list[str]:
        """Name what a source distribution needs for it."""
        return [*super().get_source_files(), *self._copies()]

    def _copies(self) -> dict[str, str]:
        """Return source -> target of every copy, both from the root of the checkout."""
        root = Path(__file__).parent
        found = sorted(path.relative_to(root) for glob in SHIPPED for path in root.glob(glob))
        build = Path(self.build_lib) / INSIDE
        return {path.as_posix(): str(build / path) for path in found}


setup(cmdclass={"build_py": BuildWithSuites})
