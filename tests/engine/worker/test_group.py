"""Cells in a group: what they share, keep and write; the promises are in test_lockstep_bars.py."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sca_bench.engine import loaders
from sca_bench.engine.job import GroupJob, Outcome
from sca_bench.engine.worker import group_run, hooks
from sca_bench.engine.worker.group_run import GroupRun
from sca_bench.engine.worker.prepare import prepare
from sca_bench.engine.worker.rng import RngStream
from sca_bench.metrics.rows import read_rows
from sca_bench.models.sca import ScaCaptioner
from sca_bench.reading import read_jsonl
from sca_bench.settings import CellSettings
from sca_bench.study.keys.cell import SPLITS
from sca_bench.study.runs.store import PREDICTIONS, Store

DEPTHS = ({"mixer.num_layers": 1}, {"mixer.num_layers": 2}, {"train.learning_rate": 0.003})


def trained(job, index=0):
    cell = job.cells[index]
    return load_file(Store(job.runs_dir).run_dir(cell.cell_id, cell.seed) / "trainable.safetensors")


def captions(job, index=0):
    cell = job.cells[index]
    path = Store(job.runs_dir).run_dir(cell.cell_id, cell.seed) / PREDICTIONS
    return [row.caption for row in read_rows(path)]


def assert_equal(one, two):
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, two[name]), name


def test_a_cell_in_lockstep_equals_the_cell_alone(group_job, run_group, tmp_path):
    """Whatever its depth, rate, loss and warm-up are, and those of the cells beside it."""
    cells = (*DEPTHS, {"train.as_published": ["loss", "warmup"]})
    together = group_job(*cells)
    assert len({cell.identity.prefix_key for cell in together.cells}) == 1
    assert not run_group(together).failed
    log = Store(together.runs_dir).log(together.cells[-1].cell_id, 0)
    assert next(row["lr"] for row in log if row["step"] == 1) == 0
    for index, change in enumerate(cells):
        alone = group_job(change, runs=tmp_path / f"alone{index}")
        run_group(alone)
        assert_equal(trained(together, index), trained(alone))
        assert captions(together, index) == captions(alone)


PUBLISHED = tuple(
    {"variant": variant, "mixer.as_published": True, "eval.select": "first"}
    for variant in ("sca_sam_query", "sca_sam_query_v1", "sca_mask_heads", "sca_split_mixer")
)


@pytest.mark.parametrize("cache", ["all", "encoder", "off"])
def test_published_variants_in_lockstep_equal_each_alone(group_job, run_group, tmp_path, cache):
    """One frozen prefix for designs that read different features of it; dropout is on."""
    cells = [{**cell, "features.cache": cache} for cell in PUBLISHED]
    together = group_job(*cells)
    keys = {cell.identity.prefix_key for cell in together.cells}
    assert len(keys) == 1
    assert not run_group(together).failed
    losses = set()
    for index, change in enumerate(cells):
        alone = group_job(change, runs=tmp_path / f"alone{index}")
        assert not run_group(alone).failed
        assert_equal(trained(together, index), trained(alone))
        assert captions(together, index) == captions(alone)
        rows = Store(alone.runs_dir).log(alone.cells[0].cell_id, 0)
        losses.add(tuple(row["loss"] for row in rows if "loss" in row))
    assert len(losses) == len(cells)
    store = Store(together.runs_dir)
    counters = [store.record(cell.cell_id, 0).counters for cell in together.cells]
    assert {c["encoder_forwards"] for c in counters} == {(6 * 2 + 2 * 2 + 3) * (cache == "off")}
    assert {c["sam_mixer_forwards"] > 0 for c in counters} == {cache != "all"}


def test_a_suite_of_the_main_model_keeps_what_the_main_model_reads(group_job, run_group, tmp_path):
    def kept(runs):
        abouts = (json.loads(p.read_text()) for p in (runs / "features").glob("*/about.json"))
        return sorted(f"{about['family']} {about['split']}" for about in abouts)

    run_group(group_job(*DEPTHS, runs=tmp_path / "main"))
    mixed = ["mixed test", "mixed train", "mixed val"]
    assert kept(tmp_path / "main") == ["images any", *mixed]
    prompts = ["prompts test", "prompts train", "prompts val"]
    roi = {"variant": "sca_roi_align"}
    outcome = run_group(group_job(DEPTHS[0], roi, runs=tmp_path / "main"))
    assert kept(tmp_path / "main") == ["images any", *mixed, *prompts]
    assert outcome.counters["encoder_forwards"] == 0  # what was there is used again
    run_group(group_job(roi, runs=tmp_path / "roi"))
    assert kept(tmp_path / "roi") == ["images any", *prompts]


def test_jittered_training_images_are_computed_as_they_come(group_job, run_group):
    names = ("sca", "sca_split_mixer")
    job = group_job(*({"variant": name, "data.lsj_scale": [0.5, 1.5]} for name in names))
    assert not run_group(job).failed
    identity, families = job.cells[0].identity, ("mixed", "prompts", "images")
    assert identity.store_keys("train", families) == {}
    splits = ("val", "captioned")
    keys = {key for split in splits for key in identity.store_keys(split, families).values()}
    abouts = (Path(job.runs_dir) / "features").glob("*/about.json")
    assert {path.parent.name for path in abouts} == keys
    assert len(keys) == 5  # two families of two splits, and embeddings
    counters = Store(job.runs_dir).record(job.cells[0].cell_id, 0).counters
    assert counters["encoder_forwards"] == 6 * 2


def test_only_a_split_that_is_kept_is_captioned_as_memory_allows(group_job, run_group, monkeypatch):
    """An image's encoder takes more memory than its regions."""
    monkeypatch.setattr(group_run, "regions_at_a_time", lambda *_, kept: 512 if kept else 64)
    evaluated, inner = {}, loaders.eval_loader

    def eval_loader(dataset, settings, regions, **more):
        evaluated[next(iter(dataset.region_set.images))] = regions
        return inner(dataset, settings, regions, **more)

    monkeypatch.setattr(loaders, "eval_loader", eval_loader)
    run = {"train.steps": 0, "eval.also_train": True, "data.lsj_scale": [0.5, 1.5]}
    job = group_job(run)
    assert not run_group(job).failed
    sets = loaders.load_splits(job.cells[0].identity)
    first = {split: next(iter(sets[split].images)) for split in ("train", "captioned")}
    assert (evaluated[first["train"]], evaluated[first["captioned"]]) == (64, 512)
    record = Store(job.runs_dir).record(job.cells[0].cell_id, 0)
    assert record.provenance["machine"]["eval_regions"] == 512
    monkeypatch.setattr(group_run, "needs_pixels", lambda bank, views: True)  # some were evicted
    evaluated.clear()
    assert not run_group(group_job({**run, "mixer.num_layers": 2})).failed
    assert set(evaluated.values()) == {64}


