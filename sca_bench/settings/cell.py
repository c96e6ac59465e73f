"""The settings of one cell: typed, strict, and marked by what they may change (`base`).

This module stands on the ground floor beside `types`: models, data, study and engine read it, and
nothing in it imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from sca_bench.errors import InputError
from sca_bench.settings.base import UNKNOWN_NAME, ByName, Settings, of_kind
from sca_bench.settings.data import (
    AugmentationSettings,
    DataSettings,
    SplitSettings,
)
from sca_bench.settings.options import NoOptions, OptionsByEncoder, OptionsByVariant
from sca_bench.specs.encoders import EncoderSpec, in_sam, of_sam
from sca_bench.types import Prompt

USUAL_REGIONS = 64
"""`runtime.eval_regions` where it is 0 and memory is not asked."""


def _registered(name: str, named: Callable[[str], EncoderSpec]) -> EncoderSpec:
    """Return what a name means.

    Raises:
        PydanticCustomError: Nothing that can be used; it says what to write instead.
    """
    try:
        return named(name)
    except InputError as error:
        said = error.problem.removeprefix(f"{name!r} ").removeprefix("is not registered")
        text = "; ".join(filter(None, (said, error.fix)))
        raise PydanticCustomError(UNKNOWN_NAME, "{text}", {"text": text}) from None


class SamSettings(Settings):
    """SAM's prompt encoder and mask decoder, and its image encoder unless another is named."""

    size: str = "vit_h"
    """`vit_t` is MobileSAM; the tiny ones are this package's own, for rendered scenes."""
    weights: str = of_kind("path", "random")
    """`embedded:NAME`, a file in Meta's layout, a transformers SAM folder, or `random`."""
    random_seed: int = 0
    """Seed of untrained weights: `weights: random`, or `encoder.type: untrained`."""

    @field_validator("size")
    @classmethod
    def _is_registered(cls, value: str) -> str:
        _registered(value, of_sam)
        return value


