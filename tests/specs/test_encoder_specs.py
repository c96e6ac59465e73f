"""Image encoders by name: this package's, a stranger's, and what is wrong with one."""

import re
import sys

import pytest
import torch
from helpers.own_encoder import MODULE, install, look_again

from sca_bench.errors import InputError
from sca_bench.models.build import load_sam_parts
from sca_bench.settings import CellSettings
from sca_bench.specs.encoders import ENCODERS, IMAGENET, encoder_of, in_sam, of_sam, sam_sizes
from sca_bench.study.keys.cell import CellIdentity, Revisions
from sca_bench.study.suite.merge import validate

SIZES = ["tiny_small", "tiny", "tiny_large", "vit_t", "vit_b", "vit_l", "vit_h"]
SCENES = {"dataset": "scenes", "num_images": 1, "first_seed": 0}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages; `my_encoder` is in it."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    install(tmp_path / "site")
    look_again(monkeypatch)
    yield tmp_path / "site"
    for module in ("my_encoder", "other"):
        sys.modules.pop(module, None)


@pytest.fixture
def replace_module(site, monkeypatch):
    """Return a function that installs another text of the module, or a second package."""

    def write(module=MODULE, points="conv = my_encoder:SPEC", name="my_encoder"):
        sys.modules.pop(name, None)
        install(site, module, points, name)
        look_again(monkeypatch)

    return write


def settings(encoder=None, **sam):
    tree = {"data": {"train": SCENES, "test": SCENES}, "sam": {"size": "tiny", **sam}}
    return CellSettings.model_validate(tree | ({"encoder": encoder} if encoder else {}))


def complaint(encoder=None, **sam):
    tree = {"data": {"train": SCENES, "test": SCENES}, "sam": {"size": "tiny", **sam}}
    with pytest.raises(InputError) as caught:
        validate(tree | ({"encoder": encoder} if encoder else {}), {})
    return str(caught.value)


def test_this_packages_encoders_are_registered_by_two_keys():
    own = ENCODERS.own()
    assert [name for name, spec in own.items() if spec.dims] == SIZES
    assert [name for name, spec in own.items() if not spec.dims] == ["sam", "untrained", "onnx"]
    assert all(spec.is_own and not spec.key_revision for spec in own.values())
    assert all(encoder_of(size, "sam").pixel_stats == IMAGENET for size in SIZES)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"size": "vit_x"}, "sam.size: 'vit_x' is wrong; did you mean vit_t?"),
        ({"size": "sam"}, "sam.size: 'sam' is wrong; belongs to encoder.type; known: "),
        ({"encoder": {"type": "onx"}}, "encoder.type: 'onx' is wrong; did you mean onnx?"),
        ({"encoder": {"type": "vit_b"}}, "encoder.type: 'vit_b' is wrong; belongs to sam.size; "),
        ({"encoder": {"type": "onnx"}}, "encoder: encoder.type: onnx needs encoder.path"),
        ({"encoder": {"path": "x"}}, "encoder.type: sam reads no file; leave encoder.path out"),
        (
            {"encoder": {"type": "sam", "options": {"a": 1}}},
            "encoder.options.a: sam has no settings of its own; ",
        ),
    ],
)
def test_a_wrong_name_is_one_line_with_the_nearest(given, said):
    line = complaint(**given)
    assert said in line
    assert "\n" not in line


def test_a_strangers_encoder_is_listed_and_built(site):
    assert ENCODERS.all()["conv"].summary == "Two convolutions"
    cell = settings({"type": "conv", "options": {"width": 3}}, weights="embedded:sam_tiny")
    sam = load_sam_parts(cell).sam
    assert sam.image_encoder[0].out_channels == 3
    assert not any(p.requires_grad for p in sam.parameters())
    assert sam.encode_images(torch.zeros(2, 3, 96, 96)).shape == (2, 96, 12, 12)
    own = load_sam_parts(settings(weights="embedded:sam_tiny")).sam
    name = "mask_decoder.mask_tokens.weight"
    assert torch.equal(sam.state_dict()[name], own.state_dict()[name])
    again = load_sam_parts(cell).sam.image_encoder[0].weight
    assert torch.equal(sam.image_encoder[0].weight, again)
    other = settings({"type": "conv", "options": {"width": 3}}, random_seed=1)
    assert not torch.equal(load_sam_parts(other).sam.image_encoder[0].weight, again)


