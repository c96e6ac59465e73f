import os
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sca_bench.errors import NotComputed
from sca_bench.metrics.coco_caption.meteor import Meteor
from sca_bench.metrics.coco_caption.meteor_formula import meteor_scores
from sca_bench.metrics.coco_caption.row_cache import RowMemo
from sca_bench.metrics.rows import CaptionRow

WORDS = st.sampled_from(["a", "dog", "dogs", "hound", "runs", "running", "zzyzx", "'s", "-lrb-"])
CAPTIONS = st.lists(WORDS, max_size=6).map(" ".join)
ECHO = """
import sys
{before}
for line in sys.stdin:
    if line.startswith("SCORE"):
        print("{answer}", flush=True)
    else:
        for _ in line.split("|||")[1:]:
            print("0.25")
        print("0.5", flush=True)
"""
# Two words on each side, one of them matched: precision, recall and f-mean 1/2, penalty 0.6.
HALF = "2.0 2.0 0.0 0.0 1.0 1.0" + " 0.0" * 14 + " 1.0 1.0 1.0"
HALF_SCORE = pytest.approx(0.2)
PLAIN = ECHO.format(before="", answer=HALF)


@pytest.fixture(scope="module")
def meteor(scorer):
    scorer.score([CaptionRow("1", "1", "a dog", ("a dog",))], ["meteor"])
    return scorer.shared.meteor()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(CAPTIONS, st.lists(CAPTIONS, min_size=1, max_size=3)), min_size=1))
def test_same_scores_as_pycocoevalcap(meteor, pairs):
    """pycocoevalcap's own class on the same Java process, which answers both."""
    from pycocoevalcap.meteor.meteor import Meteor as Theirs

    process, nothing = meteor.process, lambda: None
    theirs = Theirs.__new__(Theirs)
    theirs.lock = threading.Lock()
    stdin = SimpleNamespace(write=process.stdin.write, flush=process.stdin.flush, close=nothing)
    theirs.meteor_p = SimpleNamespace(
        stdin=stdin, stdout=process.stdout, kill=nothing, wait=nothing
    )
    hypotheses = [caption for caption, _ in pairs]
    references = [group for _, group in pairs]
    value, per_region = meteor.score(references, hypotheses)
    expected, expected_per_region = theirs.compute_score(
        dict(enumerate(references)), {i: [text] for i, text in enumerate(hypotheses)}
    )
    assert value == pytest.approx(expected, abs=1e-12)
    assert per_region == pytest.approx(expected_per_region, abs=1e-12)
    assert meteor.score_by_jar(references, hypotheses) == (expected, expected_per_region)


def test_separator_on_either_side(meteor):
    plain = meteor.score([["a red dog", "a hound"]], ["a red hound"])
    references = [["a red ||| dog", "a hound"], ["x"]]
    value, per_region = meteor.score(references, ["a ||| red hound", "y"])
    assert per_region == [plain[0], 0.0]
    assert 0 < value < plain[0]


def test_identical_and_disjoint(meteor):
    _, (same, other) = meteor.score([["a small red dog"]] * 2, ["a small red dog", "zzyzx qqq"])
    assert same > 0.99
    assert other == 0.0


def test_killed_process_says_so_and_the_next_call_starts_anew(java):
    with Meteor(java) as own:
        own.start()
        first = own.process
        threading.Timer(0.3, first.kill).start()
        with pytest.raises(NotComputed, match=r"died \(exit code -9\)"):
            own.score([["a"]] * 50, ["a"] * 50)
        assert own.process is None
        own.start()
        assert own.process.pid != first.pid
        last = own.process
    assert last.poll() is not None


def test_hanging_process_is_ended(java):
    with Meteor(java, timeout_s=0.2) as own:
        began = time.monotonic()
        with pytest.raises(NotComputed, match=r"no answer for 0.2 s"):
            own.score([["a"]], ["a"])
        assert time.monotonic() - began < 10


def test_flooded_stderr_does_not_block(fake_java):
    flood = "sys.stderr.write('warning\\n' * 100_000)"
    with Meteor(fake_java(ECHO.format(before=flood, answer=HALF)), timeout_s=30) as own:
        assert own.score([["a"], ["b"]], ["a", "b"]) == (HALF_SCORE, [HALF_SCORE] * 2)
        assert own.score_by_jar([["a"], ["b"]], ["a", "b"]) == (0.5, [0.25, 0.25])


def test_death_is_reported_in_its_own_words(fake_java):
    program = "import sys\nprint('OutOfMemoryError: heap', file=sys.stderr)\nsys.exit(3)"
    with (
        Meteor(fake_java(program), timeout_s=30) as own,
        pytest.raises(NotComputed, match=r"exit code 3\): OutOfMemoryError: heap"),
    ):
        own.score([["a"]], ["a"])