class EncoderSettings(Settings):
    """The image encoder: SAM's own, the same untrained, or another with the same output."""

    type: str = "sam"
    """`untrained` keeps SAM's prompt encoder and mask decoder, and draws the encoder at random."""
    path: str | None = of_kind("path", None)
    """The file that the encoder is, or has its weights from, where its type reads one."""
    options: Annotated[Settings, ByName("type", OptionsByEncoder, beside=True)] = of_kind(
        "result", NoOptions(), since="0.2"
    )
    """Settings of its own, for an encoder that brings some."""
    onnx_limit_s: float = of_kind("cost", 120.0, since="0.2", gt=0, le=86_400)
    """Seconds that an ONNX file may take to be loaded, and for one image; it runs in a process of
    its own, which is ended after that."""
    onnx_limit_gib: float = of_kind("cost", 16.0, since="0.2", gt=0, le=4_096)
    """Memory (address space, GiB) of the process that runs an ONNX file."""

    @model_validator(mode="before")
    @classmethod
    def _options_have_their_defaults(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and "type" in given and "options" not in given:
            return {**given, "options": {}}
        return given

    @field_validator("type")
    @classmethod
    def _is_registered(cls, value: str) -> str:
        _registered(value, in_sam)
        return value

    @field_validator("path")
    @classmethod
    def _is_read(cls, value: str | None, info: ValidationInfo) -> str | None:
        name = info.data.get("type")  # none where it is wrong itself
        if name is not None and value is not None and in_sam(name).path == "none":
            raise ValueError(f"encoder.type: {name} reads no file; leave encoder.path out")
        return value

    @model_validator(mode="after")
    def _has_its_path(self) -> EncoderSettings:
        if self.path is None and in_sam(self.type).path == "required":
            raise ValueError(f"encoder.type: {self.type} needs encoder.path")
        return self


class MixerSettings(Settings):
    """The trainable text feature mixer (a two-way transformer over SAM's tokens)."""

    num_layers: int = Field(12, ge=1, le=48)
    """Layers of the mixer; the paper's model has 12."""
    num_query_tokens: int = Field(8, ge=1)
    """Caption query tokens of each caption head: what the text decoder reads of a region."""
    num_heads: int = Field(8, ge=1)
    """Attention heads of each layer."""
    mlp_dim: int = Field(2048, ge=1)
    """Width of the feed-forward part of each layer."""
    attention_downsample_rate: int = Field(2, ge=1)
    """Attention between queries and image works at the width divided by this, as in SAM."""
    num_caption_heads: int = Field(1, ge=1)
    """Sets of caption queries a region, each of which makes a caption; `eval.select` picks one."""
    init_std: float = Field(0.02, gt=0)
    """Standard deviation of all trained weights of linear layers and embeddings at the start."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the caption query outputs, in training only."""
    image_grid: int | None = Field(None, ge=1)
    """Average-pool the SAM mixer's image tokens to this grid before the text mixer sees them."""
    gradient_checkpointing: bool = of_kind("cost", False)
    """Compute the mixer's activations again in the backward pass; less memory, same numbers."""
    as_published: bool = False
    """Repeat what the original's code did where it differs from what it meant; see the variant."""


class PrefixSettings(Settings):
    """What stands in front of the text decoder: task tokens, then projected caption queries."""

    num_task_tokens: int = Field(6, ge=0)
    """Trained tokens in front of the caption queries, a set for each task (`data.train.task`)."""
    gain: float = Field(1.0, gt=0)
    """Constant factor on the whole prefix (1 in the paper; smaller for tiny decoders)."""
    projection: Literal["linear", "mlp"] = "linear"
    """From query outputs to the text decoder's width: one layer, or three with GELU between."""


class TextDecoderSettings(Settings):
    """A causal language model of transformers."""

    weights: str = of_kind("path", "embedded:lm_scenes")
    """`embedded:NAME`, a local directory, a hub id, or `random:gpt2-large` and the like."""
    trainable: bool = False
    """Train the text decoder, too; it is frozen otherwise, as in the paper."""
    learning_rate: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Own learning rate of a trained decoder; the mixer's where None."""
    dropout_in_training: bool = True
    """The original leaves the frozen decoder's dropout on while it trains the mixer."""
    gradient_checkpointing: bool = of_kind("cost", False)
    """Compute the decoder's activations again in the backward pass; less memory, same numbers."""

    @model_validator(mode="after")
    def _rate_needs_training(self) -> TextDecoderSettings:
        if self.learning_rate is not None and not self.trainable:
            raise ValueError("text_decoder.learning_rate needs text_decoder.trainable: true")
        return self


_Decay = Annotated[float, Field(ge=0, lt=1)]


class TrainSettings(Settings):
    """The optimisation recipe."""

    steps: int = Field(200_000, ge=0)
    """Optimiser steps; 0 evaluates what `start_from` or the pretraining gives."""
    images_per_batch: int = Field(8, ge=1)
    """Images of one optimiser step."""
    regions_per_image: int = Field(16, ge=1)
    """Regions of each image in a step, at most: more are drawn from, anew each time."""
    learning_rate: float = Field(1e-4, gt=0, allow_inf_nan=False)
    """Largest learning rate: it is reached after the warm-up, and falls to the end."""
    betas: tuple[_Decay, _Decay] = (0.9, 0.999)
    """AdamW's decay of the mean of gradients, and of that of their squares."""
    weight_decay: float = Field(1e-4, ge=0, allow_inf_nan=False)
    """AdamW's weight decay."""
    warmup_steps: int = Field(200, ge=0)
    """Steps in which the learning rate rises from near 0 to `learning_rate`."""
    final_lr_ratio: float = Field(0.0, ge=0, le=1)
    """Learning rate at the last step, as a share of `learning_rate`."""
    clip_norm: float = Field(1.0, gt=0)
    """Gradients with a larger norm, over all trained parameters, are scaled down to it; `.inf`
    scales none."""
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    """Share of the target probability that is spread over all tokens in the training loss."""
    max_caption_tokens: int = Field(18, ge=1)
    """Captions are cut to this many tokens before the end token."""
    prompt: Literal["box", "point", "box_point", "random_point"] = "box"
    """What a region is prompted with in training and validation."""
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    """In training, validation and captioning. `fp32` is float32 throughout. `tf32` (CUDA only)
    rounds the factors of products and convolutions to TensorFloat-32, which GPUs compute faster.
    `bf16` and `fp16` (CUDA only): mixed precision."""
    as_published: tuple[Literal["loss", "warmup"], ...] = of_kind("result", (), since="0.2")
    """Repeat the published recipe where ours differs. `loss`: the mean of the single images' mean
    token losses, as with one image a GPU, in place of the mean over all tokens of a batch.
    `warmup`: step 0 has rate 0 and step `warmup_steps` the first full one; ours is a step ahead."""
    order_seed: int | None = Field(None, ge=0)
    """Seed of data order, draws and permutation; the run's own where None. Seeds that share it
    differ in initial weights and dropout only, and may train in lockstep."""
    stacked: bool = of_kind("result", False, since="0.2")
    """Compute the steps of cells of a group as one that differ in seed, learning rate or other
    values of the optimiser only: for small cells on a GPU. Rounds otherwise than each alone."""
    val_every: int = of_kind("cost", 5_000, ge=1)
    """Steps between validations; the last step's weights are kept, so this moves no number."""

    @field_validator("as_published")
    @classmethod
    def _in_one_order(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(value)))

    def order(self, seed: int) -> int:
        """Return the seed of the data order of a run with this seed."""
        return seed if self.order_seed is None else self.order_seed


