"""Regions of images captioned by a finished run, with overlays to look at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sca_bench.batch import RegionBatch
from sca_bench.boxes import resized_hw
from sca_bench.captioner import Decoding, SharesPrefix
from sca_bench.data.load import load_split
from sca_bench.data.pipeline.preprocess import blank_image, blank_pixels, raw_pixels
from sca_bench.devices.gpu import resolve_device
from sca_bench.engine.device import computing
from sca_bench.engine.features.bank import rounded
from sca_bench.engine.finished.overlay import draw_overlay
from sca_bench.engine.finished.region import AskedRegion, asked_region
from sca_bench.engine.worker.trained_weights import find_trained, read_trained
from sca_bench.errors import InputError, at
from sca_bench.files import atomic_file, file_name
from sca_bench.models.sam.mask_image import mask_in_image
from sca_bench.settings import CellSettings, unread_data
from sca_bench.specs.encoders import PixelStats, sam_dims
from sca_bench.study.find_run import find_finished
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.study.keys.fingerprint import Fingerprints, path_settings
from sca_bench.study.runs.older_inputs import fits_as_recorded
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.revisions import had_setting
from sca_bench.study.runs.store import Store
from sca_bench.types import Prediction


def caption_region(
    store: Store,
    run: str,
    image_path: Path,
    box_xyxy: tuple[float, ...] | None,
    point_xy: tuple[float, ...] | None,
    out: Path,
) -> Prediction:
    """Caption one region and draw it.

    Args:
        store: The runs folder.
        run: The run whose trained weights to use.
        image_path: Any image file; it is read upright (`sca_bench.formats.pixels`).
        box_xyxy: Box in original pixels, or None.
        point_xy: Foreground point in original pixels, or None.
        out: Where the overlay goes, PNG.

    Raises:
        InputError: No prompt, a prompt outside the image, a broken image, or no such run.
    """
    asked = asked_region(store, run, image_path, box_xyxy, point_xy)
    return caption_asked(asked, out)


def caption_asked(asked: AskedRegion, out: Path) -> Prediction:
    """Caption a region that was checked before, and draw it into `out`, PNG or JPEG.

    Raises:
        InputError: The run's weights are not there any more.
    """
    captioner = FinishedCaptioner(asked.record, asked.folder)
    image, box, point = asked.picture.pixels_HW3, asked.box_xyxy, asked.point_xy
    captioned, mask = captioner.caption(image, box, point)
    _save(draw_overlay(image, mask, box, point, captioned.caption), out)
    return captioned


def caption_examples(store: Store, run: str, count: int, out: Path) -> list[str]:
    """Caption and draw regions of a run's own split: one per image, none picked by hand.

    The images are spread evenly over the split; in the first the first region is taken, in the
    second the second, and so on around.

    Args:
        store: The runs folder.
        run: The run whose trained weights and split (`eval.split`) to use.
        count: How many; fewer where the split has fewer images.
        out: Folder for `01_IMAGE_REGION.png` and so on.

    Returns:
        One line per overlay.

    Raises:
        InputError: No such run, or its data or weights are not there any more.
    """
    record, folder = find_finished(store, run)
    with at(folder):
        split = CellIdentity.stored(record.settings, record.inputs).split_settings("captioned")
        regions_of_run = load_split(split)
        regions_of_run.check_images()
    captioner = FinishedCaptioner(record, folder)
    ids = list(regions_of_run.images)
    count = min(count, len(ids))
    lines = []
    for number in range(count):
        image_id = ids[number * len(ids) // count]
        regions = regions_of_run.regions_of(image_id)
        region = regions[number % len(regions)]
        image = regions_of_run.load_image(image_id)
        prediction, mask = captioner.caption(image, region.box_xyxy, None)
        text = f"{prediction.caption}   (reference: {' / '.join(region.references)})"
        name = f"{number + 1:02d}_{file_name(image_id)}_{file_name(region.region_id)}.png"
        _save(draw_overlay(image, mask, region.box_xyxy, None, text), out / name)
        lines.append(f"{name}: {text}")
    return lines


class FinishedCaptioner:
    """The captioner of a finished run, with its trained weights, on the device at hand."""

    def __init__(self, record: RunRecord, folder: Path) -> None:
        """Load it.

        Raises:
            InputError: Its frozen weights have changed, or it has no trained ones.
        """
        with at(folder):
            identity = CellIdentity.stored(record.settings, record.inputs)
        self.settings = settings = identity.settings
        check_frozen_inputs(record, settings, folder)
        captioner = build_finished(record, identity, folder)
        if not _shares_prefix(captioner):
            problem = f"variant {settings.variant} has no trained weights to use"
            raise InputError(folder, "", problem)
        if identity.spec.trains == "once":
            problem = f"variant {settings.variant} learns from a training split, and keeps nothing"
            raise InputError(folder, "", problem, "run its suite, or caption with another run")
        self.device = torch.device(resolve_device(settings.runtime.device))
        self.captioner = captioner.to(self.device)
        self.image_size = sam_dims(settings.sam.size).image_size
        self.pixels = identity.encoder.pixel_stats

    @torch.no_grad()
    def caption(
        self,
        image: np.ndarray,
        box_xyxy: tuple[float, ...] | None,
        point_xy: tuple[float, ...] | None,
    ) -> tuple[Prediction, np.ndarray]:
        """Return a region's prediction and its mask, bool (H, W); prompts in original pixels."""
        with computing(self.settings, self.device):
            return self._caption(image, box_xyxy, point_xy)

    def _caption(
        self,
        image: np.ndarray,
        box_xyxy: tuple[float, ...] | None,
        point_xy: tuple[float, ...] | None,
    ) -> tuple[Prediction, np.ndarray]:
        batch = _batch(image, self.image_size, self.pixels, box_xyxy, point_xy)
        if self.settings.data.blank_images:  # the control never sees an image, here neither
            nothing = torch.from_numpy(blank_image(image.shape[0], image.shape[1], self.pixels))
            batch = replace(
                batch,
                raw_pixels=blank_pixels(self.image_size, self.pixels),
                original_images=[nothing],
            )
        batch = batch.to(self.device)
        features = self.captioner.frozen_features(batch, with_masks=True)
        features = rounded(features, self.settings.features)
        decoding = Decoding(self.settings.eval.num_beams, self.settings.eval.max_new_tokens)
        batch = replace(batch, features=features)
        prediction: Prediction = self.captioner.generate(batch, decoding)[0]
        best = int(features.ious_NM[0].argmax())
        mask = mask_in_image(
            features.need("mask_logits_NMhw")[0, best].cpu(), image.shape[:2], self.image_size
        )
        return prediction, mask


