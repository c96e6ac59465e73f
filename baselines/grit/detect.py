"""Own detections over a split: `python -m baselines.grit.detect --help`.

Writes one JSON line per detection: `image_id`, `box_xyxy` (original pixels), `caption`, `score`;
`python -m sca_bench score DETECTIONS --regions REGIONS` scores them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from baselines.grit.build import RANDOM, build
from baselines.grit.captioner import GritCaptioner
from baselines.grit.config import SIZES
from baselines.grit.model import MAX_TOKENS
from baselines.grit.preprocess import resize
from sca_bench.boxes import FAR_PX
from sca_bench.devices.gpu import resolve_device
from sca_bench.errors import InputError, at
from sca_bench.files import atomic_file
from sca_bench.formats.pixels import counted, read_picture
from sca_bench.formats.texts import id_text
from sca_bench.output import guard_streams
from sca_bench.reading import ROWS_BYTES, named_file, parse_json, read_lines, shown
from sca_bench.settings import BaselineSettings, CellSettings, unread_data

_SUFFIXES = (".jpg", ".jpeg", ".png")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 where the input is wrong."""
    guard_streams()
    options = _parser().parse_args(arguments)
    try:
        count = detect_split(options)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{count} detections: {options.out}")
    return 0


def detect_split(options: argparse.Namespace) -> int:
    """Write the detections of every image that the regions file names; return how many.

    Raises:
        InputError: Weights, tokenizer, regions or an image cannot be read.
    """
    if options.beams < 1 or options.max_tokens < 2:
        problem = f"{options.beams} beams, {options.max_tokens} tokens"
        raise InputError("detect", "--beams, --max-tokens", problem, "at least 1 and 2 are needed")
    folder = Path(options.images)
    sizes = _image_sizes(Path(options.regions))
    images = {image_id: _file(folder, image_id) for image_id in sizes}
    captioner = _captioner(options)
    out, count, notes = Path(options.out), 0, []
    with atomic_file(out) as handle:
        for done, (image_id, path) in enumerate(images.items(), 1):
            picture = read_picture(path, holds_hw=sizes[image_id])
            notes.append(picture.notes)
            pixels_HW3 = torch.from_numpy(picture.pixels_HW3)
            for row in detect_image(captioner, pixels_HW3, options.beams, options.max_tokens):
                row = {"image_id": image_id, **row}
                handle.write(f"{json.dumps(row, ensure_ascii=False)}\n".encode())
                count += 1
            if done % 100 == 0 or done == len(images):
                print(f"{done} of {len(images)} images", file=sys.stderr)
    if line := counted(notes):
        print(f"images: {line}", file=sys.stderr)
    return count


@torch.no_grad()
def detect_image(
    captioner: GritCaptioner, pixels_HW3: Tensor, beams: int = 1, max_tokens: int = MAX_TOKENS
) -> list[dict[str, object]]:
    """Return `box_xyxy`, `caption` and `score` of what is found in one image (RGB, uint8)."""
    grit, config = captioner.grit, captioner.grit.config
    image = resize(pixels_HW3, config.short_side_px, config.long_side_px)
    begin = captioner.begin_token("caption")
    detections = grit.detect_and_caption(image, begin, max_tokens=max_tokens, beams=beams)
    rows = zip(
        detections.boxes_xyxy_N4.tolist(),
        detections.captions.ids_NKL[:, 0].tolist(),
        detections.scores_N.tolist(),
        strict=True,
    )
    return [
        {
            "box_xyxy": [round(side, 3) for side in box],
            "caption": captioner.decode(ids),
            "score": round(score, 6),
        }
        for box, ids, score in rows
    ]


def _captioner(options: argparse.Namespace) -> GritCaptioner:
    settings = CellSettings(
        variant="grit",
        baseline=BaselineSettings(
            weights=options.weights, size=options.size, tokenizer=options.tokenizer
        ),
        data=unread_data(),
    )
    with at("detect"):
        return build(settings).to(resolve_device(options.device, "detect", "--device"))


def _image_sizes(regions: Path) -> dict[str, tuple[float, float]]:
    """Return every image id of a regions file, with the height and width that its boxes need."""
    sizes: dict[str, tuple[float, float]] = {}
    with named_file(regions, "--regions"):
        for number, line in read_lines(regions, ROWS_BYTES, "--regions"):
            image_id, (height, width) = _needed_size(line, regions, f"line {number}")
            known_height, known_width = sizes.get(image_id, (0.0, 0.0))
            sizes[image_id] = (max(known_height, height), max(known_width, width))
    return sizes


def _needed_size(line: str, regions: Path, where: str) -> tuple[str, tuple[float, float]]:
    """Return the image id of a region, and the height and width that its box needs."""
    region = parse_json(line, regions, where)
    if not isinstance(region, dict) or "image_id" not in region:
        fix = "expected one JSON object per line"
        raise InputError(regions, f"{where}: image_id", "is missing", fix)
    image_id = id_text(region["image_id"])
    if image_id is None:
        problem = f"is {shown(region['image_id'])}, expected a string or a whole number"
        raise InputError(regions, f"{where}: image_id", problem)
    box = region.get("box_xyxy") or [0, 0, 0, 0]
    right = isinstance(box, list) and [
        type(side) in (int, float) and abs(side) < FAR_PX for side in box
    ]
    if right != [True] * 4:
        problem = f"is {shown(box)}, expected four numbers in pixels"
        raise InputError(regions, f"{where}: box_xyxy", problem)
    return image_id, (box[3], box[2])


def _file(folder: Path, image_id: str) -> Path:
    name = PurePosixPath(image_id)
    if name.is_absolute() or ".." in name.parts or "\0" in image_id:
        problem = f"image {shown(image_id)} is not the name of a file inside the images folder"
        raise InputError(folder, "", problem, "give ids that are names of image files")
    paths = [folder / f"{image_id}{suffix}" for suffix in _SUFFIXES]
    file = next((path for path in paths if path.is_file()), None)
    if file is None:
        problem = f"no file {paths[0].name} (or {', '.join(_SUFFIXES[1:])})"
        raise InputError(folder, image_id, problem, "give the folder of the split's images")
    return file


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m baselines.grit.detect", description=__doc__)
    parser.add_argument(
        "--regions", required=True, help="regions that should be found (JSON lines)"
    )
    parser.add_argument("--images", required=True, help="folder of image files, named by image id")
    parser.add_argument("--out", required=True, help="detections to write (JSON lines)")
    parser.add_argument("--weights", required=True, help=f"released checkpoint, or {RANDOM}")
    parser.add_argument("--size", default="grit_b_densecap", help=", ".join(SIZES))
    parser.add_argument("--tokenizer", help="folder of bert-base-uncased")
    parser.add_argument("--beams", type=int, default=1, help="1 is greedy (1)")
    parser.add_argument("--max-tokens", type=int, default=MAX_TOKENS, help="begin token included")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    return parser


if __name__ == "__main__":
    sys.exit(main())
