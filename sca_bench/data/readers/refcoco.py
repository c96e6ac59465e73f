"""RefCOCO, RefCOCO+ and RefCOCOg: one region per referred object, all its sentences as references.

`refs(unc).p` (RefCOCO, RefCOCO+), `refs(umd).p` and `refs(google).p` (RefCOCOg) are pickled lists
of `{"ref_id", "ann_id", "image_id", "split", "sentences": [{"sent", "raw", ...}], ...}`; the boxes
and masks stand in `instances.json`, COCO's layout. The raw text of a sentence is spelled `arw` in
some descriptions of the format, and `split` is missing in some files; both are read.

Source: Kazemzadeh et al., EMNLP 2014; Yu et al., ECCV 2016; Mao et al., CVPR 2016;
https://github.com/lichengunc/refer
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from sca_bench.data.image_files import ImageFolder
from sca_bench.data.readers.coco import CocoFile
from sca_bench.data.readers.collector import Collector
from sca_bench.data.readers.json_files import check, claim, get, get_id, read_json
from sca_bench.data.readers.plain_pickle import read_plain_pickle
from sca_bench.data.readers.segmentation import given_mask
from sca_bench.data.region_set import RegionSet
from sca_bench.errors import InputError, did_you_mean
from sca_bench.reading import key_path, open_regular, shown
from sca_bench.settings.base import of_kind
from sca_bench.settings.splits import FileSplit
from sca_bench.specs.readers import ReaderSpec
from sca_bench.types import ImageRecord


class RefCocoSplit(FileSplit):
    """RefCOCO, RefCOCO+ or RefCOCOg: one region per referred object, all its sentences."""

    dataset: Literal["refcoco"]
    refs: str = of_kind("path")
    """`refs(unc).p`, `refs(umd).p` or `refs(google).p`; `split` names train, val, testA, ..."""
    instances: str = of_kind("path")
    """`instances.json`: boxes and masks of the objects."""


SPEC = ReaderSpec(
    name="refcoco",
    title="RefCOCO",
    settings=RefCocoSplit,
    read="sca_bench.data.readers.refcoco:read_refcoco",
    summary="RefCOCO, RefCOCO+ or RefCOCOg; all sentences of an object are its references",
    masks="its instances",
    annotations="refs",
    licence="CC BY 4.0 (COCO's annotations); expressions: see the page",
    source="Kazemzadeh et al., EMNLP 2014; Yu et al., ECCV 2016; Mao et al., CVPR 2016",
    example="sca_bench.contract.examples:refcoco",
)

NOT_REFERRED_TO = "without a referring expression"

_Refs = dict[str, list[tuple[int, dict[str, Any]]]]


def read_refcoco(split: RefCocoSplit) -> RegionSet:
    """Read one split of referring expressions.

    Args:
        split: Files and selection; `split.split` is a split of the expressions (train, val, testA,
            testB, test), and `image_ids` a plain list of image ids.

    Returns:
        One region per expression group ("ref"), with id `ref_id`, images in the order of
        `instances`. `dropped` counts refs: with the regions they add up to all refs of the file.

    Raises:
        InputError: A file is missing, damaged or not of this form, or nothing is left.
    """
    refs = _by_image(split)
    wanted = _wanted_split(split, refs)
    coco = CocoFile(split.instances, ImageFolder(split.images), "instances")
    selection = split.model_copy(update={"split": None})
    collector = Collector(f"refcoco {Path(split.refs).name}", split.refs, selection)
    for image, entry, boxes in coco.images():
        group = refs.pop(image.image_id, [])
        if not group:
            collector.leave_out(NOT_REFERRED_TO)
            continue
        mine = [(index, ref) for index, ref in group if wanted is None or ref["split"] == wanted]
        collector.drop(f"not of {wanted}", len(group) - len(mine))
        if not mine:
            collector.leave_out(f"not of {wanted}")
        elif collector.open_image(image, entry, len(mine)):
            _add(collector, coco, split.refs, image, mine, boxes)
    for group in refs.values():
        index, ref = group[0]
        problem = f"image {ref['image_id']} is not in {split.instances}"
        raise InputError(split.refs, key_path((index, "image_id")), problem)
    return collector.finish()


def _by_image(split: RefCocoSplit) -> _Refs:
    """Return the refs of every image, each with its place in the file."""
    file = split.refs
    refs: _Refs = {}
    seen: set[str] = set()
    for index, ref in enumerate(check(_read(file), "a list", file, "top level")):
        ref_id = get_id(ref, "ref_id", file, index)
        claim(seen, ref_id, file, index, "ref_id")
        image_id = get_id(ref, "image_id", file, index)
        refs.setdefault(image_id, []).append((index, ref))
    return refs


def _read(file: str) -> Any:
    """Read a pickle, or JSON of the same structure, told apart by how the file begins."""
    try:
        with open_regular(file, "refs") as handle:
            start = handle.read(64).lstrip()[:1]
    except OSError:
        start = b""
    return read_json(file, "refs") if start in (b"[", b"{") else read_plain_pickle(file, "refs")


def _wanted_split(split: RefCocoSplit, refs: _Refs) -> str | None:
    if split.split is None:
        return None
    known: set[str] = set()
    for group in refs.values():
        for index, ref in group:
            if "split" not in ref:
                fix = "drop `split`, or list the images in `image_ids`"
                raise InputError(
                    split.refs, key_path((index, "split")), "this file has no splits", fix
                )
            known.add(get(ref, "split", "a string", split.refs, index))
    if split.split not in known:
        problem = f"no expression of {split.refs} is of {split.split!r}"
        raise InputError(None, "split", problem, did_you_mean(split.split, known))
    return split.split


def _add(
    collector: Collector,
    coco: CocoFile,
    file: str,
    image: ImageRecord,
    refs: list[tuple[int, dict[str, Any]]],
    annotations: list[tuple[int, dict[str, Any]]],
) -> None:
    by_id: dict[str, tuple[int, dict[str, Any]]] = {}
    seen: set[str] = set()
    for i, a in annotations:
        annotation_id = get_id(a, "id", coco.file, "annotations", i)
        claim(seen, annotation_id, coco.file, "annotations", i, "id")
        by_id[annotation_id] = (i, a)
    for index, ref in refs:
        annotation_id = get_id(ref, "ann_id", file, index)
        if annotation_id not in by_id:
            problem = f"image {image.image_id} has no annotation {annotation_id} in {coco.file}"
            raise InputError(file, key_path((index, "ann_id")), problem)
        position, annotation = by_id[annotation_id]
        at = ("annotations", position)
        sentences = get(ref, "sentences", "a list", file, index)
        texts = tuple(_text(s, file, index, "sentences", k) for k, s in enumerate(sentences))
        box_xywh = coco.box_xywh(annotation, *at)
        collector.add(get_id(ref, "ref_id", file, index), box_xywh, texts, given_mask(annotation))


def _text(sentence: Any, file: str, *at: str | int) -> str:
    """Return a sentence as it was cleaned for the task (`sent`), or its raw text."""
    check(sentence, "an object", file, *at)
    for key in ("sent", "raw", "arw"):
        if key in sentence:
            return str(get(sentence, key, "a string", file, *at))
    raise InputError(file, key_path(at), f"expected sent or raw, found {shown(sentence)}")
