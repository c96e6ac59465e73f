"""Files that an ONNX model names, wherever in it a tensor stands."""

import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper

from sca_bench.errors import InputError
from sca_bench.formats.onnx_files import external_data

FIELD = AttributeProto


def tensor(location, is_read=True):
    made = TensorProto(name=location, data_type=TensorProto.FLOAT, dims=[2])
    made.external_data.add(key="offset", value="0")
    made.external_data.add(key="location", value=location)
    if is_read:
        made.data_location = TensorProto.EXTERNAL
    return made


def node(**fields):
    made = helper.make_node("Constant", [], ["y"])
    made.attribute.add(name="a", type=fields.pop("type"), **fields)
    return made


def graph(nodes=(), tensors=(), sparse=()):
    return helper.make_graph(
        list(nodes), "g", [], [], list(tensors), sparse_initializer=list(sparse)
    )


def sparse(values="values", indices="indices"):
    return onnx.SparseTensorProto(values=tensor(values), indices=tensor(indices), dims=[2])


def model(main, **more):
    return onnx.ModelProto(ir_version=8, graph=main, **more)


INNER = graph(tensors=[tensor("inner")])
PLACES = {
    "initializers": (model(graph(tensors=[tensor("one"), tensor("two")])), ["one", "two"]),
    "sparse initializers": (model(graph(sparse=[sparse()])), ["indices", "values"]),
    "a tensor of a node": (model(graph([node(type=FIELD.TENSOR, t=tensor("t"))])), ["t"]),
    "tensors of a node": (
        model(graph([node(type=FIELD.TENSORS, tensors=[tensor("t"), tensor("u")])])),
        ["t", "u"],
    ),
    "a graph of a node": (model(graph([node(type=FIELD.GRAPH, g=INNER)])), ["inner"]),
    "graphs of a node": (model(graph([node(type=FIELD.GRAPHS, graphs=[INNER])])), ["inner"]),
    "a sparse tensor": (
        model(graph([node(type=FIELD.SPARSE_TENSOR, sparse_tensor=sparse("s", "i"))])),
        ["i", "s"],
    ),
    "sparse tensors": (
        model(graph([node(type=FIELD.SPARSE_TENSORS, sparse_tensors=[sparse("s", "i")])])),
        ["i", "s"],
    ),
    "a function": (
        model(
            graph(),
            functions=[
                onnx.FunctionProto(
                    name="f",
                    node=[node(type=FIELD.TENSOR, t=tensor("t"))],
                    attribute_proto=[AttributeProto(name="b", type=FIELD.TENSOR, t=tensor("d"))],
                )
            ],
        ),
        ["d", "t"],
    ),
    "training": (
        model(
            graph(),
            training_info=[
                onnx.TrainingInfoProto(
                    initialization=INNER, algorithm=graph(tensors=[tensor("step")])
                )
            ],
        ),
        ["inner", "step"],
    ),
    "two levels down": (
        model(graph([node(type=FIELD.GRAPH, g=graph([node(type=FIELD.GRAPH, g=INNER)]))])),
        ["inner"],
    ),
    "nowhere": (model(graph()), []),
}


@pytest.fixture
def saved(tmp_path):
    def save(content, *files):
        for name in files:
            (tmp_path / name).write_bytes(b"\0" * 8)
        path = tmp_path / "model.onnx"
        data = content if isinstance(content, bytes) else content.SerializeToString()
        path.write_bytes(data)
        return path

    return save


@pytest.mark.parametrize("place", PLACES)
def test_every_tensor_s_file_is_found(saved, place):
    made, names = PLACES[place]
    path = saved(made, *names)
    assert external_data(path) == {name: path.parent / name for name in names}
    for name in names:
        (path.parent / name).unlink()
        with pytest.raises(InputError, match=f"names '{name}', which is not there; put it beside"):
            external_data(path)
        (path.parent / name).write_bytes(b"")


def test_a_file_that_is_named_and_not_read_need_not_be_there(saved):
    unread = model(graph(tensors=[tensor("gone", is_read=False), tensor("here", is_read=False)]))
    path = saved(unread, "here")
    assert list(external_data(path)) == ["here"]


@pytest.mark.parametrize("location", ["../out", "/etc/hostname", "a/../../out"])
@pytest.mark.parametrize("is_read", [True, False])
def test_no_name_leads_out(saved, location, is_read):
    with pytest.raises(InputError, match=r"external_data\.location"):
        external_data(saved(model(graph(tensors=[tensor(location, is_read)]))))


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 40, b"text, no model", b"\x3a\xff\xff\x01", b"\x07", b"\x3a\x05\x0a"],
)
def test_what_is_no_model_names_nothing(saved, content):
    assert external_data(saved(content)) == {}
