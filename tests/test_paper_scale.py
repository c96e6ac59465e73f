"""Every suite at `paper` scale, as far as a laptop goes: full sizes, and a step in miniature."""

import functools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from sca_bench.batch import RegionBatch
from sca_bench.captioner import Decoding
from sca_bench.engine.measure.step_memory import estimate_step, without_weights
from sca_bench.engine.worker.cell_group import CellGroup, Member
from sca_bench.engine.worker.mmengine_runner import build_optimiser
from sca_bench.engine.worker.rng import RngStream
from sca_bench.models.build import FrozenParts
from sca_bench.models.sam.sam import build_sam
from sca_bench.models.text_decoder.decoder import TextDecoder
from sca_bench.settings import CellSettings
from sca_bench.specs.encoders import ENCODERS, of_sam, sam_dims
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.study.suite.suite import load_suite
from sca_bench.variants import get_variant

SUITES = sorted((Path(__file__).parents[1] / "ablations").glob("*.yaml"))
WORDS = ["<end>", "<unk>", "a", "red", "blue", "ball", "box", "on", "the", "left", "table"]


@functools.cache
def cells(path):
    """The trained cells of a suite at `paper` scale; `photos` has only a profile of its own."""
    profile = "photos" if path.stem == "photos" else "paper"
    suite = load_suite(path, profile=profile, allow_missing=True)
    return [c for c in suite.cells if get_variant(c.settings.variant).trains == "gradient"]


def structure(settings: CellSettings) -> str:
    """What decides shapes and memory, as text."""
    deciding = {"variant", "baseline", "mixer", "prefix", "text_decoder", "encoder", "eval"}
    kept = settings.model_dump(mode="json", include=deciding)
    for section, name in (
        ("text_decoder", "learning_rate"),
        ("eval", "prompt"),
        ("eval", "num_beams"),
    ):
        kept[section].pop(name)
    kept["size"] = settings.sam.size
    kept["batch"] = [settings.train.images_per_batch, settings.train.precision]
    return json.dumps(kept, sort_keys=True)


DISTINCT = {
    structure(c.settings): (f"{p.stem}-{c.name}", c.settings)
    for p in reversed(SUITES)
    if p.stem != "photos"
    for c in cells(p)
}
SHOWN = {
    "mixer_layers": {
        "num_layers=2": (1_418_758_320, 3_637_632),
        "num_layers=24": (1_453_507_760, 38_387_072),
    },
    "mixer_design": {
        "variant=sca": (1_434_553_520, 19_432_832),
        "variant=sca_split_mixer": (1_434_553_520, 19_432_832),
        "variant=sca_sam_query": (1_434_551_472, 19_430_784),
        "variant=sca_roi_align": (1_415_465_008, 344_320),
        "ROI Align + MLP": (1_418_744_368, 3_623_680),
    },
    "encoder_size": {"size=vit_b": (887_198_384, 19_432_832)},
}


@functools.cache
def parts_on_meta(size, decoder):
    scenes = {"dataset": "scenes", "num_images": 1, "first_seed": 0}
    settings = CellSettings.model_validate(
        {
            "sam": {"size": size},
            "text_decoder": {"weights": decoder},
            "data": {"train": scenes, "test": scenes},
        }
    )
    with torch.device("meta"):
        return get_variant("sca").load_parts(settings)


def on_meta(settings):
    sized = without_weights(settings)
    parts = parts_on_meta(sized.sam.size, sized.text_decoder.weights)
    with torch.device("meta"):
        return get_variant(sized.variant).load()(sized, parts)


@pytest.mark.usefixtures("paper_scale")
@pytest.mark.parametrize("path", [p for p in SUITES if p.stem != "photos"], ids=lambda p: p.stem)
def test_every_cell_builds_at_full_size(path):
    found, counted = {}, {}
    for cell in cells(path):
        shape = structure(cell.settings)
        if shape not in counted:
            model = on_meta(cell.settings)
            counted[shape] = (
                sum(p.numel() for p in model.parameters()),
                sum(p.numel() for p in model.parameters() if p.requires_grad),
            )
        counts = found[cell.name] = counted[shape]
        assert 0 < counts[1] < counts[0]
    for name, counts in SHOWN.get(path.stem, {}).items():
        assert found[name] == counts, name


@pytest.mark.usefixtures("counting")
@pytest.mark.parametrize(
    ("stem", "name", "changes", "gib"),
    [
        ("mixer_layers", "num_layers=12", {}, (38, 48)),
        (
            "mixer_layers",
            "num_layers=12",
            {"text_decoder.trainable": True, "text_decoder.learning_rate": 1e-6},
            (48, 60),
        ),
        ("mixer_design", "variant=sca_roi_align", {}, (15, 40)),
    ],
    ids=["main", "trained decoder", "roi"],
)
def test_a_step_at_full_size_has_the_papers_shapes_and_fits_one_card(stem, name, changes, gib):
    sets = [f"{key}={value}" for key, value in changes.items()]
    path = next(p for p in SUITES if p.stem == stem)
    suite = load_suite(path, profile="paper", overrides=sets, allow_missing=True)
    cell = next(c for c in suite.cells if c.name == name)
    found = estimate_step(cell.settings)
    assert found.shapes["images"] == (8, 3, 1024, 1024)
    assert found.shapes["image embeddings"] == (8, 256, 64, 64)
    queries, prefix = (8, 14) if stem == "mixer_layers" else (36, 42)
    assert found.shapes["query outputs"] == (128, 1, queries, 256)
    assert found.shapes["prefix"] == (128, prefix, 1280)
    assert found.shapes["logits"] == (128, 19, 50257)
    assert gib[0] < found.total_gib < gib[1]


