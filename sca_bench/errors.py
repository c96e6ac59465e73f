"""The exception tree. Everything a user can cause is an `InputError` and prints as one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ScaBenchError(Exception):
    """Base of every error this package raises on purpose."""


class InputError(ScaBenchError):
    """The user's input is wrong: exit code 2, one clear line, no traceback.

    Args:
        where: File (or command line) the fault is in.
        key: Key, field or item inside it; empty when the whole file is meant.
        problem: What was received and what was expected.
        fix: What to do about it; empty when the problem says it.
    """

    def __init__(self, where: object, key: str, problem: str, fix: str = "") -> None:
        self.where, self.key, self.problem, self.fix = str(where), key, problem, fix
        head = f"{where}: {key}: " if key else f"{where}: "
        line = head + problem + (f"; {fix}" if fix else "")
        super().__init__(" ".join(line.split()))


class PathNotGiven(InputError):
    """A named file or folder that only the user can give was not given."""


class CellError(ScaBenchError):
    """One cell could not be finished; the other cells go on."""


class NotComputed(ScaBenchError):
    """A metric that cannot be computed here, with the reason; never replaced by a look-alike."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `did you mean X?` for the nearest known name, or the list of names if none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    return "known: " + ", ".join(names) if names else "there is none"
