"""The first version of direct decoding: as published, it mixes the SAM mixer's inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sca_bench.models.designs.sam_query import FIRST_HEAD, TRAINED, refuse_queries, sam_query
from sca_bench.specs.designs import PAPER, DesignSpec

if TYPE_CHECKING:
    from sca_bench.models.designs.parts import Design
    from sca_bench.models.sam.dims import SamDims
    from sca_bench.settings import MixerSettings

SPEC = DesignSpec(
    name="sca_sam_query_v1",
    summary="The first version of sca_sam_query; the same unless as published",
    design="sca_bench.models.designs.sam_query_v1:sam_query_v1",
    trained=TRAINED,
    features_as_published=("prompts",),
    as_published=f"{FIRST_HEAD}; mixes the queries with the SAM mixer's inputs",
    revision="3",
    source=f"{PAPER}: the code's direct decoding model, first version",
)


def sam_query_v1(mixer: MixerSettings, dims: SamDims) -> Design:
    """Build the first version: as published, the SAM mixer's *input* tokens follow the queries.

    Raises:
        InputError: A setting has no meaning here, or sizes contradict each other.
    """
    from sca_bench.models.designs.parts import Design, build_text_mixer, unmixed_tokens_context
    from sca_bench.models.designs.queries import MaskTokenQueries

    if not mixer.as_published:
        return sam_query(mixer, dims)
    refuse_queries(mixer, SPEC.name)
    text_mixer = build_text_mixer(mixer, dims)
    queries = MaskTokenQueries(as_published=True)
    return Design(queries, ("mixed", "prompts"), text_mixer, unmixed_tokens_context)
