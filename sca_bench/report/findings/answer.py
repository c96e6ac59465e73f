"""The headline of a suite: its claims in words, how sure they are, what they cost."""

from __future__ import annotations

from collections.abc import Sequence

from sca_bench.report.findings.claims import ClaimResult
from sca_bench.report.findings.differences import Differences
from sca_bench.report.findings.headline import Headline, Sentence
from sca_bench.report.findings.paper import Paper
from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import SuiteData


def headline(
    data: SuiteData,
    samples: Samples,
    claims: Sequence[ClaimResult],
    compared: Differences,
    paper: Paper,
) -> Headline:
    """Return the answer of a suite in words.

    Args:
        data: The suite.
        samples: Its region scores.
        claims: Its claims with their verdicts.
        compared: Its cells beside the reference.
        paper: The paper's numbers, which say whether the protocols compare.
    """
    sentences = [
        Sentence(claim.id, claim.verdict, claim.verdict, f"{claim.says}: {claim.verdict}.")
        for claim in claims
    ]
    return Headline(data.manifest.question, tuple(sentences), figure="axis")
