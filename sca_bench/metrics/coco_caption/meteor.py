"""METEOR 1.5 through its own jar: one long-lived Java process for many calls.

Start-up (15.8 million lines of paraphrases) takes ten seconds, a caption less than a millisecond,
so one process serves all systems of an ablation. A caption that was matched with a group of
references is not asked for again: the jar's statistics are kept and its last step done here. (One
request after another: sending ahead was measured and gains nothing, the process is busy anyway.)
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from types import TracebackType
from typing import IO, TypeVar

import numpy as np
from numpy.typing import NDArray

from sca_bench.errors import NotComputed
from sca_bench.lifetime.stops import start_child
from sca_bench.metrics.coco_caption.java import Java, last_words, scorer_folder
from sca_bench.metrics.coco_caption.meteor_formula import STATISTICS, meteor_scores, summable
from sca_bench.metrics.coco_caption.row_cache import RowMemo

# Scores move with these, so they are part of the signature.
OPTIONS = ("-l", "en", "-norm")
# The jar's own, which it does not find by itself where its folder's name needs escapes in a URL.
_TABLE = ("-a", "data/paraphrase-en.gz")
# Captions with their references whose statistics are kept: 184 bytes and a key each, about 150 MiB.
_KEPT_PAIRS = 400_000

_T = TypeVar("_T")


class Meteor:
    """A METEOR process, started on the first call and again after it has died.

    Statistics of the newest 400,000 pairs of a caption and its references are kept.

    Args:
        java: The Java to run the jar with.
        timeout_s: Seconds without any answer after which the process is killed.
    """

    def __init__(self, java: Java, timeout_s: float = 600.0) -> None:
        self._java, self._timeout_s = java, timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: deque[str] = deque(maxlen=20)
        self._drain: threading.Thread | None = None
        self._last_answer_s = 0.0
        self._timed_out = False
        self._memo = RowMemo(STATISTICS, _KEPT_PAIRS)

    def __enter__(self) -> Meteor:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def process(self) -> subprocess.Popen[bytes] | None:
        """The running process, if there is one."""
        return self._process

    def start(self) -> None:
        """Start the process and return at once; it loads its tables while others work.

        Raises:
            NotComputed: The jar is missing or Java does not start.
        """
        if self._process is not None:
            return
        jar = scorer_folder() / "meteor" / "meteor-1.5.jar"
        if not jar.is_file():
            raise NotComputed(f"METEOR's jar is missing: {jar}")
        self._stderr.clear()
        try:
            process = self._process = start_child(
                self._java.command(
                    "-Xmx2G", "-jar", jar.name, "-", "-", "-stdio", *OPTIONS, *_TABLE
                ),
                cwd=jar.parent,
                env=self._java.environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            raise NotComputed(f"{self._java.executable} does not start: {error}") from error
        assert process.stderr is not None
        # An undrained stderr pipe fills after 64 kB and stops the JVM for good.
        self._drain = threading.Thread(
            target=_collect, args=(process.stderr, self._stderr), daemon=True
        )
        self._drain.start()

    def score(
        self, references: Sequence[Sequence[str]], hypotheses: Sequence[str]
    ) -> tuple[float, list[float]]:
        """Score tokenised captions.

        Args:
            references: Tokenised references of each region.
            hypotheses: One tokenised caption per region.

        Returns:
            The corpus score and each region's score, both 0-1.

        Raises:
            NotComputed: See `statistics`.
        """
        statistics = self.statistics(references, hypotheses)
        return float(meteor_scores(statistics.sum(axis=0))), meteor_scores(statistics).tolist()

    def statistics(
        self, references: Sequence[Sequence[str]], hypotheses: Sequence[str]
    ) -> NDArray[np.float64]:
        """Return what the scores are made of; the process is asked for unknown captions only.

        Returns:
            (regions, 23), see `sca_bench.metrics.coco_caption.meteor_formula.summable`.

        Raises:
            NotComputed: The process died, hung or answered nonsense; the next call starts anew.
        """
        pairs = [(tuple(g), h) for g, h in zip(references, hypotheses, strict=True)]

        def ask(process: subprocess.Popen[bytes], indices: list[int]) -> NDArray[np.float64]:
            answers = (self._ask(process, _score_line(*pairs[index])) for index in indices)
            return np.array([_numbers(answer) for answer in answers])

        def compute(indices: list[int]) -> NDArray[np.float64]:
            return summable(self._converse(lambda process: ask(process, indices)))

        keys: list[Hashable] = list(pairs)
        return self._memo.rows(keys, compute)

    def score_by_jar(
        self, references: Sequence[Sequence[str]], hypotheses: Sequence[str]
    ) -> tuple[float, list[float]]:
        """Score as `score` does, all by the jar itself, from nothing kept; for checks.

        Raises:
            NotComputed: See `statistics`.
        """
        groups = list(zip(references, hypotheses, strict=True))

        def evaluate(process: subprocess.Popen[bytes]) -> tuple[float, list[float]]:
            statistics = [self._ask(process, _score_line(*group)) for group in groups]
            self._send(process, " ||| ".join(["EVAL", *statistics]))
            per_region = [float(self._receive(process)) for _ in groups]
            return float(self._receive(process)), per_region

        return self._converse(evaluate)

    def _converse(self, talk: Callable[[subprocess.Popen[bytes]], _T]) -> _T:
        """Return what `talk` makes of the process; a process that fails is cleared away."""
        self.start()
        process = self._process
        assert process is not None
        self._timed_out, self._last_answer_s = False, time.monotonic()
        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=(process, done), daemon=True)
        watch.start()
        try:
            return talk(process)
        except (OSError, EOFError, ValueError) as error:
            reason = self._obituary(process, error)
            raise NotComputed(reason) from error
        except BaseException:
            self.close()  # An interrupt leaves answers behind that belong to no later question.
            raise
        finally:
            done.set()
            watch.join()

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        if self._drain is not None:
            self._drain.join()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                # Unsent bytes for a process that is gone.
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _ask(self, process: subprocess.Popen[bytes], line: str) -> str:
        self._send(process, line)
        return self._receive(process)

    def _send(self, process: subprocess.Popen[bytes], line: str) -> None:
        assert process.stdin is not None
        process.stdin.write(line.encode() + b"\n")
        process.stdin.flush()

    def _receive(self, process: subprocess.Popen[bytes]) -> str:
        assert process.stdout is not None
        answer = process.stdout.readline()
        if not answer.endswith(b"\n"):
            raise EOFError("no answer")
        self._last_answer_s = time.monotonic()
        return answer.decode().strip()

    def _watch(self, process: subprocess.Popen[bytes], done: threading.Event) -> None:
        """Kill a process that hangs: a blocked write or read then ends with an error."""
        while not done.wait(min(1.0, self._timeout_s)):
            if time.monotonic() - self._last_answer_s > self._timeout_s:
                self._timed_out = True
                process.kill()
                return

    def _obituary(self, process: subprocess.Popen[bytes], error: Exception) -> str:
        """Return why there is no score, and clear the process away."""
        spoiled = isinstance(error, ValueError)
        if spoiled:
            process.kill()
        code = process.wait()
        self.close()
        if self._timed_out:
            return f"METEOR's Java process gave no answer for {self._timeout_s:g} s and was ended"
        if spoiled:
            return f"METEOR's Java process gave an answer that is no statistics: {error}"
        return f"METEOR's Java process died (exit code {code}): {last_words(self._stderr)}"


def _score_line(references: Sequence[str], hypothesis: str) -> str:
    # The jar's protocol separates fields by |||. pycocoevalcap takes it out of the hypothesis only.
    fields = [text.replace("|||", "").replace("  ", " ") for text in (*references, hypothesis)]
    return " ||| ".join(["SCORE", *fields])


def _numbers(answer: str) -> list[float]:
    numbers = [float(number) for number in answer.split()]
    if len(numbers) != STATISTICS:
        raise ValueError(f"{len(numbers)} numbers in place of {STATISTICS}: {answer[:80]!r}")
    return numbers


def _collect(pipe: IO[bytes], lines: deque[str]) -> None:
    for line in pipe:
        lines.append(line.decode(errors="replace"))
