"""A stranger's image encoder: one file and one entry point, as a package would install them."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import textwrap

MODULE = '''
from pydantic import Field

from sca_bench.settings import Settings
from sca_bench.specs.encoders import EncoderSpec, PixelStats


class Options(Settings):
    """Settings of the small encoder."""

    width: int = Field(4, ge=1)
    """Channels between the two convolutions."""


SPEC = EncoderSpec(
    name="conv",
    summary="Two convolutions",
    build="my_encoder:build",
    options="my_encoder:Options",
    pixels=PixelStats((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
)


def build(settings, dims):
    from torch import nn

    width = settings.options.width
    return nn.Sequential(
        nn.Conv2d(3, width, dims.patch_size, dims.patch_size),
        nn.GELU(),
        nn.Conv2d(width, dims.embed_dim, 1),
    )
'''


def install(site, module=MODULE, points="conv = my_encoder:SPEC", name="my_encoder"):
    """Lay a package into a folder of installed packages: one module, one entry-point file."""
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[sca_bench.encoders]\n{points}\n")
    (site / f"{name}.py").write_text(textwrap.dedent(module), encoding="utf-8")


def look_again(monkeypatch):
    """Let this process see what has been installed since."""
    from sca_bench.specs.encoders import ENCODERS

    importlib.invalidate_caches()
    monkeypatch.setattr(ENCODERS, "find", functools.partial(importlib.metadata.entry_points))
