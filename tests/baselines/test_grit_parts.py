"""GRiT's parts one by one: preprocessing, pooling, proposals, cascade, search, text decoder."""

import dataclasses

import pytest
import torch
from grit_parts import TINY, captioner

from baselines.grit.beam_search import search
from baselines.grit.cascade import Cascade, StageOutput, move_boxes
from baselines.grit.config import DetectionConfig, TextDecoderConfig
from baselines.grit.image_encoder import Attention, Block, relative_positions
from baselines.grit.pooling import pool_regions
from baselines.grit.preprocess import (
    clean_boxes,
    normalise_and_pad,
    pool_levels,
    resize,
    resized_hw,
    to_original,
    to_resized,
    widen_empty,
)
from baselines.grit.proposals import HeadOutput, Proposals, cell_centres, choose_proposals
from baselines.grit.text_decoder import IGNORED, CachedSteps, TextDecoder, UncachedSteps

CPU = torch.device("cpu")


# --- preprocessing ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (480, 640, (800, 1067)),
        (640, 480, (1067, 800)),
        (300, 900, (444, 1333)),  # the longer side is the limit
        (800, 1333, (800, 1333)),
        (90, 133, (800, 1182)),
    ],
)
def test_the_shorter_side_becomes_800(height, width, expected):
    assert resized_hw(height, width, 800, 1333) == expected


def test_normalised_first_then_padded():
    image = resize(torch.full((30, 50, 3), 200, dtype=torch.uint8), 40, 100)
    assert image.size_hw == (40, 67)
    pixels = normalise_and_pad(image, CPU, torch.float32)
    assert pixels.shape == (3, 64, 96)
    red = (200 - 123.675) / 58.395
    torch.testing.assert_close(pixels[0, :40, :67], torch.full((40, 67), red))
    assert not pixels[:, 40:].any()
    assert not pixels[:, :, 67:].any()


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((1, 2, 30, 40), (1, 2, 30, 40)),
        ((-3, -2, 30, 40), (0, 0, 30, 40)),
        ((1, 2, 64, 48), (1, 2, 63, 47)),  # the last pixel of 48 x 64
        ((1, 2, 500, 500), (1, 2, 63, 47)),
        ((5, 5, 5, 40), (0, 0, 1, 1)),
        ((9, 5, 5, 40), (0, 0, 1, 1)),
        ((70, 5, 80, 40), (0, 0, 1, 1)),
    ],
)
def test_boxes_are_cleaned_as_in_the_paper(box, expected):
    cleaned = clean_boxes(torch.tensor([box], dtype=torch.float32), (48, 64))
    assert cleaned.tolist() == [list(expected)]


def test_boxes_scale_by_the_rounded_sizes():
    image = resize(torch.zeros(30, 50, 3, dtype=torch.uint8), 40, 100)
    boxes = torch.tensor([[0.0, 0, 50, 30], [10, 15, 20, 30]])
    resized = to_resized(boxes, image)
    torch.testing.assert_close(resized[0], torch.tensor([0.0, 0, 67, 40]))
    torch.testing.assert_close(to_original(resized, image), boxes)
    outside = torch.tensor([[-5.0, -5, 90, 90]])
    assert to_original(outside, image).tolist() == [[0, 0, 50, 30]]


def test_only_empty_sides_are_widened():
    boxes = torch.tensor([[1.0, 2, 1, 9], [1, 2, 5, 2], [1, 2, 1.5, 9]])
    assert widen_empty(boxes).tolist() == [[1, 2, 2, 9], [1, 2, 5, 3], [1, 2, 1.5, 9]]


# --- the image encoder ------------------------------------------------------------------------


def test_relative_positions_are_query_minus_key():
    table = torch.arange(5.0)[:, None]  # -2 ... 2
    assert relative_positions(table, 3)[..., 0].tolist() == [[2, 1, 0], [3, 2, 1], [4, 3, 2]]


