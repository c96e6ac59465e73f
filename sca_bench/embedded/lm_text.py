"""Reading the text a decoder is trained on: captions, phrases, and images to leave out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from sca_bench.data.readers.coco_instances import instance_phrase
from sca_bench.data.readers.coco_panoptic import panoptic_phrase
from sca_bench.data.readers.json_files import check, check_id, get, get_id, read_json
from sca_bench.errors import InputError


def read_captions(file: Path, excluded: Mapping[Path, Collection[str]]) -> tuple[list[str], int]:
    """Read COCO-layout captions: `{"annotations": [{"image_id", "caption"}, ...]}`.

    Args:
        file: The file.
        excluded: Lists of images by their files; captions of these images are left out.

    Returns:
        The captions in file order, and how many were left out because of their image.

    Raises:
        InputError: The file is of another form, no caption is left, or a list names no image of it.
    """
    captions, left_out = [], 0
    met: set[str] = set()
    every = {image for ids in excluded.values() for image in ids}
    rows = get(read_json(file, "--captions"), "annotations", "a list", file)
    for index, row in enumerate(rows):
        caption = get(row, "caption", "a string", file, "annotations", index)
        image = get_id(row, "image_id", file, "annotations", index)
        met.add(image)
        if image in every:
            left_out += 1
        elif caption.strip():
            captions.append(" ".join(caption.split()))
    for listed, ids in excluded.items():
        if rows and met.isdisjoint(ids):
            few = ", ".join(sorted(ids)[:3]) or "none"
            problem = f"names no image of {file}: its ids are {few}, ...; those are "
            problem += f"{', '.join(sorted(met)[:3])}, ..."
            fix = "give a list made for these captions, or leave it out"
            raise InputError(listed, "--exclude-images", problem, fix)
    if not captions:
        problem = f"no caption is left of {len(rows)} ({left_out} belong to excluded images)"
        raise InputError(file, "annotations", problem, "give a file with captions of other images")
    return captions, left_out


def read_phrases(file: Path) -> list[str]:
    """Read the phrases that regions of a file have as references.

    Visual Genome's layout (a list of `{"regions": [{"phrase"}]}`) gives its phrases; COCO's layout
    gives its category names, worded as the readers of instances and of panoptic segments do.

    Raises:
        InputError: The file has neither form.
    """
    content = read_json(file, "--phrases")
    if isinstance(content, list):
        return [
            " ".join(get(region, "phrase", "a string", file, i, "regions", j).split())
            for i, entry in enumerate(content)
            for j, region in enumerate(get(entry, "regions", "a list", file, i))
        ]
    categories = get(content, "categories", "a list", file)
    panoptic = any("segments_info" in row for row in content.get("annotations", ())[:1])
    worded = panoptic_phrase if panoptic else instance_phrase
    return [
        worded(get(category, "name", "a string", file, "categories", index))
        for index, category in enumerate(categories)
    ]


def read_image_ids(file: Path) -> set[str]:
    """Read a list of images to leave out.

    Understood are a COCO-layout file (`images`), Visual Genome's image_data (`image_id`, and
    `coco_id` where an image has one), and a plain list of ids.

    Raises:
        InputError: The file has none of these forms.
    """
    content = read_json(file, "--exclude-images")
    if isinstance(content, dict):
        images = get(content, "images", "a list", file)
        return {get_id(image, "id", file, "images", i) for i, image in enumerate(images)}
    ids: set[str] = set()
    for index, item in enumerate(check(content, "a list", file, "top level")):
        ids |= _ids(item, file, index)
    return ids


def _ids(item: Any, file: Path, index: int) -> set[str]:
    if not isinstance(item, dict):
        return {check_id(item, file, index)}
    ids = {get_id(item, "image_id", file, index)}
    if item.get("coco_id") is not None:
        ids.add(get_id(item, "coco_id", file, index))
    return ids
