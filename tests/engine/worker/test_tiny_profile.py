"""The embedded default learns its world, and a control trained alike does not."""

from pathlib import Path

from sca_bench.engine.job import CellJob, GroupJob, new_attempt
from sca_bench.metrics.rows import read_rows
from sca_bench.metrics.score import Scorer
from sca_bench.study.plan.plan import make_plan
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.suite import load_suite

SUITE = Path(__file__).parents[3] / "ablations" / "mixer_layers.yaml"
SHORT = ["train.steps=100", "data.train.num_images=400", "data.test.num_images=40"]


def captions_of(run_group, root, *overrides):
    """Run depth 1 of the main suite for a few steps in this process; return its rows."""
    suite = load_suite(SUITE, profile="tiny", overrides=[*SHORT, *overrides], seeds=[0])
    store = Store(root)
    (job,) = make_plan(suite, store, only="num_layers=1").jobs
    cell = CellJob(job.cell.cell_id, job.cell.name, 0, job.cell.identity)
    store.run_dir(cell.cell_id, 0).mkdir(parents=True)
    group = GroupJob(str(root), [cell], str(SUITE), new_attempt("tiny"), 1, "cpu", "pytest")
    assert not run_group(group).failed
    return read_rows(store.run_dir(cell.cell_id, 0) / "predictions.jsonl")


def test_a_short_training_beats_permuted_captions_by_far(run_group, tmp_path):
    """The control reads the features that were kept for the other."""
    seen = captions_of(run_group, tmp_path)
    dealt = captions_of(run_group, tmp_path, "data.permute_captions=true")
    with Scorer() as scorer:
        good, bad = (scorer.score(rows, ["cider_d", "slots"]).values for rows in (seen, dealt))
    assert good["slot/colour"] > 0.85
    assert good["cider_d"] > 4
    assert good["cider_d"] > 2.5 * bad["cider_d"]
