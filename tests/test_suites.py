"""The shipped suites: what each states, and that all of them run to their end."""

import re
import shutil
from pathlib import Path

import pytest

from sca_bench.engine.sweep.optuna_study import check_objectives
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.claims import parse_claim
from sca_bench.study.suite.published import find_published, read_published
from sca_bench.study.suite.sides import claim_cells, point_of
from sca_bench.study.suite.suite import header_of, load_suite
from sca_bench.study.suite.sweep import load_sweep

FOLDER = Path(__file__).parents[1] / "ablations"
SUITES = sorted(FOLDER.glob("*.yaml"))
SWEEPS = sorted((FOLDER / "sweeps").glob("*.yaml"))
TABLES = {
    "comparison": "table_1",
    "pretraining": "table_2",
    "decoder_training": "table_3",
    "mixer_layers": "table_4",
    "mixer_design": "table_5",
    "encoder_size": "table_6",
    "augmentation": "table_7",
}
OF_FILES = {"photos", "photos_table"}
"""Suites that need files of one's own."""
SHIPPED = [path for path in SUITES if path.stem not in OF_FILES]
OWN = {"query_tokens", "task_tokens", "prompts", "premise", "controls", *OF_FILES}


def test_there_is_a_suite_for_every_table():
    assert {path.stem for path in SUITES} == set(TABLES) | OWN
    for path in SUITES:
        suite = load_suite(path, allow_missing=True)
        assert suite.spec.suite == path.stem
        assert suite.spec.paper == TABLES.get(path.stem)


@pytest.mark.parametrize("path", SUITES, ids=lambda p: p.stem)
def test_every_suite_states_its_question_cost_and_expectation(path):
    suite = load_suite(path, allow_missing=True)
    assert suite.spec.question.endswith("?")
    assert re.search(r"\bCost: ", suite.header)
    assert re.search(r"\bExpect: ", suite.header)
    assert "COST_TINY" not in suite.header


@pytest.mark.parametrize("path", SWEEPS, ids=lambda p: p.stem)
def test_every_sweep_states_its_question_cost_and_expectation(path):
    sweep = load_sweep(path)
    assert sweep.spec.sweep == path.stem
    assert sweep.spec.question.endswith("?")
    check_objectives(sweep)
    header = header_of(path)
    assert re.search(r"\bCost: ", header)
    assert re.search(r"\bExpect: ", header)


@pytest.mark.parametrize("profile", ["tiny", "paper"])
@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_every_side_of_a_claim_is_one_cell(path, profile):
    suite = load_suite(path, profile=profile, allow_missing=True)
    points = [point_of(cell) for cell in suite.cells]
    assert suite.claims
    for claim in suite.claims:
        sides = claim_cells(parse_claim(claim.says), points)
        assert [len(cells) for cells in sides] == [1, 1], claim.id


@pytest.mark.parametrize("path", [p for p in SUITES if p.stem in TABLES], ids=lambda p: p.stem)
def test_every_claim_of_a_table_has_a_counterpart_at_tiny_scale(path):
    paper, tiny = (load_suite(path, profile=p, allow_missing=True) for p in ("paper", "tiny"))
    printed = set(paper.published.claims)
    assert printed == {claim.id for claim in paper.claims}  # both sides stand in the table
    assert printed <= {claim.id for claim in tiny.claims}


def test_the_paper_s_own_numbers_bear_out_its_claims():
    """A claim written down the wrong way round would contradict the table it comes from."""
    published = read_published(find_published())
    for path in (p for p in SUITES if p.stem in TABLES):
        suite = load_suite(path, profile="paper", allow_missing=True)
        for claim in suite.claims:
            parsed = parse_claim(claim.says)
            rows = suite.published.claims[claim.id]
            left, right = (
                published.row(suite.spec.paper, row, claim.id)[parsed.left.metric].value
                for row in (rows.left, rows.right)
            )
            margin = 0.01 * right if "=" in parsed.comparator else 0.0
            difference = (left - right) * (1 if ">" in parsed.comparator else -1)
            assert difference + margin > 0, claim.id


@pytest.mark.parametrize("path", [p for p in SUITES if p.stem in TABLES], ids=lambda p: p.stem)
def test_the_published_rows_stand_beside_the_cells_of_paper_scale(path):
    suite = load_suite(path, profile="paper", allow_missing=True)
    on_axes = {c.name for c in suite.cells if c.coordinates}
    known = set(suite.published.cells)
    assert known & {c.name for c in suite.cells}
    unpublished = on_axes - known
    assert unpublished <= {"pretraining=objects365_and_panoptic"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_small_is_tiny_with_more_steps_in_every_suite(path):
    tiny, small = (load_suite(path, profile=name, allow_missing=True) for name in ("tiny", "small"))
    assert not small.missing
    assert [c.name for c in small.cells] == [c.name for c in tiny.cells]
    assert [c.id for c in small.claims] == [c.id for c in tiny.claims]


SMALL = (
    "data.train.num_images=12",
    "data.val.num_images=1",
    "data.test.num_images=3",
    "train.steps=2",
    "eval.max_new_tokens=4",
)
REPORTED = ("comparison", "pretraining")
"""Suites of the most kinds of cells: baselines and stages. Each report takes seconds."""
RUN = [*(f"--set={item}" for item in SMALL), "--seeds=0", "--no-mlflow"]


@pytest.fixture(scope="module")
def shortened(tmp_path_factory):
    """A folder with all suites in `ablations`, each with a handful of scenes and steps."""
    root = tmp_path_factory.mktemp("suites")
    shutil.copytree(FOLDER, root / "ablations")
    for path in (root / "ablations").glob("*.yaml"):
        text = re.sub(r"num_images: \d+", "num_images: 12", path.read_text())
        # One cell has more steps than the others; it must stay another cell.
        text = text.replace("train.steps: 240", "train.steps: 2, train.warmup_steps: 1")
        text = re.sub(r"\bsteps: \d+", "steps: 2", text)
        text = text.replace("cider_d, meteor, ", "cider_d, ")  # 10 s to start, a suite
        path.write_text(re.sub(r'\n.*says: "meteor\(.*', "", text))
    return root


@pytest.mark.parametrize("name", [p.stem for p in SHIPPED])
def test_a_suite_runs_to_its_end(shortened, command, name):
    """Every cell of the suite at `tiny`; suites share a runs folder, as those of a user do."""
    command("run", shortened / "ablations" / f"{name}.yaml", *RUN, cwd=shortened)
    store = Store(shortened / "runs")
    (manifest,) = (m for m in store.manifests() if m.suite == name)
    assert {store.record(cell.cell_id, 0).status for cell in manifest.cells} == {"done"}


def test_all_suites_run_in_one_go(shortened, command):
    """What the tests before this one have run is done, so that little is left for this one."""
    out = command("run", "ablations", *RUN, cwd=shortened)
    runs = len(SHIPPED)
    assert (
        f"{runs} of {len(SUITES)} suites all right, 0 with failures, {len(OF_FILES)} skipped" in out
    )
    records = list(Store(shortened / "runs").records())
    assert {r.status for r in records} == {"done"}
    assert {r.stage for r in records} == {
        "",
        "coco",
        "v3det",
        "objects365",
        "objects365_and_panoptic",
    }
    for path in (shortened / "runs" / "suites").glob("*.json"):
        if path.name.split(".")[0] not in REPORTED:
            path.unlink()
    command("report", cwd=shortened)
    assert (shortened / "reports" / "index.html").is_file()