class EvalSettings(Settings):
    """Which split is captioned, and how."""

    split: Literal["test", "val"] = "test"
    """What is captioned and scored; a sweep looks at the validation split only."""

    prompt: Prompt = "box"
    """The box, its centre, both, a random point in the box, in the region's mask, in SAM's mask."""
    prompt_seed: int = Field(0, ge=0)
    """Seed of the random points; each region has its own, whatever is evaluated beside it."""
    select: Literal["predicted_iou", "first"] = "predicted_iou"
    """Of several caption heads: that of the mask with the highest predicted IoU, or the first."""
    num_beams: int = Field(1, ge=1)
    """Beams of beam search; 1 decodes greedily."""
    max_new_tokens: int = Field(19, ge=1)
    """Captions end after this many tokens, the end token among them."""
    also_train: bool = of_kind("cost", False)
    """Caption the training split too, as stored; record `train/...` and `seen/...` matches."""


class FeatureSettings(Settings):
    """Which frozen features are computed once and kept on disk, and in which precision."""

    cache: Literal["off", "encoder", "all"] = of_kind("cost", "all")
    """`encoder` keeps image embeddings (few bytes an image), `all` whatever the cells read too."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """What the cells read is rounded to this, kept or not; float16 moves the third digit."""
    encoder_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Image embeddings are rounded to this, kept or not, before SAM's mixer reads them."""

    @field_validator("cache", mode="before")
    @classmethod
    def _plain_words(cls, value: Any) -> Any:
        return {False: "off", True: "all"}.get(value, value) if isinstance(value, bool) else value


class RuntimeSettings(Settings):
    """Where and how it runs; none of it changes a number beyond rounding."""

    device: str = of_kind("cost", "auto")
    """`cpu`, `cuda`, `cuda:1`, ...; `auto` takes CUDA where there is some."""
    threads: int = of_kind("cost", 0, ge=0)
    """CPU threads of one worker process. 0: one where all frozen features are kept (a second one
    gains nothing at such sizes), else the cores divided among the workers."""
    jobs: int = of_kind("cost", 0, ge=0)
    """Worker processes at a time; 0 is one per CPU core on a CPU, one per GPU on CUDA."""
    loader_workers: int = of_kind("cost", 0, ge=0)
    """Processes that read images and kept features ahead for each worker; 0 reads them in the
    worker itself, between steps. Batches wait in /dev/shm (shared memory): GBs at paper size, and
    a container may have 64 MB."""
    cache_dir: str = of_kind("cost", "")
    """Folder of kept features, which several runs folders may share; empty: `features/` in the
    runs folder."""
    cache_limit_gib: float | None = of_kind("cost", None, gt=0)
    """Size up to which features are kept; those used least recently make room for new ones."""
    eval_regions: int = of_kind("cost", 0, ge=0)
    """Regions captioned at a time; moves no number beyond rounding. 0: 64, and on CUDA, where
    features are kept, as many as fit into half of the free memory, at most 512."""
    compile: bool = of_kind("cost", False)
    """Compile the blocks of mixer, text decoder and image encoder with torch.compile: slower to
    start, faster steps; may move last digits."""
    deterministic: bool = of_kind("cost", False, since="0.2")
    """On CUDA, use operations that give the same bits whenever they are repeated; slower. A run
    with an operation that has no such form fails and names it. A CPU repeats bits anyway."""
    checkpoint_every: int = of_kind("cost", 200, ge=1)
    """Steps between checkpoints, from which a run that was stopped goes on."""
    log_every: int = of_kind("cost", 20, ge=1)
    """Steps between two rows of a run's log."""

    @property
    def regions_at_a_time(self) -> int:
        """Regions computed at a time where nothing is known of the memory that they take."""
        return self.eval_regions or USUAL_REGIONS


