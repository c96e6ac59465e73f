"""Ten minutes of a GPU: does this code run on CUDA, is it right, is it fast, where does it wait.

    python tests/gpu/device_check.py --minutes 8 --out FOLDER
    python tests/gpu/device_check.py --dry          # everything in small, without a GPU: a minute

Sections, each by itself (`--only training,waits`): start, correctness, training, generation,
encoder, waits, kernels. One is skipped when too little time is left for it. `device.json` in the
folder is written anew after each, and a table comes last; `docs/performance.md` has its place.

On a machine that has torch, torchvision and transformers and no network, bring the other packages
along. Here, for its version of Python (3.12, say):

    python3 -m pip download --no-deps --only-binary=:all: --python-version 3.12 -d wheels \
        pydantic pydantic-core annotated-types typing-inspection typing-extensions mmengine addict \
        termcolor yapf platformdirs segment-anything pycocotools pytest pluggy iniconfig

and there, in the repository's folder:

    python3 -m pip install --no-index --no-deps --target site wheels/*.whl
    PYTHONPATH=site python3 tests/gpu/device_check.py --minutes 8 --out FOLDER

The repository itself need not be installed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import tempfile
import time
import tomllib
import traceback
import warnings
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[2]
STARTED = time.monotonic()
SECTIONS = {
    "start": 40,
    "correctness": 120,
    "training": 90,
    "generation": 40,
    "encoder": 40,
    "waits": 20,
    "kernels": 40,
}
"""Section -> seconds that it wants on a GPU."""


def make_known(root: Path, folder: Path) -> None:
    """Let a package that is not installed be imported, with the entry points of its metadata.

    Args:
        root: The repository.
        folder: An empty folder, in which the metadata is put.
    """
    paths = [str(root)]
    try:
        metadata.distribution("sca-bench")
    except metadata.PackageNotFoundError:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        info = folder / "sca_bench-0.dist-info"
        info.mkdir()
        info.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: sca-bench\nVersion: 0\n")
        groups = project.get("entry-points", {})
        lines = [
            f"[{group}]\n" + "".join(f"{name} = {where}\n" for name, where in points.items())
            for group, points in groups.items()
        ]
        info.joinpath("entry_points.txt").write_text("\n".join(lines))
        paths.append(str(folder))
    sys.path[:0] = paths
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *([before] if before else [])])


def run(options: argparse.Namespace) -> dict[str, dict[str, object]]:
    """Run the sections; return what they found."""
    import measures
    import torch

    from sca_bench.devices import gpu

    if options.dry or not gpu.has_gpu():
        options.dry, device = True, torch.device("cpu")
    else:
        device = torch.device(gpu.ANY, 0)
    check = measures.Check(device, options.dry, STARTED + 60 * options.minutes)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    for name in options.only or SECTIONS:
        check.section, began = name, time.monotonic()
        print(f"{name}, {began - STARTED:.0f} s after the start", flush=True)
        if check.left_s < SECTIONS[name] and not options.dry:
            check.note("skipped", "no time left")
            continue
        try:
            getattr(measures, name)(check)
        except Exception as error:  # what one section finds broken, the others do not have to be
            traceback.print_exc()
            reason = f"{type(error).__name__}: {error}"
            check.note("broke", traceback.format_exc()[-3000:], " ".join(reason.split())[:90])
        gc.collect()
        check.note("seconds", round(time.monotonic() - began, 1))
        text = json.dumps(check.found, indent=1, default=str)
        out.joinpath("device.json").write_text(text + "\n", encoding="utf-8")
    print("\n| section | what | found |\n| --- | --- | --- |")
    for row in check.rows:
        print(f"| {' | '.join(row)} |")
    print(f"\n{time.monotonic() - STARTED:.0f} s in all")
    return check.found


def main(words: list[str] | None = None) -> int:
    """Read the arguments and run; return 1 where a section broke."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="how long it may take (8)")
    parser.add_argument("--out", default=os.environ.get("OUT", "device_check"), help="a folder")
    parser.add_argument("--only", type=lambda text: text.split(","), help="sections, with commas")
    parser.add_argument("--dry", action="store_true", help="in small, on a CPU")
    options = parser.parse_args(words)
    if unknown := set(options.only or ()) - SECTIONS.keys():
        parser.error(f"no such section: {', '.join(sorted(unknown))}; known: {', '.join(SECTIONS)}")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as folder:
        make_known(ROOT, Path(folder))
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            found = run(options)
    return int(any("broke" in figures for figures in found.values()))


if __name__ == "__main__":
    sys.exit(main())
