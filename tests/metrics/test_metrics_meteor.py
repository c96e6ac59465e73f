import os
import threading
import time
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sca_bench.errors import NotComputed
from sca_bench.metrics.java import find_java
from sca_bench.metrics.meteor import Meteor
from sca_bench.metrics.rows import CaptionRow

WORDS = st.sampled_from(["a", "dog", "dogs", "hound", "runs", "running", "zzyzx", "'s", "-lrb-"])
CAPTIONS = st.lists(WORDS, max_size=6).map(" ".join)
ECHO = """
import sys
{before}
for line in sys.stdin:
    if line.startswith("SCORE"):
        print("7", flush=True)
    else:
        for _ in line.split("|||")[1:]:
            print("0.25")
        print("0.5", flush=True)
"""


@pytest.fixture(scope="module")
def meteor(scorer):
    scorer.score([CaptionRow("1", "1", "a dog", ("a dog",))], ["meteor"])
    return scorer._meteor


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
    assert value == expected
    assert per_region == expected_per_region


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


def test_killed_process_says_so_and_the_next_call_starts_anew():
    with Meteor(find_java()) as own:
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


def test_hanging_process_is_ended():
    with Meteor(find_java(), timeout_s=0.2) as own:
        began = time.monotonic()
        with pytest.raises(NotComputed, match=r"no answer for 0.2 s"):
            own.score([["a"]], ["a"])
        assert time.monotonic() - began < 10


def test_flooded_stderr_does_not_block(fake_java):
    flood = "sys.stderr.write('warning\\n' * 100_000)"
    with Meteor(fake_java(ECHO.format(before=flood)), timeout_s=30) as own:
        assert own.score([["a"], ["b"]], ["a", "b"]) == (0.5, [0.25, 0.25])


def test_death_is_reported_in_its_own_words(fake_java):
    program = "import sys\nprint('OutOfMemoryError: heap', file=sys.stderr)\nsys.exit(3)"
    with (
        Meteor(fake_java(program), timeout_s=30) as own,
        pytest.raises(NotComputed, match=r"exit code 3\): OutOfMemoryError: heap"),
    ):
        own.score([["a"]], ["a"])


def test_nonsense_is_no_score(fake_java):
    program = ECHO.replace("0.25", "0,25").format(before="")
    with (
        Meteor(fake_java(program), timeout_s=30) as own,
        pytest.raises(NotComputed, match="no number"),
    ):
        own.score([["a"]], ["a"])


def test_interrupt_leaves_no_stale_answer(fake_java):
    with Meteor(fake_java(ECHO.format(before="")), timeout_s=30) as own:
        own.start()
        pid = own.process.pid

        class Stop(list):
            def __iter__(self):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            own.score([["a"], Stop()], ["a", "b"])
        assert own.process is None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        assert own.score([["a"]], ["a"]) == (0.5, [0.25])
