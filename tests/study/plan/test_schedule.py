"""How runs are spread over a machine, and the words of the tree of what they share."""

import json
from dataclasses import replace

import pytest

from sca_bench.study.keys.cell import CellIdentity
from sca_bench.study.plan.plan import Group, make_plan
from sca_bench.study.plan.schedule import Machine, Schedule, make_schedule
from sca_bench.study.plan.sharing_tree import sharing_tree
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.suite import load_suite

BASE = {"variant": "sca", "sam": {"size": "tiny", "weights": "random"}}
TEXT = {"text_decoder": {"weights": "random"}}


@pytest.fixture
def plan_of(write, suite_text, tmp_path):
    def make(**sections):
        base = {**BASE, **TEXT, **sections}
        lines = suite_text.splitlines()
        text = "\n".join(
            f"base: {json.dumps(base)}" if ln.startswith("base:") else ln for ln in lines
        )
        return make_plan(load_suite(write(text)), Store(tmp_path / "runs"), allow_missing=True)

    return make


@pytest.mark.parametrize(
    ("runtime", "machine", "expected"),
    [
        # Kept features on a CPU: a worker a core, one thread each.
        ({}, Machine("cpu", 2), (2, 1, 1)),
        ({}, Machine("cpu", 1), (1, 1, 1)),
        ({}, Machine("cpu", 8), (8, 1, 1)),
        ({"jobs": 3}, Machine("cpu", 8), (3, 1, 1)),
        ({"threads": 2}, Machine("cpu", 8), (8, 2, 2)),
        # On GPUs a process each, and the cores divided.
        ({}, Machine("cuda", 8, 1), (1, 8, 8)),
        ({}, Machine("cuda", 8, 2), (2, 4, 4)),
        ({"jobs": 1}, Machine("cuda", 8, 2), (1, 8, 8)),
        ({"threads": 3}, Machine("cuda", 8, 2), (2, 3, 3)),
    ],
)
def test_workers_and_threads(plan_of, tmp_path, runtime, machine, expected):
    plan = plan_of(runtime=runtime)
    found = make_schedule(plan, Store(tmp_path / "runs"), machine)
    assert (found.limit, found.threads, found.prepare_threads) == expected
    assert sorted(job.seed for group in found.groups for job in group.jobs) == [0, 0, 1, 1]


def test_features_that_are_computed_as_they_come_take_the_cores_that_are_free(plan_of, tmp_path):
    plan = plan_of(features={"cache": "off"})
    found = make_schedule(plan, Store(tmp_path / "runs"), Machine("cpu", 8))
    assert (found.limit, len(found.groups)) == (8, 2)
    assert (found.threads, found.prepare_threads) == (4, 1)


@pytest.mark.parametrize(
    ("limit", "num", "shares"), [(8, 2, 4), (8, 3, 2), (2, 8, 1), (8, 0, 8), (1, 1, 1)]
)
def test_preparations_share_the_processes(limit, num, shares):
    assert Schedule((), limit, 1).shares(num) == shares
    assert Schedule((), limit, 1).prepare_threads == 1


def words_of(plan):
    """Return part -> what it says, along the first branch of the tree."""
    words, nodes = {}, sharing_tree(plan.jobs)
    while nodes:
        words[nodes[0].part] = nodes[0].what
        nodes = nodes[0].children
    return words


def test_the_words_of_a_tree(plan_of):
    words = words_of(plan_of())
    assert list(words) == [
        "preprocessing",
        "image encoder",
        "prompt encoder + SAM mixer",
        "text decoder",
        "data order",
        "pretraining",
    ]
    assert words["image encoder"] == "tiny, random, fp32, kept"
    assert words["prompt encoder + SAM mixer"] == "box in training, box at evaluation"
    assert words["text decoder"] == "random, frozen, once in memory"
    assert words["data order"].startswith("each seed's own; ")
    assert words["pretraining"] == "none"
    assert words["preprocessing"].startswith("train ")


def test_the_words_of_a_tree_say_what_is_done_to_images_and_captions(plan_of):
    plain = words_of(plan_of())["preprocessing"]
    for done in ("flip", "jitter", "blank", "dealt"):
        assert done not in plain
    data = {"blank_images": True, "permute_captions": True, "lsj_scale": [0.5, 2.0]}
    words = words_of(
        plan_of(
            data=data,
            features={"cache": "off"},
            text_decoder={"weights": "random", "trainable": True},
            train={"order_seed": 7, "steps": 3, "images_per_batch": 2, "regions_per_image": 4},
        )
    )
    said = "jitter 0.5 to 2.0, blank images, captions dealt to other regions"
    assert words["preprocessing"].endswith(said)
    assert words["image encoder"] == "tiny, random, fp32, computed as it comes"
    assert words["text decoder"] == "random, trained, one for each cell"
    assert words["data order"] == "seed 7; 3 steps x 2 images x up to 4 regions"


@pytest.mark.parametrize(
    ("variant", "also_train", "val", "reuses", "stage", "splits"),
    [
        ("sca", False, True, False, "", ("train", "val", "captioned")),
        ("sca", False, False, False, "", ("train", "captioned")),
        ("sca", True, False, False, "", ("train", "captioned")),
        ("sca", False, True, True, "", ("captioned",)),  # its weights are there
        ("sca", True, True, True, "", ("train", "val", "captioned")),
        ("sca", True, True, False, "first", ("train",)),  # a stage is never evaluated
        ("most_frequent", False, True, False, "", ("train", "captioned")),
        ("most_frequent", True, True, True, "", ("train", "captioned")),
        ("sam_git", False, True, False, "", ("captioned",)),
        ("sam_git", True, True, False, "", ("train", "captioned")),
    ],
)
def test_which_splits_a_run_reads(plan_of, variant, also_train, val, reuses, stage, splits):
    data = {} if val else {"data": {"val": None}}
    job = plan_of(variant=variant, eval={"also_train": also_train}, **data).jobs[0]
    assert (job.cell.settings.data.val is not None) == val
    one = replace(job, reuses=reuses, cell=replace(job.cell, stage=stage))
    assert one.splits == splits


