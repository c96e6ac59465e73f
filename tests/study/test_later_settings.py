"""A setting that is added to settings in use enters keys where it differs from its default."""

from __future__ import annotations

import pytest

from sca_bench.settings.base import Settings, of_kind
from sca_bench.study.keys.cell import keyed_values


class Tiling(Settings):
    """An object that may be added as a whole."""

    tiles: int = 1
    overlap: float = 0.0


class Before(Settings):
    """Settings as they were."""

    steps: int = 10
    betas: tuple[float, float] = (0.9, 0.99)


class After(Before):
    """The same settings, some versions later."""

    momentum: float = of_kind("result", 0.0, since="0.2")
    noise: tuple[float, ...] = of_kind("result", (), since="0.2")
    tiling: Tiling = of_kind("result", Tiling(), since="0.3")
    extra: tuple[Tiling, ...] = of_kind("result", (), since="0.3")
    teacher: str = of_kind("path", "embedded:teacher", since="0.3")
    note: str = of_kind("label", "", since="0.3")


OLD = {"steps": 10, "betas": [0.9, 0.99]}
INPUTS = {"teacher": "1234"}


def test_what_stands_at_its_default_leaves_older_keys_alone():
    assert keyed_values(Before(), {}) == OLD
    assert keyed_values(After(), INPUTS) == OLD


@pytest.mark.parametrize(
    ("changes", "entered"),
    [
        ({"momentum": 0.5}, {"momentum": 0.5}),
        ({"noise": (0.1,)}, {"noise": [0.1]}),
        ({"tiling": Tiling(tiles=2)}, {"tiling.tiles": 2}),
        ({"extra": (Tiling(),)}, {"extra.0.tiles": 1, "extra.0.overlap": 0.0}),
        ({"teacher": "embedded:other"}, INPUTS),
        ({"note": "a remark"}, {}),
        ({"steps": 3, "momentum": 0.5}, {"steps": 3, "momentum": 0.5}),
    ],
    ids=lambda value: next(iter(value), "nothing"),
)
def test_what_differs_from_its_default_enters(changes, entered):
    assert keyed_values(After(**changes), INPUTS) == OLD | entered


def test_an_object_in_use_from_the_start_enters_whole_and_its_later_fields_do_not():
    class Outer(Settings):
        after: After = After()
        tiling: Tiling = Tiling()

    found = keyed_values(Outer(), {})
    assert found == {
        **{f"after.{key}": value for key, value in OLD.items()},
        "tiling.tiles": 1,
        "tiling.overlap": 0.0,
    }


def test_a_later_object_of_another_kind_enters_whole():
    class Coarse(Settings):
        tiles: int = 1

    class Outer(Settings):
        tiling: Tiling | Coarse = of_kind("result", Tiling(), since="0.2")

    assert keyed_values(Outer(), {}) == {}
    assert keyed_values(Outer(tiling=Coarse()), {}) == {"tiling.tiles": 1}


def test_a_later_setting_needs_a_default():
    with pytest.raises(ValueError, match=r"added in 0\.2 needs a default that means 'as before'"):
        of_kind("result", since="0.2")
