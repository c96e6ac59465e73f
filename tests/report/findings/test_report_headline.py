"""The answer in words: a sentence for every verdict, and every number of it in `claims.csv`."""

# ruff: noqa: RUF001 - sentences are typeset with the sign for minus

import csv
import dataclasses
import io
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from report_fake_runs import axis_manifest, build, record

from sca_bench.report.findings.answer import Answer, answer_of, read_headline
from sca_bench.report.findings.cell_words import Phrase, Sides, row_names, sides_in_words
from sca_bench.report.findings.claims import ClaimResult, claim_results
from sca_bench.report.findings.headline import Headline, Number, Sentence
from sca_bench.report.findings.paper import Paper
from sca_bench.report.findings.sentences import sentence_of
from sca_bench.report.names import metric_scale
from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import SuiteData, collect
from sca_bench.report.tables.csv import claims_csv
from sca_bench.stats.compare import Comparison
from sca_bench.stats.variance import SeedPart
from sca_bench.stats.verdict import decide
from sca_bench.study.runs.record import SuiteManifest
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.claims import parse_claim

Runs = tuple[Store, SuiteManifest]
TWO_AND_ONE = Sides(Phrase("two layers", plural=True), Phrase("one"))


def answer(store: Store, suite: SuiteManifest) -> Answer:
    data = collect(store, suite)
    samples = Samples(data)
    return answer_of(data, samples, claim_results(data, samples), Paper(""))


def with_claims(suite: SuiteManifest, *claims: dict[str, Any]) -> SuiteManifest:
    return suite.model_copy(update={"claims": list(claims)})


def planted(
    difference: float,
    half: float,
    says: str = ">",
    *,
    margin: float = 0.0,
    seeds: int = 3,
    num_claims: int = 1,
    **more: Any,
) -> ClaimResult:
    """A claim with a made-up comparison, decided by the statistics' own rules."""
    se = half / 2.776  # of four degrees of freedom
    trained = SeedPart(seeds, True, 0.01)
    one = Comparison(
        difference, difference - half, difference + half, se, se, se, 4.0, None, (seeds, seeds),
        50, 113, seeds > 1, (trained, trained),
    )  # fmt: skip
    p = min(1.0, 2 * (one.p_value_above(0.0) or 0.0), 2 * (one.p_value_below(0.0) or 0.0))
    one = dataclasses.replace(one, p=p)
    many = range(num_claims)
    decision = decide([one for _ in many], [says for _ in many], [margin for _ in many],
                      ["" for _ in many])[0]  # fmt: skip
    assert decision is not None
    stated = f"cider_d(mixer.num_layers=2) {says} cider_d(mixer.num_layers=1)"
    head = ("depth", stated, "cider_d", says)
    return ClaimResult(*head, decision.verdict, one, decision, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("claim", "label", "text", "known"),
    [
        (
            planted(0.412, 0.19),
            "reproduced",
            "Two layers beat one by 41 points of CIDEr-D (95 % between 22 and 60).",
            "",
        ),
        (
            planted(0.103, 0.356),
            "undecided",
            "Two layers are not shown to beat one: +10 points of CIDEr-D, 95 % between −25 and "
            "+46.",
            "Differences above 46 are ruled out; three seeds and 113 regions cannot tell less "
            "than 36 apart.",
        ),
        (
            planted(-0.2, 0.1),
            "not at tiny scale",
            "Two layers do not beat one at tiny scale, the opposite is shown: −20 points of "
            "CIDEr-D (95 % between −30 and −10).",
            "",
        ),
        (
            planted(-0.2, 0.1, "<"),
            "reproduced",
            "One beats two layers by 20 points of CIDEr-D (95 % between 10 and 30).",
            "",
        ),
        (
            planted(-0.03, 0.0856, "<=", margin=0.0909),
            "reproduced",
            "Two layers are at most 9.1 points of CIDEr-D better than one: −3.0, 95 % between "
            "−11.6 and +5.6.",
            "",
        ),
        (
            planted(0.3, 0.1, "<=", margin=0.0909),
            "not at tiny scale",
            "Two layers are more than 9.1 points of CIDEr-D better than one at tiny scale: +30, "
            "95 % between +20 and +40.",
            "",
        ),
        (
            planted(-0.03, 0.36, ">=", margin=0.0909),
            "undecided",
            "Two layers are not shown to be at most 9.1 points of CIDEr-D worse than one: −3, "
            "95 % between −39 and +33.",
            "Differences above 39 are ruled out; three seeds and 113 regions cannot tell less "
            "than 36 apart.",
        ),
        (
            planted(0.103, 0.0762, num_claims=4),
            "undecided",
            "Two layers are not shown to beat one: +10.3 points of CIDEr-D, 95 % between +2.7 "
            "and +17.9.",
            "By itself it would be decided; after the correction for all claims of its family "
            "it is not (p = 0.080). Differences above 17.9 are ruled out; three seeds and 113 "
            "regions cannot tell less than 7.6 apart.",
        ),
        (
            planted(0.5, 0.1, seeds=1),
            "undecided",
            "Two layers are not shown to beat one: +50 points of CIDEr-D, 95 % between +40 and "
            "+60.",
            "One seed decides nothing: the interval says nothing of other seeds.",
        ),
        (
            planted(0.412, 0.19, text="depth helps"),
            "reproduced",
            "Depth helps: +41 points of CIDEr-D, 95 % between +22 and +60.",
            "",
        ),
        (
            planted(-0.2, 0.1, text="depth helps"),
            "not at tiny scale",
            "It does not hold at tiny scale that depth helps, the opposite is shown: −20 points "
            "of CIDEr-D, 95 % between −30 and −10.",
            "",
        ),
        (
            planted(-0.03, 0.36, "<=", margin=0.0909, text="depth hardly helps"),
            "undecided",
            "It is not shown that depth hardly helps: −3 points of CIDEr-D, 95 % between −39 and "
            "+33, margin 9.1.",
            "Differences above 39 are ruled out; three seeds and 113 regions cannot tell less "
            "than 36 apart.",
        ),
    ],
)
def test_what_a_claim_says(claim: ClaimResult, label: str, text: str, known: str) -> None:
    said = sentence_of(claim, TWO_AND_ONE, "at tiny scale", comparable=False)
    assert (said.label, said.text, said.known) == (label, text, known)
    assert not said.is_alarm
    check_numbers([said], claims_csv([claim], [said]), ())


