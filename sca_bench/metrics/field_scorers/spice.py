"""SPICE by its own program, with Stanford CoreNLP from the user."""

from __future__ import annotations

from collections.abc import Sequence

from sca_bench.metrics.coco_caption import spice as program
from sca_bench.metrics.field_scorers.java import JAVA
from sca_bench.metrics.protocol import Context, Scored
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.spec import MetricSpec, Requirement

_TIMES_AS_LONG = 36
"""SPICE parses every caption before it answers."""
SPEC = MetricSpec(
    "spice",
    "SPICE; 0-1; needs Stanford CoreNLP 3.6.0 in SCA_BENCH_CORENLP",
    "spice",
    "pycocoevalcap spice-1.0.jar (stanford-corenlp-3.6.0)",
    compute=f"{__name__}:spice",
    label="SPICE",
    needs="Stanford CoreNLP 3.6.0 in SCA_BENCH_CORENLP",
    requires=(JAVA, Requirement("CoreNLP jars", f"{program.__name__}:corenlp_folder")),
)


def spice(rows: Sequence[CaptionRow], context: Context) -> list[Scored]:
    """SPICE, the mean over regions.

    Raises:
        NotComputed: CoreNLP or Java is not there, or the program failed.

    Source: Anderson et al., SPICE, ECCV 2016.
    """
    program.corenlp_folder()  # Say first what is missing for good.
    tokens = context.tokens(rows)
    timeout_s = _TIMES_AS_LONG * context.shared.timeout_s
    scores = program.spice(context.java(), tokens.references, tokens.captions, timeout_s)
    return [Scored("spice", *scores, rows)]
