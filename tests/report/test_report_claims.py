"""Reading claims, and the observed difference behind each."""

import json

import pytest
from report_fake_runs import record

from sca_bench.errors import InputError
from sca_bench.metrics.stats import paired_image_bootstrap
from sca_bench.report.claims import claim_results
from sca_bench.report.collect import collect
from sca_bench.report.intervals import region_means
from sca_bench.study.claims import Claim, Side, parse_claim
from sca_bench.study.record import SuiteManifest
from sca_bench.study.store import Store

Runs = tuple[Store, SuiteManifest]


@pytest.mark.parametrize("how", [">", "<", ">=", "<="])
def test_parse_claim(how: str) -> None:
    says = f"cider_d(mixer.num_layers=12) {how} cider_d(mixer.num_layers = 2)"
    left, right = (
        Side("cider_d", {"mixer.num_layers": 12}),
        Side("cider_d", {"mixer.num_layers": 2}),
    )
    assert parse_claim(says) == Claim(left, how, right)  # type: ignore[arg-type]


def test_parse_values_as_in_a_suite_file() -> None:
    left = parse_claim(
        "slot/relation(train.learning_rate=1e-4, data.flip=true, eval.prompt=box) >"
        "slot/relation(cell=permuted captions)"
    )
    assert left.left.where == {
        "train.learning_rate": 1e-4,
        "data.flip": True,
        "eval.prompt": "box",
    }
    assert left.right.where == {"cell": "permuted captions"}


def test_names_with_brackets_commas_and_signs() -> None:
    claim = parse_claim(
        "slot/relation(cell=LSJ (0.1, 2.0) without flips, data.lsj_scale=[0.1, 2.0]) >="
        ' slot/relation(cell="SAM query, as published: a > b", text_decoder.learning_rate=null)'
    )
    assert claim.left.where == {
        "cell": "LSJ (0.1, 2.0) without flips",
        "data.lsj_scale": [0.1, 2.0],
    }
    assert claim.right.where == {
        "cell": "SAM query, as published: a > b",
        "text_decoder.learning_rate": None,
    }
    assert claim.comparator == ">="


@pytest.mark.parametrize(
    "says",
    [
        "",
        "cider_d(a=1)) > cider_d(a=2)",
        'cider_d(cell="open) > cider_d(a=2)',
        "cider_d(a=1)",
        "cider_d(a=1) = cider_d(a=2)",
        "cider_d(a=1) > cider_d(a=2) > cider_d(a=3)",
        "cider_d > cider_d(a=2)",
        "cider_d(a) > cider_d(a=2)",
        "cider_d(a=1, a=2) > cider_d(a=2)",
        "cider_d(a=1) > meteor(a=2)",
    ],
)
def test_unreadable_claims_name_file_and_key(says: str) -> None:
    with pytest.raises(InputError, match=r"^suite\.yaml: claims\.x: "):
        parse_claim(says, "suite.yaml", "claims.x")


def with_claims(suite: SuiteManifest, *says: str) -> SuiteManifest:
    claims = [{"id": f"claim-{i}", "says": text} for i, text in enumerate(says)]
    return suite.model_copy(update={"claims": claims})


def test_difference_is_paired_over_images(runs: Runs) -> None:
    store, suite = runs
    data = collect(store, suite)
    result = claim_results(data)[0]
    assert (result.id, result.metric) == ("depth_helps", "cider_d")
    assert result.estimate.interval is not None
    assert result.estimate.interval.mean == pytest.approx(8.8 - 8.2)
    right, left = (region_means(data, cell, "cider_d") for cell in data.cells[:2])
    ids = list(left.values)
    expected = paired_image_bootstrap(
        [left.values[key] for key in ids],
        [right.values[key] for key in ids],
        [key.split("/")[0] for key in ids],
    )
    assert result.estimate.interval == expected


def test_claims_that_cannot_be_looked_at_say_why(runs: Runs) -> None:
    store, suite = runs
    (store.run_dir("c-depth-4", 0) / "region_scores.json").unlink()
    (store.run_dir("c-depth-4", 1) / "region_scores.json").unlink()
    says = (
        "cider_d(mixer.num_layers=24) > cider_d(mixer.num_layers=2)",
        "cider_d(variant=sca) > cider_d(mixer.num_layers=2)",
        "cider_d(mixer.num_layers=2) > cider_d(mixer.num_layers=4)",
        "cider_d(cell=permuted captions) < cider_d(mixer.num_layers=2)",
    )
    holes = [c.estimate.hole for c in claim_results(collect(store, with_claims(suite, *says)))]
    assert holes == [
        "profile tiny has no cell for cider_d(mixer.num_layers=24)",
        "cider_d(variant=sca) means 3 cells (depth-1, depth-2, depth-4)",
        "right side: no region scores of this metric",
        "",
    ]


def test_different_regions_are_not_paired(runs: Runs) -> None:
    store, suite = runs
    for seed in suite.seeds:
        path = store.run_dir("c-depth-1", seed) / "region_scores.json"
        stored = store.region_scores("c-depth-1", seed)
        stored["region_ids"].pop()
        stored["scores"]["cider_d"].pop()
        path.write_text(json.dumps(stored), encoding="utf-8")
    estimate = claim_results(collect(store, suite))[0].estimate
    assert estimate.interval is None
    assert "different regions" in estimate.hole


def test_failed_side_is_a_hole(runs: Runs) -> None:
    store, suite = runs
    for seed in suite.seeds:
        store.save(record(suite.cells[1], seed).model_copy(update={"status": "failed"}))
    assert claim_results(collect(store, suite))[0].estimate.hole == "right side: no finished run"
