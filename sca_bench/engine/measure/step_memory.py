"""What a cell would take, without computing anything: parameters, shapes of one step, memory.

The whole training step runs on tensors that have shapes and no content, so a ViT-H with a language
model of three billion weights is sized in seconds on a laptop. Mixed precision is taken into
account; kernels' workspaces and the allocator's fragments are not, so leave some room.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sca_bench.batch import RegionFeatures
from sca_bench.errors import InputError
from sca_bench.models.sca import ScaCaptioner
from sca_bench.models.text_decoder.activation_checkpointing import checkpointing
from sca_bench.models.text_decoder.loading import untrained_twin
from sca_bench.settings import CellSettings
from sca_bench.variants import get_variant

_GIB = 2**30
PROMPT_TOKENS = 2
"""Tokens of the prompt that is sized: a box."""


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
    if get_variant(settings.variant).trains != "gradient":
        return None
    captioner, sized = bare_captioner(settings)
    parameters = list(captioner.parameters())
    trained = [p for p in parameters if p.requires_grad]
    estimate = StepEstimate(sum(p.numel() for p in parameters), sum(p.numel() for p in trained))
    estimate.memory_gib["weights"] = sum(p.numel() * p.element_size() for p in parameters) / _GIB
    estimate.memory_gib["gradients and AdamW"] = 3 * sum(p.numel() * 4 for p in trained) / _GIB
    estimate.memory_gib["one step"] = _peak_of_a_step(captioner, sized, estimate.shapes) / _GIB
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


def _peak_of_a_step(
    captioner: ScaCaptioner, settings: CellSettings, shapes: dict[str, tuple[int, ...]]
) -> int:
    """Run a step on tensors without content; return the bytes at its highest point."""
    half = settings.train.precision not in ("fp32", "tf32")
    with FakeTensorMode():
        give_contents_up(captioner)
        captioner.train()
        with _LiveBytes() as meter, torch.autocast("cpu", torch.bfloat16, enabled=half):
            _step(captioner, settings, shapes)
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
    captioner: ScaCaptioner, settings: CellSettings, shapes: dict[str, tuple[int, ...]]
) -> None:
    images, regions = settings.train.images_per_batch, settings.train.regions_per_image
    count, encoder, sam = images * regions, captioner.region_encoder, captioner.region_encoder.sam
    side = sam.dims.image_size
    with torch.no_grad():
        pixels = torch.empty(images, 3, side, side)
        embeddings = sam.encode_images(pixels)
        features = encoder.from_embeddings(
            embeddings,
            torch.zeros(count, dtype=torch.long),
            torch.empty(count, PROMPT_TOKENS, sam.dims.embed_dim),
            boxes_xyxy_input_N4=torch.empty(count, 4),
            families=captioner.families,
        )
    tensors: dict[str, Tensor] = {}
    loss = own_loss(captioner, settings, features, tensors)
    made = {
        "images": pixels,
        "image embeddings": embeddings,
        "SAM tokens": features.tokens_NTC,
        "image tokens of the regions": features.image_tokens_NSC,
        **tensors,
    }
    shapes.update({name: tuple(t.shape) for name, t in made.items() if isinstance(t, Tensor)})
    tensors.clear()
    del embeddings, made  # the backward pass frees what it has used
    loss.backward()


def own_loss(
    captioner: ScaCaptioner,
    settings: CellSettings,
    features: RegionFeatures,
    tensors: dict[str, Tensor] | None = None,
) -> Tensor:
    """Make the forward pass of a cell's own part, with captions of the greatest length.

    Args:
        captioner: The cell.
        settings: Its settings.
        features: Of the regions of a step.
        tensors: Where to put the tensors on the way, by name.
    """
    outputs = captioner.query_outputs(features)
    prefix = captioner.prefix(outputs, ["caption"] * len(outputs))
    tokens = torch.zeros(len(prefix), settings.train.max_caption_tokens + 1, dtype=torch.long)
    captioner.text_decoder.train(captioner.dropout_in_training)
    decoder = captioner.text_decoder
    with checkpointing(decoder.language_model, captioner.checkpoint_text_decoder):
        logits = decoder.logits(prefix, tokens[:, :-1])
    if tensors is not None:
        tensors |= {"query outputs": outputs, "prefix": prefix, "logits": logits}
    return F.cross_entropy(logits.flatten(0, 1).float(), tokens.flatten())


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
