"""What a contract says where it is broken, and how it passes over what does not apply."""

from __future__ import annotations

import unittest
from typing import NoReturn


class Broken(AssertionError):
    """A contract is broken.

    Args:
        expected: What has to hold.
        got: What came instead.
        fix: What to do about it.
    """

    def __init__(self, expected: str, got: str, fix: str) -> None:
        super().__init__(expected, got, fix)
        self.expected, self.got, self.fix = expected, got, fix

    def __str__(self) -> str:
        return f"expected: {self.expected}\ngot: {self.got}\nto do: {self.fix}"


def expect(holds: object, expected: str, got: object, fix: str) -> None:
    """Raise `Broken` unless something holds.

    Args:
        holds: What has to be true.
        expected: The rule, in words.
        got: What came instead.
        fix: What to do about it.
    """
    if not holds:
        raise Broken(expected, str(got), fix)


def skip(reason: str) -> NoReturn:
    """Leave a check that does not apply; pytest and unittest count it as skipped."""
    raise unittest.SkipTest(reason)
