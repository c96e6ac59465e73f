"""Settings that variants and designs of other packages bring: from a suite's YAML to the key."""

import json
import re
import subprocess
import sys

import pytest
import yaml
from helpers import own_options
from helpers.own_options import CAPTIONER, DESIGN, write_package

from sca_bench.cli import main
from sca_bench.errors import InputError
from sca_bench.settings import CellSettings
from sca_bench.settings.options import NoOptions
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.study.keys.fingerprint import Fingerprints
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.revisions import age_of
from sca_bench.study.suite.suite import load_suite
from sca_bench.study.suite.sweep import load_sweep
from sca_bench.variants import VARIANTS, get_variant

SPLIT = {"dataset": "scenes", "num_images": 2, "first_seed": 0}
DATA = {"train": SPLIT, "test": SPLIT}
SUITE = {
    "suite": "own",
    "question": "How wide?",
    "base": {"variant": "wide"},
    "axes": {"options.width": [4, 8]},
    "metrics": ["exact_match"],
}


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("COLUMNS", "300")
    yield tmp_path / "site"
    own_options.forget("wide", "first_tokens", "broken")


@pytest.fixture
def installed(site, monkeypatch):
    write_package(site, "wide", "variants", CAPTIONER)
    write_package(site, "first_tokens", "designs", DESIGN)
    own_options.look_again(monkeypatch)


@pytest.fixture
def suite(tmp_path):
    def write(**changes):
        path = tmp_path / "own.yaml"
        path.write_text(yaml.safe_dump({**SUITE, **changes}, sort_keys=False))
        return path

    return write


def settings_of(variant="wide", **options):
    return CellSettings.model_validate({"variant": variant, "options": options, "data": DATA})


def key_values(settings):
    return CellIdentity(settings, Fingerprints().inputs(settings)).key_values


def fault(path, **more):
    with pytest.raises(InputError) as caught:
        load_suite(path, **more)
    assert "\n" not in str(caught.value)
    return re.sub(r" \(line \d+\)$", "", str(caught.value).removeprefix(f"{path}: "))


def test_an_instance_of_the_class_stands_in_the_settings(installed):
    options = settings_of(width=8).options
    assert (type(options).__name__, options.width, options.depth) == ("Wide", 8, 1)
    assert settings_of().options == type(options)()
    plain = settings_of(width=8).model_dump(mode="json")
    assert plain["options"]["width"] == 8
    assert CellSettings.model_validate(json.loads(json.dumps(plain))) == settings_of(width=8)
    assert settings_of("sca").options == NoOptions()


def test_the_key_holds_every_result_setting_at_its_default_too(installed, tmp_path):
    held = {k: v for k, v in key_values(settings_of()).items() if k.startswith("options")}
    assert held == {"options.width": 4, "options.depth": 1, "options.rate": 0.5}
    assert not [k for k in key_values(settings_of("sca")) if k.startswith("options")]
    (tmp_path / "words").write_text("red")
    first = key_values(settings_of(words=str(tmp_path / "words")))
    (tmp_path / "words").write_text("blue")
    second = key_values(settings_of(words=str(tmp_path / "words")))
    assert first["options.words"] != second["options.words"]
    assert key_values(settings_of(say_so=True)) == key_values(settings_of())


def test_training_and_groups_follow(installed):
    def of(variant, **options):
        settings = settings_of(variant, **options)
        return CellIdentity(settings, Fingerprints().inputs(settings))

    wide, wider = of("wide"), of("wide", width=8)
    assert wide.training_key != wider.training_key
    assert wide.prefix_key != wider.prefix_key  # what its frozen part reads is its own affair
    few, many = of("first_tokens"), of("first_tokens", count=8)
    assert few.training_key != many.training_key
    assert few.prefix_key == many.prefix_key == of("sca").prefix_key  # one assembly, SAM's features


@pytest.mark.parametrize(("reads", "joins"), [((), False), (("options.depth",), True)])
def test_frozen_reads_says_which_of_them_a_group_shares(site, monkeypatch, reads, joins):
    spec = f'options="wide:Wide", reads=("train",), frozen_reads={reads})'
    write_package(site, "wide", "variants", CAPTIONER.replace('options="wide:Wide")', spec))
    own_options.look_again(monkeypatch)
    cells = [CellIdentity(settings_of(width=width), {}) for width in (4, 8)]
    assert "options.width" in cells[0].key_values  # although `reads` does not name it
    assert (cells[0].prefix_key == cells[1].prefix_key) == joins


