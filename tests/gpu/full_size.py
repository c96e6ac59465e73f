"""Cells of the published sizes with random weights, made where they are to run.

Weights are drawn on the device: the host would take a minute to draw, and more to send, what a
GPU has in a second.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import PreTrainedTokenizerFast

from sca_bench.batch import RegionBatch
from sca_bench.captioner import Decoding
from sca_bench.engine.worker.cell_group import CellGroup, Member, cast_frozen
from sca_bench.engine.worker.mmengine_runner import build_optimiser
from sca_bench.engine.worker.rng import RngStream
from sca_bench.models.build import build_sca
from sca_bench.settings import CellSettings
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.variants import get_variant

NEW_TOKENS = 19
WORDS = [f"w{i}" for i in range(100)]
_SPREAD = 0.02
"""Standard deviation of matrices, as in the originals' untrained ones."""


class Size(NamedTuple):
    """What is measured.

    Attributes:
        sam: Registered SAM.
        decoder: Weights of an untrained text decoder.
        images: Images of a step.
        regions: Regions of each.
        depths: Mixer layers of the cells; the last one is looked at by itself.
        precision: Of training.
    """

    sam: str
    decoder: str
    images: int
    regions: int
    depths: tuple[int, ...]
    precision: str

    @property
    def decoder_name(self) -> str:
        """Its decoder without where that lies."""
        return re.split("[:/]", self.decoder)[-1]

    def __str__(self) -> str:
        return f"{self.sam} / {self.decoder_name}, {self.images} x {self.regions}, {self.precision}"


def words() -> PreTrainedTokenizerFast:
    """Return a tokenizer of a word an id: untrained decoders have none."""
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<unk>", *WORDS])}, "<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


def drawn_on(module: nn.Module, device: torch.device) -> nn.Module:
    """Give a module of the meta device random weights on another; tied weights stay tied."""
    made: dict[int, nn.Parameter] = {}
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if id(parameter) not in made:
                values = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
                scales = parameter.ndim == 1 and name == "weight"
                values = values.fill_(1.0) if scales else values.normal_(0, _SPREAD)
                made[id(parameter)] = nn.Parameter(values, requires_grad=parameter.requires_grad)
            part._parameters[name] = made[id(parameter)]
        for name, buffer in part.named_buffers(recurse=False):
            values = torch.zeros(buffer.shape, dtype=buffer.dtype, device=device)
            part._buffers[name] = values.normal_() if values.is_floating_point() else values
    return module


class Cells:
    """Cells that differ in depth, over shared frozen parts, ready to step."""

    def __init__(self, size: Size, device: torch.device, **changes: Any) -> None:
        """Build them; `changes` are settings by dotted path, with `__` for the dot."""
        self.size, self.device, self.turn = size, device, 0
        self.settings = [_settings(size, depth, changes) for depth in size.depths]
        with torch.device("meta"):
            self.parts = get_variant("sca").load_parts(self.settings[0])
        for part in (self.parts.sam, self.parts.text_decoder):
            drawn_on(part, device)
        self.parts.text_decoder.tokenizer = words()
        self.members = []
        for settings in self.settings:
            rng = RngStream(0, device)
            with rng.active():
                captioner = build_sca(settings, self.parts)
            captioner.to(device)
            key = str(settings.mixer.num_layers)
            self.members.append(Member(key, captioner, CellIdentity(settings, {}), rng))
        cast_frozen(self.members, size.precision)
        self.wrappers = {m.key: build_optimiser(m, device) for m in self.members}
        self.side = self.parts.sam.dims.image_size

    def group(self, *keys: str) -> CellGroup:
        """Return the group of some cells, of all where none is named, ready to train."""
        members = [m for m in self.members if not keys or m.key in keys]
        group = CellGroup(members, self.device, {}, Decoding(1, NEW_TOKENS))
        group.train()
        return group

    def batch(self) -> RegionBatch:
        """Return noise with boxes and captions; every time with other boxes and lengths."""
        images, regions = self.size.images, self.size.regions
        generator = torch.Generator().manual_seed(self.turn)
        self.turn += 1
        corners = torch.rand(images, regions, 2, generator=generator) * 0.6 * self.side
        lengths = [7 + (i + self.turn) % 6 for i in range(images * regions)]
        return RegionBatch(
            image_ids=[f"image {i}" for i in range(images)],
            region_ids=[f"region {i}" for i in range(images * regions)],
            region_mask_BR=torch.ones(images, regions, dtype=torch.bool),
            boxes_xyxy_input_BR4=torch.cat([corners, corners + 0.25 * self.side], dim=-1),
            pixel_values_B3HW=torch.randn(images, 3, self.side, self.side, generator=generator),
            input_sizes_hw=[(self.side, self.side)] * images,
            captions=[" ".join(WORDS[i % 80 : i % 80 + n]) for i, n in enumerate(lengths)],
        )

    def embedded(self) -> RegionBatch:
        """Return a batch whose image embeddings are there, as an encoder cache gives them."""
        dims = self.parts.sam.dims
        shape = (self.size.images, dims.embed_dim, dims.grid, dims.grid)
        values = torch.randn(shape, device=self.device)
        return replace(self.batch(), pixel_values_B3HW=None, image_embeddings_BChw=values)

    def step(self, group: CellGroup, batch: RegionBatch) -> None:
        """Make one step of a group.

        Raises:
            RuntimeError: A cell failed.
        """
        losses = group.train_step(batch, self.wrappers)
        if len(losses) != len(group.members):
            raise RuntimeError("; ".join(m.error for m in group.members if m.error))


def _settings(size: Size, depth: int, changes: dict[str, Any]) -> CellSettings:
    scenes = {"dataset": "scenes", "num_images": 1, "first_seed": 0}
    nested: dict[str, Any] = {
        "sam": {"size": size.sam, "weights": "random"},
        "text_decoder": {"weights": size.decoder},
        "mixer": {"num_layers": depth, **({"num_heads": 4} if "tiny" in size.sam else {})},
        "train": {
            "precision": size.precision,
            "images_per_batch": size.images,
            "regions_per_image": size.regions,
        },
        "data": {"train": scenes, "test": scenes},
    }
    for path, value in changes.items():
        room, _, name = path.partition("__")
        nested.setdefault(room, {})[name] = value
    return CellSettings.model_validate(nested)
