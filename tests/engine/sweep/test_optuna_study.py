"""Asking and telling without training: runs are made up as a function of their settings."""

import contextlib
import math
import sqlite3

import pytest
import yaml
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState
from optuna.visualization._optimization_history import _get_optimization_history_info_list
from optuna.visualization._pareto_front import _get_pareto_front_info
from optuna.visualization._slice import _get_slice_plot_info

from sca_bench.engine.sweep.optuna_study import check_objectives, default_storage
from sca_bench.engine.sweep.searched import importances, sweep_record
from sca_bench.engine.sweep.sweeper import Sweeper
from sca_bench.errors import InputError
from sca_bench.output import without_secrets
from sca_bench.report.figures.sweep.trials import trials_of
from sca_bench.study.runs.record import RunRecord, Score
from sca_bench.study.runs.store import Store
from sca_bench.study.runs.sweep_record import read_sweep, save_sweep
from sca_bench.study.suite.sweep import load_sweep

SPACE = {
    "mixer.num_layers": {"choices": [1, 2, 4]},
    "train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
}


class Stopped(Exception):
    pass


class MadeUp:
    """Runs a plan by writing records; stops in the middle of the batch it is told to."""

    def __init__(
        self, store, stop_after=None, fails=lambda settings: False, refuses=lambda settings: False
    ):
        self.store, self.stop_after, self.fails, self.ran = store, stop_after, fails, []
        self.refuses = refuses

    def __call__(self, plan, pruner):
        if any(self.refuses(job.cell.settings) for job in plan.left):
            raise InputError("demo.yaml", "mixer", "does not fit")
        for job in plan.left:
            if self.stop_after is not None and len(self.ran) >= self.stop_after:
                raise Stopped
            self.ran.append(job.cell.cell_id)
            self.store.save(self.record(job))
        return {}

    def record(self, job):
        settings = job.cell.settings
        value = -((math.log10(settings.train.learning_rate) + 3) ** 2) - settings.mixer.num_layers
        failed = self.fails(settings)
        return RunRecord(
            cell_id=job.cell.cell_id,
            seed=job.seed,
            status="failed" if failed else "done",
            error="made up" if failed else "",
            settings=settings.model_dump(mode="json"),
            variant="sca",
            revision="1",
            scores={} if failed else {"exact_match": Score(value=value)},
            cost={"num_trainable_params": float(settings.mixer.num_layers)},
        )


@pytest.fixture
def sweep_of(tmp_path):
    def build(trials=None, **changes):
        content = {
            "sweep": "demo",
            "question": "Which?",
            "base": {"sam": {"weights": "random"}, "text_decoder": {"weights": "random"}},
            "space": SPACE,
            "objectives": [{"metric": "exact_match", "direction": "maximize"}],
            "trials": 10,
        }
        path = tmp_path / "demo.yaml"
        path.write_text(yaml.safe_dump(content | changes), encoding="utf-8")
        return load_sweep(path, trials=trials)

    return build


@pytest.fixture
def sweeper_of(tmp_path):
    def build(sweep, runs="runs", **how):
        store = Store(tmp_path / runs)
        store.root.mkdir(exist_ok=True)
        run = MadeUp(store, **how)
        url = sweep.spec.storage or default_storage(store.root)
        return Sweeper(sweep, store, url, run, lambda text: None), run

    return build


def history(sweeper):
    return [(t.number, t.state, t.params, t.values) for t in sweeper.trials]


def run_all(sweeper):
    return [[trial.number for trial in batch] for batch in sweeper.batches()]


def test_batches_cells_and_the_best(sweep_of, sweeper_of):
    sweeper, run = sweeper_of(sweep_of())
    assert run_all(sweeper) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert {t.state for t in sweeper.trials} == {TrialState.COMPLETE}
    assert len(run.ran) == len(set(run.ran)) == 10
    (best,) = sweeper.best()
    assert best.values == [max(t.values[0] for t in sweeper.trials)]
    plan = sweeper.confirmation()
    assert {job.seed for job in plan.jobs} == {100, 101, 102}
    assert plan.cells[0].settings.eval.split == "test"
    assert plan.suite.spec.suite == "demo_confirmed"
    trial = sweeper.plan_of([best]).cells[0]
    assert trial.settings.eval.split == "val"
    assert trial.training_id == plan.cells[0].training_id
    assert trial.cell_id == best.user_attrs["cell_id"] != plan.cells[0].cell_id


