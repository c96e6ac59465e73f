"""ONNX files that ask for too much: refused before they are loaded, or ended by their limits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from sca_bench.errors import InputError
from sca_bench.models.sam.onnx_encoder import OnnxImageEncoder

SIDE, CHANNELS, GRID = 16, 4, 2
WEIGHT = np.ones((CHANNELS, 3, 8, 8), np.float32)


def whole(name, value):
    return numpy_helper.from_array(np.array(value, np.int64), name)


def node(op, *inputs, **attributes):
    return helper.make_node(op, list(inputs), [f"made by {op}"], **attributes)


def model(*nodes, constants=(), domains=(), **more):
    """An encoder of one convolution, with more in it."""
    conv = helper.make_node("Conv", ["input", "weight"], ["output"], strides=[8, 8])
    graph = helper.make_graph(
        [conv, *nodes],
        "encoder",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["B", 3, SIDE, SIDE])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["B", CHANNELS, GRID, GRID])],
        [numpy_helper.from_array(WEIGHT, "weight"), *constants],
        **more,
    )
    opsets = [helper.make_opsetid("", 13), *(helper.make_opsetid(name, 1) for name in domains)]
    made = helper.make_model(graph, opset_imports=opsets)
    made.ir_version = 8
    return made


def loop(rounds, depth=1):
    """A loop that adds 1 to a number, `depth` loops in one another."""
    i, c, x, c2, x2 = (f"{name}{depth}" for name in ("i", "c", "x", "d", "y"))
    inner = [helper.make_node("Identity", [c], [c2])]
    if depth == 1:
        inner.append(helper.make_node("Add", [x, x], [x2]))
    else:
        body = loop(rounds, depth - 1)
        inner.append(helper.make_node("Loop", ["rounds", c, x], [x2], body=body))
    inputs = [(i, TensorProto.INT64, []), (c, TensorProto.BOOL, []), (x, TensorProto.FLOAT, [])]
    outputs = [(c2, TensorProto.BOOL, []), (x2, TensorProto.FLOAT, [])]
    return helper.make_graph(
        inner,
        f"b{depth}",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(*one) for one in outputs],
    )


def looping(rounds, depth=1):
    """An encoder whose output is added to what a loop makes."""
    name = "" if rounds is None else "rounds"
    made = model(
        helper.make_node("ReduceSum", ["output 0"], ["x"], keepdims=0),
        helper.make_node("Loop", [name, "yes", "x"], ["y"], body=loop(rounds, depth)),
        helper.make_node("Add", ["output 0", "y"], ["output"]),
        constants=[
            *([] if rounds is None else [whole("rounds", rounds)]),
            numpy_helper.from_array(np.array(True), "yes"),
        ],
    )
    made.graph.node[0].output[0] = "output 0"
    return made


def torn():
    made = model(constants=[whole("much", [1, 2])])
    made.graph.initializer[1].dims[0] = 2**36
    return made


def sparse():
    values = numpy_helper.from_array(np.ones(1, np.float32), "s")
    one = helper.make_sparse_tensor(values, whole("at", [1]), [2**36])
    return model(sparse_initializer=[one])


def deep():
    made = helper.make_graph([node("Identity", "input")], "g", [], [])
    for _ in range(30):  # one branch only: two alike would double the file each time
        made = helper.make_graph([node("If", "yes", then_branch=made)], "g", [], [])
    return model(*made.node)


REFUSED = {
    "a 256 GiB constant": (
        lambda: model(node("ConstantOfShape", "s"), constants=[whole("s", [2**36])]),
        "ConstantOfShape makes a constant of 68,719,476,736 numbers, at most",
    ),
    "a shape from a node": (
        lambda: model(
            helper.make_node("Constant", [], ["s"], value_ints=[2**20, 2**20]),
            node("ConstantOfShape", "s"),
        ),
        "ConstantOfShape makes a constant of 1,099,511,627,776",
    ),
    "a range": (
        lambda: model(
            node("Range", "a", "b", "c"),
            constants=[whole("a", 0), whole("b", 2**40), whole("c", 1)],
        ),
        "Range makes a constant of 1,099,511,627,776 numbers",
    ),
    "tiles": (
        lambda: model(node("Tile", "s", "s"), constants=[whole("s", [2**40])]),
        "Tile makes a constant of",
    ),
    "an expansion": (
        lambda: model(node("Expand", "s", "s"), constants=[whole("s", [2**40])]),
        "Expand makes a constant of",
    ),
    "a tensor without its bytes": (torn, "a tensor of 68,719,476,736 numbers holds "),
    "a sparse tensor": (sparse, "a sparse tensor of 68,719,476,736 numbers"),
    "an endless loop": (lambda: looping(None), "a Loop does not say how many rounds it takes"),
    "a loop without an end": (
        lambda: looping(2**62),
        "a Loop takes 4,611,686,018,427,387,904 rounds",
    ),
    "branches in branches": (deep, "branches lie more than 16 deep in branches"),
    "operators of others": (
        lambda: model(node("Run", "input", domain="my.code"), domains=["my.code"]),
        "its operators are of 'my.code', which onnxruntime has not",
    ),
    "many nodes": (
        lambda: model(*[node("Identity", "input")] * 100_001),
        "it has more than 100,000 nodes",
    ),
}


def save(made, folder, **options):
    path = folder / "encoder.onnx"
    onnx.save(made, path, **options)
    return path


def encoder(path, **limits):
    shape = (CHANNELS, GRID, GRID)
    return OnnxImageEncoder(path, image_size=SIDE, embedding_shape=shape, **limits)


@pytest.mark.parametrize("what", REFUSED)
def test_a_model_that_asks_for_too_much_is_never_loaded(what, tmp_path, monkeypatch):
    make, said = REFUSED[what]
    path = save(make(), tmp_path)
    monkeypatch.setattr(subprocess, "Popen", None)  # no process is started
    with pytest.raises(
        InputError, match=r"encoder\.path: .*encoder\.onnx is not loaded: "
    ) as error:
        encoder(path)
    assert said in str(error.value)


def test_a_tensor_in_a_file_that_is_too_short_is_refused(tmp_path):
    path = save(model(constants=[whole("much", [1, 2])]), tmp_path)
    made = onnx.load(path)
    tensor = made.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.data_location, tensor.dims[0] = TensorProto.EXTERNAL, 2**36
    tensor.external_data.add(key="location", value="w.data")
    path.write_bytes(made.SerializeToString())
    (tmp_path / "w.data").write_bytes(bytes(16))
    with pytest.raises(InputError, match=r"w\.data holds 16 bytes for a tensor of 68,719,476,736"):
        encoder(path)
    (tmp_path / "w.data").unlink()
    os.mkfifo(tmp_path / "w.data")
    with pytest.raises(InputError, match=r"names 'w\.data', which is not there"):
        encoder(path)


@pytest.mark.parametrize("kind", ["fifo", "folder", "empty", "zeros"])
def test_what_is_no_model_is_one_line(kind, tmp_path):
    path = tmp_path / "encoder.onnx"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"" if kind == "empty" else bytes(1000))
    with pytest.raises(InputError, match=r"encoder\.onnx (is no regular file|cannot be read as)"):
        encoder(path)


# --- the process ------------------------------------------------------------------------------


def children():
    own = Path(f"/proc/self/task/{os.getpid()}/children")
    if not own.exists():
        pytest.skip("this system does not say which processes another one started")
    return own.read_text().split()


def test_one_process_serves_all_images_and_ends_with_the_encoder(tmp_path):
    before = children()
    one = encoder(save(model(), tmp_path))
    images = torch.randn(5, 3, SIDE, SIDE)
    expected = torch.nn.functional.conv2d(images, torch.from_numpy(WEIGHT), stride=8)
    torch.testing.assert_close(one(images), expected)
    one(images[:2])
    (started,) = set(children()) - set(before)
    os.kill(int(started), signal.SIGKILL)  # whatever ended it, the next call has a new one
    while one._process.poll() is None:
        time.sleep(0.01)
    torch.testing.assert_close(one(images), expected)
    del one
    assert children() == before


def test_time_and_memory_are_limited(tmp_path):
    before = children()
    endless = encoder(save(looping(2**16, 3), tmp_path), limit_s=0.3)
    line = r"encoder\.onnx took longer than 0\.3 s for one image; raise encoder\.onnx_limit_s"
    start = time.monotonic()
    with pytest.raises(InputError, match=line):
        endless(torch.zeros(1, 3, SIDE, SIDE))
    assert time.monotonic() - start < 3
    much = model(
        helper.make_node("Reshape", ["output 0", "row"], ["r"]),
        helper.make_node("Tile", ["r", "times"], ["t"]),
        helper.make_node("ReduceSum", ["t"], ["y"], keepdims=0),
        helper.make_node("Add", ["output 0", "y"], ["output"]),
        constants=[whole("row", [1, -1]), whole("times", [2**27, 1])],
    )
    much.graph.node[0].output[0] = "output 0"
    large = encoder(save(much, tmp_path), limit_gib=4)
    with pytest.raises(InputError, match=r"encoder\.onnx(:| cannot be read as ONNX) .*"):
        large(torch.zeros(1, 3, SIDE, SIDE))
    assert children() == before


def test_a_killed_parent_leaves_no_process(tmp_path):
    children()
    path = save(looping(2**16, 3), tmp_path)
    program = f"""
import sys, torch
from sca_bench.models.sam.onnx_encoder import OnnxImageEncoder
one = OnnxImageEncoder({str(path)!r}, image_size={SIDE}, embedding_shape={(CHANNELS, GRID, GRID)})
print(one._process.pid, flush=True)
one(torch.zeros(1, 3, {SIDE}, {SIDE}))
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    with parent:
        child = int(parent.stdout.readline())
        time.sleep(0.2)
        parent.kill()
    end = time.monotonic() + 10
    while is_running(child):
        assert time.monotonic() < end, "it outlives the process that started it"
        time.sleep(0.05)


def is_running(pid):
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
