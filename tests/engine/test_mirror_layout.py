"""What stands in MLflow and under which names: few parameters, cells over seeds, what previews."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.tracking_server import serving
from PIL import Image

from sca_bench.contract.fake_suite import fake_suite
from sca_bench.engine.mlflow_mirror import layout, previews
from sca_bench.engine.mlflow_mirror.experiment import changed_note
from sca_bench.engine.mlflow_mirror.tracker import Tracker
from sca_bench.study.runs.findings import CellFinding, ClaimFinding, SuiteFindings
from sca_bench.study.runs.record import CellEntry, RunRecord, SuiteManifest
from sca_bench.study.runs.store import Store

needs_mlflow = [
    pytest.mark.usefixtures("mlflow"),
    pytest.mark.filterwarnings("ignore"),  # mlflow's own imports warn in ways that change
]


@pytest.fixture
def suite(tmp_path):
    """Three depths and a control, two seeds each, with data, commit and pictures."""
    store, manifest = fake_suite(tmp_path / "runs", with_runs=True)
    digests = {"train": "a" * 64, "val": "b" * 64, "test": "c" * 64}
    images = store.root / "images" / "feed"
    images.mkdir(parents=True)
    sizes = {f"image-{number}": [64, 64] for number in range(6)}
    (images / "sizes.json").write_text(json.dumps(sizes))
    for name in sizes:
        Image.fromarray(np.full((64, 64, 3), 90, np.uint8)).save(images / f"{name}.png")
    for record in list(store.records()):
        provenance = {
            **record.provenance,
            "git_commit": "0123456789abcdef+dirty",
            "split_digests": digests,
            "splits": {"test": "scenes 0-5: 12 regions in 6 images kept"},
        }
        data = {split: {"dataset": "scenes", "num_images": 6} for split in digests}
        settings = {**record.settings, "data": data, "mixer": {"num_layers": 9}}
        update = {"provenance": provenance, "settings": settings, "images_dir": "images/feed"}
        store.save(record.model_copy(update=update))
    return store, manifest


def found_of(manifest, shift=0.0):
    cells = [
        CellFinding(
            cell_id=entry.cell_id,
            num_seeds=2,
            means={"cider_d": 0.5 + number + shift, "exact_match": 0.25, "slot/colour": 0.5},
            low=0.25 + number,
            high=0.75 + number,
            difference=None if number == 0 else float(number),
            difference_low=None if number == 0 else number - 0.5,
            difference_high=None if number == 0 else number + 0.5,
            standing="reference" if number == 0 else "not told apart",
            verdicts={} if entry.control else {"deeper": "undecided"},
        )
        for number, entry in enumerate(manifest.cells)
    ]
    claim = ClaimFinding(id="deeper", verdict="undecided", answer="a *b*", difference=0.5, low=-1.0)
    return SuiteFindings(metric="cider_d", cells=cells, claims=[claim])


def shown(uri, name="made_up"):
    """Return a client, and all runs by kind and name."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(name)
    runs = client.search_runs([experiment.experiment_id])
    kinds = {(run.data.tags[layout.KIND_TAG], run.info.run_name): run for run in runs}
    assert len(kinds) == len(runs)
    return client, experiment, kinds


