"""All targets of fuzzing, by name."""

from __future__ import annotations

from fuzz import binaries
from fuzz.harness import Target

TARGETS: dict[str, Target] = {**binaries.TARGETS}