@pytest.mark.usefixtures("counting")
def test_the_estimate_is_what_a_real_step_takes():
    """The same accounting over real tensors of a small model gives the same peak."""
    from sca_bench.engine.measure import step_memory
    from sca_bench.engine.measure.counter import OpCounter

    suite = load_suite(next(p for p in SUITES if p.stem == "mixer_layers"))
    settings = suite.cells[1].settings
    parts = get_variant("sca").load_parts(settings)
    model = get_variant("sca").load()(settings, parts).train()
    with step_memory._LiveBytes() as meter:
        step_memory._step(model, settings, {}, OpCounter())
    sized = estimate_step(settings)
    assert sized.memory_gib["one step"] * 2**30 == pytest.approx(meter.peak, rel=0.02)


@pytest.mark.usefixtures("counting")
def test_sizes_do_not_depend_on_the_pieces_of_the_attention(monkeypatch):
    """A step is sized with a GPU's few large pieces, which spares most of its operations."""
    from sca_bench.engine.measure.flops import work_of
    from sca_bench.models.sam import vit

    settings = load_suite(next(p for p in SUITES if p.stem == "mixer_layers")).cells[1].settings

    def sized():
        work = work_of(settings)
        return work.encoder_image.flop, work.own_step, work.step_gib

    found, pieces = sized(), []
    whole = vit._piece
    monkeypatch.setattr(vit, "BIAS_ELEMENTS", 1024)
    monkeypatch.setattr(vit, "_piece", lambda *sizes: pieces.append(whole(*sizes)) or pieces[-1])
    assert sized() == found
    assert (1, 1) in pieces


def miniature(settings):
    """The same structure (blocks, windows, heads, layers) with a fraction of the channels."""
    dims = sam_dims(settings.sam.size)
    heads = dims.encoder_num_heads
    small = replace(
        dims,
        image_size=256,
        encoder_width=4 * heads,
        encoder_mlp_dim=8 * heads,
        embed_dim=32,
        decoder_mlp_dim=32,
        iou_head_hidden_dim=16,
    )
    vocabulary = {word: i for i, word in enumerate(WORDS)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<end>", unk_token="<unk>"
    )
    ids = {"bos_token_id": 0, "eos_token_id": 0, "vocab_size": len(WORDS)}
    if "llama" in settings.text_decoder.weights:
        config = LlamaConfig(
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=26,
            num_attention_heads=32,
            max_position_embeddings=64,
            **ids,
        )
    elif settings.text_decoder.weights.endswith("gpt2"):
        config = GPT2Config(n_embd=24, n_layer=12, n_head=12, n_positions=64, **ids)
    else:
        config = GPT2Config(n_embd=40, n_layer=36, n_head=20, n_positions=64, **ids)
    decoder = TextDecoder(AutoModelForCausalLM.from_config(config), tokenizer, name="miniature")
    parts = FrozenParts(build_sam(small), decoder.eval().requires_grad_(False))
    mixer = settings.mixer.model_copy(update={"mlp_dim": 32})
    train = settings.train.model_copy(update={"precision": "fp32", "warmup_steps": 0})
    return settings.model_copy(update={"mixer": mixer, "train": train}), parts


def batch_of(side):
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2, 2, 2, generator=generator) * side / 2
    return RegionBatch(
        image_ids=["a", "b"],
        region_ids=["a0", "a1", "b0", "b1"],
        region_mask_BR=torch.ones(2, 2, dtype=torch.bool),
        boxes_xyxy_input_BR4=torch.cat([corners, corners + side / 4], dim=-1),
        pixel_values_B3HW=torch.randn(2, 3, side, side, generator=generator),
        input_sizes_hw=[(side, side)] * 2,
        captions=["a red ball", "the blue box on the table", "a box", "a ball left"],
        tasks=["caption"] * 2,
    )


@pytest.mark.usefixtures("paper_scale")
@pytest.mark.parametrize(
    "settings", [s for _, s in DISTINCT.values()], ids=[name for name, _ in DISTINCT.values()]
)
def test_one_step_of_the_same_structure_in_miniature(settings, monkeypatch):
    settings, parts = miniature(settings)
    small = replace(of_sam(settings.sam.size), dims=parts.sam.dims)
    monkeypatch.setitem(ENCODERS.own(), small.name, small)
    device = torch.device("cpu")
    rng = RngStream(0, device)
    with rng.active():
        captioner = get_variant(settings.variant).load()(settings, parts)
    member = Member("cell", captioner, CellIdentity(settings, {}), rng)
    group = CellGroup([member], device, {}, Decoding(1, 3))
    before = {n: t.clone() for n, t in captioner.trainable_state().items()}
    group.train()
    group.train_step(batch_of(parts.sam.dims.image_size), {"cell": build_optimiser(member, device)})
    assert not member.error
    assert member.losses.last > 0
    after = captioner.trainable_state()
    moved = sum(not torch.equal(before[n], t) for n, t in after.items())
    assert moved > 0.5 * len(after)
    group.eval()
    assert len(group.test_step(batch_of(parts.sam.dims.image_size))) == 4
