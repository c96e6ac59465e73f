"""Which images of one split are in another, too: by content, whatever they are called. No torch.

A file counts as the same image under any path: relative, through a link, or copied under another
name. Files of different sizes are different without being read. Pixels are not compared: a photo
that was encoded again is another file, such as Visual Genome's copies of COCO's photos.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sca_bench.data.image_files import missing_image
from sca_bench.data.region_set import RegionSet
from sca_bench.digests import FileDigests
from sca_bench.errors import InputError
from sca_bench.types import ImageRecord


@dataclass(frozen=True)
class Overlap:
    """The images of one split that are in another one.

    Attributes:
        split: The split whose images these are: an entry of `data`.
        other: The split that they are in, too.
        images: Each image with its twin there: file, or id of what is rendered.
    """

    split: str
    other: str
    images: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """What they share, for people: count and first example."""
        image, twin = self.images[0]
        example = image if image == twin else f"{image}, there {twin}"
        return f"shares {len(self.images)} images with data.{self.other}, the first is {example}"


def overlaps(
    sets: Mapping[str, RegionSet], captioned: str, digests: FileDigests
) -> Iterator[Overlap]:
    """Yield what any two splits of a cell share, what is captioned first.

    Args:
        sets: Entry of `data` -> what is read of it.
        captioned: The entry that is captioned and scored.
        digests: Digests of image files that are known already.

    Raises:
        InputError: An image file is not there, or cannot be read.
    """
    images = {name: _Images.of(region_set) for name, region_set in sets.items()}
    others = [name for name in images if name != captioned]
    pairs = [(name, captioned) for name in others if captioned in images]
    pairs += [(b, a) for k, a in enumerate(others) for b in others[k + 1 :]]
    for split, other in pairs:
        if shared := images[split].shared_with(images[other], digests):
            yield Overlap(split, other, shared)


@dataclass(frozen=True)
class _Images:
    """The images of a split, ready to be compared.

    Attributes:
        rendered: Ids of images that lie in no file.
        files: Size in bytes -> image files of that size.
    """

    rendered: set[str] = field(default_factory=set)
    files: dict[int, set[str]] = field(default_factory=dict)

    @staticmethod
    def of(region_set: RegionSet) -> _Images:
        images = _Images()
        for record in _records(region_set):
            if not record.path:
                images.rendered.add(record.image_id)
                continue
            try:
                size = os.stat(record.path).st_size  # noqa: PTH116 (of a hundred thousand files)
            except FileNotFoundError:
                raise missing_image(record) from None
            except OSError as error:
                raise _unreadable(record.path, error) from None
            images.files.setdefault(size, set()).add(record.path)
        return images

    def shared_with(self, other: _Images, digests: FileDigests) -> tuple[tuple[str, str], ...]:
        """Return the images that are in both, with what they are called in each."""
        sizes = self.files.keys() & other.files.keys()
        places = dict(other._digested(sizes, digests))
        found = {(name, name) for name in self.rendered & other.rendered}
        found |= {(p, places[d]) for d, p in self._digested(sizes, digests) if d in places}
        return tuple(sorted(found))

    def _digested(self, sizes: set[int], digests: FileDigests) -> list[tuple[str, str]]:
        """Return digest and path of the files of some sizes, the first path last."""
        paths = sorted((path for size in sizes for path in self.files[size]), reverse=True)
        try:
            return list(zip(digests.of_all(map(Path, paths)), paths, strict=True))
        except OSError as error:
            raise _unreadable(error.filename, error) from None


def _records(region_set: RegionSet) -> Iterator[ImageRecord]:
    """Yield the images under their own ids, those of a mixture's parts too."""
    if region_set.parts:
        for part in region_set.parts:
            yield from _records(part.region_set)
    else:
        yield from region_set.images.values()


def _unreadable(path: object, error: OSError) -> InputError:
    return InputError(path, "images", f"cannot be read ({error.strerror})")
