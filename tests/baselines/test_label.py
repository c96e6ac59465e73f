from dataclasses import replace

import pytest

from baselines.label.captioner import build
from sca_bench.captioner import Decoding
from sca_bench.contract import CaptionerContract, toy_batch
from sca_bench.errors import InputError, at

SUBJECT = "a small striped red cross left of a blue circle"


class TestContract(CaptionerContract):
    looks = False

    @pytest.fixture(autouse=True)
    def _made(self, cell_settings):
        self.settings = cell_settings()

    def captioner(self):
        return build(self.settings)

    def batch(self, seed=0):
        return replace(toy_batch(seed=seed), captions=[SUBJECT] * 4)

    def test_the_answer_does_not_depend_on_what_stands_beside_it(self):
        whole = self.captioner().generate(self.batch(), Decoding())
        one = replace(self.batch(), region_ids=["wide-0"], captions=[SUBJECT])
        assert self.captioner().generate(one, Decoding()) == whole[:1]

    def test_no_region_no_answer(self):
        empty = replace(self.batch(), region_ids=[], captions=[])
        assert self.captioner().generate(empty, Decoding()) == []


def test_the_shape_of_a_rendered_object(cell_settings):
    batch = replace(toy_batch(), captions=[SUBJECT, "cross", "a large blue circle", "?"])
    found = build(cell_settings()).generate(batch, Decoding())
    assert [p.caption for p in found] == ["cross", "cross", "circle", ""]


def test_the_phrase_itself_where_it_is_a_class(cell_settings):
    split = {"dataset": "coco_instances", "images": "x", "annotations": "y"}
    batch = replace(toy_batch(), captions=["dog", "traffic light", "cat", "dog"])
    found = build(cell_settings(data__test=split)).generate(batch, Decoding())
    assert [p.caption for p in found] == batch.captions


def test_captions_have_no_class(cell_settings):
    split = {"dataset": "visual_genome", "images": "x", "regions": "y", "image_data": "z"}
    line = r"suite.yaml: data.test.dataset: visual_genome has capt"
    with pytest.raises(InputError, match=line), at("suite.yaml"):
        build(cell_settings(data__test=split))
    with pytest.raises(ValueError, match="and there is none"):
        build(cell_settings()).generate(toy_batch(), Decoding())
