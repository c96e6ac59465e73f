"""Chains of stages: what names them, what they share, and what is left to train."""

import pytest
from safetensors.numpy import save

from sca_bench.errors import InputError
from sca_bench.settings import CellSettings
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.study.plan.plan import make_plan
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.store import Store, trained_path
from sca_bench.study.runs.trained_index import TrainedIndex
from sca_bench.study.suite.profiles import load_profile
from sca_bench.study.suite.resolve import Resolver
from sca_bench.study.suite.schema import Patch, SuiteFile
from sca_bench.study.suite.suite import load_suite
from sca_bench.study.suite.yaml_values import load_yaml

STAGES = """
stages:
  shapes:
    data: {train: {dataset: scenes, num_images: 30, first_seed: 500, captions: shape}}
    train: {steps: 40, learning_rate: 0.01}
  colours:
    data: {train: {dataset: scenes, num_images: 20, first_seed: 700, captions: colour_shape}}
"""
AXES = "axes: {mixer.num_layers: [1, 2]}"


@pytest.fixture
def plan_of(write, suite_text, tmp_path):
    def make(axes="axes: {pretraining: [none, shapes, [shapes, colours]]}", more=""):
        text = suite_text.replace(AXES, axes) + STAGES + more
        return make_plan(load_suite(write(text)), Store(tmp_path / "runs"))

    return make


def finish(store, cell, seed, training=True):
    """Leave what a finished run leaves."""
    record = RunRecord(
        cell_id=cell.cell_id, seed=seed, status="done", settings={}, variant="sca", revision="1"
    )
    store.save(record)
    trained_path(store.run_dir(cell.cell_id, seed)).write_bytes(save({}))
    if training:
        TrainedIndex(store).announce(cell.training_id, cell.cell_id, seed, 7)


def test_a_name_becomes_a_stage_with_the_cells_own_recipe(plan_of):
    none, one, two = plan_of().cells
    assert none.settings.pretraining == ()
    (stage,) = one.settings.pretraining
    assert (stage.name, stage.train.steps, stage.train.learning_rate) == ("shapes", 40, 0.01)
    assert stage.train.images_per_batch == none.settings.train.images_per_batch
    assert [s.name for s in two.settings.pretraining] == ["shapes", "colours"]
    assert two.settings.pretraining[1].train == none.settings.train
    assert [c.name for c in (none, one, two)] == [
        "pretraining=none",
        "pretraining=shapes",
        "pretraining=[shapes, colours]",
    ]


def test_cells_share_the_stages_they_begin_with(plan_of):
    plan = plan_of()
    none, one, two = plan.cells
    names = [(job.cell.stage, job.seed) for job in plan.stages]
    assert names == [("shapes", 0), ("shapes", 1), ("colours", 0), ("colours", 1)]
    shapes, colours = plan.stages[0].cell, plan.stages[2].cell
    assert (none.starts_from, one.starts_from, two.starts_from) == (
        "",
        shapes.cell_id,
        colours.cell_id,
    )
    assert colours.starts_from == shapes.cell_id
    steps = {job.name: job.steps for job in plan.left}
    assert steps["stage shapes seed 0"] == 40
    assert len(plan.left) == 4 + 6
    waiting = {job.name: job.waits_for for job in plan.left}
    assert waiting["stage colours seed 1"] == {(shapes.cell_id, 1)}
    assert waiting["pretraining=none seed 0"] == frozenset()
    assert waiting["pretraining=shapes seed 0"] == {(shapes.cell_id, 0)}


def test_the_depth_of_a_stage_is_that_of_its_cell(plan_of):
    plan = plan_of("axes: {mixer.num_layers: [1, 2], pretraining: [shapes]}")
    assert len({job.cell.cell_id for job in plan.stages}) == 2
    assert [job.cell.settings.mixer.num_layers for job in plan.stages if job.seed == 0] == [1, 2]


