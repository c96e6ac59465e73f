import time

import numpy as np
import pytest

from sca_bench.metrics.coco_caption import reference_scorers
from sca_bench.metrics.coco_caption.references import ReferenceIndex
from sca_bench.metrics.registry import corpus_value, spec_of_value

WIDTHS = {"bleu": 10, "meteor": 23, "": 1}
KEYS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "meteor", "cider_d")


def kept_as(key):
    """Return what the statistics of a value are kept under; empty where it has none."""
    spec = spec_of_value(key)
    return spec.statistics_name if spec.statistics else ""


def test_statistics_are_kept_under_the_names_of_older_runs():
    names = {key: kept_as(key) for key in (*KEYS, "rouge_l", "exact_match")}
    assert names == {
        **{f"bleu_{n}": "bleu" for n in range(1, 5)},
        "meteor": "meteor",
        **dict.fromkeys(("cider_d", "rouge_l", "exact_match"), ""),
    }


def test_resamples_are_corpora_of_their_own():
    references = [["a red dog"], ["two cats", "cats"], ["a blue car"], ["a dog on a mat"]]
    captions = ["a dog", "two cats", "a car", "a dog sits on a mat"]
    statistics = ReferenceIndex(references).bleu(captions)[2]
    drawn = np.random.default_rng(0).integers(4, size=(20, 4))
    sums = statistics[drawn].sum(axis=1)
    for n in range(1, 5):
        found = corpus_value(f"bleu_{n}", sums, np.full(20, 4.0))
        for row, value in zip(drawn, found, strict=True):
            again = reference_scorers.bleu(
                [references[i] for i in row], [captions[i] for i in row]
            )[0][n - 1]
            assert value == pytest.approx(again, abs=1e-12)


@pytest.mark.parametrize("key", KEYS)
def test_any_leading_axes_and_fast(key):
    width = WIDTHS[kept_as(key)]
    sums = np.random.default_rng(0).integers(1, 50, size=(20, 1000, width)).astype(float)
    began = time.process_time()
    values = corpus_value(key, sums, np.full((20, 1000), 50.0))
    assert time.process_time() - began < 1.0  # measured 0.01
    assert values.shape == (20, 1000)
    assert values[3, 7] == corpus_value(key, sums[3, 7], 50.0)
    assert corpus_value(key, sums[:0], np.ones((0, 1000))).shape == (0, 1000)


@pytest.mark.parametrize("key", KEYS)
def test_nothing_at_all_scores_zero(key):
    width = WIDTHS[kept_as(key)]
    assert corpus_value(key, np.zeros(width), 1.0) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(("key", "width"), [("bleu_1", 23), ("meteor", 10), ("cider_d", 2)])
def test_wrong_statistics_are_refused(key, width):
    with pytest.raises(ValueError, match=key):
        corpus_value(key, np.zeros((4, width)), 1.0)
