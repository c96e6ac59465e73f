"""From settings to data sets and loaders: prompts, mixtures, jitter, and what a cache can keep."""

import json
from dataclasses import replace
from itertools import islice

import pytest
import torch
from safetensors.torch import load_file

from sca_bench.engine import loaders
from sca_bench.engine.job import Outcome
from sca_bench.engine.worker.prepare import prepare
from sca_bench.errors import InputError, at
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.study.runs.store import Store

SCENES = {"dataset": "scenes", "num_images": 4}
MIXTURE = {
    "dataset": "mixture",
    "parts": [
        {"weight": 3, "split": {**SCENES, "first_seed": 0}},
        {
            "weight": 1,
            "split": {
                **SCENES,
                "first_seed": 20,
                "captions": "colour_shape",
                "task": "recognition",
            },
        },
    ],
}
JITTER = {"data.lsj_scale": [0.5, 2.0], "data.flip": "always"}


@pytest.fixture
def loader(cell_settings):
    """Return a function that makes the training loader of some settings."""

    def build(changes, start=0):
        cell = CellIdentity(cell_settings(changes), {})
        sets = loaders.load_splits(cell)
        dataset = loaders.make_dataset(sets, "train", cell, image_size=96, seed=3, with_pixels=True)
        return loaders.train_loader(dataset, cell.settings, seed=3, start=start)

    return build


@pytest.mark.parametrize("changes", [{}, JITTER, {"data.lsj_as_published": True, **JITTER}])
@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_equals_not_resuming(loader, changes, workers):
    changes = {"data.train": MIXTURE, "runtime.loader_workers": workers, **changes}
    whole = list(islice(loader(changes), 6))
    resumed = list(islice(loader(changes, start=4), 2))
    for one, other in zip(whole[4:], resumed, strict=True):
        assert one.image_ids == other.image_ids
        assert one.captions == other.captions
        assert one.tasks == other.tasks
        assert torch.equal(one.raw_pixels.values_B3SS, other.raw_pixels.values_B3SS)
        assert torch.equal(one.boxes_xyxy_input_BR4, other.boxes_xyxy_input_BR4)


def test_a_mixture_brings_both_tasks(loader):
    batches = list(islice(loader({"data.train": MIXTURE}), 30))
    tasks = {
        (image_id.partition("/")[0], task)
        for batch in batches
        for image_id, task in zip(batch.image_ids, batch.tasks, strict=True)
    }
    assert tasks == {("scenes", "caption"), ("scenes-2", "recognition")}


@pytest.mark.parametrize(
    ("train", "captioned"),
    [("box", "sam_mask_point"), ("random_point", "mask_point"), ("point", "box")],
)
@pytest.mark.parametrize("split", ["test", "val"])
def test_training_and_captioning_have_their_own_prompts(cell_settings, train, captioned, split):
    changes = {"train.prompt": train, "eval.prompt": captioned, "eval.prompt_seed": 7}
    cell = CellIdentity(cell_settings({**changes, "eval.split": split}), {})
    sets = loaders.load_splits(cell)
    assert list(sets) == ["train", "val", "captioned"]
    assert len(sets["captioned"].images) == {"test": 3, "val": 2}[split]
    for name in sets:
        dataset = loaders.make_dataset(sets, name, cell, image_size=96, seed=0, with_pixels=False)
        assert dataset.prompt == (captioned if name == "captioned" else train)
        assert dataset.prompt_seed == 7
    (batch,) = islice(loaders.eval_loader(dataset, cell.settings), 1)
    assert batch.mask_point_seed == (7 if captioned == "sam_mask_point" else None)


def test_points_in_masks_need_masks_before_anything_starts(group_job, tmp_path):
    regions, images = tmp_path / "regions.json", tmp_path / "image_data.json"
    regions.write_text(
        '[{"id": 1, "regions": [{"region_id": 1, "image_id": 1, "phrase": "a",'
        ' "x": 0, "y": 0, "width": 4, "height": 4}]}]'
    )
    images.write_text('[{"image_id": 1, "width": 8, "height": 8, "url": "http://h/VG/1.jpg"}]')
    (tmp_path / "1.jpg").write_bytes(b"never decoded")
    test = {
        "dataset": "visual_genome",
        "images": str(tmp_path),
        "regions": str(regions),
        "image_data": str(images),
    }
    job = group_job({"data.test": test, "eval.prompt": "mask_point", "features.cache": False})
    with pytest.raises(InputError, match=r"eval.prompt: mask_point needs a mask"):
        prepare(job, Outcome(), tmp_path / "progress")


def test_an_image_in_a_part_and_in_the_test_split_is_refused(group_job, tmp_path):
    shared = {**SCENES, "first_seed": 100}
    parts = [{"weight": 1, "split": shared}, MIXTURE["parts"][1]]
    job = group_job({"data.train": {"dataset": "mixture", "parts": parts}})
    line = r"^test: data.train: shares 3 images with data.test"
    with pytest.raises(InputError, match=line), at(job.where):
        prepare(job, Outcome(), tmp_path / "progress")
    stage = replace(job, cells=[replace(job.cells[0], stage="names")])
    outcome = Outcome()
    prepare(stage, outcome, tmp_path / "progress")
    (note,) = [line for line in outcome.messages if line.startswith("note: ")]
    assert note.startswith(
        "note: stages.names.data.train shares 3 images with data.test, the first"
    )


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"data.val": {**SCENES, "first_seed": 1}},
            r"data\.val: shares \d images with data\.train",
        ),
        (
            {"data.val": {**SCENES, "first_seed": 101}},
            r"data\.val: shares \d images with data\.test",
        ),
    ],
)
def test_an_image_of_another_split_is_not_validated_on(group_job, tmp_path, changes, line):
    with pytest.raises(InputError, match=line):
        prepare(group_job(changes), Outcome(), tmp_path / "progress")


def trained(job):
    (cell,) = job.cells
    return load_file(Store(job.runs_dir).run_dir(cell.cell_id, cell.seed) / "trainable.safetensors")


def counters(job):
    (cell,) = job.cells
    return Store(job.runs_dir).record(cell.cell_id, cell.seed).counters


def test_jittered_training_beside_a_cache_moves_no_number(group_job, run_group, tmp_path):
    """Only validation and test features are kept; training images are encoded as they come."""
    changes = {**JITTER, "data.train": MIXTURE, "train.prompt": "random_point"}
    cached = group_job(changes)
    direct = group_job({**changes, "features.cache": False}, runs=tmp_path / "direct")
    for job in (cached, direct):
        assert not run_group(job).failed
    for name, tensor in trained(cached).items():
        torch.testing.assert_close(tensor, trained(direct)[name], atol=1e-5, rtol=1e-5)
    assert counters(cached)["encoder_forwards"] == 6 * 2
    assert counters(direct)["encoder_forwards"] == 6 * 2 + 2 * 2 + 3
    abouts = (tmp_path / "runs" / "features").glob("*/about.json")
    families = [json.loads(path.read_text())["family"] for path in abouts]
    assert sorted(families) == ["images", "mixed", "mixed"]


def test_random_points_can_be_cached(group_job, run_group, tmp_path):
    changes = {"train.prompt": "random_point", "eval.prompt": "mask_point", "data.flip": "always"}
    cached = group_job(changes)
    direct = group_job({**changes, "features.cache": False}, runs=tmp_path / "direct")
    for job in (cached, direct):
        assert not run_group(job).failed
    for name, tensor in trained(cached).items():
        torch.testing.assert_close(tensor, trained(direct)[name], atol=1e-5, rtol=1e-5)
    assert counters(cached)["encoder_forwards"] == 0
