"""The region's class name, as the data set gives it: what a perfect detector would say."""

from sca_bench.variants import VariantSpec

SPEC = VariantSpec(
    name="label",
    builder="baselines.label.captioner:build",
    summary="The class name that the data set gives for the region (control)",
    looks=False,
    reads=("data",),
    trains="never",
    source="a control of this suite",
)
