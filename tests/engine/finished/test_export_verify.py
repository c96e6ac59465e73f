"""A finished run given away as a checkpoint, and looked over again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from sca_bench import variants
from sca_bench.cli import main
from sca_bench.digests import file_sha256
from sca_bench.engine.finished import verify
from sca_bench.engine.finished.export import export_run
from sca_bench.engine.finished.import_weights import import_weights
from sca_bench.engine.finished.verify import verify_run
from sca_bench.errors import InputError
from sca_bench.metrics.rows import read_rows
from sca_bench.models.original.layout import load_original
from sca_bench.reading import read_jsonl
from sca_bench.study.runs.record import Score
from sca_bench.study.runs.store import PREDICTIONS, Store
from sca_bench.variants import all_variants

# What the original's layout can express, strong enough to say different things of regions.
EXPORTABLE = {
    "sam.weights": "embedded:sam_tiny",
    "text_decoder.weights": "embedded:lm_scenes",
    "mixer.mlp_dim": 192,
    "mixer.init_std": 0.3,
    "eval.max_new_tokens": 6,
}


@pytest.fixture(scope="module")
def trainings():
    """Changes and seed -> the runs folder in which they were trained, and the cell."""
    return {}


@pytest.fixture
def finished(group_job, run_group, trainings, tmp_path, tmp_path_factory):
    """Return a function that returns store and record of a cell: trained once, a copy for each."""

    def train(changes, seed):
        job = group_job(dict(changes), runs=tmp_path_factory.mktemp("trained") / "runs", seed=seed)
        assert not run_group(job).failed
        return Path(job.runs_dir), job.cells[0].cell_id

    def run(changes=EXPORTABLE, seed=0):
        key = json.dumps([changes, seed], sort_keys=True)
        if key not in trainings:
            trainings[key] = train(changes, seed)
        folder, cell_id = trainings[key]
        shutil.copytree(folder, tmp_path / "runs", dirs_exist_ok=True)
        store = Store(tmp_path / "runs")
        record = store.record(cell_id, seed)
        scores = {"cider_d": Score(value=1.5, signature={"scorer": "x"})}
        store.save(record.model_copy(update={"scores": scores}))
        return store, store.record(cell_id, seed)

    return run


def captions(store, record):
    rows = read_rows(store.run_dir(record.cell_id, record.seed) / PREDICTIONS)
    return {row.region_id: row.caption for row in rows}


def log_probs(store, record):
    rows = read_jsonl(store.run_dir(record.cell_id, record.seed) / PREDICTIONS)
    return {row["region_id"]: row["log_prob"] for row in rows}


@pytest.mark.parametrize("gain", [1.0, 0.5])
def test_an_exported_run_imported_again_says_the_same(finished, tmp_path, gain, group_job):
    """There and back: run, checkpoint of the original, import, run without a step."""
    store, record = finished({**EXPORTABLE, "prefix.gain": gain})
    lines = export_run(store, record.cell_id, tmp_path / "exported")
    assert ("prefix.gain 0.5 has no place" in "\n".join(lines)) == (gain != 1.0)
    import_weights(tmp_path / "exported", tmp_path / "imported")
    fragment = yaml.safe_load((tmp_path / "imported" / "settings.yaml").read_text())["base"]
    again, second = finished({**fragment, "train.steps": 0, "eval.max_new_tokens": 6}, seed=5)
    assert captions(store, record) == captions(again, second)
    sure, second_sure = log_probs(store, record), log_probs(again, second)
    assert len(set(sure.values())) > 1  # few steps: all regions may be called the same
    assert second_sure == pytest.approx(sure, abs=1e-4)


def test_the_card_tells_where_a_checkpoint_comes_from(finished, tmp_path):
    store, record = finished()
    out = tmp_path / "exported"
    export_run(store, f"{record.cell_id}/0", out)
    card = json.loads((out / "export.json").read_text())
    weights = store.run_dir(record.cell_id, 0) / "trainable.safetensors"
    assert card["origin"] == {
        "cell_id": record.cell_id,
        "seed": 0,
        "trained_sha256": file_sha256(weights),
    }
    assert card["run"]["settings"] == record.settings
    assert card["run"]["inputs"] == record.inputs
    assert card["run"]["lineage"] == record.lineage
    assert card["scores"]["cider_d"] == {"value": 1.5, "signature": {"scorer": "x"}, "reason": ""}
    assert card["files"]["model.safetensors"]["sha256"] == file_sha256(out / "model.safetensors")
    trained = load_original(out).trainable_state()
    assert all(torch.equal(trained[n], t) for n, t in load_file(weights).items())
    assert "exported before, unchanged" in export_run(store, record.cell_id, out)[0]
    (out / "notes.txt").write_text("x")  # more files do not matter, others' folders do
    export_run(store, record.cell_id, out)
    other, second = finished(seed=1)
    with pytest.raises(InputError, match="was written from something else"):
        export_run(other, f"{second.cell_id}/1", out)


def test_what_cannot_be_exported_is_one_line_and_leaves_nothing(finished, tmp_path):
    store, record = finished({"mixer.mlp_dim": 16})
    with pytest.raises(InputError, match="the original's layout cannot express this"):
        export_run(store, record.cell_id, tmp_path / "out")
    frequent, second = finished({"variant": "most_frequent"})
    with pytest.raises(InputError, match="no trained tensors"):
        export_run(frequent, second.cell_id, tmp_path / "out")
    assert not [p for p in tmp_path.iterdir() if "out" in p.name]


# --- verify -----------------------------------------------------------------------------------


def verdicts(store, record, regions=4):
    return {check.name: check for check in verify_run(store, record.cell_id, regions)}


def test_a_run_that_was_left_alone_holds(finished, capsys):
    store, record = finished()
    capsys.readouterr()
    assert main(["verify", record.cell_id, "--runs-dir", str(store.root)]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = ("record:", "inputs:", "weights:", "predictions:", "captions:")
    assert [line.split()[0] for line in lines] == list(names)
    count = len(captions(store, record))
    assert f"{count} captions for the {count} regions" in lines[3]
    assert f"{count} regions captioned again on cpu, word for word the same" in lines[4]


@pytest.mark.parametrize(
    "changes",
    [
        {"variant": "most_frequent"},
        {"eval.prompt": "point", "features.cache": False},
        {"data.blank_images": True},
        {"runtime.eval_regions": 3, "eval.num_beams": 2},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_kinds_of_runs_hold_too(finished, changes):
    store, record = finished({**EXPORTABLE, **changes})
    assert [c.text for c in verdicts(store, record).values() if not c.passed] == []


def test_few_regions_are_captioned_in_the_batches_of_the_run(finished):
    store, record = finished({**EXPORTABLE, "runtime.eval_regions": 3})
    text = verdicts(store, record, regions=1)["captions"].text
    assert int(text.split()[0]) < len(captions(store, record))


def edit_record(folder, **changes):
    path = folder / "record.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(("machine", "whole"), [({"eval_regions": 3}, False), ("?", True)])
def test_on_a_gpu_these_are_the_batches_that_the_record_names(
    finished, monkeypatch, machine, whole
):
    store, record = finished()
    provenance = {**record.provenance, "machine": machine}
    edit_record(store.run_dir(record.cell_id, record.seed), provenance=provenance)
    monkeypatch.setattr(verify, "is_gpu", lambda _: True)
    text = verdicts(store, record, regions=1)["captions"].text
    assert (int(text.split()[0]) == len(captions(store, record))) == whole


def other_settings(folder):
    settings = json.loads((folder / "record.json").read_text())["settings"]
    settings["train"]["learning_rate"] = 1.0
    edit_record(folder, settings=settings)


def other_revision(folder):
    edit_record(folder, revision="0")


def unknown_setting(folder):
    settings = json.loads((folder / "record.json").read_text())["settings"]
    settings["mixer"]["depth"] = 3
    edit_record(folder, settings=settings)


def damaged_record(folder):
    (folder / "record.json").write_text("{")


def one_tensor_less(folder):
    tensors = load_file(folder / "trainable.safetensors")
    del tensors["projection.bias"]
    save_file(tensors, folder / "trainable.safetensors")


def no_weights(folder):
    (folder / "trainable.safetensors").unlink()


def edit_rows(folder, edit):
    path = folder / "predictions.jsonl"
    rows = path.read_text().splitlines()
    path.write_text("\n".join(edit(rows)) + "\n")


def row_twice(folder):
    edit_rows(folder, lambda rows: [*rows, rows[0]])


def row_less(folder):
    edit_rows(folder, lambda rows: rows[1:])


def strange_row(folder):
    edit_rows(folder, lambda rows: [*rows, rows[0].replace("scene_", "zebra_")])


def other_caption(folder):
    def edit(rows):
        return [json.dumps({**json.loads(rows[0]), "caption": "a lie"}), *rows[1:]]

    edit_rows(folder, edit)


def other_weights(folder):
    tensors = load_file(folder / "trainable.safetensors")
    tensors["projection.weight"] = torch.randn_like(tensors["projection.weight"]) * 3
    save_file(tensors, folder / "trainable.safetensors")


def other_test_split(folder):
    record = json.loads((folder / "record.json").read_text())
    digests = {**record["provenance"]["split_digests"], "test": "0"}
    edit_record(folder, provenance={**record["provenance"], "split_digests": digests})


@pytest.mark.parametrize(
    ("tamper", "name", "said"),
    [
        (damaged_record, "record", "damaged file"),
        (other_settings, "record", "settings and inputs give the id"),
        (other_revision, "record", "with revision 0, the record says"),
        (unknown_setting, "record", "settings.mixer.depth: is no setting of today's code"),
        (one_tensor_less, "weights", "projection.bias: is missing"),
        (no_weights, "weights", "this run has no trained tensors"),
        (row_twice, "predictions", "appears twice, first in line 1"),
        (row_less, "predictions", "1 regions have no caption"),
        (strange_row, "predictions", "1 captions belong to no region"),
        (other_test_split, "predictions", "is not the test split that the run captioned"),
        (other_caption, "captions", "1 of 9 regions get another caption, the first is 'a lie'"),
        (other_weights, "captions", "regions get another caption"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_whatever_was_changed_is_found(finished, capsys, tamper, name, said):
    store, record = finished()
    tamper(store.run_dir(record.cell_id, 0))
    capsys.readouterr()
    assert main(["verify", str(store.run_dir(record.cell_id, 0))]) == 1
    lines = capsys.readouterr().out.splitlines()
    (found,) = [line for line in lines if line.startswith(f"{name}:")]
    assert "FAILED" in found
    assert said in found
    before = lines[: lines.index(found)]
    assert not any("FAILED" in line for line in before)


def test_a_changed_text_decoder_is_found(finished, tiny_decoder, tmp_path):
    decoder = tmp_path / "decoder"
    shutil.copytree(tiny_decoder, decoder)
    store, record = finished({**EXPORTABLE, "text_decoder.weights": str(decoder)})
    tensors = load_file(decoder / "model.safetensors")
    save_file({n: t + 1 for n, t in tensors.items()}, decoder / "model.safetensors")
    found = verdicts(store, record)
    assert found["inputs"].text.endswith("has changed since the run, as have 0 more inputs")
    assert not found["captions"].passed
    assert "not captioned again" in found["captions"].text


# --- runs of an older revision ------------------------------------------------------------------


@pytest.fixture
def older(finished, monkeypatch, capsys):
    """A finished run whose variant has got a newer revision since: its folder, and its check."""
    store, record = finished()
    newer = all_variants()
    newer["sca"] = replace(newer["sca"], revision="99")
    monkeypatch.setattr(variants.VARIANTS, "own", lambda: newer)

    def check():
        capsys.readouterr()
        code = main(["verify", record.cell_id, "--runs-dir", str(store.root)])
        return code, dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())

    return store.run_dir(record.cell_id, record.seed), check


def test_captions_that_newer_code_changes_are_counted(older):
    folder, check = older
    code, said = check()
    assert code == 0
    raised = "sca revision 3, today 99"
    assert said["record"].endswith(f"seed 0, id agrees; older revision: {raised}")
    assert "9 regions captioned again on cpu, word for word the same" in said["captions"]
    other_caption(folder)
    code, said = check()
    assert code == 0
    found = f"1 of 9 captions differ under today's code ({raised}), the first is 'a lie'"
    assert found in said["captions"]


def test_all_else_of_an_older_run_must_hold(older, tmp_path):
    folder, check = older
    whole = shutil.copytree(folder, tmp_path / "whole")
    for tamper, name in (
        (other_settings, "record"),
        (one_tensor_less, "weights"),
        (row_less, "predictions"),
    ):
        tamper(folder)
        code, said = check()
        assert code == 1
        assert "FAILED" in said[name]
        shutil.copytree(whole, folder, dirs_exist_ok=True)
    assert check()[0] == 0


def test_an_input_that_was_not_asked_for_then_is_no_change(finished):
    """A path setting that is added later has a default, which an older record cannot name."""
    store, record = finished()
    folder = store.run_dir(record.cell_id, 0)
    settings = json.loads((folder / "record.json").read_text())["settings"]
    del settings["baseline"]  # as if the whole section were new
    inputs = {key: value for key, value in record.inputs.items() if key != "baseline.weights"}
    edit_record(folder, settings=settings, inputs=inputs)
    assert verdicts(store, record)["inputs"].passed
    edit_record(folder, settings=record.settings, inputs=inputs)
    assert not verdicts(store, record)["inputs"].passed
