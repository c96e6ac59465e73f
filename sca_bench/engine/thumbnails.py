"""Small copies of captioned images, so that reports need neither the data nor torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from sca_bench.data.region_set import RegionSet
from sca_bench.files import atomic_file, file_name, inside, write_atomic
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.study.keys.fingerprint import digest_json

MAX_IMAGES = 200
MAX_SIDE_PX = 480


def images_folder(root: Path, captioned: RegionSet, cell: CellIdentity) -> Path:
    """Return the folder of a captioned split's thumbnails below the runs folder.

    Its name holds the content of the image files, too: other pictures under the same names are
    other thumbnails.
    """
    split = f"data.{cell.data_split('captioned')}."
    pictures = [
        digest
        for key, digest in sorted(cell.inputs.items())
        if key.startswith(split) and key.endswith(".images")
    ]
    name = digest_json([captioned.digest(), pictures]) if pictures else captioned.digest()
    return root / "images" / name[:12]


def _shown(captioned: RegionSet) -> Iterator[str]:
    """Yield the ids of the images that are kept, spread evenly over the split."""
    num_images = len(captioned.images)
    count = min(MAX_IMAGES, num_images)
    return (captioned.image_id(i * num_images // count) for i in range(count))


def write_thumbnails(captioned: RegionSet, folder: Path) -> str:
    """Write images of a split, spread evenly, as PNG; their original sizes go to `sizes.json`.

    Returns:
        Nothing, or why they cannot be written: reports then show none, until another run of the
        split writes them.
    """
    inside(folder.parent.parent, folder)
    if (folder / "sizes.json").exists():
        return ""
    sizes: dict[str, list[int]] = {}
    for image_id in _shown(captioned):
        image = Image.fromarray(captioned.load_image(image_id))
        sizes[image_id] = [image.width, image.height]
        image.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
        try:
            with atomic_file(folder / f"{file_name(image_id)}.png") as handle:
                image.save(handle, format="PNG", optimize=True)
        except OSError as error:
            return _lacking(folder, error)
    try:
        write_atomic(folder / "sizes.json", json.dumps(sizes))
    except OSError as error:
        return _lacking(folder, error)
    return ""


def _lacking(folder: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{folder} cannot be written ({reason}): reports show no pictures of this split"
