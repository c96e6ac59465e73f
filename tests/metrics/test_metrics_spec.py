"""What a metric says of itself, which signatures compare, and what `score` asks for by itself."""

import dataclasses
import inspect
import json

import numpy as np
import pytest

from sca_bench.errors import InputError, NotComputed
from sca_bench.metrics import shared
from sca_bench.metrics.coco_caption import spice
from sca_bench.metrics.coco_caption.meteor import Meteor
from sca_bench.metrics.coco_caption.ptb_tokenizer import ptb_tokenize
from sca_bench.metrics.coco_caption.token_cache import _NEUTRAL, TokenCache, _keys
from sca_bench.metrics.registry import METRICS, corpus_value, is_outdated, spec_of_value, values_of
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.score import Scorer
from sca_bench.metrics.score_file import DEFAULT_METRICS, score_file
from sca_bench.metrics.shared import Shared
from sca_bench.metrics.signature import Signature, comparable
from sca_bench.metrics.spec import OWN_REVISION, MetricSpec, Requirement
from sca_bench.plugins import attribute

OWN = METRICS.own()
SIGNED = Signature("m", "s", "1", "t", "none", 1, 1, 3, "0123456789abcdef")


def test_defaults_of_a_metric():
    spec = MetricSpec("mine", "Mine", "mine", "my scorer")
    assert (spec.package, spec.document_frequency, spec.report_scale) == (
        "pycocoevalcap",
        "none",
        100,
    )
    assert (spec.maximum, spec.higher_is_better, spec.level) == (1.0, True, "region")
    assert not spec.of_training
    texts = ("compute", "unit", "label", "needs", "fault", "statistics", "prepare", "reference")
    assert all(getattr(spec, name) == "" for name in (*texts, "doubts", "prefix"))
    assert spec.values == spec.requires == ()
    assert spec.named_code() == {}


def test_code_that_a_metric_names():
    needs = (Requirement("Java", "mine.java:find"),)
    spec = MetricSpec("m", "", "m", "", compute="mine:f", prepare="mine:p", requires=needs)
    assert spec.named_code() == {
        "compute": "mine:f",
        "prepare": "mine:p",
        "requires (Java)": "mine.java:find",
    }
    assert not spec.is_own
    assert spec.statistics_name == "m"


def test_what_reports_are_told_of_the_field_s_metrics():
    """Scale, range and kind of each: a table would print other numbers with others."""
    facts = {
        name: (spec.report_scale, spec.maximum, spec.higher_is_better, spec.level)
        for name, spec in OWN.items()
        if spec.family not in ("distinct_1", "distinct_2", "distinct_captions")
    }
    assert facts["cider_d"] == (100.0, 10.0, True, "region")
    for name in ("rouge_l", "spice", "exact_match", "slots", "noun_recall", "verb_recall_fuzzy"):
        assert facts[name] == (100.0, 1.0, True, "region"), name
    for name in ("meteor", "bleu_1", "bleu_4"):
        assert facts[name] == (100.0, 1.0, True, "corpus"), name
    assert {name for name, spec in OWN.items() if spec.statistics} == {
        "meteor",
        "bleu",
        "bleu_1",
        "bleu_2",
        "bleu_3",
        "bleu_4",
    } & OWN.keys()
    assert facts["dense_captions_map"] == (100.0, 1.0, True, "corpus")
    frequencies = {n for n, spec in OWN.items() if spec.document_frequency != "none"}
    assert frequencies == {"cider_d"}
    assert {spec.package for spec in OWN.values()} == {"", "pycocoevalcap"}
    assert all(spec.is_own and spec.summary for spec in OWN.values())


def test_which_metrics_are_checked_doubted_and_begun_early():
    def named(field):
        return {name for name, spec in OWN.items() if getattr(spec, field)}

    bleu = {f"bleu_{n}" for n in (1, 2, 3, 4)} | {"bleu"} & OWN.keys()
    assert named("reference") == {"cider_d", "meteor", "rouge_l", *bleu}
    assert named("doubts") == {"cider_d"}
    assert named("prepare") == {"meteor"}
    assert {"cider_d", "meteor", "spice", "rouge_l", *bleu} <= named("requires")
    for spec in OWN.values():
        for path in (*spec.named_code().values(), *(one.find for one in spec.requires)):
            assert callable(attribute(path))


