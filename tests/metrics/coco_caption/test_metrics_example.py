"""The published COCO example: every score equals the reference scorers' to 1e-9."""

import pytest

NAMES = {
    "bleu_1": "Bleu_1",
    "bleu_2": "Bleu_2",
    "bleu_3": "Bleu_3",
    "bleu_4": "Bleu_4",
    "meteor": "METEOR",
    "rouge_l": "ROUGE_L",
    "cider_d": "CIDEr",
}
METRICS = ("cider_d", "meteor", "bleu", "rouge_l")


@pytest.fixture(scope="module")
def full(scorer, example_rows):
    return scorer.score(example_rows, METRICS)


def test_full_example(full, reference_values):
    assert set(full.values) == set(NAMES)
    for key, name in NAMES.items():
        assert full.values[key] == pytest.approx(reference_values["full_1000"][name], abs=1e-9)
    assert full.not_computed == {}
    assert full.notes == []


def test_subset_is_scored_on_its_own(scorer, example_rows, reference_values):
    """Half the images, in another order, through the process that scored the whole before."""
    subset = reference_values["subset_seed0"]
    by_id = {row.region_id: row for row in example_rows}
    result = scorer.score([by_id[str(image_id)] for image_id in subset["image_ids"]], METRICS)
    for key, name in NAMES.items():
        assert result.values[key] == pytest.approx(subset["scores"][name], abs=1e-9)


def test_per_region_values_follow_the_rows(scorer, example_rows, full):
    part = list(reversed(example_rows[:40]))
    result = scorer.score(part, ("meteor", "bleu_4", "rouge_l"))
    for key in ("meteor", "bleu_4", "rouge_l"):
        assert result.per_region[key] == pytest.approx(full.per_region[key][:40][::-1], abs=1e-12)
    assert len(set(full.per_region["meteor"][:40])) > 20


def test_means_of_region_values(full):
    for key in ("cider_d", "rouge_l"):
        mean = sum(full.per_region[key]) / 1000
        assert full.values[key] == pytest.approx(mean, abs=1e-12)


def test_signature_of_the_example(full):
    signature = full.signatures["cider_d"]
    assert (signature.references_min, signature.references_max) == (5, 6)
    assert signature.num_regions == 1000
    assert "CIDEr-D" in signature.scorer
    assert "sigma=6" in signature.scorer
    assert signature.version == "1.2"
    assert full.signatures["bleu_4"].document_frequency == "none"
