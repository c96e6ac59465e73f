"""A report loses nothing without a word: two files of one name, seeds by flag, suites edited."""

import shutil

import pytest

from sca_bench.errors import InputError
from sca_bench.study.plan.manifest import check_name, left_out, manifest_of, report_names
from sca_bench.study.plan.plan import make_plan
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.suite import load_suite
from sca_bench.study.suite.sweep import load_sweep

SWEEP = """
sweep: demo
question: How fast?
base: {variant: sca, sam: {size: tiny, weights: random}, text_decoder: {weights: random}}
space: {train.learning_rate: {low: 1e-4, high: 1e-2, log: true}}
objectives: [{metric: exact_match, direction: maximize}]
trials: 2
"""


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


def run(store, file, **given):
    """What `run` leaves of a suite, without running anything; return the manifest."""
    suite = load_suite(file, **given)
    check_name(suite.file, [suite.spec.suite], store)
    plan = make_plan(suite, store)
    manifest = manifest_of(plan, store, "run", "now")
    for job in plan.jobs:
        cell = job.cell
        store.save(
            RunRecord(
                cell_id=cell.cell_id,
                seed=job.seed,
                status="done",
                settings=cell.settings.model_dump(mode="json"),
                variant=cell.settings.variant,
                revision=cell.revision,
            )
        )
    store.save_manifest(manifest)
    return manifest


def changed(text, **new):
    for old, value in new.items():
        text = text.replace(old, value)
    return text


def put(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text.lstrip(), encoding="utf-8")
    return path


def test_another_file_of_the_same_name_is_refused_with_both_named(tmp_path, suite_text, store):
    first = put(tmp_path / "first.yaml", suite_text)
    run(store, first)
    for name in ("second.yaml", "elsewhere/first.yaml"):
        other = put(tmp_path / name, changed(suite_text, matter="help"))
        with pytest.raises(InputError) as caught:
            run(store, other)
        line = str(caught.value)
        assert line.startswith(f"{other}: suite: 'demo' is what {first} is called here, too; ")
        assert "demo.tiny.json to forget the other" in line
    (store.root / "suites" / "demo.tiny.json").unlink()
    assert run(store, other).path == str(other)


def test_another_profile_of_another_file_is_refused_too(tmp_path, suite_text, store):
    run(store, put(tmp_path / "first.yaml", suite_text))
    other = put(tmp_path / "second.yaml", "# other\n" + suite_text)
    with pytest.raises(InputError, match="is called here, too"):
        run(store, other, profile="small")


@pytest.mark.parametrize("confirmed", [False, True])
def test_a_sweep_and_a_suite_do_not_take_each_other_s_name(tmp_path, suite_text, store, confirmed):
    sweep = load_sweep(put(tmp_path / "sweep.yaml", SWEEP))
    cells = [sweep.cell(0, {"train.learning_rate": 1e-3}, "test" if confirmed else "val")]
    plan = make_plan(sweep.suite(cells, confirmed=confirmed), store)
    store.save_manifest(manifest_of(plan, store, "sweep", "now"))
    name = "demo_confirmed" if confirmed else "demo"
    suite = put(tmp_path / "suite.yaml", changed(suite_text, demo=name))
    with pytest.raises(InputError, match=rf"'{name}' is what .*sweep\.yaml is called here"):
        run(store, suite)
    assert check_name(sweep.file, ["demo", "demo_confirmed"], store) == ""


def test_edited_in_place_copied_linked_and_moved_files_stay_the_suite(tmp_path, suite_text, store):
    first = put(tmp_path / "first.yaml", suite_text)
    run(store, first)
    put(first, changed(suite_text, matter="help"))
    assert run(store, first).question == "Does depth help?"
    copy = tmp_path / "copy.yaml"
    shutil.copy(first, copy)
    assert check_name(copy, ["demo"], store) == ""
    (tmp_path / "link.yaml").symlink_to(first)
    assert check_name(tmp_path / "link.yaml", ["demo"], store) == ""
    first.unlink()
    put(copy, changed(suite_text, matter="still help"))
    said = check_name(copy, ["demo"], store)
    assert said == f"demo: was run from {first}, where it is no longer; {copy} takes its place"
    put(first, changed(suite_text, demo="renamed"))
    assert check_name(copy, ["demo"], store) == said


def test_a_manifest_says_how_its_suite_was_asked_for(write, suite_text, store):
    flags = ["train.steps=7", "eval.num_beams=1"]
    plain, flagged = (run(store, write(suite_text), overrides=given) for given in ([], flags))
    assert (plain.overrides, flagged.overrides) == ([], flags)
    assert (flagged.command, flagged.created) == ("run", "now")


def test_a_manifest_of_before_knows_its_file_s_name_alone(tmp_path, suite_text, store):
    first = put(tmp_path / "first.yaml", suite_text)
    old = run(store, first).model_copy(update={"path": "", "digest": ""})
    store.save_manifest(old)
    assert (
        check_name(put(tmp_path / "a" / "first.yaml", "# 1\n" + suite_text), ["demo"], store) == ""
    )
    with pytest.raises(InputError, match=r"is what first\.yaml is called here"):
        check_name(put(tmp_path / "b.yaml", "# 2\n" + suite_text), ["demo"], store)


