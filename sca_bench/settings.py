"""The settings of one cell: typed, strict, and marked by what they may change.

Every field is of one kind:

* `result` (the default) changes numbers and is part of the cell's key;
* `cost` changes time or memory only (device, workers, micro-batch);
* `path` names a file or folder: its *content* enters the key, its name does not;
* `label` is for people.

This module stands on the ground floor beside `types`: models, data, study and engine read it, and
nothing in it imports torch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal["result", "cost", "path", "label"]


def _kind(kind: Kind, default: Any = ..., **limits: Any) -> Any:
    return Field(default, json_schema_extra={"kind": kind}, **limits)


class Settings(BaseModel):
    """Base of all settings: unknown keys are errors, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class SamSettings(Settings):
    """SAM's prompt encoder and mask decoder, and its image encoder unless another is named."""

    size: Literal["tiny", "vit_b", "vit_l", "vit_h"] = "vit_h"
    weights: str = _kind("path", "random")
    """`embedded:NAME`, a `.safetensors` / `.pth` file in Meta's layout, or `random`."""
    random_seed: int = 0
    """Seed of the untrained weights when `weights: random`."""


class EncoderSettings(Settings):
    """The image encoder: SAM's own, or an ONNX file that yields the same embedding."""

    type: Literal["sam", "onnx"] = "sam"
    path: str | None = _kind("path", None)

    @model_validator(mode="after")
    def _onnx_needs_a_path(self) -> EncoderSettings:
        if (self.type == "onnx") != (self.path is not None):
            raise ValueError("encoder.path belongs to encoder.type: onnx, and only to it")
        return self