PTB = "PTB (stanford-corenlp-3.4.1), lower case, punctuation removed"
WHOLE = "none (NFC, case folded, runs of space collapsed)"
WORDS = "NFC, lower case, runs of letters, digits and apostrophes"
MODEL = "the model's own"
BLEU = "pycocoevalcap Bleu (n=4, closest reference length, corpus level)"
COVERED = "sca_bench coverage (spaCy pipeline, {})"
DENSE = "sca_bench dense_captions (references merged at IoU 0.7; IoU 0.3-0.7 x METEOR 1.5 0-0.25)"
SPECS = {
    "cider_d": ("pycocoevalcap Cider (CIDEr-D, n=1-4, sigma=6)", PTB, "CIDEr-D", "Java"),
    "meteor": ("pycocoevalcap meteor-1.5.jar (-l en -norm)", PTB, "METEOR", "Java"),
    "bleu": (BLEU, PTB, "BLEU", "Java"),
    **{f"bleu_{n}": (BLEU, PTB, f"BLEU-{n}", "Java") for n in (1, 2, 3, 4)},
    "rouge_l": ("pycocoevalcap Rouge (beta=1.2)", PTB, "ROUGE-L", "Java"),
    "spice": (
        *("pycocoevalcap spice-1.0.jar (stanford-corenlp-3.6.0)", PTB, "SPICE"),
        "Java, CoreNLP jars",
    ),
    "exact_match": ("sca_bench exact_match", WHOLE, "", ""),
    "macro_recall": ("sca_bench macro_recall", WHOLE, "", ""),
    "slots": ("sca_bench grammar", WHOLE, "mean of slots", ""),
    "noun_recall": (COVERED.format("NOUN and PROPN, exact"), "spaCy", "Noun recall", "spaCy"),
    "verb_recall": (COVERED.format("VERB, exact"), "spaCy", "Verb recall", "spaCy"),
    "noun_recall_fuzzy": (
        *(COVERED.format("NOUN and PROPN, token similarity"), "spaCy", "Noun recall, fuzzy"),
        "spaCy",
    ),
    "verb_recall_fuzzy": (
        *(COVERED.format("VERB, token similarity"), "spaCy", "Verb recall, fuzzy"),
        "spaCy",
    ),
    "caption_length": ("sca_bench caption_length", WORDS, "", ""),
    "distinct_1": ("sca_bench distinct (n=1, over all captions)", WORDS, "Distinct-1", ""),
    "distinct_2": ("sca_bench distinct (n=2, over all captions)", WORDS, "Distinct-2", ""),
    "distinct_captions": ("sca_bench distinct_captions", WHOLE, "", ""),
    "vocabulary_size": ("sca_bench vocabulary_size", WORDS, "", ""),
    "clip_score": ("sca_bench clip_score", MODEL, "CLIPScore", "a model"),
    "sentence_similarity": ("sca_bench sentence_similarity", MODEL, "", "a model"),
    "dense_captions_map": (DENSE, PTB, "", ""),
}
"""What the SPEC of each metric says: scorer and tokenizer, which stand in signatures; what reports
call it; what has to be there."""


def test_what_each_metric_signs_and_what_it_is_called():
    """Numbers of older runs stand beside those of today as long as these stay what they are."""
    found = {
        name: (spec.scorer, spec.tokenizer, spec.label, ", ".join(r.what for r in spec.requires))
        for name, spec in OWN.items()
    }
    assert found == SPECS
    trained = {name for name, spec in OWN.items() if spec.of_training}
    assert trained == {"exact_match", "macro_recall"}
    assert OWN["clip_score"].maximum == 2.5
    families = {name: spec.family for name, spec in OWN.items() if spec.family != name}
    assert families == {
        **{f"bleu_{n}": "bleu" for n in (1, 2, 3, 4)},
        **{
            f"{kind}_recall{how}": "coverage" for kind in ("noun", "verb") for how in ("", "_fuzzy")
        },
        "dense_captions_map": "dense_captions",
    }


@pytest.mark.parametrize(
    ("values", "number", "said"),
    [
        ({"cider_d": 0.0}, 1, ["cider_d: one region only"]),
        ({"cider_d": 0.0}, 2, []),
        ({"cider_d": None}, 1, []),
        ({"rouge_l": 1.0}, 1, []),
        ({"cider_d": 0.0, "rouge_l": 0.9}, 3, ["cider_d is 0.0000 while rouge_l is 0.900"]),
        ({"cider_d": 5.0, "rouge_l": 0.9}, 3, []),
    ],
)
def test_doubts_about_cider(values, number, said):
    rows = [CaptionRow(str(n), "i", "a", ("b",)) for n in range(number)]
    found = list(attribute(OWN["cider_d"].doubts)(values, rows))
    assert len(found) == len(said)
    assert all(line.startswith(start) for line, start in zip(found, said, strict=True))


def test_spice_may_take_36_times_as_long_as_other_programs():
    given = inspect.signature(spice.spice).parameters["timeout_s"].default
    assert given == 36 * Shared().timeout_s == 21_600
    others = (Scorer, Shared, Meteor, TokenCache, ptb_tokenize)
    limits = [inspect.signature(one).parameters["timeout_s"].default for one in others]
    assert limits == [600.0] * 5


def test_a_signature_counts_references_and_regions():
    rows = [CaptionRow(str(n), "i", "a", ("r",) * n) for n in (2, 3, 1, 3)]
    signed = OWN["exact_match"].sign("exact_match", rows, "given")
    assert (signed.references_min, signed.references_max, signed.num_regions) == (1, 3, 4)
    assert (signed.version, signed.region_set, signed.language) == (OWN_REVISION, "given", "en")
    assert OWN["exact_match"].sign("exact_match", rows).region_set != "given"
    absent = dataclasses.replace(OWN["cider_d"], package="no-such-distribution")
    assert absent.sign("cider_d", rows).version == "unknown"