def test_its_options_have_defaults_and_suggestions(site):
    assert settings({"type": "conv"}).encoder.options.width == 4
    line = complaint(encoder={"type": "conv", "options": {"widht": 3}})
    said = "conv has no such setting; did you mean encoder.options.width?"
    assert line == f"encoder.options.widht: {said}"
    line = complaint(encoder={"type": "conv", "options": {"width": 0}})
    assert line.startswith("encoder.options.width: 0 is wrong; ")
    line = complaint(encoder={"type": "sam", "options": {"width": 3}})
    assert line.startswith("encoder.options.width: sam has no settings of its own")


def keys(cell, made_with=None):
    return CellIdentity(cell, {}, made_with)


def test_what_it_is_enters_the_keys_of_cells_that_use_it(replace_module):
    plain = settings()
    before, conv = keys(plain), keys(settings({"type": "conv"}))
    wide = keys(settings({"type": "conv", "options": {"width": 8}}))
    named = {k: v for k, v in conv.key_values.items() if k.startswith("encoder.")}
    assert named.pop("encoder.type.revision").startswith("1, pixels (127.5")
    assert named == {"encoder.type": "conv", "encoder.options.width": 4}
    # Kept features of two encoders never mix, nor do those of one with other settings.
    cells = (before, conv, wide)
    for key in ("cell_key", "prefix_key", "training_key", "masks_key"):
        assert len({getattr(cell, key) for cell in cells}) == 3, key
    for family in ("images", "prompts", "mixed", "mask_boxes"):
        assert len({cell.features_key("train", family) for cell in cells}) == 3, family
    replace_module(MODULE.replace('name="conv"', 'name="conv", revision="2"'))
    newer, older = (keys(settings({"type": "conv"}), m) for m in (None, conv.revisions))
    assert newer.cell_key != conv.cell_key == older.cell_key
    assert newer.features_key("train", "images") != conv.features_key("train", "images")
    assert keys(settings()).cell_key == before.cell_key
    replace_module(MODULE.replace("127.5, 127.5), (", "127.5, 120), ("))
    assert keys(settings({"type": "conv"})).cell_key not in (newer.cell_key, conv.cell_key)
    assert before.revisions == Revisions(*before.revisions.__dict__.values())
    assert before.revisions.encoders == {}
    assert conv.revisions.beside_variant["encoder.conv"].startswith("1, pixels ")


def test_it_follows_sam_in_what_it_leaves_open(replace_module):
    replace_module(re.sub(r"    pixels=.*\n", "", MODULE))
    assert encoder_of("tiny", "conv").pixel_stats == IMAGENET
    assert (encoder_of("tiny", "conv").scale, encoder_of("vit_h", "conv").scale) == (
        "small",
        "large",
    )
    assert keys(settings({"type": "conv"})).key_values["encoder.type.revision"] == "1"


def test_a_captioner_that_reads_no_encoder_gets_sams_pixels(site):
    cell = settings({"type": "conv"})
    grit = cell.model_copy(update={"variant": "most_frequent"})
    assert keys(cell).encoder.pixel_stats.mean == (127.5, 127.5, 127.5)
    assert keys(grit).encoder.pixel_stats == IMAGENET
    assert not [key for key in keys(grit).key_values if key.startswith("encoder")]


WHOLE = """
from sca_bench.specs.encoders import EncoderSpec
from sca_bench.specs.sam_dims import SamDims

SPEC = EncoderSpec(
    "conv_sam", "A SAM of its own", "my_encoder:build",
    SamDims(image_size=32, patch_size=8, embed_dim=32, decoder_mlp_dim=32, iou_head_hidden_dim=32),
)

def build(settings, dims):
    from torch import nn
    return nn.Conv2d(3, dims.embed_dim, dims.patch_size, dims.patch_size)
"""


