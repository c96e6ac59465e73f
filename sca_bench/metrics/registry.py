"""The metrics by name: what they are called, what computes them, and how a report prints them.

A third party adds one through the entry-point group `sca_bench.metrics`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Any

from sca_bench.errors import InputError, NotComputed, did_you_mean
from sca_bench.metrics.caption_text.built_in import WITHOUT
from sca_bench.metrics.coco_caption.ptb_tokenizer import TOKENIZER
from sca_bench.metrics.protocol import Context, Scored
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.signature import Signature, region_set_hash
from sca_bench.metrics.value_names import ValueName, signature_name
from sca_bench.plugins import attribute, with_plugins

# Raised whenever one of the package's own metrics changes a number.
OWN_REVISION = "2"
ENTRY_POINT_GROUP = "sca_bench.metrics"
_NAME = re.compile(r"[a-z][a-z0-9_]*")


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
        compute: `module:attribute` of the `protocol.Computation`, imported on use; empty for those
            that `Scorer` computes itself over tokens that they share.
        unit: What a report counts the value in, such as `words`; empty for a share or a score,
            which it shows times 100.
        maximum: Largest value in natural units, where it has no unit.
        label: What a report calls it; its name in words where empty.
        needs: What has to be there beside the rows, in words.
        fault: Why it cannot be computed at all: a package that does not import.
        higher_is_better: None where neither more nor less is (lengths, diversity).
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

    def values(self, rows: Sequence[CaptionRow], context: Context) -> Sequence[Scored]:
        """Import the computation and return what it gives for some rows.

        Raises:
            NotComputed: It cannot be computed here. Whatever another package's computation raises
                becomes a reason, too, and so does a result that is not of the protocol.
        """
        if self.fault:
            raise NotComputed(self.fault)
        if METRICS.get(self.name) is self:
            computation: Callable[..., Sequence[Scored]] = attribute(self.compute)
            return computation(rows, context)
        try:
            scored = list(attribute(self.compute)(rows, context))
        except NotComputed:
            raise
        except (Exception, SystemExit) as error:  # it may leave; the run and other metrics go on
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise NotComputed(f"{self.compute} raised {reason}") from error
        for one in scored:
            if not isinstance(one, Scored):
                raise NotComputed(f"{self.compute} gave {type(one).__name__}, expected Scored")
            own = one.key == context.name or one.key.startswith(f"{context.name}.")
            if not own:
                raise NotComputed(f"{self.compute} gave {one.key!r}, expected {context.name!r}")
        if context.name not in {one.key for one in scored}:
            raise NotComputed(f"{self.compute} gave no value named {context.name!r}")
        return scored


def is_outdated(key: str, signature: Mapping[str, Any]) -> bool:
    """Say whether one of this package's own metrics was computed by an older revision of its code.

    Those that sign what they found beside the code (a tagger, a model) never are: it may be gone.
    """
    spec = spec_of_value(key)
    if spec is None or spec.package or signature.get("scorer") != spec.scorer:
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


def _own(name: str, summary: str, compute: str, **more: Any) -> MetricSpec:
    """Return a metric that this package computes itself."""
    facts = {"family": name, "scorer": f"sca_bench {name}", "package": "", **more}
    return MetricSpec(name, summary, compute=f"sca_bench.metrics.caption_text.{compute}", **facts)


def _diversity(name: str, summary: str, compute: str, **more: Any) -> MetricSpec:
    """Return a metric of which neither more nor less is better."""
    facts = {"tokenizer": _WORDS, **more}
    return _own(name, summary, f"diversity:{compute}", higher_is_better=None, **facts)


def _coverage(name: str, label: str, classes: str, how: str) -> MetricSpec:
    fuzzy = how != "exact"
    meaning = f"{label}: mean best similarity of word vectors" if fuzzy else f"{label}: share said"
    table = " with its own word vectors" if fuzzy else " (or the pipeline in SCA_BENCH_SPACY)"
    return _own(
        name,
        f"{meaning}, of the references' words ({classes}); 0-1; needs spaCy",
        "coverage:coverage",
        family="coverage",
        scorer=f"sca_bench coverage (spaCy pipeline, {classes}, {how})",
        tokenizer="spaCy",
        label=label,
        needs=f"spaCy and en_core_web_lg{table}",
    )


_CASE = "none (NFC, case folded, runs of space collapsed)"
_WORDS = "NFC, lower case, runs of letters, digits and apostrophes"
_BLEU = "pycocoevalcap Bleu (n=4, closest reference length, corpus level)"
_NOUNS, _VERBS, _FUZZY = "NOUN and PROPN", "VERB", "token similarity"
_ALL = (
    MetricSpec(
        "cider_d",
        "CIDEr-D, what papers print as CIDEr; 0-10",
        "cider_d",
        "pycocoevalcap Cider (CIDEr-D, n=1-4, sigma=6)",
        document_frequency="the references scored, one document per region",
        maximum=10.0,
        label="CIDEr-D",
    ),
    MetricSpec(
        "meteor",
        "METEOR 1.5 with stems, synonyms and paraphrases; 0-1",
        "meteor",
        "pycocoevalcap meteor-1.5.jar (-l en -norm)",
        label="METEOR",
    ),
    MetricSpec("bleu", "BLEU-1 to BLEU-4, corpus level; 0-1", "bleu", _BLEU, label="BLEU"),
    *(
        MetricSpec(f"bleu_{n}", f"BLEU-{n}, corpus level; 0-1", "bleu", _BLEU, label=f"BLEU-{n}")
        for n in range(1, 5)
    ),
    MetricSpec(
        "rouge_l", "ROUGE-L; 0-1", "rouge_l", "pycocoevalcap Rouge (beta=1.2)", label="ROUGE-L"
    ),
    MetricSpec(
        "spice",
        "SPICE; 0-1; needs Stanford CoreNLP 3.6.0 in SCA_BENCH_CORENLP",
        "spice",
        "pycocoevalcap spice-1.0.jar (stanford-corenlp-3.6.0)",
        label="SPICE",
        needs="Stanford CoreNLP 3.6.0 in SCA_BENCH_CORENLP",
    ),
    _own(
        "exact_match",
        "Share of captions equal to a reference; 0-1; exact_match_without_PHRASE leaves regions "
        "with that reference out",
        "built_in:exact_match",
        tokenizer=_CASE,
    ),
    _own(
        "macro_recall",
        "Exact match averaged over distinct reference phrases; 0-1",
        "built_in:macro_recall",
        tokenizer=_CASE,
    ),
    _own(
        "slots",
        "Accuracy of each slot of a grammar's captions, also by number of regions; 0-1",
        "built_in:slot_accuracy",
        scorer="sca_bench grammar",
        tokenizer=_CASE,
        label="mean of slots",
        needs="rows that carry slots",
    ),
    _coverage("noun_recall", "Noun recall", _NOUNS, "exact"),
    _coverage("verb_recall", "Verb recall", _VERBS, "exact"),
    _coverage("noun_recall_fuzzy", "Noun recall, fuzzy", _NOUNS, _FUZZY),
    _coverage("verb_recall_fuzzy", "Verb recall, fuzzy", _VERBS, _FUZZY),
    _diversity(
        "caption_length",
        "Mean number of words in a caption; words",
        "caption_length",
        report_scale=1.0,
        unit="words",
    ),
    _diversity(
        "distinct_1",
        "Distinct words / all words of all captions; 0-1",
        "distinct",
        scorer="sca_bench distinct (n=1, over all captions)",
        label="Distinct-1",
    ),
    _diversity(
        "distinct_2",
        "Distinct pairs of words / all pairs of all captions; 0-1",
        "distinct",
        scorer="sca_bench distinct (n=2, over all captions)",
        label="Distinct-2",
    ),
    _diversity(
        "distinct_captions",
        "Number of different captions / number of captions; 0-1",
        "distinct_captions",
        tokenizer=_CASE,
    ),
    _diversity(
        "vocabulary_size",
        "Number of different words in all captions; words",
        "vocabulary_size",
        report_scale=1.0,
        unit="words",
    ),
    _own(
        "clip_score",
        "CLIPScore of the region's crop and the caption, no reference; 0-2.5; needs images and a "
        "CLIP model's folder in SCA_BENCH_CLIP",
        "similarity:clip_score",
        tokenizer="the model's own",
        maximum=2.5,
        label="CLIPScore",
        needs="a CLIP model's folder in SCA_BENCH_CLIP, images, and rows with box_xyxy",
    ),
    _own(
        "sentence_similarity",
        "Cosine of sentence embeddings, best reference; -1 to 1; needs a model's folder in "
        "SCA_BENCH_SENTENCE_MODEL",
        "similarity:sentence_similarity",
        tokenizer="the model's own",
        needs="a sentence embedding model's folder in SCA_BENCH_SENTENCE_MODEL",
    ),
    _own(
        "dense_captions_map",
        "Mean average precision of own detections with captions (score FILE --regions FILE); 0-1",
        "built_in:own_detections",
        family="dense_captions",
        scorer="sca_bench dense_captions "
        "(references merged at IoU 0.7; IoU 0.3-0.7 x METEOR 1.5 0-0.25)",
        package="pycocoevalcap",
        tokenizer=TOKENIZER,
        needs="a file of regions (--regions)",
    ),
)

METRICS: dict[str, MetricSpec] = {spec.name: spec for spec in _ALL}
"""The built-in ones; `all_metrics` has those of other packages, too."""


def all_metrics() -> dict[str, MetricSpec]:
    """Return every registered metric by name, built-in ones first.

    An entry point that cannot be used stays in it, with its fault; see `plugins`.
    """
    return dict(_registered(entry_points))


@functools.cache
def _registered(find: Callable[..., Any]) -> dict[str, MetricSpec]:
    points = find(group=ENTRY_POINT_GROUP)
    return with_plugins(METRICS, points, MetricSpec, _fault_of, _broken)


def _fault_of(spec: MetricSpec) -> str:
    if not _NAME.fullmatch(str(spec.name)) or spec.name.startswith(WITHOUT):
        return f"names its metric {spec.name!r}, expected small letters, digits and _"
    return "" if spec.compute else "names no computation; set compute='module:attribute'"


def _broken(name: str, value: str, fault: str) -> MetricSpec:
    return MetricSpec(name, fault, name, value, compute=value, fault=fault)


def get_metric(name: str) -> MetricSpec:
    """Return one metric; `exact_match_without_PHRASE` (spaces as _) counts as exact match.

    Raises:
        InputError: No such metric; the nearest one is suggested.
    """
    is_value = "." in name or ("/" in name and not name.startswith(WITHOUT))
    if name != WITHOUT and not is_value and (spec := spec_of_value(name)):
        return spec
    usable = (other for other, spec in all_metrics().items() if not spec.fault)
    raise InputError(None, "metrics", f"{name!r} is unknown", did_you_mean(name, usable, "list metrics"))


def spec_of_value(key: str) -> MetricSpec | None:
    """Return the metric that a value (such as `bleu_4`, `slot/colour` or `seen/meteor`) is of."""
    name = ValueName.parse(key).metric.split(".")[0]
    if name in METRICS:  # these need no look through the installed packages
        return METRICS[name]
    without = key.startswith(WITHOUT) or name.startswith(WITHOUT)
    return METRICS["exact_match"] if without else all_metrics().get(name)