def test_a_contradiction_is_red_only_under_a_protocol_like_the_papers() -> None:
    claim = planted(-0.2, 0.1)
    said = sentence_of(claim, TWO_AND_ONE, "under this protocol", comparable=True)
    assert said.label == "contradicted"
    assert said.text.startswith("Two layers do not beat one, the opposite is shown: −20 points")
    assert said.is_alarm
    assert not said.scoped


def shown_value(text: str) -> float:
    return abs(float(text.replace("−", "-").replace(",", "")))


WORDS = {"one": 1.0, "two": 2.0, "three": 3.0}


def check_numbers(sentences: list[Sentence], table: str, names: tuple[str, ...]) -> int:
    """Look every printed number up in `claims.csv`; return how many there are."""
    rows = {row["claim"]: row for row in csv.DictReader(io.StringIO(table))}
    count = 0
    for said in sentences:
        count += len(said.numbers)
        check_printed(said.whole, said.numbers, names)
        for number in said.numbers:
            check_number(number, rows[said.claim_id], said.metric)
    return count


def check_printed(text: str, numbers: tuple[Number, ...], names: tuple[str, ...]) -> None:
    """See that a text prints no other numbers than these."""
    for name in sorted((*names, "95 %"), key=len, reverse=True):
        text = text.replace(name, "")
    printed = re.findall(r"[+−]?\d+(?:,\d{3})*(?:\.\d+)?", text)
    assert printed == [n.shown for n in numbers if n.shown[-1].isdigit()]
    for number in numbers:
        assert re.search(rf"(?<![\d.]){re.escape(number.shown)}(?![\d])", text), number


