"""What the metrics of one scorer share, and the field's own scores over it; no program is started.

Captions are cut up at blanks here, in place of the tokenizer.
"""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from sca_bench.errors import InputError, NotComputed
from sca_bench.metrics import score_file as command
from sca_bench.metrics import shared as module
from sca_bench.metrics.coco_caption import reference_scorers
from sca_bench.metrics.coco_caption.bleu import bleu_scores
from sca_bench.metrics.coco_caption.java import Java
from sca_bench.metrics.field_scorers import bleu, cider_d, java, meteor, rouge_l, spice
from sca_bench.metrics.protocol import Context
from sca_bench.metrics.registry import get_metric
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.score import Scorer, ScoreResult
from sca_bench.metrics.shared import Shared
from sca_bench.plugins import attribute

JAVA = Java("/opt/java/bin/java", "test")
REFERENCES = [("a red dog", "the dog runs fast"), ("two cats sit here",), ("a blue car",)]
CAPTIONS = ["a red dog runs", "two cats", "one bus"]
STATISTICS = np.array([[4.0, 4, 0, 0, 3, 3] + [0.0] * 14 + [1, 3, 3]] * 3)


def rows_of(captions=CAPTIONS, references=REFERENCES):
    return [
        CaptionRow(str(n), f"i{n}", caption, group)
        for n, (caption, group) in enumerate(zip(captions, references, strict=True))
    ]


@pytest.fixture
def sent(monkeypatch):
    """What goes to the tokenizer, list by list; and there is a Java."""
    lists = []

    def tokenize(self, found, *given):
        assert found is JAVA
        lists.append(tuple(map(list, given)))
        return [[" ".join(text.split()) for text in part] for part in given]

    monkeypatch.setattr(module.TokenCache, "tokenize", tokenize)
    monkeypatch.setattr(module, "find_java", lambda: JAVA)
    return lists


class Program:
    """METEOR, which gives every pair the same statistics and sums them as the jar does."""

    def __init__(self, found, timeout_s):
        self.java, self.timeout_s = found, timeout_s
        self.started = self.closed = 0
        self.process = None

    def start(self):
        self.started += 1
        self.process = SimpleNamespace(pid=11)

    def close(self):
        self.closed += 1

    def statistics(self, references, captions):
        assert len(references) == len(captions)
        return STATISTICS[: len(captions)]

    def score_by_jar(self, references, captions):
        return 0.5, [0.25] * len(captions)


@pytest.fixture
def shared(sent, monkeypatch):
    monkeypatch.setattr(module, "Meteor", Program)
    return Shared(timeout_s=30.0)


def context(shared, name):
    return Context(name, shared=shared)


# --- tokens and programs ----------------------------------------------------------------------


def test_the_last_rows_are_cut_up_once_and_known_references_never_again(shared, sent):
    rows = rows_of()
    tokens = shared.tokens(rows)
    assert tokens.captions == CAPTIONS
    assert tokens.references == [list(group) for group in REFERENCES]
    assert sent == [([text for group in REFERENCES for text in group], CAPTIONS)]
    assert shared.tokens(rows) is tokens
    assert tokens.index is tokens.index
    others = shared.tokens(rows_of(CAPTIONS[::-1]))
    assert (others.captions, others.index) == (CAPTIONS[::-1], tokens.index)
    assert sent[1:] == [(CAPTIONS[::-1],)]
    assert context(shared, "any").tokens(rows).captions == CAPTIONS
    assert len(sent) == 3  # only the last rows are kept


def test_four_sets_of_references_are_kept_and_two_of_their_indices(shared, sent):
    sets = [[(f"dog {n}",)] for n in range(5)]

    def tokens(n):
        return shared.tokens(rows_of(["a"], sets[n]))

    indices = [tokens(n).index for n in range(4)]
    assert [tokens(n).index is indices[n] for n in (3, 2)] == [True, True]
    assert [len(lists) for lists in sent] == [2] * 4 + [1] * 2
    tokens(4)  # the oldest goes: 0
    before = len(sent)
    tokens(1)
    assert [len(lists) for lists in sent[before:]] == [1]
    tokens(0)
    assert [len(lists) for lists in sent[before:]] == [1, 2]
    assert len(shared._references) == 4
    assert list(shared._references)[-1] == tuple(sets[0])
    assert next(iter(shared._references)) != tuple(sets[1])


def test_a_tokenizer_that_fails_is_asked_once_for_the_same_rows(shared, monkeypatch):
    asked = []

    def fails(self, found, *lists):
        asked.append(lists)
        raise NotComputed("no heap")

    monkeypatch.setattr(module.TokenCache, "tokenize", fails)
    rows = rows_of()
    for _ in range(3):
        with pytest.raises(NotComputed, match=r"^no heap$"):
            shared.tokens(rows)
    assert len(asked) == 1
    with pytest.raises(NotComputed, match=r"^no heap$"):
        shared.tokens(rows_of())
    assert len(asked) == 2