def test_a_job_is_plain_json_that_is_parsed_once(group_job, tmp_path, monkeypatch):
    job, path = group_job(*DEPTHS), tmp_path / "job.json"
    job.save(path)
    cells = json.loads(path.read_text())["cells"]
    assert [cell["settings"] for cell in cells] == [
        cell.settings.model_dump(mode="json") for cell in job.cells
    ]
    parsed = []
    whole = CellSettings.model_validate
    monkeypatch.setattr(
        CellSettings, "model_validate", lambda content: parsed.append(content) or whole(content)
    )
    loaded = GroupJob.load(path)
    assert loaded == job
    for one, other in zip(loaded.cells, job.cells, strict=True):
        for split in SPLITS:
            keys = one.identity.store_keys(split, one.identity.families)
            assert keys == other.identity.store_keys(split, other.identity.families)
        assert one.identity.prefix_key == other.identity.prefix_key
        assert one.identity.cell_key == one.cell_id
    assert len(parsed) == len(DEPTHS)


def test_cached_features_move_no_number(group_job, run_group, tmp_path):
    cached = group_job(DEPTHS[0])
    run_group(cached)
    direct = group_job({**DEPTHS[0], "features.cache": False}, runs=tmp_path / "direct")
    run_group(direct)
    assert cached.cells[0].cell_id == direct.cells[0].cell_id
    assert_equal(trained(cached), trained(direct))
    store = Store(cached.runs_dir)
    counters = store.record(cached.cells[0].cell_id, 0).counters
    assert counters == {"train_steps": 6, "encoder_forwards": 0, "sam_mixer_forwards": 0}
    direct_counters = Store(direct.runs_dir).record(direct.cells[0].cell_id, 0).counters
    assert direct_counters["encoder_forwards"] == 6 * 2 + 2 * 2 + 3