def test_a_table_of_another_size_is_interpolated():
    table = torch.arange(5.0)[:, None]
    longer = relative_positions(table, 5)[:, 0, 0]  # rows 4 ... 8 of 9
    torch.testing.assert_close(
        longer, torch.tensor([2.0, 2.5556, 3.1111, 3.6667, 4.0]), atol=1e-3, rtol=0
    )


def test_attention_is_what_the_formula_says():
    torch.manual_seed(0)
    attention = Attention(8, 2, 3)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(1, 3, 3, 8)
    q, k, v = attention.qkv(x).view(9, 3, 2, 4).permute(1, 2, 0, 3)
    logits = torch.zeros(2, 9, 9)
    for head in range(2):
        for i in range(9):
            for j in range(9):
                dot = q[head, i] @ k[head, j] / 2
                row = q[head, i] @ attention.rel_pos_h[i // 3 - j // 3 + 2]
                column = q[head, i] @ attention.rel_pos_w[i % 3 - j % 3 + 2]
                logits[head, i, j] = dot + row + column
    expected = attention.proj((logits.softmax(-1) @ v).transpose(0, 1).reshape(1, 3, 3, 8))
    torch.testing.assert_close(attention(x), expected, atol=1e-5, rtol=1e-5)


def test_a_window_does_not_see_beyond_itself():
    torch.manual_seed(0)
    block = Block(TINY.image_encoder, TINY.image_encoder.window)
    x = torch.randn(1, 6, 6, TINY.image_encoder.width)
    other = x.clone()
    other[:, 4:] += 1
    changed = (block(x) - block(other)).abs().amax(-1)[0] > 1e-6
    assert not changed[:4].any()
    assert changed[4:].all()


# --- pooling ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "level"),
    [(20, 0), (111, 0), (112, 1), (223, 1), (224, 1), (447, 1), (448, 2), (2000, 2)],
)
def test_the_level_fits_the_side(side, level):
    # sqrt(area) / 224 in [1, 2) is p4; one level finer below 224, p3 at the finest.
    expected = {0: 0, 1: 1, 2: 2}[level] if side >= 224 else 0
    boxes = torch.tensor([[5.0, 5, 5 + side, 5 + side]])
    assert pool_levels(boxes, 3).tolist() == [expected]


def test_each_region_is_pooled_from_its_own_image_and_level():
    # A level's cells hold its number, an image adds ten.
    levels = [torch.full((2, 1, 64 >> i, 64 >> i), float(i)) for i in range(3)]
    for level in levels:
        level[1] += 10
    boxes = torch.tensor([[0.0, 0, 50, 50], [0, 0, 300, 300], [0, 0, 500, 500], [0, 0, 50, 50]])
    pooled = pool_regions(levels, boxes, torch.tensor([0, 0, 1, 1]), 2)
    assert pooled.amin((1, 2, 3)).tolist() == pooled.amax((1, 2, 3)).tolist() == [0, 1, 12, 10]


# --- proposals and cascade --------------------------------------------------------------------


def test_cell_centres():
    assert cell_centres(2, 3, 8, CPU).tolist() == [
        [4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]
    ]  # fmt: skip


def head_output(heat, distances=1.0):
    heat = torch.tensor(heat)
    return HeadOutput(heat.logit()[None, None], torch.full((1, 4, *heat.shape), distances))


NOTHING = [head_output([[1e-6]]) for _ in range(4)]


def test_proposals_are_ranked_by_the_root_of_their_heat():
    outputs = [head_output([[0.04, 0.25], [1e-5, 0.01]]), *NOTHING]
    found = choose_proposals(outputs, 0, DetectionConfig())
    torch.testing.assert_close(found.scores_P, torch.tensor([0.5, 0.2, 0.1]))
    assert found.boxes_xyxy_P4.tolist() == [[4, -4, 20, 12], [-4, -4, 12, 12], [4, 4, 20, 20]]


