"""Sound toys of strangers pass the contract, and each break of one is found by name."""

import importlib
import itertools

import pytest
from run_checks import failed_checks
from toys import BREAKS, SOUND

from sca_bench.contract.broken import Broken
from sca_bench.contract.find import find

_NUMBERS = itertools.count()


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Write a toy to a file under a name that no other has; return the file."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(kind, old="", new=""):
        text = SOUND[kind]
        assert old in text, old
        name = f"toy_{next(_NUMBERS)}"
        path = tmp_path / f"{name}.py"
        path.write_text(text.replace(old, new, 1).replace("MODULE", name), encoding="utf-8")
        importlib.invalidate_caches()
        return str(path)

    return write


@pytest.mark.usefixtures("training")
@pytest.mark.parametrize("kind", SOUND)
def test_a_sound_toy_passes(written, kind):
    (tested,) = find(written(kind))
    assert not tested.fault
    assert failed_checks(tested.contract()) == {}


@pytest.mark.parametrize(("kind", "what", "edit", "check"), BREAKS, ids=[b[1] for b in BREAKS])
def test_a_break_is_found_by_name(written, kind, what, edit, check):
    (tested,) = find(written(kind, *edit))
    found = failed_checks(tested.contract(), check)
    assert found.keys() == {check}
    error = found[check]
    assert isinstance(error, Broken), error
    assert all((error.expected, error.got, error.fix))
