"""Files that a file names and that are read with it are part of its content."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sca_bench.errors import InputError
from sca_bench.formats.onnx_files import external_data
from sca_bench.models.sam.weights import read_directory
from sca_bench.models.score_models import weights_digest
from sca_bench.settings import CellSettings
from sca_bench.study.keys.fingerprint import Fingerprints

SCENES = {"dataset": "scenes", "num_images": 3, "first_seed": 0}


def digest(key, value):
    section, name = key.split(".")
    given = {name: str(value), **({"type": "onnx"} if section == "encoder" else {})}
    cell = {"data": {"train": SCENES, "test": {**SCENES, "first_seed": 9}}, section: given}
    return Fingerprints().inputs(CellSettings.model_validate(cell))[key]


def tensor(name, location="", value=0.0):
    """A tensor whose numbers lie in the file, or in another one."""
    made = numpy_helper.from_array(np.full((4,), value, np.float32), name)
    if location:
        made.ClearField("raw_data")
        made.data_location = TensorProto.EXTERNAL
        made.external_data.add(key="offset", value="0")
        made.external_data.add(key="location", value=location)
    return made


def initialiser(one):
    return helper.make_model(helper.make_graph([], "g", [], [], [one]))


def constant(one):
    return helper.make_model(
        helper.make_graph([helper.make_node("Constant", [], ["c"], value=one)], "g", [], [])
    )


def branch(one):
    inner = helper.make_graph([helper.make_node("Constant", [], ["c"], value=one)], "b", [], [])
    node = helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    return helper.make_model(helper.make_graph([node], "g", [], []))


def function(one):
    node = helper.make_node("Constant", [], ["c"], value=one)
    made = helper.make_function("own", "F", [], ["c"], [node], [helper.make_opsetid("", 13)])
    return helper.make_model(helper.make_graph([], "g", [], []), functions=[made])


def sparse(one):
    made = helper.make_sparse_tensor(tensor("i", value=1.0), tensor("j"), [4])
    made.values.CopyFrom(one)
    return helper.make_model(helper.make_graph([], "g", [], [], sparse_initializer=[made]))


PLACES = [initialiser, constant, branch, function, sparse]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_external_tensors_of_an_onnx_model_are_part_of_its_content(place, tmp_path):
    model = tmp_path / "encoder.onnx"
    model.write_bytes(place(tensor("w", "weights/enc.data")).SerializeToString())
    assert onnx.load(model, load_external_data=False).ir_version
    (tmp_path / "weights").mkdir()
    found = []
    for content in (b"one", b"two", b"one"):
        (tmp_path / "weights" / "enc.data").write_bytes(content)
        found.append(digest("encoder.path", model))
    assert found[0] == found[2] != found[1]
    (tmp_path / "weights" / "enc.data").unlink()
    (tmp_path / "weights" / "enc.data").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_bytes(b"two")
    assert digest("encoder.path", model) == found[1]


@pytest.mark.parametrize(
    ("key", "name", "counts"),
    [
        ("encoder.path", "encoder.bin", True),
        ("sam.weights", "sam.onnx", True),
        ("sam.weights", "sam.bin", False),
    ],
)
def test_a_file_is_an_onnx_model_by_its_ending_or_where_one_belongs(key, name, counts, tmp_path):
    (tmp_path / name).write_bytes(initialiser(tensor("w", "enc.data")).SerializeToString())
    found = set()
    for content in (b"one", b"two"):
        (tmp_path / "enc.data").write_bytes(content)
        found.add(digest(key, tmp_path / name))
    assert len(found) == 1 + counts


def test_a_model_that_names_no_file_keeps_its_digest(tmp_path):
    model = tmp_path / "encoder.onnx"
    model.write_bytes(initialiser(tensor("w")).SerializeToString())
    alone = digest("encoder.path", model)
    assert len(alone) == 64
    (tmp_path / "enc.data").write_bytes(b"beside it, and not named")
    assert digest("encoder.path", model) == alone


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../enc.data", "a/../../enc.data", "C:\\x", ""]
)
def test_a_model_that_names_a_file_outside_its_folder_is_refused(location, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "enc.data").write_bytes(b"x")
    model = tmp_path / "m" / "encoder.onnx"
    one = tensor("w", "x")
    one.external_data[1].value = location
    model.write_bytes(initialiser(one).SerializeToString())
    with pytest.raises(InputError, match=r"encoder\.onnx: .*is not the name of a file inside"):
        digest("encoder.path", model)


def test_an_external_file_that_is_not_there_is_named(tmp_path):
    model = tmp_path / "encoder.onnx"
    model.write_bytes(initialiser(tensor("w", "enc.data")).SerializeToString())
    with pytest.raises(InputError, match=r"encoder\.onnx: .*names 'enc\.data', which is not there"):
        digest("encoder.path", model)


def test_a_place_that_is_not_read_may_be_empty(tmp_path):
    model = tmp_path / "encoder.onnx"
    one = tensor("w", "enc.data")
    one.data_location = TensorProto.DEFAULT
    model.write_bytes(initialiser(one).SerializeToString())
    assert external_data(model) == {}


def test_what_is_no_model_names_nothing(tmp_path):
    model = tmp_path / "encoder.onnx"
    whole = constant(tensor("w", "enc.data")).SerializeToString()
    (tmp_path / "enc.data").write_bytes(b"x")
    for content in (b"", b"no model at all", b"\xff" * 50, b":\x05" * 3000):
        model.write_bytes(content)
        assert external_data(model) == {}
    for length in range(1, len(whole)):
        model.write_bytes(whole[:length])  # nothing but an answer
        external_data(model)


@pytest.fixture
def sharded(tmp_path):
    """A folder of weights in two shards."""
    folder = tmp_path / "model"
    folder.mkdir()
    shards = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    for name in shards.values():
        (folder / name).write_bytes(b"1")
    return folder


WEIGHTS = ["sam.weights", "text_decoder.weights", "baseline.weights"]


@pytest.mark.parametrize("key", WEIGHTS)
def test_every_shard_is_part_of_the_content(key, sharded):
    before = digest(key, sharded)
    (sharded / "model-2.safetensors").write_bytes(b"2")
    changed = digest(key, sharded)
    (sharded / "tokenizer.json").write_text("{}")
    assert len({before, changed, digest(key, sharded)}) == 3


@pytest.mark.parametrize("key", WEIGHTS)
@pytest.mark.parametrize("name", ["../model-1.safetensors", "/m.safetensors", ".m/1.bin"])
def test_a_shard_that_is_not_in_the_folder_is_refused(key, name, sharded):
    index = sharded / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": name}}))
    with pytest.raises(
        InputError, match=r"index\.json: weight_map: .* (inside its folder|is hidden)"
    ):
        digest(key, sharded)


def test_the_model_of_a_metric_counts_with_all_its_shards(sharded):
    index = sharded / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "below/1.safetensors"}}))
    (sharded / "below").mkdir()
    found = []
    for content in (b"1", b"2"):
        (sharded / "below" / "1.safetensors").write_bytes(content)
        found.append(weights_digest(sharded))
    assert found[0] != found[1]
    index.write_text(json.dumps({"weight_map": {"a": "../1.safetensors"}}))
    for read in (weights_digest, lambda folder: read_directory(folder, "sam.weights")):
        with pytest.raises(InputError, match=r"index\.json: weight_map: .* inside its folder"):
            read(sharded)


def test_weights_that_belong_on_top_of_others_are_refused(sharded):
    (sharded / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    with pytest.raises(InputError, match=r"adapter_config\.json: .*merge the adapter"):
        digest("text_decoder.weights", sharded)
