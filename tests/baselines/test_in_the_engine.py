"""Baselines through the engine: groups share SAM, caches move no number, nothing is trained."""

import json

import pytest
from PIL import Image
from safetensors.numpy import load_file
from tiny_captioners import KINDS

from sca_bench import scene_grammar
from sca_bench.data.load import load_split
from sca_bench.data.readers.scenes import render_scene
from sca_bench.digests import file_sha256
from sca_bench.engine.features.shards import ShardStore
from sca_bench.engine.finished.caption import caption_region
from sca_bench.engine.finished.verify import verify_run
from sca_bench.engine.job import CellJob, GroupJob, Outcome, new_attempt
from sca_bench.errors import InputError
from sca_bench.reading import read_jsonl
from sca_bench.study.keys.cell import Cell, CellIdentity
from sca_bench.study.keys.fingerprint import Fingerprints
from sca_bench.study.plan.plan import Job
from sca_bench.study.runs.store import PREDICTIONS, Store


def identity(settings):
    return CellIdentity(settings, Fingerprints().inputs(settings))


@pytest.fixture
def cell(cell_settings, checkpoints, registered):
    """Return a function that makes the settings of a baseline's cell."""

    def made(kind="git", **changes):
        base = {
            "variant": f"sam_{kind}",
            "baseline__weights": str(checkpoints(kind)),
            "eval__max_new_tokens": 5,
            "runtime__device": "cpu",
            "runtime__eval_regions": 4,
        }
        return cell_settings(**(base | changes))

    return made


@pytest.fixture
def run(tmp_path, run_group):
    """Prepare and run cells as one group; return store, outcome and cell ids."""

    def made(*cells, runs="runs", splits=("captioned",)):
        jobs = []
        for settings in cells:
            found = identity(settings)
            key = found.cell_key
            (tmp_path / runs / "cells" / key / "seed-0").mkdir(parents=True, exist_ok=True)
            jobs.append(CellJob(key, key, 0, found))
        folder = str(tmp_path / runs)
        attempt = new_attempt("test")
        job = GroupJob(folder, jobs, "suite.yaml", attempt, 1, "cpu", "pytest", splits)
        assert not run_group(job).failed
        return Store(folder), [job.cell_id for job in jobs]

    return made


def predictions(store, cell_id):
    return read_jsonl(store.run_dir(cell_id, 0) / PREDICTIONS)


def captions(store, cell_id):
    keep = ("region_id", "caption", "log_prob", "predicted_ious")
    return [{key: row[key] for key in keep} for row in predictions(store, cell_id)]


def test_a_group_equals_its_cells_alone_with_and_without_a_cache(cell, run):
    cells = [cell(kind) for kind in KINDS]
    store, ids = run(*cells)
    for settings, cell_id in zip(cells, ids, strict=True):
        together = captions(store, cell_id)
        assert len(together) > 4
        alone, (same,) = run(settings, runs=f"alone-{cell_id}")
        assert (same, captions(alone, same)) == (cell_id, together)
        bare = settings.model_copy(
            update={"features": settings.features.model_copy(update={"cache": False})}
        )
        uncached, (same,) = run(bare, runs=f"uncached-{cell_id}")
        assert (same, captions(uncached, same)) == (cell_id, together)


def test_a_group_runs_sam_once_an_image(cell, run):
    store, ids = run(*(cell(kind, features__cache=False) for kind in KINDS))
    for cell_id in ids:
        counters = store.record(cell_id, 0).counters
        assert counters["encoder_forwards"] == 2
        assert counters["train_steps"] == 0


def test_what_is_kept_is_boxes_and_ious_and_nothing_of_training_images(cell, run):
    store, _ = run(cell("git"))
    kept = {
        json.loads(path.read_text())["family"]: ShardStore(path.parent)
        for path in (store.root / "features").glob("*/about.json")
    }
    assert set(kept) == {"images", "mask_boxes"}
    assert len(kept["images"]) == 2
    (shard,) = kept["mask_boxes"].folder.glob("*.safetensors")
    assert set(load_file(shard)) == {"mask_boxes_xyxy_NM4", "ious_NM"}


