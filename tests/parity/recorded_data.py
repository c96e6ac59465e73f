"""A folder of the original's recorded data path, and the random numbers it was recorded with.

The rule: torch, numpy and random are seeded with one number just before a case. All images are
augmented first (numpy: flip, scale, one offset for both axes, per image), then every image's
regions are permuted (torch) and one phrase of each is chosen in that order (random).
"""

from __future__ import annotations

import functools
import json
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from sca_bench.boxes import xywh_to_xyxy
from sca_bench.data.mixture import mix
from sca_bench.data.pipeline.dataset import RegionDataset
from sca_bench.data.pipeline.training_draw import TrainingDraw
from sca_bench.data.region_set import Part, RegionSet
from sca_bench.models.text_decoder.decoder import TextDecoder
from sca_bench.settings import AugmentationSettings
from sca_bench.types import ImageRecord, Region

_MOST_REGIONS = 64
"""What the original keeps of an image in training where nothing is said."""


def data_folders(root: Path) -> list[Path]:
    """Return the folders at or below `root` whose meta.json describes samples and cases."""
    metas = [root / "meta.json", *sorted(root.glob("*/meta.json"))]
    return [m.parent for m in metas if m.is_file() and {"samples", "cases"} <= set(_json(m))]


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


@dataclass(frozen=True)
class RecordedCase:
    """One case of a folder: its settings, its tensors and our data set for it."""

    folder: Path
    name: str
    meta: dict[str, Any]
    case: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    dataset: RegionDataset

    @property
    def jittered(self) -> bool:
        return self.case["lsj"] is not None

    @property
    def places(self) -> range:
        """The images of the case."""
        return range(len(self.meta["samples"]))

    def get(self, what: object, key: str) -> torch.Tensor | None:
        """Return a recorded tensor of a sample (or of `batch`), None where it was not recorded."""
        return self.tensors.get(f"{self.name}.{what}.{key}")

    def number(self, region_id: str) -> int:
        """Return the fixture's own id of a region."""
        sample, place = map(int, region_id.split("/"))
        return self.meta["samples"][sample]["regions"][place]["region_id"]

    def draws(self) -> list[TrainingDraw]:
        """Draw what the original drew."""
        seed = self.case.get("seed", self.meta.get("seed"))
        if seed is None:
            seed = int(re.search(r"\bs\s*=\s*(\d+)", self.meta["seeds"]).group(1))
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        cuts: list[tuple[bool, tuple[tuple[float, float], ...]]] = []
        for _ in self.places:
            if self.jittered:
                coin, scale, offset = np.random.uniform(size=3)
                cuts.append((bool(coin < 0.5), ((scale, offset),)))
            else:
                cuts.append((False, ()))
        drawn = []
        for sample, (coin, cut) in zip(self.meta["samples"], cuts, strict=True):
            order = torch.randperm(len(sample["regions"])).tolist()
            choices = []
            for place in order:
                count = len(sample["regions"][place]["phrases"])
                choices.append((random.choice(range(count)) + 0.5) / count)
            drawn.append(TrainingDraw(coin, tuple(order), tuple(choices), cut))
        return drawn


@functools.cache
def cases(folder: Path) -> dict[str, RecordedCase]:
    """Return the cases of a folder by name."""
    meta, tensors = _json(folder / "meta.json"), load_file(folder / "data.safetensors")
    return {
        name: RecordedCase(folder, name, meta, case, tensors, _dataset(meta, case, tensors))
        for name, case in meta["cases"].items()
    }


def _dataset(
    meta: dict[str, Any], case: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> RegionDataset:
    parts = [
        Part(str(number), 1.0, _one_image(sample, tensors[sample["image"]]))
        for number, sample in enumerate(meta["samples"])
    ]
    training, augmentation = case["split"] == "train", None
    if case["lsj"] is not None:
        augmentation = AugmentationSettings(lsj_scale=case["lsj"], lsj_as_published=True)
    return RegionDataset(
        mix(tuple(parts)),
        image_size=meta["image_size"],
        regions_per_image=case["num_masks_per_sample"] or _MOST_REGIONS,
        training=training,
        augmentation=augmentation,
    )


def _one_image(sample: dict[str, Any], pixels: torch.Tensor) -> RegionSet:
    """Return a region set of one recorded image, so that each can have its own task."""
    height, width = pixels.shape[:2]
    regions = tuple(
        Region(
            str(place),
            "image",
            xywh_to_xyxy(*(region[key] for key in ("x", "y", "width", "height"))),
            tuple(region["phrases"]),
        )
        for place, region in enumerate(sample["regions"])
    )
    images = {"image": ImageRecord("image", width, height)}

    def load(record: ImageRecord) -> np.ndarray:
        return pixels.numpy()

    return RegionSet("recorded", images, regions, loader=load, task=sample["task_type"])


def word_decoder(meta: dict[str, Any]) -> TextDecoder:
    """Return a text decoder whose tokenizer knows the fixture's words."""
    words, unknown = meta["words"], meta["words"][meta["unk_id"]]
    model = models.WordLevel({word: k for k, word in enumerate(words)}, unk_token=unknown)
    splitter = Tokenizer(model)
    splitter.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=splitter, eos_token=words[meta["eos_id"]], unk_token=unknown
    )
    ends = {"bos_token_id": meta["eos_id"], "eos_token_id": meta["eos_id"]}
    config = GPT2Config(vocab_size=len(words), n_embd=8, n_layer=1, n_head=1, **ends)
    return TextDecoder(GPT2LMHeadModel(config), tokenizer, name="words")