def test_a_finished_stage_is_not_trained_again_and_an_unneeded_one_is_not_trained(plan_of):
    plan = plan_of()
    store = Store(plan.suite.file.parent / "runs")
    for seed in (0, 1):
        finish(store, plan.stages[0].cell, seed)
    again = plan_of()
    assert [job.cell.stage for job in again.left if job.cell.stage] == ["colours", "colours"]
    for cell in plan.cells[2:]:
        for seed in (0, 1):
            finish(store, cell, seed)
    assert not [job for job in plan_of().left if job.cell.stage]
    trained_path(store.run_dir(plan.stages[0].cell.cell_id, 0)).unlink()
    left = [(job.cell.stage, job.seed) for job in plan_of().left if job.cell.stage]
    assert left == [("shapes", 0)]


def test_cells_that_differ_in_evaluation_only_share_one_training(plan_of):
    plan = plan_of("axes: {eval.prompt: [box, point], eval.num_beams: [1, 3]}")
    assert len({cell.cell_id for cell in plan.cells}) == 4
    assert len({cell.training_id for cell in plan.cells}) == 1
    first, *others = [job for job in plan.left if job.seed == 0]
    assert not first.reuses
    assert first.waits_for == frozenset()
    assert all(job.reuses and job.waits_for == {first.gives} for job in others)
    assert sum(job.steps for job in plan.left) == 2 * first.cell.settings.train.steps
    store = Store(plan.suite.file.parent / "runs")
    finish(store, first.cell, 0)
    assert all(job.reuses for job in plan_of("axes: {eval.prompt: [point]}").left if not job.seed)


def test_groups_keep_stages_training_and_reuse_apart(plan_of):
    plan = plan_of("axes: {eval.prompt: [box, point], pretraining: [none, shapes]}")
    kinds = [{(job.reuses, bool(job.cell.stage)) for job in group.jobs} for group in plan.groups(1)]
    assert all(len(kind) == 1 for kind in kinds)
    assert len(plan.groups(1)) == 2 * 3  # per seed: the stage, the trainings, the evaluations


def test_a_stage_is_never_in_one_group_with_the_stage_it_starts_from(plan_of):
    """Not even where the two read the same data for the same number of steps."""
    data = "{dataset: scenes, num_images: 20, first_seed: 700, captions: colour_shape}"
    more = f"  again: {{data: {{train: {data}}}, train: {{learning_rate: 0.5}}}}\n"
    plan = plan_of("axes: {pretraining: [[colours, again]]}", more)
    groups = plan.groups(1)
    assert sum(bool(job.cell.stage) for group in groups for job in group.jobs) == 4
    for group in groups:
        assert not group.waits_for & {job.gives for job in group.jobs}


def test_a_stage_of_one_cell_is_what_another_cell_trains(plan_of):
    stage = "  own:\n    data: {train: {dataset: scenes, num_images: 20, first_seed: 0}}\n"
    data = "data.train: {dataset: scenes, num_images: 20, first_seed: 0}"
    plan = plan_of(
        "axes: {pretraining: [none, own]}", stage + f"adjust: [{{when: {{}}, set: {{{data}}}}}]\n"
    )
    none, own = plan.cells
    assert own.starts_from == none.training_id
    first = next(job for job in plan.jobs if job.cell is none)
    assert first.reuses
    assert first.waits_for == {(none.training_id, first.seed)}
    assert [(job.cell.stage, job.state) for job in plan.stages] == [("own", "to run")] * 2


def test_weights_that_are_not_announced_yet_are_not_trained_again(plan_of):
    plan = plan_of("axes: {eval.prompt: [box, point]}")
    store = Store(plan.suite.file.parent / "runs")
    finish(store, plan.cells[0], 0, training=False)
    record = store.record(plan.cells[0].cell_id, 0)
    store.save(record.model_copy(update={"status": "killed"}))
    box, point = [job for job in plan_of("axes: {eval.prompt: [box, point]}").left if not job.seed]
    assert not box.reuses
    assert point.reuses
    assert point.waits_for == {box.gives}


