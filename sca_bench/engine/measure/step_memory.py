"""What a cell would take, without computing anything: parameters, shapes of one step, memory.

The whole training step runs on tensors that have shapes and no content, so a ViT-H with a language
model of three billion weights is sized in seconds on a laptop. Mixed precision is taken into
account; kernels' workspaces and the allocator's fragments are not, so leave some room.
"""

from __future__ import annotations

import weakref
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sca_bench.batch import RegionFeatures
from sca_bench.engine.measure.counter import OpCounter
from sca_bench.engine.measure.cuda_rules import HALF, cuda_rules
from sca_bench.errors import InputError
from sca_bench.models.sca import ScaCaptioner
from sca_bench.models.text_decoder.decoder import CaptionTokens
from sca_bench.models.text_decoder.loading import untrained_twin
from sca_bench.settings import CellSettings
from sca_bench.types import Family
from sca_bench.variants import get_variant

_GIB = 2**30
ENCODER, SAM_MIXER = "image encoder", "prompts, SAM mixer"
"""Frozen parts of a step."""
OWN = ("own mixer", "own text decoder", "own backward", "own update")
"""Parts of a step that are the cell's own."""


@dataclass
class StepEstimate:
    """One training step of one cell at full size.

    Attributes:
        num_total_params: Parameters, frozen ones included.
        num_trainable_params: Those that learn.
        shapes: Name of a tensor -> its shape in one step.
        memory_gib: Part -> GiB: weights, gradients with optimiser, and the peak of what the step
            keeps and makes beside them.
    """

    num_total_params: int
    num_trainable_params: int
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    memory_gib: dict[str, float] = field(default_factory=dict)

    @property
    def total_gib(self) -> float:
        """Sum of the parts."""
        return sum(self.memory_gib.values())


def without_weights(settings: CellSettings) -> CellSettings:
    """Return the cell with untrained weights of the same sizes, so that no file is needed.

    Raises:
        InputError: The sizes of its text decoder are not known without its files.
    """
    sam = settings.sam.model_copy(update={"weights": "random"})
    twin = untrained_twin(settings.text_decoder.weights)
    decoder = settings.text_decoder.model_copy(update={"weights": twin})
    return settings.model_copy(update={"sam": sam, "text_decoder": decoder, "start_from": None})


def estimate_step(settings: CellSettings) -> StepEstimate | None:
    """Size one training step of a cell; None for a variant without gradient steps.

    Raises:
        InputError: The cell cannot be built.
    """
    return count_step(settings, OpCounter())


def count_step(settings: CellSettings, counter: OpCounter) -> StepEstimate | None:
    """Size one training step of a cell, and count in its parts what it has a GPU do.

    Raises:
        InputError: The cell cannot be built.
    """
    if get_variant(settings.variant).trains != "gradient":
        return None
    captioner, sized = bare_captioner(settings)
    parameters = list(captioner.parameters())
    trained = [p for p in parameters if p.requires_grad]
    estimate = StepEstimate(sum(p.numel() for p in parameters), sum(p.numel() for p in trained))
    cast_frozen(captioner, sized.train.precision)
    kept = sum(p.numel() * p.element_size() for p in captioner.parameters())
    estimate.memory_gib["weights"] = kept / _GIB
    estimate.memory_gib["gradients and AdamW"] = 3 * sum(p.numel() * 4 for p in trained) / _GIB
    estimate.memory_gib["one step"] = (
        _peak_of_a_step(captioner, sized, estimate.shapes, counter) / _GIB
    )
    return estimate


def bare_captioner(settings: CellSettings) -> tuple[ScaCaptioner, CellSettings]:
    """Build a cell's captioner on the meta device; return it with the settings it was built from.

    Raises:
        InputError: The cell cannot be built, or is no SCA design.
    """
    spec, sized = get_variant(settings.variant), without_weights(settings)
    if not spec.design:
        raise InputError(None, "variant", f"{spec.name} cannot be sized: it is no SCA design")
    with torch.device("meta"):
        captioner = spec.load()(sized, spec.load_parts(sized))
    return captioner, sized


def cast_frozen(captioner: ScaCaptioner, precision: str) -> None:
    """Let a captioner keep what is frozen in the type of its mixed precision, as a run does."""
    if precision in HALF:
        captioner.cast_frozen(HALF[precision])


def _peak_of_a_step(
    captioner: ScaCaptioner,
    settings: CellSettings,
    shapes: dict[str, tuple[int, ...]],
    counter: OpCounter,
) -> int:
    """Run a step on tensors without content; return the bytes at its highest point."""
    with FakeTensorMode(), cuda_rules(settings.train.precision):
        give_contents_up(captioner)
        captioner.train()
        with _LiveBytes() as meter, counter:
            _step(captioner, settings, shapes, counter)
        _update(captioner, settings, counter)
        return int(meter.peak)


