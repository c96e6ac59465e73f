"""Retrieval: nearest by cosine, first on ties, over features that the engine hands over."""

from dataclasses import replace

import pytest
import torch

from baselines.retrieval.captioner import NearestRegion, box_tokens, build, mask_token
from sca_bench.batch import RegionFeatures
from sca_bench.captioner import Decoding, FitsFeatures, FitsOnce
from sca_bench.contract import CaptionerContract, toy_batch
from sca_bench.errors import InputError, at
from sca_bench.models.build import load_sam_parts

DECODING = Decoding()


def with_captions(batch):
    return replace(batch, captions=["left", "right", "below", "high"])


@pytest.fixture(scope="module")
def parts(cell_settings):
    return load_sam_parts(cell_settings())


@pytest.fixture
def make(parts, cell_settings):
    def made(**changes):
        with at("suite.yaml"):
            return build(cell_settings(**changes), parts)

    return made


@pytest.mark.parametrize("descriptor", ["mask_token", "box_tokens"])
class TestContract(CaptionerContract):
    @pytest.fixture(autouse=True)
    def _made(self, make, descriptor):
        self.make, self.descriptor = make, descriptor

    def captioner(self):
        captioner = self.make(baseline__size=self.descriptor)
        captioner.fit_features([with_captions(toy_batch(seed=s)) for s in (0, 1)])
        return captioner

    def test_the_pixels_matter(self):
        captioner = self.make(baseline__size=self.descriptor)
        vectors = [captioner._vectors(captioner.frozen_features(toy_batch(seed=s))) for s in (0, 1)]
        assert not torch.allclose(*vectors)

    def broken(self):
        yield lambda: self.make(baseline__size="mask_tokens")
        yield lambda: self.make(baseline__size="box_tokens", eval__prompt="point")


def features(tokens_NC, ious_NM=None):
    """Return features whose mask tokens are these, for the second of three candidates."""
    tokens_NC = torch.tensor(tokens_NC)
    count = len(tokens_NC)
    tokens_NTC = torch.zeros(count, 5, tokens_NC.shape[1])
    tokens_NTC[:, 3] = tokens_NC
    ious = torch.tensor([[0.1, 0.9, 0.2]] * count) if ious_NM is None else torch.tensor(ious_NM)
    return RegionFeatures(ious, torch.zeros(count, dtype=torch.long), 2, tokens_NTC=tokens_NTC)


def test_the_nearest_by_angle_answers_and_the_first_on_ties(make, monkeypatch):
    captioner = make()
    monkeypatch.setattr("baselines.retrieval.captioner._ROWS_AT_A_TIME", 3)
    known = [[1.0, 0.0], [9.0, 9.0], [2.0, 0.0], [0.0, 3.0], [0.0, -1.0], [5.0, 5.0]]
    batch = toy_batch()
    train = [
        replace(
            batch, features=features(known[:4]), captions=["east", "north-east", "far", "north"]
        ),
        replace(batch, features=features(known[4:]), captions=["south", "late"]),
    ]
    captioner.fit_features(train)
    asked = replace(batch, features=features([[3.0, 0.1], [0.1, 0.1], [0.0, 7.0], [0.1, -4.0]]))
    found = captioner.generate(asked, DECODING)
    assert [p.caption for p in found] == ["east", "north-east", "north", "south"]
    assert found[0].predicted_ious == pytest.approx((0.1, 0.9, 0.2))


def test_the_token_is_that_of_the_best_mask():
    tokens_NTC = torch.arange(15.0).reshape(1, 5, 3).repeat(3, 1, 1)
    ious = torch.tensor([[0.9, 0.1, 0.2], [0.1, 0.2, 0.9], [0.5, 0.5, 0.1]])
    found = RegionFeatures(ious, torch.zeros(3), 1, tokens_NTC=tokens_NTC)
    assert mask_token(found, 8)[:, 0].tolist() == [6.0, 12.0, 6.0]
    single = RegionFeatures(torch.ones(1, 1), torch.zeros(1), 1, 0, tokens_NTC=tokens_NTC[:1])
    assert mask_token(single, 8)[0, 0] == 3.0


def test_image_tokens_count_by_how_much_the_box_covers_them():
    tokens_NSC = torch.tensor([[[1.0], [2.0], [4.0], [8.0]]]).repeat(2, 1, 1)
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [2.0, 0.0, 6.0, 8.0]])  # 2 x 2 cells of 4 px
    found = RegionFeatures(
        torch.ones(2, 3),
        torch.zeros(2),
        1,
        boxes_xyxy_input_N4=boxes,
        image_tokens_NSC=tokens_NSC,
        grid_hw=(2, 2),
    )
    assert box_tokens(found, 8)[:, 0].tolist() == [1.0, (1 + 2 + 4 + 8) / 4]


def test_it_finds_a_training_region_again(make):
    captioner, batch = make(), with_captions(toy_batch())
    captioner.fit_features([batch])
    assert [p.caption for p in captioner.generate(batch, DECODING)] == batch.captions


def test_protocols_and_what_cannot_be_learnt_from(make):
    captioner = make()
    assert isinstance(captioner, NearestRegion)
    assert isinstance(captioner, FitsFeatures)
    assert not isinstance(captioner, FitsOnce)
    with pytest.raises(ValueError, match="need captions"):
        captioner.fit_features([toy_batch()])
    with pytest.raises(ValueError, match="no training region"):
        captioner.fit_features([])
    with pytest.raises(InputError, match=r"baseline.size.*did you mean box_tokens"):
        make(baseline__size="box_token")