def test_half_precision_features_keep_whole_pixels(cell, run):
    (full, (a,)), (half, (b,)) = (
        run(cell("git", features__dtype=dtype), runs=dtype) for dtype in ("float32", "float16")
    )
    pairs = zip(captions(full, a), captions(half, b), strict=True)
    for one, other in pairs:
        assert (one["caption"], one["log_prob"]) == (other["caption"], other["log_prob"])
        assert one["predicted_ious"] == pytest.approx(other["predicted_ious"], abs=1e-3)


@pytest.mark.parametrize("crop", ["mask", "box", "image"])
def test_controls_differ_and_blank_images_say_one_thing(crop, cell, run):
    real, (a,) = run(cell("blip", crop__source=crop), runs="real")
    blank, (b,) = run(cell("blip", crop__source=crop, data__blank_images=True), runs="blank")
    assert a != b
    said = {row["caption"] for row in captions(blank, b)}
    assert said != {row["caption"] for row in captions(real, a)}
    if crop == "image":
        assert len(said) == 1


def test_retrieval_answers_with_training_captions(cell, run):
    settings = cell("git", variant="retrieval")
    store, (cell_id,) = run(settings, splits=("train", "captioned"))
    known = {c for r in load_split(settings.data.train).regions for c in r.references}
    said = {row["caption"] for row in predictions(store, cell_id)}
    assert said
    assert said <= known
    bare = settings.model_copy(
        update={"features": settings.features.model_copy(update={"cache": False})}
    )
    uncached, (same,) = run(bare, runs="uncached", splits=("train", "captioned"))
    assert (same, captions(uncached, same)) == (cell_id, captions(store, cell_id))


@pytest.mark.parametrize("variant", ["sam_git", "sam_blip", "retrieval", "label"])
def test_finished_runs_verify(variant, cell, run):
    kind = variant.removeprefix("sam_") if variant.startswith("sam_") else "git"
    store, (cell_id,) = run(cell(kind, variant=variant), splits=("train", "captioned"))
    found = list(verify_run(store, cell_id, 4))
    assert [check.line() for check in found if not check.passed] == []
    assert found[-1].name == "captions"


def test_a_finished_run_captions_one_image(cell, run, tmp_path):
    store, (cell_id,) = run(cell("git"))
    image = render_scene(5)
    Image.fromarray(image.image).save(tmp_path / "scene.png")
    box = image.regions[0].box_xyxy
    found = caption_region(store, cell_id, tmp_path / "scene.png", box, None, tmp_path / "out.png")
    assert found.caption
    assert len(found.predicted_ious) == 3
    assert (tmp_path / "out.png").exists()
    store, (cell_id,) = run(
        cell("git", variant="retrieval"), splits=("train", "captioned"), runs="b"
    )
    with pytest.raises(InputError, match="learns from a training split"):
        caption_region(store, cell_id, tmp_path / "scene.png", box, None, tmp_path / "out.png")


def test_retrieval_learns_the_captions_that_a_control_deals(cell, run):
    train = cell().data.train.model_dump()
    changes = {"variant": "retrieval", "data__test": {**train, "first_seed": 0}}
    changes["data__train"] = {**train, "first_seed": 20}
    right, (a,) = run(cell(**changes), runs="right", splits=("train", "captioned"))
    changes["data__permute_captions"] = True
    dealt, (b,) = run(cell(**changes), runs="dealt", splits=("train", "captioned"))
    ways = [[row["caption"] for row in captions(*found)] for found in ((right, a), (dealt, b))]
    assert ways[0] != ways[1]


