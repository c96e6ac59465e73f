"""All targets of fuzzing, by name."""

from __future__ import annotations

from fuzz import binaries, runs_folder, texts
from fuzz.harness import Target

TARGETS: dict[str, Target] = {
    target.name: target
    for target in (*texts.TARGETS, *runs_folder.TARGETS, *binaries.TARGETS.values())
}
