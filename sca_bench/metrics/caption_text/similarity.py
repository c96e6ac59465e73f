"""Similarity by a model that the user gives: CLIPScore and cosine of sentence embeddings.

The models live in `sca_bench.models.score_models`, imported by name only when one of the two
is computed, since this room knows no torch. Neither is replaced by anything where its model, the
images or the boxes are missing.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sca_bench.errors import InputError, NotComputed
from sca_bench.metrics.coco_caption.ptb_tokenizer import encodable
from sca_bench.metrics.protocol import Context, Scored
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.spec import MetricSpec, Requirement

CLIP_VARIABLE = "SCA_BENCH_CLIP"
SENTENCE_VARIABLE = "SCA_BENCH_SENTENCE_MODEL"
MODELS = "sca_bench.models.score_models"
REVISION = "3"
"""Raised whenever a change of this file, or of the models' code, moves a number."""

_OWN_TOKENIZER = "the model's own"
SPECS = (
    MetricSpec(
        "clip_score",
        "CLIPScore of the region's crop and the caption, no reference; 0-2.5; needs images and a "
        "CLIP model's folder in SCA_BENCH_CLIP",
        "clip_score",
        "sca_bench clip_score",
        package="",
        tokenizer=_OWN_TOKENIZER,
        compute=f"{__name__}:clip_score",
        maximum=2.5,
        label="CLIPScore",
        needs="a CLIP model's folder in SCA_BENCH_CLIP, images, and rows with box_xyxy",
        requires=(Requirement("a model", f"{__name__}:clip_folder"),),
    ),
    MetricSpec(
        "sentence_similarity",
        "Cosine of sentence embeddings, best reference; -1 to 1; needs a model's folder in "
        "SCA_BENCH_SENTENCE_MODEL",
        "sentence_similarity",
        "sca_bench sentence_similarity",
        package="",
        tokenizer=_OWN_TOKENIZER,
        compute=f"{__name__}:sentence_similarity",
        needs="a sentence embedding model's folder in SCA_BENCH_SENTENCE_MODEL",
        requires=(Requirement("a model", f"{__name__}:sentence_folder"),),
    ),
)
_WEIGHT = 2.5
_PREFIX = "A photo depicts "
_BATCH = 64


