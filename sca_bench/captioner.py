"""The public protocol: what every model variant and every baseline looks like to the loop.

A variant that shares a frozen prefix (SAM, perhaps the text decoder) with other cells also
implements `SharesPrefix`: the engine then computes `frozen_features` once and hands them to every
cell. One that has work for the host, such as resizing images, may implement `PreparesBatches`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from sca_bench.types import Family, Prediction, Trains

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sca_bench.batch import RegionBatch, RegionFeatures


@dataclass(frozen=True, slots=True)
class Decoding:
    """How captions are decoded.

    Attributes:
        num_beams: 1 is greedy.
        max_new_tokens: Upper limit of generated tokens, the end token included.
    """

    num_beams: int = 1
    max_new_tokens: int = 19


@runtime_checkable
class RegionCaptioner(Protocol):
    """Boxes or points on images in, one caption per region out."""

    def generate(self, batch: RegionBatch, decoding: Decoding) -> list[Prediction]:
        """Return one `Prediction` per real region, in the batch's row-major order."""
        ...


@runtime_checkable
class TrainableCaptioner(RegionCaptioner, Protocol):
    """A captioner that learns by gradient descent; it has to be a `torch.nn.Module`.

    Its parameters that require a gradient are trained.
    """

    def loss(self, batch: RegionBatch) -> Tensor:
        """Return the scalar training loss of the batch (which carries captions)."""
        ...

    def trainable_state(self) -> dict[str, Tensor]:
        """Return every trained tensor by name; nothing that is frozen."""
        ...

    def load_trainable_state(self, state: Mapping[str, Tensor], where: object = ...) -> None:
        """Put back what `trainable_state` returned; `where` names the file in an error."""
        ...


@runtime_checkable
class PreparesBatches(RegionCaptioner, Protocol):
    """A captioner whose batches are worked on by the host, before the step that needs them.

    Whoever loads a batch does that, with `runtime.loader_workers` in processes of its own. Batches
    that nobody has prepared are captioned all the same, and to the same numbers.
    """

    def preparation(self) -> Callable[[RegionBatch], RegionBatch]:
        """Return what is done to a batch that is still on the host.

        It puts a dataclass into the batch's `prepared`, whose tensors then travel with the batch,
        and may take away what is not read any more. Loaders' processes get pickled copies of it,
        and cells of one group share it: it holds no weights, and depends on no setting of the
        recipe of training.
        """
        ...


@runtime_checkable
class StacksCells(Protocol):
    """A captioner that can be stepped together with others, as `train.stacked` wants it.

    Its `VariantSpec` says so (`stacks`).
    """

    def stacked_losses(
        self,
        cells: Sequence[Any],
        batch: RegionBatch,
        streams: Sequence[Callable[[], AbstractContextManager[None]]],
    ) -> Sequence[Tensor]:
        """Return the `loss` of each cell, up to rounding, so that `backward` reaches each one.

        No cell may notice in more than rounding which others there are; one whose numbers are not
        finite may spoil no other.

        Args:
            cells: Captioners of this class, this one among them. Their settings differ in the
                recipe of training and in how weights begin only; frozen parts are shared.
            batch: As for `loss`.
            streams: Each cell's random numbers: what is drawn inside its context, it draws.
        """
        ...


@runtime_checkable
class CompilesBlocks(Protocol):
    """A captioner that gains from `runtime.compile`; others take no notice of that setting."""

    def compile_blocks(self) -> None:
        """Have the blocks that the model repeats compiled when they are next called."""
        ...


@runtime_checkable
class SharesPrefix(RegionCaptioner, Protocol):
    """A captioner whose first stages are frozen and may be computed once for several cells."""

    def frozen_features(
        self,
        batch: RegionBatch,
        *,
        families: Collection[Family] | None = None,
        with_masks: bool = False,
    ) -> RegionFeatures:
        """Run image encoder, prompt encoder and SAM mixer without gradient.

        Args:
            batch: Images with prompts.
            families: Which features to return; those this captioner reads where None.
            with_masks: Also return low-resolution mask logits.
        """
        ...


@runtime_checkable
class EmbedsImages(SharesPrefix, Protocol):
    """One whose image encoder can be asked alone; an encoder cache needs that.

    Its `frozen_features` reads `image_embeddings_BChw` of a batch, where there are some, in place
    of the pixels.
    """

    def embed_images(self, pixel_values_B3HW: Tensor) -> Tensor:
        """Return the embeddings (B, C, h, w) of normalised, padded images, without gradient.

        They are rounded to the cell's `features.encoder_dtype`.
        """
        ...


@runtime_checkable
class CastsFrozen(SharesPrefix, Protocol):
    """One that can keep frozen matrices in the type of mixed precision, where they are cast once.

    It is asked before training in mixed precision, and from then on only computes under autocast
    of that type. No number may move.
    """

    def cast_frozen(self, dtype: torch.dtype) -> None:
        """Cast frozen matrices, in place, to bfloat16 or float16."""
        ...


@runtime_checkable
class KnowsItsMemory(RegionCaptioner, Protocol):
    """One that says what a region takes, so that a GPU can caption as many at a time as fit."""

    def caption_bytes(self, decoding: Decoding) -> int:
        """Return the bytes that captioning one region more takes at most, features included."""
        ...


@runtime_checkable
class FitsFeatures(SharesPrefix, Protocol):
    """A captioner without gradient descent that looks at the training regions' features once."""

    def fit_features(self, batches: Iterable[RegionBatch]) -> None:
        """Learn from the training split.

        Args:
            batches: Every training region once, as stored, with frozen features and captions.
        """
        ...


@runtime_checkable
class FitsOnce(RegionCaptioner, Protocol):
    """A captioner without gradient descent that looks at the training captions once."""

    def fit(self, captions: list[str]) -> None:
        """Learn from the training captions."""
        ...


def fault_of_captioner(captioner: object, trains: Trains) -> str:
    """Return in what a captioner is not what the loop needs; empty where it is.

    Args:
        captioner: What a builder returned.
        trains: How it is said to learn (`VariantSpec.trains`).
    """
    from torch import nn

    if trains == "gradient":
        if not isinstance(captioner, nn.Module):
            return "it is trained by gradient, so it has to be a torch.nn.Module"
        if lacking := _lacking(captioner, "loss", "trainable_state", "load_trainable_state"):
            return f"it is trained by gradient, but has no {lacking}"
        if not any(parameter.requires_grad for parameter in captioner.parameters()):
            return "it is trained by gradient, but has no parameter that requires one"
    if trains == "once" and not isinstance(captioner, FitsOnce | FitsFeatures):
        return "it learns once, but has neither fit nor fit_features with frozen_features"
    lacking = _lacking(captioner, "generate")
    return f"it has no {lacking}" if lacking else ""


def _lacking(captioner: object, *methods: str) -> str:
    return ", ".join(name for name in methods if not callable(getattr(captioner, name, None)))