def test_a_stranger_may_bring_a_whole_sam(replace_module):
    replace_module(WHOLE)
    assert [*sam_sizes()] == [*SIZES, "conv_sam"]
    sam = load_sam_parts(settings(size="conv_sam")).sam
    assert sam.encode_images(torch.zeros(1, 3, 32, 32)).shape == (1, 32, 4, 4)
    untrained = load_sam_parts(settings({"type": "untrained"}, size="conv_sam")).sam
    assert torch.equal(untrained.image_encoder.weight, sam.image_encoder.weight)
    values = keys(settings(size="conv_sam")).key_values
    assert values["sam.size.revision"] == "1"
    assert complaint(encoder={"type": "conv_sam"}).startswith(
        "encoder.type: 'conv_sam' is wrong; belongs to sam.size"
    )


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("dims.embed_dim, 1)", "7, 1)", "conv yields (1, 7, 12, 12) for an image of 96 px, exp"),
        ("    return nn.Sequential(", "    raise OSError('no disk')\n    (", "OSError: no disk"),
        ("    return nn.Sequential(", "    return list(", "conv cannot be built (TypeError: "),
        ("my_encoder:build", "my_encoder:nope", "conv cannot be built (AttributeError: "),
        ("nn.GELU()", "nn.Linear(2, 2)", "conv cannot be built (RuntimeError: "),
    ],
)
def test_a_wrong_encoder_is_one_line_when_it_is_built(replace_module, before, after, said):
    assert before in MODULE
    replace_module(MODULE.replace(before, after))
    with pytest.raises(InputError) as caught:
        load_sam_parts(settings({"type": "conv"}))
    line = str(caught.value)
    assert line.startswith("encoder.type: ")
    assert said in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ('name="conv"', "name=7", "names its encoder 7, expected a text"),
        ('build="my_encoder:build"', 'build="here"', "has build 'here', expected 'module:attrib"),
        ('build="my_encoder:build"', 'build=""', "has no build, expected 'module:attribute' of"),
        ('name="conv"', 'name="conv", scale="huge"', "has scale 'huge', expected one of small, "),
        ('name="conv"', 'name="conv", path="yes"', "has path 'yes', expected one of none, opti"),
        ('name="conv"', 'name="conv", dims=3', "comes with a whole SAM (`dims`), which has nei"),
        ("PixelStats((127.5, 127.5, 127.5), (127.5, 127.5, 127.5))", "(1, 2)", "has pixels (1, 2)"),
        ("(127.5, 127.5, 127.5))", "(127.5, 127.5, 0))", "expected PixelStats of three numbers"),
        ("def build", "1 / 0\ndef build", "cannot be loaded (ZeroDivisionError"),
    ],
)
def test_a_spec_that_cannot_be_used_is_listed_with_its_fault(replace_module, before, after, fault):
    assert before in MODULE
    replace_module(MODULE.replace(before, after))
    spec = ENCODERS.all()["conv"]
    assert spec.fault.startswith("the entry point conv = my_encoder:SPEC ")
    assert fault in spec.fault
    line = complaint(encoder={"type": "conv"})
    assert line.startswith("encoder.type: 'conv' is wrong; cannot be used: the entry point conv")
    with pytest.raises(InputError) as caught:
        in_sam("convv")
    assert "did you mean conv?" not in str(caught.value)
    assert settings().encoder.type == "sam"  # it hurts nobody else


def test_options_that_cannot_be_loaded_are_one_line(replace_module):
    replace_module(MODULE.replace("my_encoder:Options", "my_encoder:Gone"))
    line = complaint(encoder={"type": "conv"})
    assert line.startswith("encoder.type: 'conv' cannot be used: its options my_encoder:Gone can")
    assert "\n" not in line
    assert "known" in complaint(size="sam")  # it hurts nobody else


def test_a_name_of_our_own_stays_ours(replace_module):
    replace_module(MODULE.replace('name="conv"', 'name="onnx"'), "onnx = my_encoder:SPEC")
    assert ENCODERS.all()["onnx"].is_own
    assert "one of sca_bench's own" in ENCODERS.all()["onnx (my_encoder:SPEC)"].fault


def test_a_name_that_two_packages_have_is_neithers(replace_module):
    replace_module(MODULE.replace("my_encoder:", "other:"), "conv = other:SPEC", "other")
    assert "registered twice" in complaint(encoder={"type": "conv"})


def test_a_path_belongs_to_an_encoder_that_reads_one(replace_module):
    assert "conv reads no file" in complaint(encoder={"type": "conv", "path": "x"})
    replace_module(MODULE.replace('name="conv"', 'name="conv", path="required"'))
    assert "conv needs encoder.path" in complaint(encoder={"type": "conv"})
    replace_module(MODULE.replace('name="conv"', 'name="conv", path="optional"'))
    assert settings({"type": "conv", "path": "x"}).encoder.path == "x"
    assert of_sam("tiny").path == "none"
