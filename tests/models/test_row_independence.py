"""On a CPU no bit of a frozen stage's row depends on how many rows stand in the call, or where.

Every stage computes 64 rows, then a few of them; also at the published widths, where a matrix
product chooses among other kernels than at the tiny ones. `.ci/run` runs this file with kernels of
other processors, too.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, pre_tokenizers, processors
from tokenizers.models import WordLevel
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    PreTrainedTokenizerFast,
)

from baselines.grit.build import draw_weights
from baselines.grit.config import SIZES, GritConfig, TextDecoderConfig
from baselines.grit.model import Grit
from baselines.grit.preprocess import ResizedImage
from baselines.retrieval.captioner import DESCRIPTORS, NearestRegion
from baselines.sam_captioner.captioner import MaskCutter
from sca_bench.batch import RegionBatch, RegionFeatures
from sca_bench.captioner import Decoding
from sca_bench.models.designs.queries import RoiQueries
from sca_bench.models.designs.split_mixer import UnmixedContext
from sca_bench.models.sam.mask_points import points_in_sam_masks
from sca_bench.models.sam.onnx_encoder import OnnxImageEncoder
from sca_bench.models.sam.region_encoder import RegionEncoder, pool_tokens
from sca_bench.models.sam.sam import build_sam
from sca_bench.models.score_models import Clip, SentenceModel
from sca_bench.settings import CropSettings
from sca_bench.specs.encoders import sam_dims
from sca_bench.specs.sam_dims import SamDims

COUNTS = (1, 2, 3, 5, 8, 13)
MOST = 64
IMAGES = 4
PER_REGION = ("ious_NM", "tokens_NTC", "image_tokens_NSC", "prompt_tokens_NPC")
WIDE = SamDims(
    image_size=48,
    patch_size=16,
    encoder_width=768,
    encoder_depth=1,
    encoder_num_heads=12,
    encoder_mlp_dim=3072,
    encoder_window=2,
    encoder_global_blocks=(),
    embed_dim=256,
    decoder_depth=2,
    decoder_num_heads=8,
    decoder_mlp_dim=2048,
    iou_head_hidden_dim=256,
)
"""The published widths (ViT-B, 256 channels, 128 frequencies) on few tokens."""
TINY = dataclasses.replace(sam_dims("tiny"), image_size=48)
SIZES_OF_SAM = {"tiny": TINY, "wide": WIDE}


@pytest.fixture(scope="module", params=SIZES_OF_SAM)
def sam(request):
    return build_sam(SIZES_OF_SAM[request.param])


@pytest.fixture(autouse=True)
def _without_gradient():
    with torch.no_grad():
        yield


def assert_rows_alike(stage):
    """Compare rows that a stage computes together with some of them computed by themselves.

    Args:
        stage: Slice of the 64 rows -> tensors with a row for each.
    """
    whole = [torch.as_tensor(output) for output in stage(slice(0, MOST))]
    for place, count in enumerate(COUNTS):
        rows = slice(7 * place, 7 * place + count)
        for number, (some, expected) in enumerate(zip(stage(rows), whole, strict=True)):
            found, expected = torch.as_tensor(some), expected[rows]
            assert torch.equal(found, expected), (
                f"output {number}: {count} rows differ from the same among {MOST}"
                f" by {(found - expected).abs().max():.1e}"
            )
    assert len(whole[0].reshape(MOST, -1).unique(dim=0)) > 1, "all rows are the same"


def random(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def boxes_in(side):
    corners = random(MOST, 2) * side / 2
    return torch.cat([corners, corners + 4 + random(MOST, 2, seed=1) * side / 3], dim=1)


def prompts_in(side):
    """Boxes, points, and both, as `Sam.encode_prompts` takes them."""
    boxes, points = boxes_in(side), random(MOST, 2, 2, seed=2) * side
    return {"box": (boxes, None), "point": (None, points), "box_point": (boxes, points)}


def of(rows, tensors):
    return [None if tensor is None else tensor[rows] for tensor in tensors]


@pytest.fixture(scope="module")
def embeddings(sam):
    grid, channels = sam.dims.grid, sam.dims.embed_dim
    generator = torch.Generator().manual_seed(3)
    return torch.randn(IMAGES, channels, grid, grid, generator=generator)


@pytest.fixture(scope="module")
def frozen(sam, embeddings):
    """Rows -> features of all families, computed for these rows alone."""
    encoder = RegionEncoder(sam)

    def encode(rows, embeddings=embeddings):
        boxes = boxes_in(sam.dims.image_size)[rows]
        return encoder.from_embeddings(
            embeddings,
            torch.arange(MOST)[rows] % IMAGES,
            sam.encode_prompts(boxes),
            boxes_xyxy_input_N4=boxes,
            families=("mixed", "prompts", "images"),
        )

    return encode


@pytest.fixture(scope="module")
def given(frozen):
    """Rows -> the same features, cut out of those of all rows."""
    with torch.no_grad():
        whole = frozen(slice(0, MOST))
    names = (*PER_REGION, "image_index_N", "boxes_xyxy_input_N4")

    def cut(rows):
        return dataclasses.replace(whole, **{n: getattr(whole, n)[rows] for n in names})

    return cut


# --- SAM ---------------------------------------------------------------------------------------


def test_image_encoder(sam):
    side = sam.dims.image_size
    pixels = random(MOST, 3, side, side) * 4 - 2
    assert_rows_alike(lambda rows: [sam.encode_images(pixels[rows])])


@pytest.mark.parametrize("prompt", ["box", "point", "box_point"])
@pytest.mark.parametrize("gradient", [False, True], ids=["frozen", "with gradient"])
def test_prompt_encoder(sam, prompt, gradient):
    prompts = prompts_in(sam.dims.image_size)[prompt]

    def stage(rows):
        with torch.set_grad_enabled(gradient):  # with it a call is not taken apart
            return [sam.encode_prompts(*of(rows, prompts))]

    assert_rows_alike(stage)


def test_positional_encoding_of_many_points_at_once(sam):
    points = random(MOST, 1, 2)
    encode = sam.prompt_encoder.pe_layer.forward_with_coords
    assert_rows_alike(lambda rows: [encode(points[rows], (1, 1))])


def test_iou_and_mask_heads(sam, given):
    def stage(rows):
        tokens, image_tokens = given(rows).tokens_NTC, given(rows).image_tokens_NSC
        return sam.mask_logits(tokens, image_tokens), sam.predicted_ious(tokens)

    assert_rows_alike(stage)


def test_mask_points(sam, embeddings):
    side = sam.dims.image_size

    def stage(rows):
        points = points_in_sam_masks(
            sam,
            embeddings,
            torch.arange(MOST)[rows] % IMAGES,
            boxes_in(side)[rows],
            input_sizes_hw=[(side, side)] * IMAGES,
            region_ids=[str(n) for n in range(MOST)][rows],
            seed=5,
        )
        return [points, sam.encode_prompts(None, points)]

    assert_rows_alike(stage)


# --- families of features, and the designs that read them --------------------------------------


def test_families_of_regions(frozen):
    assert_rows_alike(lambda rows: [frozen(rows).need(name) for name in PER_REGION])


@pytest.mark.parametrize("pooled_grid", [1, 2])
def test_pooled_image_tokens(given, sam, pooled_grid):
    grid = sam.dims.grid
    assert_rows_alike(lambda rows: [pool_tokens(given(rows).image_tokens_NSC, grid, pooled_grid)])


def test_kept_embeddings_mix_as_new_ones(sam, frozen, embeddings):
    """An encoder's embeddings have channels last in memory, those read from a file first."""
    rows = slice(0, 8)
    kept = frozen(rows, embeddings)
    new = frozen(rows, embeddings.contiguous(memory_format=torch.channels_last))
    for name in PER_REGION:
        assert torch.equal(new.need(name), kept.need(name)), name
    transformer = sam.mask_decoder.transformer  # any text mixer
    mixed = []
    for features in (kept, new):
        context = UnmixedContext()(features)
        image = context.image_tokens_NSC, context.image_pe_SC
        mixed.append(transformer(*image, context.tokens_NTC, context.image_index_N))
    for one, other in zip(*mixed, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("sam", ["tiny"], indirect=True)  # masks have the same sizes at any width
def test_family_of_mask_boxes(sam):
    side = sam.dims.image_size
    cutter = MaskCutter(RegionEncoder(sam), CropSettings(), "predicted_iou")
    pixels = random(1, 3, side, side) * 4 - 2

    def stage(rows):
        boxes = boxes_in(side)[rows]
        batch = RegionBatch(
            image_ids=["0"],
            region_ids=[str(n) for n in range(len(boxes))],
            region_mask_BR=torch.ones(1, len(boxes), dtype=torch.bool),
            boxes_xyxy_input_BR4=boxes[None],
            pixel_values_B3HW=pixels,
            input_sizes_hw=[(side, side)],
            original_images=[torch.zeros(side, side, 3, dtype=torch.uint8)],
        )
        found = cutter.features(batch, with_masks=True)
        return [found.need(n) for n in ("ious_NM", "mask_boxes_xyxy_NM4", "mask_logits_NMhw")]

    assert_rows_alike(stage)


def test_roi_align(given, sam):
    queries = RoiQueries(sam.dims.patch_size)
    assert_rows_alike(lambda rows: [queries(given(rows))])


@pytest.mark.parametrize("image_grid", [None, 2])
def test_unmixed_image_tokens(sam, image_grid):
    grid, channels = sam.dims.grid, sam.dims.embed_dim
    maps = random(MOST, channels, grid, grid)
    context = UnmixedContext(image_grid)

    def stage(rows):
        regions = len(maps[rows])
        found = RegionFeatures(
            torch.zeros(regions, 3),
            torch.arange(regions),
            regions,
            prompt_tokens_NPC=torch.zeros(regions, 2, channels),
            embeddings_BChw=maps[rows],
            embedding_pe_SC=sam.image_pe(),
            dense_prompt_C=sam.dense_prompt().flatten(),
        )
        return [context(found).image_tokens_NSC]

    assert_rows_alike(stage)


@pytest.mark.parametrize("descriptor", DESCRIPTORS)
def test_retrieval(given, sam, descriptor):
    captioner = NearestRegion(RegionEncoder(sam), DESCRIPTORS[descriptor])
    noise = torch.randn(MOST, sam.dims.embed_dim, generator=torch.Generator().manual_seed(4))
    # So near to each other that the last digit decides which of them is the nearest.
    captioner.known_KC = captioner._vectors(given(slice(0, 1))) + 1e-8 * noise
    captioner.captions = [str(n) for n in range(MOST)]

    def stage(rows):
        found = given(rows)
        regions = [str(n) for n in range(len(found.ious_NM))]
        mask = torch.ones(1, len(regions), dtype=torch.bool)
        batch = RegionBatch(["0"], regions, mask, None, features=found)
        answers = captioner.generate(batch, Decoding())
        return captioner._vectors(found), torch.tensor([int(a.caption) for a in answers])

    assert_rows_alike(stage)


# --- other frozen models -----------------------------------------------------------------------


def test_onnx_encoder(tmp_path):
    weight = random(256, 3, 8, 8) - 0.5
    inner = random(256, 256, 1, 1, seed=1) - 0.5
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["input", "weight"], ["map"], strides=[8, 8]),
            helper.make_node("Conv", ["map", "inner"], ["output"]),
        ],
        "encoder",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["B", 3, 32, 32])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["B", 256, 4, 4])],
        [
            numpy_helper.from_array(weight.numpy(), "weight"),
            numpy_helper.from_array(inner.numpy(), "inner"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, tmp_path / "encoder.onnx")
    encoder = OnnxImageEncoder(
        tmp_path / "encoder.onnx", image_size=32, embedding_shape=(256, 4, 4)
    )
    pixels = random(MOST, 3, 32, 32) * 4 - 2
    assert_rows_alike(lambda rows: [encoder(pixels[rows])])


@pytest.mark.parametrize("size", ["tiny", "wide"])
def test_grit(size):
    config = SIZES["grit_tiny"]
    if size == "wide":
        encoder = dataclasses.replace(
            config.image_encoder,
            width=256,
            depth=1,
            num_heads=8,
            global_blocks=(),
            mlp_ratio=4.0,
            window=3,
        )
        decoder = TextDecoderConfig(vocab_size=32, num_layers=1)
        config = GritConfig(encoder, decoder)
    torch.manual_seed(0)
    grit = Grit(config).eval().requires_grad_(False)
    draw_weights(grit)
    pixels = (random(MOST, 32, 32, 3) * 255).to(torch.uint8)
    boxes = boxes_in(32)
    levels = grit.pooled_levels([ResizedImage(pixels[0], (32, 32))])

    def stage(rows):
        encoded = grit.pooled_levels([ResizedImage(image, (32, 32)) for image in pixels[rows]])
        index = torch.zeros(len(boxes[rows]), dtype=torch.long)
        return [*encoded, grit.visual_tokens(levels, boxes[rows], index)]

    assert_rows_alike(stage)


WORDS = ["<pad>", "<unk>", "<s>", "</s>", "a", "red", "dog", "on", "the", "left", "of", "cars"]
TEXTS = [" ".join(WORDS[4 + (n * k) % 8] for k in range(1 + n % 9)) for n in range(MOST)]


def tokenizer():
    built = Tokenizer(WordLevel({w: n for n, w in enumerate(WORDS)}, unk_token="<unk>"))
    built.pre_tokenizer = pre_tokenizers.Whitespace()
    built.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=built,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=16,
    )


