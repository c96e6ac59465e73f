"""Tables made narrower: what folds away, what goes into the caption, what LaTeX is asked for."""

# ruff: noqa: RUF001 - the tables are typeset with the sign for empty

from pathlib import Path

import pytest
from report_fake_runs import manifest
from rich.console import Console

from sca_bench.cli.report import _sentences, page_of, print_answer, print_sentences
from sca_bench.cli.track import findings_of
from sca_bench.errors import InputError
from sca_bench.output import text_console
from sca_bench.report.findings.claims import named_cells
from sca_bench.report.findings.headline import Headline
from sca_bench.report.findings.ranking import Rankings
from sca_bench.report.names import count_words, in_sentence, show_about, show_bearable
from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import SuiteData, collect
from sca_bench.report.tables.latex import write_latex_table
from sca_bench.report.tables.parts import (
    chosen,
    constants_in_caption,
    extra_part,
    main_part,
    with_names,
)
from sca_bench.report.tables.tables import Column, Entry, Footnotes, Row, Table, score_table
from sca_bench.study.runs.record import SuiteManifest
from sca_bench.study.runs.store import Store

Runs = tuple[Store, SuiteManifest]


@pytest.mark.parametrize(
    ("value", "half", "shown"),
    [
        (0.1032, 0.356, "+10"),
        (-0.2531, 0.356, "−25"),
        (0.1032, 0.0356, "+10.3"),
        (0.1032, 0.00356, "+10.32"),
        (0.1032, 0.0000356, "+10.32"),  # nobody reads more
        (1.6721, 3.56, "+170"),
        (12.345, 0.356, "+1,234"),
        (0.001, 0.356, "0"),
        (-0.001, 0.356, "0"),
        (0.1032, 0.0, "+10.3"),
        (0.1032, None, "+10.3"),
    ],
)
def test_numbers_are_rounded_to_what_their_interval_lets_them_bear(
    value: float, half: float | None, shown: str
) -> None:
    assert show_bearable(value, half, metric="cider_d", signed=True) == shown
    assert show_bearable(value, half, metric="cider_d") == shown.removeprefix("+")


@pytest.mark.parametrize(
    ("count", "shown"),
    [(167_171, "170,000"), (27, "27"), (144, "140"), (9, "9"), (0.0796, "0.080"), (0, "0")],
)
def test_what_is_only_roughly_known_has_two_digits(count: float, shown: str) -> None:
    assert show_about(count) == shown


def test_counts_and_lists_in_text() -> None:
    assert [count_words(n, "seed") for n in (0, 1, 3, 12, 1300)] == [
        *("no seeds", "one seed", "three seeds", "twelve seeds", "1,300 seeds")
    ]
    assert [in_sentence("abcde"[:n]) for n in (0, 1, 2, 4, 5)] == [
        *("", "a", "a and b", "a, b, c and d", "a, b, c and 2 more")
    ]


def small(**constants: list[str]) -> Table:
    columns = (
        Column("Cell", numeric=False),
        Column("A", metric="a"),
        Column("B", metric="b", extra=True),
        *(Column(label) for label in constants),
    )
    rows = [
        Row(
            (
                Entry(name),
                Entry("1"),
                Entry("2"),
                *(Entry(texts[number], (number + 1,)) for texts in constants.values()),
            ),
            cell=name,
        )
        for number, name in enumerate("xyz")
    ]
    return Table("t", "T", "Title", "Caption.", columns, tuple(rows), "Method.", "Warning.")


def test_counts_that_are_the_same_in_all_rows_go_into_the_caption() -> None:
    counted = small(Regions=["113", "–", "113"], Images=["60"] * 3, Seeds=["3 of 3"] * 3)
    found = constants_in_caption(counted)
    assert found.caption == "113 regions, 60 images, 3 seeds a cell. Caption."
    assert [column.label for column in found.columns] == ["Cell", "A", "B"]
    assert [row.entries[0].notes for row in found.rows] == [(1,), (2,), (3,)]
    assert {len(row.entries) for row in found.rows} == {3}
    for texts in (["3 of 3", "2 of 3", "3 of 3"], ["2 of 3"] * 3):  # what is missing stays in view
        other = small(Seeds=texts)
        assert constants_in_caption(other) == other


def test_extra_columns_fold_away_with_the_names_of_their_rows() -> None:
    table = small()
    more = extra_part(table)
    assert more is not None
    assert [column.label for column in main_part(table).columns] == ["Cell", "A"]
    assert [column.label for column in more.columns] == ["Cell", "B"]
    assert [[entry.text for entry in row.entries] for row in more.rows] == [
        [name, "2"] for name in "xyz"
    ]
    assert (more.method, more.warning) == ("", "")
    assert extra_part(main_part(table)) is None


def test_a_table_of_scores_shows_the_suites_metrics_at_once(runs: Runs) -> None:
    table = main_part(score_table(collect(*runs), Footnotes()))
    labels = [column.label for column in table.columns]
    assert labels == ["Cell", "Seeds", "CIDEr-D", "BLEU-4", "Exact match"]
    assert len(table.caption) < 100


