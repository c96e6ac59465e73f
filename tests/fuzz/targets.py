"""All targets of fuzzing, by name."""

from __future__ import annotations

from fuzz import texts
from fuzz.harness import Target

TARGETS: dict[str, Target] = {target.name: target for target in texts.TARGETS}
