"""Small copies of captioned images, so that reports need neither the data nor torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from sca_bench.data.region_set import RegionSet
from sca_bench.files import atomic_file, file_name, make_folder, write_atomic
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


def write_thumbnails(captioned: RegionSet, folder: Path) -> None:
    """Write images of a split, spread evenly, as PNG; their original sizes go to `sizes.json`."""
    if (folder / "sizes.json").exists():
        return
    make_folder(folder)
    sizes: dict[str, list[int]] = {}
    for image_id in _shown(captioned):
        image = Image.fromarray(captioned.load_image(image_id))
        sizes[image_id] = [image.width, image.height]
        image.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX))
        with atomic_file(folder / f"{file_name(image_id)}.png") as handle:
            image.save(handle, format="PNG", optimize=True)
    write_atomic(folder / "sizes.json", json.dumps(sizes))
