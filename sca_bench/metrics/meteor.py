"""METEOR 1.5 through its own jar: one long-lived Java process for many calls.

Start-up (15.8 million lines of paraphrases) takes ten seconds, a caption less than a millisecond,
so one process serves all systems of an ablation.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import IO

from sca_bench.errors import NotComputed
from sca_bench.metrics.java import Java, last_words, scorer_folder

# Scores move with these, so they are part of the signature.
OPTIONS = ("-l", "en", "-norm")


class Meteor:
    """A METEOR process, started on the first call and again after it has died.

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
            process = subprocess.Popen(
                self._java.command("-Xmx2G", "-jar", jar, "-", "-", "-stdio", *OPTIONS),
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
        self._process = process

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
            NotComputed: The process died, hung or answered nonsense; the next call starts anew.
        """
        self.start()
        process = self._process
        assert process is not None
        self._timed_out, self._last_answer_s = False, time.monotonic()
        done = threading.Event()
        watch = threading.Thread(target=self._watch, args=(process, done), daemon=True)
        watch.start()
        try:
            statistics = [
                self._ask(process, _score_line(group, hypothesis))
                for group, hypothesis in zip(references, hypotheses, strict=True)
            ]
            self._send(process, " ||| ".join(["EVAL", *statistics]))
            per_region = [float(self._receive(process)) for _ in hypotheses]
            return float(self._receive(process)), per_region
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
            return f"METEOR's Java process gave an answer that is no number: {error}"
        return f"METEOR's Java process died (exit code {code}): {last_words(self._stderr)}"


def _score_line(references: Sequence[str], hypothesis: str) -> str:
    # The jar's protocol separates fields by |||. pycocoevalcap takes it out of the hypothesis only.
    fields = [text.replace("|||", "").replace("  ", " ") for text in (*references, hypothesis)]
    return " ||| ".join(["SCORE", *fields])


def _collect(pipe: IO[bytes], lines: deque[str]) -> None:
    for line in pipe:
        lines.append(line.decode(errors="replace"))
