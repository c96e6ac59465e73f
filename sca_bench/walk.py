"""What lies below a folder, linked folders included: the one way in which folders are walked."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from sca_bench.errors import InputError


def is_hidden(name: str) -> bool:
    """Say whether a file or folder is hidden, as a download's book-keeping is."""
    return name.startswith(".")


def never(name: str) -> bool:
    """Leave nothing out."""
    return False


def walk(
    folder: Path, skip: Callable[[str], bool] = never, *, strict: bool = True
) -> Iterator[tuple[str, Path]]:
    """Yield every file below a folder: its name from there, with `/`, and its path; in order.

    Linked files and folders count as if they stood there. A link to a folder that it lies in is
    not entered: what it shows is yielded where it lies.

    Args:
        folder: The folder.
        skip: Says of the name of a file or folder whether it is left out, with all in it.
        strict: Where not, what cannot be read or is gone meanwhile is left out.

    Raises:
        InputError: A link leads nowhere, or a folder cannot be read.
    """
    return (
        (name, path)
        for name, path, circle in walk_with_circles(folder, skip, strict=strict)
        if not circle
    )


def bytes_of(path: Path) -> int:
    """Return the size of a file, or of all below a folder; what vanishes counts nothing."""
    files = (file for _, file in walk(path, strict=False)) if path.is_dir() else (path,)
    total = 0
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            total += file.stat().st_size
    return total


def walk_with_circles(
    folder: Path, skip: Callable[[str], bool] = never, *, strict: bool = True
) -> Iterator[tuple[str, Path, str]]:
    """Yield what `walk` does, and each link that is not entered: name, path, and where it leads.

    That is the name of a folder that the link lies in, or `.`; nothing for a file.

    Raises:
        InputError: As `walk`.
    """

    def inside(
        path: Path, name: str, above: dict[tuple[int, int], str]
    ) -> Iterator[tuple[str, Path, str]]:
        try:
            here = path.stat()
            above = {**above, (here.st_dev, here.st_ino): name or "."}
            with os.scandir(path) as entries:
                listed = sorted((e for e in entries if not skip(e.name)), key=lambda e: e.name)
        except OSError as error:
            if strict:
                raise _cannot_be_read(path, error) from None
            return
        for entry in listed:
            below, own = path / entry.name, f"{name}/{entry.name}" if name else entry.name
            try:
                if entry.is_file():
                    yield own, below, ""
                elif entry.is_dir():
                    facts = entry.stat()
                    if circle := above.get((facts.st_dev, facts.st_ino)):
                        yield own, below, circle
                    else:
                        yield from inside(below, own, above)
                elif strict and entry.is_symlink():
                    raise _leads_nowhere(below)
            except OSError as error:  # a link to itself, or to what may not be looked at
                if strict and error.errno == errno.ELOOP:
                    raise _leads_nowhere(below) from None
                if strict:
                    raise _cannot_be_read(below, error) from None

    return inside(folder, "", {})


def _cannot_be_read(path: Path, error: OSError) -> InputError:
    return InputError(path, "", f"cannot be read ({error.strerror})")


def _leads_nowhere(link: Path) -> InputError:
    fix = "mount or mend what it names, or delete the link"
    return InputError(link, "", f"is a link to {link.readlink()}, which is not there", fix)
