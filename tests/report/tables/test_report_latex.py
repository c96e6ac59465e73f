"""The tables as LaTeX: exact text, escaping, and that pdflatex compiles it."""

# ruff: noqa: RUF001 - the tables are typeset with the signs for times and for empty

import shutil
import subprocess
from collections.abc import Callable, Collection
from pathlib import Path

import pytest
from report_fake_runs import manifest

from sca_bench.report.tables.latex import write_latex, write_latex_table
from sca_bench.report.tables.latex_escape import escape
from sca_bench.report.tables.markdown import write_markdown
from sca_bench.report.tables.ranks import mark_best
from sca_bench.report.tables.tables import Column, Entry, Footnotes, Row, SignificanceMarks, Table

NASTY = r"a_b 50% & $x$ #1 {y} ~ ^ \z <|> \"q\" × ± – − ≥ é ñ ç ß ł 中 [u] `` '' ?` é §…"


def table(*rows: Row, second: Column | None = None) -> Table:
    columns = (
        Column("Cell", numeric=False),
        second or Column("CIDEr-D", "×100, max 1000", metric="cider_d"),
    )
    return Table("scores", "Scores", "Scores", "All of them.", columns, rows)


def row(name: str, value: float | None, control: bool = False, notes: tuple[int, ...] = ()) -> Row:
    text = "–" if value is None else f"{value:.1f} ± 2.0"
    cell = name.removesuffix(" (control)")
    return Row((Entry(name, notes), Entry(text, (), value)), control, cell)


def ranks(found: Table) -> list[str]:
    return [each.entries[1].rank for each in found.rows]


def marked(*names: str) -> Callable[[str], Collection[str]]:
    """What stands for the comparisons: by CIDEr-D these are not shown to be below the best."""
    return lambda metric: names if metric == "cider_d" else ()


def test_all_that_are_not_shown_to_be_below_the_best_are_marked_alike() -> None:
    rows = (
        row("a", 3.0),
        row("b", 5.0),
        row("c", 4.0),
        row("d", None),
        row("e (control)", 9.0, True),
    )
    found = mark_best(table(*rows), marked("b", "c", "d"))
    assert ranks(found) == ["", "best", "best", "", ""]  # no value, no mark
    assert found.caption == "All of them. Bold: not shown to be below the best of the column."
    assert mark_best(table(*rows), marked()) == table(*rows)
    other = table(*rows, second=Column("MiB"))
    assert mark_best(other, marked("b")) == other


def test_score_table_as_latex() -> None:
    notes = Footnotes(["unused", "ran 50% longer"])
    rows = (
        row("a_1", 3.0, notes=(2,)),
        row("b", 5.0),
        row("c", 4.0),
        row("x (control)", 1.0, True),
    )
    marks = SignificanceMarks("CIDEr-D", {"a_1": "**", "b": "†"}, "** p < .01")
    text = write_latex_table(manifest(), mark_best(table(*rows), marked("b", "c")), notes, marks)
    assert text.startswith("% Needs \\usepackage{booktabs} and \\usepackage{graphicx}.\n")
    assert "\\label{tab:mixer-layers-scores}\n" in text
    body = text.split("\\sbox0{%\n")[1].split("}%\n\\ifdim")[0]
    assert body == (
        "\\begin{tabular}{@{}lr@{}}\n"
        "\\toprule\n"
        "Cell & CIDEr-D \\\\\n"
        " & \\scriptsize $\\times$100, max 1000 \\\\\n"
        "\\midrule\n"
        "a\\_1\\textsuperscript{1} & 3.0 $\\pm$ 2.0$^{{*}{*}}$ \\\\\n"
        "b & \\textbf{5.0} $\\pm$ 2.0$^{\\mbox{\\dag{}}}$ \\\\\n"
        "c & \\textbf{4.0} $\\pm$ 2.0 \\\\\n"
        "\\midrule\n"
        "x (control) & 1.0 $\\pm$ 2.0 \\\\\n"
        "\\bottomrule\n"
        "\\end{tabular}\n"
    )
    assert "\\item[] ** p $<$ .01\n\\item[1] ran 50\\% longer\n" in text
    assert text.endswith("\\endgroup\n\\end{table}\n")


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("a_b%&$#{}", r"a\_b\%\&\$\#\{\}"),
        ("~^\\", r"\textasciitilde{}\textasciicircum{}\textbackslash{}"),
        ("× ± – − ≥", r"$\times$ $\pm$ -- $-$ $\geq$"),
        ("é ñ č í Å", r"\'{e} \~{n} \v{c} \'{\i} \AA{}"),
        ("--set", "-{}-set"),
        ("中", "[U+4E2D]"),
        ("two\nlines\t", "two lines"),
    ],
)
def test_escaping(text: str, latex: str) -> None:
    assert escape(text) == latex


def test_escaped_text_is_ascii() -> None:
    everything = "".join(chr(code) for code in range(32, 0x3000))
    assert escape(everything).isascii()


def test_long_tables_go_on_behind() -> None:
    rows = [row(f"cell {n}", float(n)) for n in range(70)]
    text = write_latex(manifest(), [table(*rows)], Footnotes())
    assert [f"part {n} of 3" in text for n in (1, 2, 3, 4)] == [True, True, True, False]
    assert text.count("\\label{tab:mixer-layers-scores") == 3
    assert text.count("cell 42 ") == 1


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_documents_compile(whole_report: Path, tmp_path: Path) -> None:
    bad = manifest(question=NASTY, statement=NASTY, overrides=[NASTY], suite="a_b")
    rows = [row(f"{NASTY} {n}", float(n), notes=(1,)) for n in range(40)]
    rows += [row(start, 1.0) for start in ("[5pt]", "*")]
    names = [each.cell for each in rows[20:]]
    latin = "".join(chr(code) for code in range(0xA1, 0x250))
    wide = Table(
        *("w", "W", NASTY, latin),
        tuple(Column(f"{NASTY} {n}", "px", numeric=n > 0) for n in range(14)),
        (Row(tuple(Entry(NASTY) for _ in range(14))),),
    )
    marks = SignificanceMarks("CIDEr-D", {f"{NASTY} 3": "*†§"}, NASTY)
    notes = Footnotes([NASTY])
    text = write_latex(bad, [mark_best(table(*rows), marked(*names)), wide], notes, marks)
    alone = write_latex_table(bad, mark_best(table(*rows[:9]), marked(*names)), notes, marks)
    whole = (whole_report / "tables.tex").read_text(encoding="ascii")
    head = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\n"
    documents = {"nasty": text, "whole": whole, "alone": f"{head}{alone}\\end{{document}}\n"}
    for name, document in documents.items():
        (tmp_path / f"{name}.tex").write_text(document, encoding="ascii")
        words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, check=False, timeout=120)
        log = done.stdout.decode("latin-1")
        assert done.returncode == 0, log[-2000:]
        assert "Overfull \\hbox" not in log.split("Table")[0]
        assert "Float too large" not in log, name
        assert (tmp_path / f"{name}.pdf").stat().st_size > 1000


def test_the_head_says_which_seeds_a_report_lacks() -> None:
    suite = manifest(own_seeds=[0, 1, 5])
    says = "it names 0, 1, 5; shown is what --seeds asked for, 0, 1. Never run: 5."
    assert says in write_markdown(suite, [], Footnotes(), [])
    assert "Never run: 5." in write_latex(suite, [], Footnotes())
    for whole in (manifest(own_seeds=[0, 1]), manifest()):
        assert "Never run" not in write_markdown(whole, [], Footnotes(), [])
