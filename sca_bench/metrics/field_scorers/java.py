"""What the metrics of this folder require: a Java runtime."""

from __future__ import annotations

from sca_bench.metrics.coco_caption.java import find_java
from sca_bench.metrics.spec import Requirement


def found_java() -> str:
    """Return the path of the Java that would run the tokenizer, and where it comes from.

    Raises:
        NotComputed: There is none; says how to get one.
    """
    java = find_java()
    return f"{java.executable} ({java.source})"


JAVA = Requirement("Java", f"{__name__}:found_java")
