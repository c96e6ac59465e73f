"""Scoring finished runs: subsets beside the whole, and images only for metrics that look."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from safetensors.numpy import load_file

from sca_bench.cli import main
from sca_bench.data.load import load_split
from sca_bench.engine import score_runs as scoring
from sca_bench.engine.score_runs import is_scored, score_runs
from sca_bench.errors import InputError, NotComputed
from sca_bench.metrics import spec
from sca_bench.metrics.protocol import Scored
from sca_bench.metrics.registry import METRICS, MetricSpec, corpus_value
from sca_bench.metrics.subsets import FIRST_OF_IMAGE
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.store import PREDICTIONS, STATISTICS, TRAIN_PREDICTIONS, Store
from sca_bench.study.suite import suite as suite_module

FIRST = {"one_per_image": FIRST_OF_IMAGE}


@pytest.fixture
def runs(tmp_path, cell_settings):
    """Return a store with one finished run that says each region's own caption, and its job."""
    settings = cell_settings()
    region_set = load_split(settings.data.test)
    store = Store(tmp_path / "runs")
    record = RunRecord(
        cell_id="c1",
        seed=0,
        status="done",
        settings=settings.model_dump(mode="json"),
        variant="sca",
        revision="1",
    )
    store.save(record)
    lines = [
        json.dumps(
            {
                "region_id": region.region_id,
                "image_id": region.image_id,
                "caption": region.references[0] if number else "wrong",
                "references": region.references,
                "box_xyxy": region.box_xyxy,
                "slots": region.slots,
            }
        )
        for number, region in enumerate(region_set.regions)
    ]
    (store.run_dir("c1", 0) / PREDICTIONS).write_text("\n".join(lines))
    job = SimpleNamespace(
        name="c1 seed 0", cell=SimpleNamespace(cell_id="c1", settings=settings), seed=0
    )
    return store, [job], region_set


def _score(runs, metrics, subsets=None):
    store, jobs, _ = runs
    said = []
    count = score_runs(store, jobs, metrics, said.append, subsets)
    return count, store.record("c1", 0), said


def test_the_name_of_the_built_in_subset_is_one():
    assert suite_module.FIRST_OF_IMAGE == FIRST_OF_IMAGE


def test_a_subset_is_scored_beside_the_whole(runs):
    store, _, region_set = runs
    metrics = ["exact_match", "caption_length", "slots"]
    count, record, said = _score(runs, metrics, FIRST)
    assert count == 1
    assert said == ["  scoring 1 run: exact_match, caption_length, slots, one_per_image"]
    num_regions, num_images = len(region_set.regions), len(region_set.images)
    assert num_regions > num_images == 3
    assert record.scores["exact_match"].value == pytest.approx(1 - 1 / num_regions)
    part = record.scores["one_per_image/exact_match"]
    assert part.value == pytest.approx(1 - 1 / num_images)
    assert part.signature["metric"] == "one_per_image/exact_match"
    assert part.signature["num_regions"] == num_images
    assert part.signature["region_set"] != record.scores["exact_match"].signature["region_set"]
    assert part.signature["split"] == "test"
    assert record.scores["one_per_image/slot/colour"].value == pytest.approx(1 - 1 / num_images)
    assert not any(key.startswith("one_per_image/slot_by_objects") for key in record.scores)
    for name, signed in (
        ("slot/colour", "slots.colour"),
        ("slot_by_objects/2/mean_of_slots", "slots.objects_2"),
        ("one_per_image/slot/colour", "one_per_image/slots.colour"),
    ):
        assert record.scores[name].signature["metric"] == signed, "as in records of older runs"
    kept = json.loads((store.run_dir("c1", 0) / "region_scores.json").read_text())
    assert "one_per_image/exact_match" not in kept["scores"]
    assert _score(runs, metrics, FIRST)[0] == 0, "nothing is left to score"


def said_in_training(store, captions, dealt=None):
    """Write captions of training regions whose own reference is `a dog`."""
    with (store.run_dir("c1", 0) / TRAIN_PREDICTIONS).open("w") as file:
        for number, caption in enumerate(captions):
            row = {"region_id": number, "image_id": 0, "caption": caption, "references": ["a dog"]}
            file.write(json.dumps(row | ({"learnt_from": [dealt]} if dealt else {})) + "\n")


