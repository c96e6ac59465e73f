"""Own detections over a split: `python -m baselines.grit.detect --help`.

Writes one JSON line per detection: `image_id`, `box_xyxy` (original pixels), `caption`, `score`;
`python -m sca_bench score DETECTIONS --regions REGIONS` scores them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from baselines.grit.build import RANDOM, build
from baselines.grit.captioner import GritCaptioner
from baselines.grit.config import SIZES
from baselines.grit.model import MAX_TOKENS
from baselines.grit.preprocess import resize
from sca_bench.errors import InputError, at
from sca_bench.files import atomic_file
from sca_bench.output import guard_streams
from sca_bench.settings import BaselineSettings, CellSettings, DataSettings, ScenesSplit

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
    images = dict(_images(Path(options.regions), Path(options.images)))
    captioner = _captioner(options)
    out, count = Path(options.out), 0
    with atomic_file(out) as handle:
        for done, (image_id, path) in enumerate(images.items(), 1):
            for row in detect_image(captioner, path, options.beams, options.max_tokens):
                row = {"image_id": image_id, **row}
                handle.write(f"{json.dumps(row, ensure_ascii=False)}\n".encode())
                count += 1
            if done % 100 == 0 or done == len(images):
                print(f"{done} of {len(images)} images", file=sys.stderr)
    return count


@torch.no_grad()
def detect_image(
    captioner: GritCaptioner, path: Path, beams: int = 1, max_tokens: int = MAX_TOKENS
) -> list[dict[str, object]]:
    """Return `box_xyxy`, `caption` and `score` of what is found in one image file.

    Raises:
        InputError: The image cannot be read.
    """
    grit, config = captioner.grit, captioner.grit.config
    image = resize(_read(path), config.short_side_px, config.long_side_px)
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
    scene = ScenesSplit(dataset="scenes", num_images=1, first_seed=0)
    settings = CellSettings(
        variant="grit",
        baseline=BaselineSettings(
            weights=options.weights, size=options.size, tokenizer=options.tokenizer
        ),
        data=DataSettings(train=scene, test=scene),  # required by the settings, not read here
    )
    with at("detect"):
        return build(settings).to(_device(options.device))


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError("detect", "--device", f"{name!r} is no device") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError("detect", "--device", f"{name!r}: no CUDA device here", "use cpu")
    return device


def _images(regions: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield every image id of a regions file with its file."""
    try:
        lines = regions.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise InputError(regions, "", f"cannot be read ({error.strerror})") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            image_id = str(json.loads(line)["image_id"])
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            fix = "expected one JSON object per line"
            raise InputError(regions, f"line {number}: image_id", "is missing", fix) from error
        paths = [folder / f"{image_id}{suffix}" for suffix in _SUFFIXES]
        file = next((path for path in paths if path.is_file()), None)
        if file is None:
            problem = f"no file {paths[0].name} (or {', '.join(_SUFFIXES[1:])})"
            raise InputError(folder, image_id, problem, "give the folder of the split's images")
        yield image_id, file


def _read(path: Path) -> torch.Tensor:
    """Decode an image as it is stored: EXIF rotation is not applied, boxes refer to the file."""
    try:
        with Image.open(path) as image:
            return torch.from_numpy(np.array(image.convert("RGB")))
    except (OSError, ValueError) as error:
        raise InputError(path, "", f"cannot be read as an image ({error})") from error


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
