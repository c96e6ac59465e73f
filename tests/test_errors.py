"""Errors: one line, an address from whoever knows it, the same after a trip between processes."""

import copy
import pickle

import pytest

from sca_bench.errors import InputError, PathNotGiven, address, at


class Counted(InputError):
    """A subclass with a constructor of its own, as a package of others may have one."""

    def __init__(self, count):
        super().__init__(None, "count", f"{count} is too many")
        self.count = count


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (
            ("a.yaml", "sam.size", "'x' is unknown", "use tiny"),
            "a.yaml: sam.size: 'x' is unknown; use tiny",
        ),
        (("a.yaml", "", "no such file"), "a.yaml: no such file"),
        ((None, "sam.size", "'x' is unknown"), "sam.size: 'x' is unknown"),
        (("", "sam.size", "'x' is unknown"), "sam.size: 'x' is unknown"),
        ((None, "", "two\n  lines"), "two lines"),
    ],
)
def test_an_error_is_one_line_with_or_without_an_address(fields, line):
    assert str(InputError(*fields)) == line


def fail(where, key="sam.size"):
    raise InputError(where, key, "'x' is unknown")


def test_the_boundary_gives_an_error_its_address():
    line = r"^a\.yaml: sam\.size: 'x' is unknown$"
    with pytest.raises(InputError, match=line) as caught, at("a.yaml"):
        fail(None)
    assert caught.value.where == "a.yaml"


def test_an_error_keeps_the_address_it_has():
    line = r"^inner\.yaml: sam\.size: 'x' is unknown$"
    with pytest.raises(InputError, match=line), at("outer.yaml"), at("inner.yaml"):
        fail(None)
    with pytest.raises(InputError, match=r"^weights\.pth: 'x' is unknown$"), at("outer.yaml"):
        fail("weights.pth", "")


def test_the_error_itself_comes_out_with_its_class_data_and_cause():
    cause = OSError("gone")
    for error in (PathNotGiven(None, "paths.vg", "not given"), Counted(7)):
        with pytest.raises(type(error)) as caught, at("a.yaml"):
            raise error from cause
        assert caught.value is error
        assert error.where == "a.yaml"
        assert error.__cause__ is cause


def test_other_errors_pass_untouched():
    with pytest.raises(ValueError, match="no input"), at("a.yaml"):
        raise ValueError("no input")


def test_the_address_is_known_inside_and_forgotten_outside():
    assert address() == ""
    with at("outer.yaml"):
        with pytest.raises(InputError), at("inner.yaml"):
            fail(address())
        with at("inner.yaml"):
            assert address() == "inner.yaml"
        assert address() == "outer.yaml"
    assert address() == ""


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "error",
    [InputError(None, "key", "wrong", "fix it"), PathNotGiven("b.yaml", "k", "p"), Counted(3)],
    ids=lambda error: type(error).__name__,
)
def test_an_error_survives_pickling_and_copying(error, protocol):
    error = copy.copy(error)
    with pytest.raises(InputError), at("a.yaml"):
        raise error
    for twin in (pickle.loads(pickle.dumps(error, protocol)), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)
