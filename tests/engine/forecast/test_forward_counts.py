"""How often frozen parts run, counted by hand; operations of a cell; time put together."""

import time

import pytest

from sca_bench.engine.features.cache import Cache
from sca_bench.engine.forecast import forward_counts as fw
from sca_bench.engine.forecast.budget import Budget, parse_duration
from sca_bench.engine.forecast.costs import (
    CellWork,
    GroupProbe,
    Kernels,
    Overheads,
    PlanCosts,
    SplitSize,
    Work,
)
from sca_bench.engine.forecast.gpu_hours import (
    GPUS,
    MEMORY_SHARE,
    Gpu,
    PartTimes,
    gpu_time,
    peak_gib,
)
from sca_bench.engine.forecast.wall_time import forecast_time, runs_of
from sca_bench.engine.measure.flops import work_of
from sca_bench.errors import InputError
from sca_bench.output import in_words
from sca_bench.settings import CellSettings
from sca_bench.specs.encoders import sam_dims
from sca_bench.study.plan.plan import make_plan
from sca_bench.study.plan.schedule import Machine, make_schedule
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.suite import load_suite

CPU = Machine("cpu", cores=2)


@pytest.fixture
def planned(suite_file, tmp_path):
    """A plan of two depths (6 steps of 2 images; 5, 2 and 3 images), its store and sizes."""

    def make(changes=None, **more):
        store = Store(tmp_path / "runs")
        plan = make_plan(load_suite(suite_file(changes=changes, **more)), store)
        sizes = {}
        for cell in plan.cells:
            for split, images in (("train", 5), ("val", 2), ("captioned", 3)):
                sizes[fw.split_key(cell, split)] = SplitSize(
                    images=images, regions=3 * images, views=images, rows=3 * images, drawn=3
                )
        return plan, store, sizes

    return make


def test_forwards_without_sharing_are_those_of_each_run_by_itself(planned):
    plan, store, sizes = planned(seeds="[0, 1]")
    alone = fw.alone(plan.jobs, {}, fw.Sizes(sizes))
    one = 6 * 2 + 2 * 2 + 3  # steps, two validations, the test split
    assert (alone.images, alone.regions) == (4 * one, 4 * 3 * one)
    with_it = fw.shared(plan.groups(1), store.root, fw.Sizes(sizes))
    assert (with_it.images, with_it.regions) == (10, 30)


def test_what_is_kept_already_is_not_counted(planned):
    plan, store, sizes = planned()
    for bank in fw.banks(plan.groups(1), store.root):
        if bank.split == "train":
            images = bank.cell.identity.split_images("train")
            Cache(store.root / "features").used(bank.missing["mixed"])
            Cache(store.root / "features").note(bank.missing["mixed"], images, whole=True)
    assert fw.shared(plan.groups(1), store.root, fw.Sizes(sizes)).images == 2 + 3


def test_without_a_cache_a_group_computes_once_what_its_cells_read(planned):
    plan, store, sizes = planned({"features.cache": "off"})
    one = 6 * 2 + 2 * 2 + 3
    assert fw.shared(plan.groups(1), store.root, fw.Sizes(sizes)).images == one
    split = plan.groups(2, one_processor=False)
    assert fw.shared(split, store.root, fw.Sizes(sizes)).images == 2 * one


def test_a_split_that_is_not_here_is_guessed_from_the_settings_and_said_so(planned):
    plan, _, _ = planned()
    sizes = fw.Sizes({})
    assert fw.alone(plan.jobs[:1], {}, sizes).images == 6 * 2 + 2 * 2 + 3
    assert "training draws keep 16 regions an image, at most" in sizes.notes


@pytest.mark.parametrize("split", ["test", "val"])
def test_notes_name_the_captioned_split_as_the_data_does(planned, split):
    plan, _, _ = planned({"eval.split": split})
    sizes = fw.Sizes({})
    assert sizes.of(plan.cells[0], "captioned").images == {"test": 3, "val": 2}[split]
    assert list(sizes.notes) == [f"regions of the {split} split: 16 an image are assumed"]


@pytest.mark.usefixtures("counting")
def test_operations_of_the_encoder_are_those_of_its_matrix_products():
    scenes = {"dataset": "scenes", "num_images": 1, "first_seed": 0}
    settings = CellSettings.model_validate(
        {
            "sam": {"size": "tiny_small"},
            "text_decoder": {"weights": "embedded:lm_scenes"},
            "mixer": {"num_layers": 1, "num_heads": 4, "mlp_dim": 16},
            "train": {"images_per_batch": 2, "regions_per_image": 3},
            "data": {"train": scenes, "test": scenes},
        }
    )
    work = work_of(settings)
    dims = sam_dims("tiny_small")
    tokens, width, out = dims.grid**2, dims.encoder_width, dims.embed_dim
    patches = 2 * tokens * width * 3 * dims.patch_size**2
    projections = 2 * tokens * width * (3 * width + width)
    attention = 2 * 2 * tokens**2 * width
    relative_positions = 2 * 2 * tokens * dims.grid * width
    mlp = 2 * 2 * tokens * width * dims.encoder_mlp_dim
    neck = 2 * tokens * (width * out + 9 * out * out)
    block = projections + attention + relative_positions + mlp
    assert work.encoder_image.flop == patches + dims.encoder_depth * block + neck
    assert work.row_bytes["images"] == 4 * tokens * out
    assert 0 < work.mixer_region.flop < work.encoder_image.flop
    # six regions, forward and backward
    assert work.own_step.flop > 6 * work.caption_region.flop / 4