def check_number(number: Number, row: dict[str, str], metric: str) -> None:
    """See that a number is that of its column, rounded by half a unit of its last digit."""
    assert float(row[number.column]) == number.value
    if number.shown in WORDS:
        assert WORDS[number.shown] == number.value
        return
    counts = number.column in ("regions", "images", "p_holm") or "seeds" in number.column
    value = abs(number.value) * (1.0 if counts else metric_scale(metric))
    decimals = len(number.shown.partition(".")[2])
    step = 10.0**-decimals
    if not (decimals or counts or number.column == "margin"):  # tens where the interval is wide
        half = float(row["half_width"]) * metric_scale(metric)
        step = max(1.0, 10.0 ** (math.floor(math.log10(half) + 1e-9) - 1))
    assert abs(shown_value(number.shown) - value) <= 0.5001 * step, number


def test_planted_verdicts_of_a_suite_read_well_and_their_numbers_are_in_the_csv(
    runs: Runs,
) -> None:
    """Reproduced, contradicted, undecided, not comparable, failed, and a cell that is not there."""
    store, suite = runs
    for seed in suite.seeds:  # depth 4 fails; the most frequent caption is of other regions
        failed = record(suite.cells[3], seed).model_copy(
            update={"status": "failed", "error": "RuntimeError: out of memory"}
        )
        store.save(failed)
        other = record(suite.cells[4], seed)
        whole = other.scores["cider_d"]
        regions = {**whole.signature, "region_set": "cd34" * 16}
        other.scores["cider_d"] = whole.model_copy(update={"signature": regions})
        store.save(other)
    two = "cider_d(mixer.num_layers=2)"
    claims = {
        "yes": f"{two} > cider_d(cell=permuted captions)",
        "no": f"{two} < cider_d(cell=permuted captions)",
        "open": f"{two} > cider_d(mixer.num_layers=1)",
        "mixed": f"{two} > cider_d(cell=most frequent caption)",
        "failed": f"cider_d(mixer.num_layers=4) > {two}",
        "absent": f"cider_d(mixer.num_layers=24) <= {two}",
    }
    suite = with_claims(suite, *({"id": name, "says": says} for name, says in claims.items()))
    found = answer(store, suite)
    said = {one.claim_id: one for one in found.headline.sentences}
    assert list(said) == list(claims)
    assert re.fullmatch(
        r"Two layers beat permuted captions by \d+ points of CIDEr-D \(95 % between \d+ and \d+, "
        r"approximate\)\.",
        said["yes"].text,
    )
    assert said["no"].text.startswith(
        "Permuted captions do not beat two layers at tiny scale, the opposite is shown: −"
    )
    assert said["no"].label == "not at tiny scale"
    assert said["open"].text.startswith("Two layers are not shown to beat one: +60 points")
    assert said["open"].known.startswith("Differences above ")
    assert said["mixed"].text == (
        "Whether two layers beat most frequent caption in CIDEr-D cannot be said: its sides were "
        "measured in different ways."
    )
    assert said["mixed"].known.startswith("Signatures differ: region_set ")
    assert said["failed"].label == "no numbers"
    assert said["failed"].whole == (
        "Whether four layers beat two in CIDEr-D is not answered: there are no numbers. Without a "
        "result: depth-4, seed 0: failed: RuntimeError: out of memory; depth-4, seed 1: failed: "
        "RuntimeError: out of memory."
    )
    assert said["absent"].whole == (
        "Whether 24 layers are hardly better than two in CIDEr-D is not answered: there are no "
        "numbers. Profile tiny has no cell for cider_d(mixer.num_layers=24)."
    )
    names = ("depth-4", "seed 0", "seed 1", said["mixed"].known, said["absent"].whole)
    table = claims_csv(found.results, found.headline.sentences, found.headline.scope)
    assert check_numbers(list(found.headline.sentences), table, names) >= 11
    row = next(csv.DictReader(io.StringIO(table)))
    assert row["sentence"] == said["yes"].text
    for number in found.headline.numbers:
        check_number(number, row, "cider_d")
    check_printed(found.headline.sure, found.headline.numbers, ())