def test_few_proposals_per_level_and_all():
    heat = [[0.04, 0.25], [0.16, 0.01]]
    config = DetectionConfig(max_per_level=3, max_proposals=2)
    found = choose_proposals([head_output(heat), *NOTHING], 0, config)
    torch.testing.assert_close(found.scores_P, torch.tensor([0.5, 0.4]))
    tied = choose_proposals([head_output([[0.04, 0.25], [0.04, 0.01]]), *NOTHING], 0, config)
    assert len(tied.scores_P) == 3  # two tie for the last place


def test_proposals_have_a_side_left():
    found = choose_proposals([head_output([[0.5]], 0.0), *NOTHING], 0, DetectionConfig())
    torch.testing.assert_close(found.boxes_xyxy_P4, torch.tensor([[4.0, 4, 4.01, 4.01]]))


@pytest.mark.parametrize(
    ("delta", "expected"),
    [
        ((0, 0, 0, 0), (10, 20, 30, 60)),
        ((5, 0, 0, 0), (20, 20, 40, 60)),  # half a width to the right
        ((0, -10, 0, 0), (10, -20, 30, 20)),
        ((0, 0, 5 * 0.693147, 0), (0, 20, 40, 60)),  # twice as wide
        ((0, 0, 1e9, 0), (20 - 625, 20, 20 + 625, 60)),  # 1000/16 times at most
    ],
)
def test_boxes_move_by_weighted_deltas(delta, expected):
    boxes = torch.tensor([[10.0, 20, 30, 60]])
    moved = move_boxes(boxes, torch.tensor([delta], dtype=torch.float32), (10, 10, 5, 5))
    torch.testing.assert_close(
        moved, torch.tensor([expected], dtype=torch.float32), atol=1e-3, rtol=1e-5
    )


def test_detections_are_scored_clipped_and_thinned():
    cascade = Cascade(4, 4, DetectionConfig(max_detections=2, min_score=0.1))
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 11], [20, 0, 90, 10], [0, 30, 10, 40]])
    logits = torch.tensor([[0.0, 0], [1, 0], [0, 0], [-9, 9]])
    stage = StageOutput(boxes, logits, torch.zeros(4, 4), boxes)
    proposals = Proposals(boxes, torch.tensor([0.9, 0.5, 0.4, 0.9]))
    found = cascade.choose(proposals, [stage] * 3, (50, 60))
    # The root of .5 * .9 suppresses that of .73 * .5; then that of .5 * .4; the last is below .1.
    torch.testing.assert_close(found.scores_P, torch.tensor([0.45, 0.2]).sqrt())
    assert found.boxes_xyxy_P4.tolist() == [[0, 0, 10, 10], [20, 0, 60, 10]]


# --- search -----------------------------------------------------------------------------------

END = 0


class Scripted:
    """Says by the last token what comes next: token -> probability of each token."""

    def __init__(self, table):
        self.table = torch.tensor(table).log()

    def next_logits(self, ids_RT):
        return self.table[ids_RT[:, -1]]

    def expand(self, beams):
        pass

    def reorder(self, rows_R):
        pass


def found(table, begin=4, **options):
    captions = search(Scripted(table), torch.tensor([begin]), END, **options)
    return captions.ids_NKL[0].tolist(), captions.log_prob_NK[0].exp().tolist()


# Rows: after END, 1, 2, 3, begin (4).
TABLE = [
    [1.0, 1e-9, 1e-9, 1e-9, 1e-9],
    [0.1, 0.6, 0.3, 1e-9, 1e-9],
    [0.9, 0.05, 0.04, 0.01, 1e-9],
    [0.2, 0.2, 0.5, 0.1, 1e-9],
    [0.1, 0.5, 0.3, 0.1, 1e-9],
]


def test_greedy_never_repeats_a_token():
    ids, probability = found(TABLE, max_tokens=9)
    # 1 would follow itself with .6; without it 2 has .3 of .4. Then END has .9 of .96.
    assert ids == [[4, 1, 2, END]]
    assert probability == pytest.approx([(0.5 * 0.75 * 0.9 / 0.96) ** (1 / 3)], rel=1e-4)


def test_a_caption_that_does_not_end_counts_its_words_only():
    ids, probability = found(TABLE, max_tokens=3)
    assert ids == [[4, 1, 2]]
    assert probability == pytest.approx([(0.5 * 0.75) ** 0.5], rel=1e-4)


