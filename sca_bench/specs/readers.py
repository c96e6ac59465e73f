"""The registry of dataset readers: the names that `dataset:` takes in a suite; no torch.

A reader is one file: the class of its settings, a function that reads such a split, and a
`ReaderSpec` that names both. Here it is one line; another package names its `ReaderSpec` by an
entry point of the group `sca_bench.readers`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sca_bench.plugins import Registry, attribute, is_address, is_own

References = Literal["captions", "class_names"]
"""What a region's references are: what people say of it, or the name of its class."""

_OF_A_SPLIT = ("singles", "most_images", "first_images", "files", "in_words")


@dataclass(frozen=True, slots=True)
class ReaderSpec:
    """One dataset reader.

    Attributes:
        name: What `dataset:` names in a suite.
        title: The data set's name, as reports print it.
        settings: The class of its splits' settings, a subclass of `sca_bench.settings.Split` (or
            of `FileSplit`, for annotation files with a folder of images). Its `dataset` is a
            `Literal` that holds the name.
        read: `module:attribute` of the function that reads a split (`settings -> RegionSet`);
            imported on use.
        summary: One line for `list datasets`.
        references: What its regions' references are.
        class_of: `module:attribute` of a function that reads the class name off a reference
            (`text -> name`), where references are captions that hold one.
        masks: Where its regions' masks come from, such as "its annotations"; empty for none.
        annotations: Setting that names its main file, beside which an index may stand
            (`sca_bench_index`); empty where a split is never indexed. A reader whose splits are
            indexed names images by `ImageFolder`, opens none of them, and yields boxes only.
        also_in: Folders below the images folder that files may lie in whose names do not say so.
        revision: Raised whenever the reader yields other regions for the same files and settings.
            It is part of every key that a split of it enters; empty for none.
        revision_key: What the revision is called in keys, behind the split's path.
        licence: Licence of the data.
        source: Where the data, or its format, is described.
        example: `module:attribute` of a function by which `sca_bench test` tries it: it gets a
            folder, may make files in it, and returns the settings of a split of
            two or three small images. Empty: it cannot be tested.
        fault: Why it cannot be used at all: a package that does not import.
    """

    name: str
    title: str
    settings: type[Any]
    read: str
    summary: str
    references: References = "captions"
    class_of: str = ""
    masks: str = ""
    annotations: str = ""
    also_in: tuple[str, ...] = ()
    revision: str = ""
    revision_key: str = "revision"
    licence: str = ""
    source: str = ""
    example: str = ""
    fault: str = ""

    def load(self) -> Callable[[Any], Any]:
        """Import and return the function that reads a split: `settings -> RegionSet`."""
        read: Callable[[Any], Any] = attribute(self.read)
        return read

    @property
    def has_classes(self) -> bool:
        """Whether every region's references say its class."""
        return bool(self.class_of) or self.references == "class_names"

    def class_reader(self) -> Callable[[str], str] | None:
        """Return what reads the class name off a reference; None where references hold none."""
        if self.class_of:
            read: Callable[[str], str] = attribute(self.class_of)
            return read
        return str.strip if self.references == "class_names" else None

    @property
    def is_own(self) -> bool:
        """Whether it comes with this package."""
        return is_own(self.read)


def _fault_of(spec: ReaderSpec) -> str:
    if not isinstance(spec.name, str) or not spec.name:
        return f"names its reader {spec.name!r}, expected a text"
    for field in ("read", "class_of"):
        path = getattr(spec, field)
        if path and not is_address(path):
            return f"has {field} {path!r}, expected module:attribute"
    if not spec.read:
        return "has no read, expected module:attribute of the function that reads a split"
    if not isinstance(spec.settings, type) or not all(
        hasattr(spec.settings, name) for name in ("model_fields", *_OF_A_SPLIT)
    ):
        return f"has settings {spec.settings!r}, expected a subclass of sca_bench.settings.Split"
    fields = spec.settings.model_fields
    if spec.name not in get_args(fields["dataset"].annotation):
        return f"has settings whose `dataset` is no Literal[{spec.name!r}]"
    if spec.annotations and not {"images", spec.annotations} <= fields.keys():
        return f"has annotations {spec.annotations!r}, expected a setting of a FileSplit"
    if not spec.is_own and spec.revision_key != "revision":
        return f"has revision_key {spec.revision_key!r}, expected 'revision'"
    return ""


def _broken(name: str, points_to: str, fault: str) -> ReaderSpec:
    return ReaderSpec(name, name, object, points_to, "", fault=fault)


READERS = Registry(
    "sca_bench.readers",
    ReaderSpec,
    "dataset",
    (
        "sca_bench.data.readers.scenes:SPEC",
        "sca_bench.data.readers.visual_genome:SPEC",
        "sca_bench.data.readers.coco_instances:SPECS",
        "sca_bench.data.readers.coco_panoptic:SPEC",
        "sca_bench.data.readers.refcoco:SPEC",
        "sca_bench.data.readers.regions:SPEC",
        "sca_bench.data.readers.mixture:SPEC",
    ),
    fault_of=_fault_of,
    broken=_broken,
    listed="datasets",
)
"""Every dataset reader by name."""
