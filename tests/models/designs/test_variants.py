"""Every design of the SCA family: the same demands on each, and what each is meant to do."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from invariance import assert_same, outputs, select
from torchvision.ops import roi_align

from sca_bench.captioner import Decoding, SharesPrefix
from sca_bench.errors import InputError, at
from sca_bench.models.build import build_sca
from sca_bench.types import FAMILIES
from sca_bench.variants import all_variants, get_variant

PUBLISHED = {"mixer": {"as_published": True}}
INTENDED = {
    "sca": {},
    "sca_split_mixer": {},
    "sca_split_mixer pooled": {"mixer": {"image_grid": 4}},
    "sca_sam_query": {},
    "sca_sam_query_v1": {},
    "sca_mask_heads": {},
    "sca_mask_heads base": {
        "prefix": {"num_task_tokens": 0},
        "train": {"label_smoothing": 0.0},
    },
    "sca_roi_align": {},
    "sca_roi_align mlp": {"prefix": {"projection": "mlp"}},
}
ALL = {
    **INTENDED,
    "sca_sam_query published": PUBLISHED,
    "sca_sam_query_v1 published": PUBLISHED,
    "sca_mask_heads published": PUBLISHED,
    "sca_roi_align published": PUBLISHED,
}
HEADS_QUERIES = {
    "sca": (1, 3),
    "sca_split_mixer": (1, 3),
    "sca_split_mixer pooled": (1, 3),
    "sca_sam_query": (3, 1),
    "sca_sam_query_v1": (3, 1),
    "sca_mask_heads": (3, 3),
    "sca_mask_heads base": (3, 3),
    "sca_roi_align": (1, 36),
    "sca_roi_align mlp": (1, 36),
    "sca_sam_query published": (1, 1),
    "sca_sam_query_v1 published": (1, 1),
    "sca_mask_heads published": (3, 3),
    "sca_roi_align published": (1, 36),
}


@pytest.fixture
def build(make_model):
    def build(case, **changes):
        return make_model(variant=case.split()[0], **{**ALL[case], **changes})

    return build


@pytest.fixture
def spec(case):
    return get_variant(case.split()[0])


every = pytest.mark.parametrize("case", ALL)
intended = pytest.mark.parametrize("case", INTENDED)


def test_no_variant_is_left_out():
    built_in = {n for n, s in all_variants().items() if s.builder.endswith(":build_sca")}
    assert {case.split()[0] for case in INTENDED} == built_in


@every
def test_shapes(build, batch, case):
    model = build(case)
    assert isinstance(model, SharesPrefix)
    outputs_NHQC = model.query_outputs(model.frozen_features(batch))
    heads, queries = HEADS_QUERIES[case]
    assert outputs_NHQC.shape == (5, heads, queries, 96)
    num_task_tokens = 0 if case.endswith("base") else 2
    prefix = model.prefix(outputs_NHQC, batch.region_tasks())
    assert prefix.shape == (5 * heads, num_task_tokens + queries, 32)
    assert model.loss(batch).shape == ()
    assert len(model.generate(batch, Decoding(num_beams=2, max_new_tokens=3))) == 5


@every
def test_the_registry_says_what_it_reads_and_trains(build, batch, case, spec, make_settings):
    model = build(case)
    settings = make_settings(variant=spec.name, **ALL[case])
    assert spec.families(settings) == model.families
    without_task_tokens = {"task_tokens"} if case.endswith("base") else set()
    assert set(model.trained_stages()) == set(spec.trained) - without_task_tokens
    # What is not read is not there, and what is read suffices.
    features = model.frozen_features(batch)
    tensors = {
        "mixed": features.tokens_NTC,
        "prompts": features.prompt_tokens_NPC,
        "images": features.embeddings_BChw,
    }
    assert {family for family, tensor in tensors.items() if tensor is not None} == set(
        model.families
    )
    everything = model.frozen_features(batch, families=FAMILIES)
    assert torch.equal(model.query_outputs(features), model.query_outputs(everything))


@pytest.mark.parametrize("case", ["sca", "sca_split_mixer", "sca_mask_heads published"])
def test_a_family_that_is_missing_is_named(build, batch, case):
    model = build(case)
    lacking = [family for family in FAMILIES if family != model.families[-1]]
    with pytest.raises(ValueError, match="these frozen features lack"):
        model.query_outputs(model.frozen_features(batch, families=lacking))


@every
def test_frozen_parts_receive_no_gradient(build, batch, case):
    model = build(case).train()
    model.loss(batch).backward()
    trained = model.trainable_parameters()
    assert [n for n, p in trained.items() if p.grad is None or not p.grad.any()] == []
    frozen = [p for p in model.parameters() if not p.requires_grad]
    assert len(frozen) + len(trained) == len(list(model.parameters()))
    assert all(p.grad is None for p in frozen)


@intended
def test_padding_leaves_real_regions_unchanged(build, batch, case):
    model = build(case)
    other = dataclasses.replace(batch, boxes_xyxy_input_BR4=batch.boxes_xyxy_input_BR4.clone())
    other.boxes_xyxy_input_BR4[1, 2] = 1e6
    torch.testing.assert_close(model.loss(batch), model.loss(other), atol=0, rtol=0)
    assert_same(outputs(model, select(batch, [1], [[0, 1]])), outputs(model, batch))


@intended
def test_permuting_regions_permutes_outputs(build, batch, case):
    model = build(case)
    permuted = select(batch, [1, 0], [[1, 2, 0], [2, 0, 1]])
    assert permuted.region_ids == ["r4", "r3", "r2", "r0", "r1"]
    assert_same(outputs(model, permuted), outputs(model, batch))
    torch.testing.assert_close(model.loss(permuted), model.loss(batch), atol=1e-5, rtol=1e-5)


@intended
def test_a_batch_equals_its_singles(build, batch, case):
    model = build(case)
    whole = outputs(model, batch)
    rows = [row for row, _ in whole.values()]
    assert not any(torch.allclose(rows[0], row, atol=1e-3) for row in rows[1:])
    for image, region in batch.region_mask_BR.nonzero().tolist():
        assert_same(outputs(model, select(batch, [image], [[region]])), whole)


@every
def test_the_loss_as_published_counts_images_alike(build, batch, case):
    """The mean of what the single images' losses are, three regions in one and two in the other."""
    over_tokens = build(case)
    changes = {**ALL[case].get("train", {}), "as_published": ["loss"]}
    over_images = build(case, train=changes)
    singles = [
        over_tokens.loss(select(batch, *one)) for one in ([[0], [[0, 1, 2]]], [[1], [[0, 1]]])
    ]
    expected = torch.stack(singles).mean()
    torch.testing.assert_close(over_images.loss(batch), expected, atol=1e-5, rtol=1e-5)
    assert abs(over_tokens.loss(batch) - expected) > 1e-3