def test_seeds_differ_and_the_same_seed_repeats(group_job, run_group, tmp_path):
    weights = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        job = group_job(DEPTHS[0], runs=tmp_path / name, seed=seed)
        run_group(job)
        weights.append(trained(job))
    assert_equal(weights[0], weights[1])
    assert any(not torch.equal(weights[0][k], weights[2][k]) for k in weights[0])


@pytest.mark.usefixtures("run_group")
def test_threads_of_the_cells_move_nothing_frozen(group_job, tmp_path):
    """Two threads for the cells, one for what is frozen: kept or not, the weights are the same."""
    weights = []
    for cache in ("all", "encoder", "off"):
        job = group_job({**DEPTHS[1], "features.cache": cache}, runs=tmp_path / cache)
        outcome = Outcome()
        torch.set_num_threads(1)
        prepare(job, outcome, tmp_path / "progress")
        torch.set_num_threads(2)
        GroupRun(dataclasses.replace(job, threads=2, frozen_threads=1), outcome).run()
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        assert not outcome.failed
        weights.append(trained(job))
        record = Store(job.runs_dir).record(job.cells[0].cell_id, 0)
        machine = record.provenance["machine"]
        assert (machine["threads"], machine["frozen_threads"]) == (2, [1])
        assert machine["fused_adamw"] is False
    assert_equal(weights[0], weights[1])
    assert_equal(weights[0], weights[2])


def test_seeds_with_one_data_order_share_a_group(group_job, run_group, tmp_path):
    """Initial weights and dropout differ, images and captions come alike; alone or together."""
    change = {**DEPTHS[1], "train.order_seed": 7}
    jobs = [group_job(change, runs=tmp_path / f"alone{seed}", seed=seed) for seed in (0, 1)]
    together = dataclasses.replace(
        group_job(change, runs=tmp_path / "together"), cells=[j.cells[0] for j in jobs]
    )
    for job in (*jobs, together):
        assert not run_group(job).failed
        assert job.order_seed == 7
    for index, job in enumerate(jobs):
        assert_equal(trained(together, index), trained(job))
        assert captions(together, index) == captions(job)
    weights = [trained(job) for job in jobs]
    assert any(not torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    own = group_job(DEPTHS[1], runs=tmp_path / "own", seed=1)
    run_group(own)
    assert any(not torch.equal(trained(own)[k], weights[1][k]) for k in weights[1])


def test_checkpoints_and_results_hold_trainable_tensors_only(group_job, run_group, monkeypatch):
    job = group_job(DEPTHS[0])
    kept = {}
    monkeypatch.setattr(
        hooks, "drop_checkpoints", lambda folder, keep=0: kept.update({keep: Path(folder)})
    )
    run_group(job)
    names = set(trained(job))
    assert {name.split(".")[0] for name in names} == {
        "text_mixer",
        "caption_query_tokens",
        "projection",
        "task_tokens",
    }
    assert kept


def test_log_and_predictions_hold_what_they_say(group_job, run_group):
    job = group_job(DEPTHS[0])
    run_group(job)
    store, cell = Store(job.runs_dir), job.cells[0]
    rows = store.log(cell.cell_id, 0)
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4, 5, 6]
    validations = [row for row in rows if "val/loss" in row]
    assert [row["step"] for row in validations] == [3, 6]
    assert {"val/exact_match", "val/loss"} <= validations[0].keys()
    warm = [row["lr"] for row in rows if "lr" in row]
    assert warm[:2] == [0.005, 0.01]  # two steps of warm-up, then the cosine
    assert warm[2:] == sorted(warm[2:], reverse=True)
    predictions = read_jsonl(store.run_dir(cell.cell_id, 0) / PREDICTIONS)
    record = store.record(cell.cell_id, 0)
    assert len({row["region_id"] for row in predictions}) == len(predictions)
    assert {row["image_id"] for row in predictions} == {"scene_100", "scene_101", "scene_102"}
    assert all(len(row["predicted_ious"]) == 3 for row in predictions)
    sizes = json.loads((store.root / record.images_dir / "sizes.json").read_text())
    assert sizes["scene_100"] == [96, 96]
    assert record.cost["num_trainable_params"] < record.cost["num_total_params"]
    assert record.cost["prepared_s"] == 0  # nobody prepared this job
    assert 0 < record.cost["shared_s"] < 60


