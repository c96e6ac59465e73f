"""`caption`: a caption for a region of an image, by a run that is done."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sca_bench.cli.frame import RUN_HELP, quiet_models
from sca_bench.errors import InputError
from sca_bench.output import say

if TYPE_CHECKING:
    from sca_bench.cli.frame import Commands, Parser


def add_parser(commands: Commands, common: Parser) -> None:
    """Add `caption` to the command line."""
    caption = commands.add_parser(
        "caption",
        parents=[common],
        help="caption a region of an image, by a finished run",
        examples=(
            "caption photo.jpg --box 40,30,200,180 --run mixer_layers/num_layers=2",
            "caption --examples 10 --run mixer_layers/num_layers=2/0 --out overlays",
        ),
    )
    caption.add_argument(
        "image", nargs="?", metavar="IMAGE", help="an image file; left out with --examples"
    )
    caption.add_argument("--box", metavar="X1,Y1,X2,Y2", help="in original pixels")
    caption.add_argument("--point", metavar="X,Y", help="in original pixels")
    caption.add_argument("--run", required=True, metavar="RUN", help=RUN_HELP)
    caption.add_argument(
        "--examples", type=int, metavar="N", help="N regions of the run's test split, one an image"
    )
    caption.add_argument("--out", metavar="PATH", help="overlay file, or folder (caption.png)")
    caption.set_defaults(execute=command)


def command(options: argparse.Namespace, words: Sequence[str]) -> int:
    """Caption a region, or examples of the run's test split; print captions, write overlays.

    What was asked for is checked before torch is loaded.
    """
    quiet_models()
    from sca_bench.engine.finished.region import asked_region
    from sca_bench.study.find_run import find_finished
    from sca_bench.study.runs.store import Store

    store = Store(options.runs_dir)
    if options.examples is not None:
        if options.image or options.box or options.point or options.examples < 1:
            problem = "takes regions of the run's test split: no image, box or point, a number >= 1"
            raise InputError("caption", "--examples", problem)
        find_finished(store, options.run)
        from sca_bench.engine.finished.caption import caption_examples

        folder = Path(options.out or "examples")
        for line in caption_examples(store, options.run, options.examples, folder):
            say(line)
        return 0
    if options.image is None:
        raise InputError("caption", "IMAGE", "missing", "name an image file, or give --examples N")
    box = _numbers(options.box, 4, "--box")
    point = _numbers(options.point, 2, "--point")
    out = Path(options.out or "caption.png")
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError("caption", "--out", f"{out}", "end the name in .png or .jpg")
    asked = asked_region(store, options.run, Path(options.image), box, point)
    if asked.warning:
        say(f"warning: {asked.warning}", error=True, flush=True)
    from sca_bench.engine.finished.caption import caption_asked

    captioned = caption_asked(asked, out)
    say(captioned.caption)
    if asked.picture.notes:
        say(f"the image: {'; '.join(asked.picture.notes)}")
    ious = ", ".join(f"{value:.3f}" for value in captioned.predicted_ious)
    say(f"log-probability {captioned.log_prob:.3f}, predicted IoUs {ious}; overlay: {out}")
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