def test_how_sure_and_what_it_cost_stand_beside_it(runs: Runs) -> None:
    headline = answer(*runs).headline
    assert re.fullmatch(
        r"Intervals \(95 %\) cover 30 test regions of 10 images, and two seeds a cell\. Other "
        r"seeds alone move such a difference by up to [\d.]+ points of CIDEr-D\.",
        headline.sure,
    )
    # Four trained cells: 40 and 50 s, twice 7.5 s shared; ten times 2.5 s for captions.
    assert headline.cost == "10 runs, 7 min 25 s of compute."
    assert headline.units == "A point is a score times 100, as papers print it."
    assert (headline.scope, headline.figure) == ("at tiny scale", "headline_figure")


def test_regions_that_differ_most_come_from_different_images(runs: Runs) -> None:
    store, suite = runs
    chosen = answer(store, suite).headline.regions
    assert len({one.image_id for one in chosen}) == len(chosen) == 3
    assert {(one.left, one.right) for one in chosen} == {("depth-2", "depth-1")}
    gaps: dict[str, float] = {}
    for cell, sign in (("c-depth-2", 0.5), ("c-depth-1", -0.5)):
        for seed in suite.seeds:
            table = store.region_scores(cell, seed)
            for name, value in zip(table["region_ids"], table["scores"]["cider_d"], strict=True):
                gaps[name] = gaps.get(name, 0.0) + sign * value
    first = max(gaps, key=lambda name: abs(gaps[name]))
    assert chosen[0].region_id == first
    assert chosen[0].difference == pytest.approx(gaps[first])


def test_a_suite_without_claims_names_its_best_and_what_ties(runs: Runs) -> None:
    suite = with_claims(runs[1]).model_copy(update={"reference": "depth-4"})
    found = answer(runs[0], suite)
    first, second = found.headline.sentences
    assert first.text.startswith(
        "Depth-2 comes out best, but none of the others can be told apart from that: at most +60 "
        "points of CIDEr-D, 95 % between "
    )
    assert first.known.startswith("Differences above ")
    assert second.text.startswith(
        "The largest difference to the reference, depth-4, is that of depth-2: +50 points"
    )
    assert second.text.endswith("which is not shown to be a difference.")
    table = claims_csv(found.results, found.headline.sentences)
    names = ("Depth-2", "depth-4", "depth-2")
    assert check_numbers([first, second], table, names) >= 8


def test_a_suite_without_claims_whose_best_is_clear(tmp_path: Path) -> None:
    axes = {"mixer.num_layers": [1, 2]}
    store, suite = build(tmp_path / "runs", axis_manifest(axes))
    for seed in suite.seeds:  # one layer does as badly as a control
        low = (store.run_dir("c-perm", seed) / "region_scores.json").read_bytes()
        (store.run_dir("c-0", seed) / "region_scores.json").write_bytes(low)
    found = answer(store, suite)
    (said,) = found.headline.sentences  # that of the reference would say the same
    assert said.text.startswith("Two layers are best, before the next, one layer, by ")
    check_numbers([said], claims_csv(found.results, [said]), ())


@pytest.mark.parametrize("claims", [[], [{"id": "a", "says": "cider_d(num_layers=2) > cider_d("
                                                             "num_layers=1)"}]])  # fmt: skip
def test_without_any_run_it_says_so(tmp_path: Path, claims: list[dict[str, str]]) -> None:
    suite = axis_manifest({"mixer.num_layers": [1, 2]}, claims=claims)
    headline = read_headline(Store(tmp_path / "runs"), suite, tmp_path)
    (said,) = headline.sentences
    assert "num_layers=1, seed 0: missing: never started" in said.known
    assert headline.sure == ""
    assert headline.regions == ()
    assert headline.cost.startswith("No run of ")
    claimed = "Whether two layers beat one in CIDEr-D is not answered: there are no numbers."
    assert said.text == (claimed if claims else "No cell has a score by CIDEr-D yet.")


