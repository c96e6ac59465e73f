"""What COCO instances, COCO panoptic and files laid out like them have in common."""

from __future__ import annotations

from typing import Any

from sca_bench.data.image_files import ImageFolder
from sca_bench.data.readers.json_files import check, claim, get, get_id, read_json
from sca_bench.errors import InputError
from sca_bench.reading import key_path, shown
from sca_bench.types import ImageRecord

Annotations = list[tuple[int, dict[str, Any]]]


class CocoFile:
    """A COCO annotation file: images, categories and, by image, annotations.

    Attributes:
        file: Its name.
        categories: Category id as a text -> name.

    Args:
        file: Its name.
        folder: Where its images lie.
        key: The setting that names the file, for messages.

    Raises:
        InputError: The file is missing, damaged, or its images or categories are not as expected.
    """

    def __init__(self, file: str, folder: ImageFolder, key: str = "annotations") -> None:
        self.file, self._folder = file, folder
        content = read_json(self.file, key)
        check(content, "an object", self.file, "top level")
        self._images = get(content, "images", "a list", self.file)
        self._annotations = get(content, "annotations", "a list", self.file)
        self.categories: dict[str, str] = {}
        for index, category in enumerate(get(content, "categories", "a list", self.file)):
            category_id = get_id(category, "id", self.file, "categories", index)
            if category_id in self.categories:
                raise InputError(
                    self.file, key_path(("categories", index)), f"id {category_id} occurs twice"
                )
            self.categories[category_id] = get(
                category, "name", "a string", self.file, "categories", index
            )

    def images(self) -> list[tuple[ImageRecord, dict[str, Any], Annotations]]:
        """Return every image in file order: record, its raw entry, its numbered annotations.

        Raises:
            InputError: Image ids repeat, or an annotation belongs to no image of the file.
        """
        seen: set[str] = set()
        rows: dict[str, tuple[ImageRecord, dict[str, Any], Annotations]] = {}
        for index, entry in enumerate(self._images):
            at = ("images", index)
            image_id = get_id(entry, "id", self.file, *at)
            claim(seen, image_id, self.file, *at, "id")
            name = get(entry, "file_name", "a string", self.file, *at)
            record = ImageRecord(
                image_id,
                get(entry, "width", "a positive integer", self.file, *at),
                get(entry, "height", "a positive integer", self.file, *at),
                self._folder.path(name, self.file, *at, "file_name"),
            )
            rows[image_id] = (record, entry, [])
        for index, annotation in enumerate(self._annotations):
            at = ("annotations", index)
            image_id = get_id(annotation, "image_id", self.file, *at)
            if image_id not in rows:
                problem = f"image {image_id} is not among the images"
                raise InputError(self.file, key_path((*at, "image_id")), problem)
            rows[image_id][2].append((index, annotation))
        return list(rows.values())

    def category(self, record: Any, *at: str | int) -> str:
        """Return the category name of an annotation or segment.

        Raises:
            InputError: It names no category, or one that the file does not define.
        """
        category_id = get_id(record, "category_id", self.file, *at)
        if category_id not in self.categories:
            raise InputError(
                self.file,
                key_path((*at, "category_id")),
                f"{category_id} is not among the {len(self.categories)} categories",
            )
        return self.categories[category_id]

    def box_xywh(self, record: Any, *at: str | int) -> tuple[float, float, float, float]:
        """Return the `bbox` of an annotation or segment: left, top, width, height in pixels.

        Raises:
            InputError: It is not four finite numbers.
        """
        box = get(record, "bbox", "a list", self.file, *at)
        if len(box) != 4:
            raise InputError(
                self.file, key_path((*at, "bbox")), f"expected 4 numbers, found {shown(box)}"
            )
        x, y, width, height = (
            check(side, "a number", self.file, *at, "bbox", k) for k, side in enumerate(box)
        )
        return (x, y, width, height)

    def is_crowd(self, record: dict[str, Any], *at: str | int) -> bool:
        """Say whether an annotation marks a crowd; without `iscrowd` it does not.

        Raises:
            InputError: `iscrowd` is neither 0 nor 1.
        """
        return "iscrowd" in record and bool(get(record, "iscrowd", "0 or 1", self.file, *at))