def test_a_phrase_that_no_region_has_is_said_in_record_and_on_the_terminal(runs):
    metric = "exact_match_without_a_nobody"
    _, record, said = _score(runs, ["exact_match", metric], FIRST)
    assert record.scores[metric].value == record.scores["exact_match"].value
    note = f"{metric}: no region has the reference 'a nobody', so it is exact_match of all regions"
    assert any(line.startswith(note) for line in record.notes)
    assert [line.split(", so")[0] for line in said[1:]] == [
        f"  note: {metric}: no region has the reference 'a nobody'",
        f"  note: one_per_image: {metric}: no region has the reference 'a nobody'",
    ]
    _, _, said = _score(runs, ["exact_match", metric, "macro_recall"])
    assert len(said) == 1  # what is known already is not said again


def test_training_captions_are_compared_with_what_was_learnt_where_that_is_not_their_own(runs):
    said_in_training(runs[0], ["a cat", "a dog", "a cat", "a cat"], dealt="a cat")
    _, record, _ = _score(runs, ["exact_match"])
    assert record.scores["train/exact_match"].value == 0.25
    assert record.scores["train/exact_match_as_dealt"].value == 0.75
    assert record.scores["train/exact_match_as_dealt"].signature["split"] == "train"
    assert not any(name.startswith("seen/") for name in record.scores)


def test_training_captions_learnt_from_their_own_references(runs):
    said_in_training(runs[0], ["a dog", "a cat"])
    _, record, _ = _score(runs, ["exact_match", "macro_recall", "caption_length"])
    assert record.scores["train/exact_match"].value == 0.5
    train = {name for name in record.scores if name.startswith("train/")}
    assert train == {"train/exact_match", "train/macro_recall"}


def test_what_is_scored_already_is_not_scored_again(runs, monkeypatch):
    _score(runs, ["exact_match"])
    record = runs[0].record("c1", 0)
    assert is_scored(record, ["exact_match"])
    assert not is_scored(record, ["exact_match"], FIRST)
    monkeypatch.setattr(scoring, "_score_whole", None)
    count, record, _ = _score(runs, ["exact_match"], FIRST)
    assert count == 1
    assert is_scored(record, ["exact_match"], FIRST)


def test_a_subset_that_does_not_fit_leaves_the_whole(runs, tmp_path):
    path = tmp_path / "ids.txt"
    path.write_text("nowhere")
    with pytest.raises(InputError, match=r"ids.txt: nowhere: 1 of 1 regions are not in the pred"):
        _score(runs, ["exact_match"], {"part": str(path)})
    record = runs[0].record("c1", 0)
    assert record.scores["exact_match"].value is not None
    assert not is_scored(record, ["exact_match"], ["part"])


def mean_red(rows, context):
    values = [float(context.images(row.image_id)[..., 0].mean()) for row in rows]
    return [Scored(context.name, sum(values) / len(values), values, rows)]


def no_look(rows, context):
    assert context.images is not None
    return [Scored(context.name, 1.0, [], rows)]


@pytest.fixture
def looking(monkeypatch):
    def find(group):
        return [
            SimpleNamespace(name=name, value="here", load=lambda name=name: _spec(name))
            for name in ("mean_red", "no_look", "where")
        ]

    monkeypatch.setattr(METRICS, "find", find)


def _spec(name):
    where = f"{__name__}:{name}"
    return MetricSpec(name, "", name, name, package="", compute=where, unit="", report_scale=1)


def test_a_metric_that_looks_gets_the_images_of_the_split(runs, looking):
    _, record, _ = _score(runs, ["mean_red"], FIRST)
    region_set = runs[2]
    expected = [region_set.load_image(r.image_id)[..., 0].mean() for r in region_set.regions]
    assert record.scores["mean_red"].reason == ""
    assert record.scores["mean_red"].value == pytest.approx(sum(expected) / len(expected))
    firsts = [region_set.load_image(image)[..., 0].mean() for image in region_set.images]
    found = record.scores["one_per_image/mean_red"].value
    assert found == pytest.approx(sum(firsts) / len(firsts))


def where(rows, context):
    raise NotComputed(f"on {context.device}")


def test_models_of_metrics_compute_where_the_suite_does(runs, looking):
    """`runtime.device` as the command has it: the machine of the run may be another one."""
    store, (job,), _ = runs
    _, record, _ = _score(runs, ["where"])
    assert record.scores["where"].reason == "on cpu"
    runtime = job.cell.settings.runtime.model_copy(update={"device": "cuda:1"})
    job.cell.settings = job.cell.settings.model_copy(update={"runtime": runtime})
    score_runs(store, [job], ["where"], print, again=True)
    assert store.record("c1", 0).scores["where"].reason == "on cuda:1"


