"""SPICE through its own jar, which needs Stanford CoreNLP 3.6.0 from the user.

No package ships CoreNLP's models, and pycocoevalcap's `Spice` downloads 385 MB into its own folder
when it is constructed; it is never constructed here. Without the jars SPICE is not computed, and
no other scene-graph metric takes its name.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from sca_bench.errors import NotComputed
from sca_bench.lifetime.stops import run_child
from sca_bench.metrics.coco_caption.java import Java, last_words, scorer_folder

CORENLP_VARIABLE = "SCA_BENCH_CORENLP"
CORENLP_JARS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
# Java 17 and later close these packages to the serializer behind SPICE's parse cache.
_OPENED = ("lang", "math", "util", "util.concurrent", "net", "text")


def corenlp_folder() -> Path:
    """Return the folder that holds both CoreNLP jars.

    Raises:
        NotComputed: `SCA_BENCH_CORENLP` is unset, or its folder lacks a jar.
    """
    named = os.environ.get(CORENLP_VARIABLE, "")
    if not named:
        raise NotComputed(
            f"SPICE needs Stanford CoreNLP 3.6.0, which no Python package ships: set "
            f"{CORENLP_VARIABLE} to a folder with {' and '.join(CORENLP_JARS)}"
        )
    missing = [jar for jar in CORENLP_JARS if not (Path(named) / jar).is_file()]
    if missing:
        raise NotComputed(f"SPICE: {CORENLP_VARIABLE}={named} lacks {' and '.join(missing)}")
    return Path(named).resolve()


def spice(
    java: Java,
    references: Sequence[Sequence[str]],
    hypotheses: Sequence[str],
    timeout_s: float = 6 * 3600.0,
) -> tuple[float, list[float]]:
    """Score tokenised captions.

    Args:
        java: The Java to run the jar with.
        references: Tokenised references of each region.
        hypotheses: One tokenised caption per region.
        timeout_s: Seconds after which SPICE is given up.

    Returns:
        Mean F-score and each region's F-score, 0-1, in the order of the hypotheses.

    Raises:
        NotComputed: CoreNLP is not there, or SPICE fails.

    Source: Anderson et al., SPICE, ECCV 2016; jar 1.0 of pycocoevalcap.
    """
    corenlp = corenlp_folder()
    home = scorer_folder() / "spice"
    # SPICE answers in the order of its sorted ids; padded ids sort as the regions stand.
    width = len(str(len(hypotheses)))
    ids = [f"{index:0{width}d}" for index in range(len(hypotheses))]
    records = [
        {"image_id": name, "test": hypothesis, "refs": list(group)}
        for name, hypothesis, group in zip(ids, hypotheses, references, strict=True)
    ]
    with tempfile.TemporaryDirectory(prefix="sca_bench-spice-") as folder:
        # Named as seen from the folder, whose own path may hold what the jar cannot read.
        source, target, cache = (Path(folder) / name for name in ("in.json", "out.json", "cache"))
        source.write_text(json.dumps(records), encoding="utf-8")
        cache.mkdir()
        classes = (home / "spice-1.0.jar", home / "lib" / "*", corenlp / "*")
        command = java.command(
            *(f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in _OPENED),
            "-Xmx8G",
            "-cp",
            os.pathsep.join(map(str, classes)),
            "edu.anu.spice.SpiceScorer",
            source.name,
            *("-cache", cache.name, "-out", target.name, "-subset", "-silent"),
        )
        try:
            done = run_child(
                command,
                cwd=folder,
                env=java.environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                timeout=timeout_s,
            )
        except OSError as error:
            raise NotComputed(f"SPICE: {java.executable} does not start: {error}") from error
        except subprocess.TimeoutExpired as error:
            raise NotComputed(f"SPICE took longer than {timeout_s:g} s") from error
        if done.returncode != 0 or not target.is_file():
            reason = last_words(done.stderr.decode(errors="replace"))
            raise NotComputed(f"SPICE failed (exit code {done.returncode}): {reason}")
        return _read(target, ids)


def _read(target: Path, ids: Sequence[str]) -> tuple[float, list[float]]:
    try:
        results = json.loads(target.read_text(encoding="utf-8"))
        scores = {str(item["image_id"]): item["scores"]["All"]["f"] for item in results}
        per_region = [float(scores[name]) for name in ids]
    except (ValueError, TypeError, KeyError) as error:
        raise NotComputed(f"SPICE's answer cannot be read: {error!r}") from error
    if len(scores) != len(ids) or not all(map(math.isfinite, per_region)):
        raise NotComputed("SPICE's answer does not hold one number for every region")
    return math.fsum(per_region) / len(per_region), per_region