@pytest.mark.parametrize("sampler", ["TPESampler", "RandomSampler", "NSGAIISampler", "QMCSampler"])
def test_a_stopped_sweep_goes_on_as_if_nothing_had_been(sweep_of, sweeper_of, sampler):
    sweep = sweep_of(sampler={"name": sampler})
    whole, _ = sweeper_of(sweep)
    run_all(whole)
    stopped, ran = None, []
    for more in (1, 0, 4, 2, 0, 5):
        stopped, run = sweeper_of(sweep, "stopped", stop_after=more)
        with contextlib.suppress(Stopped):
            run_all(stopped)
        ran += run.ran
    assert history(stopped) == history(whole)
    assert len(ran) == len(set(ran))
    again, run = sweeper_of(sweep, "stopped")
    assert run_all(again) == []
    assert run.ran == []


def test_a_trial_that_was_asked_but_has_no_parameters_gets_the_same_ones(sweep_of, sweeper_of):
    sweep = sweep_of()
    whole, _ = sweeper_of(sweep)
    run_all(whole)
    torn, _ = sweeper_of(sweep, "torn")
    torn.study.ask()
    run_all(torn)
    assert history(torn) == history(whole)


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("trial_user_attributes", "DELETE FROM {} WHERE key = 'cell_id'"),
        ("trial_user_attributes", "UPDATE {} SET value_json = '[1]' WHERE key = 'cell_id'"),
        ("trial_user_attributes", "UPDATE {} SET value_json = '{{}}' WHERE key = 'training_id'"),
        ("trial_user_attributes", "DELETE FROM {} WHERE key = 'cell'"),
        ("trial_params", "DELETE FROM {} WHERE param_name = 'mixer.num_layers'"),
        ("trial_params", "UPDATE {} SET param_value = 7 WHERE param_name = 'mixer.num_layers'"),
    ],
)
def test_a_trial_that_no_sweep_has_written_is_one_line(sweep_of, sweeper_of, table, change):
    sweep = sweep_of(trials=2)
    first, _ = sweeper_of(sweep)
    run_all(first)
    with contextlib.closing(sqlite3.connect(first.store.root / "sweeps.db")) as storage, storage:
        storage.execute(change.format(table))
    with pytest.raises(InputError, match=r"demo\.yaml: trial( 0|s): .*; delete the file") as caught:
        sweeper_of(sweep)
    assert "\n" not in str(caught.value)


def test_a_cell_id_that_leads_out_of_the_folder_is_one_line(sweep_of, sweeper_of):
    sweep = sweep_of(trials=2)
    first, _ = sweeper_of(sweep)
    run_all(first)
    with contextlib.closing(sqlite3.connect(first.store.root / "sweeps.db")) as storage, storage:
        storage.execute(
            "UPDATE trial_user_attributes SET value_json = '\"../../x\"' WHERE key = 'cell_id'"
        )
    with pytest.raises(InputError, match="cell_id"):
        sweeper_of(sweep)


def test_a_trial_whose_parameters_make_no_cell_leaves_the_others(sweep_of, sweeper_of, monkeypatch):
    sweeper, _ = sweeper_of(sweep_of(trials=3))
    cell = sweeper._cell

    def made(number, params, split):
        if number == 1:
            raise InputError("demo.yaml", "space", "makes no cell")
        return cell(number, params, split)

    monkeypatch.setattr(sweeper, "_cell", made)
    run_all(sweeper)
    assert [trial.number for trial in sweeper.failed] == [1]
    assert len(sweeper.plan_of(sweeper.ended).cells) == 2


def test_more_trials_go_on_with_the_same_study(sweep_of, sweeper_of):
    few, _ = sweeper_of(sweep_of(trials=4))
    run_all(few)
    more, run = sweeper_of(sweep_of(trials=8))
    assert run_all(more) == [[4, 5, 6, 7]]
    assert len(run.ran) == 4


def test_a_lost_storage_costs_no_run(sweep_of, sweeper_of):
    sweep = sweep_of()
    first, _ = sweeper_of(sweep)
    run_all(first)
    before = history(first)
    (first.store.root / "sweeps.db").unlink()
    again, run = sweeper_of(sweep)
    run_all(again)
    assert history(again) == before
    assert run.ran == []