WORK = CellWork(
    encoder_image=Work(),
    mixer_region=Work(),
    own_step=Work(),
    caption_region=Work(),
    trained_gib=1.0,
    frozen_gib=5.0,
    step_gib=3.0,
    row_bytes={"mixed": 8},
)
TIMES = PartTimes(encoder_image=100.0, mixer_region=10.0, own_step=1600.0, caption_region=7.0)


def test_gpu_time_is_the_sum_of_what_parts_take(planned):
    plan, store, sizes = planned({"features.cache": "off"})
    works = {cell.cell_id: WORK for cell in plan.cells}
    groups = plan.grouped(plan.left)
    times = dict.fromkeys(works, TIMES)
    found = gpu_time(groups, {}, store.root, fw.Sizes(sizes), times)
    frozen = 19 * 100 + 57 * 10
    own = 6 * 1600 * 3 / 16 + (2 * 6 + 9) * 7
    key = plan.cells[0].cell_id
    assert found.alone[key] == pytest.approx(frozen + own)
    assert found.shared[key] == pytest.approx(frozen / 2 + own)
    assert found.total_alone - found.total_shared == pytest.approx(frozen)
    assert peak_gib(groups[0].jobs, works) == 5 + 2 * 3 * 1 + 1 + 3
    assert fw.cache_bytes(groups, store.root, fw.Sizes(sizes), works) == 0


def test_cells_that_are_stepped_as_one_hold_their_steps_at_the_same_time(planned):
    plan, _, _ = planned({"train.stacked": True}, axes="{train.learning_rate: [1.0e-4, 1.0e-3]}")
    jobs = plan.grouped(plan.left)[0].jobs
    assert len(jobs) == 2
    assert peak_gib(jobs, {cell.cell_id: WORK for cell in plan.cells}) == 5 + 2 * (3 * 1 + 1 + 3)


def test_a_kernel_takes_its_operations_or_its_bytes_whichever_is_longer():
    gpu = Gpu(half=100e9, tf32=50e9, single=10e9, bandwidth=1e9 / MEMORY_SHARE, memory_gib=1)
    product = Kernels(rate="half", launches=1, flop=50e9, bytes=1e6)
    in_float32 = product.model_copy(update={"rate": "single"})
    in_tf32 = product.model_copy(update={"rate": "tf32"})
    copy = Kernels(rate="none", launches=1, flop=0, bytes=2e9)
    assert gpu.seconds(Work.of([product]), 0.5) == pytest.approx(1, rel=1e-5)
    assert gpu.seconds(Work.of([in_float32]), 0.5) == pytest.approx(10, rel=1e-5)
    assert gpu.seconds(Work.of([in_tf32]), 0.5) == pytest.approx(2, rel=1e-5)
    assert gpu.seconds(Work.of([product, copy]), 0.5) == pytest.approx(3, rel=1e-5)


def test_many_small_kernels_take_as_long_as_launching_them():
    small = Kernels(rate="none", launches=1e6, flop=0, bytes=1e6)
    assert GPUS["h200"].seconds(Work.of([small]), 0.5) == pytest.approx(5)


def test_tf32_is_as_fast_as_data_sheets_say():
    """Half as fast as half precision, and never slower than float32."""
    shares = {name: gpu.tf32 / gpu.half for name, gpu in GPUS.items()}
    assert shares == pytest.approx(dict.fromkeys(GPUS, 0.5), rel=0.02)
    assert all(gpu.tf32 >= gpu.single for gpu in GPUS.values())


PROBE = GroupProbe(
    load_s=1.0,
    prepare_s=2.0,
    thumbnail_s=0.5,
    feature_s=0.1,
    run_s=3.0,
    step_s=10.0,
    val_s=0.25,
    caption_s=0.5,
    save_s=1.0,
    memory_mib=100.0,
    bytes=7.0,
)
OVERHEADS = Overheads(
    start_s=4.0, pool_s=5.0, score_s=6.0, score_more_s=1.0, mirror_s=2.0, mirror_more_s=1.0
)


@pytest.fixture
def measured(planned):
    def make(**more):
        plan, store, sizes = planned(**more)
        schedule = make_schedule(plan, store, CPU)
        probes = {fw.shape_key(g, schedule.threads): PROBE for g in schedule.groups}
        found = PlanCosts(device="cpu", cores=2, sizes=sizes, probes=probes, overheads=OVERHEADS)
        return plan, store, schedule, found

    return make


