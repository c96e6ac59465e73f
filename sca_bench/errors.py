"""The exception tree. Everything a user can cause is an `InputError` and prints as one line.

An error begins with its address: the file, or the flag, that the fault is in. Code that reads a
setting rarely knows which file it came from, so it raises without one, and whoever opened the file
gives it once:

    with at("ablations/mixer.yaml"):
        sam_dims("vit_x")  # ablations/mixer.yaml: sam.size: 'vit_x' is unknown; did you mean ...
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sca_bench.output import visible

_ADDRESS: ContextVar[str] = ContextVar("address", default="")
_MOST_SIGNS = 2000
"""Characters of an error's line."""
_LONG_WORD = re.compile(r"([^\s/]{120})[^\s/]{200,}([^\s/]{20})")
"""A value out of a file; a path's parts are no longer than 255 characters."""


class ScaBenchError(Exception):
    """Base of every error this package raises on purpose."""


class InputError(ScaBenchError):
    """The user's input is wrong: exit code 2, one clear line, no traceback.

    Args:
        where: File (or command line) the fault is in; None where that is not known, and `at` tells.
        key: Key, field or item inside it; empty when the whole file is meant.
        problem: What was received and what was expected.
        fix: What to do about it; empty when the problem says it.

    Attributes:
        others: Further faults of the same input that were found along with it, a line each.
    """

    def __init__(self, where: object, key: str, problem: str, fix: str = "") -> None:
        super().__init__(where, key, problem, fix)
        self.where = "" if where is None else str(where)
        self.key, self.problem, self.fix = key, problem, fix
        self.others: list[InputError] = []

    def __str__(self) -> str:
        head = "".join(f"{part}: " for part in (self.where, self.key) if part)
        line = head + self.problem + (f"; {self.fix}" if self.fix else "")
        return visible(_cut(" ".join(line.split())))

    def __reduce__(self) -> tuple[Any, ...]:
        # Not through the constructor: a subclass may have another one, and `at` changes `where`.
        return _bare, (type(self), self.args), self.__dict__


def _bare(kind: type[InputError], arguments: tuple[Any, ...]) -> InputError:
    return kind.__new__(kind, *arguments)


def _cut(line: str) -> str:
    """Shorten what nobody reads to its end: a file may hold values of any length."""
    line = _LONG_WORD.sub(lambda word: f"{word[1]}...{word[2]}", line[: 10 * _MOST_SIGNS])
    return line if len(line) <= _MOST_SIGNS else f"{line[: _MOST_SIGNS - 3]}..."


@contextmanager
def at(where: object) -> Iterator[None]:
    """Give an `InputError` raised inside its address, unless it has one.

    The error stays the same object: its class, its cause and whatever it carries.

    Args:
        where: File (or command line) that is read inside.
    """
    outside = _ADDRESS.set(str(where))
    try:
        yield
    except InputError as error:
        for fault in (error, *error.others):
            fault.where = fault.where or str(where)
        raise
    finally:
        _ADDRESS.reset(outside)


def address() -> str:
    """Return the address that an error would get here, for code of others that asks for one."""
    return _ADDRESS.get()


class PathNotGiven(InputError):
    """A named file or folder that only the user can give was not given."""


class CellError(ScaBenchError):
    """One cell could not be finished; the other cells go on."""


class NotComputed(ScaBenchError):
    """A metric that cannot be computed here, with the reason; never replaced by a look-alike."""


def fault_line(error: OSError) -> str:
    """Return what the system could not do, as one line: file, and reason."""
    text = str(error.strerror or error)
    return f"{error.filename}: {text}" if error.filename else text


def near_name(word: str, known: Iterable[str]) -> str:
    """Return the known name that is nearest to a word; empty if none is near."""
    import difflib  # only where something is wrong: every command imports this module

    names = sorted(known)
    same = (name for name in names if name.lower() == word.lower())
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return next(same, near[0] if near else "")


_MOST_NAMES = 8
"""Names that one error lists."""


def did_you_mean(word: str, known: Iterable[str], see: str = "") -> str:
    """Return `did you mean X?` for the nearest known name, or a list of names if none is near.

    Args:
        word: What was given.
        known: What could have been.
        see: The command that lists them all, such as `list settings`.

    Returns:
        A list of more than eight names is cut to the eight nearest, and says where the rest is.
    """
    names = sorted(set(known))
    near = near_name(word, names)
    if near:
        return f"did you mean {near}?"
    if len(names) > _MOST_NAMES:
        import difflib

        nearest = difflib.get_close_matches(word, names, n=_MOST_NAMES, cutoff=0.0)
        where = f"; see `{see}`" if see else ""
        return f"known: {', '.join(nearest)}, and {len(names) - _MOST_NAMES} more{where}"
    return "known: " + ", ".join(names) if names else "there is none"
