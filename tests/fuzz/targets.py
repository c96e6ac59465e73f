"""All targets of fuzzing, by name."""

from __future__ import annotations

from fuzz.harness import Target

TARGETS: dict[str, Target] = {}