def test_a_repeated_configuration_runs_once(sweep_of, sweeper_of):
    sweep = sweep_of(space={"mixer.num_layers": {"choices": [1, 2]}}, trials=7)
    sweeper, run = sweeper_of(sweep)
    run_all(sweeper)
    assert len(sweeper.ended) == 7
    assert len(run.ran) == 2
    assert len(sweeper.plan_of(sweeper.ended).cells) == 2


def test_a_failed_trial_is_told_and_never_repeated(sweep_of, sweeper_of):
    sweep = sweep_of(space={"mixer.num_layers": {"choices": [1, 2]}}, trials=6)
    sweeper, run = sweeper_of(sweep, fails=lambda settings: settings.mixer.num_layers == 2)
    run_all(sweeper)
    assert len(run.ran) == 2
    failed = [t for t in sweeper.trials if t.params["mixer.num_layers"] == 2]
    assert failed == sweeper.failed
    assert failed[0].user_attrs["reason"] == "made up"
    assert failed[1].user_attrs["reason"] == f"the same cell as #{failed[0].number}"
    assert run_all(sweeper) == []


def test_a_grid_ends_when_it_is_used_up(sweep_of, sweeper_of):
    space = {
        "mixer.num_layers": {"low": 1, "high": 2},
        "train.learning_rate": {"low": 0.1, "high": 0.3, "step": 0.1},
    }
    sweep = sweep_of(space=space, sampler={"name": "GridSampler"}, trials=20)
    sweeper, run = sweeper_of(sweep)
    run_all(sweeper)
    assert len(set(run.ran)) == 6
    again, more = sweeper_of(sweep)
    assert run_all(again) == []
    assert more.ran == []
    assert "exhausted" in again.study.user_attrs


def test_several_objectives_give_a_front(sweep_of, sweeper_of):
    objectives = [
        {"metric": "exact_match", "direction": "maximize"},
        {"metric": "cost.num_trainable_params", "direction": "minimize"},
    ]
    sweep = sweep_of(objectives=objectives, sampler={"name": "NSGAIISampler"})
    check_objectives(sweep)
    sweeper, _ = sweeper_of(sweep)
    run_all(sweeper)
    numbers = [trial.number for trial in sweeper.best()]
    assert numbers == sorted(trial.number for trial in sweeper.study.best_trials)
    assert len(sweeper.confirmation().cells) == len(numbers)


def test_an_edited_sweep_begins_a_study_of_its_own(sweep_of, sweeper_of):
    first, _ = sweeper_of(sweep_of())
    for change in (
        {"seed": 1},
        {"train_seed": 1},
        {"base": {"train": {"steps": 9}}},
        {"space": SPACE | {"train.weight_decay": {"low": 0.0, "high": 0.1}}},
        {"objectives": [{"metric": "cider_d", "direction": "maximize"}]},
        {"pruner": {"name": "MedianPruner"}},
    ):
        assert sweeper_of(sweep_of(**change))[0].name != first.name
    for change in (
        {"trials": 99},
        {"batch": 1},
        {"question": "What?"},
        {"base": {"runtime": {"threads": 1}}},
    ):
        merged = {**change, "base": {**{"sam": {"weights": "random"}}, **change.get("base", {})}}
        merged["base"]["text_decoder"] = {"weights": "random"}
        merged = merged if "base" in change else change
        assert sweeper_of(sweep_of(**merged))[0].name == first.name


