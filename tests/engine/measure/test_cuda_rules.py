"""The lists of CUDA's autocast are those of the installed torch."""

import re
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from sca_bench.engine.measure import cuda_rules as rules

HEADER = Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h"
GROUPS = {
    "FP32": rules.FLOAT32[:-2],
    "FP32_SET_OPT_DTYPE": rules.FLOAT32_OUT,
    "PROMOTE": rules.PROMOTED,
}


@pytest.mark.skipif(not HEADER.is_file(), reason="this torch comes without its headers")
@pytest.mark.parametrize("group", GROUPS)
def test_the_lists_are_those_of_torch(group):
    text = HEADER.read_text(encoding="utf-8")
    body = re.search(rf"#define AT_FORALL_{group}\(_\)((?:.*\\\n)*.*)", text)[1]
    names = re.findall(r"_\((\w+)(?:, (\w+))?\)", body)
    assert {".".join(filter(None, name)) for name in names} == set(GROUPS[group])


def test_the_norms_of_another_signature_are_those_of_torch():
    text = HEADER.read_text(encoding="utf-8")
    assert set(re.findall(r'"(norm\.\w+)"', text)) == set(rules.FLOAT32[-2:])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_types_are_those_of_the_true_autocast_on_tensors_that_say_they_are_on_cuda(
    monkeypatch, dtype
):
    """Without a backward pass the real rules can be had, on any build that knows CUDA's keys."""
    precision = {half: name for name, half in rules.HALF.items()}[dtype]

    def types(device):
        x, w = torch.empty(4, 8, device=device), torch.empty(8, 8, device=device)
        y = torch.nn.functional.linear(x, w)
        done = {
            "linear": y,
            "softmax": y.softmax(-1),
            "log_softmax": y.log_softmax(-1),
            "norm": torch.nn.functional.layer_norm(y, (8,)),
            "pow": y.pow(2),
            "sum": y.sum(-1),
            "exp": y.exp(),
            "mixed": y + x,
            "cat": torch.cat([y, x]),
            "gelu": torch.nn.functional.gelu(y),
            "vector norm": torch.linalg.vector_norm(y),
            "attention": torch.nn.functional.scaled_dot_product_attention(
                x[None], x[None], y[None]
            ),
            "loss": torch.nn.functional.cross_entropy(y, torch.zeros(4, 8, device=device)),
        }
        return {name: tensor.dtype for name, tensor in done.items()}

    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    with FakeTensorMode(), torch.no_grad():
        with torch.autocast("cuda", dtype):
            true = types("cuda")
        with rules.cuda_rules(precision):
            assert types("cpu") == true
