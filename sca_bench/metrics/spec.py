"""What a metric is in the registry: its name, what computes it, and how a report prints it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from sca_bench.metrics.coco_caption.ptb_tokenizer import TOKENIZER
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.signature import Signature, region_set_hash
from sca_bench.metrics.value_names import signature_name
from sca_bench.plugins import is_own

# Raised whenever one of the package's own metrics changes a number.
OWN_REVISION = "2"

Level = Literal["region", "corpus"]


@dataclass(frozen=True, slots=True)
class Requirement:
    """Something beside the rows without which a metric is not computed.

    Attributes:
        what: In words, such as `Java`.
        find: `module:attribute` of a function without arguments that returns what it found, in
            words, or raises `errors.NotComputed` with what to do. `check` calls it, before any
            run; metrics that name the same one share a line there.
    """

    what: str
    find: str


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric.

    Attributes:
        name: What a suite and `score` name it by: small letters, digits and _.
        summary: One line for `list metrics`.
        family: What computes it; `bleu_1` to `bleu_4` come from one computation.
        scorer: The program, with the parameters that move its scores.
        package: Distribution whose version the signature names; empty for the package's own.
        tokenizer: What both sides are cut into words by.
        document_frequency: Where word frequencies come from, or `none`.
        report_scale: What a report multiplies the value by, as the field does.
        compute: `module:attribute` of the `protocol.Computation`, imported on use.
        unit: What a report counts the value in, such as `words`; empty for a share or a score,
            which it shows times 100.
        maximum: Largest value in natural units, where it has no unit.
        label: What a report calls it; its name in words where empty.
        needs: What has to be there beside the rows, in words.
        fault: Why it cannot be computed at all: a package that does not import.
        higher_is_better: None where neither more nor less is (lengths, diversity).
        values: What asking for it always gives: names of values, as `value_names` spells them;
            empty where that is one value, called as the metric. One that is called otherwise is
            itself a registered metric of the same computation, as `bleu_1` is.
        level: `region` where the value is the mean of its regions' values; `corpus` where it is
            computed over all regions together.
        statistics: `module:attribute` of the `protocol.CorpusScore` that gives the value from the
            sum of its regions' statistics (`Scored.statistics`); a report then draws an interval
            of a corpus value. Empty: a corpus value has none.
        requires: What `check` looks for before a run; see `Requirement`.
        prepare: `module:attribute` of a function that gets the `protocol.Context` before any metric
            is computed, and begins what takes long in the background. Such a metric is computed
            after the others. What it raises is left to the computation.
        reference: `module:attribute` of a `protocol.Computation` that computes the same values by
            another program, for `score --check`. Empty: they are not checked.
        doubts: `module:attribute` of a function that gets all values of a system and its rows, and
            returns what a reader should know before believing this one.
        prefix: What names with a phrase begin with: `exact_match_without_` is followed by any one.
            Asking for such a name asks for this metric; its computation reads the whole of it in
            `context.name`.
        of_training: Whether captions of the training split are scored by it, too, where a run has
            them.
    """

    name: str
    summary: str
    family: str
    scorer: str
    package: str = "pycocoevalcap"
    tokenizer: str = TOKENIZER
    document_frequency: str = "none"
    report_scale: float = 100.0
    compute: str = ""
    unit: str = ""
    maximum: float = 1.0
    label: str = ""
    needs: str = ""
    fault: str = ""
    higher_is_better: bool | None = True
    values: tuple[str, ...] = ()
    level: Level = "region"
    statistics: str = ""
    requires: tuple[Requirement, ...] = ()
    prepare: str = ""
    reference: str = ""
    doubts: str = ""
    prefix: str = ""
    of_training: bool = False

    @property
    def is_own(self) -> bool:
        """Whether its code comes with this package."""
        return is_own(self.compute)

    @property
    def statistics_name(self) -> str:
        """What its regions' statistics are kept under; one name for a computation of our own."""
        return self.family if self.is_own else self.name

    def named_code(self) -> dict[str, str]:
        """Return what it names as `module:attribute`, by field."""
        fields = ("compute", "statistics", "prepare", "reference", "doubts")
        code = {field: getattr(self, field) for field in fields}
        code |= {f"requires ({one.what})": one.find for one in self.requires}
        return {field: path for field, path in code.items() if path}

    def sign(self, key: str, rows: Sequence[CaptionRow], region_set: str = "") -> Signature:
        """Return the signature of the value `key` over `rows` (whose hash may be given)."""
        counts = [len(row.references) for row in rows]
        return Signature(
            metric=signature_name(key),
            scorer=self.scorer,
            version=_version(self.package),
            tokenizer=self.tokenizer,
            document_frequency=self.document_frequency,
            references_min=min(counts),
            references_max=max(counts),
            num_regions=len(rows),
            region_set=region_set or region_set_hash(rows),
        )

    def is_outdated(self, signature: Mapping[str, Any]) -> bool:
        """Say whether a value of this signature is of an older revision of this package's code."""
        if self.package or signature.get("scorer") != self.scorer:
            return False
        version = str(signature.get("version", ""))
        return version.isdecimal() and int(version) < int(OWN_REVISION)


def _version(package: str) -> str:
    if not package:
        return OWN_REVISION
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
