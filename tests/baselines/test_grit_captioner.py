"""GRiT behind the protocol: shapes, invariances, training on given boxes, building."""

import dataclasses
import json
import math

import pytest
import torch
from grit_parts import CAPTIONS, TINY, batch, captioner, cell_settings, images, learner
from PIL import Image

from baselines.grit.build import build, build_from_scratch
from baselines.grit.detect import main as detect
from sca_bench.captioner import Decoding, RegionCaptioner, TrainableCaptioner
from sca_bench.contract import CaptionerContract
from sca_bench.data.readers.scenes import render_scene
from sca_bench.errors import InputError
from sca_bench.metrics.detection.detections import read_detections
from sca_bench.variants import get_variant

BOXES = [[(2, 3, 40, 30), (10, 5, 60, 44), (30, 2, 47, 20)], [(0, 0, 20, 50)]]
SIZES_HW = [(48, 64), (60, 52)]
DECODING = Decoding(1, 8)


@pytest.fixture(scope="module")
def grit():
    return captioner()


@pytest.fixture(scope="module")
def two_images():
    return batch(images(*SIZES_HW), BOXES, CAPTIONS)


def captions_of(grit, regions, decoding=DECODING):
    return [(p.caption, p.log_prob) for p in grit.generate(regions, decoding)]


def close(found, expected):
    assert [caption for caption, _ in found] == [caption for caption, _ in expected]
    assert [p for _, p in found] == pytest.approx([p for _, p in expected], abs=1e-4)


def test_it_is_a_captioner(grit, two_images):
    assert isinstance(grit, RegionCaptioner)
    assert isinstance(grit, TrainableCaptioner)
    found = grit.generate(two_images, DECODING)
    assert [p.region_id for p in found] == two_images.region_ids
    assert all(p.predicted_ious == (1.0,) and p.log_prob < 0 and p.seconds > 0 for p in found)
    assert len({p.caption for p in found}) > 1, "captions that do not differ test nothing"


@pytest.mark.parametrize("size_hw", [(40, 90), (96, 96), (130, 50)])
@pytest.mark.parametrize("num_regions", [1, 3])
def test_shapes(grit, size_hw, num_regions):
    boxes = [(1, 2, 20 + i, 30) for i in range(num_regions)]
    assert len(grit.generate(batch(images(size_hw), [boxes]), DECODING)) == num_regions


@pytest.mark.parametrize(("max_new_tokens", "num_beams"), [(1, 1), (3, 1), (3, 3)])
def test_captions_are_no_longer_than_asked(grit, two_images, max_new_tokens, num_beams):
    for found in grit.generate(two_images, Decoding(num_beams, max_new_tokens)):
        assert len(found.caption.split()) <= max_new_tokens


def test_a_batch_without_regions(grit):
    assert grit.generate(batch(images((40, 40)), [[]]), DECODING) == []


def test_an_image_without_regions_is_left_out(grit, two_images):
    three = batch([*images(*SIZES_HW), *images((30, 30), seed=5)], [*BOXES, []])
    close(captions_of(grit, three), captions_of(grit, two_images))


def test_padded_regions_leave_real_ones_unchanged(grit, two_images):
    boxes = two_images.boxes_xyxy_input_BR4.clone()
    boxes[~two_images.region_mask_BR] = 1e6
    other = dataclasses.replace(two_images, boxes_xyxy_input_BR4=boxes)
    assert captions_of(grit, other) == captions_of(grit, two_images)


def test_permuting_regions_permutes_captions(grit, two_images):
    turned = batch(images(*SIZES_HW), [BOXES[0][::-1], BOXES[1]])
    found, expected = captions_of(grit, turned), captions_of(grit, two_images)
    close([*found[2::-1], found[3]], expected)


def test_a_batch_equals_its_singles(grit, two_images):
    pixels = images(*SIZES_HW)
    singles = [
        one
        for image, boxes in zip(pixels, BOXES, strict=True)
        for box in boxes
        for one in captions_of(grit, batch([image], [[box]]))
    ]
    close(captions_of(grit, two_images), singles)


def test_images_of_one_size_are_encoded_together(grit, monkeypatch):
    pixels = images((48, 64), (60, 52), (48, 64))
    boxes = [BOXES[0], BOXES[1], BOXES[0][:1]]
    calls = []
    whole = grit.grit.pooled_levels
    monkeypatch.setattr(
        grit.grit, "pooled_levels", lambda found: calls.append(len(found)) or whole(found)
    )
    together = captions_of(grit, batch(pixels, boxes))
    assert sorted(calls) == [1, 2]
    singles = [
        one
        for image, per_image in zip(pixels, boxes, strict=True)
        for one in captions_of(grit, batch([image], [per_image]))
    ]
    close(together, singles)


