"""`check` and whole folders: what is needed, what is missing, and what is skipped."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from sca_bench.cli import main
from sca_bench.cli.suite_files import check_claims
from sca_bench.engine.forecast import needs as suite_needs
from sca_bench.errors import InputError
from sca_bench.study.suite.schema import ClaimEntry
from sca_bench.study.suite.suite import load_suite

ROOT = Path(__file__).parents[1]
DEPTH = ROOT / "ablations" / "mixer_layers.yaml"


@pytest.fixture(autouse=True)
def _wide(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("SCA_BENCH_CORENLP", raising=False)


def needs(path=DEPTH, profile="paper", overrides=()):
    suite = load_suite(path, profile=profile, overrides=overrides, allow_missing=True)
    return {need.what: need for need in suite_needs.needs_of(suite, Path("runs"))}


def test_everything_that_paper_scale_needs_is_named_with_a_way_to_get_it(monkeypatch):
    monkeypatch.setattr(suite_needs, "_gpus", list)
    found = needs()
    assert found["paths.sam"].state == "missing"
    assert "sam_vit_h_4b8939.pth" in found["paths.sam"].get
    assert "data prepare visual_genome" in found["paths.visual_genome"].get
    decoder = found["text_decoder.weights"]
    assert (decoder.state, decoder.stops) == ("to be downloaded", False)
    assert found["CoreNLP jars, for spice"].state == "missing"
    assert found["Java, for bleu, cider_d, meteor, rouge_l, spice"].state == "there"
    gpu = next(need for what, need in found.items() if what.startswith("a GPU"))
    assert (gpu.state, gpu.found, gpu.stops) == ("missing", "no GPU", False)
    assert {need.what for need in suite_needs.missing(list(found.values()))} == {
        "paths.sam",
        "paths.visual_genome",
    }


@pytest.mark.parametrize("metric", ["slot/colour", "part/slot/colour", "part/exact_match"])
def test_a_margin_lies_below_the_end_of_the_scale_whatever_part_is_meant(metric):
    def suite(margin):
        says = f"{metric}(seed=1) >= {metric}(seed=2)"
        claims = [ClaimEntry(id="one", says=says, margin=margin)]
        scored = {"metrics": ("slots", "exact_match"), "subsets": {"part": "first_of_image"}}
        return SimpleNamespace(file="suite.yaml", claims=claims, **scored)

    check_claims(suite(0.5))
    with pytest.raises(InputError, match=f"margin: 1 is the whole scale of {metric}"):
        check_claims(suite(1.0))


def test_a_gpu_is_judged_by_its_memory(monkeypatch):
    monkeypatch.setattr(suite_needs, "_gpus", lambda: [("H100", 79.6)])
    assert next(n for what, n in needs().items() if "GPU" in what).state == "there"
    monkeypatch.setattr(suite_needs, "_gpus", lambda: [("T4", 15.0)])
    small = next(n for what, n in needs().items() if "GPU" in what)
    assert (small.state, small.found) == ("missing", "T4 (15 GiB)")


def test_files_are_looked_for_one_by_one(tmp_path):
    root = tmp_path / "vg"
    (root / "images").mkdir(parents=True)
    (root / "image_data.json").write_text("[]")
    sets = [f"paths.visual_genome={root}", "paths.sam=nowhere.pth"]
    found = needs(overrides=sets)
    assert found["data.train.image_data"].state == "there"
    assert found["data.train.regions"].state == "missing"
    assert found["data.train.images"].state == "missing"  # the folder is empty
    assert found["sam.weights"].found == "nowhere.pth"


def test_the_command_prints_one_table_and_says_what_stops_it(capsys):
    assert main(["check", str(DEPTH), "--profile", "paper"]) == 2
    out = capsys.readouterr().out
    assert "missing: paths.sam, paths.visual_genome" in out
    assert "paths.sam: sam_vit_h_4b8939.pth" in out


@pytest.mark.usefixtures("rendering")
def test_the_command_finds_a_suite_all_right(capsys):
    assert main(["check", str(DEPTH)]) == 0
    assert (
        "3 cells x 3 seeds; all right, without CoreNLP jars, for spice" in capsys.readouterr().out
    )


def test_a_folder_goes_through_every_suite_and_names_what_needs_a_path(capsys):
    assert main(["plan", str(ROOT / "ablations"), "--no-probe", "--runs-dir", "runs"]) == 0
    out = capsys.readouterr().out
    files = sorted((ROOT / "ablations").glob("*.yaml"))
    assert f"[{len(files)} of {len(files)}]" in out
    assert re.search(r"blocked, \d+ cells: paths.photos is not given, --set paths.photos=PATH", out)
    assert "Traceback" not in out
    assert f"{len(files)} of {len(files)} suites all right, 0 with failures, 0 skipped" in out


def test_a_broken_suite_in_a_folder_does_not_stop_the_others(tmp_path, capsys):
    folder = tmp_path / "suites"
    folder.mkdir()
    (folder / "a.yaml").write_text("suite: a\nquestion: q\nbase: {mixer: {num_layer: 2}}\n")
    (folder / "b.yaml").write_text(DEPTH.read_text())
    assert main(["plan", str(folder), "--no-probe"]) == 2
    out, err = capsys.readouterr()
    assert "base.mixer.num_layer: unknown setting; did you mean mixer.num_layers?" in err
    assert "9 to run" in out
    assert "1 of 2 suites all right, 1 with failures" in out
    assert main(["plan", str(tmp_path / "runs-empty")]) == 2


NO_SUITES = {
    "a_empty.yaml": ("", "is empty; expected a mapping with suite"),
    "b_comment.yaml": ("# later\n", "is empty; expected a mapping with suite"),
    "c_list.yaml": ("- suite: a\n", "holds a list; expected a mapping with suite"),
    "d_word.yaml": ("suite", "holds a single value; expected a mapping with suite"),
    "e_twice.yaml": ("suite: a\nsuite: b\n", "suite: is given twice, on lines 1 and 2"),
    "f_loop.yaml": ("suite: a\nbase: &a {b: *a}\n", "base.b: is an alias of what it stands in"),
    "g_bytes.yaml": (b"\xff\xfe\x00", "line 1: byte 0xFF is not UTF-8"),
}


def _put_no_suites(folder):
    folder.mkdir()
    for name, (content, _) in NO_SUITES.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    small = "data: {train: {num_images: 2}, test: {num_images: 1}}"
    sound = f"suite: z\nquestion: Sound?\nbase: {{variant: sca, {small}}}\n"
    (folder / "z_sound.yaml").write_text(sound)


@pytest.mark.parametrize("command", ["plan", "check", "run"])
def test_what_is_no_suite_is_named_and_the_folder_goes_on(command, tmp_path, capsys, monkeypatch):
    _put_no_suites(tmp_path / "suites")
    monkeypatch.setattr("sca_bench.cli.run._run", lambda plan, *_: print(len(plan.jobs)) or 0)
    more = ["--no-probe"] if command == "plan" else []
    assert main([command, str(tmp_path / "suites"), "--runs-dir", "runs", *more]) == 2
    out, err = capsys.readouterr()
    for name, (_, says) in NO_SUITES.items():
        assert any(f"{name}: {says}" in line for line in err.splitlines()), (name, err)
    assert f"1 of 8 suites all right, {len(NO_SUITES)} with failures" in out


def test_what_is_no_suite_is_said_and_left_out_of_the_list(tmp_path, capsys):
    _put_no_suites(tmp_path / "ablations")
    _put_no_suites(tmp_path / "ablations" / "sweeps")
    (tmp_path / "ablations" / "y_other.yaml").write_text("paper: 3\n")
    (tmp_path / "ablations" / "z_table.yaml").write_text("suite: t\nquestion: yes\npaper: 3\n")
    assert main(["list", "suites"]) == 0
    out, err = capsys.readouterr()
    for folder, kind in (("ablations", "suite"), ("ablations/sweeps", "sweep")):
        for name, (_, says) in NO_SUITES.items():
            said = says.replace("with suite", f"with {kind}")
            assert f"left out: {folder}/{name}: {said}" in err
        assert f"{folder}/z_sound.yaml" in out
    assert "left out: ablations/y_other.yaml: suite: missing" in err
    assert [line.split() for line in out.splitlines() if "z_table" in line] == [
        ["ablations/z_table.yaml", "yes", "3"]
    ]


def test_an_empty_folder_is_one_line(tmp_path, capsys):
    assert main(["run", str(tmp_path)]) == 2
    assert "holds no suite" in capsys.readouterr().err


def test_what_single_metrics_need(tmp_path, monkeypatch):
    path = tmp_path / "demo.yaml"
    path.write_text(
        "suite: demo\nquestion: Which?\nbase: {variant: sca}\n"
        "metrics: [exact_match, noun_recall, verb_recall_fuzzy, clip_score]\n"
        "subsets: {one: first_of_image, two: nowhere.txt}\n"
    )
    monkeypatch.setenv("SCA_BENCH_SPACY", str(tmp_path / "nowhere"))
    monkeypatch.delenv("SCA_BENCH_CLIP", raising=False)
    found = needs(path, profile="tiny")
    assert (found["subsets.two"].state, found["subsets.two"].stops) == ("missing", True)
    assert "subsets.one" not in found
    for what in (
        "spaCy, for noun_recall",
        "spaCy, for verb_recall_fuzzy",
        "a model, for clip_score",
    ):
        assert (found[what].state, found[what].stops) == ("missing", False)
    assert "SCA_BENCH_CLIP" in found["a model, for clip_score"].get
    monkeypatch.setenv("SCA_BENCH_CLIP", str(tmp_path))
    assert needs(path, profile="tiny")["a model, for clip_score"].found == str(tmp_path)


def test_what_makes_no_difference_is_said(tmp_path, capsys):
    """A folder of suites is no other way: each of them is opened like this."""
    path = tmp_path / "constant.yaml"
    scenes = "{dataset: scenes, first_seed: 0, num_images: 3}"
    path.write_text(
        f"suite: constant\nquestion: Same?\naxes: {{mixer.num_layers: [1, 2]}}\n"
        f"base: {{variant: most_frequent, data: {{train: {scenes}, val: null}}}}\n"
    )
    words = ["check", str(path), "--runs-dir", str(tmp_path / "runs"), "--set", "mixer.mlp_dim=8"]
    assert main(words) == 0
    out = capsys.readouterr().out
    line = "one cell for num_layers=1 and num_layers=2: most_frequent does not read"
    assert f"note: {line} mixer.num_layers\n" in out
    assert "note: --set mixer.mlp_dim=8: no cell reads it\n" in out
