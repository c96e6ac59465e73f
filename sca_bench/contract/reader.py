r"""What a dataset reader must keep to, as tests that a third party's own tests inherit.

    from sca_bench.contract import ReaderContract

    class TestMine(ReaderContract):
        spec = my_package.SPEC

A reader can be tested where its spec says how: `example` names a function `folder -> settings`. It
writes a small data set of that form into the folder (two images with a region each will do), and
returns the settings of a split that reads it:

    def example(folder):
        (folder / "boxes.txt").write_text("a.png 2 2 9 9 a dog\\n")
        ...
        return {"dataset": "mine", "annotations": str(folder / "boxes.txt"), "images": str(folder)}
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from sca_bench.contract.broken import Broken, expect, skip
from sca_bench.contract.spec import SpecContract
from sca_bench.data.region_set import RegionSet
from sca_bench.errors import InputError
from sca_bench.plugins import Registry
from sca_bench.settings import Settings, items_of
from sca_bench.specs.readers import READERS, ReaderSpec

_LINE = "raise InputError(file, key, problem, fix)"
_MOST_IMAGES = 20


class ReaderContract(SpecContract):
    """Tests of one reader; see the module.

    Attributes:
        spec: The reader.
    """

    spec: ReaderSpec
    code = ("read", "class_of")

    @classmethod
    def registry(cls) -> Registry[Any]:
        """Return the registry of readers."""
        return READERS

    def split(self) -> Settings:
        """Return the settings of the example; its files are written to `self.folder`."""
        given = dict(self.example())
        if not given:
            skip("its spec names no `example`, so there is no data to read")
        try:
            split: Settings = self.spec.settings.model_validate(
                {"dataset": self.spec.name, **given}
            )
        except ValidationError as error:
            rule = "an example whose settings its own class takes"
            fault = f"{error.errors()[0]['loc']}: {error.errors()[0]['msg']}"
            raise Broken(rule, fault, "correct the example, or the class of settings") from error
        return split

    # --- settings -----------------------------------------------------------------------------

    def test_its_settings_are_strict(self) -> None:
        """A key that is no setting is refused, and one of the settings is the data set's name."""
        given = self.split().model_dump()
        rule = "a ValidationError for a key that is no setting"
        fix = "derive the class from sca_bench.settings.Split, which forbids them"
        try:
            self.spec.settings.model_validate({**given, "no_such_setting": 1})
        except ValidationError:
            return
        raise Broken(rule, "it was taken", fix)

    # --- what is read -------------------------------------------------------------------------

    def test_it_reads_its_example(self) -> None:
        """The example has regions."""
        split = self.split()
        rule = "a RegionSet with a region at least"
        fix = "return sca_bench.data.region_set.RegionSet(name, images, regions)"
        try:
            read = self.spec.load()(split)
        except Exception as error:
            raise Broken(rule, f"{type(error).__name__}: {error}", fix) from error
        expect(isinstance(read, RegionSet), rule, type(read).__name__, fix)
        expect(len(read.regions), rule, read.summary(), "read the regions of the example")

    def test_region_ids_are_unique(self) -> None:
        """No two regions have one id."""
        split = self.split()
        rule, fix = "an id of its own for every region", "number the regions inside their image"
        try:
            read: RegionSet = self.spec.load()(split)
        except InputError as error:
            expect("two regions have this id" not in str(error), rule, error, fix)
            skip("it cannot be read")
        ids = [region.region_id for region in read.regions]
        twice = sorted({one for one in ids if ids.count(one) > 1})
        expect(not twice, rule, f"twice: {', '.join(twice[:3])}", fix)

    def test_regions_lie_in_their_images(self) -> None:
        """Boxes are left, top, right, bottom in pixels of an image that the set has."""
        read = self._read()
        fix = "give box_xyxy in pixels of the stored image, cut at its border"
        for region in read.regions:
            record = read.images.get(region.image_id)
            assert record is not None  # `RegionSet` has seen to that
            left, top, right, bottom = region.box_xyxy
            rule = f"{region.region_id}: a box inside its image of {record.width} x {record.height}"
            inside = 0 <= left < right <= record.width and 0 <= top < bottom <= record.height
            expect(inside, rule, region.box_xyxy, fix)

    def test_references_are_texts(self) -> None:
        """Every region has a reference caption, and none is empty."""
        for region in self._read().regions:
            texts = region.references
            right = isinstance(texts, tuple) and len(texts) > 0
            right = right and all(isinstance(text, str) and text.strip() for text in texts)
            rule = f"{region.region_id}: a tuple of one reference or more, none empty"
            expect(
                right, rule, repr(texts), "drop a region without a text, and count it in `dropped`"
            )

    def test_pixels_have_the_stated_size(self) -> None:
        """Images load as RGB uint8 (H, W, 3) of the size that their records state."""
        read = self._read()
        for image_id, record in list(read.images.items())[:_MOST_IMAGES]:
            pixels = read.load_image(image_id)
            rule = f"{image_id}: RGB uint8 of shape ({record.height}, {record.width}, 3)"
            got = f"{getattr(pixels, 'dtype', type(pixels))} {np.shape(pixels)}"
            right = getattr(pixels, "dtype", None) == np.uint8
            right = right and np.shape(pixels) == (record.height, record.width, 3)
            expect(right, rule, got, "give the stored size in ImageRecord(image_id, width, height)")

    def test_the_same_regions_twice(self) -> None:
        """Reading again gives the same, in the same order."""
        split = self.split()
        first, second = _content(self._load(split)), _content(self._load(split))
        rule = "the same images and regions, in the same order, a second time"
        fix = "list files and sets in sorted order, and draw nothing at random"
        expect(first == second, rule, "others, or another order", fix)

    def test_it_writes_nothing(self) -> None:
        """Data folders may be shared and read-only."""
        split = self.split()
        before = _files(self.folder)
        read = self._load(split)
        for image_id in list(read.images)[:_MOST_IMAGES]:
            read.load_image(image_id)
        changed = sorted(str(name) for name, _ in before ^ _files(self.folder))
        rule, fix = "a data folder that is as it was", "keep what you compute elsewhere"
        expect(not changed, rule, f"written: {', '.join(changed[:3])}", fix)

    def test_it_reads_only_what_its_settings_name(self) -> None:
        """Files that no `path` setting names are in no key, so that nothing may depend on them."""
        split = self.split()
        made = tempfile.TemporaryDirectory(prefix="sca_bench_copied_")  # its folder may be an input
        elsewhere = Path(self._stack.enter_context(made))
        moved: dict[str, str] = {}
        for number, (name, path) in enumerate(_paths(split)):
            copy = elsewhere / str(number) / path.name
            copy.parent.mkdir(parents=True)
            shutil.copytree(path, copy) if path.is_dir() else shutil.copyfile(path, copy)
            moved[name] = str(copy)
        if not moved:
            skip("it reads no files")
        before = self._load(split)
        rule = "the same regions from the files alone that its settings name"
        fix = 'have a setting of_kind("path") for every file or folder that is read'
        try:
            after: RegionSet = self.spec.load()(split.model_copy(update=moved))
            for image_id in list(after.images)[:_MOST_IMAGES]:
                after.load_image(image_id)
        except Exception as error:
            raise Broken(rule, f"{type(error).__name__}: {error}", fix) from error
        expect(_content(before) == _content(after), rule, "others", fix)

    # --- what cannot be read ------------------------------------------------------------------

    def test_a_missing_file_is_one_clear_line(self) -> None:
        """A file or folder that is not there is an `InputError` that names it."""
        split, missing = self.split(), self.folder / "no_such_file"
        paths = list(_paths(split))
        if not paths:
            skip("it reads no files")
        for name, path in paths:
            rule = f"{name}: an InputError of one line that names what is missing"
            lost = split.model_copy(update={name: str(missing / path.name)})
            error = _fault(rule, partial(self._whole, lost), must=True)
            line = str(error)
            expect("\n" not in line and str(missing) in line, rule, repr(line), _LINE)

    def test_a_damaged_file_is_one_clear_line(self) -> None:
        """A file that ends too early is read, or is an `InputError`; nothing else."""
        split = self.split()
        files = [(name, path) for name, path in _paths(split) if path.is_file()]
        if not files:
            skip("it reads no annotation files")
        for name, path in files:
            half = self.folder / "damaged" / name / path.name
            half.parent.mkdir(parents=True)
            half.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            torn = split.model_copy(update={name: str(half)})
            rule = f"{name}: an InputError for a file that ends too early"
            _fault(rule, partial(self._whole, torn), must=False)

    def _whole(self, split: Settings) -> None:
        read = self.spec.load()(split)
        read.check_images()

    def _read(self) -> RegionSet:
        return self._load(self.split())

    def _load(self, split: Settings) -> RegionSet:
        try:
            read: RegionSet = self.spec.load()(split)
        except Exception:
            skip("it cannot be read: see it_reads_its_example")
        return read


def _fault(rule: str, read: Callable[[], None], *, must: bool) -> InputError | None:
    try:
        read()
    except InputError as error:
        return error
    except Exception as error:
        raise Broken(rule, f"{type(error).__name__}: {error}", _LINE) from error
    if must:
        raise Broken(rule, "it was read", _LINE)
    return None


def _paths(split: Settings) -> Iterator[tuple[str, Path]]:
    """Yield (setting, path) of every file or folder that a split names and that is there."""
    for name, kind, value in items_of(split):
        if kind == "path" and value is not None and Path(value).exists():
            yield name, Path(value)


def _content(read: RegionSet) -> list[Any]:
    regions = [(r.region_id, r.image_id, r.box_xyxy, r.references) for r in read.regions]
    return [[(i.image_id, i.width, i.height) for i in read.images.values()], regions]


def _files(folder: Path) -> set[tuple[str, str]]:
    """Return the name and the content of everything below a folder."""
    return {
        (
            path.relative_to(folder).as_posix(),
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder",
        )
        for path in folder.rglob("*")
    }