def test_what_a_killed_scorer_left_goes_and_what_others_write_stays(runs):
    store, jobs, _ = runs
    folder = store.run_dir("c1", 0)
    ended = subprocess.Popen([sys.executable, "-V"], stdout=subprocess.DEVNULL)
    ended.wait()
    half, written = f".record.json.{ended.pid}.tmp", f".mlflow.json.{os.getppid()}.tmp"
    for name in (half, written):
        (folder / name).touch()
    assert score_runs(store, jobs, ["caption_length"], print) == 1
    assert [path.name for path in folder.glob(".*")] == [written]


def test_only_what_is_small_is_read_ahead(runs, monkeypatch):
    store, _, _ = runs
    record = store.record("c1", 0)
    with scoring.RunScorer(store, ["caption_length"]) as scorer:
        scorer.read_ahead([record, record])
        assert scorer._rows
        monkeypatch.setattr(scoring, "_AHEAD_BYTES", 10)
        scorer.read_ahead([record, record])
        assert not scorer._rows
        assert scorer.score(record) == []


def test_nobody_opens_the_split_for_the_others(runs, looking, monkeypatch):
    monkeypatch.setattr(scoring, "load_split", None)
    _, record, _ = _score(runs, ["exact_match", "no_look", "mean_red"])
    assert record.scores["no_look"].value == 1.0
    assert "TypeError" in record.scores["mean_red"].reason


@pytest.mark.filterwarnings("ignore")  # mlflow's own imports warn in ways that change by version
def test_a_suite_with_a_subset_shows_both_protocols(suite_file, workers, tmp_path, capsys):
    extra = "subsets: {one_per_image: first_of_image}\n"
    path, runs = suite_file(axes="{mixer.num_layers: [1]}", extra=extra), tmp_path / "runs"
    words = ["run", str(path), "--runs-dir", str(runs), "--no-mlflow"]
    assert main(words) == 0
    (record,) = Store(runs).records()
    assert record.scores["one_per_image/cider_d"].value is not None
    assert main(words) == 0
    assert "nothing to do" in capsys.readouterr().out
    lacks = record.scores["cider_d"].model_copy(update={"value": None, "reason": "no Java"})
    Store(runs).save(record.model_copy(update={"scores": record.scores | {"cider_d": lacks}}))
    assert main(words) == 0  # a reason is an answer, unless it is asked again
    assert "nothing to do" in capsys.readouterr().out
    assert main([*words, "--rescore"]) == 0
    (record,) = Store(runs).records()
    assert record.scores["cider_d"].value is not None
    assert main(["report", "--runs-dir", str(runs), "--out", str(tmp_path / "reports")]) == 0
    text = (tmp_path / "reports" / "demo" / "table.md").read_text()
    assert "Other sets of regions" in text
    assert "CIDEr-D, one per image (×100, max 1000)" in text  # noqa: RUF001
    assert "one_per_image: first_of_image" in text


@pytest.mark.usefixtures("java")
def test_statistics_of_corpus_scores_are_kept_region_by_region(runs):
    store, jobs, region_set = runs
    assert score_runs(store, jobs, ["bleu", "cider_d"], lambda text: None) == 1
    kept = load_file(store.run_dir("c1", 0) / STATISTICS)
    assert {key: rows.shape for key, rows in kept.items()} == {
        "bleu": (len(region_set.regions), 10)
    }
    record = store.record("c1", 0)
    for metric in ("bleu_1", "bleu_4"):
        again = corpus_value(metric, kept["bleu"].sum(0), len(region_set.regions))
        assert float(again) == pytest.approx(record.scores[metric].value, abs=1e-12)


@pytest.mark.usefixtures("java")
def test_a_metric_that_comes_later_leaves_what_others_kept(runs):
    store, jobs, _ = runs
    score_runs(store, jobs, ["bleu", "cider_d"], lambda text: None, FIRST)
    before = store.region_scores("c1", 0)
    score_runs(store, jobs, ["exact_match"], lambda text: None)
    after = store.region_scores("c1", 0)
    assert after["scores"].keys() == before["scores"].keys() | {"exact_match"}
    assert after["scores"]["cider_d"] == before["scores"]["cider_d"]
    assert after["parts"] == before["parts"]
    assert {"bleu", "one_per_image/bleu"} <= load_file(store.run_dir("c1", 0) / STATISTICS).keys()


@pytest.mark.usefixtures("java")
def test_what_a_run_of_other_captions_kept_does_not_stay(runs):
    store, jobs, _ = runs
    score_runs(store, jobs, ["bleu", "cider_d"], lambda text: None)
    store.save(store.record("c1", 0).model_copy(update={"scores": {}}))  # it ran anew
    score_runs(store, jobs, ["exact_match"], lambda text: None)
    assert store.region_scores("c1", 0)["scores"].keys() == {"exact_match"}
    assert not (store.run_dir("c1", 0) / STATISTICS).exists()