@pytest.mark.parametrize(
    ("features", "data", "kept"),
    [
        ({}, {}, ("train", "val", "captioned")),
        ({"cache": "encoder"}, {}, ()),
        ({"cache": "off"}, {}, ()),
        ({}, {"lsj_scale": [0.5, 2.0]}, ("val", "captioned")),
    ],
)
def test_which_of_them_are_kept_whole(plan_of, features, data, kept):
    job = plan_of(features=features, data=data).jobs[0]
    assert job.cached_splits == kept
    assert Group("k", 0, (job,)).is_cached == (kept == job.splits)


def test_what_a_run_is_called_and_gives(plan_of):
    plan = plan_of(train={"steps": 5})
    job = plan.jobs[-1]
    assert (job.name, job.seed, job.order_seed, job.steps) == ("num_layers=2 seed 1", 1, 1, 5)
    assert job.gives == (job.cell.training_id, 1)
    again = replace(job, reuses=True)
    assert (again.gives, again.steps) == (None, 0)
    assert plan_of(train={"order_seed": 7}).jobs[-1].order_seed == 7
    assert (plan.num_done, plan.blocked) == (0, [])
    states = ("done", "to run", "blocked", "done")
    mixed = replace(
        plan,
        jobs=tuple(replace(j, state=s) for j, s in zip(plan.jobs, states, strict=True)),
        stages=(replace(job, state="to run"), replace(job, state="blocked"), job),
    )
    assert mixed.num_done == 2
    assert [j.name for j in mixed.left] == [job.name, job.name, plan.jobs[1].name]
    assert mixed.left[0] is mixed.stages[0]
    assert [j.name for j in mixed.blocked] == [job.name, plan.jobs[2].name]


def test_groups_start_with_the_heaviest_and_are_halved_by_weight(plan_of):
    plan = plan_of(train={"steps": 1000})
    one, two = (job for job in plan.jobs if job.seed == 0)  # of one layer, and of two
    assert one.cost < two.cost < Group("k", 0, (one, two)).cost
    deep = replace(two, cell=with_layers(two.cell, 6))
    groups = plan.grouped([one, deep, two], workers=2)
    assert [[job.cell.settings.mixer.num_layers for job in group.jobs] for group in groups] == [
        [6],
        [1, 2],
    ]
    assert [(group.seed, group.key) for group in groups] == [(0, one.cell.identity.prefix_key)] * 2
    assert [len(group.jobs) for group in plan.grouped([one, deep, two], workers=3)] == [1, 1, 1]
    assert [len(group.jobs) for group in plan.grouped([one, deep, two])] == [3]
    assert plan.grouped([]) == plan.grouped([], workers=3) == []
    waits = (
        replace(one, waits_for=frozenset({("a", 0)})),
        replace(two, waits_for=frozenset({("b", 0)})),
    )
    assert Group("k", 0, waits).waits_for == {("a", 0), ("b", 0)}
    assert Group("k", 0, (one,)).waits_for == frozenset()


def with_layers(cell, number):
    settings = cell.settings
    mixer = settings.mixer.model_copy(update={"num_layers": number})
    return replace(
        cell,
        identity=CellIdentity(settings.model_copy(update={"mixer": mixer}), cell.identity.inputs),
    )


def test_runs_that_begin_at_different_steps_are_parted(plan_of, tmp_path):
    plan, store = plan_of(), Store(tmp_path / "runs")
    first, second = (job for job in plan.jobs if job.seed == 0)
    folder = store.run_dir(first.cell.cell_id, 0)
    folder.mkdir(parents=True)
    (folder / "checkpoint-4.pt").touch()
    schedule = make_schedule(plan, store, Machine("cuda", 8, 1))
    parts = [[job.name for job in group.jobs] for group in schedule.groups]
    assert sorted(map(len, parts)) == [1, 1, 2]
    assert [first.name] in parts
    assert [second.name] in parts
    # Three parts, one process at a time, has all the cores.
    assert (schedule.limit, schedule.threads) == (1, 8)
    assert make_schedule(plan, store, Machine("cuda", 8, 4)).threads == 2
    assert make_schedule(plan, store, Machine("cuda", 2, 4)).threads == 1


def test_the_words_of_a_tree_for_other_captioners(plan_of):
    words = words_of(plan_of(variant="most_frequent"))
    assert words["image encoder"] == "none: it reads no pixels"
    assert words["text decoder"] == "most_frequent's own"
    assert words["data order"] == "nothing is trained by steps"
    words = words_of(plan_of(variant="sam_git"))
    assert words["image encoder"].startswith(("sam_git's own", "tiny"))
    assert words["text decoder"] == "sam_git's own"
    jittered = {"lsj_scale": [0.5, 2.0], "lsj_as_published": True, "flip": "always"}
    assert "jitter 0.5 to 2.0 as published" in words_of(plan_of(data=jittered))["preprocessing"]
    assert "flip always, jitter" in words_of(plan_of(data=jittered))["preprocessing"]
