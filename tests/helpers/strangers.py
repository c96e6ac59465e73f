"""Variants of other packages whose frozen features depend on settings of their own.

One computes everything itself, one lets this package's SAM compute and changes what comes out, and
one has a loader whose parts depend on settings. All say the same words, by what their features are.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from sca_bench.batch import RegionFeatures, row_by_row
from sca_bench.study.keys.fingerprint import path_settings
from sca_bench.types import Prediction
from sca_bench.variants import SAM_PARTS, VariantSpec, get_variant
from sca_bench.weight_paths import resolve

WORDS = ("red", "blue", "small", "large", "circle", "square", "cross", "star")
WIDTH = 4
GRID = 4
_MODULE = "helpers.strangers"
_READ = ("sam", "encoder", "mixer", "prefix", "text_decoder", "baseline", "crop")
"""Sections that all settings of decide what a stranger's frozen features are."""


def seed_of(settings):
    """Return a number that every one of those settings decides, and what their files hold."""
    dumped = settings.model_dump(mode="json", include=set(_READ))
    for key, value in path_settings(settings):
        section, name = key.split(".", 1) if "." in key else ("", key)
        if section in _READ:
            dumped[section][name] = content_of(value, key)
    for kept in ("mixer", "text_decoder"):  # costs, which move no number
        dumped[kept].pop("gradient_checkpointing")
    text = json.dumps(dumped, sort_keys=True)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def content_of(value, key):
    path = resolve(value, key)
    if not path.exists():
        return value
    files = sorted(Path(path).rglob("*")) if path.is_dir() else [path]
    return [hashlib.sha256(f.read_bytes()).hexdigest() for f in files if f.is_file()]


class Stranger(nn.Module):
    """Reads a coarse picture and the box; learns one vector."""

    def __init__(self, seed, settings, encode=None):
        super().__init__()
        drawn = torch.Generator().manual_seed(seed)
        self.register_buffer("frozen_CC", torch.randn(WIDTH, WIDTH, generator=drawn))
        self.learnt = nn.Parameter(torch.randn(WIDTH))
        self.encode, self.settings = encode, settings

    def embed_images(self, pixel_values_B3HW):
        if self.encode is not None:
            return self.encode.embed(pixel_values_B3HW)
        coarse = F.adaptive_avg_pool2d(pixel_values_B3HW, GRID)
        coarse_BChw = F.pad(coarse, (0, 0, 0, 0, 0, WIDTH - 3))
        rounded = getattr(torch, self.settings.features.encoder_dtype)
        return coarse_BChw.to(rounded).float()

    @torch.no_grad()
    def frozen_features(self, batch, *, families=None, with_masks=False):
        if self.encode is not None:
            found = self.encode(batch, families=("mixed",))
            tokens_NSC = found.need("image_tokens_NSC")[..., :WIDTH]
            ious_NM, index_N = found.ious_NM, found.image_index_N
        else:
            embeddings = batch.image_embeddings_BChw
            if embeddings is None:
                embeddings = self.embed_images(batch.pixel_values_B3HW)
            index_N = batch.image_index()
            tokens_NSC = embeddings.flatten(2).transpose(1, 2).index_select(0, index_N)
            ious_NM = torch.full((len(index_N), 1), 0.5)
        own_NSC = row_by_row(lambda rows: (rows[..., None] * self.frozen_CC).sum(-2), tokens_NSC)
        where = batch.prompt_boxes()
        where = torch.zeros(len(index_N), 4) if where is None else where
        return RegionFeatures(
            ious_NM=ious_NM,
            image_index_N=index_N,
            num_images=len(batch.image_ids),
            boxes_xyxy_input_N4=batch.prompt_boxes(),
            tokens_NTC=(where / 96)[:, None] * self.frozen_CC.sum(),
            image_tokens_NSC=own_NSC,
            image_pe_SC=torch.zeros(own_NSC.shape[1:]),
            grid_hw=(own_NSC.shape[1], 1),
        )

    def _values(self, batch):
        features = batch.features or self.frozen_features(batch)
        seen_NC = features.need("image_tokens_NSC").mean(1) + features.need("tokens_NTC").mean(1)
        return row_by_row(lambda rows: (rows * self.learnt).sum(-1), seen_NC)

    def loss(self, batch):
        wanted = torch.tensor([float(len(caption)) for caption in batch.captions])
        return ((self._values(batch) - wanted) ** 2).mean()

    @torch.no_grad()
    def generate(self, batch, decoding):
        predictions = []
        for region_id, value in zip(batch.region_ids, self._values(batch).tolist(), strict=True):
            word = WORDS[int(abs(value) * 1000) % len(WORDS)]
            caption = " ".join([word] * min(2, decoding.max_new_tokens))
            predictions.append(Prediction(region_id, caption, -abs(value), (0.5,), 0.0))
        return predictions

    def trainable_state(self):
        return {"learnt": self.learnt.detach()}

    def load_trainable_state(self, state, where=""):
        with torch.no_grad():
            self.learnt.copy_(state["learnt"])


def build(settings, parts=None):
    return Stranger(seed_of(settings), settings)


def build_on_sam(settings, parts=None):
    parts = parts or get_variant(settings.variant).load_parts(settings)
    encode = parts.region_encoder(embedding_dtype=settings.features.encoder_dtype)
    return Stranger(seed_of(settings), settings, encode)


def load(settings):
    return seed_of(settings)


def build_of_parts(settings, parts=None):
    return Stranger(load(settings) if parts is None else parts, settings)


SPECS = (
    VariantSpec(name="stranger", builder=f"{_MODULE}:build", summary="Computes it all itself"),
    VariantSpec(
        name="stranger_on_sam",
        builder=f"{_MODULE}:build_on_sam",
        parts=SAM_PARTS,
        summary="Changes what SAM gives",
    ),
    VariantSpec(
        name="stranger_with_parts",
        builder=f"{_MODULE}:build_of_parts",
        parts=f"{_MODULE}:load",
        reads=("baseline", "data", "eval", "features", *_READ),
        summary="Lets cells of a group share what its loader made of the settings",
    ),
)


class Point:
    """Stands for an installed entry point."""

    def __init__(self, spec):
        self.spec, self.value = spec, spec.builder

    def load(self):
        return self.spec
