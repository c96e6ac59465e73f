"""One region of one image, captioned by a finished run, with an overlay to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch.nn import functional as nnf

from sca_bench.batch import RegionBatch
from sca_bench.boxes import resized_hw
from sca_bench.captioner import Decoding, SharesPrefix
from sca_bench.data.images import read_image
from sca_bench.data.preprocess import preprocess
from sca_bench.engine.job import resolve_device
from sca_bench.engine.trained import load_trained
from sca_bench.errors import InputError, did_you_mean
from sca_bench.models.sam import sam_dims
from sca_bench.settings import CellSettings
from sca_bench.study.fingerprint import Fingerprints
from sca_bench.study.record import RunRecord
from sca_bench.study.store import Store
from sca_bench.types import Prediction
from sca_bench.variants import get_variant

_BOX_COLOUR, _POINT_COLOUR, _MASK_COLOUR = (255, 196, 0), (255, 64, 64), (0, 114, 178)
_MIN_SIDE_PX = 480


def find_run(store: Store, run: str) -> tuple[RunRecord, Path]:
    """Return the record and folder of `CELL`, `CELL/SEED` or a run folder.

    Raises:
        InputError: No such finished run.
    """
    folder = Path(run)
    records = list(store.records())
    if (folder / "record.json").exists():
        wanted = (folder.parent.name, folder.name.removeprefix("seed-"))
        store = Store(folder.parent.parent.parent)
        records = list(store.records())
    else:
        cell, _, seed = run.partition("/")
        wanted = (cell, seed.removeprefix("seed-"))
    for record in records:
        same_seed = wanted[1] in ("", str(record.seed))
        if record.status == "done" and record.cell_id.startswith(wanted[0]) and same_seed:
            return record, store.run_dir(record.cell_id, record.seed)
    known = sorted({f"{r.cell_id}/{r.seed}" for r in records if r.status == "done"})
    fix = did_you_mean(run, known) if known else "no run is finished here; run a suite first"
    raise InputError(store.root, run, "no such finished run", fix)


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
        image_path: Any image file.
        box_xyxy: Box in original pixels, or None.
        point_xy: Foreground point in original pixels, or None.
        out: Where the overlay goes, PNG.

    Raises:
        InputError: No prompt, a prompt outside the image, a broken image, or no such run.
    """
    record, folder = find_run(store, run)
    image = read_image(image_path)
    _check_prompt(image, box_xyxy, point_xy, image_path)
    settings = CellSettings.model_validate(record.settings)
    if Fingerprints().inputs(_without_data(settings), folder) != {
        k: v for k, v in record.inputs.items() if not k.startswith("data.")
    }:
        raise InputError(folder, "inputs", "the weights this run used have changed since")
    spec = get_variant(settings.variant)
    captioner: Any = spec.load()(
        settings, spec.load_parts(settings, str(folder)), where=str(folder)
    )
    if not isinstance(captioner, SharesPrefix) or not load_trained(captioner, folder):
        raise InputError(folder, "", f"variant {settings.variant} has no trained weights to use")
    device = resolve_device(settings.runtime.device)
    captioner.to(device)
    image_size = sam_dims(settings.sam.size).image_size
    batch = _batch(image, image_size, box_xyxy, point_xy).to(device)
    with torch.no_grad():
        features = captioner.frozen_features(batch, with_masks=True)
        decoding = Decoding(settings.eval.num_beams, settings.eval.max_new_tokens)
        found: Prediction = captioner.generate(
            RegionBatch(**{**vars(batch), "features": features}), decoding
        )[0]
    best = int(features.ious_NM[0].argmax())
    assert features.mask_logits_NMhw is not None
    mask = _mask_in_image(features.mask_logits_NMhw[0, best].cpu(), image, image_size)
    draw_overlay(image, mask, box_xyxy, point_xy, found.caption).save(out)
    return found


def _without_data(settings: CellSettings) -> CellSettings:
    """Only the weights matter here; the data need not be present."""
    from sca_bench.settings import DataSettings, ScenesSplit

    scene = ScenesSplit(dataset="scenes", num_images=1, first_seed=0)
    return settings.model_copy(update={"data": DataSettings(train=scene, test=scene)})


def _check_prompt(
    image: np.ndarray, box: tuple[float, ...] | None, point: tuple[float, ...] | None, path: Path
) -> None:
    height, width = image.shape[:2]
    size = f"the image is {width} x {height} pixels"
    if box is None and point is None:
        raise InputError("caption", "--box", "missing", "give --box, --point or both")
    if box is not None:
        x1, y1, x2, y2 = box
        if x2 <= x1 or y2 <= y1:
            raise InputError(path, "--box", f"{box} is empty", "expected x1 < x2 and y1 < y2")
        if x1 < 0 or y1 < 0 or x2 > width or y2 > height:
            raise InputError(path, "--box", f"{box} reaches outside", size)
    if point is not None and not (0 <= point[0] <= width and 0 <= point[1] <= height):
        raise InputError(path, "--point", f"{point} lies outside", size)


def _batch(
    image: np.ndarray,
    image_size: int,
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
        pixel_values_B3HW=preprocess(image, image_size)[None],
        input_sizes_hw=[(input_h, input_w)],
        tasks=["caption"],
    )


def _mask_in_image(logits_hw: torch.Tensor, image: np.ndarray, image_size: int) -> np.ndarray:
    """Bring a low-resolution mask to the original frame: up, padding off, then to the image."""
    height, width = image.shape[:2]
    input_h, input_w = resized_hw(height, width, image_size)
    size = (image_size, image_size)
    full = nnf.interpolate(logits_hw[None, None].float(), size, mode="bilinear")
    valid = full[..., :input_h, :input_w]
    found = nnf.interpolate(valid, (height, width), mode="bilinear")[0, 0] > 0
    return np.asarray(found.numpy(), dtype=bool)


def draw_overlay(
    image: np.ndarray,
    mask: np.ndarray,
    box_xyxy: tuple[float, ...] | None,
    point_xy: tuple[float, ...] | None,
    caption: str,
) -> Image.Image:
    """Return the image with mask, prompt and caption, enlarged if it is very small."""
    tinted = image.copy()
    tinted[mask] = (0.55 * tinted[mask] + 0.45 * np.array(_MASK_COLOUR)).astype(np.uint8)
    picture = Image.fromarray(tinted)
    factor = max(1.0, _MIN_SIDE_PX / max(picture.size))
    size = (round(picture.width * factor), round(picture.height * factor))
    picture = picture.resize(size, Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(picture)
    line = max(2, round(max(size) / 300))
    if box_xyxy is not None:
        pen.rectangle([v * factor for v in box_xyxy], outline=_BOX_COLOUR, width=line)
    if point_xy is not None:
        x, y, r = point_xy[0] * factor, point_xy[1] * factor, 2 * line
        pen.ellipse([x - r, y - r, x + r, y + r], fill=_POINT_COLOUR, outline="white")
    font = ImageFont.load_default(size=max(14, round(max(size) / 32)))
    lines = _wrapped(caption, font, size[0] - 16)
    step = round(font.size * 1.35)
    framed = Image.new("RGB", (size[0], size[1] + step * len(lines) + 12), "white")
    framed.paste(picture)
    text = ImageDraw.Draw(framed)
    for number, words in enumerate(lines):
        text.text((8, size[1] + 6 + number * step), words, fill="black", font=font)
    return framed


def _wrapped(caption: str, font: Any, width_px: int) -> list[str]:
    lines = [""]
    for word in caption.split() or ["(empty caption)"]:
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width_px:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
