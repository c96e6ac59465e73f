"""Sound toys of strangers pass the contract, and each break of one is found by name."""

import importlib
import itertools
import unittest

import pytest
from toys import BREAKS, SOUND

from sca_bench.contract.broken import Broken
from sca_bench.contract.find import check_names, find

_NUMBERS = itertools.count()


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write a toy to a file under a name that no other has; return the file."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(kind, old="", new=""):
        text = SOUND[kind]
        assert text.count(old) >= 1, old
        name = f"toy_{next(_NUMBERS)}"
        path = tmp_path / f"{name}.py"
        path.write_text(text.replace(old, new, 1).replace("MODULE", name), encoding="utf-8")
        importlib.invalidate_caches()
        return str(path)

    return write


def broken_checks(path, only=""):
    """Run all checks, or one, of what a file holds; return name -> what is said where it fails."""
    (tested,) = find(path)
    assert not tested.fault
    contract = tested.contract()
    failed = {}
    for name in check_names(contract()):
        if only and name != f"test_{only}":
            continue
        case = contract()
        case.setup_method()
        try:
            getattr(case, name)()
        except unittest.SkipTest:
            pass
        except Exception as error:
            failed[name.removeprefix("test_")] = error
        finally:
            case.teardown_method()
    return failed


@pytest.mark.usefixtures("training")
@pytest.mark.parametrize("kind", SOUND)
def test_a_sound_toy_passes(written, kind):
    assert broken_checks(written(kind)) == {}


@pytest.mark.parametrize(("kind", "what", "edit", "check"), BREAKS, ids=[b[1] for b in BREAKS])
def test_a_break_is_found_by_name(written, kind, what, edit, check):
    found = broken_checks(written(kind, *edit), check)
    assert found.keys() == {check}
    error = found[check]
    assert isinstance(error, Broken), error
    assert all((error.expected, error.got, error.fix))
