"""Visual Genome region descriptions, v1.0 and v1.2.

`region_descriptions.json` is a list of `{"id": image id, "regions": [...]}`. A region of v1.2 has
`region_id`, `image_id`, `phrase`, `x`, `y`, `width`, `height`; v1.0 calls the first two `id` and
`image`. `image_data.json` is a list of `{"image_id", "width", "height", "url", ...}`; the last two
parts of the url (`VG_100K_2/1.jpg`) say where the image file lies.

Source: Krishna et al., Visual Genome, IJCV 2017; https://homes.cs.washington.edu/~ranjay/visualgenome
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from sca_bench.data.image_files import ImageFolder
from sca_bench.data.readers.collector import Collector
from sca_bench.data.readers.json_files import check, claim, get, get_id, read_json
from sca_bench.data.region_set import RegionSet
from sca_bench.errors import InputError
from sca_bench.settings.base import of_kind
from sca_bench.settings.splits import FileSplit
from sca_bench.specs.readers import ReaderSpec
from sca_bench.types import ImageRecord


class VisualGenomeSplit(FileSplit):
    """Visual Genome region descriptions v1.0 or v1.2."""

    dataset: Literal["visual_genome"]
    regions: str = of_kind("path")
    """`region_descriptions.json`."""
    image_data: str = of_kind("path")
    """`image_data.json`: sizes and places of the images."""


SPEC = ReaderSpec(
    name="visual_genome",
    title="Visual Genome",
    settings=VisualGenomeSplit,
    read="sca_bench.data.readers.visual_genome:read_visual_genome",
    summary="Region descriptions of Visual Genome, v1.0 or v1.2",
    annotations="regions",
    licence="CC BY 4.0",
    source="Krishna et al., IJCV 2017; https://homes.cs.washington.edu/~ranjay/visualgenome",
    example="sca_bench.contract.examples:visual_genome",
)


def read_visual_genome(split: VisualGenomeSplit) -> RegionSet:
    """Read one split of Visual Genome region descriptions.

    Args:
        split: Files, selection and size limit.

    Returns:
        One region per usable description; its id is the data set's, its one reference the phrase.

    Raises:
        InputError: A file is missing, damaged or not of this form, or nothing is left.
    """
    file = split.regions
    records, folder = _read_image_data(split.image_data), ImageFolder(split.images)
    collector = Collector(f"visual_genome {Path(file).name}", file, split)
    seen_images: set[str] = set()
    seen_regions: set[str] = set()
    for index, entry in enumerate(check(read_json(file, "regions"), "a list", file, "top level")):
        image_id = get_id(entry, "id", file, index)
        claim(seen_images, image_id, file, index, "id")
        regions = get(entry, "regions", "a list", file, index)
        if image_id not in records:
            problem = f"image {image_id} is not in {split.image_data}"
            raise InputError(file, f"[{index}].id", problem)
        record, position = records[image_id]
        image = _image(record, image_id, folder, split.image_data, position)
        if not collector.open_image(image, record, len(regions)):
            continue
        for number, region in enumerate(regions):
            at = (index, "regions", number)
            id_key, image_key = _keys(region)
            region_id = get_id(region, id_key, file, *at)
            claim(seen_regions, region_id, file, *at, id_key)
            owner = get_id(region, image_key, file, *at)
            if owner != image_id:
                key = f"[{index}].regions[{number}].{image_key}"
                raise InputError(file, key, f"is {owner}, but it stands under image {image_id}")
            box_xywh = (
                get(region, "x", "a number", file, *at),
                get(region, "y", "a number", file, *at),
                get(region, "width", "a number", file, *at),
                get(region, "height", "a number", file, *at),
            )
            collector.add(region_id, box_xywh, (get(region, "phrase", "a string", file, *at),))
    return collector.finish()


def _keys(region: Any) -> tuple[str, str]:
    """Return what the region calls its own id and its image's: v1.2's names, or v1.0's."""
    if isinstance(region, dict) and "region_id" not in region and "id" in region:
        return "id", "image"
    return "region_id", "image_id"


def _read_image_data(file: str) -> dict[str, tuple[dict[str, Any], int]]:
    """Return the image records by id, each with its position in the file."""
    records: dict[str, tuple[dict[str, Any], int]] = {}
    seen: set[str] = set()
    content = check(read_json(file, "image_data"), "a list", file, "top level")
    for index, record in enumerate(content):
        image_id = get_id(record, "image_id", file, index)
        claim(seen, image_id, file, index, "image_id")
        records[image_id] = (record, index)
    return records


def _image(
    record: dict[str, Any], image_id: str, folder: ImageFolder, file: str, index: int
) -> ImageRecord:
    width = get(record, "width", "a positive integer", file, index)
    height = get(record, "height", "a positive integer", file, index)
    parts = PurePosixPath(urlsplit(get(record, "url", "a string", file, index)).path).parts
    name = "/".join(part for part in parts[-2:] if part != "/")
    return ImageRecord(image_id, width, height, folder.path(name, file, index, "url"))