@pytest.mark.parametrize(("low", "high", "shown"), [(1, 1, "1"), (1, 2, "1-2"), (5, 5, "5")])
def test_a_signature_in_one_line(low, high, shown):
    signed = dataclasses.replace(SIGNED, references_min=low, references_max=high)
    line = f"m|s 1|tok:t|df:none|refs:{shown}|regions:3|set:0123456789ab|lang:en"
    assert signed.short() == line


def test_a_field_that_only_one_signature_has_differs_even_where_it_is_nothing():
    first = SIGNED.to_dict()
    assert comparable(first, first | {"later": None}) == ["later"]
    assert comparable(first | {"later": None}, first) == ["later"]
    assert comparable(first | {"later": None}, first | {"later": None}) == []
    without = {key: value for key, value in first.items() if key != "language"}
    assert comparable(without, first | {"language": None}) == ["language"]
    both = comparable(first | {"zeta": 1, "alpha": 1}, first | {"version": "2"})
    assert both == ["version", "alpha", "zeta"]


@pytest.mark.parametrize(
    ("version", "outdated"),
    [
        (str(int(OWN_REVISION) - 1), True),
        ("0", True),
        (OWN_REVISION, False),
        (str(int(OWN_REVISION) + 1), False),
        ("1, spaCy 3.8", False),
        ("", False),
    ],
)
def test_an_older_revision_of_own_code_is_outdated(version, outdated):
    signature = {"scorer": OWN["exact_match"].scorer, "version": version}
    assert is_outdated("exact_match", signature) == outdated
    assert is_outdated("seen/exact_match", signature) == outdated
    assert not is_outdated("exact_match", signature | {"scorer": "another"})
    assert not is_outdated("exact_match", {"version": version})
    assert not is_outdated("cider_d", signature)
    assert not is_outdated("no_such_metric", signature)
    assert not is_outdated("exact_match", {"scorer": OWN["exact_match"].scorer})


def test_a_value_that_is_a_mean_needs_one_column():
    sums = np.array([[6.0], [3.0]])
    assert corpus_value("cider_d", sums, np.array([3.0, 2.0])).tolist() == [2.0, 1.5]
    assert corpus_value("of another release", sums, 3.0).tolist() == [2.0, 1.0]
    for bad in (np.array(1.0), np.ones((2, 2)), np.ones((2, 0))):
        with pytest.raises(ValueError, match=r"cider_d: sums of shape .*, expected \(\.\.\., 1\)"):
            corpus_value("cider_d", bad, 1.0)


def test_names_of_values():
    assert values_of("slots") == ("slots",)
    assert values_of("no_such_metric") == ("no_such_metric",)
    assert values_of("exact_match_without_a") == ("exact_match_without_a",)
    assert spec_of_value("bleu_4.part") is OWN["bleu_4"]
    assert spec_of_value("train/slot_by_objects/2/colour") is OWN["slots"]
    assert spec_of_value("") is None


@pytest.mark.parametrize("slots", [{}, {"colour": "red"}])
def test_slots_are_asked_for_where_a_row_carries_them(tmp_path, monkeypatch, slots):
    def none_found():
        raise NotComputed("no Java here")

    monkeypatch.setattr(shared, "find_java", none_found)
    path = tmp_path / "rows.jsonl"
    rows = [
        {"region_id": n, "image_id": 1, "caption": "a red dog", "references": ["a red dog"]}
        for n in range(2)
    ]
    path.write_text(
        "".join(
            json.dumps(row | ({"slots": slots} if n else {})) + "\n" for n, row in enumerate(rows)
        )
    )
    found = score_file(path)
    assert (found["num_regions"], found["num_images"]) == (2, 1)
    assert ("slots" in found["values"]) == bool(slots)
    assert ("slot/colour" in found["values"]) == bool(slots)
    assert found["values"]["exact_match"] == 1.0
    wanted = {value for name in DEFAULT_METRICS for value in values_of(name)}
    assert wanted <= found["values"].keys()
    assert "check" not in found
    assert "subsets" not in found
    with pytest.raises(InputError, match="'nothing' is unknown"):
        score_file(path, ["nothing"])


def test_a_dot_that_may_end_a_sentence_is_looked_up_with_what_follows():
    """Up to the next line with words; where none follows, with something neutral."""
    lines = ["a dog.", "see no.", "", " ", "a cat", "u.s.", "fig.", " "]
    assert _keys(lines) == [
        "a dog.",
        ("see no.", "\n \na cat"),
        "",
        " ",
        "a cat",
        ("u.s.", "fig."),
        ("fig.", _NEUTRAL),
        " ",
    ]
    assert _keys(["no."]) == [("no.", _NEUTRAL)]
    assert _keys([]) == []