def test_java_and_meteor_are_looked_for_once_and_meteor_is_closed(shared, monkeypatch):
    found = []
    monkeypatch.setattr(module, "find_java", lambda: found.append(1) or JAVA)
    assert shared.java() is shared.java() is JAVA
    assert found == [1]
    assert shared.meteor_pid is None
    first = shared.meteor()
    assert shared.meteor() is first
    assert (first.java, first.timeout_s) == (JAVA, 30.0)
    assert shared.meteor_pid is None  # it has not been started
    one = context(shared, "meteor")
    assert (one.java(), one.meteor()) == (JAVA, first)
    meteor.start(one)
    assert (shared.meteor_pid, first.started) == (11, 1)
    shared.close()
    shared.close()
    assert first.closed == 1
    assert shared.meteor_pid is None
    assert shared.meteor() is not first


def test_a_scorer_closes_what_its_metrics_kept_whatever_that_raises():
    closed = []

    def raises():
        closed.append("first")
        raise OSError

    scorer = Scorer(timeout_s=12.0)
    scorer._memory |= {
        "a": SimpleNamespace(close=raises),
        "b": SimpleNamespace(close=lambda: closed.append("second")),
        "c": SimpleNamespace(close=3),
        "d": 7,
    }
    assert scorer.shared.timeout_s == 12.0
    with scorer:
        pass
    assert closed == ["first", "second"]
    assert scorer._memory == {}


# --- the field's scores -----------------------------------------------------------------------


def by_hand():
    """What pycocoevalcap's own classes say of the same tokens."""
    groups = [list(group) for group in REFERENCES]
    return {
        "cider_d": reference_scorers.cider_d(groups, CAPTIONS),
        "rouge_l": reference_scorers.rouge_l(groups, CAPTIONS),
        **{
            f"bleu_{n}": pair
            for n, pair in enumerate(
                zip(*reference_scorers.bleu(groups, CAPTIONS), strict=True), start=1
            )
        },
    }


def test_the_field_s_scores_are_those_of_its_own_classes(shared):
    rows = rows_of()
    found = [
        *cider_d.cider_d(rows, context(shared, "cider_d")),
        *rouge_l.rouge_l(rows, context(shared, "rouge_l")),
        *bleu.bleu(rows, context(shared, "bleu")),
    ]
    expected = by_hand()
    assert [one.key for one in found] == ["cider_d", "rouge_l", *(f"bleu_{n}" for n in range(1, 5))]
    for one in found:
        value, per_region = expected[one.key]
        assert one.value == pytest.approx(value, abs=1e-12), one.key
        assert one.per_region == pytest.approx(per_region, abs=1e-12), one.key
        assert one.rows is rows
        assert (one.statistics is None) == (not one.key.startswith("bleu"))
    statistics = found[-1].statistics
    assert statistics.shape == (3, 10)
    assert bleu_scores(statistics.sum(axis=0)).tolist() == [one.value for one in found[2:]]
    for compute, name in (
        (cider_d.by_pycocoevalcap, "cider_d"),
        (rouge_l.by_pycocoevalcap, "rouge_l"),
        (bleu.by_pycocoevalcap, "bleu"),
    ):
        for one in compute(rows, context(shared, name)):
            value, per_region = expected[one.key]
            assert (one.value, list(one.per_region)) == (value, list(per_region))
            assert one.rows is rows


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_one_bleu_is_given_where_one_is_asked_for(shared, n):
    rows = rows_of()
    (one,) = bleu.bleu(rows, context(shared, f"bleu_{n}"))
    assert one.key == f"bleu_{n}"
    assert one.value == pytest.approx(by_hand()[one.key][0], abs=1e-12)
    assert float(bleu.corpus_bleu(one.key, one.statistics.sum(axis=0))) == one.value
    sums = np.stack([one.statistics] * 2)
    assert bleu.corpus_bleu(one.key, sums).shape == (2, 3)
    for wrong in (np.zeros((3, 9)), np.zeros(()), np.zeros((2, 11))):
        with pytest.raises(ValueError, match=rf"bleu_{n}: sums of shape .*, expected \(\.\.\., 10"):
            bleu.corpus_bleu(f"bleu_{n}", wrong)


def test_meteor_is_that_of_the_sums(shared):
    rows = rows_of()
    (one,) = meteor.meteor(rows, context(shared, "meteor"))
    (by_jar,) = meteor.by_jar(rows, context(shared, "meteor"))
    assert (by_jar.key, by_jar.value, by_jar.per_region) == ("meteor", 0.5, [0.25] * 3)
    assert one.key == "meteor"
    assert one.rows is by_jar.rows is rows
    assert np.array_equal(one.statistics, STATISTICS)
    assert one.value == pytest.approx(float(meteor.corpus_meteor("meteor", STATISTICS.sum(axis=0))))
    assert one.per_region == pytest.approx(meteor.corpus_meteor("meteor", STATISTICS).tolist())
    for wrong in (np.zeros((3, 22)), np.zeros(())):
        with pytest.raises(ValueError, match=r"m: sums of shape .*, expected \(\.\.\., 23\)"):
            meteor.corpus_meteor("m", wrong)