def test_latex_shows_the_metrics_and_cells_that_somebody_asks_for(runs: Runs) -> None:
    data = collect(*runs)
    table = score_table(data, Footnotes())
    asked = chosen(table, ("bleu_4", "cider_d"), named_cells(data, ("num_layers=4", "depth-1")))
    assert [column.label for column in asked.columns] == ["Cell", "BLEU-4", "CIDEr-D"]
    assert [column.unit for column in asked.columns] == ["", "", ""]  # the caption says it once
    assert [row.cell for row in asked.rows] == ["depth-4", "depth-1"]
    text = write_latex_table(data.manifest, asked, Footnotes(), None, {"depth-4": "Four layers"})
    (caption,) = (line for line in text.splitlines() if line.startswith("\\caption"))
    assert len(caption) < 110
    assert text.index("\\end{tabular}") < text.index("sample standard deviation")
    assert "\nFour layers & " in text
    with pytest.raises(InputError, match=r"--tex: meteo: the suite has no such metric"):
        chosen(table, ("meteo",))
    with pytest.raises(InputError, match=r"--rows: depth-9: mixer_layers has no such cell"):
        named_cells(data, ("depth-9",))


def test_rows_keep_the_mark_of_a_control(runs: Runs) -> None:
    table = score_table(collect(*runs), Footnotes())
    named = with_names(table, {"permuted captions": "Permuted", "depth-1": "One layer"})
    texts = [row.entries[0].text for row in named.rows]
    assert texts[0] == "One layer"
    assert "Permuted (control)" in texts
    assert texts[-1] == "noise floor (A/A)"


def test_cells_that_are_not_shown_to_be_below_the_best_are_ranked_alike(runs: Runs) -> None:
    store, suite = runs
    low = store.run_dir("c-perm", 0) / "region_scores.json"
    for seed in suite.seeds:  # depth 1 does as badly as a control
        (store.run_dir("c-depth-1", seed) / low.name).write_bytes(low.read_bytes())
    data = collect(store, suite)
    rankings = Rankings(data, Samples(data))
    assert rankings.marked("cider_d") == {"depth-2", "depth-4"}
    assert rankings.marked("bleu_1") == frozenset()  # without scores of regions
    assert rankings.marked("caption_length") == frozenset()  # neither more nor less is better


def test_one_seed_shows_no_cell_to_be_below_another(runs: Runs) -> None:
    store, suite = runs
    data = collect(store, suite.model_copy(update={"seeds": [0]}))
    marked = Rankings(data, Samples(data)).marked("cider_d")
    assert marked == {"depth-1", "depth-2", "depth-4"}


def test_the_terminal_shows_the_sentences_of_a_report(
    whole_report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentences = _sentences(whole_report)
    assert sentences[0].startswith("Two layers are not shown to beat one: +60 points of CIDEr-D")
    assert _sentences(whole_report.parent) == []
    evil = f"{sentences[0]} \x1b[31m[bold]red[/bold]"
    print_sentences([evil], Console(width=40, force_terminal=True, no_color=True))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 3
    assert max(map(len, lines)) <= 40
    assert lines[0].startswith("  - Two layers are not shown")
    assert all(line.startswith("    ") for line in lines[1:])
    assert " ".join(" ".join(lines).split()).endswith("\\u001b[31m[bold]red[/bold]")
    print_sentences([sentences[0]], Console(width=40))  # a pipe
    assert capsys.readouterr().out == f"  - {sentences[0]}\n"


def test_the_answer_is_printed_before_there_is_a_report(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    store, suite = runs
    print_answer(store, suite.model_copy(update={"question": "How \x1b[31mdeep?"}), text_console())
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "How \\u001b[31mdeep?"
    assert lines[1].startswith("  - Two layers are not shown to beat one: +60 points of CIDEr-D, ")
    assert lines[-1].endswith("A point is a score times 100, as papers print it.")
    assert page_of(suite) == Path("reports/mixer_layers/index.html")
    unread = suite.model_copy(update={"claims": [{"id": "a", "says": "better"}]})
    print_answer(store, unread, text_console())
    assert (
        "  - No answer in words: ablations/mixer_layers.yaml: claims.a: " in capsys.readouterr().out
    )


def test_an_answer_that_is_known_is_not_found_out_again(
    runs: Runs, capsys: pytest.CaptureFixture[str]
) -> None:
    store, suite = runs
    answers: list[Headline] = []
    assert findings_of(store, suite, answers) is not None
    print_answer(store, suite, text_console())
    once = capsys.readouterr().out
    print_answer(Store("nowhere"), suite, text_console(), answers)
    assert capsys.readouterr().out == once


def test_a_suite_that_was_never_run_has_no_marks() -> None:
    data = SuiteData(None, manifest(), (), collect(Store("nowhere"), manifest()).scores)  # type: ignore[arg-type]
    assert Rankings(data, Samples(data)).of("cider_d").best is None