class TestWhatStandsThere:
    pytestmark = needs_mlflow

    def test_a_cell_has_its_seeds_below_it_and_what_was_found(self, suite, mlflow_server, tmp_path):
        store, manifest = suite
        uri, found = mlflow_server, found_of(manifest)
        for _ in range(2):
            Tracker(store, manifest, uri, print, verify=True).update(found)
        client, experiment, runs = shown(uri)
        names = [entry.name for entry in manifest.cells]
        seeds = [f"{name}, seed {seed}" for name in names for seed in (0, 1)]
        wanted = [("cell", n) for n in names] + [("seed", n) for n in seeds]
        assert sorted(runs) == sorted([*wanted, ("summary", "summary")])
        assert {run.info.status for run in runs.values()} == {"FINISHED"}

        for name in names:
            cell = runs["cell", name]
            below = [runs["seed", f"{name}, seed {seed}"] for seed in (0, 1)]
            assert {r.data.tags[layout.PARENT_TAG] for r in below} == {cell.info.run_id}
            assert {r.data.params.get("seed") for r in [cell, *below]} == {None, "0", "1"}
        second, seed = runs["cell", "num_layers=2"], runs["seed", "num_layers=2, seed 1"]
        assert second.data.params == {"mixer.num_layers": "2"}
        assert runs["cell", "permuted captions"].data.params == {"mixer.num_layers": "9"}
        assert second.data.metrics == {
            "test/cider_d": 1.5,
            "test/cider_d_low": 1.25,
            "test/cider_d_high": 1.75,
            "test/exact_match": 0.25,
            "versus_reference/cider_d": 1.0,
            "versus_reference/cider_d_low": 0.5,
            "versus_reference/cider_d_high": 1.5,
        }
        tags = second.data.tags
        assert (tags["verdict"], tags["standing"]) == ("deeper: undecided", "not told apart")
        assert (tags["seeds"], tags["cell"]) == ("2 of 2", "num_layers=2")
        assert (tags["mlflow.source.name"], tags["mlflow.source.type"]) == ("made_up.yaml", "LOCAL")
        assert tags["mlflow.source.git.commit"] == "0123456789abcdef"
        assert tags["mlflow.source.git.dirty"] == "true"
        assert {name.partition("/")[0] for name in seed.data.metrics} == {
            *("test", "train", "val", "usage")
        }
        assert len(client.get_metric_history(seed.info.run_id, "train/loss")) == 10
        assert len(client.get_metric_history(second.info.run_id, "test/cider_d")) == 1
        for run in (seed, second):
            assert {
                (i.dataset.name, i.dataset.digest, i.tags[0].value)
                for i in run.inputs.dataset_inputs
            } == {
                ("scenes test", "c" * 16, "testing"),
                ("scenes train", "a" * 16, "training"),
                ("scenes val", "b" * 16, "validation"),
            }

        summary = runs["summary", "summary"]
        assert summary.info.start_time == max(run.info.start_time for run in runs.values())
        assert summary.data.tags["verdict"] == "deeper: undecided"
        assert summary.data.metrics == {"verdict/deeper": 0.5, "verdict/deeper_low": -1.0}
        assert "\n- a \\*b\\*" in summary.data.tags["mlflow.note.content"]
        assert all("mlflow.note.content" in run.data.tags for run in runs.values())
        assert "viewStateShareKey=sca_bench" in experiment.tags["mlflow.note.content"]
        columns = json.loads(experiment.tags["mlflow.sharedViewState.sca_bench"])
        assert columns["selectedColumns"][:3] == [
            *("params.`mixer.num_layers`", "metrics.`test/cider_d`", "metrics.`test/cider_d_low`")
        ]

        def file(run, name):
            local = client.download_artifacts(run.info.run_id, name, str(tmp_path))
            return open(local, "rb").read()

        table = json.loads(file(seed, "captions.json"))
        captions = ["region_id", "image_id", "caption", "references"]
        assert table["columns"] == [*captions, "cider_d", "exact_match"]
        assert len(table["data"]) == 12
        assert json.loads(seed.data.tags["mlflow.loggedArtifacts"]) == [
            {"path": "captions.json", "type": "table"}
        ]
        sheet = Image.open(io.BytesIO(file(second, "examples.png")))
        assert sheet.width > sheet.height > 400

    def test_what_is_found_later_takes_the_place_of_it(self, suite, mlflow_server):
        """Numbers that change, one that is found no more, and a description of a user's."""
        store, manifest = suite
        uri = mlflow_server
        Tracker(store, manifest, uri, print, verify=True).update(found_of(manifest))
        client, experiment, before = shown(uri)
        client.set_experiment_tag(experiment.experiment_id, "mlflow.note.content", "mine")
        client.set_tag(before["summary", "summary"].info.run_id, "mlflow.note.content", "mine")
        found = found_of(manifest, shift=0.125)
        found.cells[1].difference = found.cells[1].difference_low = None
        found.cells[1].difference_high = None
        for _ in range(2):
            Tracker(store, manifest, uri, print, verify=True).update(found)
        _, experiment, after = shown(uri)
        assert after.keys() == before.keys()
        first, second = (after["cell", f"num_layers={depth}"] for depth in (1, 2))
        assert first.data.metrics["test/cider_d"] == 0.625
        assert first.info.run_id == before["cell", "num_layers=1"].info.run_id
        assert not [name for name in second.data.metrics if name.startswith("versus")]
        seed = after["seed", "num_layers=2, seed 0"]
        assert seed.info.run_id == before["seed", "num_layers=2, seed 0"].info.run_id
        assert seed.data.tags[layout.PARENT_TAG] == second.info.run_id
        assert second.info.status == "FINISHED"
        assert experiment.tags["mlflow.note.content"] == "mine"
        assert after["summary", "summary"].data.tags["mlflow.note.content"] == "mine"

    def test_a_cell_runs_as_long_as_a_seed_of_it(self, suite, mlflow_server):
        store, manifest = suite
        uri = mlflow_server
        record = store.record("depth2", 1)
        store.save(record.model_copy(update={"status": "running"}))
        Tracker(store, manifest, uri, print).update()
        assert shown(uri)[2]["cell", "num_layers=2"].info.status == "RUNNING"
        store.save(record.model_copy(update={"status": "killed"}))
        Tracker(store, manifest, uri, print).update()
        runs = shown(uri)[2]
        assert runs["cell", "num_layers=2"].info.status == "KILLED"
        assert runs["cell", "num_layers=4"].info.status == "FINISHED"

    def test_a_suite_that_gets_more_seeds_has_their_cells(self, suite, mlflow_server):
        """The run of its one seed stood for its cell, with numbers of that."""
        store, manifest = suite
        manifest = manifest.model_copy(update={"cells": manifest.cells[:2]})
        single = manifest.model_copy(update={"seeds": [0]})
        Tracker(store, single, mlflow_server, print).update(found_of(single))
        client, _, runs = shown(mlflow_server)
        assert sorted(runs) == [("seed", f"num_layers={depth}, seed 0") for depth in (1, 2)]
        first = runs["seed", "num_layers=2, seed 0"]
        assert "versus_reference/cider_d" in first.data.metrics
        client.set_tag(first.info.run_id, "liked_by", "me")
        Tracker(store, manifest, mlflow_server, print).update(found_of(manifest))
        _, _, runs = shown(mlflow_server)
        seed, cell = runs["seed", "num_layers=2, seed 0"], runs["cell", "num_layers=2"]
        assert len(runs) == 6
        assert not [name for name in seed.data.metrics if name.startswith("versus")]
        assert "verdict" not in seed.data.tags
        assert seed.data.tags["liked_by"] == "me"
        assert "versus_reference/cider_d" in cell.data.metrics

    def test_requests_grow_with_cells_little(self, suite):
        """Of a server: as many a run as before, and at most five a cell beside these."""
        store, manifest = suite
        with serving("right") as server:
            uri = f"http://{server.address}"
            Tracker(store, manifest, uri, print).update()
            num_first = len(server.asked)
            Tracker(store, manifest, uri, print).update()
            assert len(server.asked) == num_first  # nothing is new, nobody is asked
            num_runs = len(manifest.cells) * len(manifest.seeds)
            assert num_first <= 11 * num_runs + 5 * len(manifest.cells) + 10
            server.asked.clear()
            Tracker(store, manifest, uri, print, verify=True).update()
            assert len(server.asked) < num_runs + 10


