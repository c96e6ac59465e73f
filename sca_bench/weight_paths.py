"""Where weights lie that ship inside this package or another one. No torch here."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from sca_bench.errors import InputError, did_you_mean

PREFIX = "embedded:"
PACKAGE_PREFIX = "package:"
WEIGHTS_DIR = Path(__file__).resolve().parent / "embedded" / "weights"


def available() -> list[str]:
    """Return the names that may follow `embedded:`."""
    if not WEIGHTS_DIR.is_dir():
        return []
    return sorted(
        p.name if p.is_dir() else p.stem
        for p in WEIGHTS_DIR.iterdir()
        if p.is_dir() or p.suffix == ".safetensors"
    )


def resolve(spec: str, key: str = "weights") -> Path:
    """Turn `embedded:NAME`, `package:MODULE/PATH` or a path into a path.

    Args:
        spec: `embedded:NAME`; `package:MODULE/PATH`, a file or folder beside the code of an
            installed module, such as the weights that a baseline ships; or any path, which is
            returned as it is (with `~` expanded).
        key: Key to name in an error.

    Returns:
        `weights/NAME.safetensors` of this package where that file exists, else the directory
        `weights/NAME` (language models). A plain path is not checked.

    Raises:
        InputError: No weights of that name are embedded, or in that package.
    """
    if spec.startswith(PACKAGE_PREFIX):
        return _in_package(spec, key)
    if not spec.startswith(PREFIX):
        return Path(spec).expanduser()
    name = spec.removeprefix(PREFIX)
    names = available()
    if name not in names:
        fix = did_you_mean(name, names) if names else "this installation embeds no weights"
        raise InputError(None, key, f"{spec!r} is not embedded", fix)
    single = WEIGHTS_DIR / f"{name}.safetensors"
    return single if single.is_file() else WEIGHTS_DIR / name


def _in_package(spec: str, key: str) -> Path:
    module, _, inner = spec.removeprefix(PACKAGE_PREFIX).partition("/")
    try:
        module_spec = find_spec(module)
    except (ImportError, ValueError):
        module_spec = None
    if module_spec is None or not module_spec.submodule_search_locations:
        raise InputError(None, key, f"{spec!r}: no package {module!r} is installed")
    folder = Path(next(iter(module_spec.submodule_search_locations)))
    if not inner:
        fix = "name a file or folder after the module"
        raise InputError(None, key, f"{spec!r}: the module alone is no weights", fix)
    path = folder / inner
    if ".." in Path(inner).parts or not path.exists():
        near = [p.relative_to(folder).as_posix() for p in folder.glob("*/*")]
        fix = did_you_mean(inner, near)
        raise InputError(None, key, f"{spec!r}: there is no such file or folder", fix)
    return path