def test_many_regions_are_decoded_in_chunks(grit, monkeypatch):
    boxes = [[(i, 2, i + 25, 40) for i in range(7)]]
    whole = captions_of(grit, batch(images((48, 64)), boxes))
    monkeypatch.setattr("baselines.grit.model.REGIONS_AT_A_TIME", 3)
    close(captions_of(grit, batch(images((48, 64)), boxes)), whole)


def test_boxes_that_the_paper_cleans_up_are_captioned(grit):
    odd = [(-5, -5, 30, 30), (10, 10, 10, 40), (60, 40, 90, 90), (200, 200, 210, 210)]
    same = [(0, 0, 30, 30), (0, 0, 1, 1), (60, 40, 63, 47), (0, 0, 1, 1)]
    pixels = images((48, 64))
    close(captions_of(grit, batch(pixels, [odd])), captions_of(grit, batch(pixels, [same])))


def test_a_task_it_was_not_trained_on(two_images):
    built = captioner()
    config = dataclasses.replace(TINY.text_decoder, begin_tokens={"recognition": 2})
    built.grit.config = dataclasses.replace(TINY, text_decoder=config)
    with pytest.raises(InputError, match="not trained on the task 'caption'; it knows recognition"):
        built.generate(two_images, DECODING)


def test_tasks_begin_differently(grit, two_images):
    other = dataclasses.replace(two_images, tasks=["recognition"] * 2)
    assert captions_of(grit, other) != captions_of(grit, two_images)


def test_without_original_images(grit, two_images):
    with pytest.raises(ValueError, match="no original images"):
        grit.generate(dataclasses.replace(two_images, original_images=None), DECODING)


class TestContract(CaptionerContract):
    trains = "never"

    def captioner(self):
        return captioner()

    def broken(self):
        yield lambda: build(cell_settings(size="grit_tini"))
        yield lambda: build(cell_settings(weights="/nowhere/at/all.pth"))
        yield lambda: build(cell_settings(size="grit_b_densecap"))
        yield lambda: build(cell_settings(tokenizer="/nowhere/at/all"))


# --- training on given boxes ------------------------------------------------------------------


def test_what_training_reaches(two_images):
    model = learner()
    assert get_variant("grit_from_scratch").trains == "gradient"
    model.train()
    model.loss(two_images).backward()
    reached = {n for n, p in model.grit.named_parameters() if p.grad is not None and p.grad.any()}
    # Boxes as small as these are pooled from the finest level alone.
    coarser = {n for n in model.trainable_state() if n.startswith(("pyramid.p4", "pyramid.p5"))}
    assert reached == set(model.trainable_state()) - coarser
    frozen = {n for n, p in model.grit.named_parameters() if not p.requires_grad}
    assert {n.split(".")[0] for n in frozen} == {"proposal_head", "cascade", "pyramid"}
    assert frozen.isdisjoint(model.trainable_state())


@pytest.mark.usefixtures("training")
def test_it_learns_the_captions_it_is_shown(two_images):
    """It starts at guessing, and once it is small the captions are those it was shown."""
    model = learner(seed=3)
    model.label_smoothing = 0.0
    before = model.loss(two_images).item()
    # Nothing is known: about the log of the vocabulary per token.
    assert before == pytest.approx(math.log(TINY.text_decoder.vocab_size), abs=0.3)
    learning = list(model.trainable_parameters().values())
    optimiser = torch.optim.AdamW(learning, lr=2e-3)
    for _ in range(80):
        optimiser.zero_grad()
        loss = model.loss(two_images)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimiser.step()
    assert loss.item() < 0.2
    assert [p.caption for p in model.generate(two_images, DECODING)] == CAPTIONS


def test_images_of_the_batch_may_come_in_any_order(two_images):
    model = learner()
    pixels = images(*SIZES_HW)
    turned = batch(pixels[::-1], BOXES[::-1], [CAPTIONS[3], *CAPTIONS[:3]])
    assert model.loss(turned).item() == pytest.approx(model.loss(two_images).item(), abs=1e-5)


