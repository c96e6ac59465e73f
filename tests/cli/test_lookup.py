"""`list` and `describe` answer in words: settings, runs, and whatever a registry knows."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import Field

from sca_bench.cli import main
from sca_bench.cli.lookup.setting_text import facts_of, places_of, type_text
from sca_bench.settings import Settings
from sca_bench.settings.sentences import sentence_of
from sca_bench.study.runs.record import CellEntry, RunRecord, Score, SuiteManifest
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.merge import known_paths
from sca_bench.variants import get_variant


@pytest.fixture(autouse=True)
def _somewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def say(capsys):
    def run(*words):
        assert main(list(words)) == 0
        return capsys.readouterr().out

    return run


# --- settings -----------------------------------------------------------------------------------


def test_every_setting_has_a_sentence():
    lacking = {
        path
        for path in known_paths()
        for place in places_of(path)
        if not facts_of(path, "tiny").get("what")
        or not (sentence_of(place.model, place.field) or "." not in path)
    }
    assert not lacking


def test_no_description_shows_python():
    for path in known_paths():
        text = " ".join(facts_of(path, "paper").values())
        assert not re.search(r"<class|typing|Literal\[|Settings\(|\w\.\w+Split|NoneType", text), (
            path
        )


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("train.learning_rate", "a number above 0"),
        ("train.label_smoothing", "a number from 0 to below 1"),
        ("train.final_lr_ratio", "a number from 0 to 1"),
        ("train.steps", "a whole number, 0 or more"),
        ("mixer.num_layers", "a whole number from 1 to 48"),
        ("train.precision", "one of fp32, tf32, bf16, fp16"),
        ("train.betas", "2 values in a list, each a number"),
        ("train.as_published", "a list, each one of loss, warmup"),
        ("runtime.compile", "true or false"),
        ("text_decoder.weights", "a file or folder"),
        ("data.train.images", "a file or folder"),
        ("data.lsj_scale", "2 values in a list, each a number, or none"),
    ],
)
def test_a_type_is_in_words(path, kind):
    assert facts_of(path, "tiny")["type"] == kind


def test_a_share_above_zero_is_in_words():
    class Options(Settings):
        share: float = Field(1.0, gt=0, le=1)
        part: float = Field(0.5, gt=0, lt=1)

    fields = Options.model_fields
    assert type_text(fields["share"], "result") == "a number above 0, up to 1"
    assert type_text(fields["part"], "result") == "a number above 0 and below 1"


def test_a_split_names_the_data_sets_that_it_may_be_of():
    assert "`dataset` is one of scenes, visual_genome" in facts_of("data.train", "tiny")["type"]
    named = facts_of("data.train.dataset", "tiny")["type"]
    assert named.startswith("one of scenes, visual_genome")
    assert named.count("objects365") == 1


def test_the_default_is_the_profiles(say):
    out = say("describe", "train.learning_rate")
    assert "default:    0.003 in profile tiny; 1e-4 in a profile that says nothing" in out
    assert "0.003" not in say("describe", "train.learning_rate", "--profile", "paper")
    assert facts_of("data.test.regions", "tiny")["default"] == (
        "none in profile tiny, whose `data.test` is scenes"
    )


def test_kind_and_unit_are_in_words():
    assert facts_of("runtime.device", "tiny")["kind"].startswith("changes time or memory only")
    assert facts_of("runtime.cache_limit_gib", "tiny")["unit"] == "GiB"
    assert "content counts" in facts_of("sam.weights", "tiny")["kind"]
    assert facts_of("train.as_published", "tiny")["since"] == "version 0.2"


def test_a_section_lists_its_settings(say):
    out = say("describe", "mixer")
    assert re.search(r"mixer\.num_layers +2 +Layers of the mixer", out)


def test_list_settings_is_grouped_and_takes_a_beginning(say):
    out = say("list", "settings")
    assert re.search(r"^train: The optimisation recipe\.$", out, re.MULTILINE)
    assert "list settings data.val" in out
    part = say("list", "settings", "data.val.num")
    assert "data.val.num_images" in part
    assert "train.steps" not in part


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["describe", "train.learning_rat"], "did you mean train.learning_rate?"),
        (["describe", "mixer_layer"], "did you mean mixer_layers?"),
        (["describe", "zzzzzz"], "more; see `list settings` or `list metrics`"),
        (["describe", "train", "--profile", "tinny"], "--profile: profile: 'tinny'; did you mean"),
        (["list", "settings", "trian"], "no setting begins so; did you mean train?"),
        (["list", "plots", "--profile", "x"], "--profile: plots depend on none; list settings tak"),
        (["describe", "CIDER_D"], "did you mean cider_d?"),
        (["list", "metrics", "--suite", "x"], "--suite: metrics have none; list runs takes it"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_is_not_there_gets_near_names(words, line, capsys):
    assert main(words) == 2
    err = capsys.readouterr().err
    assert line in err
    assert len(err) < 400


# --- everything else that has a name ------------------------------------------------------------


def test_readers_are_listed_by_the_name_of_their_door(say):
    assert say("list", "readers") == say("list", "datasets")


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("sca", ("variant:", "the paper's main model", "learns:")),
        ("cider_d", ("metric:", "what papers print as CIDEr")),
        ("mixer_layers", ("suite:", "How deep must", "table_4", "claim depth_helps:", "run it:")),
        ("lr_depth", ("sweep:", "axis ", "python -m sca_bench sweep")),
        ("paper", ("profile:", "paths.sam:", "sam_vit_h_4b8939.pth", "train.steps:")),
    ],
)
def test_a_name_is_described_whatever_it_names(name, lines, say):
    out = say("describe", name)
    for line in lines:
        assert line in out


def test_a_suite_is_described_by_its_file_too(say, tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("# About me.\nsuite: own\nquestion: Why?\naxes: {mixer.num_layers: [1, 2]}\n")
    out = say("describe", "own.yaml")
    assert "Why?" in out
    assert "About me." in out


# --- runs ---------------------------------------------------------------------------------------


def record(cell, seed, minutes_ago, status="done", value=0.5, **more):
    begun = datetime.now(UTC) - timedelta(minutes=minutes_ago)
    times = [f"{t:%Y-%m-%dT%H:%M:%SZ}" for t in (begun, begun + timedelta(seconds=90))]
    scores = {"cider_d": Score(value=value)} if status == "done" else {}
    return RunRecord(
        cell_id=cell,
        seed=seed,
        status=status,
        settings={"train": {"steps": 250}},
        variant="sca",
        revision=get_variant("sca").revision,
        scores=scores,
        provenance={"started": times[0], "finished": times[1]},
        **more,
    )


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "runs")
    cells = [
        CellEntry(cell_id=f"{n:04d}abcd{n:04d}", name=f"num_layers={n}", coordinates={},
                  variant="sca") for n in range(120)
    ]  # fmt: skip
    fields = {"profile": "tiny", "default_profile": "tiny", "file": "x.yaml", "question": "?"}
    store.save_manifest(
        SuiteManifest(suite="depth", seeds=[0], metrics=["cider_d"], cells=cells, **fields)
    )
    for number, cell in enumerate(cells):
        store.save(record(cell.cell_id, 0, 1000 - number))
    store.save(record(cells[3].cell_id, 1, 5, "failed"))
    store.save(record("ffffffffffff", 0, 2000, stage="objects365"))
    return store


def test_runs_are_listed_by_the_names_that_commands_take(store, say):
    lines = say("list", "runs").splitlines()
    assert max(map(len, lines)) <= 80
    assert re.search(r"^ run +status +CIDEr-D +age +took +id", lines[0])
    assert re.search(r"^ ffffffffffff/0 \(stage objects365\) +done", lines[1])  # the oldest
    assert re.search(r"^ depth/num_layers=3/1 +failed +- +5 min +2 min +0003abcd0003", lines[-1])
    assert re.search(r"^ depth/num_layers=119/0 +done +50\.0 +15 h +2 min +0119abcd0119", lines[-2])


def test_runs_are_chosen_by_suite_status_and_name(store, say, capsys):
    assert len(say("list", "runs", "--status", "failed").splitlines()) == 2
    assert "objects365" not in say("list", "runs", "--suite", "depth")
    assert len(say("list", "runs", "depth/num_layers=11").splitlines()) == 12
    assert "none of 122 runs" in say("list", "runs", "--status", "killed")
    assert main(["list", "runs", "--suite", "dept"]) == 2
    assert "'dept' was not run in runs; did you mean depth?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"train": {"steps": 250}},
            "settings.data: is no setting of today's code (Field required)",
        ),
        (
            {"encoder": {"type": "gone"}},
            "settings.encoder.type: 'gone' is not registered; install the",
        ),
    ],
)
def test_a_run_of_what_is_not_installed_any_more_is_one_line(store, settings, line, capsys):
    (run,) = (r for r in store.records() if r.cell_id.startswith("0007"))
    data = {"data": {name: {"dataset": "scenes"} for name in ("train", "val", "test")}}
    full = settings if "train" in settings else data | settings
    store.save(run.model_copy(update={"settings": full}))
    assert main(["explain", "depth/num_layers=7"]) == 2
    assert f"0007abcd0007: {line}" in capsys.readouterr().err


def test_an_empty_folder_says_so(say):
    assert "no run is in nowhere; begin with" in say("list", "runs", "--runs-dir", "nowhere")
