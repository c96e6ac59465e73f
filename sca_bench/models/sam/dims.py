"""The sizes of a SAM, for plug-ins that name them here; they live in `sca_bench.specs`."""

from sca_bench.specs.encoders import sam_dims
from sca_bench.specs.sam_dims import SamDims

__all__ = ["SamDims", "sam_dims"]
