"""The assembled captioner."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from invariance import assert_same, outputs, select

from sca_bench.captioner import Decoding, SharesPrefix
from sca_bench.errors import InputError, at
from sca_bench.models.build import build_sca, load_frozen_parts

STAGES = {"text_mixer", "caption_query_tokens", "projection", "task_tokens"}


def test_is_the_protocol_it_claims(model):
    assert isinstance(model, SharesPrefix)


@pytest.mark.parametrize("heads", [1, 2, 3])
@pytest.mark.parametrize("num_task_tokens", [0, 2])
@pytest.mark.parametrize("grid", [None, 4])
def test_shapes(make_model, batch, heads, num_task_tokens, grid):
    model = make_model(
        mixer={"num_caption_heads": heads, "image_grid": grid},
        prefix={"num_task_tokens": num_task_tokens},
        eval={"select": "first"},
    )
    features = model.frozen_features(batch, with_masks=True)
    side = grid or 12
    assert features.tokens_NTC.shape == (5, 7, 96)
    assert features.image_tokens_NSC.shape == (5, side * side, 96)
    assert features.image_pe_SC.shape == (side * side, 96)
    assert (features.ious_NM.shape, features.grid_hw) == ((5, 3), (side, side))
    assert features.mask_logits_NMhw.shape == (5, 3, 48, 48)
    queries = model.query_outputs(features)
    assert queries.shape == (5, heads, 3, 96)
    prefix = model.prefix(queries, batch.region_tasks())
    assert prefix.shape == (5 * heads, num_task_tokens + 3, 32)
    assert model.loss(batch).shape == ()
    assert len(model.generate(batch, Decoding(num_beams=2, max_new_tokens=4))) == 5


def test_frozen_parts_receive_no_gradient(model, batch):
    model.train()
    model.loss(batch).backward()
    trained = model.trainable_parameters()
    assert {name.partition(".")[0] for name in trained} == STAGES
    # The last block updates the image for the final attention, so every parameter is reached.
    assert [n for n, p in trained.items() if p.grad is None or not p.grad.any()] == []
    frozen = [p for p in model.parameters() if not p.requires_grad]
    assert len(frozen) + len(trained) == len(list(model.parameters()))
    assert all(p.grad is None for p in frozen)
    assert not any(module.training for module in model.region_encoder.modules())


def test_padding_leaves_real_regions_unchanged(model, batch):
    other = dataclasses.replace(batch, boxes_xyxy_input_BR4=batch.boxes_xyxy_input_BR4.clone())
    other.boxes_xyxy_input_BR4[1, 2] = 1e6
    torch.testing.assert_close(model.loss(batch), model.loss(other), atol=0, rtol=0)
    assert_same(outputs(model, select(batch, [1], [[0, 1]])), outputs(model, batch))


def test_permuting_regions_permutes_outputs(model, batch):
    permuted = select(batch, [1, 0], [[1, 2, 0], [2, 0, 1]])
    assert permuted.region_ids == ["r4", "r3", "r2", "r0", "r1"]
    assert_same(outputs(model, permuted), outputs(model, batch))
    torch.testing.assert_close(model.loss(permuted), model.loss(batch), atol=1e-5, rtol=1e-5)


def test_a_batch_equals_its_singles(model, batch):
    whole = outputs(model, batch)
    assert len({p.caption for _, p in whole.values()}) > 1
    for image, region in batch.region_mask_BR.nonzero().tolist():
        assert_same(outputs(model, select(batch, [image], [[region]])), whole)


def test_given_features_are_used(model, batch):
    features = model.frozen_features(batch)
    lean = dataclasses.replace(batch, features=features, pixel_values_B3HW=None)
    torch.testing.assert_close(model.loss(lean), model.loss(batch), atol=0, rtol=0)
    half = dataclasses.replace(
        features,
        tokens_NTC=features.tokens_NTC.half(),
        image_tokens_NSC=features.image_tokens_NSC.half(),
    )
    stored = dataclasses.replace(lean, features=half)
    torch.testing.assert_close(model.loss(stored), model.loss(batch), atol=1e-2, rtol=1e-2)


def test_points_and_both(model, batch):
    points = dataclasses.replace(
        batch,
        points_xy_input_BRP2=torch.rand(2, 3, 2, 2) * 90,
        point_labels_BRP=torch.tensor([1, 0]).expand(2, 3, 2),
    )
    both = model.frozen_features(points)
    alone = model.frozen_features(dataclasses.replace(points, boxes_xyxy_input_BR4=None))
    assert (both.tokens_NTC.shape[1], alone.tokens_NTC.shape[1]) == (5 + 4, 5 + 3)


def test_single_mask_output(model, batch):
    three = model.frozen_features(batch, with_masks=True)
    single_encoder = copy.copy(model.region_encoder)
    single_encoder.multimask_output = False
    one = single_encoder(batch, with_masks=True)
    assert (one.ious_NM.shape, one.mask_logits_NMhw.shape[1]) == ((5, 1), 1)
    assert not torch.equal(one.ious_NM, three.ious_NM[:, :1])
    assert torch.equal(one.tokens_NTC, three.tokens_NTC)


def test_tasks_choose_their_tokens(model, batch):
    queries = model.query_outputs(model.frozen_features(batch))
    prefix = model.prefix(queries, ["recognition", "caption"] + ["caption"] * 3)
    assert torch.equal(prefix[0, :2], model.task_tokens.weight[:2])
    assert torch.equal(prefix[1, :2], model.task_tokens.weight[2:])
    with pytest.raises(ValueError, match="unknown task 'captoin'"):
        model.prefix(queries, ["captoin"] * 5)


def test_gain_scales_the_whole_prefix(make_model, batch):
    prefixes = [
        m.prefix(m.query_outputs(m.frozen_features(batch)), batch.region_tasks())
        for m in (make_model(), make_model(prefix={"gain": 0.25}))
    ]
    torch.testing.assert_close(prefixes[0] * 0.25, prefixes[1])


def test_pooled_image_tokens_are_means(make_model, batch):
    fine = make_model().frozen_features(batch)
    coarse = make_model(mixer={"image_grid": 4}).frozen_features(batch)
    blocks = fine.image_tokens_NSC.unflatten(1, (4, 3, 4, 3)).mean(dim=(2, 4)).flatten(1, 2)
    torch.testing.assert_close(coarse.image_tokens_NSC, blocks)
    pe = fine.image_pe_SC.unflatten(0, (4, 3, 4, 3)).mean(dim=(1, 3)).flatten(0, 1)
    torch.testing.assert_close(coarse.image_pe_SC, pe)
    assert torch.equal(fine.tokens_NTC, coarse.tokens_NTC)
    with pytest.raises(InputError, match=r"mixer\.image_grid: 13 is finer"):
        make_model(mixer={"image_grid": 13})


@pytest.mark.parametrize(
    ("heads", "chosen"), [(2, "first"), (3, "first"), (3, "predicted_iou"), (1, "predicted_iou")]
)
def test_which_head_is_kept(make_model, batch, heads, chosen):
    model = make_model(mixer={"num_caption_heads": heads}, eval={"select": chosen})
    features = model.frozen_features(batch)
    decoding = Decoding(max_new_tokens=6)
    generated = model.generate_ids(features, batch.region_tasks(), decoding)
    assert len(generated.ids_NL) == 5 * heads
    by_iou = chosen == "predicted_iou" and heads > 1
    best = features.ious_NM.argmax(1).tolist() if by_iou else [0] * 5
    expected = [float(generated.log_prob_N[i * heads + head]) for i, head in enumerate(best)]
    kept = [p.log_prob for p in model.generate(batch, decoding)]
    assert kept == pytest.approx(expected, abs=1e-5)
    per_region = generated.log_prob_N.unflatten(0, (5, heads))
    assert heads == 1 or (per_region[:, 0] != per_region[:, 1]).any()


def test_heads_without_masks_of_their_own_are_not_chosen_by_iou(make_model, batch):
    line = r"eval\.select: predicted_iou needs .* candidate \(3\); there are 2; set .*first"
    with pytest.raises(InputError, match=line):
        make_model(mixer={"num_caption_heads": 2})
    model = make_model(mixer={"num_caption_heads": 3})
    model.region_encoder = copy.copy(model.region_encoder)
    model.region_encoder.multimask_output = False
    with pytest.raises(InputError, match=r"sca: eval\.select: .* candidate \(1\); there are 3"):
        model.generate(batch, Decoding(max_new_tokens=3))


def test_all_heads_learn(make_model, batch):
    model = make_model(mixer={"num_caption_heads": 2}, eval={"select": "first"})
    model.loss(batch).backward()
    gradient = model.caption_query_tokens.tokens.weight.grad
    assert gradient[:3].any()
    assert gradient[3:].any()


@pytest.mark.parametrize("on", [True, False])
def test_decoder_dropout_follows_the_setting(make_model, batch, on):
    model = make_model(text_decoder={"dropout_in_training": on}).train()
    losses = {model.loss(batch).item() for _ in range(3)}
    assert (len(losses) > 1) == on
    # Generation, and a sibling that shares the decoder, are not disturbed by it.
    first, second = (model.generate(batch, Decoding(max_new_tokens=4)) for _ in range(2))
    assert [p.log_prob for p in first] == [p.log_prob for p in second]
    assert model.training
    model.eval()
    assert len({model.loss(batch).item() for _ in range(2)}) == 1


@pytest.mark.parametrize("trainable", [False, True])
@pytest.mark.parametrize("dropout", [False, True])
def test_gradient_checkpointing_moves_no_number(make_model, batch, trainable, dropout):
    found = []
    for on in (False, True):
        text = {
            "trainable": trainable,
            "gradient_checkpointing": on,
            "dropout_in_training": dropout,
        }
        model = make_model(text_decoder=text, mixer={"dropout": 0.2}).train()
        assert model.checkpoint_text_decoder == on
        torch.manual_seed(2)
        loss = model.loss(batch)
        loss.backward()
        gradients = {n: p.grad for n, p in model.trainable_parameters().items()}
        found.append((loss.detach(), gradients))
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1].keys() == found[1][1].keys()
    assert all(torch.equal(g, found[1][1][name]) for name, g in found[0][1].items())


def test_query_dropout_acts_in_training_only(make_model, batch):
    model = make_model(mixer={"dropout": 0.5}, text_decoder={"dropout_in_training": False})
    assert len({model.loss(batch).item() for _ in range(2)}) == 1
    model.train()
    assert len({model.loss(batch).item() for _ in range(3)}) > 1


def test_an_untrained_encoder_beside_trained_weights(make_settings, lm_dir):
    weights = {"size": "tiny", "weights": "embedded:sam_tiny", "random_seed": 3}
    parts = [
        load_frozen_parts(make_settings(sam=weights, encoder={"type": kind}))
        for kind in ("sam", "untrained")
    ]
    trained, untrained = (p.sam.state_dict() for p in parts)
    differing = {n.split(".")[0] for n in trained if not torch.equal(trained[n], untrained[n])}
    assert differing == {"image_encoder"}
    drawn = load_frozen_parts(make_settings(sam={**weights, "weights": "random"})).sam
    for name, tensor in drawn.image_encoder.state_dict().items():
        assert torch.equal(tensor, untrained[f"image_encoder.{name}"]), name


def test_cells_share_frozen_parts_but_not_a_trained_decoder(make_settings, parts_of, batch):
    settings = make_settings()
    parts = parts_of(settings)
    one, two = build_sca(settings, parts), build_sca(settings, parts)
    assert one.text_decoder is two.text_decoder is parts.text_decoder
    assert one.region_encoder.sam is two.region_encoder.sam
    trained = build_sca(make_settings(text_decoder={"trainable": True}), parts)
    assert trained.text_decoder is not parts.text_decoder
    assert {n.partition(".")[0] for n in trained.trainable_parameters()} == STAGES | {
        "text_decoder"
    }
    trained.loss(batch).backward()
    assert all(p.grad is not None for p in trained.trainable_parameters().values())
    assert not any(p.requires_grad for p in parts.text_decoder.parameters())


def test_weights_depend_on_the_global_seed_only(make_settings, parts_of):
    settings = make_settings()

    def weights(parts):
        torch.manual_seed(7)
        return build_sca(settings, parts).trainable_state()

    shared, alone = weights(parts_of(settings)), weights(None)
    assert all(torch.equal(shared[name], alone[name]) for name in shared)
    before = torch.random.get_rng_state()
    load_frozen_parts(settings)
    assert torch.equal(before, torch.random.get_rng_state())


def test_initial_weights_are_the_papers(make_settings, parts_of):
    model = build_sca(make_settings(mixer={"init_std": 0.02}), parts_of(make_settings()))
    for name, parameter in model.trainable_parameters().items():
        if "norm" in name:
            assert parameter.unique().tolist() == [float(name.endswith("weight"))], name
        elif name.endswith("bias"):
            assert not parameter.any(), name
        elif parameter.numel() > 2000:
            assert parameter.std().item() == pytest.approx(0.02, rel=0.1), name


@pytest.mark.parametrize("trainable", [False, True])
def test_trained_state_round_trip(make_model, batch, trainable):
    model = make_model(text_decoder={"trainable": trainable})
    other = make_model(text_decoder={"trainable": trainable})
    with torch.no_grad():
        for parameter in model.trainable_parameters().values():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    assert not torch.equal(model.loss(batch), other.loss(batch))
    other.load_trainable_state(model.trainable_state())
    assert torch.equal(model.loss(batch), other.loss(batch))


def test_a_state_that_does_not_fit_is_refused(model):
    state = model.trainable_state()
    name = "projection.bias"
    with pytest.raises(InputError, match=r"run\.safetensors: projection\.bias: is missing"):
        model.load_trainable_state(
            {k: v for k, v in state.items() if k != name}, where="run.safetensors"
        )
    with pytest.raises(InputError, match=r"has shape \(3,\), expected \(32,\)"):
        model.load_trainable_state({**state, name: torch.zeros(3)})
    with pytest.raises(InputError, match=r"did you mean projection\.bias"):
        model.load_trainable_state({**state, "projection.bia": torch.zeros(3)})


def test_it_learns(model, batch):
    model.train()
    model.dropout_in_training = False
    optimizer = torch.optim.AdamW(model.trainable_parameters().values(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = model.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5


def test_degenerate_batches(model, batch):
    empty = select(batch, [1], [[2]])
    assert model.generate(empty, Decoding()) == []
    with pytest.raises(ValueError, match="at least one region"):
        model.loss(empty)
    with pytest.raises(ValueError, match="region ids"):
        model.frozen_features(dataclasses.replace(batch, region_ids=["r0"]))


def test_widths_that_do_not_divide_name_the_setting(make_settings, parts_of):
    settings = make_settings(mixer={"num_heads": 7})
    with pytest.raises(InputError, match=r"suite.yaml: mixer\.num_heads"), at("suite.yaml"):
        build_sca(settings, parts_of(settings))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_equals_cpu(model, batch):
    on_cpu = model.loss(batch)
    cuda = copy.deepcopy(model).to("cuda")
    on_cuda = cuda.loss(batch.to("cuda"))
    torch.testing.assert_close(on_cuda.cpu(), on_cpu, atol=1e-3, rtol=1e-3)
    captions = [
        [p.caption for p in m.generate(b, Decoding(max_new_tokens=6))]
        for m, b in ((model, batch), (cuda, batch.to("cuda")))
    ]
    assert captions[0] == captions[1]
