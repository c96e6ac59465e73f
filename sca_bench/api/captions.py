"""Captions from Python: score a list of them, or have a finished run caption a region."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sca_bench.errors import InputError
from sca_bench.study.runs.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from sca_bench.engine.finished.caption import FinishedCaptioner
    from sca_bench.formats.pixels import Picture
    from sca_bench.metrics.score import ScoreResult
    from sca_bench.study.runs.record import RunRecord

_IMAGE = "image"


def score(
    captions: Sequence[str],
    references: Sequence[str | Sequence[str]],
    metrics: Sequence[str] = ("cider_d", "bleu", "rouge_l"),
    *,
    image_ids: Sequence[str | int] | None = None,
) -> ScoreResult:
    """Score captions by the field's metrics.

    Args:
        captions: One a region.
        references: The right captions of each region: a text, or several.
        metrics: Names that `sca-bench list metrics` prints. METEOR and SPICE start Java, which
            takes seconds.
        image_ids: The image that each region lies in; an image of its own where None. Some metrics
            count by images.

    Returns:
        `values` (name -> value in natural units: CIDEr-D ends at 10, nearly all others at 1),
        `per_region` (name -> one value a caption, in order), `signatures` (how each was measured),
        `not_computed` (name -> why there is no value), `notes`.

    Raises:
        InputError: The lists do not fit together, a reference is missing, or a metric is unknown.
    """
    from sca_bench.metrics.rows import CaptionRow
    from sca_bench.metrics.score import Scorer

    ids = range(len(captions)) if image_ids is None else image_ids
    for name, given in (("references", references), ("image_ids", ids)):
        if len(given) != len(captions):
            problem = f"{len(given)} for {len(captions)} captions"
            raise InputError("score", name, problem, "give one for each caption")
    rows = [
        CaptionRow(str(number), str(image), caption, (of,) if isinstance(of, str) else tuple(of))
        for number, (image, caption, of) in enumerate(zip(ids, captions, references, strict=True))
    ]
    with Scorer() as scorer:
        return scorer.score(rows, [metrics] if isinstance(metrics, str) else list(metrics))


@dataclass(frozen=True, slots=True)
class RegionCaption:
    """What a run says of a region; `str` is the caption.

    Attributes:
        caption: The caption.
        log_prob: Mean log-probability per generated token, end token included.
        predicted_ious: SAM's predicted IoU of each mask candidate.
        mask_HW: SAM's best mask, bool, in pixels of the original image.
        overlay: The image with prompt, mask and caption drawn into it, which a notebook shows.
    """

    caption: str
    log_prob: float
    predicted_ious: tuple[float, ...]
    mask_HW: NDArray[np.bool_]
    overlay: Image

    def __str__(self) -> str:
        """The caption."""
        return self.caption

    def __repr__(self) -> str:
        """The caption, and how sure the model is of it."""
        return f"RegionCaption({self.caption!r}, log_prob={self.log_prob:.3f})"


class Captioner:
    """A finished run with its trained weights, ready to caption regions; `load_captioner` makes it.

    Attributes:
        run: The record of the run: its settings, scores, versions.
    """

    def __init__(self, finished: FinishedCaptioner, record: RunRecord, folder: Path) -> None:
        self.run, self._finished, self._folder = record, finished, folder

    def __repr__(self) -> str:
        """Name the run's folder."""
        return f"Captioner({str(self._folder)!r})"

    def caption(
        self,
        image: str | Path | Image | NDArray[np.uint8],
        box: Sequence[float] | None = None,
        point: Sequence[float] | None = None,
    ) -> RegionCaption:
        """Caption one region of an image.

        Args:
            image: A file, a PIL image, or an array (height, width, 3), uint8, RGB. Files and PIL
                images are turned upright as EXIF says.
            box: Left, top, right, bottom in pixels of the original image.
            point: x, y of a point inside the region, in pixels of the original image; box, point
                or both are needed.

        Returns:
            Its caption, with SAM's mask.

        Raises:
            InputError: The image cannot be read, or the prompt is missing, empty or outside of it.
        """
        from sca_bench.engine.finished.overlay import draw_overlay
        from sca_bench.engine.finished.region import AskedRegion, check_prompt

        picture = _picture(image)
        box_xyxy, point_xy = _numbers(box, 4, "box"), _numbers(point, 2, "point")
        where = image if isinstance(image, str | Path) else _IMAGE
        check_prompt(where, picture, box_xyxy, point_xy, flag="")
        asked = AskedRegion(self.run, self._folder, picture, box_xyxy, point_xy)
        if asked.warning:
            warnings.warn(asked.warning, stacklevel=2)
        pixels = picture.pixels_HW3
        found, mask = self._finished.caption(pixels, box_xyxy, point_xy)
        return RegionCaption(
            found.caption,
            found.log_prob,
            found.predicted_ious,
            mask,
            draw_overlay(pixels, mask, box_xyxy, point_xy, found.caption),
        )


def load_captioner(run: str, runs_dir: str | Path = "runs") -> Captioner:
    """Load the trained model of a finished run. This imports torch.

    Args:
        run: `SUITE/CELL[/SEED]` as `list runs` prints it, a cell's name or id, or a run's folder;
            of several seeds the first.
        runs_dir: The runs folder.

    Raises:
        InputError: No such finished run, or its weights are not there any more.
    """
    from sca_bench.study.find_run import find_finished

    record, folder = find_finished(Store(runs_dir), str(run))  # before torch takes its seconds
    from sca_bench.engine.finished.caption import FinishedCaptioner

    return Captioner(FinishedCaptioner(record, folder), record, folder)


def _picture(image: Any) -> Picture:
    from PIL import Image

    from sca_bench.formats.pixels import Picture, colours_of, read_picture

    if isinstance(image, str | Path):
        return read_picture(Path(image))
    if isinstance(image, Image.Image):
        return Picture(colours_of(image))
    if isinstance(image, np.ndarray):
        if image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8 and image.size:
            return Picture(np.ascontiguousarray(image))
        problem = f"is an array {image.shape} of {image.dtype}"
        raise InputError("caption", _IMAGE, problem, "expected (height, width, 3) of uint8, RGB")
    problem = f"is of type {type(image).__name__}"
    raise InputError("caption", _IMAGE, problem, "give a file, a PIL image or an array")


def _numbers(given: Sequence[float] | None, count: int, name: str) -> tuple[float, ...] | None:
    if given is None:
        return None
    try:
        numbers = tuple(map(float, given))
    except (TypeError, ValueError):
        numbers = ()
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise InputError("caption", name, f"is {given!r}", f"expected {count} finite numbers")
    return numbers