@pytest.mark.parametrize("width", [16, 256], ids=["tiny", "wide"])
def test_clip_score(width):
    shared = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": 1}
    shared |= {"num_attention_heads": width // 8, "projection_dim": width}
    ids = {"eos_token_id": 3, "bos_token_id": 2, "pad_token_id": 0}
    text = {"vocab_size": len(WORDS), "max_position_embeddings": 16, **ids}
    torch.manual_seed(0)
    model = CLIPModel(
        CLIPConfig(
            text_config=shared | text,
            vision_config=shared | {"image_size": 32, "patch_size": 16},
            projection_dim=width,
        )
    )
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    clip = Clip(model.eval(), tokenizer(), CLIPImageProcessor(**sizes), "clip")
    pixels = (random(MOST, 32, 32, 3) * 255).to(torch.uint8).numpy()
    assert_rows_alike(lambda rows: [clip.cosines(list(pixels[rows]), TEXTS[rows])])


@pytest.mark.parametrize("width", [16, 384], ids=["tiny", "wide"])
def test_sentence_similarity(width):
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=width,
        num_hidden_layers=2,
        num_attention_heads=width // 8,
        intermediate_size=4 * width,
        max_position_embeddings=16,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    model = SentenceModel(BertModel(config).eval(), tokenizer(), "sentence")
    assert_rows_alike(lambda rows: [model.embed(TEXTS[rows])])


def test_a_difference_is_seen():
    """The check itself: a stage whose rows see each other, in the last digit only, is refused."""
    values = random(MOST, 4)

    def stage(rows):
        return [np.nextafter(values[rows].numpy(), np.float32(len(values[rows]) > 5))]

    with pytest.raises(AssertionError, match="1 rows differ from the same among 64"):
        assert_rows_alike(stage)
