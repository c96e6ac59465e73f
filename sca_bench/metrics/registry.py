"""The metrics by name: what they are called, what computes them, and how a report prints them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

from sca_bench.errors import InputError, did_you_mean
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.signature import Signature, region_set_hash
from sca_bench.metrics.text import TOKENIZER

# Raised whenever one of the package's own metrics changes a number.
OWN_REVISION = "1"
WITHOUT = "exact_match_without_"


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric.

    Attributes:
        name: What a suite and `score` name it by.
        summary: One line for `list metrics`.
        family: What computes it; `bleu_1` to `bleu_4` come from one computation.
        scorer: The program, with the parameters that move its scores.
        package: Distribution whose version the signature names; empty for the package's own.
        tokenizer: What both sides are cut into words by.
        document_frequency: Where word frequencies come from, or `none`.
        report_scale: What a report multiplies the value by, as the field does.
    """

    name: str
    summary: str
    family: Literal[
        "cider_d",
        "meteor",
        "bleu",
        "rouge_l",
        "spice",
        "exact_match",
        "macro_recall",
        "slots",
        "dense_captions",
    ]
    scorer: str
    package: str = "pycocoevalcap"
    tokenizer: str = TOKENIZER
    document_frequency: str = "none"
    report_scale: float = 100.0

    def sign(self, key: str, rows: Sequence[CaptionRow], region_set: str = "") -> Signature:
        """Return the signature of the value `key` over `rows` (whose hash may be given)."""
        counts = [len(row.references) for row in rows]
        return Signature(
            metric=key,
            scorer=self.scorer,
            version=_version(self.package),
            tokenizer=self.tokenizer,
            document_frequency=self.document_frequency,
            references_min=min(counts),
            references_max=max(counts),
            num_regions=len(rows),
            region_set=region_set or region_set_hash(rows),
        )


def _version(package: str) -> str:
    if not package:
        return OWN_REVISION
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


_CASE = "none (case folded, runs of space collapsed)"
_BLEU = "pycocoevalcap Bleu (n=4, closest reference length, corpus level)"
_ALL = (
    MetricSpec(
        "cider_d",
        "CIDEr-D, what papers print as CIDEr; 0-10",
        "cider_d",
        "pycocoevalcap Cider (CIDEr-D, n=1-4, sigma=6)",
        document_frequency="the references scored, one document per region",
    ),
    MetricSpec(
        "meteor",
        "METEOR 1.5 with stems, synonyms and paraphrases; 0-1",
        "meteor",
        "pycocoevalcap meteor-1.5.jar (-l en -norm)",
    ),
    MetricSpec("bleu", "BLEU-1 to BLEU-4, corpus level; 0-1", "bleu", _BLEU),
    *(MetricSpec(f"bleu_{n}", f"BLEU-{n}, corpus level; 0-1", "bleu", _BLEU) for n in range(1, 5)),
    MetricSpec("rouge_l", "ROUGE-L; 0-1", "rouge_l", "pycocoevalcap Rouge (beta=1.2)"),
    MetricSpec(
        "spice",
        "SPICE; 0-1; needs Stanford CoreNLP 3.6.0 in SCA_BENCH_CORENLP",
        "spice",
        "pycocoevalcap spice-1.0.jar (stanford-corenlp-3.6.0)",
    ),
    MetricSpec(
        "exact_match",
        "Share of captions equal to a reference; 0-1; exact_match_without_PHRASE leaves regions "
        "with that reference out",
        "exact_match",
        "sca_bench exact_match",
        package="",
        tokenizer=_CASE,
    ),
    MetricSpec(
        "macro_recall",
        "Exact match averaged over distinct reference phrases; 0-1",
        "macro_recall",
        "sca_bench macro_recall",
        package="",
        tokenizer=_CASE,
    ),
    MetricSpec(
        "slots",
        "Accuracy of each slot of a grammar's captions, also by number of regions; 0-1",
        "slots",
        "sca_bench grammar",
        package="",
        tokenizer=_CASE,
    ),
    MetricSpec(
        "dense_captions_map",
        "Mean average precision of own detections with captions (score FILE --regions FILE); 0-1",
        "dense_captions",
        "sca_bench dense_captions (references merged at IoU 0.7; IoU 0.3-0.7 x METEOR 1.5 0-0.25)",
    ),
)

METRICS: dict[str, MetricSpec] = {spec.name: spec for spec in _ALL}


def get_metric(name: str, where: str = "metrics") -> MetricSpec:
    """Return one metric; `exact_match_without_PHRASE` (spaces as _) counts as exact match.

    Raises:
        InputError: No such metric; the nearest one is suggested.
    """
    if name in METRICS:
        return METRICS[name]
    if name.startswith(WITHOUT) and name != WITHOUT:
        return METRICS["exact_match"]
    raise InputError(where, "metrics", f"{name!r} is unknown", did_you_mean(name, METRICS))


def spec_of_value(key: str) -> MetricSpec | None:
    """Return the metric that a value's key (such as `bleu_4` or `slots.colour`) belongs to."""
    name = key.split(".")[0]
    return METRICS.get(name) or (METRICS["exact_match"] if name.startswith(WITHOUT) else None)
