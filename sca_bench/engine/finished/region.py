"""What `caption` is asked for, checked before anything heavy is loaded; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sca_bench.data.readers.scenes import IMAGE_SIDE_PX
from sca_bench.errors import InputError
from sca_bench.formats.pixels import Picture, read_picture
from sca_bench.study.find_run import find_finished
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.store import Store

_SCENES = "scenes"


@dataclass(frozen=True, slots=True)
class AskedRegion:
    """A region of an image, and the finished run that is to caption it.

    Attributes:
        record: The run.
        folder: Where it lies.
        picture: The image, decoded and upright.
        box_xyxy: Box in original pixels, or None.
        point_xy: Foreground point in original pixels, or None.
    """

    record: RunRecord
    folder: Path
    picture: Picture
    box_xyxy: tuple[float, ...] | None
    point_xy: tuple[float, ...] | None

    @property
    def warning(self) -> str:
        """What the image has that the run never saw; empty where nothing is known of that."""
        names = _trained_on(self.record)
        height, width = self.picture.pixels_HW3.shape[:2]
        is_scene = height == width == IMAGE_SIDE_PX  # photos are hardly ever so small
        unseen = "is outside of what it saw, and its caption says little"
        if names == {_SCENES} and not is_scene:
            px = IMAGE_SIDE_PX
            return f"the run was trained on rendered scenes of {px} x {px} pixels; a photo {unseen}"
        if names and _SCENES not in names and is_scene:
            return f"the run was trained on {', '.join(sorted(names))}; a rendered scene {unseen}"
        return ""


def _trained_on(record: RunRecord) -> set[str]:
    """Return the data sets of a run's own training; none for a run that learnt from none."""
    split = record.settings.get("data", {}).get("train", {})
    parts = [part.get("split", {}) for part in split.get("parts", ())] or [split]
    return {str(part["dataset"]) for part in parts if "dataset" in part}


def asked_region(
    store: Store,
    run: str,
    image_path: Path,
    box_xyxy: tuple[float, ...] | None,
    point_xy: tuple[float, ...] | None,
) -> AskedRegion:
    """Find the run, read the image, and check that the prompt lies in it.

    Args:
        store: The runs folder.
        run: The run whose trained weights to use.
        image_path: Any image file; it is read upright (`sca_bench.formats.pixels`).
        box_xyxy: Box in original pixels, or None.
        point_xy: Foreground point in original pixels, or None.

    Raises:
        InputError: No such run, a broken image, no prompt, or one that is not in the image.
    """
    record, folder = find_finished(store, run)
    picture = read_picture(image_path)
    check_prompt(image_path, picture, box_xyxy, point_xy)
    return AskedRegion(record, folder, picture, box_xyxy, point_xy)


def check_prompt(
    where: object,
    picture: Picture,
    box_xyxy: tuple[float, ...] | None,
    point_xy: tuple[float, ...] | None,
    flag: str = "--",
) -> None:
    """Refuse a prompt that is not in the image.

    Args:
        where: What the image is called, for errors.
        picture: The image.
        box_xyxy: Box in original pixels, or None.
        point_xy: Foreground point in original pixels, or None.
        flag: What stands before `box` and `point` where they are given.

    Raises:
        InputError: There is no prompt, the box is empty, or one reaches outside.
    """
    height, width = picture.pixels_HW3.shape[:2]
    size = ", ".join((f"the image is {width} x {height} pixels", *picture.notes))
    if box_xyxy is None and point_xy is None:
        fix = f"give {flag}box, {flag}point or both"
        raise InputError("caption", f"{flag}box", "missing", fix)
    if box_xyxy is not None:
        x1, y1, x2, y2 = box_xyxy
        if not (x2 > x1 and y2 > y1):
            fix = "expected x1 < x2 and y1 < y2"
            raise InputError(where, f"{flag}box", f"{box_xyxy} is empty", fix)
        if x1 < 0 or y1 < 0 or x2 > width or y2 > height:
            raise InputError(where, f"{flag}box", f"{box_xyxy} reaches outside", size)
    if point_xy is not None and not (0 <= point_xy[0] <= width and 0 <= point_xy[1] <= height):
        raise InputError(where, f"{flag}point", f"{point_xy} lies outside", size)