def test_spice_says_first_what_is_missing_and_may_take_long(shared, sent, monkeypatch):
    rows, asked = rows_of(), []

    def missing():
        raise NotComputed("no CoreNLP")

    monkeypatch.setattr(spice.program, "corenlp_folder", missing)
    with pytest.raises(NotComputed, match=r"^no CoreNLP$"):
        spice.spice(rows, context(shared, "spice"))
    assert sent == []
    monkeypatch.setattr(spice.program, "corenlp_folder", lambda: None)
    monkeypatch.setattr(
        spice.program, "spice", lambda *given: asked.append(given) or (0.5, [0.25, 0.5, 0.75])
    )
    (one,) = spice.spice(rows, context(shared, "spice"))
    assert (one.key, one.value, one.per_region) == ("spice", 0.5, [0.25, 0.5, 0.75])
    assert asked == [(JAVA, [list(group) for group in REFERENCES], CAPTIONS, 36 * 30.0)]


def test_java_is_said_with_its_place(monkeypatch):
    monkeypatch.setattr(java, "find_java", lambda: JAVA)
    assert attribute(java.JAVA.find)() == "/opt/java/bin/java (test)"
    assert java.JAVA.what == "Java"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"cider_d": 0.00999, "meteor": 0.11}, "cider_d is 0.0100 while meteor is 0.110: "),
        ({"cider_d": 0.0, "meteor": 0.1, "bleu_1": 0.2}, "while bleu_1 is 0.200"),
        ({"cider_d": 0.0, "meteor": 0.3, "rouge_l": 0.2, "bleu_1": 0.4}, "while meteor is 0.300"),
        ({"cider_d": 0.01, "meteor": 0.9}, ""),
        ({"cider_d": 0.0, "meteor": None, "rouge_l": 0.1}, ""),
        ({"cider_d": 0.0, "bleu_4": 0.9}, ""),
    ],
)
def test_a_low_cider_beside_what_is_high(values, said):
    found = cider_d.doubts(values, rows_of())
    assert bool(found) == bool(said)
    assert said in "".join(found)


# --- checked by other programs ----------------------------------------------------------------


def test_values_are_checked_by_the_program_that_each_names(shared):
    rows = rows_of()
    scorer = Scorer()
    scorer.shared = shared
    names = ["rouge_l", "bleu_2", "exact_match", "meteor"]
    found = scorer.score(rows, names)
    result = scorer.check(rows, found)
    assert set(result) == {"rouge_l", "bleu_2", "meteor"}  # nothing else computes exact match
    assert max(result["rouge_l"], result["bleu_2"]) < 1e-12
    ours = found.per_region["meteor"]
    assert result["meteor"] == max(
        abs(found.values["meteor"] - 0.5), *(abs(a - 0.25) for a in ours)
    )
    found.per_region["rouge_l"][2] += 0.125
    assert scorer.check(rows, found)["rouge_l"] == pytest.approx(0.125)
    found.values["rouge_l"] -= 0.25
    assert scorer.check(rows, found)["rouge_l"] == pytest.approx(0.25)
    assert scorer.check(rows, ScoreResult(values={"rouge_l": None, "unknown": 1.0})) == {}
    assert found.signatures["meteor"].scorer == get_metric("meteor").scorer


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "rows.jsonl"
    keys = ("region_id", "image_id", "caption", "references")
    lines = [json.dumps({key: getattr(row, key) for key in keys}) for row in rows_of()]
    path.write_text("\n".join(lines))
    return path


def test_what_score_prints_of_a_file(file, shared, monkeypatch):
    def scorer(device="auto"):
        made = Scorer(device=device)
        made.shared = shared
        return made

    monkeypatch.setattr(command, "Scorer", scorer)
    found = command.score_file(file, ["rouge_l", "exact_match"])
    assert set(found) == {
        *("file", "num_regions", "num_images", "values", "intervals"),
        *("signatures", "not_computed", "notes"),
    }
    assert (found["file"], found["num_regions"], found["num_images"]) == (str(file), 3, 3)
    assert list(found["values"]) == ["rouge_l", "exact_match"]
    checked = command.score_file(file, ["rouge_l"], check=True)
    assert checked["check"].keys() == {"rouge_l"}
    part = command.score_file(file, ["exact_match"], subsets={"first": "first_of_image"})
    assert part["subsets"] == {"first": 3}
    assert "check" not in part
    assert set(part["values"]) == {"exact_match", "first/exact_match"}

    def fails(self, rows, result):
        raise NotComputed("the jar died")

    monkeypatch.setattr(Scorer, "check", fails)
    with pytest.raises(InputError, match=r"rows\.jsonl: --check: the jar died$"):
        command.score_file(file, ["exact_match"], check=True)
    with pytest.raises(InputError, match=r"rows\.jsonl: metrics: 'rouge' is unknown"):
        command.score_file(file, ["rouge"])