class StageData(AugmentationSettings):
    """What a training stage reads."""

    train: SplitSettings
    """The images and regions that the stage trains on."""


class StageSettings(Settings):
    """A training before the cell's own: other data, another recipe, the same model."""

    name: str = of_kind("label")
    """What the suite calls the stage."""
    data: StageData
    train: TrainSettings


class BaselineSettings(Settings):
    """The model of a baseline from `baselines/`; each says in its README what it takes here."""

    weights: str = of_kind("path", "random")
    """A file or folder of weights, a hub id, `package:MODULE/PATH`, or `random`."""
    size: str = ""
    """Which of the baseline's configurations, where the weights do not say it."""
    tokenizer: str | None = of_kind("path", None)
    """Folder of a tokenizer, where the weights bring none."""
    random_seed: int = 0
    """Seed of untrained weights, for `weights: random`."""


class CropSettings(Settings):
    """Which part of the image an image captioner is shown for a region."""

    source: Literal["mask", "box", "image"] = "mask"
    """The tight box of SAM's mask, the prompt box itself (no SAM), or the whole image (control)."""
    margin: float = Field(0.0, ge=0)
    """Widens the crop on each of its four sides by this share of its own width or height."""
    background: Literal["keep", "white"] = "keep"
    """What stands around the mask inside the crop: the image's own pixels, or white."""
    prompt: Literal["", "what_is_this"] = ""
    """Ask what the region is first, on a white background, and for a description of that then."""

    @model_validator(mode="after")
    def _fits(self) -> CropSettings:
        if self.source != "mask" and (self.background == "white" or self.prompt):
            raise ValueError("crop.background: white and crop.prompt need crop.source: mask")
        if self.source == "image" and self.margin:
            raise ValueError("crop.margin has no meaning with crop.source: image")
        return self


class CellSettings(Settings):
    """Everything one cell is made of."""

    variant: str = "sca"
    """Which captioner the cell trains or asks: `list variants`."""
    options: Annotated[Settings, ByName("variant", OptionsByVariant, beside=True)] = of_kind(
        "result", NoOptions(), since="0.2", validate_default=True
    )
    """Settings of the variant's own, read by the class that it names (`settings.options`)."""
    sam: SamSettings = SamSettings()
    encoder: EncoderSettings = Field(default_factory=EncoderSettings)
    mixer: MixerSettings = MixerSettings()
    prefix: PrefixSettings = PrefixSettings()
    text_decoder: TextDecoderSettings = TextDecoderSettings()
    baseline: BaselineSettings = BaselineSettings()
    crop: CropSettings = CropSettings()
    start_from: str | None = of_kind("path", None)
    """Trained tensors to start from: a run's `trainable.safetensors`, or an imported checkpoint."""
    pretraining: tuple[StageSettings, ...] = ()
    """Stages that come before the cell's own training, in order; cells share equal ones."""
    data: DataSettings
    train: TrainSettings = TrainSettings()
    eval: EvalSettings = EvalSettings()
    features: FeatureSettings = FeatureSettings()
    runtime: RuntimeSettings = of_kind("cost", RuntimeSettings())
    note: str = of_kind("label", "")
    """A remark for people."""

    @classmethod
    def stored(cls, settings: Mapping[str, Any]) -> CellSettings:
        """Read settings that were written into a file (a record, a job).

        Raises:
            InputError: They are none of today's code: a package is gone, or a setting is.
        """
        try:
            return cls.model_validate(settings)
        except ValidationError as error:
            raise _unreadable(error) from None

    @model_validator(mode="after")
    def _split_is_there(self) -> CellSettings:
        if getattr(self.data, self.eval.split) is None:
            raise ValueError(f"eval.split: {self.eval.split} needs data.{self.eval.split}")
        return self


def _unreadable(error: ValidationError) -> InputError:
    """Return in one line why settings of a file are none of today's code."""
    first = error.errors()[0]
    key = ".".join(["settings", *map(str, first["loc"])])
    if first["type"] != UNKNOWN_NAME:
        return InputError(None, key, f"is no setting of today's code ({first['msg']})")
    name, said = repr(first["input"]), str(first["msg"]).removeprefix("it ")
    if said.startswith("cannot be used"):
        return InputError(None, key, f"{name} {said}")
    return InputError(None, key, f"{name} is not registered", "install the package that brings it")
