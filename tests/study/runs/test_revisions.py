"""Runs of older code: told from today's, listed beside them, and made anew."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sca_bench import variants
from sca_bench.cli import main
from sca_bench.settings import CellSettings
from sca_bench.study.keys.cell import CellIdentity, Revisions
from sca_bench.study.plan.plan import make_plan
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.revisions import age_of, had_setting, made_with
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.suite import load_suite


@pytest.fixture
def raise_revision(monkeypatch):
    """Return a function that raises a revision of the code: of a variant, features, or world."""

    def raise_it(what):
        if what in ("features", "world"):
            name = {"features": "FEATURES_REVISION", "world": "WORLD_VERSION"}[what]
            monkeypatch.setattr(f"sca_bench.study.keys.cell.{name}", "99")
            return
        raised = variants.all_variants()
        raised[what] = replace(raised[what], revision="99")
        monkeypatch.setattr(variants.VARIANTS, "own", lambda: raised)

    return raise_it


@pytest.fixture
def store(write, tmp_path):
    """A runs folder in which every run of the small suite is done, by today's code."""
    store = Store(tmp_path / "runs")
    for job in make_plan(load_suite(write()), store).jobs:
        store.save(record_of(job))
    return store


def record_of(job):
    """Return the record of a run as it is written by the code of the moment."""
    cell = job.cell
    return RunRecord(
        cell_id=cell.cell_id,
        seed=job.seed,
        status="done",
        settings=cell.settings.model_dump(mode="json"),
        inputs=cell.identity.inputs,
        variant=cell.settings.variant,
        revision=cell.revision,
        revisions=cell.identity.revisions.beside_variant,
    )


SAID = {
    "sca": "sca revision 3, today 99",
    "features": "features revision 3, today 99",
    "world": "world scenes-1, today 99",
}


@pytest.mark.parametrize("what", SAID)
def test_a_raised_revision_makes_older_runs_and_new_work(store, write, raise_revision, what):
    before = list(store.records())
    assert [age_of(record) for record in before] == [""] * 4
    raise_revision(what)
    assert [age_of(record) for record in before] == [SAID[what]] * 4
    plan = make_plan(load_suite(write()), store)
    assert len(plan.left) == len(plan.jobs) == 4
    for job in plan.jobs:
        store.save(record_of(job))
    assert make_plan(load_suite(write()), store).left == []
    assert len(list(store.records())) == 8  # the older ones stay beside them


def test_a_record_says_what_it_was_made_with(store):
    record = next(store.records())
    assert made_with(record) == Revisions("3", "3", "scenes-1", "2")
    newer = record.model_copy(update={"revisions": {"features": "5", "of_the_future": "1"}})
    assert made_with(newer) == Revisions("3", "5", "scenes-1")
    assert age_of(newer) == "features revision 5, today 3"
    older = record.model_copy(update={"revision": "1", "revisions": {}})  # as they once were
    assert made_with(older) == Revisions("1", "2", "scenes-1")


def test_a_revision_counts_only_where_its_code_is_used(write, tmp_path, suite_text, raise_revision):
    frequent = write(suite_text.replace("variant: sca", "variant: most_frequent"))
    (first, *_) = make_plan(load_suite(frequent), Store(tmp_path)).jobs
    raise_revision("features")
    raise_revision("sca")
    assert age_of(record_of(first)) == ""
    raise_revision("world")
    assert age_of(record_of(first)) == SAID["world"]


def test_settings_whose_key_has_moved_are_of_older_code(store):
    record = next(store.records()).model_copy(update={"cell_id": "0" * 12})
    assert age_of(record).startswith("its settings give the id ")


@pytest.mark.parametrize("changes", [{"settings": {}}, {"variant": "gone", "settings": {}}])
def test_what_cannot_be_read_any_more_is_called_nothing(store, changes):
    assert age_of(next(store.records()).model_copy(update=changes)) == ""


def test_fields_that_a_record_lacks_are_those_added_since(store):
    record = next(store.records())
    del record.settings["mixer"]["dropout"]  # as if it had been added later
    assert age_of(record) == ""  # its default stands in for it
    assert had_setting(record, "mixer.num_layers")
    assert not had_setting(record, "mixer.dropout")
    assert not had_setting(record, "data.train.images")


def test_older_runs_are_listed_and_explained(store, write, raise_revision, capsys):
    old = next(store.records())
    words = ["--runs-dir", str(store.root)]
    assert main(["list", "runs", *words]) == 0
    assert "older revision" not in capsys.readouterr().out
    raise_revision("sca")
    (new, *_) = make_plan(load_suite(write()), store).jobs
    store.save(record_of(new))
    assert main(["list", "runs", *words]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("older revision" in line for line in lines) == 4
    (today,) = [line for line in lines if new.cell.cell_id in line]
    assert "older" not in today

    assert main(["explain", old.cell_id, *words]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["variant.revision"] == "3"
    assert "older revision: sca revision 3, today 99" in said.err
    assert main(["explain", old.cell_id, new.cell.cell_id, *words]) == 0
    assert "variant.revision" in capsys.readouterr().out


def test_the_key_of_an_older_run_is_still_told(store, raise_revision):
    record = next(store.records())
    settings = CellSettings.model_validate(record.settings)
    raise_revision("sca")
    raise_revision("features")
    assert CellIdentity(settings, record.inputs).cell_key != record.cell_id
    assert CellIdentity(settings, record.inputs, made_with(record)).cell_key == record.cell_id
