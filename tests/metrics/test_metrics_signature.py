import dataclasses
import json

import pytest

from sca_bench.errors import InputError
from sca_bench.metrics.registry import METRICS, get_metric, spec_of_value
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.signature import Signature, comparable, region_set_hash

ROWS = [CaptionRow("1", "1", "a", ("x",)), CaptionRow("2", "1", "b", ("y", "z"))]


@pytest.fixture
def signature():
    return get_metric("cider_d").sign("cider_d", ROWS)


def test_fields(signature):
    assert (signature.references_min, signature.references_max, signature.num_regions) == (1, 2, 2)
    assert signature.version == "1.2"
    assert signature.region_set == region_set_hash(ROWS)
    short = signature.short()
    assert short.startswith("cider_d|pycocoevalcap Cider (CIDEr-D, n=1-4, sigma=6) 1.2|tok:PTB")
    assert short.endswith(f"|refs:1-2|regions:2|set:{signature.region_set[:12]}|lang:en")


def test_round_trip(signature):
    assert Signature(**json.loads(json.dumps(signature.to_dict()))) == signature


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Signature)])
def test_every_field_counts(signature, field):
    other = dataclasses.replace(signature, **{field: "other"})
    assert comparable(signature, other) == [field]
    assert comparable(signature, other.to_dict()) == [field]


def test_equal_signatures_compare(signature):
    assert comparable(signature, signature.to_dict()) == []


def test_a_field_of_another_release_differs(signature):
    older = signature.to_dict()
    del older["language"]
    assert comparable(older, signature) == ["language"]
    assert comparable(signature, signature.to_dict() | {"protocol": "P-5k"}) == ["protocol"]


def test_region_set_hash():
    assert region_set_hash(ROWS) == region_set_hash(ROWS[::-1])
    said = [dataclasses.replace(row, caption="c", image_id="9") for row in ROWS]
    assert region_set_hash(said) == region_set_hash(ROWS), "captions are no part of the set"
    for change in ({"references": ("xx",)}, {"region_id": "3"}, {"references": ("x", "y")}):
        changed = [dataclasses.replace(ROWS[0], **change), ROWS[1]]
        assert region_set_hash(changed) != region_set_hash(ROWS)
    joined = [CaptionRow("1", "1", "", ("a", "b")), CaptionRow("1", "1", "", ('a", "b',))]
    assert region_set_hash(joined[:1]) != region_set_hash(joined[1:])


def test_registry():
    assert all(name == spec.name for name, spec in METRICS.own().items())
    assert get_metric("exact_match_without_person").family == "exact_match"
    with pytest.raises(InputError, match=r"metrics: 'cider' is unknown; did you mean"):
        get_metric("cider")
    with pytest.raises(InputError, match="'exact_match_without_' is unknown"):
        get_metric("exact_match_without_")
    assert spec_of_value("slot_by_objects/2/neighbour") is METRICS.own()["slots"]
    assert spec_of_value("bleu_2") is METRICS.own()["bleu_2"]
    assert spec_of_value("exact_match_without_red_car") is METRICS.own()["exact_match"]
    assert spec_of_value("nothing") is None
