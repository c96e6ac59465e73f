"""`caption`: a caption for a region of an image, by a run that is done."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sca_bench.errors import InputError

if TYPE_CHECKING:
    from sca_bench.cli import Commands


def add_parser(commands: Commands, common: argparse.ArgumentParser) -> None:
    """Add `caption` to the command line."""
    caption = commands.add_parser("caption", parents=[common], help="caption a region of an image")
    caption.add_argument("image", nargs="?", metavar="IMAGE")
    caption.add_argument("--box", metavar="X1,Y1,X2,Y2", help="in original pixels")
    caption.add_argument("--point", metavar="X,Y", help="in original pixels")
    caption.add_argument("--run", required=True, metavar="RUN", help="CELL[/SEED] or a run folder")
    caption.add_argument(
        "--examples", type=int, metavar="N", help="N regions of the run's test split, one an image"
    )
    caption.add_argument("--out", metavar="PATH", help="overlay file, or folder (caption.png)")
    caption.set_defaults(execute=command)


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Caption a region, or examples of the run's test split; print captions, write overlays."""
    from sca_bench.engine.finished.caption import caption_examples, caption_region
    from sca_bench.formats.pixels import notes_on
    from sca_bench.study.runs.store import Store

    if options.examples is not None:
        if options.image or options.box or options.point or options.examples < 1:
            problem = "takes regions of the run's test split: no image, box or point, a number >= 1"
            raise InputError("caption", "--examples", problem)
        folder = Path(options.out or "examples")
        store = Store(options.runs_dir)
        for line in caption_examples(store, options.run, options.examples, folder):
            print(line)
        return 0
    if options.image is None:
        raise InputError("caption", "IMAGE", "missing", "name an image file, or give --examples N")
    box = _numbers(options.box, 4, "--box")
    point = _numbers(options.point, 2, "--point")
    out = Path(options.out or "caption.png")
    if options.examples is None and out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError("caption", "--out", f"{out}", "end the name in .png or .jpg")
    captioned = caption_region(
        Store(options.runs_dir), options.run, Path(options.image), box, point, out
    )
    print(captioned.caption)
    if notes := notes_on(Path(options.image)):
        print(f"the image: {'; '.join(notes)}")
    ious = ", ".join(f"{value:.3f}" for value in captioned.predicted_ious)
    print(f"log-probability {captioned.log_prob:.3f}, predicted IoUs {ious}; overlay: {out}")
    return 0


def _numbers(text: str | None, count: int, flag: str) -> tuple[float, ...] | None:
    import math

    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise InputError(flag, text, f"expected {count} numbers with commas between them")
    return numbers
