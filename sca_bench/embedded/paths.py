"""Where the weights that ship inside the package lie. No torch here."""

from __future__ import annotations

from pathlib import Path

from sca_bench.errors import InputError, did_you_mean

PREFIX = "embedded:"
WEIGHTS_DIR = Path(__file__).resolve().parent / "weights"


def available() -> list[str]:
    """Return the names that may follow `embedded:`."""
    if not WEIGHTS_DIR.is_dir():
        return []
    return sorted(
        p.name if p.is_dir() else p.stem
        for p in WEIGHTS_DIR.iterdir()
        if p.is_dir() or p.suffix == ".safetensors"
    )


def resolve(spec: str, where: str = "embedded", key: str = "weights") -> Path:
    """Turn `embedded:NAME` or a path into a path.

    Args:
        spec: `embedded:NAME`, or any path, which is returned as it is (with `~` expanded).
        where: File to name in an error.
        key: Key to name in an error.

    Returns:
        `weights/NAME.safetensors` of this package where that file exists, else the directory
        `weights/NAME` (language models). A plain path is not checked.

    Raises:
        InputError: No weights of that name are embedded.
    """
    if not spec.startswith(PREFIX):
        return Path(spec).expanduser()
    name = spec.removeprefix(PREFIX)
    names = available()
    if name not in names:
        fix = did_you_mean(name, names) if names else "this installation embeds no weights"
        raise InputError(where, key, f"{spec!r} is not embedded", fix)
    single = WEIGHTS_DIR / f"{name}.safetensors"
    return single if single.is_file() else WEIGHTS_DIR / name
