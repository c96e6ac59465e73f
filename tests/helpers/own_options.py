"""Packages of others that bring settings of their own: a captioner, a design; one file each."""

import functools
import importlib
import importlib.metadata
import sys
import textwrap

from sca_bench.specs.designs import DESIGNS
from sca_bench.variants import VARIANTS

CAPTIONER = '''
from sca_bench.settings import Settings, of_kind
from sca_bench.variants import VariantSpec
from pydantic import Field

SPEC = VariantSpec("wide", "wide:build", "Reads the box, through layers", options="wide:Wide")


class Wide(Settings):
    """Settings of `wide`."""

    width: int = Field(4, ge=1)
    """Channels of each layer."""
    depth: int = Field(1, ge=1)
    """Layers."""
    rate: float = 0.5
    words: str | None = of_kind("path", None)
    """A file of words."""
    say_so: bool = of_kind("cost", False)


def build(settings, parts=None):
    import torch
    from torch import nn
    from sca_bench.types import Prediction

    class Captioner(nn.Module):
        def __init__(self, options):
            super().__init__()
            sizes = [4, *[options.width] * options.depth]
            layers = [nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])]
            self.layers = nn.Sequential(*layers, nn.Linear(options.width, 1))

        def values(self, batch):
            real = batch.region_mask_BR
            return self.layers(batch.boxes_xyxy_input_BR4[real] / 96)[:, 0]

        def loss(self, batch):
            wanted = torch.tensor([float(len(caption)) for caption in batch.captions])
            return ((self.values(batch) - wanted / 40) ** 2).mean()

        def generate(self, batch, decoding):
            words = ["a plain red circle" if v > 0 else "a square" for v in self.values(batch)]
            return [
                Prediction(region, caption, -1.0, (), 0.0)
                for region, caption in zip(batch.region_ids, words, strict=True)
            ]

        def trainable_state(self):
            return {name: value.detach() for name, value in self.state_dict().items()}

        def load_trainable_state(self, state, where=""):
            self.load_state_dict(state)

    return Captioner(settings.options)
'''

DESIGN = '''
from pydantic import Field
from sca_bench.settings import Settings
from sca_bench.specs.designs import DesignSpec

SPEC = DesignSpec(
    "first_tokens",
    "Text queries that see the first tokens of SAM only",
    "first_tokens:design",
    options="first_tokens:FirstTokens",
)


class FirstTokens(Settings):
    count: int = Field(5, ge=1)
    """Tokens that are seen."""
    width: str = "all"
    """Not what `wide` calls so."""


def design(mixer, dims, options):
    from sca_bench.models.designs import Design, LearnedQueries, MixerContext, build_text_mixer

    def seen(features):
        return MixerContext(
            features.need("tokens_NTC")[:, : options.count],
            features.need("image_tokens_NSC"),
            features.need("image_pe_SC"),
        )

    queries = LearnedQueries(1, mixer.num_query_tokens, dims.embed_dim)
    return Design(queries, ("mixed",), build_text_mixer(mixer, dims), seen)
'''


def write_package(site, module, group, code):
    """Write a package of one file, with its entry point, as an installer leaves it."""
    info = site / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[sca_bench.{group}]\n{module} = {module}:SPEC\n")
    (site / f"{module}.py").write_text(textwrap.dedent(code))


def look_again(monkeypatch):
    """Have entry points looked for anew in this process."""
    importlib.invalidate_caches()
    find = functools.partial(importlib.metadata.entry_points)  # what one finds is kept
    for registry in (VARIANTS, DESIGNS):
        monkeypatch.setattr(registry, "find", find)


def forget(*modules):
    for module in modules:
        sys.modules.pop(module, None)
