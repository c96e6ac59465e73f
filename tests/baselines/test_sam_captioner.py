"""SAM + captioner as a region captioner: the contract, the crops it makes, what cells share."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_captioners import KINDS

from baselines.sam_captioner import crops
from baselines.sam_captioner.captioner import DESCRIBE, QUESTION, build
from sca_bench.batch import RegionFeatures
from sca_bench.captioner import Decoding, SharesPrefix, TrainableCaptioner
from sca_bench.contract import CaptionerContract, image_of, toy_batch, without_regions
from sca_bench.errors import InputError, at
from sca_bench.models.build import load_sam_parts
from sca_bench.variants import get_variant

DECODING = Decoding(1, 6)


@pytest.fixture(scope="module")
def make(checkpoints, cell_settings):
    """Return a function that builds a captioner with dotted changes of the settings."""
    shared = load_sam_parts(cell_settings())

    def made(kind="git", parts=shared, **changes):
        weights = changes.pop("baseline__weights", str(checkpoints(kind)))
        settings = cell_settings(baseline__weights=weights, **changes)
        with at("suite.yaml"):
            return build(kind, settings, parts)

    return made


class _Contract(CaptionerContract):
    decoding = DECODING
    kind = "git"
    changes: dict = {}  # noqa: RUF012

    @pytest.fixture(autouse=True)
    def _made(self, make):
        self.make = make

    def captioner(self):
        return self.make(self.kind, **self.changes)

    def broken(self):
        yield lambda: self.make(self.kind, baseline__weights="/nowhere/at/all")
        yield lambda: self.make(self.kind, baseline__weights="random", baseline__size="huge")


class TestGit(_Contract):
    pass


class TestBlip(_Contract):
    kind = "blip"


class TestBlip2(_Contract):
    kind = "blip2"


class TestQuestion(_Contract):
    kind = "blip2"
    changes = {"crop__prompt": "what_is_this"}  # noqa: RUF012


class TestWhiteBackground(_Contract):
    changes = {"crop__background": "white", "crop__margin": 0.2}  # noqa: RUF012


class TestPromptBox(_Contract):
    kind = "blip"
    changes = {"crop__source": "box"}  # noqa: RUF012


class TestWholeImage(_Contract):
    kind = "blip"
    changes = {"crop__source": "image"}  # noqa: RUF012


class Recorder:
    """An image captioner that answers with the size and mean of what it is shown."""

    class architecture:  # noqa: N801
        answers = True

    def __init__(self):
        self.calls = []

    def caption(self, images, decoding, prompts=None):
        from baselines.sam_captioner.image_captioner import ImageCaption

        self.calls.append((list(images), prompts))
        return [ImageCaption(f" it is {i.width} x {i.height}. ".strip(), -1.0, ()) for i in images]


def shown(captioner, batch):
    """Return what a captioner shows its image captioner, and the predictions."""
    recorder = Recorder()
    del captioner.captioner
    captioner.captioner = recorder
    return recorder.calls, captioner.generate(batch, DECODING)


def test_the_caption_kept_is_that_of_the_best_of_three(make):
    """Captioning all candidates and keeping the best one's caption gives the same."""
    batch, captioner = toy_batch(), make("git")
    found = captioner.generate(batch, DECODING)
    features = captioner.frozen_features(batch)
    places = batch.image_index().tolist()
    for n, prediction in enumerate(found):
        image = batch.original_images[places[n]].numpy()
        boxes = features.mask_boxes_xyxy_NM4[n].long().tolist()
        pieces = [crops.cut(image, tuple(box)) for box in boxes]
        three = captioner.captioner.caption(pieces, DECODING)
        ious = features.ious_NM[n].tolist()
        best = three[ious.index(max(ious))]
        assert prediction.caption == best.text
        assert prediction.log_prob == pytest.approx(best.log_prob, abs=1e-5)
        assert prediction.predicted_ious == tuple(ious)
        assert len(ious) == 3


