"""What an image encoder must keep to, as tests that a third party's own tests inherit.

    from sca_bench.contract import EncoderContract

    class TestMine(EncoderContract):
        spec = my_package.SPEC

The encoder is built as the engine builds it: as part of its own SAM, where its spec states one,
else inside the tiny SAM. `example` may name a function that gives settings by dotted path, such as
`encoder.path` and `encoder.options.width`, and makes files in the folder that it is given.

Shape legend: B images, S side of the input in pixels, C channels, h, w the grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sca_bench.contract.broken import Broken, expect, skip
from sca_bench.contract.captioners.cell import tiny_cell
from sca_bench.contract.captioners.keys import changed_settings, key_of, with_change
from sca_bench.contract.captioners.tensors import different, some, tensors_of
from sca_bench.contract.spec import SpecContract
from sca_bench.errors import InputError
from sca_bench.models.build import load_sam_parts
from sca_bench.models.sam.sam import Sam
from sca_bench.plugins import Registry
from sca_bench.settings import CellSettings
from sca_bench.specs.encoders import ENCODERS, EncoderSpec, sam_dims

_MOST, _COUNTS = 8, (1, 2, 3, 5)
_LARGE_PX = 256


class EncoderContract(SpecContract):
    """Tests of one image encoder; see the module.

    Attributes:
        spec: The encoder.
        changes: Settings by dotted path that it is tried with, over its `example`.
    """

    spec: EncoderSpec
    code = ("build",)
    changes: Mapping[str, Any] = {}

    @classmethod
    def registry(cls) -> Registry[Any]:
        """Return the registry of encoders."""
        return ENCODERS

    def settings(self, *changes: Mapping[str, Any]) -> CellSettings:
        """Return the tiny settings with this encoder, and changes by dotted path."""
        own: dict[str, Any] = {"encoder.type": self.spec.name}
        if self.spec.dims is not None:
            own = {"sam.size": self.spec.name, "sam.weights": "random"}
        return tiny_cell("sca", own, self.example(), self.changes, *changes)

    def sam(self) -> Sam:
        """Return SAM with this encoder, as the engine loads it.

        Raises:
            SkipTest: It cannot be built, or computes too much for a test on a CPU.
        """
        try:
            return self._loaded()
        except InputError:
            skip("it cannot be built: see it_can_be_built")

    def pixels(self, count: int = _MOST) -> Tensor:
        """Return normalised images of noise, (B, 3, S, S), the lower half of each padded.

        There are two at most where an image is large and takes a second or more.
        """
        side = sam_dims(self.settings().sam.size).image_size
        count = min(count, 2 if side > _LARGE_PX else _MOST)
        generator = torch.Generator().manual_seed(0)
        images_B3SS = torch.randn(_MOST, 3, side, side, generator=generator)
        images_B3SS[:, :, side // 2 :] = 0
        return images_B3SS[:count]

    def test_it_can_be_built(self) -> None:
        """The engine builds it into its SAM, and finds that its embeddings fit in."""
        try:
            self._loaded()
        except InputError as error:
            rule = "an encoder that fits into its SAM"
            fix = "build it of the sizes in `dims`: image_size, embed_dim, grid"
            raise Broken(rule, str(error), fix) from error

    def test_embeddings_have_their_shape(self) -> None:
        """Embeddings are finite float32 of shape (B, C, h, w), the sizes being SAM's."""
        sam = self.sam()
        embeddings = self._encoded(sam, self.pixels(2))
        dims = sam_dims(self.settings().sam.size)
        shape = (2, dims.embed_dim, dims.grid, dims.grid)
        fix = "end with a layer that brings the channels and the grid to those of `dims`"
        got = f"{tuple(embeddings.shape)}, {embeddings.dtype}"
        right = tuple(embeddings.shape) == shape and embeddings.dtype == torch.float32
        expect(right, f"float32 embeddings of shape {shape}", got, fix)
        finite = bool(torch.isfinite(embeddings).all())
        expect(finite, "finite embeddings", "some are not", "look for a division by zero")

    def test_the_pixels_matter(self) -> None:
        """Another image has other embeddings."""
        embeddings = self._encoded(self.sam(), self.pixels(2))
        same = torch.equal(embeddings[0], embeddings[1])
        expect(not same, "other embeddings for another image", "the same", "read the pixels")

    def test_an_image_does_not_depend_on_its_batch(self) -> None:
        """What stands beside an image in a batch changes its embeddings by rounding at most."""
        encoder, pixels = self.sam().image_encoder, self.pixels(3)
        with torch.no_grad():
            together = encoder(pixels)
            alone = torch.cat([encoder(pixels[n : n + 1]) for n in range(len(pixels))])
        apart = float((together - alone).abs().max())
        rule = "the same embeddings for an image alone and in a batch, up to rounding"
        fix = "take no mean over the batch; call eval(), where norms have statistics"
        near = apart <= 1e-3 * max(1.0, float(alone.abs().max()))
        expect(near, rule, f"{apart:.2e} apart", fix)

    def test_rows_are_equal_in_bits(self) -> None:
        """On a CPU 1, 2, 3 and 5 images give the bits that they have among 8."""
        sam, pixels = self.sam(), self.pixels()
        whole = self._encoded(sam, pixels)
        rule = "the same bits for an image, however many come with it"
        fix = "keep nothing from call to call"
        for count in _COUNTS:
            if count >= len(pixels):
                break
            same = torch.equal(self._encoded(sam, pixels[:count]), whole[:count])
            expect(same, rule, f"others among {count} than among {len(pixels)}", fix)

    def test_the_same_embeddings_twice(self) -> None:
        """Nothing is drawn at random where an image is encoded, and nothing is remembered."""
        sam, pixels, before = self.sam(), self.pixels(2), torch.get_rng_state()
        first, second = self._encoded(sam, pixels), self._encoded(sam, pixels)
        fix = "call eval(); draw nothing at random"
        expect(torch.equal(first, second), "the same embeddings a second time", "others", fix)
        unmoved = torch.equal(before, torch.get_rng_state())
        expect(unmoved, "torch's generator as it was", "it moved on", fix)

    def test_it_is_frozen(self) -> None:
        """No parameter requires a gradient, no mode is training, and no output has a history."""
        sam = self.sam()
        encoder = sam.image_encoder
        fix = "build it with `requires_grad_(False)` and `eval()`"
        if isinstance(encoder, nn.Module):
            learning = [name for name, p in encoder.named_parameters() if p.requires_grad]
            expect(not learning, "no parameter that requires a gradient", some(learning), fix)
            training = [name for name, m in encoder.named_modules() if m.training]
            expect(not training, "no module in training mode", some(training), fix)
        embeddings = encoder(self.pixels(1))
        expect(not embeddings.requires_grad, "embeddings without a history", "they have one", fix)

    def test_building_leaves_random_streams_alone(self) -> None:
        """Weights that are drawn are the same each time, whatever was drawn before."""
        before = torch.get_rng_state()
        first = self.sam()
        unmoved = torch.equal(before, torch.get_rng_state())
        torch.rand(3)
        moved = different(tensors_of(first), tensors_of(self.sam()))
        fix = "draw from torch's generator, which is seeded before and put back afterwards"
        expect(unmoved, "torch's generator as it was", "it moved on", fix)
        expect(not moved, "the same weights a second time", f"others in {some(moved)}", fix)

    def test_every_option_enters_the_key(self) -> None:
        """Another value of an option makes another cell."""
        settings = self.settings()
        changes = [c for c in changed_settings(settings) if c.path.startswith("encoder.options.")]
        if not changes:
            skip("it has no options")
        key = key_of(settings)
        silent = [
            c.path
            for c in changes
            if c.kind == "result" and key_of(with_change(settings, c)) == key
        ]
        rule = "another key for another value of an option"
        fix = 'mark it of_kind("cost") where it moves no number'
        expect(not silent, rule, f"the same key for {some(silent)}", fix)

    def _loaded(self) -> Sam:
        if self.spec.scale == "large":
            skip("a large encoder, which takes minutes on a CPU")
        return load_sam_parts(self.settings()).sam

    @staticmethod
    def _encoded(sam: Sam, pixels_B3SS: Tensor) -> Tensor:
        with torch.no_grad():
            return sam.encode_images(pixels_B3SS)
