"""`eval.split: val`: the validation split is captioned, scored and checked in place of the test."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from sca_bench.engine.finished.verify import verify_run
from sca_bench.engine.job import Outcome
from sca_bench.engine.launch.launcher import Launcher
from sca_bench.engine.score_runs import score_runs
from sca_bench.engine.worker.prepare import prepare
from sca_bench.errors import InputError
from sca_bench.metrics.rows import read_rows
from sca_bench.settings import CellSettings
from sca_bench.study.plan.plan import make_plan
from sca_bench.study.runs.store import PREDICTIONS, Store
from sca_bench.study.suite.suite import load_suite

VAL = {"eval.split": "val"}


def kept_families(runs_dir):
    abouts = Path(runs_dir).glob("features/*/about.json")
    return sorted(json.loads(path.read_text())["family"] for path in abouts)


def test_both_splits_share_one_training_and_say_what_they_are(suite_file, workers, tmp_path):
    suite = load_suite(suite_file(axes="{eval.split: [val, test]}"))
    store = Store(tmp_path / "runs")
    plan = make_plan(suite, store)
    assert len({cell.training_id for cell in plan.cells}) == 1
    assert len({cell.cell_id for cell in plan.cells}) == 2
    assert not Launcher(plan, store, "pytest", Console(file=io.StringIO()), None).run()
    score_runs(store, plan.jobs, ["exact_match"], lambda text: None)
    for cell, images in zip(plan.cells, (2, 3), strict=True):
        record = store.record(cell.cell_id, 0)
        split = cell.settings.eval.split
        assert record.scores["exact_match"].signature["split"] == split
        assert set(record.provenance["splits"]) == {"train", "val"} | {split}
        rows = read_rows(store.run_dir(cell.cell_id, 0) / PREDICTIONS)
        assert len({row.image_id for row in rows}) == images
        assert len(list((store.root / record.images_dir).glob("*.png"))) == images
        checks = list(verify_run(store, cell.cell_id, 2))
        assert all(check.passed for check in checks), [check.line() for check in checks]
    # Validation and captioning read one bank; nothing of the test split is kept for the val cell.
    assert kept_families(store.root) == ["images", "mixed", "mixed", "mixed"]


def test_captions_under_another_prompt_than_validation_have_a_bank_of_their_own(
    group_job, run_group
):
    job = group_job({**VAL, "eval.prompt": "point"})
    assert not run_group(job).failed
    assert kept_families(job.runs_dir) == ["images", "mixed", "mixed", "mixed"]


def test_an_image_that_is_captioned_is_not_trained_on(group_job):
    job = group_job({**VAL, "data.val": {"dataset": "scenes", "num_images": 1, "first_seed": 4}})
    with pytest.raises(InputError, match=r"data\.train: shares 1 images with data\.val"):
        prepare(job, Outcome(), Path(job.runs_dir) / "prepare.progress")


def test_the_split_has_to_be_there(cell_settings):
    settings = cell_settings(VAL).model_dump()
    settings["data"]["val"] = None
    with pytest.raises(ValueError, match=r"eval\.split: val needs data\.val"):
        CellSettings.model_validate(settings)