def test_rng_stream_is_private():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    stream = RngStream(1, torch.device("cpu"))
    assert torch.equal(before, torch.get_rng_state())
    with stream.active():
        first = torch.rand(3)
    assert torch.equal(before, torch.get_rng_state())
    with stream.active():
        second = torch.rand(3)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(6), torch.cat([first, second]))


def test_bf16_trains_on_a_cpu_and_is_a_cell_of_its_own(group_job, run_group, tmp_path):
    plain = group_job(DEPTHS[0], runs=tmp_path / "plain")
    half = group_job({**DEPTHS[0], "train.precision": "bf16"}, runs=tmp_path / "half")
    assert plain.cells[0].cell_id != half.cells[0].cell_id
    run_group(plain)
    assert not run_group(half).failed
    differences = [(trained(plain)[k] - v).abs().max() for k, v in trained(half).items()]
    assert 0 < max(differences) < 0.2


def test_a_half_precision_run_casts_what_is_frozen_once_and_moves_no_bit(
    group_job, run_group, tmp_path, monkeypatch
):
    half, jobs = {**DEPTHS[0], "train.precision": "bf16", "train.steps": 2}, []
    for name in ("once", "at every use"):
        jobs.append(group_job(half, runs=tmp_path / name))
        assert not run_group(jobs[-1]).failed
        monkeypatch.setattr(ScaCaptioner, "cast_frozen", lambda *_: None)
    once, every = (trained(job) for job in jobs)
    assert all(torch.equal(once[name], every[name]) for name in every)
    assert captions(jobs[0]) == captions(jobs[1])
    refused = group_job(half, runs=tmp_path / "refused")
    monkeypatch.setattr(ScaCaptioner, "cast_frozen", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_group(refused)


def test_a_wrong_setting_of_any_cell_is_met_before_any_starts(group_job, run_group):
    from sca_bench.errors import InputError

    job = group_job(DEPTHS[0], {"mixer.num_heads": 7})
    with pytest.raises(InputError, match=r"mixer.num_heads"):
        run_group(job)
    assert not list(Store(job.runs_dir).records())


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("prompt", ["box", "point", "box_point"])
def test_prompts_and_beams_run_through_the_loop(group_job, run_group, prompt, beams):
    job = group_job({"eval.prompt": prompt, "eval.num_beams": beams, "train.steps": 1})
    assert not run_group(job).failed
    assert len(captions(job)) > 0
