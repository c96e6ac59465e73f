"""The command line is frozen here: commands, flags, speed, and one clear line for every fault."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sca_bench.cli import build_parser, lookup, main
from sca_bench.errors import InputError

ROOT = Path(__file__).parents[1]

FROZEN = {
    "run": "--budget --help --no-mlflow --only --profile --rescore --runs-dir --seeds --set"
    " --tracking-uri suite",
    "plan": "--gpu --help --json --no-probe --only --profile --runs-dir --seeds --set --utilisation"
    " suite",
    "check": "--build --help --json --only --profile --runs-dir --seeds --set suite",
    "sweep": "--help --no-mlflow --profile --runs-dir --set --tracking-uri --trials suite",
    "report": "--help --limit-mb --no-mlflow --no-pages --out --rows --runs-dir --tex"
    " --tracking-uri suites",
    "compare": "--fail-if-worse --help --html --json --margin --markdown --metrics --references"
    " --runs-dir --runs-dir-b --shared-regions a b",
    "list": "--help --json --profile --runs-dir --status --suite prefix what",
    "describe": "--help --profile name",
    "explain": "--help --runs-dir cell other",
    "score": "--check --device --help --images --json --metrics --regions --subset --table file",
    "test": "--help --only module",
    "caption": "--box --examples --help --out --point --run --runs-dir image",
    "export": "--help --out --runs-dir run",
    "verify": "--help --json --regions --runs-dir run",
    "data": "--coco --help --no-download --partial --root action name",
    "cache": "--dir --dry-run --help --older-than --runs-dir --yes action keys",
    "track": "--help --runs-dir --tracking-uri action",
    "weights": "--captions --exclude-images --help --only --out --phrases --regions --split"
    " --threads action source",
    "init": "--help --out action name",
    "status": "--help --json --runs-dir --watch suite",
    "gc": "--delete --help --mirrored --older-than --runs-dir",
    "completion": "--help shell",
    "schema": "--help --out kind",
}


def words_of(parser):
    """Return what a command takes, with or without an action."""
    own = {
        next((o for o in a.option_strings if o.startswith("--")), a.dest) for a in parser._actions
    }
    return own.union(*map(words_of, parser.actions_by_name().values()))


def test_the_command_line_is_frozen():
    (commands,) = (a for a in build_parser()._actions if a.dest == "command")
    assert set(FROZEN) == set(commands.choices)
    for name, words in FROZEN.items():
        assert words_of(commands.choices[name]) == set(words.split()), name


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["list", "variants"],
        ["list", "metrics"],
        ["list", "suites"],
        ["list", "settings"],
        ["list", "runs"],
        ["describe", "sca"],
        ["describe", "train.learning_rate"],
        ["data", "--help"],
        ["cache", "ls"],
        ["status"],
    ],
    ids=" ".join,
)
def test_light_commands_answer_without_torch(words):
    code = (
        "import sys; from sca_bench.cli import main\n"
        f"try: main({words!r})\nexcept SystemExit as e: assert not e.code\n"
        "heavy = {'torch', 'mmengine', 'mlflow', 'transformers', 'pandas', 'matplotlib'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_an_error_whose_file_nobody_knew_is_one_clear_line_too(monkeypatch, capsys):
    def fail(options, words):
        raise InputError(None, "sam.size", "'x' is unknown", "did you mean tiny?")

    monkeypatch.setattr(lookup, "list_command", fail)
    assert main(["list", "variants"]) == 2
    assert capsys.readouterr().err == "sam.size: 'x' is unknown; did you mean tiny?\n"


def test_the_parser_is_built_of_the_standard_library_alone():
    """So help and wrong arguments answer at once, whatever the commands import when called."""
    code = (
        "import sys; before = set(sys.modules); from sca_bench.cli import build_parser\n"
        "build_parser()\n"
        "found = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "assert found <= sys.stdlib_module_names | {'sca_bench'}, found\n"
        "rooms = {name for name in sys.modules if name.startswith('sca_bench.')}\n"
        "heavy = ('sca_bench.engine', 'sca_bench.study', 'sca_bench.metrics', 'sca_bench.report')\n"
        "assert not [name for name in rooms if name.startswith(heavy)]"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_the_process_that_starts_workers_loads_no_loop_and_no_models():
    code = (
        "import sys; import sca_bench.engine.launch.launcher\n"
        "heavy = {'mmengine', 'mlflow', 'transformers', 'optuna'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "no_such"])
def test_what_a_notebook_draws_with_is_not_asked_for(backend):
    code = (
        "from sca_bench.cli import main\n"
        "main(['list', 'metrics'])\n"
        "from matplotlib import pyplot\n"
        "assert pyplot.get_backend() == 'agg'"
    )
    around = {**os.environ, "MPLBACKEND": backend}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=around)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [["--help"], ["list", "variants"]], ids=" ".join)
def test_help_and_list_use_little_time(words):
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "sca_bench", *words], check=True, stdout=-3, cwd=ROOT)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert cpu_s < 1.0  # measured about 0.4; processor time, since walls depend on the neighbours


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["run", "nothing.yaml"], "nothing.yaml: no such file"),
        (["run", "ablations/mixer_layers.yaml", "--set", "mixer.num_layer=2"], "did you mean"),
        *(
            ([command, f"ablations/{file}.yaml", "--set", "mixer.num_layers=4"], f"{key} states")
            for command, file, key in (
                ("run", "mixer_layers", "profiles.tiny.axes.mixer.num_layers"),
                ("plan", "mixer_layers", "profiles.tiny.axes.mixer.num_layers"),
                ("check", "controls", "axes.mixer.num_layers"),
                ("sweep", "sweeps/lr_depth", "space.mixer.num_layers"),
            )
        ),
        (
            ["run", "ablations/mixer_layers.yaml", "--set", "train.steps=many"],
            "train.steps: 'many'",
        ),
        (["run", "ablations/sweeps/lr_depth.yaml"], "this is a sweep; use `sweep`"),
        (["sweep", "ablations/mixer_layers.yaml"], "this is a suite; use `run`"),
        (["sweep", "ablations/sweeps/lr_depth.yaml", "--trials", "0"], "expected a number above"),
        (["sweep", "ablations/sweeps/lr_dept.yaml"], "did you mean lr_depth.yaml?"),
        (["run", "ablations/mixer_layers.yaml", "--seeds", "a"], "--seeds: a: expected numbers"),
        (["run", "ablations/mixer_layers.yaml", "--profile", "tinny"], "did you mean tiny?"),
        (["run", "ablations/mixer_layers.yaml", "--only", "x"], "matches no cell"),
        (
            ["run", "ablations/mixer_layers.yaml", "--set", "sam.weights=no/such.safetensors"],
            "sam.weights: 'no/such.safetensors': no such file",
        ),
        (["run", "ablations/mixer_layers.yaml", "--budget", "soon"], "soon: is no duration"),
        (["plan", "ablations/mixer_layers.yaml", "--gpu", "v100"], "unknown; known: a100, h100"),
        (["describe", "cider"], "did you mean cider_d?"),
        (["explain", "abc", "--runs-dir", "nowhere"], "no such cell"),
        (["score", "nothing.jsonl"], "nothing.jsonl"),
        (
            ["score", "x.jsonl", "--regions", "y.jsonl", "--check"],
            "--check: does not go with --regions",
        ),
        (["score", "x.jsonl", "--device", "gpu"], "--device: gpu: is no device; use auto, cpu"),
        (["score", "x.jsonl", "--regions", "y.jsonl", "--device", "cpu"], "--device: does not go"),
        (["caption", "x.png", "--run", "abc", "--runs-dir", "nowhere"], "no such finished run"),
        (["export", "abc", "--runs-dir", "nowhere", "--out", "x"], "no such finished run"),
        (["verify", "abc", "--runs-dir", "nowhere"], "no such finished run"),
        (["verify", "abc", "--regions", "0"], "--regions: 0 is too few; give a number >= 1"),
        (["weights", "import", "--out", "x"], "weights import: SOURCE: missing"),
        (["weights", "import", "nothing.pth", "--out", "x"], "nothing.pth: no such file or folder"),
        (["weights", "verify", "x.pth"], "verify takes no SOURCE"),
        (["weights", "verify", "--only", "sam_tinny"], "no such recipe; did you mean sam_tiny?"),
        (["weights", "build", "--out", "x", "--only", "nope"], "nope: no such recipe"),
        (["weights", "import", "x.pth", "--only", "sam_tiny"], "--only: import takes no --only"),
        (["weights", "train-lm", "--only", "lm"], "takes no --only; only build and verify do"),
        (["weights", "build", "--captions", "c.json"], "--captions: build takes no --captions"),
        (["weights", "verify", "--exclude-images", "x.json"], "only train-lm does"),
        (["data", "verify", "coco", "--root", "x", "--no-download"], "only prepare does"),
        (["report", "--runs-dir", "nowhere"], "nowhere"),
        (["data", "verify", "visual_genom", "--root", "x"], "did you mean visual_genome?"),
        (["data", "verify", "coco", "--root", "nowhere"], "nowhere: --root: no such folder"),
        (["track", "sync", "--runs-dir", "nowhere"], "no suite was run here"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_wrong_input_is_one_line_and_exit_code_2(words, line, capsys, monkeypatch, tmp_path):
    words = [str(ROOT / w) if w.startswith("ablations/") else w for w in words]
    monkeypatch.chdir(tmp_path)
    started = time.monotonic()
    assert main(words) == 2
    assert time.monotonic() - started < 60
    out, err = capsys.readouterr()
    assert line in err
    assert err.count("\n") == 1
    assert not out


def test_an_unknown_command_is_one_line(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["rum"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
