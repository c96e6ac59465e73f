"""The devices on which a test of this folder runs: the make-believe one, and a real one if any."""

import pytest
import torch


@pytest.fixture(params=["ghost", pytest.param("cuda", marks=pytest.mark.gpu)])
def device_kind(request):
    """`ghost`, or `cuda` where there is a GPU."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return request.param
