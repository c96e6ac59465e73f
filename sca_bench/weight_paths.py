"""Where weights lie: inside this package or another one, and in which files. No torch here."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path, PurePosixPath, PureWindowsPath

from sca_bench.errors import InputError, did_you_mean
from sca_bench.reading import RECORD_BYTES, read_json
from sca_bench.walk import is_hidden

PREFIX = "embedded:"
PACKAGE_PREFIX = "package:"
_SHARDS, _ADAPTER = ".index.json", "adapter_config.json"
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


def shards_of(folder: Path) -> list[str]:
    """Return the names of the shards of a folder of weights, as transformers writes one.

    Raises:
        InputError: A shard is no file of the folder that counts for a key, or the weights belong on
            top of others, which lie elsewhere.
    """
    if (folder / _ADAPTER).is_file():
        fix = "merge the adapter into its base model, and name the folder of that"
        raise InputError(folder / _ADAPTER, "", "stands for weights on top of another model's", fix)
    found: set[str] = set()
    for index in sorted(folder.glob(f"*{_SHARDS}")):
        try:
            names = read_json(index, RECORD_BYTES)["weight_map"].values()
        except (OSError, InputError, KeyError, TypeError, AttributeError):
            continue  # no such index; whoever needs it says so
        for name in sorted({str(name) for name in names}):
            check_inside(name, index, "weight_map")
            if any(map(is_hidden, PurePosixPath(name).parts)):
                problem = f"{name!r} is hidden, and hidden files count for no key"
                raise InputError(index, "weight_map", problem, "give it another name")
            found.add(name)
    return sorted(found)


def check_inside(name: str, file: Path, key: str) -> None:
    """Check that a file names another one that lies in its own folder, or below it.

    A name is never followed out of there: what lies elsewhere is of this machine only, and a file
    from elsewhere could have any other file read.

    Raises:
        InputError: It does not.
    """
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive:
        problem = f"{name!r} is not the name of a file inside its folder"
        raise InputError(file, key, problem, "keep the files together, and name them from there")