def given(batch, boxes_M4, ious_M):
    """Return a batch with the same made-up masks' boxes for every region."""
    count = batch.num_regions
    features = RegionFeatures(
        ious_NM=torch.tensor(ious_M).repeat(count, 1),
        image_index_N=batch.image_index(),
        num_images=2,
        mask_boxes_xyxy_NM4=torch.tensor(boxes_M4, dtype=torch.float32).repeat(count, 1, 1),
    )
    return replace(batch, features=features, pixel_values_B3HW=None)


BOXES = [[0, 0, 4, 6], [2, 2, 12, 22], [1, 1, 6, 9]]


@pytest.mark.parametrize(
    ("ious", "select", "size"),
    [
        ([0.1, 0.9, 0.5], "predicted_iou", (10, 20)),
        ([0.7, 0.2, 0.7], "predicted_iou", (4, 6)),  # the first on ties
        ([0.1, 0.9, 0.5], "first", (4, 6)),
    ],
)
def test_which_mask_is_kept(ious, select, size, make):
    batch = given(toy_batch(), BOXES, ious)
    calls, found = shown(make(eval__select=select), batch)
    assert [image.size for image in calls[0][0]] == [size] * 4
    assert found[0].caption == f"it is {size[0]} x {size[1]}."
    assert found[0].predicted_ious == pytest.approx(ious)


def test_features_that_come_with_the_batch_are_used_and_margins_widen_them(make):
    calls, _ = shown(make(crop__margin=0.5), given(toy_batch(), BOXES, [0.0, 1.0, 0.0]))
    # 10 x 20 at (2, 2): 5 and 10 px on each side, cut at the images' edges.
    assert [image.size for image in calls[0][0]] == [(17, 32)] * 4


def test_boxes_are_cut_out_of_the_original_image(make):
    batch = toy_batch()
    calls, found = shown(make(crop__source="box"), batch)
    sizes = [image.size for image in calls[0][0]]
    assert sizes == [(36, 44), (60, 20), (23, 18), (30, 60)]
    piece = np.asarray(calls[0][0][1])
    assert (piece == batch.original_images[0][10:30, 30:90].numpy()).all()
    assert found[0].predicted_ious == ()


def test_whole_images_are_captioned_once_each(make):
    batch = toy_batch()
    calls, found = shown(make(crop__source="image"), batch)
    assert [image.size for image in calls[0][0]] == [(96, 60), (40, 90)]
    assert [p.caption for p in found] == ["it is 96 x 60."] * 3 + ["it is 40 x 90."]


def test_white_stands_outside_the_mask(make):
    batch = toy_batch()
    plain, _ = shown(make(), batch)
    white, _ = shown(make(crop__background="white"), batch)
    captioner = make(crop__background="white")
    features = captioner.cutter.features(batch, with_masks=True)
    masks, outside = list(captioner.cutter.masks(batch, features)), 0
    for n, best in enumerate(captioner.cutter.chosen_masks(features.ious_NM)):
        left, top, right, bottom = features.mask_boxes_xyxy_NM4[n, best].long().tolist()
        inside = masks[n][best].numpy()[top:bottom, left:right]
        a, b = (
            np.asarray(calls[0][0][n])[: inside.shape[0], : inside.shape[1]]
            for calls in (plain, white)
        )
        assert (a[inside] == b[inside]).all()
        assert (b[~inside] == 255).all()
        outside += (~inside).sum()
    assert outside > 100


def test_the_question_is_asked_on_white_and_answered_on_the_plain_crop(make):
    batch = toy_batch()
    (asked, questions), (described, prompts) = shown(
        make("blip2", crop__prompt="what_is_this"), batch
    )[0]
    assert questions == [QUESTION] * 4
    plain, _ = shown(make("blip2"), batch)
    white, _ = shown(make("blip2", crop__background="white"), batch)
    same = lambda a, b: all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))  # noqa: E731
    assert same(asked, white[0][0])
    assert same(described, plain[0][0])
    assert not same(asked, described)
    sizes = [f"it is {image.width} x {image.height}" for image in asked]  # punctuation is gone
    assert prompts == [DESCRIBE.format(answer=size) for size in sizes]


