"""What a cell has a GPU do, counted on tensors without content; bytes of its features."""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from sca_bench.batch import RegionFeatures
from sca_bench.engine.caption_batch import MOST
from sca_bench.engine.features.bank import bytes_of_rows
from sca_bench.engine.forecast.costs import CellWork, Work
from sca_bench.engine.measure.counter import OpCounter
from sca_bench.engine.measure.cuda_rules import cuda_rules
from sca_bench.engine.measure.step_memory import (
    ENCODER,
    OWN,
    SAM_MIXER,
    bare_captioner,
    cast_frozen,
    count_step,
    features_of,
    give_contents_up,
)
from sca_bench.models.sca import ScaCaptioner
from sca_bench.models.text_decoder.kept_rows import start_rows
from sca_bench.models.text_decoder.search import Beams
from sca_bench.settings import CellSettings
from sca_bench.types import FAMILIES

_GIB = 2**30
_FAMILIES = tuple(family for family in FAMILIES if family != "mask_boxes")
PREFIX, TOKEN = "captions: prefix", "captions: token"
"""Parts of captioning: what is read first, and one token after another."""


def work_of(settings: CellSettings) -> CellWork | None:
    """Count what one cell has a GPU do; None for a variant without gradient steps.

    Raises:
        InputError: The cell cannot be built, or is no SCA design.
    """
    counter = OpCounter(tf32=settings.train.precision == "tf32")
    sized = count_step(settings, counter)
    if sized is None:
        return None
    row_bytes = count_captions(settings, counter)
    train = settings.train
    images, words = train.images_per_batch, settings.eval.max_new_tokens
    captions = [*counter.work(PREFIX).kernels, *counter.work(TOKEN).times(words).kernels]
    trained = sized.num_trainable_params * 4 / _GIB
    return CellWork(
        encoder_image=counter.work(ENCODER).times(1 / images),
        mixer_region=counter.work(SAM_MIXER).times(1 / (images * train.regions_per_image)),
        own_step=counter.work(*OWN),
        caption_region=Work.of(captions, 1 / regions_together(settings)),
        row_bytes=row_bytes,
        trained_gib=trained,
        frozen_gib=sized.memory_gib["weights"] - trained,
        step_gib=sized.memory_gib["one step"],
    )


def regions_together(settings: CellSettings) -> int:
    """Return how many regions a large GPU captions at a time."""
    usual = settings.runtime.regions_at_a_time
    kept = settings.features.cache != "off" and not settings.runtime.eval_regions
    return MOST if kept else usual


def count_captions(settings: CellSettings, counter: OpCounter) -> dict[str, int]:
    """Count the captions of as many regions as go together; return the bytes of kept features.

    The first part makes the prefixes and has them read; the second makes one token of all
    captions, at half their greatest length.

    Raises:
        InputError: The cell cannot be built, or is no SCA design.
    """
    captioner, bare = bare_captioner(settings)
    with FakeTensorMode(), cuda_rules(settings.train.precision), torch.no_grad():
        give_contents_up(captioner)
        cast_frozen(captioner, settings.train.precision)
        sam = captioner.region_encoder.sam
        embeddings = torch.empty(1, sam.dims.embed_dim, sam.dims.grid, sam.dims.grid)
        features = features_of(captioner, embeddings, regions_together(settings))
        one_token(captioner, bare, features, counter)
        one = features_of(captioner, embeddings, 1, FAMILIES)
        return bytes_of_rows(one, _FAMILIES, bare.features)


def one_token(
    captioner: ScaCaptioner, settings: CellSettings, features: RegionFeatures, counter: OpCounter
) -> None:
    """Caption regions up to one token, at half the greatest length.

    Args:
        captioner: The cell, in evaluation mode.
        settings: Its settings.
        features: Of the regions.
        counter: Counts it in two parts, `PREFIX` and `TOKEN`.
    """
    beams, longest = settings.eval.num_beams, settings.eval.max_new_tokens
    decoder = captioner.text_decoder
    model, head = decoder.language_model, decoder.language_model.get_output_embeddings()
    with counter, counter.part(PREFIX):
        outputs = captioner.query_outputs(features)
        prefix = captioner.prefix(outputs, ["caption"] * len(outputs))
        start_rows(model, prefix, longest).expand(beams)
    half = prefix.new_empty(len(prefix), longest // 2, prefix.shape[2])
    rows = start_rows(model, torch.cat([prefix, half], 1), longest)
    rows.expand(beams)
    state = Beams(len(prefix), beams, decoder.eos_token_id, longest, prefix.device)
    with counter, counter.part(TOKEN):
        words = torch.zeros(len(prefix) * beams, dtype=torch.long)
        rows.reorder(words)
        state.grow(head(rows.step(words)).float(), max(1, longest // 2))