def test_seeds_by_flag_shrink_no_report(tmp_path, suite_text, store):
    file = put(tmp_path / "first.yaml", suite_text)  # seeds 0 and 1
    alone = run(store, file, seeds=[1])
    assert (alone.seeds, alone.own_seeds) == ([1], [0, 1])
    assert alone.remarks == [
        "Not all seeds of the suite: it names 0, 1; shown is what --seeds asked for, 1. "
        "Never run: 0."
    ]
    assert run(store, file).seeds == [0, 1]
    assert run(store, file, seeds=[0]).seeds == [0, 1]
    more = run(store, file, seeds=[7])
    assert (more.seeds, more.remarks) == ([0, 1, 7], [])
    assert run(store, file).seeds == [0, 1, 7]


def test_what_an_edited_suite_no_longer_shows_is_said(tmp_path, suite_text, store):
    file = put(tmp_path / "first.yaml", suite_text)
    run(store, file)
    plan = make_plan(load_suite(file), store)
    assert left_out(plan, store) == ""
    put(file, changed(suite_text, **{"[1, 2]": "[2, 4]", "seeds: [0, 1]": "seeds: [1]"}))
    plan = make_plan(load_suite(file), store)
    assert left_out(plan, store) == (
        "no longer in the report of demo: the runs of 1 cell as the suite was before "
        "(num_layers=1) and seed 0, which the suite does not name; they are kept"
    )
    assert manifest_of(plan, store, "run", "now").seeds == [1]
    flagged = make_plan(load_suite(file, overrides=["train.steps=9"]), store)
    assert "the runs of 2 cells as the suite was before (num_layers=1; num_layers=2)" in left_out(
        flagged, store
    )


def test_two_profiles_never_have_one_report(tmp_path, suite_text, store):
    """A suite edited in place may have another default profile than when it was run first."""
    file = put(tmp_path / "first.yaml", suite_text)
    run(store, file)
    put(file, suite_text + "profile: small\n")
    run(store, file)
    assert sorted(m.report_name for m in store.manifests()) == ["demo", "demo.tiny"]


def test_a_manifest_says_what_rules_changed(store, write, suite_text):
    rule = "adjust: [{when: {mixer.num_layers: 2}, set: {train.learning_rate: 0.5}}]\n"
    manifest = run(store, write(suite_text + rule))
    adjusted = {entry.name: entry.adjusted for entry in manifest.cells}
    assert adjusted == {"num_layers=1": {}, "num_layers=2": {"train.learning_rate": 0.5}}
    assert [entry.coordinates for entry in manifest.cells] == [
        {"mixer.num_layers": 1},
        {"mixer.num_layers": 2},
    ]
    assert {entry.variant for entry in manifest.cells} == {"sca"}
    assert (manifest.suite, manifest.question) == ("demo", "Does depth matter?")
    assert (manifest.seeds, manifest.metrics) == ([0, 1], ["cider_d"])
    assert (manifest.file, manifest.header) == ("demo.yaml", "Costs nothing.\nExpect nothing.")
    assert (manifest.command, manifest.created) == ("run", "now")


def test_of_many_cells_that_are_gone_eight_are_named(tmp_path, suite_text, store):
    file = put(
        tmp_path / "first.yaml", changed(suite_text, **{"[1, 2]": "[1, 2, 3, 4, 5, 6, 7, 8, 9]"})
    )
    run(store, file)
    names = "; ".join(f"num_layers={n}" for n in range(1, 9))
    put(file, changed(suite_text, **{"[1, 2]": "[9]", "seeds: [0, 1]": "seeds: [7]"}))
    said = left_out(make_plan(load_suite(file), store), store)
    assert said == (
        f"no longer in the report of demo: the runs of 8 cells as the suite was before ({names}) "
        "and seeds 0, 1, which the suite does not name; they are kept"
    )
    put(file, changed(suite_text, **{"[1, 2]": "[10]"}))
    said = left_out(make_plan(load_suite(file), store), store)
    assert said.endswith(f"before ({names}; and 1 more); they are kept")
    assert "the runs of 9 cells" in said


def test_cells_that_were_never_run_are_not_missed(tmp_path, suite_text, store):
    file = put(tmp_path / "first.yaml", suite_text)
    manifest = run(store, file)
    gone = manifest.cells[0].cell_id
    shutil.rmtree(store.run_dir(gone, 0).parent)
    put(file, changed(suite_text, **{"[1, 2]": "[2]"}))
    assert left_out(make_plan(load_suite(file), store), store) == ""
    assert left_out(make_plan(load_suite(file), store), Store(tmp_path / "other")) == ""


def test_names_of_the_reports_of_a_file(tmp_path, suite_text):
    assert report_names(put(tmp_path / "a.yaml", suite_text)) == ["demo"]
    assert report_names(put(tmp_path / "b.yaml", SWEEP)) == ["demo", "demo_confirmed"]
    with pytest.raises(InputError, match=r"c\.yaml: suite: missing"):
        report_names(put(tmp_path / "c.yaml", "question: x\n"))
    with pytest.raises(
        InputError, match=r"d\.yaml: is empty; expected a mapping with suite, quest"
    ):
        report_names(put(tmp_path / "d.yaml", ""))


def test_a_file_that_cannot_be_read_any_more_keeps_its_name(tmp_path, suite_text, store):
    first = put(tmp_path / "first.yaml", suite_text)
    run(store, first)
    put(first, "[")
    other = put(tmp_path / "second.yaml", "# other\n" + suite_text)
    with pytest.raises(InputError, match=r"rename one of them, give another --runs-dir, or delete"):
        check_name(other, ["demo"], store)
    first.unlink()
    first.mkdir()
    assert check_name(other, ["demo"], store).startswith(f"demo: was run from {first}, where it is")
    assert check_name(other, ["another"], store) == ""
