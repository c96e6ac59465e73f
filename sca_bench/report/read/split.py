"""Which split the numbers of a suite are of, in words."""

from __future__ import annotations

from sca_bench.report.read.suite_data import SuiteData

_WORDS = {"val": "validation"}


def split_word(data: SuiteData) -> str:
    """Return `test`, `validation` (of a sweep's trials), or what else all scores are of.

    Suites whose scores say no split, or several, are about the test split, as their settings are
    where nothing else is said.
    """
    said = {str(each.get("split") or "") for each in data.scores.signatures.values()} - {""}
    if len(said) != 1:
        return "test"
    name = said.pop()
    return _WORDS.get(name, name)


def region_words(data: SuiteData) -> str:
    """Return what the scored regions are called: `test regions`, `validation regions`."""
    return f"{split_word(data)} regions"