def test_a_stage_killed_after_its_training_is_closed_by_the_next_run(plan_of):
    plan = plan_of("axes: {pretraining: [[shapes, colours]]}")
    store = Store(plan.suite.file.parent / "runs")
    colours = plan.stages[-1].cell
    finish(store, colours, 0)
    record = store.record(colours.cell_id, 0)
    store.save(record.model_copy(update={"status": "killed"}))
    again = plan_of("axes: {pretraining: [[shapes, colours]]}")
    left = [job for job in again.left if job.cell.stage and job.seed == 0]
    assert [job.cell.stage for job in left] == ["colours"]
    assert left[0].waits_for == frozenset()  # it is trained: nothing has to be trained before it


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"cell_id": 5, "seed": 0, "steps": 1, "weights_sha256": "x"}',
        '{"cell_id": null, "seed": 0, "steps": 1, "weights_sha256": "x"}',
        '{"cell_id": "x"}',
    ],
)
def test_a_damaged_pointer_is_no_pointer(content, plan_of):
    plan = plan_of("axes: {pretraining: [shapes]}")
    store = Store(plan.suite.file.parent / "runs")
    stage = plan.stages[0].cell
    finish(store, stage, 0)
    assert TrainedIndex(store).find(stage.training_id, 0) is not None
    (store.root / "stages" / stage.training_id / "seed-0.json").write_text(content)
    assert TrainedIndex(store).find(stage.training_id, 0) is None


def test_a_variant_without_gradient_steps_has_no_stages(plan_of):
    axes = "axes: {variant: [sca, most_frequent], pretraining: [shapes]}"
    plan = plan_of(axes)
    assert {job.cell.stage for job in plan.stages} == {"shapes"}
    assert all(job.cell.cell_id for job in plan.stages)
    assert [cell.starts_from for cell in plan.cells] == [plan.stages[0].cell.cell_id, ""]


@pytest.mark.parametrize("part", ["train.learning_rate", "mixer.num_layers", "data.flip"])
def test_what_changes_weights_changes_the_training(part, plan_of):
    values = {"train.learning_rate": 0.5, "mixer.num_layers": 3, "data.flip": "always"}
    plan = plan_of(
        "axes: {eval.num_beams: [1]}",
        f"adjust: [{{when: {{}}, set: {{{part}: {values[part]}}}}}]\n",
    )
    assert plan.cells[0].training_id != plan_of("axes: {eval.num_beams: [1]}").cells[0].training_id


def test_a_stages_own_name_is_no_part_of_a_key(plan_of):
    one = plan_of("axes: {pretraining: [shapes]}").cells[0]
    renamed = one.settings.pretraining[0].model_copy(update={"name": "other"})
    settings: CellSettings = one.settings.model_copy(update={"pretraining": (renamed,)})
    assert CellIdentity(settings, one.identity.inputs).training_key == one.training_id


def test_an_unknown_stage_is_one_line(plan_of):
    with pytest.raises(InputError, match=r"pretraining: 'shape' is no stage; did you mean shapes"):
        plan_of("axes: {pretraining: [shape]}")


@pytest.mark.parametrize("value", ["3", "null", "{shapes: 1}", "true"])
def test_what_names_no_stage_is_one_line(value, plan_of):
    message = r"pretraining: .* names no stage; name a stage, a list of stages, or none"
    with pytest.raises(InputError, match=message):
        plan_of(f"axes: {{pretraining: [{value}]}}")


def test_wrong_keys_of_a_stage_are_named(write, suite_text):
    text = suite_text + "stages: {s: {data: {train: {dataset: scenes}}, train: {step: 3}}}\n"
    with pytest.raises(InputError, match=r"stages\.s\.train\.step: unknown setting; did you mean"):
        load_suite(write(text))


def test_a_stage_has_its_own_recipe_alone_where_its_cell_says_nothing(write, suite_text):
    """Every profile that ships says something of training; one of others need not."""
    text = suite_text.replace(AXES, "axes: {pretraining: [shapes]}") + STAGES
    spec = SuiteFile.model_validate(load_yaml(text))
    resolver = Resolver(write(text), spec, Patch(), "tiny", load_profile("tiny"), ())
    (stage,) = resolver._chain({"pretraining": "shapes"})
    assert (stage["name"], stage["train"]) == ("shapes", {"steps": 40, "learning_rate": 0.01})
    (stage,) = resolver._chain({"pretraining": ["shapes"], "train": {"steps": 3, "val_every": 2}})
    assert stage["train"] == {"steps": 40, "learning_rate": 0.01, "val_every": 2}