@every
def test_trained_state_round_trip(build, batch, case):
    model, other = build(case), build(case)
    with torch.no_grad():
        for parameter in model.trainable_parameters().values():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    assert not torch.equal(model.loss(batch), other.loss(batch))
    other.load_trainable_state(model.trainable_state())
    assert torch.equal(model.loss(batch), other.loss(batch))


@every
def test_single_mask_output(build, batch, case):
    model = build(case)
    model.region_encoder = copy.copy(model.region_encoder)
    model.region_encoder.multimask_output = False
    features = model.frozen_features(batch, families=FAMILIES)
    shape = model.query_outputs(features).shape
    follows_masks = model.caption_query_tokens.heads(3) == 3
    assert shape[:2] == (5, 1 if follows_masks else HEADS_QUERIES[case][0])
    if case == "sca_sam_query":
        queries = model.caption_query_tokens(features)
        assert torch.equal(queries[:, 0, 0], features.tokens_NTC[:, 1])
    if case == "sca_mask_heads":
        queries = model.caption_query_tokens(features)
        assert torch.equal(queries[0, 0], model.caption_query_tokens.tokens.weight[:3])


@every
def test_checkpointing_the_text_mixer_moves_no_number(build, batch, case):
    found = []
    for on in (False, True):
        mixer = {**ALL[case].get("mixer", {}), "gradient_checkpointing": on, "num_layers": 3}
        model = build(case, mixer=mixer).train()
        torch.manual_seed(2)
        loss = model.loss(batch)
        loss.backward()
        found.append([loss, *(p.grad for p in model.trainable_parameters().values())])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


# --- what each is meant to do ------------------------------------------------------------------


def test_split_mixer_does_not_see_what_the_sam_mixer_did(build, batch):
    model = build("sca_split_mixer")
    before = model.query_outputs(model.frozen_features(batch))
    changed = copy.deepcopy(model)
    for parameter in changed.region_encoder.sam.mask_decoder.parameters():
        parameter.data.add_(0.1)
    features = changed.frozen_features(batch)
    assert torch.equal(changed.query_outputs(features), before)
    assert not torch.equal(features.ious_NM, model.frozen_features(batch).ious_NM)


