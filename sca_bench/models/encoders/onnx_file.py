"""Any network in an ONNX file that yields the image embedding of the SAM that `sam.size` names."""

from __future__ import annotations

from sca_bench.specs.encoders import EncoderSpec

SPEC = EncoderSpec(
    "onnx",
    "An ONNX file (`encoder.path`) that yields SAM's image embedding, run on the CPU",
    "sca_bench.models.sam.onnx_encoder:build",
    path="required",
    example="sca_bench.contract.examples:onnx_file",
)