class MixerSettings(Settings):
    """The trainable text feature mixer (a two-way transformer over SAM's tokens)."""

    num_layers: int = Field(12, ge=1, le=48)
    num_query_tokens: int = Field(8, ge=1)
    num_heads: int = Field(8, ge=1)
    mlp_dim: int = Field(2048, ge=1)
    attention_downsample_rate: int = Field(2, ge=1)
    num_caption_heads: int = Field(1, ge=1)
    init_std: float = Field(0.02, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the caption query outputs, in training only."""
    image_grid: int | None = Field(None, ge=1)
    """Average-pool the SAM mixer's image tokens to this grid before the text mixer sees them."""


class PrefixSettings(Settings):
    """What stands in front of the text decoder: task tokens, then projected caption queries."""

    num_task_tokens: int = Field(6, ge=0)
    gain: float = Field(1.0, gt=0)
    """Constant factor on the whole prefix (1 in the paper; smaller for tiny decoders)."""


class TextDecoderSettings(Settings):
    """A causal language model of transformers."""

    weights: str = _kind("path", "embedded:lm_scenes")
    """`embedded:NAME`, a local directory, a hub id, or `random:gpt2-large` and the like."""
    trainable: bool = False
    learning_rate: float | None = Field(None, gt=0)
    """Own learning rate of a trained decoder; the mixer's where None."""
    dropout_in_training: bool = True
    """The original leaves the frozen decoder's dropout on while it trains the mixer."""

    @model_validator(mode="after")
    def _rate_needs_training(self) -> TextDecoderSettings:
        if self.learning_rate is not None and not self.trainable:
            raise ValueError("text_decoder.learning_rate needs text_decoder.trainable: true")
        return self


class ScenesSplit(Settings):
    """Rendered scenes `first_seed ... first_seed + num_images - 1`."""

    dataset: Literal["scenes"]
    num_images: int = Field(ge=1)
    first_seed: int = Field(ge=0)


class _FileSplit(Settings):
    images: str = _kind("path")
    """Folder of the image files."""
    min_side_px: float = Field(1.0, ge=0)
    """Boxes with a side of at most this many original pixels are dropped, and counted."""
    image_ids: str | None = _kind("path", None)
    """A JSON list of image ids (or a split file, with `split`) to keep."""
    split: str | None = None
    """Key inside `image_ids`, or the `source_split` of the image records."""
    max_images: int | None = Field(None, ge=1)


class VisualGenomeSplit(_FileSplit):
    """Visual Genome region descriptions v1.0 or v1.2."""

    dataset: Literal["visual_genome"]
    regions: str = _kind("path")
    image_data: str = _kind("path")


class CocoInstancesSplit(_FileSplit):
    """COCO-layout detection annotations; the category name is the phrase."""

    dataset: Literal["coco_instances"]
    annotations: str = _kind("path")


class CocoPanopticSplit(_FileSplit):
    """COCO panoptic segments; the (cleaned) category name is the phrase."""

    dataset: Literal["coco_panoptic"]
    annotations: str = _kind("path")
    panoptic: str | None = _kind("path", None)
    """Folder of the panoptic PNGs, if masks are wanted."""


SplitSettings = Annotated[
    ScenesSplit | VisualGenomeSplit | CocoInstancesSplit | CocoPanopticSplit,
    Field(discriminator="dataset"),
]


class DataSettings(Settings):
    """The three splits and what is done to the training captions or the images."""

    train: SplitSettings
    val: SplitSettings | None = None
    test: SplitSettings
    permute_captions: bool = False
    """Control: training captions are dealt to other regions (one fixed permutation)."""
    blank_images: bool = False
    """Control: one constant image takes the place of all, in all splits; only boxes stay."""
    flip: bool = False
    """Horizontal flips (p = 0.5) in training; captions with left/right are never flipped."""


class TrainSettings(Settings):
    """The optimisation recipe."""

    steps: int = Field(200_000, ge=1)
    images_per_batch: int = Field(8, ge=1)
    regions_per_image: int = Field(16, ge=1)
    learning_rate: float = Field(1e-4, gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(1e-4, ge=0)
    warmup_steps: int = Field(200, ge=0)
    final_lr_ratio: float = Field(0.0, ge=0, le=1)
    clip_norm: float = Field(1.0, gt=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    max_caption_tokens: int = Field(18, ge=1)
    """Captions are cut to this many tokens before the end token."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    val_every: int = _kind("cost", 5_000, ge=1)
    """Steps between validations; the last step's weights are kept, so this moves no number."""


class EvalSettings(Settings):
    """How the test split is captioned."""

    prompt: Literal["box", "point", "box_point"] = "box"
    num_beams: int = Field(1, ge=1)
    max_new_tokens: int = Field(19, ge=1)
    also_train: bool = _kind("cost", False)
    """Caption the training split too, as stored; record `train/...` and `seen/...` matches."""


class FeatureSettings(Settings):
    """Whether frozen features are computed once per image or region and kept on disk."""

    cache: bool = _kind("cost", True)
    dtype: Literal["float32", "float16"] = "float32"
    """Storage type of cached features; float16 changes numbers in the third digit."""


class RuntimeSettings(Settings):
    """Where and how it runs; none of it changes a number beyond rounding."""

    device: str = _kind("cost", "auto")
    threads: int = _kind("cost", 0, ge=0)
    """CPU threads of one worker process; 0 divides the cores among the workers."""
    jobs: int = _kind("cost", 0, ge=0)
    """Worker processes at a time; 0 is one per CPU core on a CPU, one per GPU on CUDA."""
    loader_workers: int = _kind("cost", 0, ge=0)
    eval_regions: int = _kind("cost", 64, ge=1)
    """Regions captioned at a time."""
    compile: bool = _kind("cost", False)
    checkpoint_every: int = _kind("cost", 200, ge=1)
    log_every: int = _kind("cost", 20, ge=1)


class CellSettings(Settings):
    """Everything one cell is made of."""

    variant: str = "sca"
    sam: SamSettings = SamSettings()
    encoder: EncoderSettings = EncoderSettings()
    mixer: MixerSettings = MixerSettings()
    prefix: PrefixSettings = PrefixSettings()
    text_decoder: TextDecoderSettings = TextDecoderSettings()
    data: DataSettings
    train: TrainSettings = TrainSettings()
    eval: EvalSettings = EvalSettings()
    features: FeatureSettings = FeatureSettings()
    runtime: RuntimeSettings = _kind("cost", RuntimeSettings())
    note: str = _kind("label", "")


def kind_of(model: type[BaseModel], field: str) -> Kind:
    """Return the kind of a settings field (`result` unless it is marked otherwise)."""
    extra = model.model_fields[field].json_schema_extra
    kind = extra.get("kind", "result") if isinstance(extra, dict) else "result"
    return cast(Kind, kind)
