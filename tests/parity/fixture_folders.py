"""Which folders of recorded outputs there are, and what is in them."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import torch
from recorded import checkpoint, inputs_file
from safetensors.torch import load_file

from sca_bench.batch import RegionBatch, RegionFeatures
from sca_bench.models.original.classes import CLASSES
from sca_bench.models.original.layout import load_original
from sca_bench.models.sca import ScaCaptioner
from sca_bench.models.text_decoder.decoder import CaptionTokens

PROMPTS = {
    "boxes": ("input_boxes", None, None),
    "boxes_single": ("input_boxes", None, None),
    "points": (None, "input_points", None),
    "points2": (None, "input_points2", "input_labels2"),
    "both": ("input_boxes", "input_points2", "input_labels2"),
}
"""Names of the box, point and label inputs of each kind of prompt."""


def model_folders(root: Path) -> dict[Path, str | None]:
    """Return every folder with a recorded model, and why it cannot be checked (None: it can).

    Folders that record something else (the data path, scores, another network) name no class.
    """
    if not root.is_dir():
        return {}
    metas = [root / "meta.json"] if (root / "meta.json").is_file() else root.glob("*/meta.json")
    folders: dict[Path, str | None] = {}
    for meta in sorted(metas):
        name = json.loads(meta.read_text()).get("original_class")
        if isinstance(name, str):
            problem = None if name in CLASSES else f"{meta.parent.name}: {name} is not supported"
            folders[meta.parent] = problem
    return folders


@dataclasses.dataclass(frozen=True)
class Recorded:
    """One variant's folder, read."""

    folder: Path
    meta: dict[str, Any]
    config: dict[str, Any]
    inputs: dict[str, torch.Tensor]
    outputs: dict[str, torch.Tensor]
    model: ScaCaptioner

    def fresh_model(self) -> ScaCaptioner:
        """Return another copy of the model, for tests that change it."""
        return load_original(checkpoint(self.folder), self.meta["original_class"])

    def doubled(self) -> Recorded:
        """Return the same in float64, but for the prompts, whose code insists on float32."""
        inputs = {**self.inputs, "pixel_values": self.inputs["pixel_values"].double()}
        model = self.fresh_model().double()
        model.region_encoder.sam.prompt_encoder.float()
        return dataclasses.replace(self, inputs=inputs, model=model)

    def own_model(self) -> ScaCaptioner:
        """Return a model that a test may change: a fresh one, or this copy's own in float64."""
        is_double = self.inputs["pixel_values"].dtype == torch.float64
        return self.model if is_double else self.fresh_model()

    @property
    def shape(self) -> tuple[int, int]:
        """Images and regions per image."""
        return self.inputs["input_ids"].shape[:2]

    @property
    def label_smoothing(self) -> float:
        """Label smoothing of the recorded losses."""
        return self.meta.get("label_smoothing") or 0.0

    def tasks(self) -> list[str]:
        """Task of every region."""
        images, regions = self.shape
        tasks = self.meta.get("task_type") or ["caption"] * images
        return [task for task in tasks for _ in range(regions)]

    def tokens(self, heads: int) -> tuple[CaptionTokens, torch.Tensor]:
        """Token ids, labels and attention mask of all captions, repeated for the heads."""
        # The recorded labels begin with one ignored position, which predicts nothing.
        ids, labels, mask = (
            self.inputs[name].flatten(0, 1) for name in ("input_ids", "labels", "attention_mask")
        )
        tokens = CaptionTokens(ids, labels[:, -ids.shape[1] :]).repeat_interleave(heads)
        return tokens, mask.repeat_interleave(heads, 0)

    def features(self, model: ScaCaptioner, kind: str, with_masks: bool = False) -> RegionFeatures:
        """Run the frozen half on the recorded inputs."""
        boxes, points, labels = (self.inputs[n] if n else None for n in PROMPTS[kind])
        images, regions = self.shape
        batch = RegionBatch(
            image_ids=[f"image{i}" for i in range(images)],
            region_ids=[f"region{i}" for i in range(images * regions)],
            region_mask_BR=torch.ones(images, regions, dtype=torch.bool),
            boxes_xyxy_input_BR4=boxes,
            points_xy_input_BRP2=points,
            point_labels_BRP=labels,
            pixel_values_B3HW=self.inputs["pixel_values"],
        )
        model.region_encoder.multimask_output = kind != "boxes_single"
        return model.frozen_features(batch, with_masks=with_masks)

    def loss(self, model: ScaCaptioner, kind: str) -> torch.Tensor:
        """Return the training loss on the recorded captions."""
        outputs = model.query_outputs(self.features(model, kind))
        tokens, _ = self.tokens(outputs.shape[1])
        prefix = model.prefix(outputs, self.tasks())
        return model.text_decoder.loss(prefix, tokens, self.label_smoothing)


@functools.cache
def read(folder: Path) -> Recorded:
    meta, config = (
        json.loads((folder / name).read_text()) for name in ("meta.json", "config.json")
    )
    return Recorded(
        folder,
        meta,
        config,
        load_file(inputs_file(folder)),
        load_file(folder / "outputs.safetensors"),
        load_original(checkpoint(folder), meta["original_class"]),
    )
