"""How a GPU rounds is set where it computes, put back after that, and nothing to a processor."""

import os
from types import SimpleNamespace

import pytest
import torch

from sca_bench.devices.arithmetic import arithmetic
from sca_bench.engine.device import check_precision, computing
from sca_bench.engine.finished.caption import FinishedCaptioner
from sca_bench.engine.finished.verify import _Verifier
from sca_bench.errors import InputError

CPU, GPU = torch.device("cpu"), torch.device("cuda:1")
WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"


def flags():
    return {
        "products": torch.backends.cuda.matmul.allow_tf32,
        "convolutions": torch.backends.cudnn.allow_tf32,
        "one order": torch.are_deterministic_algorithms_enabled(),
        "only warned": torch.is_deterministic_algorithms_warn_only_enabled(),
        "searches": torch.backends.cudnn.benchmark,
        "workspace": os.environ.get(WORKSPACE),
        "on a processor": torch.backends.mkldnn.matmul.fp32_precision
        if hasattr(torch.backends.mkldnn, "matmul")
        else "none",
    }


@pytest.fixture(autouse=True)
def _as_torch_starts(monkeypatch):
    before = flags()
    monkeypatch.delenv(WORKSPACE, raising=False)
    yield
    monkeypatch.undo()
    assert flags() == before


@pytest.fixture
def made_current(monkeypatch):
    calls = []
    monkeypatch.setattr(torch.cuda, "set_device", calls.append)
    return calls


@pytest.mark.parametrize("tf32", [True, False])
def test_products_and_convolutions_go_together(tf32, made_current):
    """By torch's own defaults only convolutions are rounded: one setting has to mean one thing."""
    usual = flags()
    with arithmetic(GPU, tf32=tf32):
        assert flags() == usual | {"products": tf32, "convolutions": tf32}
        assert made_current == [GPU]
    assert flags() == usual


@pytest.mark.parametrize(
    ("given", "used"), [(None, ":4096:8"), (":16:8", ":16:8"), (":4096:2", ":4096:8")]
)
def test_one_order_is_known_before_the_gpu_starts(given, used, monkeypatch):
    if given:
        monkeypatch.setenv(WORKSPACE, given)
    torch.backends.cudnn.benchmark = True
    usual, at_start = flags(), []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: at_start.append(flags()))
    try:
        with arithmetic(GPU, deterministic=True):
            (seen,) = at_start
            on = {"one order": True, "searches": False, "workspace": used}
            assert seen == usual | on | {"convolutions": False}
        assert flags() == usual
    finally:
        torch.backends.cudnn.benchmark = False


def test_a_processor_computes_as_ever():
    """The bits of its products too, which torch's switch for all devices would move on some."""
    usual = flags()
    left, right = torch.rand(2, 64, 64, generator=torch.Generator().manual_seed(3))
    product = left @ right
    with arithmetic(CPU, tf32=True, deterministic=True):
        assert flags() == usual
        assert torch.equal(left @ right, product)


def settings(precision="fp32", deterministic=False):
    return SimpleNamespace(
        train=SimpleNamespace(precision=precision),
        runtime=SimpleNamespace(deterministic=deterministic),
    )


@pytest.mark.parametrize(
    ("precision", "rounds"), [("fp32", False), ("tf32", True), ("bf16", False), ("fp16", False)]
)
def test_the_settings_of_a_run_decide(precision, rounds, made_current):
    with computing(settings(precision), GPU):
        seen = flags()
        assert seen["products"] == seen["convolutions"] == rounds
        assert not seen["one order"]
    with computing(settings(precision, deterministic=True), GPU):
        assert flags()["one order"]


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_a_device_takes_no_precision_that_it_lacks(precision, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Tesla V100")
    for generation in (8, 7):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, g=generation: (g, 0))
        if (precision, generation) != ("tf32", 7):
            check_precision(settings(precision), GPU)
            continue
        with pytest.raises(InputError, match="Tesla V100 has no TensorFloat-32; use fp32, or fp16"):
            check_precision(settings(precision), GPU)
    if precision in ("fp32", "bf16"):
        check_precision(settings(precision), CPU)
        return
    with pytest.raises(InputError, match=rf"train\.precision: {precision} needs CUDA; use bf16"):
        check_precision(settings(precision), CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_rounds_as_it_is_told():
    device = torch.device("cuda:0")
    left, right = torch.rand(2, 1, 256, 256, generator=torch.Generator().manual_seed(3))
    exact = left.double() @ right.double()
    errors = {}
    for tf32 in (False, True):
        with arithmetic(device, tf32=tf32):
            product = left.to(device) @ right.to(device)
        errors[tf32] = float((product.cpu().double() - exact).abs().max() / exact.abs().max())
    assert errors[False] < 1e-6 < 1e-5 < errors[True] < 1e-2


def test_a_finished_run_is_looked_at_as_it_was_made(made_current, monkeypatch):
    """By `caption` and `verify`, on the GPU that is named, where events are recorded then."""
    captioner, verifier = (object.__new__(each) for each in (FinishedCaptioner, _Verifier))
    captioner.settings = verifier.settings = settings("tf32")
    captioner.settings.runtime.device, captioner.device = "cuda:1", GPU
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(FinishedCaptioner, "_caption", lambda *_: flags())
    monkeypatch.setattr(_Verifier, "_captions_repeat", lambda *_: flags())
    for seen in (captioner.caption(None, None, None), verifier.captions_repeat(1)):
        assert seen["products"]
        assert made_current.pop() == GPU