def test_split_mixer_shares_an_image_among_its_regions(build, batch):
    model = build("sca_split_mixer")
    features = model.frozen_features(batch)
    context = model.context(features)
    assert context.image_tokens_NSC.shape == (2, 144, 96)
    assert context.image_index_N.tolist() == [0, 0, 0, 1, 1]
    assert context.tokens_NTC.shape == (5, 2, 96)
    queries = model.caption_query_tokens(features).flatten(1, 2)
    per_region, _ = model.text_mixer(
        context.image_tokens_NSC[context.image_index_N],
        context.image_pe_SC,
        torch.cat([queries, context.tokens_NTC], dim=1),
    )
    expected = per_region[:, :3, None].transpose(1, 2)
    torch.testing.assert_close(model.query_outputs(features), expected, atol=1e-5, rtol=1e-5)


def test_pooled_split_mixer_reads_means(build, batch):
    fine, coarse = (
        build(case).context(build(case).frozen_features(batch))
        for case in ("sca_split_mixer", "sca_split_mixer pooled")
    )
    blocks = fine.image_tokens_NSC.unflatten(1, (4, 3, 4, 3)).mean(dim=(2, 4)).flatten(1, 2)
    torch.testing.assert_close(coarse.image_tokens_NSC, blocks)
    pe = fine.image_pe_SC.unflatten(0, (4, 3, 4, 3)).mean(dim=(1, 3)).flatten(0, 1)
    torch.testing.assert_close(coarse.image_pe_SC, pe)


def test_sam_queries_are_the_candidates_mask_tokens(build, batch):
    model = build("sca_sam_query")
    features = model.frozen_features(batch)
    queries = model.caption_query_tokens(features)
    assert torch.equal(queries[:, :, 0], features.tokens_NTC[:, 2:5])


@pytest.mark.parametrize("case", ["sca_sam_query", "sca_mask_heads"])
def test_the_caption_of_the_best_mask_is_kept(build, batch, case):
    model = build(case)
    features = model.frozen_features(batch)
    decoding = Decoding(max_new_tokens=5)
    ids = model.generate_ids(features, batch.region_tasks(), decoding)
    captions = model.text_decoder.decode(ids)
    for wanted in range(3):
        ious = torch.nn.functional.one_hot(torch.full((5,), wanted), 3).float()
        given = dataclasses.replace(batch, features=dataclasses.replace(features, ious_NM=ious))
        kept = [p.caption for p in model.generate(given, decoding)]
        assert kept == captions[wanted::3]


def test_sam_query_as_published_keeps_the_first_head_or_as_many_as_images(build, batch):
    meant, published = build("sca_sam_query"), build("sca_sam_query published")
    features = meant.frozen_features(batch)
    heads = meant.query_outputs(features)
    assert torch.equal(published.query_outputs(features), heads[:, :1])
    published.caption_query_tokens.counts_images = True  # what the original's code does
    for num_images in (1, 2, 3):
        seen = dataclasses.replace(features, num_images=num_images)
        assert torch.equal(published.query_outputs(seen), heads[:, :num_images])
    beyond = published.query_outputs(dataclasses.replace(features, num_images=4))
    assert torch.equal(beyond[:, :3], heads)
    assert beyond.shape == (5, 4, 1, 96)  # the fourth is what the IoU token became


def test_sam_query_v1_is_sam_query_unless_as_published(build, batch):
    v2, v1, published = (
        build(case) for case in ("sca_sam_query", "sca_sam_query_v1", "sca_sam_query_v1 published")
    )
    features = v2.frozen_features(batch, families=FAMILIES)
    assert torch.equal(v2.query_outputs(features), v1.query_outputs(features))
    two = v2.query_outputs(features)[:, :2]
    assert not torch.allclose(published.query_outputs(features), two, atol=1e-3)


@pytest.mark.parametrize("case", ["sca_sam_query_v1 published", "sca_mask_heads published"])
def test_published_first_versions_mix_with_the_sam_mixers_inputs(build, batch, case):
    model = build(case)
    sam = model.region_encoder.sam
    features = model.frozen_features(batch)
    tokens = model.context(features).tokens_NTC
    own = torch.cat([sam.mask_decoder.iou_token.weight, sam.mask_decoder.mask_tokens.weight])
    assert torch.equal(tokens[:, :5], own.expand(5, -1, -1))
    boxes = batch.boxes_xyxy_input_BR4[batch.region_mask_BR]
    assert torch.equal(tokens[:, 5:], sam.encode_prompts(boxes))
    assert torch.equal(model.context(features).image_tokens_NSC, features.image_tokens_NSC)


