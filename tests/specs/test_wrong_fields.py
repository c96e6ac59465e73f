"""A stranger's spec whose fields have wrong types is listed with its fault, in every registry."""

import dataclasses

import pytest

from sca_bench.metrics.registry import METRICS
from sca_bench.report.figures.registry import PLOTS
from sca_bench.specs.designs import DESIGNS
from sca_bench.specs.encoders import ENCODERS
from sca_bench.specs.readers import READERS
from sca_bench.variants import VARIANTS

CASES = [
    (registry, field.name)
    for registry in (VARIANTS, DESIGNS, METRICS, READERS, ENCODERS, PLOTS)
    for field in dataclasses.fields(next(iter(registry.own().values())))
    if field.name in ("name", "builder", "design", "compute", "read", "class_of", "build", "draw")
    or field.name in ("facts", "options", "settings", "trains", "path", "scale", "order")
]


@pytest.mark.parametrize(
    ("registry", "field"), CASES, ids=[f"{r.group}-{field}" for r, field in CASES]
)
@pytest.mark.parametrize("value", [7, ["a:b"], {"a": 1}], ids=["number", "list", "mapping"])
def test_a_field_of_a_wrong_type_is_a_fault(registry, field, value, monkeypatch):
    spec = next(iter(registry.own().values()))
    if field != "name":
        spec = dataclasses.replace(spec, name="strange")
    spec = dataclasses.replace(spec, **{field: value})

    class Point:
        name, value = "strange", "my_package:SPEC"

        def load(self):
            return spec

    before = set(registry.all())
    monkeypatch.setattr(registry, "find", lambda group: [Point()])
    (new,) = set(registry.all()) - before or {None}
    if (field, value) == ("order", 7):
        assert not registry.all()[new].fault
        return
    assert registry.all()[new].fault