@pytest.mark.parametrize("answer", [HALF.replace("2.0", "2,0"), "7", HALF + " 1.0", ""])
def test_nonsense_is_no_score(fake_java, answer):
    program = ECHO.format(before="", answer=answer)
    with (
        Meteor(fake_java(program), timeout_s=30) as own,
        pytest.raises(NotComputed, match="no statistics"),
    ):
        own.score([["a"]], ["a"])


def test_interrupt_leaves_no_stale_answer(fake_java, monkeypatch):
    with Meteor(fake_java(PLAIN), timeout_s=30) as own:
        own.start()
        pid = own.process.pid

        def interrupted(process):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(own, "_receive", interrupted)
            with pytest.raises(KeyboardInterrupt):
                own.score([["a"], ["b"]], ["a", "b"])
        assert own.process is None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert own.score([["a"]], ["a"]) == (HALF_SCORE, [HALF_SCORE])


@pytest.fixture
def sent(meteor, monkeypatch):
    """The lines that go to the process while a test runs, nothing being known before."""
    lines, send = [], meteor._send
    monkeypatch.setattr(meteor, "_send", lambda p, line: lines.append(line) or send(p, line))
    monkeypatch.setattr(meteor, "_memo", RowMemo(23, 1000))
    return lines


def test_what_was_matched_is_not_asked_again(meteor, sent):
    references = [["a red dog", "a dog"], ["two cats"], ["a red dog", "a dog"], ["a dog"]]
    captions = ["a dog", "cats", "a dog", "a dog"]
    first = meteor.score(references, captions)
    assert len(sent) == 3
    assert meteor.score(references[::-1], captions[::-1]) == (
        pytest.approx(first[0], abs=1e-15),
        first[1][::-1],
    )
    assert len(sent) == 3
    meteor.score([*references, ["a dog", "a red dog"]], [*captions, "a dog"])
    assert len(sent) == 4, "another order of references may choose another one"
    meteor.score_by_jar(references, captions)
    assert len(sent) == 9, "the jar's own answer comes from nothing kept"


def test_what_is_known_needs_no_process(fake_java):
    with Meteor(fake_java(PLAIN), timeout_s=30) as own:
        first = own.score([["a"]], ["a"])
        own.close()
        assert own.score([["a"]], ["a"]) == first
        assert own.process is None


def test_more_pairs_than_are_kept(meteor, sent, monkeypatch):
    references = [["a dog runs"]] * 6
    captions = ["a", "dog", "a dog", "a dog runs", "runs", "zzyzx"]
    whole = meteor.score(references, captions)
    monkeypatch.setattr(meteor, "_memo", RowMemo(23, 2))
    assert meteor.score(references, captions) == whole
    assert len(meteor._memo) == 2
    parts = [meteor.statistics(references[:2], captions[n : n + 2]) for n in (0, 2, 4)]
    assert np.array_equal(np.concatenate(parts), meteor.statistics(references, captions))


ODD = [
    ("", "a dog"),
    ("a dog", ""),
    ("", ""),
    ("|||", "a ||| dog"),
    ("||||", "|"),
    ("a a a a", "a a"),
    ("a dog " * 30, "dog a " * 25),
    ("zzyzx 日本 😀", "é"),
    ("a dog", "a dog"),
    ("dog a", "a dog"),
    (", . !", "; :"),
]


def test_odd_captions_as_the_jar_scores_them(meteor):
    captions, references = [pair[0] for pair in ODD], [[pair[1]] for pair in ODD]
    for chosen in (slice(None), slice(0, 1), slice(2, 3), slice(8, 9), slice(8, 10)):
        value, per_region = meteor.score(references[chosen], captions[chosen])
        expected = meteor.score_by_jar(references[chosen], captions[chosen])
        assert value == pytest.approx(expected[0], abs=1e-12)
        assert per_region == pytest.approx(expected[1], abs=1e-12)


def test_a_region_in_one_piece_adds_no_chunk(meteor):
    """The jar's corpus score leaves the chunk of a perfect caption out, so sums must, too."""
    references = [["a small red dog"], ["two cats run"], ["a blue car"]]
    captions = ["a small red dog", "run cats two", "blue car"]
    statistics = meteor.statistics(references, captions)
    assert statistics[:, 20].tolist() == [0, 3, 1]
    value, _ = meteor.score_by_jar(references, captions)
    assert meteor_scores(statistics.sum(axis=0)) == pytest.approx(value, abs=1e-12)
