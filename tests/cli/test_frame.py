"""Every command and action explains itself: help, examples, near names, flags before actions."""

import argparse
import re
import shlex

import pytest

from sca_bench.cli import build_parser, main


def every_parser(parser, path=()):
    yield path, parser
    for name, below in parser.actions_by_name().items():
        yield from every_parser(below, (*path, name))


PARSERS = dict(every_parser(build_parser()))


@pytest.mark.parametrize("path", PARSERS, ids=" ".join)
def test_every_help_has_examples_that_the_parser_reads(path):
    text = PARSERS[path].format_help()
    examples = re.findall(r"^  python -m sca_bench (.+?)(?: {2,}#.*)?$", text, re.MULTILINE)
    assert examples
    for example in examples:
        words = shlex.split(example, comments=True)
        if "--help" not in words:
            build_parser().parse_all(words)


@pytest.mark.parametrize("path", PARSERS, ids=" ".join)
def test_every_argument_has_a_help_text(path):
    for action in PARSERS[path]._actions:
        inner = isinstance(action, argparse._SubParsersAction)
        assert action.help or inner, action.dest


def test_the_help_of_an_action_shows_its_own_flags_alone(capsys):
    with pytest.raises(SystemExit):
        main(["weights", "import", "--help"])
    out = capsys.readouterr().out
    assert "--out" in out
    assert "--captions" not in out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["lst"], "COMMAND: 'lst' is unknown; did you mean list?"),
        (["list", "variant"], "WHAT: 'variant' is unknown; did you mean variants?"),
        (["weights", "train"], "ACTION: 'train' is unknown; did you mean train-lm?"),
        (
            ["list", "zzz"],
            "known: datasets, designs, encoders, metrics, plots, profiles, runs, set",
        ),
        (["list", "runs", "--status", "don"], "--status: 'don' is unknown; did you mean done?"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_mistyped_word_gets_the_nearest_one(words, line, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert line in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["run", "x.yaml", "--profle", "tiny"], "run: --profle: no such flag; did you mean --prof"),
        (["cache", "ls", "--yes"], "cache: --yes: ls takes no --yes; only clear does"),
        (["cache", "--yes", "ls"], "cache: --yes: ls takes no --yes; only clear does"),
        (["track", "sync", "now"], "track: now: sync takes no more words"),
        (["data", "verify", "coco"], "data verify: --root: missing"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_an_action_does_not_take_is_refused_in_one_line(words, line, capsys):
    assert main(words) == 2
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1


def test_a_flag_may_stand_before_the_action(tmp_path, capsys):
    assert main(["cache", "--dir", str(tmp_path), "du"]) == 0
    assert str(tmp_path) in capsys.readouterr().out
    options = build_parser().parse_all(["data", "--root", "R", "verify", "coco", "--partial"])
    assert (options.root, options.partial, options.no_download) == ("R", True, False)


@pytest.mark.parametrize(
    ("words", "place", "value"),
    [
        ("list runs --suite depth depth/num", "prefix", "depth/num"),
        ("caption --run abc --box 1,1,2,2 photo.png", "image", "photo.png"),
        ("cache clear --dry-run 3f2a 77bc", "keys", ["3f2a", "77bc"]),
        ("report --out here depth other", "suites", ["depth", "other"]),
        ("explain --runs-dir here one two", "other", "two"),
    ],
)
def test_words_may_stand_behind_flags(words, place, value):
    options = build_parser().parse_all(words.split())
    assert getattr(options, place) == value


def store_in(folder, name):
    (folder / name).mkdir(parents=True)
    (folder / name / "about.json").write_text("{}")
    return folder / name


def test_clear_says_what_it_would_delete_and_asks_in_a_terminal(tmp_path, capsys, monkeypatch):
    kept = store_in(tmp_path, "abc")
    words = ["cache", "clear", "--dir", str(tmp_path)]
    assert main([*words, "--dry-run"]) == 0
    assert "1 store" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda _: "n")
    assert main(words) == 0
    assert kept.exists()
    assert main([*words, "--yes"]) == 0
    assert not kept.exists()