def test_ignores_takes_them_out(site, monkeypatch):
    spec = 'options="wide:Wide", ignores=("options.rate",))'
    write_package(site, "wide", "variants", CAPTIONER.replace('options="wide:Wide")', spec))
    own_options.look_again(monkeypatch)
    assert key_values(settings_of(rate=1.0)) == key_values(settings_of())


def test_a_suite_has_them_wherever_a_setting_may_stand(installed, suite):
    path = suite(
        axes={"options.width": [4, 8], "mixer.num_layers": [1]},
        adjust=[
            {"when": {"options.width": 8}, "set": {"options.rate": 0.25}},
            {"when": {"options.depth": 1}, "set": {"train.steps": 7}},  # its default
        ],
        cells=[{"name": "deep", "set": {"options.depth": 3}}],
        claims=[{"id": "wider", "says": "exact_match(width=8) > exact_match(width=4)"}],
        reference="width=8",
        stages={"first": {"data": {"train": SPLIT}, "train": {"steps": 1}}},
        profiles={"tiny": {"base": {"pretraining": "first"}}},
    )
    loaded = load_suite(path, overrides=["options.say_so=true"])
    four, eight, deep = (cell.settings for cell in loaded.cells)
    assert (four.options.rate, eight.options.rate) == (0.5, 0.25)
    assert four.train.steps == 7 != deep.train.steps
    assert deep.options.depth == 3
    assert four.options.say_so
    assert loaded.reference == loaded.cells[1].name


def test_a_typo_is_answered_with_the_nearest_name(installed, suite):
    wrong = suite(axes={"options.widht": [1, 2]})
    assert fault(wrong) == "axes.options.widht: unknown setting; did you mean options.width?"
    wrong = suite(base={"variant": "wide", "options": {"widht": 3}})
    expected = "base.options.widht: wide has no such setting; did you mean options.width?"
    assert fault(wrong) == expected
    assert "options.width: 'a' is wrong" in fault(suite(axes={"options.width": ["a", 3]}))
    assert "0 is wrong; expected 1 or more" in fault(suite(axes={"options.width": [0, 3]}))
    with pytest.raises(InputError, match=r"^--set: options.width: 0 is wrong"):
        load_suite(suite(axes={}), overrides=["options.width=0"])


def test_other_variants_refuse_them(installed, suite):
    none = "sca has no settings of its own; it is one of wide, first_tokens"
    given = suite(base={"variant": "sca", "options": {"width": 8}}, axes={})
    assert fault(given) == f"base.options.width: {none}"
    assert fault(suite(base={"variant": "sca"})).endswith(f": options.width: {none}")
    given = suite(base={"variant": "first_tokens", "options": {"depth": 8}}, axes={})
    assert fault(given) == "base.options.depth: first_tokens has no such setting; it is one of wide"
    with pytest.raises(InputError, match=r"--set: options.width: sca has no settings of its own"):
        load_suite(suite(base={}, axes={}), overrides=["options.width=8"])


def test_another_variant_drops_the_options_of_the_one_below(installed, suite):
    base = {"variant": "wide", "options": {"width": 8}}
    loaded = load_suite(suite(base=base, axes={"variant": ["sca", "wide", "first_tokens"]}))
    sca, wide, first = (cell.settings for cell in loaded.cells)
    assert (sca.options, wide.options.width) == (NoOptions(), 8)
    assert (first.options.count, first.options.width) == (5, "all")
    loaded = load_suite(suite(base=base, axes={}), overrides=["variant=sca"])
    assert loaded.cells[0].settings.options == NoOptions()


def test_within_one_layer_the_variant_comes_first(installed, suite):
    cells = [{"name": "a", "set": {"options.width": 9, "variant": "wide"}}]
    loaded = load_suite(suite(base={"variant": "sca"}, axes={}, cells=cells))
    assert loaded.cells[0].settings.options.width == 9
    axes = {"options.width": [2, 3], "variant": ["wide"]}
    loaded = load_suite(suite(base={"variant": "sca"}, axes=axes))
    assert [cell.settings.options.width for cell in loaded.cells] == [2, 3]
    flags = ["options.width=5", "variant=wide"]
    loaded = load_suite(suite(base={"variant": "sca"}, axes={}), overrides=flags)
    assert loaded.cells[0].settings.options.width == 5


