"""What a design must keep to: all that a variant must, and the shapes of its parts.

    from sca_bench.contract import DesignContract

    class TestMine(DesignContract):
        spec = my_package.SPEC

Shape legend as in `sca_bench.models.designs.parts`.
"""

from __future__ import annotations

from typing import Any

from sca_bench.batch import RegionFeatures
from sca_bench.contract.broken import expect, skip
from sca_bench.contract.captioners.variant import VariantContract
from sca_bench.models.designs.parts import Design
from sca_bench.specs.designs import DESIGNS, DesignSpec
from sca_bench.specs.encoders import sam_dims
from sca_bench.variants import variant_of


class DesignContract(VariantContract):
    """Tests of one design; see the module.

    Attributes:
        spec: The design, of which each test makes the variant.
        design: The design, while a test runs.
    """

    spec: Any
    design: DesignSpec

    def setup_method(self, method: object = None) -> None:
        """Register the design, and the variant that it is."""
        self.design = type(self).spec
        self.spec = variant_of(self.design)
        super().setup_method(method)
        self._stack.enter_context(DESIGNS.also(self.design))

    def test_it_makes_a_design(self) -> None:
        """The function that it names returns the parts of a design, which read what it says."""
        design = self._design()
        rule = "a sca_bench.models.designs.Design"
        fix = "return Design(queries, families, text_mixer, context)"
        expect(isinstance(design, Design), rule, type(design).__name__, fix)
        rule = f"parts that read the features that the spec names: {self.spec.features}"
        right = set(design.families) <= set(self.spec.families(self.settings()))
        expect(right, rule, design.families, "name the same families in `features`")
        rule = "a text mixer and a context, or neither"
        both = (design.text_mixer is None) == (design.context is None)
        expect(both, rule, f"{design.text_mixer is not None}, {design.context is not None}", fix)

    def test_queries_have_their_shape(self) -> None:
        """Queries are (N, H, Q, C): a row a region, heads, tokens, and SAM's channels."""
        features = self._features()
        design, channels = self._design(), sam_dims(self.settings().sam.size).embed_dim
        candidates = features.ious_NM.shape[1]
        shape = tuple(design.queries(features).shape)
        heads = design.queries.heads(candidates)
        rule = f"queries of shape (N={len(features.ious_NM)}, H={heads or 'any'}, Q, C={channels})"
        fix = "return a query a region from `queries`, with as many heads as `heads` says"
        right = len(shape) == 4 and (shape[0], shape[3]) == (len(features.ious_NM), channels)
        right = right and heads in (None, shape[1])
        expect(right, rule, shape, fix)

    def test_the_context_has_its_shapes(self) -> None:
        """Tokens are (N, T, C), image tokens (N or B, S, C), their encoding (S, C)."""
        design, features = self._design(), self._features()
        if design.context is None:
            skip("it has no text mixer")
        context = design.context(features)
        channels = sam_dims(self.settings().sam.size).embed_dim
        tokens, image = context.tokens_NTC.shape, context.image_tokens_NSC.shape
        rows = features.num_images if context.image_index_N is not None else len(features.ious_NM)
        fix = "hand on SAM's tokens and image tokens region by region, or image tokens by image"
        right = len(tokens) == 3 and (tokens[0], tokens[2]) == (len(features.ious_NM), channels)
        rule = f"tokens of shape (N={len(features.ious_NM)}, T, C={channels})"
        expect(right, rule, tuple(tokens), fix)
        right = len(image) == 3 and (image[0], image[2]) == (rows, channels)
        expect(right, f"image tokens of shape ({rows}, S, C={channels})", tuple(image), fix)
        encoding = tuple(context.image_pe_SC.shape)
        expect(encoding == tuple(image[1:]), f"their encoding of shape {image[1:]}", encoding, fix)

    def _design(self) -> Design:
        settings = self.settings()
        own = {"options": settings.options} if self.spec.options else {}
        dims = sam_dims(settings.sam.size)
        made: Design = self.spec.load_design()(settings.mixer, dims, **own)
        return made

    def _features(self) -> RegionFeatures:
        """Return the frozen features of the toy batch that the design reads, from the tiny SAM."""
        settings = self.settings()
        parts = self.spec.load_parts(settings)
        encoder = parts.region_encoder(image_grid=settings.mixer.image_grid)
        made: RegionFeatures = encoder(self.batch(), families=self.spec.families(settings))
        return made