def test_values_of_a_suite_and_its_parts_are_shown_and_no_others():
    manifest = SimpleNamespace(metrics=["cider_d", "bleu", "slots"], subsets={"one": "file"})
    shown = ("cider_d", "bleu_4", "slots", "seen/cider_d", "one/bleu_1", "train/cider_d")
    others = ("meteor", "slot/colour", "slot_by_objects/3/colour", "other/cider_d", "one/slot/size")
    assert all(layout.is_shown(name, manifest) for name in shown)
    assert not any(layout.is_shown(name, manifest) for name in others)


def entry(name, **fields):
    return CellEntry(cell_id=name, name=name, coordinates={}, **{"variant": "sca", **fields})


def record(name, **settings):
    return RunRecord(
        cell_id=name, seed=0, status="done", settings=settings, variant="sca", revision="1"
    )


def test_parameters_are_what_a_suite_varies():
    cells = [
        CellEntry(cell_id="a", name="a", coordinates={"mixer.num_layers": 1}, variant="sca"),
        entry("b", stated={"data.blank_images": True, "pretraining": "objects365"}),
        entry("c", variant="most_frequent", ignored={"mixer.num_layers": [1, 2]}),
    ]
    manifest = SimpleNamespace(axes={"mixer.num_layers": [1, 2]}, cells=cells)
    names = layout.param_names(manifest, [])
    assert names == ["mixer.num_layers", "data.blank_images", "pretraining", "variant"]
    stage = {"name": "objects365", "train": {"steps": 1}}
    run = record(
        "b", mixer={"num_layers": 2}, data={"blank_images": True}, pretraining=[stage], variant="s"
    )
    assert layout.params(cells[1], run, names) == {
        "mixer.num_layers": "2",
        "data.blank_images": "true",
        "pretraining": "objects365",
        "variant": "s",
    }
    assert layout.params(cells[2], record("c", pretraining=[]), names)["pretraining"] == "none"
    assert layout.params(cells[2], record("c"), names)["mixer.num_layers"] == "any"


