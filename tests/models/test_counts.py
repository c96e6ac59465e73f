"""Parameter counts of the paper's configurations, on the meta device: nothing is allocated."""

from __future__ import annotations

import pytest
import torch

from sca_bench.models.build import build_sca, load_frozen_parts
from sca_bench.settings import CellSettings

SCENES = {"dataset": "scenes", "num_images": 1, "first_seed": 0}


def paper(**changes):
    tree = {
        "text_decoder": {"weights": "random:gpt2-large"},
        "data": {"train": SCENES, "test": SCENES},
    }
    return CellSettings.model_validate({**tree, **changes})


def count(parameters):
    return sum(p.numel() for p in parameters)


@pytest.fixture(scope="module")
def parts():
    with torch.device("meta"):
        return load_frozen_parts(paper())


@pytest.mark.parametrize(
    ("layers", "mixer", "trainable"),
    [
        (2, 3_291_264, 3_637_632),
        (4, 6_450_304, 6_796_672),
        (8, 12_768_384, 13_114_752),
        (12, 19_086_464, 19_432_832),
        (24, 38_040_704, 38_387_072),
    ],
)
def test_trainable_parameters_by_depth(parts, layers, mixer, trainable):
    with torch.device("meta"):
        model = build_sca(paper(mixer={"num_layers": layers}), parts)
    assert count(model.text_mixer.parameters()) == mixer
    assert count(model.trainable_parameters().values()) == trainable
    assert count(p for p in model.parameters() if p.requires_grad) == trainable


def test_the_whole_main_model(parts):
    with torch.device("meta"):
        model = build_sca(paper(), parts)
    assert count(model.parameters()) == 1_434_553_520
    sam = model.region_encoder.sam
    assert count(sam.image_encoder.parameters()) == 637_026_048
    assert count(sam.prompt_encoder.parameters()) == 6_220
    assert count(sam.mask_decoder.transformer.parameters()) == 3_291_264
    assert count(model.caption_query_tokens.parameters()) == 2_048
    assert count(model.projection.parameters()) == 328_960
    assert count(model.task_tokens.parameters()) == 15_360
    assert count(model.text_decoder.parameters()) == 774_030_080


ROI = {"variant": "sca_roi_align"}


@pytest.mark.parametrize(
    ("changes", "trainable", "stages"),
    [
        ({}, 19_432_832, "text_mixer caption_query_tokens projection task_tokens"),
        (
            {"variant": "sca_split_mixer"},
            19_432_832,
            "text_mixer caption_query_tokens projection task_tokens",
        ),
        ({"variant": "sca_sam_query"}, 19_430_784, "text_mixer projection task_tokens"),
        (ROI, 344_320, "projection task_tokens"),
        ({**ROI, "prefix": {"projection": "mlp"}}, 3_623_680, "projection task_tokens"),
        (
            {"variant": "sca_mask_heads"},
            19_438_976,
            "text_mixer caption_query_tokens projection task_tokens",
        ),
        (
            {"variant": "sca_mask_heads", "prefix": {"num_task_tokens": 0}},
            19_423_616,
            "text_mixer caption_query_tokens projection",
        ),
        (
            {"variant": "sca_sam_query_v1", "prefix": {"num_task_tokens": 0}},
            19_415_424,
            "text_mixer projection",
        ),
        (
            {"text_decoder": {"weights": "random:gpt2-large", "trainable": True}},
            19_432_832 + 774_030_080,
            "text_mixer caption_query_tokens projection task_tokens text_decoder",
        ),
    ],
)
def test_trainable_parameters_by_design(parts, changes, trainable, stages):
    with torch.device("meta"):
        model = build_sca(paper(**changes), parts)
    assert count(model.trainable_parameters().values()) == trainable
    assert set(model.trained_stages()) == set(stages.split())


@pytest.mark.parametrize("variant", ["sca_split_mixer", "sca_mask_heads", "sca_sam_query"])
def test_as_published_has_the_same_parameters(parts, variant):
    changes = {"variant": variant, "eval": {"select": "first"}}
    with torch.device("meta"):
        shapes = [
            {n: p.shape for n, p in build_sca(settings, parts).trainable_parameters().items()}
            for settings in (paper(**changes), paper(**changes, mixer={"as_published": True}))
        ]
    assert shapes[0] == shapes[1]


def test_finetuning_the_small_decoder():
    decoder = {"weights": "random:gpt2", "trainable": True}
    with torch.device("meta"):
        small = build_sca(paper(sam={"size": "vit_h"}, text_decoder=decoder))
    trained = {stage: count(part.parameters()) for stage, part in small.trained_stages().items()}
    assert trained["text_decoder"] == 124_439_808
    assert trained["projection"] == 257 * 768
    assert trained["task_tokens"] == 12 * 768


@pytest.mark.parametrize(
    ("size", "total"), [("vit_b", 93_735_472), ("vit_l", 312_342_832), ("vit_h", 641_090_608)]
)
def test_sam_sizes(size, total):
    with torch.device("meta"):
        sam = load_frozen_parts(
            paper(sam={"size": size}, text_decoder={"weights": "random:gpt2"})
        ).sam
    assert count(sam.parameters()) == total


@pytest.mark.parametrize(
    ("name", "total"), [("gpt2", 124_439_808), ("open_llama_3b_v2", 3_426_473_600)]
)
def test_language_models(name, total):
    with torch.device("meta"):
        parts = load_frozen_parts(
            paper(sam={"size": "tiny"}, text_decoder={"weights": f"random:{name}"})
        )
    assert count(parts.text_decoder.parameters()) == total
