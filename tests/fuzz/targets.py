"""All targets of fuzzing, by name."""

from __future__ import annotations

from fuzz import binaries, texts
from fuzz.harness import Target

TARGETS: dict[str, Target] = {**binaries.TARGETS, **{t.name: t for t in texts.TARGETS}}