ONE = 1 + 3 + 6 * 10 + 2 * 1 + 2 * 2 * 0.25 + 3 * 0.5  # 2 checkpoints, 2 validations, 3 tests


def test_a_prediction_adds_up_what_a_run_does(measured):
    _, store, schedule, found = measured()
    assert len(schedule.groups) == 2  # split, since all it reads is kept
    forecast = forecast_time(schedule, store, found)
    assert forecast.run_s == pytest.approx(ONE)
    assert forecast.prepare_s == pytest.approx(5 + 1 + 2 + 3 * 0.5 + 10 * 0.1 / 2)
    assert forecast.rest_s == pytest.approx(4 + 6 + 1 + (2 + 2) / 2 + 2)
    assert (forecast.memory_mib, forecast.cache_bytes) == (200, 70)


def test_more_groups_than_workers_follow_one_another(measured):
    _, store, schedule, found = measured(axes="{mixer.num_layers: [1]}", seeds="[0, 1, 2]")
    assert forecast_time(schedule, store, found).run_s == pytest.approx(2 * ONE)


def test_a_group_that_was_not_measured_is_not_predicted(measured):
    _, store, schedule, found = measured()
    assert forecast_time(schedule, store, found.model_copy(update={"probes": {}})) is None
    empty = found.model_copy(update={"probes": {}, "notes": ["too large"]})
    with pytest.raises(InputError, match="the time of this suite is not known: too large"):
        Budget(time.monotonic() + 9, schedule, store, empty)


def test_what_a_budget_does_not_cover_is_not_started(measured):
    _, store, schedule, found = measured(axes="{mixer.num_layers: [1]}", seeds="[0, 1, 2]")
    need = forecast_time(schedule, store, found).total_s

    def chosen(seconds):
        budget = Budget(time.monotonic() + seconds, schedule, store, found)
        return len(budget.choose()), budget

    assert chosen(need)[0] == 3
    kept, budget = chosen(need - 20)
    assert kept == 2
    (reason,) = budget.postponed.values()
    assert "its group takes about 1 min 08 s" in reason
    assert chosen(20)[0] == 0


def test_a_group_is_looked_at_again_when_it_could_start(measured):
    _, store, schedule, found = measured()
    budget = Budget(time.monotonic() + 1000, schedule, store, found)
    assert budget.affords(schedule.groups[0])
    budget.until = time.monotonic() + ONE / 2
    assert not budget.affords(schedule.groups[0])
    assert len(budget.postponed) == 1


def test_cells_of_a_stage_that_does_not_fit_are_not_started_either(measured):
    _, store, schedule, found = measured(
        axes="{pretraining: [s]}",
        extra="stages: {s: {data: {train: {dataset: scenes, num_images: 5, first_seed: 900}}}}\n",
    )
    sizes = dict(found.sizes)
    for group in schedule.groups:
        size = SplitSize(images=5, regions=15, views=5, rows=15, drawn=3)
        sizes.setdefault(fw.split_key(group.jobs[0].cell, "train"), size)
    found = found.model_copy(update={"sizes": sizes})
    whole = forecast_time(schedule, store, found)
    stage, cell = sorted(whole.groups.values())
    assert whole.run_s == pytest.approx(stage + cell)  # one after the other
    budget = Budget(time.monotonic() + 30, schedule, store, found)
    assert budget.choose() == []
    assert set(budget.postponed.values()) >= {"what it starts from was not started"}
    assert len({runs_of(group) for group in schedule.groups}) == 2


def test_chained_stages_are_chosen_in_their_order(measured):
    """The second stage is longer and starts from the first: both fit, and so does the cell."""
    data = "{train: {dataset: scenes, num_images: 5, first_seed: 900}}"
    _, store, schedule, found = measured(
        axes="{pretraining: [[one, two]]}",
        extra=f"stages: {{one: {{data: {data}, train: {{steps: 10}}}}, "
        f"two: {{data: {data}, train: {{steps: 100}}}}}}\n",
    )
    sizes = dict(found.sizes)
    for group in schedule.groups:
        size = SplitSize(images=5, regions=15, views=5, rows=15, drawn=3)
        sizes.setdefault(fw.split_key(group.jobs[0].cell, "train"), size)
    probes = {fw.shape_key(g, schedule.threads): PROBE for g in schedule.groups}
    found = found.model_copy(update={"sizes": sizes, "probes": probes})
    budget = Budget(time.monotonic() + 1e6, schedule, store, found)
    assert len(budget.choose()) == len(schedule.groups) == 3
    assert budget.postponed == {}


def test_durations_are_read_and_written():
    assert [parse_duration(t) for t in ("45s", "90m", "2h", "1h30m", "1h 1s")] == [
        45,
        5400,
        7200,
        5400,
        3601,
    ]
    for text in ("", "90", "soon", "0s", "1.5h"):
        with pytest.raises(InputError, match="is no duration"):
            parse_duration(text)
    assert [in_words(s) for s in (45.4, 145, 11_100)] == ["45 s", "2 min 25 s", "3 h 05 min"]