def test_what_could_not_be_computed_is_tried_again_where_asked(runs, monkeypatch, tmp_path):
    store, jobs, _ = runs
    monkeypatch.setenv("SCA_BENCH_SENTENCE_MODEL", str(tmp_path / "none"))
    metrics = ["sentence_similarity", "exact_match"]
    assert score_runs(store, jobs, metrics, lambda text: None) == 1
    assert store.record("c1", 0).scores["sentence_similarity"].value is None
    assert score_runs(store, jobs, metrics, lambda text: None) == 0
    assert score_runs(store, jobs, metrics, lambda text: None, again=True) == 1


def test_another_file_under_a_subset_s_name_is_scored_anew(runs, tmp_path):
    store, jobs, region_set = runs
    ids = [region.region_id for region in region_set.regions]
    path = tmp_path / "part.txt"
    path.write_text(f"{ids[0]}\n{ids[1]}\n")
    part = {"part": str(path)}
    score_runs(store, jobs, ["exact_match"], lambda text: None, part)
    assert store.record("c1", 0).scores["part/exact_match"].value == 0.5  # the first one is wrong
    path.write_text(f"{ids[1]}\n")
    assert score_runs(store, jobs, ["exact_match"], lambda text: None, part) == 1
    assert store.record("c1", 0).scores["part/exact_match"].value == 1.0
    assert store.region_scores("c1", 0)["parts"]["part"]["region_ids"] == [ids[1]]


def test_no_score_of_the_file_that_a_subset_was_before_stays(runs, tmp_path):
    """Neither of a metric that the new regions have no value of, nor of one asked for later."""
    store, jobs, region_set = runs
    first, second = region_set.regions[:2]
    assert first.references != second.references
    metric = f"exact_match_without_{second.references[0].replace(' ', '_')}"
    path = tmp_path / "part.txt"
    path.write_text(f"{first.region_id}\n{second.region_id}\n")
    part = {"part": str(path)}
    score_runs(store, jobs, [metric, "caption_length"], lambda text: None, part)
    assert store.record("c1", 0).scores[f"part/{metric}"].value == 0.0
    path.write_text(f"{second.region_id}\n")
    score_runs(store, jobs, [metric], lambda text: None, part)
    record = store.record("c1", 0)
    assert record.scores[f"part/{metric}"].value is None
    assert "every region has the reference" in record.scores[f"part/{metric}"].reason
    assert "part/caption_length" not in record.scores
    assert record.scores["caption_length"].value is not None


def test_what_an_older_revision_of_a_metric_gave_is_scored_anew(runs, monkeypatch):
    metrics = ["exact_match", "caption_length"]
    now = spec.OWN_REVISION
    monkeypatch.setattr(spec, "OWN_REVISION", "1")
    _, record, _ = _score(runs, metrics, FIRST)
    assert is_scored(record, metrics, FIRST)
    monkeypatch.setattr(spec, "OWN_REVISION", now)
    assert not is_scored(record, metrics, FIRST)
    count, record, _ = _score(runs, metrics, FIRST)
    names = [f"{part}{metric}" for part in ("", "one_per_image/") for metric in metrics]
    assert (count, {record.scores[name].signature["version"] for name in names}) == (1, {now})
    assert _score(runs, metrics, FIRST)[0] == 0


def test_what_an_older_revision_gave_goes_where_todays_gives_a_reason(runs, monkeypatch):
    now = spec.OWN_REVISION
    monkeypatch.setattr(spec, "OWN_REVISION", "1")
    _score(runs, ["exact_match"])
    monkeypatch.setattr(spec, "OWN_REVISION", now)
    broken = replace(METRICS.own()["exact_match"], fault="it is another number")
    monkeypatch.setitem(METRICS.own(), "exact_match", broken)
    count, record, _ = _score(runs, ["exact_match"])
    score = record.scores["exact_match"]
    assert (count, score.value, score.reason) == (1, None, "it is another number")
    assert _score(runs, ["exact_match"])[0] == 0


def test_a_score_is_not_given_up_for_a_reason(runs, monkeypatch):
    """Where others are scored anew, a metric that cannot be computed here keeps its value."""
    store, _, _ = runs
    _, record, _ = _score(runs, ["exact_match", "caption_length"])
    kept = record.scores["exact_match"]
    broken = replace(METRICS.own()["exact_match"], fault="its model is gone")
    monkeypatch.setitem(METRICS.own(), "exact_match", broken)
    record.scores.pop("caption_length")
    store.save(record)
    _, record, _ = _score(runs, ["exact_match", "caption_length"])
    assert record.scores["exact_match"] == kept
    assert record.scores["caption_length"].value is not None