def test_a_journal_serves_as_storage(sweep_of, sweeper_of, tmp_path):
    sweep = sweep_of(storage=f"journal:{tmp_path}/sweep.log", trials=4)
    sweeper, _ = sweeper_of(sweep)
    run_all(sweeper)
    assert (tmp_path / "sweep.log").exists()
    assert history(sweeper_of(sweep)[0]) == history(sweeper)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"sampler": {"name": "TPESamler"}}, r"sampler\.name: 'TPESamler'; did you mean TPES"),
        ({"sampler": {"name": "TPESampler", "n_startup_trial": 3}}, "did you mean n_startup_tria"),
        ({"sampler": {"name": "RandomSampler", "seed": 3}}, r"sampler\.seed: .* seed: of the swe"),
        (
            {"sampler": {"name": "TPESampler", "n_startup_trials": True}},
            r"sampler\.n_startup_trials: true is wrong; expected a number",
        ),
        (
            {"pruner": {"name": "MedianPruner", "n_warmup_steps": True}},
            r"pruner\.n_warmup_steps: true is wrong",
        ),
        ({"sampler": {"name": "GridSampler"}}, r"space\.train\.learning_rate: GridSampler needs"),
        ({"pruner": {"name": "MedianPrunr"}}, r"pruner\.name: .*did you mean MedianPruner"),
        ({"pruner": {"name": "PercentilePruner"}}, "pruner: PercentilePruner refuses"),
        (
            {"objectives": [{"metric": "cost.train_s", "direction": "minimize"}]},
            r"objectives\.0: metric: 'cost\.train_s' is measured",
        ),
        (
            {"objectives": [{"metric": "cider", "direction": "maximize"}]},
            "'cider' is unknown; did you mean cider_d",
        ),
        ({"objectives": [{"metric": "bleu", "direction": "maximize"}]}, "take bleu_4"),
        (
            {"pruner": {"name": "MedianPruner"}, "base": {"train": {"val_every": 250}}},
            "pruner: is never asked",
        ),
    ],
)
def test_wrong_names_are_one_line(sweep_of, changes, line):
    with pytest.raises(InputError, match=line) as error:
        check_objectives(sweep_of(**changes))
    assert "\n" not in str(error.value)


def test_a_storage_that_cannot_be_opened_is_one_line_without_its_password(sweep_of, sweeper_of):
    sweep = sweep_of(storage="postgres9://me:secret@nowhere/db")
    with pytest.raises(InputError, match=r"storage: .* cannot be opened") as error:
        sweeper_of(sweep)
    assert "secret" not in str(error.value)
    assert without_secrets("mysql://a:b@c/d") == "mysql://***@c/d"
    assert without_secrets("sqlite:////x/y.db") == "sqlite:////x/y.db"


def test_a_storage_that_cannot_be_written_any_more_is_one_line(sweep_of, sweeper_of, tmp_path):
    sweeper, _ = sweeper_of(sweep_of())
    for path in tmp_path.rglob("sweeps.db*"):
        path.write_bytes(b"no data base " * 1000)
    with pytest.raises(InputError, match=r"sweeps\.db' was lost: file is not a database") as error:
        list(sweeper.batches())
    assert "\n" not in str(error.value)


def test_settings_that_cannot_be_built_fail_their_trial_and_nothing_else(sweep_of, sweeper_of):
    """Found only when a group is prepared; the other trials of the batch run all the same."""

    def refuses(settings):
        return settings.train.learning_rate > 2e-3

    sweeper, run = sweeper_of(sweep_of(), refuses=refuses)
    assert sum(map(len, run_all(sweeper))) == 10
    states = {(t.params["train.learning_rate"] > 2e-3, t.state) for t in sweeper.trials}
    assert states == {(True, TrialState.FAIL), (False, TrialState.COMPLETE)}
    reasons = {t.user_attrs["reason"] for t in sweeper.failed}
    assert reasons == {"demo.yaml: mixer: does not fit"}
    again, run = sweeper_of(sweep_of(), refuses=refuses)
    assert run_all(again) == []
    assert run.ran == []


def test_an_input_that_is_wrong_for_all_is_the_users_to_mend(sweep_of, sweeper_of):
    sweeper, _ = sweeper_of(sweep_of(), refuses=lambda settings: True)
    with pytest.raises(InputError, match="does not fit"):
        run_all(sweeper)
    mended, _ = sweeper_of(sweep_of())
    assert sum(map(len, run_all(mended))) == 10
    assert {t.state for t in mended.trials} == {TrialState.COMPLETE}


TWO_OBJECTIVES = [
    {"metric": "exact_match", "direction": "maximize"},
    {"metric": "cost.num_trainable_params", "direction": "minimize"},
]


