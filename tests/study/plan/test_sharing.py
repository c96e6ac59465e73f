"""What cells share, as a tree; which runs are blocked; and when a group is split."""

import dataclasses
from pathlib import Path

import pytest

from sca_bench.errors import InputError
from sca_bench.study.plan.plan import make_plan
from sca_bench.study.plan.schedule import Machine, make_schedule
from sca_bench.study.plan.sharing_tree import sharing_tree
from sca_bench.study.runs.store import Store, checkpoint_path
from sca_bench.study.suite.suite import load_suite

ABLATIONS = Path(__file__).parents[3] / "ablations"
DEPTHS = "axes: {mixer.num_layers: [1, 2]}"


@pytest.fixture
def plan_of(write, suite_text, tmp_path):
    def make(axes=DEPTHS, more=""):
        text = suite_text.replace(DEPTHS, axes) + more
        return make_plan(load_suite(write(text)), Store(tmp_path / "runs"), allow_missing=True)

    return make


def at(nodes, part):
    """All nodes of one part, wherever they hang."""
    found = [node for node in nodes if node.part == part]
    return found + [deep for node in nodes for deep in at(node.children, part)]


@pytest.mark.parametrize(
    ("axes", "part"),
    [
        (DEPTHS, "cells"),
        ("axes: {data.blank_images: [false, true]}", "preprocessing"),
        ("axes: {sam.size: [tiny, tiny_small]}", "image encoder"),
        ("axes: {eval.prompt: [box, point]}", "prompt encoder + SAM mixer"),
        ("axes: {text_decoder.trainable: [false, true]}", "text decoder"),
        ("axes: {train.images_per_batch: [2, 3]}", "data order"),
        ("axes: {train.order_seed: [1, 2]}", "data order"),
        ("axes: {train.learning_rate: [0.1, 0.2]}", "cells"),
    ],
    ids=lambda value: value.removeprefix("axes: "),
)
def test_the_tree_divides_at_the_part_in_which_cells_differ(plan_of, axes, part):
    nodes = sharing_tree(plan_of(axes).jobs)
    while len(nodes) == 1 and nodes[0].children:
        nodes = nodes[0].children
    if part == "cells":
        (last,) = nodes
        assert (last.num_cells, len(last.jobs), last.children) == (2, 4, ())
    else:
        assert [node.part for node in nodes] == [part, part]
        assert [node.num_cells for node in nodes] == [1, 1]


def test_pretraining_is_named_below_the_data_order_that_its_cells_share(plan_of):
    stages = "stages: {s: {data: {train: {dataset: scenes, num_images: 3, first_seed: 5}}}}\n"
    tree = sharing_tree(plan_of("axes: {pretraining: [none, s]}", stages).jobs)
    assert len(at(tree, "data order")) == 1
    assert [node.what for node in at(tree, "pretraining")] == ["none", "s"]


@pytest.mark.parametrize("name", ["comparison", "controls", "mixer_design", "pretraining"])
def test_cells_stand_together_exactly_where_they_can_run_as_a_group(name, tmp_path):
    plan = make_plan(load_suite(ABLATIONS / f"{name}.yaml"), Store(tmp_path))
    nodes = at(sharing_tree(plan.jobs), "data order")
    keys = [{job.cell.identity.prefix_key for job in node.jobs} for node in nodes]
    assert all(len(found) == 1 for found in keys)
    assert len(set().union(*keys)) == len(nodes)
    assert sum(len(node.jobs) for node in nodes) == len(plan.jobs)


def test_runs_whose_files_are_missing_are_blocked_with_the_fix(write, suite_text, tmp_path):
    text = suite_text.replace(DEPTHS, "axes: {sam.weights: [random, nowhere.pth, '{mine}/s.pth']}")
    path = write(text + "paths: {mine: {default: null, get: ask me}}\n")
    suite, store = load_suite(path, allow_missing=True), Store(tmp_path / "runs")
    plan = make_plan(suite, store, allow_missing=True)
    assert [job.state for job in plan.jobs] == ["to run"] * 2 + ["blocked"] * 4
    assert [job.cell.name for job in plan.left] == ["weights=random"] * 2
    assert plan.blocked[0].blocked == ("sam.weights: 'nowhere.pth': no such file or folder",)
    problem = "paths.mine is not given, --set paths.mine=PATH (ask me)"
    assert plan.blocked[-1].blocked == (problem,)
    assert len({cell.cell_id for cell in plan.cells}) == 3
    with pytest.raises(InputError, match=r"nowhere.pth.*no such file"):
        make_plan(suite, store)


def test_a_stage_without_its_data_blocks_the_cells_that_begin_with_it(tmp_path):
    suite = load_suite(ABLATIONS / "pretraining.yaml", profile="paper", allow_missing=True)
    plan = make_plan(suite, Store(tmp_path), allow_missing=True)
    assert {job.state for job in (*plan.jobs, *plan.stages)} == {"blocked"}
    by_name = {job.cell.name: job.blocked for job in plan.jobs}
    assert any("paths.v3det" in problem for problem in by_name["pretraining=v3det"])
    assert not any("paths.v3det" in problem for problem in by_name["pretraining=none"])


CACHES = {
    "all features are kept": ("features.cache: [all]", 4, 1),
    "embeddings only are kept": ("features.cache: [encoder]", 2, 4),
    "nothing is kept": ("features.cache: ['off']", 2, 4),
    "training images are jittered": ("data.lsj_scale: [[0.5, 2.0]]", 2, 4),
}


@pytest.mark.parametrize(("axis", "num_groups", "threads"), CACHES.values(), ids=CACHES.keys())
def test_on_one_processor_groups_that_read_kept_features_are_split_and_take_one_thread(
    plan_of, tmp_path, axis, num_groups, threads
):
    plan, store = plan_of(f"axes: {{mixer.num_layers: [1, 2], {axis}}}"), Store(tmp_path / "runs")
    assert len(plan.groups(8)) == num_groups
    assert len(plan.groups(8, one_processor=False)) == 4
    schedule = make_schedule(plan, store, Machine("cpu", cores=8))
    assert (len(schedule.groups), schedule.threads) == (num_groups, threads)
    lone = dataclasses.replace(plan, jobs=plan.jobs[:1], stages=())
    alone = make_schedule(lone, store, Machine("cpu", cores=8))
    assert alone.threads == (1 if threads == 1 else 8)  # no other bits than beside others
    assert len(make_schedule(plan, store, Machine("cuda", cores=8, gpus=4)).groups) == 4


def test_runs_that_stand_at_different_steps_do_not_share_a_group(plan_of, tmp_path):
    plan, store = plan_of(), Store(tmp_path / "runs")
    job = plan.jobs[0]
    path = checkpoint_path(store.run_dir(job.cell.cell_id, job.seed), 4)
    path.parent.mkdir(parents=True)
    path.touch()
    schedule = make_schedule(plan, store, Machine("cpu", cores=2))
    assert sorted(len(group.jobs) for group in schedule.groups) == [1, 1, 2]
    assert [schedule.shares(n) for n in (1, 2, 3)] == [2, 1, 1]