def give_contents_up(module: nn.Module) -> None:
    """Replace every tensor of a module on the meta device by one that says it is on a CPU.

    Mixed precision is decided by the device, and the meta device has none.
    """
    twins: dict[int, Tensor] = {}  # tied weights stay tied
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if id(parameter) not in twins:
                twins[id(parameter)] = nn.Parameter(
                    torch.empty(parameter.shape, dtype=parameter.dtype, device="cpu"),
                    requires_grad=parameter.requires_grad,
                )
            part._parameters[name] = twins[id(parameter)]  # type: ignore[assignment]
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype, device="cpu")


def _step(
    captioner: ScaCaptioner,
    settings: CellSettings,
    shapes: dict[str, tuple[int, ...]],
    counter: OpCounter,
) -> None:
    images, regions = settings.train.images_per_batch, settings.train.regions_per_image
    sam = captioner.region_encoder.sam
    side = sam.dims.image_size
    with torch.no_grad():
        with counter.part(ENCODER):
            pixels = torch.empty(images, 3, side, side)
            embeddings = sam.encode_images(pixels)
        with counter.part(SAM_MIXER):
            features = features_of(captioner, embeddings, images * regions)
    tensors: dict[str, Tensor] = {}
    loss = own_loss(captioner, settings, features, counter, tensors)
    made = {
        "images": pixels,
        "image embeddings": embeddings,
        "SAM tokens": features.tokens_NTC,
        "image tokens of the regions": features.image_tokens_NSC,
        **tensors,
    }
    shapes.update({name: tuple(t.shape) for name, t in made.items() if isinstance(t, Tensor)})
    shapes["logits"] = (
        len(tensors["prefix"]),
        settings.train.max_caption_tokens + 1,
        captioner.text_decoder.vocab_size,
    )
    tensors.clear()
    del embeddings, made  # the backward pass frees what it has used
    with counter.part(OWN[2]):
        loss.backward()


def _update(captioner: ScaCaptioner, settings: CellSettings, counter: OpCounter) -> None:
    """Count what follows a backward pass: gradients are scaled back and clipped, AdamW steps."""
    trained = [p for p in captioner.parameters() if p.grad is not None]
    optimiser = torch.optim.AdamW(trained, lr=settings.train.learning_rate, fused=True)
    scaler = torch.amp.GradScaler("cpu", enabled=settings.train.precision == "fp16")
    scaler.scale(torch.zeros(()))
    scaler.step(optimiser)  # the first one makes AdamW's moments
    scaler.update()
    with counter, counter.part(OWN[3]):
        scaler.unscale_(optimiser)
        torch.nn.utils.clip_grad_norm_(trained, settings.train.clip_norm, foreach=True)
        scaler.step(optimiser)
        scaler.update()


def features_of(
    captioner: ScaCaptioner,
    embeddings_BChw: Tensor,
    count: int,
    families: Collection[Family] | None = None,
) -> RegionFeatures:
    """Return frozen features of some regions with a box each, all of the first image.

    Args:
        captioner: The cell.
        embeddings_BChw: Image embeddings.
        count: Number of regions.
        families: Which features; those that the cell reads where None.
    """
    encoder = captioner.region_encoder
    boxes = torch.empty(count, 4)
    features: RegionFeatures = encoder.from_embeddings(
        embeddings_BChw,
        torch.zeros(count, dtype=torch.long),
        encoder.sam.encode_prompts(boxes),
        boxes_xyxy_input_N4=boxes,
        families=captioner.families if families is None else families,
    )
    return features


def own_loss(
    captioner: ScaCaptioner,
    settings: CellSettings,
    features: RegionFeatures,
    counter: OpCounter,
    tensors: dict[str, Tensor],
) -> Tensor:
    """Make the forward pass of a cell's own part, with captions of the greatest length.

    Args:
        captioner: The cell.
        settings: Its settings.
        features: Of the regions of a step.
        counter: Counts it.
        tensors: Where to put the tensors on the way, by name.
    """
    with counter.part(OWN[0]):
        outputs = captioner.query_outputs(features)
        prefix = captioner.prefix(outputs, ["caption"] * len(outputs))
    tensors |= {"query outputs": outputs, "prefix": prefix}
    width = settings.train.max_caption_tokens + 1
    ids = torch.zeros(len(prefix), width, dtype=torch.long)
    tokens = CaptionTokens(ids, ids, torch.arange(ids.numel()))
    index = features.image_index_N.repeat_interleave(outputs.shape[1])
    captioner.text_decoder.train(captioner.dropout_in_training)
    with counter.part(OWN[1]):
        return captioner.text_decoder.loss(
            prefix,
            tokens,
            captioner.label_smoothing,
            image_index_N=index if captioner.loss_over == "images" else None,
            num_images=features.num_images,
            checkpoint=captioner.checkpoint_text_decoder,
        )


class _LiveBytes(TorchDispatchMode):
    """Adds up the storages that are alive, each once."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.peak = 0, 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return out

    def _count(self, storage: Any) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.live -= size