def test_what_a_report_shows_of_a_search_is_what_optunas_own_figures_show(sweep_of, sweeper_of):
    sweeper, _ = sweeper_of(sweep_of(trials=14), fails=lambda s: s.mixer.num_layers == 4)
    run_all(sweeper)
    record = sweep_record(sweeper, sweeper.confirmation())
    save_sweep(sweeper.store, record)
    assert read_sweep(sweeper.store, "demo", "tiny") == record
    (info,) = _get_optimization_history_info_list(sweeper.study, None, "value", False)
    assert [trial.number for trial in record.trials] == info.trial_numbers
    complete = {n: v for n, v in enumerate(info.values_info.values) if not math.isnan(v)}
    assert {trial.number: trial.values[0] for trial in record.complete} == complete
    best = [info.best_values_info.values[number] * 100 for number in complete]
    assert trials_of(record).best_so_far(0) == pytest.approx(best)
    for plot in _get_slice_plot_info(sweeper.study, None, None, "value").subplots:
        shown = [trial.params[plot.param_name] for trial in record.complete]
        assert shown == plot.x
        (axis,) = (axis for axis in record.axes if axis.key == plot.param_name)
        assert axis.log == plot.is_log
    own = get_param_importances(sweeper.study, evaluator=PedAnovaImportanceEvaluator())
    assert record.importances == [pytest.approx(own)]
    assert sum(record.importances[0].values()) == pytest.approx(1.0)
    failed = [trial for trial in record.trials if trial.state == "fail"]
    assert failed
    assert {trial.reason.partition("#")[0] for trial in failed} <= {"made up", "the same cell as "}
    assert [cell.trial for cell in record.confirmed] == record.best
    assert record.best == [trial.number for trial in sweeper.best()]


def test_the_front_is_optunas(sweep_of, sweeper_of):
    sweeper, _ = sweeper_of(sweep_of(objectives=TWO_OBJECTIVES, sampler={"name": "RandomSampler"}))
    run_all(sweeper)
    record = sweep_record(sweeper)
    info = _get_pareto_front_info(sweeper.study)
    assert record.best == sorted(trial.number for trial, _ in info.best_trials_with_values)
    assert info.target_names == ["exact_match", "cost.num_trainable_params"]
    assert len(record.importances) == 2
    assert record.confirmed == []


def test_a_storage_says_what_its_numbers_are_and_what_was_asked(sweep_of, sweeper_of):
    sweeper, _ = sweeper_of(sweep_of(objectives=TWO_OBJECTIVES, trials=1))
    assert sweeper.study.metric_names == ["exact_match", "cost.num_trainable_params"]
    about = {"question": "Which?", "report": "sca-bench report demo demo_confirmed"}
    assert sweeper.study.user_attrs == about
    assert importances(sweeper.study) == []
    changed, _ = sweeper_of(sweep_of(objectives=TWO_OBJECTIVES, trials=1, question="What?"))
    assert changed.study.user_attrs == {**about, "question": "What?"}


BASE = {
    "sam": {"weights": "random"},
    "text_decoder": {"weights": "random"},
    "mixer": {"num_layers": 3},
    "train": {"learning_rate": 0.003},
}


def test_the_best_is_confirmed_beside_the_default(sweep_of, sweeper_of):
    confirm = {"seeds": [100, 101], "default": True}
    sweeper, _ = sweeper_of(sweep_of(base=BASE, confirm=confirm))
    run_all(sweeper)
    plan = sweeper.confirmation()
    best, default = plan.cells
    assert default.name == "default num_layers=3,learning_rate=0.003"
    assert plan.suite.reference == default.name
    assert default.settings.train.learning_rate == 0.003
    assert default.settings.mixer.num_layers == 3
    assert default.settings.eval.split == best.settings.eval.split == "test"
    assert default.coordinates == {"mixer.num_layers": 3, "train.learning_rate": 0.003}
    assert plan.suite.axes["mixer.num_layers"] == [best.settings.mixer.num_layers, 3]
    assert len(plan.jobs) == 4
    record = sweep_record(sweeper, plan)
    assert [cell.trial for cell in record.confirmed] == [sweeper.best()[0].number, None]
    # the name of the study, and so its trials, are as without it
    assert sweeper.name == sweeper_of(sweep_of(base=BASE))[0].name


def test_a_search_that_ends_at_the_default_confirms_it_once(sweep_of, sweeper_of):
    space = {"mixer.num_layers": {"choices": [3, 4]}}
    sweep = sweep_of(base=BASE, space=space, confirm={"default": True})
    sweeper, _ = sweeper_of(sweep, fails=lambda settings: settings.mixer.num_layers != 3)
    run_all(sweeper)
    plan = sweeper.confirmation()
    assert len(plan.cells) == 1
    assert plan.suite.reference == ""
