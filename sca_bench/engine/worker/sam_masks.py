"""SAM's predicted masks of the captioned regions whose images were kept, so that reports show them.

They depend on SAM and on the prompt, not on what a cell trains, so cells share one file. They are
made of kept embeddings once the captions are written: no image is encoded for them, nothing that
is counted runs, and no number moves. Where no embeddings are kept (`features.cache: off`, a full
disk) there are no masks, and a report says so.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from sca_bench.batch import RegionBatch
from sca_bench.captioner import EmbedsImages
from sca_bench.data.pipeline.dataset import RegionDataset, ViewDataset
from sca_bench.data.region_set import RegionSet
from sca_bench.engine import loaders
from sca_bench.engine.features.bank import FeatureBank
from sca_bench.engine.thumbnails import images_folder
from sca_bench.engine.worker.cell_group import autocast
from sca_bench.files import file_name, write_atomic
from sca_bench.formats.pixels import read_picture
from sca_bench.formats.rle import encode_mask
from sca_bench.models.sam.mask_image import mask_in_image
from sca_bench.reading import RECORD_BYTES, read_json
from sca_bench.settings import CellSettings
from sca_bench.study.keys.cell import CellIdentity


def masks_file(root: Path, captioned: RegionSet, cell: CellIdentity) -> Path:
    """Return the file of a captioned split's masks by a cell's SAM and prompt, in a runs folder."""
    name = f"{images_folder(root, captioned, cell).name}-{cell.masks_key}.jsonl"
    return root / "masks" / name


def write_masks(
    path: Path,
    captioner: object,
    bank: FeatureBank | None,
    dataset: RegionDataset,
    images: Path,
    settings: CellSettings,
    device: torch.device,
) -> bool:
    """Write the masks of the regions of all kept thumbnails, unless the file is there already.

    Each line holds `region_id`, `image_id`, `predicted_iou`, and the candidate of highest
    predicted IoU as COCO's compressed run lengths (`size`, `counts`) in the thumbnail's frame.

    Args:
        path: Where to write; a reader sees the whole file or none.
        captioner: Whose SAM predicts.
        bank: Where the embeddings of the captioned images are.
        dataset: The captioned split; without pixels.
        images: The folder of the thumbnails.
        settings: Of the cell.
        device: Where to compute.

    Returns:
        Whether there are masks of this captioner's SAM now; not where it has none, or where an
        embedding is not kept.
    """
    if bank is None or not isinstance(captioner, EmbedsImages):
        return False
    if path.exists():
        return True
    if not (images / "sizes.json").is_file():
        return False
    views = ViewDataset(dataset)
    sizes = _thumbnail_sizes(images)
    positions = [position for position, (image_id, _) in enumerate(views.keys) if image_id in sizes]
    lines: list[str] = []
    for batch in loaders.view_loader(views, positions, settings):
        rows = _rows(captioner, bank, batch.to(device), sizes, settings, dataset.image_size)
        if rows is None:
            return False
        lines += [json.dumps(row) + "\n" for row in rows]
    write_atomic(path, "".join(lines))
    return True


def _thumbnail_sizes(images: Path) -> dict[str, tuple[int, int]]:
    """Return image id -> height and width of its thumbnail."""
    sizes: dict[str, tuple[int, int]] = {}
    for image_id in read_json(images / "sizes.json", RECORD_BYTES):
        thumbnail = read_picture(images / f"{file_name(image_id)}.png").pixels_HW3
        sizes[image_id] = (thumbnail.shape[0], thumbnail.shape[1])
    return sizes


@torch.no_grad()
def _rows(
    captioner: EmbedsImages,
    bank: FeatureBank,
    batch: RegionBatch,
    sizes: dict[str, tuple[int, int]],
    settings: CellSettings,
    image_size: int,
) -> list[dict[str, Any]] | None:
    if not batch.num_regions:
        return []
    embeddings_BChw = bank.embeddings(batch).of_all_images()
    if embeddings_BChw is None:
        return None
    batch = replace(batch, image_embeddings_BChw=embeddings_BChw)
    with autocast(batch.region_mask_BR.device, settings.train.precision):
        features = captioner.frozen_features(batch, families=(), with_masks=True)
    if features.mask_logits_NMhw is None:
        return None
    best_N = features.ious_NM.argmax(1).tolist()
    rows = []
    for number, image_id in enumerate(batch.per_region(batch.image_ids)):
        logits_hw = features.mask_logits_NMhw[number, best_N[number]].cpu()
        mask = mask_in_image(logits_hw, sizes[image_id], image_size)
        rows.append(
            {
                "region_id": batch.region_ids[number],
                "image_id": image_id,
                "predicted_iou": round(float(features.ious_NM[number, best_N[number]]), 4),
                **encode_mask(mask),
            }
        )
    return rows