def test_the_first_token_may_repeat_the_begin_token():
    table = [*TABLE[:4], [0.1, 0.1, 0.1, 0.1, 0.6]]
    assert found(table, max_tokens=2)[0] == [[4, 4]]


def test_an_empty_caption():
    table = [*TABLE[:4], [0.9, 0.1, 1e-9, 1e-9, 1e-9]]
    ids, probability = found(table, max_tokens=9)
    assert (ids, probability) == ([[4, END]], pytest.approx([0.9]))


def test_beams_differ_by_their_first_token_and_are_ranked_by_their_sum():
    ids, probability = found(TABLE, max_tokens=9, beams=3)
    # 2 END: .3 * .9375 = .281; 1 2 END: .5 * .75 * .9375 = .352; END or 3: .1.
    assert [beam[1] for beam in ids[:2]] == [1, 2]
    assert ids[1] == [4, 2, END, END]
    assert probability[1] == pytest.approx((0.3 * 0.9375) ** 0.5, rel=1e-4)
    # The mean of the second is higher: there is no length penalty in the ranking.
    assert probability[1] < probability[0]


def test_impossible_searches():
    with pytest.raises(ValueError, match="need at least 2 and 1"):
        found(TABLE, max_tokens=1)


# --- the text decoder -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def decoder():
    return captioner().grit.text_decoder


def visual(decoder, num_regions=3, seed=0):
    features = torch.randn(
        num_regions, 9, TINY.pyramid_channels, generator=torch.Generator().manual_seed(seed)
    )
    return decoder.visual_tokens(features)


def test_text_sees_no_later_text(decoder):
    ids = torch.tensor([[2, 6, 7, 8]])
    other = torch.tensor([[2, 6, 9, 10]])
    first, second = (decoder.logits(visual(decoder, 1), i) for i in (ids, other))
    torch.testing.assert_close(first[:, :2], second[:, :2])
    assert not torch.allclose(first[:, 2], second[:, 2])


def test_visual_tokens_are_a_set(decoder):
    tokens = visual(decoder, 1)
    ids = torch.tensor([[2, 6, 7]])
    torch.testing.assert_close(
        decoder.logits(tokens, ids), decoder.logits(tokens.flip(1), ids), atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("beams", [1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_cache_is_exact(beams, dtype):
    decoder = captioner().grit.text_decoder.to(dtype)
    tokens = visual(decoder.float(), 5).to(dtype)
    decoder.to(dtype)
    begin = torch.full((5,), 2)
    results = [
        search(steps, begin, 3, max_tokens=20, beams=beams)
        for steps in (CachedSteps(decoder, tokens, 20), UncachedSteps(decoder, tokens))
    ]
    assert torch.equal(results[0].ids_NKL, results[1].ids_NKL)
    torch.testing.assert_close(results[0].log_prob_NK, results[1].log_prob_NK, atol=1e-5, rtol=1e-5)
    assert len({tuple(row) for row in results[0].ids_NKL[:, 0].tolist()}) > 1


def test_padding_of_captions_moves_no_loss(decoder):
    tokens = visual(decoder, 2)
    ids = torch.tensor([[2, 6, 7, 3, IGNORED, IGNORED], [2, 8, 9, 10, 11, 3]])
    both = decoder.loss(tokens, ids, 0.0)
    alone = [decoder.loss(tokens[:1], ids[:1, :4], 0.0), decoder.loss(tokens[1:], ids[1:], 0.0)]
    expected = (3 * alone[0] + 5 * alone[1]) / 8
    torch.testing.assert_close(both, expected)


def test_the_output_matrix_is_the_word_embedding():
    config = dataclasses.replace(
        TextDecoderConfig(), vocab_size=11, width=12, num_heads=2, mlp_dim=8
    )
    decoder = TextDecoder(config, 4)
    matrices = [n for n, p in decoder.named_parameters() if p.shape == (11, 12)]
    assert matrices == ["words.weight"]
