"""The most frequent training caption, whatever the region: the floor of every comparison."""

from sca_bench.variants import VariantSpec

SPEC = VariantSpec(
    name="most_frequent",
    builder="baselines.most_frequent.captioner:build",
    summary="The most frequent training caption for every region (control)",
    looks=False,
    reads=("data",),
    trains="once",
    source="a control of this suite",
    revision="2",
)
