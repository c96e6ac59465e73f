"""Builders, loaders and designs of others may take `where`; ours do not. Both are called alike."""

import functools
import inspect
from types import SimpleNamespace

import pytest

from sca_bench import variants
from sca_bench.errors import InputError, at
from sca_bench.models.build import build_sca, load_frozen_parts, load_sam_parts
from sca_bench.models.designs.parts import build_text_mixer
from sca_bench.settings import MixerSettings
from sca_bench.specs.encoders import sam_dims
from sca_bench.variants import VariantSpec, where_optional


def without(settings, parts=None):
    raise InputError(None, "sam.size", f"{settings} {parts}")


def by_keyword(settings, parts=None, *, where="nobody"):
    raise InputError(where, "sam.size", f"{settings} {parts}")


def in_order(settings, parts, where):
    raise InputError(where, "sam.size", f"{settings} {parts}")


def under_another_name(settings, parts, file, /):
    raise InputError(file, "sam.size", f"{settings} {parts}")


def by_stars(*arguments):
    settings, parts, where = arguments
    raise InputError(where, "sam.size", f"{settings} {parts}")


def by_two_stars(*arguments, **named):
    by_keyword(*arguments, **named)


class Built:
    def __init__(self, settings, parts=None, *, where):
        raise InputError(where, "sam.size", f"{settings} {parts}")


EVERY = [
    without,
    by_keyword,
    in_order,
    under_another_name,
    by_stars,
    by_two_stars,
    Built,
    functools.partial(by_keyword),
    where_optional(without),
    where_optional(in_order),
]


@pytest.mark.parametrize("function", EVERY)
def test_its_error_names_the_file_that_is_read(function):
    call = where_optional(function)
    with pytest.raises(InputError, match=r"^a\.yaml: sam\.size: s p$"), at("a.yaml"):
        call("s", "p")
    with pytest.raises(InputError, match=r"^b\.yaml: sam\.size: s p$"), at("a.yaml"):
        call("s", "p", where="b.yaml")


@pytest.mark.parametrize("function", EVERY)
def test_it_is_called_where_no_file_is_known(function):
    with pytest.raises(InputError, match=r"^(settings: )?sam\.size: s p$"):
        where_optional(function)("s", "p")


def test_what_is_left_out_is_left_to_it():
    with pytest.raises(InputError, match="s None"):
        where_optional(without)("s")
    with pytest.raises(InputError, match="s p"):
        where_optional(by_keyword)("s", parts="p")
    with pytest.raises(InputError, match="s p"):
        where_optional(without)(settings="s", parts="p")


@pytest.mark.parametrize("function", [without, in_order], ids=lambda f: f.__name__)
@pytest.mark.parametrize("place", ["builder", "design"])
def test_the_registry_calls_both_kinds(monkeypatch, function, place):
    monkeypatch.setattr(variants, "attribute", {"mine:it": function}.__getitem__)
    spec = VariantSpec(**{"name": "mine", "builder": "", "summary": "", place: "mine:it"})
    call = spec.load() if place == "builder" else spec.load_design()
    with pytest.raises(InputError, match=r"^a\.yaml: sam\.size: s p$"), at("a.yaml"):
        call("s", "p")


@pytest.mark.parametrize("takes", [True, False])
def test_the_registry_loads_parts_of_both_kinds(monkeypatch, takes):
    loader = (
        (lambda settings, where: (settings, where)) if takes else (lambda settings: (settings,))
    )
    monkeypatch.setattr(variants, "attribute", {"mine:parts": loader}.__getitem__)
    spec = VariantSpec("mine", "", "", parts="mine:parts")
    with at("a.yaml"):
        assert spec.load_parts("s") == (("s", "a.yaml") if takes else ("s",))
        assert spec.load_parts("s", "b.yaml") == (("s", "b.yaml") if takes else ("s",))
    assert VariantSpec("mine", "", "").load_parts("s") is None


UNKNOWN_SIZE = SimpleNamespace(sam=SimpleNamespace(size="tyni"))


@pytest.mark.parametrize(
    ("function", "given", "key"),
    [
        (build_sca, (UNKNOWN_SIZE, None), "sam.size"),
        (load_frozen_parts, (UNKNOWN_SIZE,), "sam.size"),
        (load_sam_parts, (UNKNOWN_SIZE,), "sam.size"),
        (build_text_mixer, (MixerSettings(num_heads=7), sam_dims("tiny")), "mixer.num_heads"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_callers_of_other_packages_may_go_on_giving_where(function, given, key):
    for call in (
        lambda: function(*given, where="b.yaml"),
        lambda: function(*given, "b.yaml"),
        lambda: function(*given[:-1], **{_last_name(function): given[-1]}, where="b.yaml"),
    ):
        with pytest.raises(InputError, match=rf"^b\.yaml: {key}: "), at("a.yaml"):
            call()
    with pytest.raises(InputError, match=rf"^a\.yaml: {key}: "), at("a.yaml"):
        function(*given)


def _last_name(function):
    return list(inspect.signature(function).parameters)[-1]