def test_the_loss_as_published_counts_images_alike(two_images):
    """The mean of what the single images' losses are, three regions in one and one in the other."""
    model = learner()
    pixels, captions = images(*SIZES_HW), [CAPTIONS[:3], CAPTIONS[3:]]
    singles = [
        model.loss(batch([image], [boxes], said)).item()
        for image, boxes, said in zip(pixels, BOXES, captions, strict=True)
    ]
    over_tokens = model.loss(two_images).item()
    model.loss_over = "images"
    assert model.loss(two_images).item() == pytest.approx(sum(singles) / 2, abs=1e-5)
    assert abs(sum(singles) / 2 - over_tokens) > 1e-3
    turned = batch(pixels[::-1], BOXES[::-1], [CAPTIONS[3], *CAPTIONS[:3]])
    assert model.loss(turned).item() == pytest.approx(sum(singles) / 2, abs=1e-5)


def test_captions_are_cut(two_images):
    model = learner()
    model.max_caption_tokens = 2
    cut = dataclasses.replace(
        two_images, captions=[" ".join(text.split()[:2]) for text in two_images.captions]
    )
    assert model.loss(two_images).item() == model.loss(cut).item()


def test_save_and_load(two_images):
    first, second = learner(0), learner(1)
    state = {name: tensor.clone() for name, tensor in first.trainable_state().items()}
    assert captions_of(first, two_images) != captions_of(second, two_images)
    second.load_trainable_state(state)
    assert captions_of(first, two_images) == captions_of(second, two_images)
    name = next(iter(state))
    with pytest.raises(InputError, match=f"{name}: is missing"):
        second.load_trainable_state({k: v for k, v in state.items() if k != name})
    with pytest.raises(InputError, match=f"did you mean {name}"):
        second.load_trainable_state({**state, name + "x": state[name]})
    with pytest.raises(InputError, match=r"has shape \(1,\), expected"):
        second.load_trainable_state({**state, name: torch.zeros(1)})


# --- building ---------------------------------------------------------------------------------


def test_nothing_of_the_untrained_variant_learns(grit):
    assert get_variant("grit").trains == "never"
    assert not any(p.requires_grad for p in grit.parameters())


def test_random_weights_depend_on_their_seed_only():
    torch.manual_seed(5)
    first = build(cell_settings(random_seed=1))
    following = torch.rand(())
    torch.manual_seed(5)
    assert torch.equal(following, torch.rand(())), "the global generator was used"
    second, third = (build(cell_settings(random_seed=seed)) for seed in (1, 2))
    states = [model.state_dict() for model in (first, second, third)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


def test_an_unknown_size():
    with pytest.raises(InputError, match=r"baseline.size: .*did you mean grit_tiny"):
        build(cell_settings(size="grit_tini"))


def test_from_scratch_takes_no_checkpoint():
    with pytest.raises(InputError, match="trained from scratch; use random, or variant: grit"):
        build_from_scratch(cell_settings("grit_from_scratch", weights="some.pth"))


# --- own detections ---------------------------------------------------------------------------


@pytest.fixture
def split(tmp_path):
    """Two images, and the regions that should be found in them."""
    folder = tmp_path / "images"
    folder.mkdir()
    rows = []
    for image_id, suffix in ((11, "png"), (12, "jpg")):
        scene = render_scene(image_id)
        Image.fromarray(scene.image).save(folder / f"{image_id}.{suffix}")
        for number, region in enumerate(scene.regions):
            rows.append(
                {
                    "region_id": f"{image_id}.{number}",
                    "image_id": image_id,
                    "box_xyxy": region.box_xyxy,
                    "references": [region.caption],
                }
            )
    regions = tmp_path / "regions.jsonl"
    regions.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return regions, folder


def test_the_detect_command(split, tmp_path, capsys):
    regions, folder = split
    out = tmp_path / "detections.jsonl"
    words = ["--regions", str(regions), "--images", str(folder), "--out", str(out)]
    words += ["--weights", "random", "--device", "cpu"]
    assert detect([*words, "--size", "grit_tiny"]) == 0
    found = read_detections(out)
    assert {d.image_id for d in found} == {"11", "12"}
    assert all(0 <= d.box_xyxy[0] < d.box_xyxy[2] <= 96 and 0 < d.score <= 1 for d in found)
    assert detect(words) == 2
    assert "baseline.tokenizer: missing" in capsys.readouterr().err
    (folder / "12.jpg").unlink()
    assert detect([*words, "--size", "grit_tiny"]) == 2
    assert "12: no file 12.jpg (or .jpeg, .png)" in capsys.readouterr().err