def words(axes: dict[str, list[Any]], says: str, averaged: tuple[str, ...] = ()) -> str:
    cells = axis_manifest(axes)
    data = SuiteData(None, cells, (), None)  # type: ignore[arg-type]
    sides = sides_in_words(parse_claim(says), data, averaged)
    return f"{sides.left.text} | {sides.right.text}{sides.both}"


@pytest.mark.parametrize(
    ("axes", "says", "expected"),
    [
        ("mixer.num_layers", "m(mixer.num_layers=2) > m(num_layers=1)", "two layers | one"),
        ("mixer.num_layers", "m(num_layers=24) > m(num_layers=12)", "24 layers | twelve"),
        ("prefix.num_task_tokens", "m(num_task_tokens=6) > m(num_task_tokens=0)",
         "six task tokens | none"),
        ("eval.prompt", "m(eval.prompt=box) > m(eval.prompt=random_point)",
         "box prompts | random point prompts"),
        ("pretraining", "m(pretraining=coco) > m(pretraining=none)",
         "pretraining on coco | no pretraining"),
        ("data.lsj_scale", "m(data.lsj_scale=[0.1, 2.0]) > m(data.lsj_scale=null)",
         "LSJ scale [0.1, 2.0] | no LSJ scale"),
        ("mixer.num_layers", "m(num_layers=2) > m(cell=blank images)", "two layers | blank images"),
        ("mixer.num_layers", "m(num_layers=2) > m(cell='a, b')", 'two layers | "a, b"'),
        ("train.learning_rate", "m(learning_rate=0.002241659638465149) > m(learning_rate=1e-4)",
         "learning rate 0.00224 | learning rate 1e-4"),
        ("text_decoder.weights", "m(text_decoder.weights=openai/gpt2-large) > "
         "m(text_decoder.weights=openai/gpt2)", "gpt2-large | gpt2"),
    ],
)  # fmt: skip
def test_sides_in_words(axes: str, says: str, expected: str) -> None:
    assert words({axes: [1, 2]}, says) == expected


def test_what_both_sides_share_and_are_averaged_over_is_said_once() -> None:
    axes = {"mixer.num_layers": [1, 2], "eval.prompt": ["box", "point"]}
    says = "m(num_layers=2, eval.prompt=box) > m(num_layers=1, eval.prompt=box)"
    assert words(axes, says) == "two layers | one, at box prompts"
    says = "m(num_layers=2) > m(num_layers=1)"
    over = ("eval.prompt",)
    assert words(axes, says, over) == "two layers | one, on average over eval prompt"


def test_rows_of_tables_name_cells_in_words_where_these_tell_them_apart(tmp_path: Path) -> None:
    axes = {"train.learning_rate": [0.00100012, 0.00100014], "mixer.num_layers": [1, 2]}
    suite = axis_manifest(axes, one_at_a_time=True)
    data = collect(Store(tmp_path), suite)
    names = row_names(data.cells, data)
    assert names["num_layers=2"] == "Two layers"
    assert names["permuted captions"] == "Permuted captions"
    close = [name for name in names if "learning_rate" in name]
    assert [names[name] for name in close] == close  # both read 0.001


def test_the_terminals_answer_needs_neither_torch_nor_pandas_nor_matplotlib(runs: Runs) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from sca_bench.report.findings.answer import read_headline\n"
        "from sca_bench.study.runs.store import Store\n"
        f"store = Store({str(runs[0].root)!r})\n"
        "said = read_headline(store, store.manifests()[0], Path('reports')).sentences\n"
        "print(len(said), *({'torch', 'pandas', 'matplotlib'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "2"


def test_a_headline_without_sentences_is_short() -> None:
    assert Headline("why?", ()).in_short == ""


def test_a_measure_that_counts_has_its_own_unit(tmp_path: Path) -> None:
    claim = dataclasses.replace(planted(1.5, 0.4), metric="caption_length")
    said = sentence_of(claim, TWO_AND_ONE, "", comparable=False)
    assert said.text == (
        "Two layers are higher in Caption length than one by 1.50 words (95 % between 1.10 and "
        "1.90)."
    )