def test_older_manifests_have_their_runs_asked_what_differs():
    manifest = SimpleNamespace(axes={}, cells=[entry("a"), entry("b")])
    runs = [
        record("a", train={"steps": 4}, runtime={"threads": 1}, mixer={"num_layers": 1}),
        record("b", train={"steps": 8}, runtime={"threads": 2}, mixer={"num_layers": 1}),
    ]
    assert layout.param_names(manifest, runs) == ["train.steps"]


def test_data_without_digests_are_no_inputs():
    run = record("a", data={"test": {"dataset": "scenes"}})
    assert layout.datasets(run) == []
    run.provenance["split_digests"] = {"test": "f" * 64, "val": ""}
    (one,) = layout.datasets(run)
    assert (one["name"], one["digest"], one["context"]) == ("scenes test", "f" * 16, "testing")
    assert json.loads(one["source"]) == {"dataset": "scenes"}


def test_a_description_is_the_users_once_they_wrote_it():
    first = changed_note({}, "ours")
    assert first["mlflow.note.content"] == "ours"
    assert changed_note(first, "ours") == {}
    assert changed_note(first, "new")["mlflow.note.content"] == "new"
    assert changed_note({**first, "mlflow.note.content": "theirs"}, "new") == {}
    assert changed_note({"mlflow.note.content": "?"}, "new", ours=["?"]) != {}


def test_names_from_data_are_no_markup():
    manifest = SuiteManifest(
        suite="a*b",
        profile="tiny",
        default_profile="tiny",
        file="f.yaml",
        question="# <b>?",
        seeds=[0],
        metrics=["cider_d"],
        cells=[],
    )
    note = layout.seed_note(manifest, entry("[x](y)"), record("a"))
    assert "**\\[x\\](y)**" in note
    assert "*a\\*b*" in note
    assert "**\\# \\<b>?**" in layout.experiment_note(manifest, "1")


def test_damaged_captions_or_pictures_have_their_fault(suite, tmp_path):
    from sca_bench.errors import InputError

    store, _ = suite
    run = store.record("depth1", 0)
    (store.root / "images/feed/sizes.json").write_text('{"image-0": [0, 64]}')
    with pytest.raises(InputError, match=r"expected \[width, height\]"):
        previews.write_examples(store, run, tmp_path)
    (store.run_dir("depth1", 0) / "predictions.jsonl").write_text('{"region_id": "a"}\n')
    with pytest.raises(InputError, match="no caption of a region"):
        previews.write_captions(Store(store.root), run, ["cider_d"], tmp_path)