@pytest.mark.parametrize("case", ["sca_roi_align", "sca_roi_align published"])
def test_roi_align_cuts_out_of_the_encoders_own_map(build, batch, case):
    model = build(case)
    with torch.no_grad():
        embeddings = model.region_encoder.sam.encode_images(batch.pixel_values_B3HW)
    mask = batch.region_mask_BR
    boxes = [batch.boxes_xyxy_input_BR4[image][mask[image]] for image in range(2)]
    scale = 1 / (16 if case.endswith("published") else 8)
    cut = roi_align(embeddings, boxes, 6, scale, sampling_ratio=0, aligned=True)
    expected = cut.flatten(2).transpose(1, 2)[:, None]
    assert torch.equal(model.query_outputs(model.frozen_features(batch)), expected)


def test_roi_align_needs_a_box(build, batch):
    model = build("sca_roi_align")
    point = torch.full((2, 3, 1, 2), 20.0)
    points = dataclasses.replace(batch, points_xy_input_BRP2=point)
    assert torch.equal(
        model.query_outputs(model.frozen_features(points)),
        model.query_outputs(model.frozen_features(batch)),
    )
    alone = dataclasses.replace(points, boxes_xyxy_input_BR4=None)
    with pytest.raises(InputError, match="a point alone has no region to cut out; give a box"):
        model.loss(alone)
    for section in ("train", "eval"):
        with pytest.raises(InputError, match=rf"{section}\.prompt: 'point' .* box or box_point"):
            build("sca_roi_align", **{section: {"prompt": "point"}})


@pytest.mark.parametrize("case", ["sca", "sca_sam_query"])
def test_every_design_may_have_three_layers_of_projection(build, batch, case):
    model = build(case, prefix={"projection": "mlp"})
    kinds = [type(module).__name__ for module in model.projection]
    assert kinds == ["Linear", "GELU", "Linear", "GELU", "Linear"]
    assert torch.isfinite(model.loss(batch))


# --- settings ----------------------------------------------------------------------------------


def test_one_base_builds_every_variant(make_settings, parts_of, lm_dir):
    """An axis over the variants needs no rules: what they share may be set for all of them."""
    shared = {
        "mixer": {"num_layers": 1, "num_heads": 4, "mlp_dim": 32, "dropout": 0.1, "image_grid": 6},
        "prefix": {"num_task_tokens": 3, "gain": 0.5},
    }
    scenes = {"dataset": "scenes", "num_images": 1, "first_seed": 0}
    for name in {case.split()[0] for case in INTENDED}:
        settings = type(make_settings()).model_validate(
            {
                "variant": name,
                "sam": {"size": "tiny"},
                "text_decoder": {"weights": str(lm_dir)},
                "data": {"train": scenes, "test": scenes},
                **shared,
            }
        )
        build_sca(settings, parts_of(settings))


@pytest.mark.parametrize(
    ("variant", "changes", "line"),
    [
        ("sca_mask_heads", {"num_caption_heads": 3}, r"num_caption_heads: 3 has no meaning.*at 1"),
        ("sca_sam_query", {"num_query_tokens": 4}, r"num_query_tokens: 4 has .* leave it at 8"),
        ("sca_sam_query_v1", {"num_caption_heads": 2}, r"num_caption_heads: 2 has no meaning"),
        ("sca_roi_align", {"num_query_tokens": 4}, r"num_query_tokens: 4 .* 36 cut-out"),
        ("sca_roi_align", {"num_caption_heads": 2}, r"num_caption_heads: 2 has no meaning"),
    ],
)
def test_settings_without_meaning_are_refused(make_settings, parts_of, variant, changes, line):
    settings = make_settings(variant=variant, mixer=changes)
    with pytest.raises(InputError, match=rf"suite\.yaml: mixer\.{line}"), at("suite.yaml"):
        build_sca(settings, parts_of(settings))


@pytest.mark.parametrize("variant", ["sca_sam_query", "sca_sam_query_v1"])
def test_heads_that_follow_the_batch_are_not_chosen_by_iou(make_model, batch, variant):
    model = make_model(variant=variant, mixer={"as_published": True})
    model.caption_query_tokens.counts_images = True
    line = r"eval\.select: predicted_iou needs one .* there are 2; set eval\.select: first"
    with pytest.raises(InputError, match=line):
        model.generate(batch, Decoding(1, 3))