# --- detections -------------------------------------------------------------------------------


@pytest.fixture
def detections(tmp_path):
    """A detection on each of two regions of two images, and one beside; and their files."""
    box, far = [0, 0, 10, 10], [50, 50, 60, 60]
    found = [
        {"image_id": 1, "box_xyxy": box, "caption": "a dog", "score": 0.9},
        {"image_id": 2, "box_xyxy": box, "caption": "a cat", "score": 0.8},
        {"image_id": 2, "box_xyxy": far, "caption": "a cat", "score": 0.7},
    ]
    regions = [
        {"region_id": n, "image_id": n, "box_xyxy": box, "references": [text]}
        for n, text in ((1, "a dog"), (2, "a bus"))
    ]
    paths = tmp_path / "found.jsonl", tmp_path / "regions.jsonl"
    for path, records in zip(paths, (found, regions), strict=True):
        path.write_text("\n".join(map(json.dumps, records)))
    return paths


def test_detections_are_scored_against_regions(detections, monkeypatch):
    class Agreeing(Program):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.close()

        def score(self, references, captions):
            return 0.0, [0.9 if c in g else 0.0 for g, c in zip(references, captions, strict=True)]

    monkeypatch.setattr(command, "find_java", lambda: JAVA)
    monkeypatch.setattr(command, "Meteor", lambda found: Agreeing(found, 0.0))
    monkeypatch.setattr(command, "ptb_tokenize", lambda java, texts: list(texts))
    monkeypatch.setattr(command, "ptb_tokenize_groups", lambda java, groups: list(groups))
    found = command.score_detections(*detections)
    assert (found["file"], found["regions"]) == tuple(map(str, detections))
    numbers = ("num_detections", "num_regions", "num_merged_regions", "num_images")
    assert [found[name] for name in numbers] == [3, 2, 2, 2]
    assert found["values"] == {"dense_captions_map": pytest.approx(0.51)}  # recalls 0 ... 0.50
    assert found["detection_map"] == pytest.approx(1.0)
    assert len(found["average_precision"]) == 30
    assert found["average_precision"]["iou 0.3, meteor 0.05"] == pytest.approx(0.51)
    (signature,) = found["signatures"].values()
    assert (signature["metric"], signature["num_regions"]) == ("dense_captions_map", 2)
    assert signature["short"].startswith("dense_captions_map|sca_bench dense_captions")
    assert found["not_computed"] == {}
    assert found["notes"] == []


def test_detections_without_java_are_not_scored(detections, monkeypatch):
    def missing():
        raise NotComputed("no Java")

    monkeypatch.setattr(command, "find_java", missing)
    found = command.score_detections(*detections, ["dense_captions_map"])
    assert found["values"] == {"dense_captions_map": None}
    assert found["not_computed"] == {"dense_captions_map": "no Java"}
    assert (found["num_detections"], found["signatures"], found["notes"]) == (3, {}, [])
    assert "detection_map" not in found


def test_faults_of_detections(detections):
    with pytest.raises(InputError, match=r"--metrics: 'meteor' does not score detections; with"):
        command.score_detections(*detections, ["dense_captions_map", "meteor"])
    with detections[0].open("a") as file:
        file.write('\n{"image_id": 9, "box_xyxy": [0, 0, 1, 1], "caption": "", "score": 1}')
    with pytest.raises(
        InputError, match=r"found\.jsonl: image_id: image_id '9' has no region in .*regi"
    ):
        command.score_detections(*detections)


def test_references_that_were_used_again_stay_longer(shared, sent):
    """Of four sets the one goes that nobody has asked for longest, not the one that came first."""
    sets = [[(f"dog {n}",)] for n in range(5)]
    for n in (0, 1, 2, 3, 0, 4):
        shared.tokens(rows_of(["a"], sets[n]))
    before = len(sent)
    for n in (0, 1):
        shared.tokens(rows_of(["a"], sets[n]))
    assert [len(lists) for lists in sent[before:]] == [1, 2]


def test_the_field_s_own_bleu_prints_nothing(capsys):
    values, per_region = reference_scorers.bleu([["a red dog runs"]], ["a red dog runs"])
    assert values == pytest.approx([1.0] * 4, abs=1e-6)
    assert len(per_region) == 4
    assert capsys.readouterr() == ("", "")
