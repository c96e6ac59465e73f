"""GPUs are asked in `sca_bench/devices`, and nowhere else; what is asked there is answered."""

import ast

import pytest
import torch
from test_arrows import BASELINES, FILES, PACKAGE, ROOT

from sca_bench.devices import gpu

CPU, SECOND = torch.device("cpu"), torch.device("cuda:1")
DOOR = PACKAGE / "devices"
TORCH = ("torch.cuda", "torch.backends.cuda", "torch.backends.cudnn", "torch.accelerator")
OF_ANY = ("is_cuda", "cuda")
LAST = {name.rpartition(".")[2] for name in (*TORCH, *OF_ANY)}
NAMES_A_GPU = {
    "engine/worker/pool": "deals a job out that says `cuda` and not which; it does without torch",
}
"""Module -> why it has the name of a GPU as text."""


def doors(path, named=False):
    """Return the lines on which a file asks for a GPU by itself."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), []
    for node in ast.walk(tree):
        what = ""
        if isinstance(node, ast.Attribute):
            if node.attr in LAST and (
                (dotted := ast.unparse(node)) in TORCH or node.attr in OF_ANY
            ):
                what = dotted
        elif isinstance(node, ast.Import | ast.ImportFrom):
            source = getattr(node, "module", None) or ""
            full = [f"{source}.{each.name}".lstrip(".") for each in node.names]
            what = next((name for name in full if name.startswith(TORCH)), "")
        elif isinstance(node, ast.Constant) and not named:
            text = str(node.value)
            what = repr(text) if text == "cuda" or text.startswith("cuda:") else ""
        if what:
            found.append(f"{path.relative_to(ROOT)}:{node.lineno} {what}")
    return found


def name_of(path):
    top = PACKAGE if path.is_relative_to(PACKAGE) else ROOT
    return path.relative_to(top).with_suffix("").as_posix()


@pytest.mark.parametrize("package", [FILES, BASELINES], ids=["sca_bench", "baselines"])
def test_a_gpu_is_reached_through_one_door(package):
    found = [
        line
        for path in package
        if not path.is_relative_to(DOOR)
        for line in doors(path, named=name_of(path) in NAMES_A_GPU)
    ]
    assert not found, "ask `sca_bench.devices.gpu`"


def test_every_exception_for_a_name_is_needed():
    assert not [name for name in NAMES_A_GPU if not doors(PACKAGE / f"{name}.py")]


@pytest.mark.parametrize(
    "line",
    [
        "if device.type == 'cuda': pass",
        "if device.type in ('cpu', 'cuda'): pass",
        "x = 'cuda:1'",
        "torch.cuda.synchronize()",
        "from torch.cuda import Event",
        "from torch import cuda",
        "import torch.cuda.amp",
        "torch.backends.cudnn.allow_tf32 = True",
        "tensor.is_cuda",
        "tensor.cuda()",
    ],
)
def test_another_door_is_found(line, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    (tmp_path / "other.py").write_text(f'"""It may speak of cuda."""\n{line}\n', encoding="utf-8")
    assert len(doors(tmp_path / "other.py")) == 1


def test_what_is_a_gpu_is_told_by_its_name():
    assert [gpu.is_gpu(each) for each in ("cpu", "cuda", "cuda:3", "meta", SECOND)] == [
        False, True, True, False, True
    ]  # fmt: skip


def test_on_a_processor_there_is_nothing_to_ask(monkeypatch):
    monkeypatch.setattr(gpu.torch, "cuda", None)
    gpu.make_current(CPU)
    gpu.wait_for(CPU)
    gpu.free_unused_memory(CPU)
    gpu.forget_peak_memory(CPU)
    assert gpu.peak_memory_bytes(CPU) is gpu.rng_state(CPU) is None
    watch = gpu.Stopwatch(CPU)
    watch.start()
    watch.stop()
    assert watch.seconds() >= 0
    assert not watch.waits


def test_a_gpu_is_asked_by_its_number(monkeypatch):
    calls = []
    for name in ("set_device", "synchronize", "reset_peak_memory_stats"):
        monkeypatch.setattr(
            torch.cuda, name, lambda device, name=name: calls.append((name, device))
        )
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 7 * device.index)
    for ask in (gpu.make_current, gpu.wait_for, gpu.forget_peak_memory):
        ask(SECOND)
    gpu.make_current("cuda")  # whichever is current already
    assert calls == [
        ("set_device", SECOND), ("synchronize", SECOND), ("reset_peak_memory_stats", SECOND)
    ]  # fmt: skip
    assert gpu.peak_memory_bytes(SECOND) == 7


def test_what_is_sent_is_not_waited_for(ghost):
    numbers = torch.arange(3)
    assert gpu.send(numbers, CPU) is numbers
    there = gpu.send(numbers, torch.device("cuda"))
    assert gpu.send(there, torch.device("cuda")) is there
    assert [entry.kind for entry in ghost.entries] == ["pinned copy"], ghost
    assert there.tolist() == [0, 1, 2]
