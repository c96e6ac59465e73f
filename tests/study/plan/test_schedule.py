"""How runs are spread over a machine, and the words of the tree of what they share."""

import json

import pytest

from sca_bench.study.plan.plan import make_plan
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