def test_an_axis_that_a_variant_lacks_cannot_be_lost(installed, suite):
    axes = {"options.width": [2, 3]}
    rules = [{"when": {"options.width": 3}, "set": {"variant": "sca"}}]
    said = fault(suite(axes=axes, adjust=rules))
    assert said.startswith("adjust.0.set: changes options.width, which axes.options.width states")


def test_a_sweep_searches_them(installed, tmp_path):
    def sweep(space, **base):
        path = tmp_path / "search.yaml"
        objectives = [{"metric": "exact_match", "direction": "maximize"}]
        content = {"sweep": "search", "question": "?", "base": base, "space": space}
        path.write_text(yaml.safe_dump({**content, "objectives": objectives, "trials": 2}))
        return load_sweep(path)

    space = {"options.width": {"low": 2, "high": 8}, "options.rate": {"low": 0.1, "high": 1.0}}
    found = sweep(space, variant="wide")
    assert {axis.key: axis.kind for axis in found.axes} == {
        "options.width": "int",
        "options.rate": "float",
    }
    cell = found.cell(0, {"options.width": 3, "options.rate": 0.5}, "val")
    assert cell.settings.options.width == 3
    with pytest.raises(InputError, match=r"space.options.width: is no number"):
        sweep({"options.width": {"low": 2, "high": 8}}, variant="first_tokens")
    both = {
        "variant": {"choices": ["wide", "first_tokens"]},
        "options.width": {"low": 2, "high": 8},
    }
    with pytest.raises(InputError, match=r"of several variants.*; name the variant in base"):
        sweep(both)
    with pytest.raises(InputError, match=r"space.options.depth: first_tokens has no such setting"):
        sweep({"options.depth": {"low": 1, "high": 2}}, variant="first_tokens")


def test_a_design_of_others_is_a_variant_in_one_assembly(installed, capsys):
    spec = get_variant("first_tokens")
    assert (spec.design, spec.published_loss, spec.is_own) == ("first_tokens:design", True, False)
    assert main(["list", "variants"]) == 0
    assert "Text queries that see the first tokens of SAM only" in capsys.readouterr().out
    assert main(["describe", "options.width"]) == 0
    assert "options.width" in capsys.readouterr().out


