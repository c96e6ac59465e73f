"""What a record says of the machine: processor, vector instructions and BLAS."""

import pytest
import torch

from sca_bench.engine import provenance
from sca_bench.engine.provenance import blas_library, machine, processor

X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
stepping\t: 1

processor\t: 1
model\t\t: 99
model name\t: another
"""
ARM = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd40\nCPU revision\t: 1\n"


@pytest.mark.parametrize(
    ("cpu_info", "found"),
    [
        (X86, ("AMD EPYC", "family 25, model 17, stepping 1")),
        (ARM, ("", "implementer 0x41, part 0xd40, revision 1")),
        ("", ("", "")),
    ],
    ids=["x86", "arm", "none"],
)
def test_the_processor_is_named_with_its_model(cpu_info, found):
    assert processor(cpu_info) == found


@pytest.mark.parametrize(
    ("build", "found"),
    [
        (
            "  - Intel(R) oneAPI Math Kernel Library Version 2024.2-Product Build 20240605\n"
            "  - Build settings: BLAS_INFO=mkl, BUILD_TYPE=Release, LAPACK_INFO=mkl",
            "mkl 2024.2",
        ),
        ("Math Kernel Library Version 2020.0.0 Product, BLAS_INFO=mkl,", "mkl 2020.0.0"),
        ("  - Build settings: BLAS_INFO=mkl, BUILD_TYPE=Release", "mkl"),
        ("  - Build settings: BLAS_INFO=open, LAPACK_INFO=open", "open"),
        ("  - Build settings: BLAS_INFO=accelerate, USE_MKL=OFF", "accelerate"),
        ("PyTorch built with:\n  - C++ Version: 201703", "not stated"),
    ],
)
def test_the_blas_is_read_from_the_build(build, found):
    assert blas_library(build) == found


def test_a_machine_states_all_that_rounds(monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text(X86, encoding="utf-8")
    monkeypatch.setattr(provenance, "_CPU_INFO", tmp_path / "cpuinfo")
    found = machine(torch.device("cpu"), 3)
    assert found["cpu"] == "AMD EPYC"
    assert found["cpu_model"] == "family 25, model 17, stepping 1"
    assert found["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert found["blas"] == blas_library(torch.__config__.show())
    assert (found["device"], found["threads"]) == ("cpu", 3)
    monkeypatch.setattr(provenance, "_CPU_INFO", tmp_path / "nothing")
    found = machine(torch.device("cpu"), 3)
    assert found["cpu"]
    assert "cpu_model" not in found
