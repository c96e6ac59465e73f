"""Which images of a file belong to a split: by a list of ids, or by what their records say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from sca_bench.data.readers.json_files import check, check_id, claim, read_json
from sca_bench.errors import InputError, did_you_mean
from sca_bench.settings.splits import FileSplit

_LOCATIONS = ("file_name", "coco_url", "url")


def split_names(record: Mapping[str, Any]) -> set[str]:
    """Return the split names an image record carries.

    That is its own `source_split` where it has one. Elsewhere every folder of its `file_name`,
    `coco_url` and `url` counts, so that the official COCO files can be divided by `train2017` and
    `val2017`, Objects365 by `patch8`, and Visual Genome by `VG_100K`.
    """
    stated = record.get("source_split")
    if isinstance(stated, str) and stated:
        return {stated}
    names: set[str] = set()
    for key in _LOCATIONS:
        location = record.get(key)
        if isinstance(location, str):
            folders = PurePosixPath(urlsplit(location).path).parent.parts
            names.update(part for part in folders if part != "/")
    return names


class Selection:
    """The images a split wants.

    * `image_ids` alone: a JSON list of ids;
    * `image_ids` and `split`: a JSON object of such lists (densecap_splits.json), and its key;
    * `split` alone: the images whose record is marked so (see `split_names`).

    Args:
        split: The split's settings.

    Raises:
        InputError: The list of ids is missing, not of that form, or lacks the key.
    """

    def __init__(self, split: FileSplit) -> None:
        self._name = None if split.image_ids else split.split
        self._ids: set[str] | None = None
        self._seen_names: set[str] = set()
        self._met: set[str] = set()
        if split.image_ids is not None:
            self._file = split.image_ids
            self._ids = _read_ids(split.image_ids, split.split)
        self.reason = (
            f"not listed in {split.image_ids}" if self._ids is not None else f"not of {split.split}"
        )

    def keeps(self, image_id: str, record: Mapping[str, Any]) -> bool:
        """Say whether the split wants this image."""
        if self._ids is not None:
            if image_id in self._ids:
                self._met.add(image_id)
                return True
            return False
        if self._name is None:
            return True
        carried = split_names(record)
        self._seen_names |= carried
        if self._name in carried:
            self._met.add(image_id)
            return True
        return False

    def finish(self, file: str) -> int:
        """Return how many listed ids were not met in `file`.

        Raises:
            InputError: The split wants no image of the file at all.
        """
        if self._ids is not None:
            if not self._met:
                problem = f"none of its {len(self._ids)} image ids occurs in {file}"
                raise InputError(self._file, "image_ids", problem, "use a list made for that file")
            return len(self._ids) - len(self._met)
        if self._name is not None and not self._met:
            hint = (
                did_you_mean(self._name, self._seen_names)
                if self._seen_names
                else "its records carry neither source_split nor a folder in a file name or url"
            )
            raise InputError(None, "split", f"no image of {file} is of {self._name!r}", hint)
        return 0


def _read_ids(file: str, split: str | None) -> set[str]:
    content = read_json(file, "image_ids")
    if isinstance(content, dict):
        names = ", ".join(sorted(content))
        if split is None:
            raise InputError(None, "split", f"is needed: {file} holds several lists ({names})")
        if split not in content:
            raise InputError(file, split, "no such split", did_you_mean(split, content))
        at: tuple[str, ...] = (split,)
        listed = check(content[split], "a list", file, *at)
    elif isinstance(content, list):
        if split is not None:
            raise InputError(
                None, "split", f"{file} is one plain list, it has no split {split!r}", "drop split"
            )
        at, listed = ("image_ids",), content
    else:
        raise InputError(file, "image_ids", "expected a list of ids or an object of such lists")
    if not listed:
        raise InputError(file, ".".join(at), "the list of image ids is empty")
    ids: set[str] = set()
    for index, item in enumerate(listed):
        claim(ids, check_id(item, file, *at, index), file, *at, index)
    return ids