BROKEN = {
    "module_gone": (
        "nowhere:Options",
        "cannot be loaded (ModuleNotFoundError: No module named 'nowhere')",
    ),
    "attribute_gone": ("broken:Gone", "cannot be loaded (AttributeError: "),
    "no_settings": ("broken:SPEC", "expected a subclass of sca_bench.settings.Settings"),
    "a_model": ("pydantic:BaseModel", "expected a subclass of sca_bench.settings.Settings"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_options_that_cannot_be_used_hurt_who_uses_them(site, monkeypatch, suite, case, capsys):
    address, expected = BROKEN[case]
    code = f'VariantSpec("broken", "broken:build", "Mine", options="{address}")'
    code = f"from sca_bench.variants import VariantSpec\nSPEC = {code}\n"
    write_package(site, "broken", "variants", code)
    own_options.look_again(monkeypatch)
    assert len(load_suite(suite(base={}, axes={"mixer.num_layers": [1, 2]})).cells) == 2
    assert fault(suite(base={}, axes={"mixr.num_layers": [1, 2]})).endswith("mixer.num_layers?")
    for base in ({"variant": "broken"}, {"variant": "broken", "options": {"width": 3}}):
        said = fault(suite(base=base, axes={}))
        assert said.startswith(f"variant: 'broken' cannot be used: its options {address} ")
        assert expected in said
    assert main(["list", "variants"]) == 0
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize(
    "wrong",
    [
        {"axes": {"options.width": [4, 8]}},
        {"adjust": [{"when": {"mixer.num_layers": 1}, "set": {"options.inner.gain": 2}}]},
    ],
)
def test_options_that_cannot_be_loaded_are_the_fault_of_a_suite_that_sets_them(
    site, monkeypatch, suite, wrong
):
    write_package(site, "wide", "variants", CAPTIONER.replace('"wide:Wide"', '"wide:Narrow"'))
    own_options.look_again(monkeypatch)
    said = fault(suite(**{"axes": {"mixer.num_layers": [1]}, **wrong}))
    assert said.startswith("variant: 'wide' cannot be used: its options wide:Narrow cannot be load")


@pytest.mark.parametrize(
    ("base", "said"),
    [
        (
            {"encoder": {"type": "gone", "options": {"rate": 1}}},
            "encoder.type: 'gone' is not registered; ",
        ),
        (
            {"data": {"train": {"dataset": "gone", "heap": "a.tsv"}}},
            "data.train.dataset: 'gone' is not registered; ",
        ),
    ],
)
def test_what_is_gone_is_the_fault_rather_than_its_settings(suite, base, said):
    found = fault(suite(base={"variant": "sca", **base}, axes={"mixer.num_layers": [1]}))
    assert found.startswith(said), found


def test_an_axis_of_an_encoder_that_is_gone_says_so(suite):
    base = {"variant": "sca", "encoder": {"type": "gone"}}
    claims = [{"id": "more", "says": "exact_match(rate=2) > exact_match(rate=1)"}]
    found = fault(suite(base=base, axes={"encoder.options.rate": [1, 2]}, claims=claims))
    assert found.startswith("encoder.type: 'gone' is not registered; "), found


def test_what_is_gone_is_said_of_a_run_in_one_line(tmp_path):
    for path, name in (("encoder.type", "gone"), ("data.test.dataset", "gone")):
        settings = settings_of("sca").model_dump(mode="json")
        *parents, last = path.split(".")
        node = settings
        for part in parents:
            node = node[part]
        node[last] = name
        with pytest.raises(InputError) as caught:
            CellIdentity.stored(settings, {})
        line = f"settings.{path}: 'gone' is not registered; install the package that brings it"
        assert str(caught.value) == line


def test_a_default_is_said_with_whose_it_is(installed, capsys):
    assert main(["describe", "options.width"]) == 0
    assert "4 with wide, all with first_tokens" in capsys.readouterr().out
    assert main(["describe", "options.count"]) == 0
    assert re.search(r"default: +5\n", capsys.readouterr().out)


def test_an_address_that_is_none_is_a_fault_of_the_spec(site, monkeypatch):
    code = 'from sca_bench.specs.designs import DesignSpec\nSPEC = DesignSpec("broken", "", "a:b"'
    write_package(site, "broken", "designs", f'{code}, options="no address")\n')
    own_options.look_again(monkeypatch)
    with pytest.raises(InputError, match="has options 'no address', expected 'module:attribute'"):
        get_variant("broken")


def test_a_design_takes_no_name_that_is_taken(site, monkeypatch):
    code = "from sca_bench.specs.designs import DesignSpec\nSPEC = DesignSpec({}, 'Mine', 'a:b')\n"
    write_package(site, "broken", "designs", code.format("'most_frequent'"))
    write_package(site, "first_tokens", "designs", code.format("'wide'"))
    write_package(site, "wide", "variants", CAPTIONER)
    own_options.look_again(monkeypatch)
    assert get_variant("most_frequent").trains == "once"
    with pytest.raises(InputError, match="registered twice, as a variant and as a design"):
        get_variant("wide")


def test_a_run_whose_package_is_gone_is_still_read(installed, monkeypatch):
    cell = CellIdentity(settings_of(width=8), {})
    record = RunRecord(
        cell_id=cell.cell_key,
        seed=0,
        status="done",
        settings=cell.settings.model_dump(mode="json"),
        inputs={},
        variant="wide",
        revision="1",
        revisions=cell.revisions.beside_variant,
    )
    assert not age_of(record)
    monkeypatch.setattr(VARIANTS, "find", lambda group: [])
    settings = CellSettings.model_validate(record.settings)
    assert settings.model_dump(mode="json")["options"]["width"] == 8  # kept as it was
    assert not age_of(record)
    with pytest.raises(InputError, match="'wide' is not registered"):
        get_variant("wide")


def test_a_suite_of_a_package_that_is_gone_says_so(suite):
    claims = [{"id": "wider", "says": "exact_match(width=8) > exact_match(width=4)"}]
    for more in ({}, {"base": {"variant": "wide", "options": {"width": 3}}}, {"claims": claims}):
        said = fault(suite(**more))
        assert said.startswith("variant: 'wide' is not registered; "), said


def test_designs_are_listed_without_torch():
    code = (
        "import sys; from sca_bench.variants import all_variants; all_variants();"
        "import sca_bench.models.designs; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