def _shares_prefix(captioner: object) -> bool:
    return isinstance(captioner, SharesPrefix)


def check_frozen_inputs(record: RunRecord, settings: CellSettings, folder: Path) -> None:
    """Check that the frozen weights of a finished run are those it ran with.

    Its data need not be there any more, nor what its training started from.

    Raises:
        InputError: One is missing or has other content.
    """
    none = {"data": unread_data(), "start_from": None, "pretraining": ()}
    frozen = settings.model_copy(update=none)
    with at(folder):
        inputs = Fingerprints().inputs(frozen)
    values = dict(path_settings(frozen))
    for key, digest in inputs.items():
        if not had_setting(record, key) or record.inputs.get(key) == digest:
            continue
        if not fits_as_recorded(record, key, values[key]):
            raise InputError(folder, key, "the weights this run used have changed since")


def build_finished(record: RunRecord, cell: CellIdentity, folder: Path) -> Any:
    """Build the captioner of a finished run and load what it trained.

    Raises:
        InputError: Weights are missing or do not fit.
    """
    with at(folder):
        captioner: Any = cell.spec.load()(cell.settings, cell.spec.load_parts(cell.settings))
        if cell.spec.trains == "gradient":
            path = find_trained(record, folder)
            captioner.load_trainable_state(read_trained(path), where=path)
    return captioner


def _batch(
    image: np.ndarray,
    image_size: int,
    pixels: PixelStats,
    box: tuple[float, ...] | None,
    point: tuple[float, ...] | None,
) -> RegionBatch:
    height, width = image.shape[:2]
    input_h, input_w = resized_hw(height, width, image_size)
    scale = torch.tensor([input_w / width, input_h / height])
    return RegionBatch(
        image_ids=["image"],
        region_ids=["region"],
        region_mask_BR=torch.ones(1, 1, dtype=torch.bool),
        boxes_xyxy_input_BR4=(
            None if box is None else (torch.tensor(box) * scale.repeat(2))[None, None].float()
        ),
        points_xy_input_BRP2=(
            None if point is None else (torch.tensor(point) * scale)[None, None, None].float()
        ),
        point_labels_BRP=None if point is None else torch.ones(1, 1, 1, dtype=torch.long),
        raw_pixels=raw_pixels(image, image_size, pixels),
        input_sizes_hw=[(input_h, input_w)],
        original_images=[torch.from_numpy(np.array(image))],
        tasks=["caption"],
    )


def _save(overlay: Image.Image, out: Path) -> None:
    """Write an overlay in the format that its name ends in."""
    with atomic_file(out) as handle:
        overlay.save(handle, format="PNG" if out.suffix.lower() == ".png" else "JPEG")
