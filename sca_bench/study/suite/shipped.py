"""What comes with the package beside its code: suites, sweeps, and the published numbers.

In a checkout they lie in its top folders. A wheel carries them inside the package (`setup.py`).
"""

from __future__ import annotations

from pathlib import Path, PurePath

import sca_bench
from sca_bench.errors import InputError, did_you_mean

SUITES = "ablations"
_PACKAGE = Path(sca_bench.__file__).resolve().parent


def shipped(name: str) -> Path | None:
    """Return a file or folder that comes with the package; None where this installation lacks it.

    Args:
        name: Its path in a checkout, such as `ablations`.
    """
    inside, checkout = _PACKAGE / "shipped", _PACKAGE.parent
    folders = [inside]
    if (checkout / "pyproject.toml").is_file():  # else it is a folder of everybody's packages
        folders.append(checkout)
    return next((path for folder in folders if (path := folder / name).exists()), None)


def shipped_suites() -> dict[str, Path]:
    """Return name -> file of every suite and sweep that comes with the package."""
    folder = shipped(SUITES)
    if folder is None:
        return {}
    files = [*sorted(folder.glob("*.yaml")), *sorted(folder.glob("*/*.yaml"))]
    return {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}


def find_suite(given: str) -> Path:
    """Return the file or folder that a command line names, or what comes with the package.

    Args:
        given: A path; or the name of a shipped suite or sweep (`mixer_layers`, `lr_depth`); or a
            path as it is in a checkout (`ablations/mixer_layers.yaml`, `ablations`).

    Returns:
        A path that exists, or `given` itself, which reading will complain about.

    Raises:
        InputError: It can only be the name of a shipped suite, and none is called so.
    """
    path = Path(given)
    if path.is_file() or (path.is_dir() and any(path.glob("*.yaml"))):
        return path
    folder, parts = shipped(SUITES), PurePath(given).parts
    as_in_checkout = parts[:1] == (SUITES,)
    inner = PurePath(*parts[as_in_checkout:])
    # A file that is not where it was said to be is no shipped one of the same name.
    other = path.is_absolute() or ".." in parts or (inner.suffix and not as_in_checkout)
    if folder is None or other:
        return path
    if inner == PurePath():
        return _shortest(folder)
    suites = shipped_suites()
    name = (inner.with_suffix("") if inner.suffix == ".yaml" else inner).as_posix()
    for known, file in suites.items():
        if name in (known, PurePath(known).name):
            return _shortest(file)
    if not path.exists() and (as_in_checkout or len(parts) == 1):
        problem = "no such file, and no suite of that name comes with sca_bench"
        raise InputError(given, "", problem, did_you_mean(name, suites, "list suites"))
    return path


def _shortest(path: Path) -> Path:
    """Return a path from the working directory where it lies below that."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