def test_labels(cell, run):
    store, (cell_id,) = run(cell("git", variant="label"))
    rows = predictions(store, cell_id)
    assert {row["caption"] for row in rows} <= set(scene_grammar.SHAPES)
    assert all(row["caption"] == row["slots"]["shape"] for row in rows)


def test_keys(cell):
    def git(**changes):
        return identity(cell("git", **changes))

    plain, blip = git(), identity(cell("blip"))
    assert plain.cell_key != blip.cell_key
    assert plain.prefix_key == blip.prefix_key  # one group
    assert git(text_decoder__weights="random:gpt2").cell_key == plain.cell_key  # not read
    assert git(eval__num_beams=3).cell_key != plain.cell_key
    for change in ({"features__dtype": "float16"}, {"train__precision": "bf16"}):
        assert git(**change).cell_key != plain.cell_key
    assert git(train__steps=3).cell_key == plain.cell_key
    margin, white = git(crop__margin=0.1), git(crop__background="white")
    assert len({plain.cell_key, margin.cell_key, white.cell_key}) == 3
    assert margin.prefix_key != plain.prefix_key
    bank = plain.features_key("captioned", "mask_boxes")
    assert margin.features_key("captioned", "mask_boxes") == bank  # SAM runs once
    sca = {"variant": "sca"}
    assert git(**sca).cell_key == git(**sca, crop__margin=0.1).cell_key


def test_only_the_captioned_splits_are_prepared(cell):
    def splits(**changes):
        return Job(Cell("one", {}, identity(cell("git", **changes))), 0, "to run").splits

    assert splits() == ("captioned",)
    assert splits(eval__also_train=True) == ("train", "captioned")
    assert splits(variant="retrieval") == ("train", "captioned")
    assert splits(variant="sca") == ("train", "captioned")


def test_captions_handed_over_come_back_as_they_are(cell_settings, registered, run, tmp_path):
    first, (most_frequent,) = run(cell_settings(variant="most_frequent"))
    rows = captions(first, most_frequent)
    for row, word in zip(rows, ("one", "two"), strict=False):
        row["caption"] = word
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = cell_settings(variant="predictions", baseline__weights=str(file))
    store, (cell_id,) = run(settings, runs="other")
    assert captions(store, cell_id) == rows
    record = store.record(cell_id, 0)
    assert record.inputs["baseline.weights"] == file_sha256(file)


def test_sam_sees_each_image_once_however_many_kinds_of_captioner_read_it(
    cell, cell_settings, tmp_path, monkeypatch
):
    from sca_bench.engine.worker.prepare import prepare
    from sca_bench.models.sam.vit import SamImageEncoder
    from sca_bench.study.plan.plan import Group
    from sca_bench.study.plan.preparations import preparations

    kinds = [
        cell_settings(variant="sca", mixer__num_heads=4),
        cell_settings(variant="sca_roi_align"),
        cell_settings(variant="retrieval"),
        cell("git"),
        cell("blip", eval__num_beams=2),
    ]
    groups = []
    for settings in kinds:
        found = Cell("one", {}, identity(settings))
        groups.append(Group(found.cell_id, 0, (Job(found, 0, "to run"),)))
    planned = {splits: [j.cell.cell_id for j in g.jobs] for g, splits in preparations(groups)}
    ids = [group.key for group in groups]
    assert planned == {("train",): ids[:3], ("captioned",): ids}

    seen = []
    whole = SamImageEncoder.forward
    monkeypatch.setattr(
        SamImageEncoder, "forward", lambda self, x: seen.append(len(x)) or whole(self, x)
    )
    for group, splits in preparations(groups):
        jobs = [CellJob(j.cell.cell_id, "", 0, j.cell.identity) for j in group.jobs]
        job = GroupJob(str(tmp_path / "runs"), jobs, "s", new_attempt("t"), 1, "cpu", "", splits)
        prepare(job, Outcome(), tmp_path / "progress")
    images = sum(getattr(kinds[0].data, name).num_images for name in ("train", "test"))
    assert sum(seen) == images
