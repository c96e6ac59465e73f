"""Which folders record the original GRiT, and everything of theirs that can be recomputed."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from baselines.grit.checkpoint import load_checkpoint
from baselines.grit.config import (
    STRIDES,
    DetectionConfig,
    GritConfig,
    ImageEncoderConfig,
    TextDecoderConfig,
)
from baselines.grit.model import Grit
from baselines.grit.preprocess import resize, to_original, to_resized, widen_empty
from baselines.grit.proposals import cell_centres, choose_proposals

DETECT, GIVEN = "detect.safetensors", "given_boxes.safetensors"
SEARCHED = re.compile(r"text\.begin(\d+)_beam(\d+)(?:_\w+)?\.(tokens|logprobs)")


def grit_folders(root: Path) -> list[Path]:
    """Return the folders that record GRiT: `root` itself, or those in it; by content."""
    return [f for f in (root, *sorted(root.glob("*"))) if _names_grit(f / "meta.json")]


def _names_grit(meta: Path) -> bool:
    return meta.is_file() and "grit" in json.loads(meta.read_text(encoding="utf-8"))


def config_of(meta: dict[str, Any]) -> GritConfig:
    """Return the reduced configuration that a folder was recorded with."""
    sizes = meta["config"]
    vit, text, centernet = sizes["tiny_vit"], sizes["text"], sizes["centernet"]
    assert tuple(centernet["FPN_STRIDES"]) == STRIDES
    windowed = set(vit["window_block_indexes"])
    return GritConfig(
        ImageEncoderConfig(
            width=vit["embed_dim"],
            depth=vit["depth"],
            num_heads=vit["num_heads"],
            global_blocks=tuple(sorted(set(range(vit["depth"])) - windowed)),
            mlp_ratio=vit["mlp_ratio"],
            window=vit["window_size"],
            table_grid=vit["img_size"] // 16,
        ),
        TextDecoderConfig(
            vocab_size=text["vocab"],
            width=text["hidden"],
            num_layers=text["layers"],
            num_heads=text["heads"],
            mlp_dim=text["ffn"],
            begin_tokens={"caption": meta["begin_token"]},
            end_token=meta["eos"],
        ),
        DetectionConfig(
            min_heat=centernet["INFERENCE_TH"],
            max_per_level=sizes["pre_nms_topk_test"],
            proposal_iou=centernet["NMS_TH_TEST"],
            max_proposals=sizes["post_nms_topk_test"],
            min_score=sizes["score_thresh_test"],
            detection_iou=sizes["nms_thresh_test"],
            max_detections=sizes["detections_per_image"],
        ),
        pyramid_channels=sizes["fpn_out_channels"],
        box_head_dim=sizes["fc_dim"],
        short_side_px=sizes["min_size_test"],
        long_side_px=sizes["max_size_test"],
    )


class RecordedGrit:
    """One folder: what was recorded, and the same computed here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        self.config = config_of(self.meta)
        self.recorded = load_file(folder / DETECT) | load_file(folder / GIVEN)
        self.model = Grit(self.config).eval().requires_grad_(False)
        load_checkpoint(self.model, folder / "state_dict.safetensors")
        self.image = resize(
            self.recorded["image_orig_uint8_hwc"],
            self.config.short_side_px,
            self.config.long_side_px,
        )

    @functools.cached_property
    def computed(self) -> dict[str, torch.Tensor]:
        """Everything the original recorded, by its names."""
        return self._detect() | self._search() | self._given()

    def same_width(self, *ids: torch.Tensor) -> list[torch.Tensor]:
        """Return token ids of one width; what follows on the shorter ones are end tokens.

        The original stops once every caption has ended, so a recording is as wide as its longest.
        """
        width, eos = max(one.shape[-1] for one in ids), self.meta["eos"]
        pad = torch.nn.functional.pad
        return [pad(one, (0, width - one.shape[-1]), value=eos) for one in ids]

    @functools.cached_property
    def levels(self) -> list[torch.Tensor]:
        """The five pyramid levels."""
        levels = self.model.pooled_levels([self.image])
        return [*levels, *self.model.pyramid.coarse(levels[-1])]

    def visual_tokens(self, boxes):
        index = torch.zeros(len(boxes), dtype=torch.long)
        return self.model.visual_tokens(self.levels[:3], boxes, index)

    def _detect(self):
        model, image = self.model, self.image
        out: dict[str, Any] = {
            "image_orig_uint8_hwc": self.recorded["image_orig_uint8_hwc"],
            "image_resized_uint8_hwc": image.pixels_hw3,
            "image_size_hw": torch.tensor(image.size_hw),
            "vit.last_feat": model.image_encoder(model.pixels([image])),
        }
        outputs = model.proposal_head(self.levels)
        for i, (level, output, stride) in enumerate(
            zip(self.levels, outputs, STRIDES, strict=True)
        ):
            out[f"fpn.p{i + 3}"] = level
            out[f"centernet.reg.{i}"] = output.distances_B4HW
            out[f"centernet.agn_hm_logit.{i}"] = output.heat_logits_B1HW
            size = level.shape[-2:]
            out[f"centernet.grid.{i}"] = cell_centres(*size, stride, torch.device("cpu"))
        proposals = choose_proposals(outputs, 0, self.config.detection)
        out["proposals.boxes"] = proposals.boxes_xyxy_P4
        out["proposals.scores"] = out["proposals.objectness_logits"] = proposals.scores_P
        stages = model.cascade.run(self.levels[:3], 0, proposals.boxes_xyxy_P4, image.size_hw)
        for k, stage in enumerate(stages):
            out[f"cascade.{k}.in_boxes"] = stage.in_boxes_xyxy_P4
            out[f"cascade.{k}.cls_logits"] = stage.class_logits_P2
            out[f"cascade.{k}.deltas"] = stage.deltas_P4
            out[f"cascade.{k}.boxes"] = stage.boxes_xyxy_P4
        begin, steps = self.meta["begin_token"], self.meta["max_steps"]
        found = model.detect_and_caption(image, begin, max_tokens=steps)
        # What is pooled is compared on the recorded boxes, whose own noise is compared as boxes.
        boxes = self.recorded["det.boxes"]
        index = torch.zeros(len(boxes), dtype=torch.long)
        return out | {
            "det.boxes": found.detections.boxes_xyxy_P4,
            "det.logits": found.detections.logits_P,
            "det.classes": index,
            "det.object_features": model.object_features(self.levels[:3], boxes, index),
            "det.tokens": found.captions.ids_NKL[:, 0],
            "det.logprobs": found.captions.log_prob_NK[:, 0],
            "det.scores": found.scores_N,
            "det.final_scores": found.scores_N,
            "det.final_boxes_orig_scale": found.boxes_xyxy_N4,
            "det.min_margin": self._margins(boxes, found.captions.ids_NKL[:, 0]),
        }

    def _search(self):
        """Captions of the first detections, by the searches that the recorded names ask for."""
        out: dict[str, torch.Tensor] = {}
        for name, expected in self.recorded.items():
            asked = SEARCHED.fullmatch(name)
            if asked is None:
                continue
            boxes = self.recorded["det.boxes"][: len(expected)]
            begin = torch.full((len(boxes),), int(asked[1]))
            captions = self.model.caption(
                self.visual_tokens(boxes),
                begin,
                beams=int(asked[2]),
                max_tokens=self.meta["max_steps"],
            )
            every = "_all." in name
            if asked[3] == "logprobs":
                out[name] = captions.log_prob_NK if every else captions.log_prob_NK[:, 0]
            else:
                out[name] = captions.ids_NKL if every else captions.ids_NKL[:, 0]
        return out

    def _given(self):
        original = self.recorded["given.boxes_orig_xyxy"]
        resized = to_resized(original, self.image)
        boxes = widen_empty(resized)
        index = torch.zeros(len(boxes), dtype=torch.long)
        begin = torch.full((len(boxes),), self.meta["begin_token"])
        captions = self.model.caption_boxes(
            self.levels[:3], boxes, index, begin, max_tokens=self.meta["max_steps"]
        )
        return {
            "given.boxes_orig_xyxy": original,
            "given.boxes_resized_xyxy": resized,
            "given.object_features": self.model.object_features(self.levels[:3], boxes, index),
            "given.tokens": captions.ids_NKL[:, 0],
            "given.logprobs": captions.log_prob_NK[:, 0],
            "given.final_scores": captions.log_prob_NK[:, 0].exp().sqrt(),
            "given.final_boxes_orig_scale": to_original(boxes, self.image),
            "given.min_margin": self._margins(boxes, captions.ids_NKL[:, 0]),
        }

    def _margins(self, boxes, ids):
        """Smallest lead of the best token over the second, along each caption."""
        logits = self.model.text_decoder.logits(self.visual_tokens(boxes), ids)[:, :-1]
        logits[:, 1:] = logits[:, 1:].scatter(2, ids[:, 1:-1, None], -10_000.0)
        best = logits.topk(2).values
        lead = best[..., 0] - best[..., 1]
        over = torch.zeros_like(ids[:, :-1], dtype=torch.bool)
        over[:, 1:] = (ids[:, 1:-1] == self.meta["eos"]).cumsum(1) > 0
        return lead.masked_fill(over, float("inf")).min(1).values


@functools.cache
def read_grit(folder: Path) -> RecordedGrit:
    """Return a folder, read once."""
    return RecordedGrit(folder)
