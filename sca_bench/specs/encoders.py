"""The registry of image encoders: the names that `sam.size` and `encoder.type` take; no torch.

An encoder is one file: an `EncoderSpec` and the function that builds the encoder. Here it is one
line; another package names its `EncoderSpec` by an entry point of the group `sca_bench.encoders`.

There are two kinds. One *comes with a whole SAM*, whose sizes it states (`dims`): `sam.size` names
it. The other stands in the place of that SAM's own encoder: `encoder.type` names it. What the
second kind leaves open (`build`, `pixels`, `scale`) is as with the SAM that `sam.size` names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

from sca_bench.errors import InputError, did_you_mean
from sca_bench.plugins import Registry, attribute, fault_of_names
from sca_bench.specs.sam_dims import SamDims

Scale = Literal["", "small", "medium", "large"]
Path = Literal["none", "optional", "required"]
SIZE_KEY, TYPE_KEY = "sam.size", "encoder.type"


class PixelStats(NamedTuple):
    """What pixels are normalised by: R, G and B on the scale from 0 to 255.

    Attributes:
        mean: Is subtracted; rounded, it is the colour of padding and of blank images.
        std: Is divided by.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


IMAGENET = PixelStats((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
"""Mean and standard deviation of ImageNet's pixels, which SAM (and GRiT) normalise by."""


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """One image encoder.

    Attributes:
        name: What `sam.size` names (with `dims`) or `encoder.type` (without).
        summary: One line for lists.
        build: `module:attribute` of the function that builds it, imported on use:
            `(settings, dims) -> encoder`, with the cell's `encoder` settings (None for one that
            comes with a whole SAM) and SAM's sizes. It reads nothing else, for nothing else is
            part of the features' key. The encoder takes
            normalised, padded images (B, 3, S, S) and yields (B, embed_dim, grid, grid). Weights
            that it draws come from torch's generator, seeded with `sam.random_seed`. Empty: the
            encoder of the SAM that `sam.size` names.
        dims: Sizes of the whole SAM that it comes with; None for one that is put into a SAM.
        draws_weights: Of SAM's own encoder: its weights are drawn, and those in `sam.weights` are
            left unread.
        pixels: What its pixels are normalised by; None: as those of SAM, which are ImageNet's.
        scale: How much it computes. `small` encodes an image in milliseconds on a CPU; a `large`
            one is measured on a GPU only, and `check` does not build it. Empty: as SAM's own.
        renamed: How transformers names its tensors: (pattern, replacement) pairs over Meta's
            names, in order, below `vision_encoder.`.
        unused: Beginnings of its tensors' names, behind `image_encoder.`, that files hold and
            nothing reads, such as a classifier.
        path: Whether it reads `encoder.path`.
        options: `module:Class` of its own settings, a subclass of `sca_bench.settings.Settings`,
            mounted at `encoder.options`; empty for none.
        revision: Raised whenever its code changes a number; part of the keys of cells that use an
            encoder of another package. Of this package's, `FEATURES_REVISION` says it.
        licence: Licence of code and weights.
        source: Where it comes from.
        example: `module:attribute` of a function by which `sca_bench test` tries it: it gets a
            folder, may make files in it, and returns settings by dotted path, over
            the tiny ones of `contract.captioners.cell`. Empty: these will do.
        fault: Why it cannot be used at all: a package that does not import.
    """

    name: str
    summary: str
    build: str = ""
    dims: SamDims | None = None
    draws_weights: bool = False
    pixels: PixelStats | None = None
    scale: Scale = ""
    renamed: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()
    path: Path = "none"
    options: str = ""
    revision: str = "1"
    licence: str = "Apache-2.0"
    source: str = ""
    example: str = ""
    fault: str = ""

    def load(self) -> Callable[[Any, SamDims], Any]:
        """Import and return what builds it: `(settings, dims) -> encoder`."""
        build: Callable[[Any, SamDims], Any] = attribute(self.build)
        return build

    @property
    def is_own(self) -> bool:
        """Whether it comes with this package."""
        return ENCODERS.own().get(self.name) == self

    @property
    def pixel_stats(self) -> PixelStats:
        """What pixels are normalised by for it; ImageNet's where nothing else is said."""
        return self.pixels or IMAGENET

    @property
    def key_revision(self) -> str:
        """What of its code is part of keys; empty for an encoder of this package.

        Pixels that are normalised in another way are other input, whether its author has thought
        of the revision or not.
        """
        if self.is_own:
            return ""
        if self.pixels in (None, IMAGENET):
            return self.revision
        return f"{self.revision}, pixels {self.pixels.mean} / {self.pixels.std}"

    def named_code(self) -> dict[str, str]:
        """Return what it names as `module:attribute`, by field."""
        code = {"build": self.build, "options": self.options}
        return {field: path for field, path in code.items() if path}


def _fault_of(spec: EncoderSpec) -> str:
    if fault := fault_of_names("encoder", spec.name, spec.named_code()):
        return fault
    if not spec.build and (spec.dims or spec.options or spec.path != "none"):
        return "has no build, expected 'module:attribute' of the function that builds the encoder"
    if spec.dims is not None and (spec.options or spec.path != "none"):
        return "comes with a whole SAM (`dims`), which has neither options nor a path of its own"
    if spec.dims is not None and not isinstance(spec.dims, SamDims):
        return f"has dims {spec.dims!r}, expected SamDims"
    for field, names in (("scale", get_args(Scale)), ("path", get_args(Path))):
        if getattr(spec, field) not in names:
            known = ", ".join(filter(None, names))
            return f"has {field} {getattr(spec, field)!r}, expected one of {known}"
    return _fault_of_pixels(spec.pixels)


def _fault_of_pixels(pixels: Any) -> str:
    if pixels is None:
        return ""
    expected = "expected PixelStats of three numbers and three above 0"
    try:
        mean, std = (tuple(float(number) for number in part) for part in pixels)
    except (TypeError, ValueError):
        return f"has pixels {pixels!r}, {expected}"
    if not isinstance(pixels, PixelStats) or (len(mean), len(std)) != (3, 3) or min(std) <= 0:
        return f"has pixels {pixels!r}, {expected}"
    return "" if all(0 <= m <= 255 for m in mean) else f"has pixels {pixels!r}, {expected}"


def _broken(name: str, points_to: str, fault: str) -> EncoderSpec:
    return EncoderSpec(name, fault, points_to, licence="-", fault=fault)


ENCODERS = Registry(
    "sca_bench.encoders",
    EncoderSpec,
    TYPE_KEY,
    (
        "sca_bench.models.encoders.sams_own:SPECS",
        "sca_bench.models.encoders.onnx_file:SPEC",
        "sca_bench.models.encoders.tiny_sam:SPECS",
        "sca_bench.models.encoders.mobile_sam:SPEC",
        "sca_bench.models.encoders.sam_vit:SPECS",
    ),
    fault_of=_fault_of,
    broken=_broken,
)
"""Every image encoder by name."""


def of_sam(size: str) -> EncoderSpec:
    """Return the encoder that comes with the SAM of a `sam.size`.

    Raises:
        InputError: No such SAM, and the nearest is suggested; or it cannot be used.
    """
    return _named(size, SIZE_KEY, with_sam=True)


def in_sam(name: str) -> EncoderSpec:
    """Return the encoder that an `encoder.type` puts into a SAM.

    Raises:
        InputError: No such encoder, and the nearest is suggested; or it cannot be used.
    """
    return _named(name, TYPE_KEY, with_sam=False)


def _named(name: str, key: str, *, with_sam: bool) -> EncoderSpec:
    def fits(spec: EncoderSpec) -> bool:
        return (spec.dims is not None) == with_sam

    own = ENCODERS.own().get(name)
    spec = own or ENCODERS.all().get(name)
    if spec is None or not (spec.fault or fits(spec)):
        names = [n for n, other in ENCODERS.all().items() if fits(other) and not other.fault]
        problem = f"{name!r} is not registered"
        if spec is not None:
            problem = f"{name!r} belongs to {TYPE_KEY if with_sam else SIZE_KEY}"
        raise InputError(None, key, problem, did_you_mean(name, names))
    if spec.fault:
        fix = "repair or uninstall the package"
        raise InputError(None, key, f"{name!r} cannot be used: {spec.fault}", fix)
    return spec


def encoder_of(size: str, name: str) -> EncoderSpec:
    """Return what encodes images for a `sam.size` and an `encoder.type`, with nothing left open.

    Its name is that of the SAM whose own encoder it is, or the `encoder.type` that is put in.

    Raises:
        InputError: One of the two is not registered.
    """
    sam, spec = of_sam(size), in_sam(name)
    return replace(
        spec,
        name=spec.name if spec.build else sam.name,
        build=spec.build or sam.build,
        dims=sam.dims,
        pixels=spec.pixels or sam.pixels,
        scale=spec.scale or sam.scale or "medium",
    )


def sam_dims(size: str) -> SamDims:
    """Return the sizes of the SAM that `sam.size` names.

    Raises:
        InputError: No such SAM.
    """
    dims = of_sam(size).dims
    assert dims is not None
    return dims


def sam_sizes() -> dict[str, SamDims]:
    """Return the sizes of every SAM by name, this package's first."""
    specs = ENCODERS.all().items()
    return {name: spec.dims for name, spec in specs if spec.dims is not None and not spec.fault}