def clip_score(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """CLIPScore: 2.5 * max(cosine of image and caption embedding, 0), the mean over regions.

    The image is the region's box cut out of the original image, corners rounded outwards and kept
    inside the image, nothing masked; the model's own preprocessing then resizes it and takes the
    centre square. The text is the caption after `A photo depicts `, as in the original.

    Raises:
        NotComputed: No model, no images, or a row without a box.

    Source:
        Hessel et al., CLIPScore: A Reference-free Evaluation Metric for Image Captioning,
        EMNLP 2021.
    """
    folder = clip_folder()
    if context.images is None:
        raise NotComputed("clip_score looks at images: score FILE --images FOLDER")
    boxes = [row.box_xyxy for row in rows]
    for row in rows:
        if row.box_xyxy is None:
            raise NotComputed(
                f"region {row.region_id} has no box to cut out: give every row box_xyxy, in "
                "pixels of the original image"
            )
    model = _model(context, "load_clip", folder)
    cosines = np.zeros(len(rows))
    image_id, image = "", np.zeros((0, 0, 3), np.uint8)
    order = sorted(range(len(rows)), key=lambda index: rows[index].image_id)
    for first in range(0, len(order), _BATCH):
        batch = order[first : first + _BATCH]
        crops = []
        for index in batch:
            if rows[index].image_id != image_id:
                image_id = rows[index].image_id
                try:
                    image = context.images(image_id)
                except InputError as error:
                    raise NotComputed(f"clip_score: {error}") from error
            box = boxes[index]
            assert box is not None
            crops.append(crop(image, box))
        texts = [_PREFIX + encodable(rows[index].caption) for index in batch]
        cosines[batch] = _run(model.cosines, crops, texts)
    values = [_WEIGHT * max(float(value), 0.0) for value in cosines]
    cut = hashlib.sha256(repr(sorted((row.region_id, row.box_xyxy) for row in rows)).encode())
    scorer = (
        f"sca_bench clip_score (2.5 * max(cos, 0), box crop, boxes {cut.hexdigest()[:12]}, "
        f"{model.name})"
    )
    return [_scored(context, rows, values, scorer)]


def sentence_similarity(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """Cosine of the caption's and a reference's sentence embedding, the best over references.

    An embedding is the mean of the model's last hidden states over the words of a text,
    normalised.

    Raises:
        NotComputed: No model.

    Source:
        Reimers and Gurevych, Sentence-BERT, EMNLP 2019 (mean pooling).
    """
    model = _model(context, "load_sentence", sentence_folder())
    texts = list(dict.fromkeys(t for row in rows for t in (row.caption, *row.references)))
    row_of_text = {text: index for index, text in enumerate(texts)}
    units = _run(model.embed, [encodable(text) for text in texts])
    values = [
        max(float(units[row_of_text[row.caption]] @ units[row_of_text[r]]) for r in row.references)
        for row in rows
    ]
    scorer = f"sca_bench sentence_similarity (mean pooling, best reference, {model.name})"
    return [_scored(context, rows, values, scorer)]


def crop(image: NDArray[np.uint8], box_xyxy: Sequence[float]) -> NDArray[np.uint8]:
    """Cut a box out of an image (H, W, 3); at least one pixel remains.

    Args:
        image: The original image.
        box_xyxy: Corners in its pixels.

    Returns:
        RGB uint8, (h, w, 3).
    """
    height, width = image.shape[:2]
    left, top = (
        min(max(math.floor(v), 0), n - 1) for v, n in zip(box_xyxy, (width, height), strict=False)
    )
    right, bottom = (
        min(max(math.ceil(v), low + 1), n)
        for v, low, n in zip(box_xyxy[2:], (left, top), (width, height), strict=True)
    )
    return image[top:bottom, left:right]


def clip_folder() -> Path:
    """Return the folder of the CLIP model.

    Raises:
        NotComputed: The user names none, or what is no folder.
    """
    return _folder(CLIP_VARIABLE, "a CLIP model")


def sentence_folder() -> Path:
    """Return the folder of the sentence embedding model.

    Raises:
        NotComputed: The user names none, or what is no folder.
    """
    return _folder(SENTENCE_VARIABLE, "a sentence embedding model")


def _folder(variable: str, what: str) -> Path:
    given = os.environ.get(variable, "")
    if not given:
        raise NotComputed(f"it needs {what}: set {variable} to its folder")
    folder = Path(given).expanduser()
    if not folder.is_dir():
        raise NotComputed(f"{variable}={given} is no folder: name one with {what}")
    return folder


def _model(context: Context, loader: str, folder: Path) -> Any:
    """Return a loaded model, kept from one system to the next."""
    key = f"{loader} {folder} {context.device}"
    if key not in context.memory:
        try:
            context.memory[key] = getattr(import_module(MODELS), loader)(folder, context.device)
        except InputError as error:
            raise NotComputed(str(error)) from error
    return context.memory[key]


def _run(compute: Callable[..., Any], *inputs: Any) -> Any:
    try:
        return compute(*inputs)
    except RuntimeError as error:  # torch's own, such as a full GPU: the other metrics go on
        reason = " ".join(str(error).split())[:200]
        raise NotComputed(f"the model failed ({type(error).__name__}: {reason})") from error


def _scored(
    context: Context, rows: Sequence[CaptionRow], values: list[float], scorer: str
) -> Scored:
    named = {"scorer": scorer, "version": REVISION}
    return Scored(context.name, sum(values) / len(values), values, rows, named)