def test_masks_reach_the_original_image_in_either_shape(make):
    """Boxes of a wide and of a high image lie in their own pixels, not in the model input's."""
    features = make().frozen_features(toy_batch())
    wide, high = features.mask_boxes_xyxy_NM4[:3], features.mask_boxes_xyxy_NM4[3:]
    assert wide[..., 2].max() <= 98
    assert wide[..., 3].max() <= 62
    assert high[..., 2].max() <= 42
    assert high[..., 3].max() <= 92
    assert high[..., 3].max() > 60


def test_only_shared_boxes_are_a_prefix(make):
    assert isinstance(make(), SharesPrefix)
    assert not isinstance(make(), TrainableCaptioner)
    for changes in ({"crop__source": "box"}, {"crop__background": "white"}):
        assert not isinstance(make(**changes), SharesPrefix)
    with pytest.raises(ValueError, match="share boxes around masks, not mixed"):
        make().frozen_features(toy_batch(), families=("mixed",))


def test_frozen_features_are_the_same_for_every_captioner(make):
    batch = toy_batch()
    found = [make(kind).frozen_features(batch, families=("mask_boxes",)) for kind in KINDS]
    for other in found[1:]:
        assert torch.equal(found[0].mask_boxes_xyxy_NM4, other.mask_boxes_xyxy_NM4)
        assert torch.equal(found[0].ious_NM, other.ious_NM)
    assert found[0].mask_logits_NMhw is None
    masks = make().frozen_features(batch, with_masks=True).mask_logits_NMhw
    assert masks.shape == (4, 3, 48, 48)


def test_nothing_has_a_gradient(make):
    captioner = make("blip2")
    captioner.generate(image_of(toy_batch(), 1), DECODING)
    assert not any(p.requires_grad for p in captioner.parameters())


def test_points_prompt_sam_but_give_no_box_to_cut(make):
    batch = toy_batch()
    centres = (batch.boxes_xyxy_input_BR4[..., :2] + batch.boxes_xyxy_input_BR4[..., 2:]) / 2
    points = replace(
        batch,
        boxes_xyxy_input_BR4=None,
        points_xy_input_BRP2=centres[:, :, None],
        point_labels_BRP=torch.ones(2, 3, 1, dtype=torch.long),
    )
    assert len(make(eval__prompt="point").generate(points, DECODING)) == 4
    with pytest.raises(InputError, match=r"eval.prompt: 'point' gives no box.*crop.source: mask"):
        make(crop__source="box", eval__prompt="point")


def test_a_question_needs_a_captioner_that_answers(make):
    with pytest.raises(InputError, match=r"suite.yaml: crop.prompt: .*use variant: sam_blip2"):
        make("git", crop__prompt="what_is_this")


@pytest.mark.parametrize(
    "changes",
    [
        {"crop__source": "box", "crop__background": "white"},
        {"crop__source": "image", "crop__prompt": "what_is_this"},
        {"crop__source": "image", "crop__margin": 0.1},
    ],
)
def test_settings_that_contradict_each_other(changes, cell_settings):
    with pytest.raises(ValueError, match=r"crop\.(source|margin)"):
        cell_settings(**changes)


def test_a_batch_without_original_images_is_refused(make):
    batch = replace(toy_batch(), original_images=None)
    with pytest.raises(ValueError, match="the batch has none"):
        make().generate(batch, DECODING)
    assert make().generate(without_regions(batch), DECODING) == []


def test_specs_are_light_and_load_what_they_name(registered, cell_settings, checkpoints):
    for kind in KINDS:
        spec = get_variant(f"sam_{kind}")
        assert (spec.trains, spec.needs_originals, spec.features) == (
            "never",
            True,
            ("mask_boxes",),
        )
        settings = cell_settings(baseline__weights=str(checkpoints(kind)))
        assert spec.load()(settings).captioner.architecture.model_type


def test_images_are_shown_in_rgb(make):
    batch = toy_batch()
    calls, _ = shown(make(crop__source="image"), batch)
    assert all(isinstance(image, Image.Image) and image.mode == "RGB" for image in calls[0][0])
