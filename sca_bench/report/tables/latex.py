"""The tables as LaTeX: one document that compiles, and the score table alone to be input."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from sca_bench.report.names import wrapped
from sca_bench.report.tables.latex_escape import escape
from sca_bench.report.tables.parts import CONTROL, above, extra_part, main_part, with_names
from sca_bench.report.tables.tables import Column, Entry, Footnotes, Row, SignificanceMarks, Table
from sca_bench.study.runs.record import SuiteManifest

MAX_LINES, MAX_LINES_WIDE = 30, 60
"""Lines of one table on a page, and of one that its columns make small; the rest follows."""
_MANY_COLUMNS = 8
_MOST_SIGNS = 130
"""Characters of a row that fit across a page."""
_WORD_SIGNS = 42
"""Characters of a line of words where many columns share the page."""
_PREAMBLE = r"""\documentclass[10pt]{article}
\usepackage[a4paper,landscape,margin=15mm]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\setlength{\parindent}{0pt}
\begin{document}
"""


def write_latex(
    manifest: SuiteManifest,
    tables: Sequence[Table],
    notes: Footnotes,
    marks: SignificanceMarks | None = None,
    names: Mapping[str, str] | None = None,
    sentences: Sequence[str] = (),
) -> str:
    """Return `tables.tex`: a document with every table and the notes that it needs.

    Args:
        manifest: The suite.
        tables: Its tables; columns that can be folded away have a table of their own.
        notes: Their footnotes.
        marks: Signs of significance after one column.
        names: Name of a cell -> what rows call it; its name where it has none.
        sentences: The answer of the suite in words.
    """
    head = f"% Suite {_plain(manifest.suite)}, profile {_plain(manifest.profile)}.\n"
    parts = [head + _PREAMBLE, f"\\section*{{{escape(manifest.question)}}}\n"]
    paper = f", after the paper's {escape(manifest.paper)}" if manifest.paper else ""
    head_line = (
        f"Suite \\textbf{{{escape(manifest.suite)}}}, profile {escape(manifest.profile)}{paper}."
    )
    parts.append(f"{head_line}\n")
    parts += [f"\n{escape(sentence)}\n" for sentence in sentences]
    if manifest.statement:
        parts.append(f"\n{escape(manifest.statement)}\n")
    if manifest.overrides:
        shown = ", ".join(f"\\texttt{{{escape(text)}}}" for text in manifest.overrides)
        parts.append(f"\nSettings overridden on the command line: {shown}.\n")
    parts += [f"\n{escape(remark)}\n" for remark in manifest.remarks]
    for table in tables:
        for part in filter(None, (main_part(table), extra_part(table))):
            texts = _parts(manifest, with_names(part, names or {}), notes, marks)
            parts += [f"\n{text}\\clearpage\n" for text in texts]
    return "".join(parts) + "\\end{document}\n"


def write_latex_table(
    manifest: SuiteManifest,
    table: Table,
    notes: Footnotes,
    marks: SignificanceMarks | None = None,
    names: Mapping[str, str] | None = None,
) -> str:
    """Return one table as a `table` environment with its notes below it, ready to be input."""
    table = with_names(table, names or {})
    needs = "% Needs \\usepackage{booktabs} and \\usepackage{graphicx}.\n"
    own = _Notes(notes)
    body = _body(table, own, marks or SignificanceMarks())
    return needs + _environment(manifest, table, body, "tbp", "", own.written(marks, table))


def _parts(
    manifest: SuiteManifest, table: Table, notes: Footnotes, marks: SignificanceMarks | None
) -> list[str]:
    """Return a table in parts that fit a page each, each with its notes after it."""
    pages = _pages(table)
    texts = []
    for number, rows in enumerate(pages):
        part = replace(table, rows=tuple(rows))
        suffix = ""
        if len(pages) > 1:
            part = replace(part, title=f"{table.title} (part {number + 1} of {len(pages)})")
            suffix = f"-{number + 1}" if number else ""
        if number:
            part = replace(part, method="")
        own = _Notes(notes)
        body = _body(part, own, marks or SignificanceMarks())
        text = _environment(manifest, part, body, "!htbp", suffix, "")
        texts.append(text + own.written(marks, part))
    return texts


def _pages(table: Table) -> list[list[Row]]:
    """Return the rows of each page; one page where there are none."""
    room = MAX_LINES_WIDE if _is_wide(table) else MAX_LINES
    pages: list[list[Row]] = [[]]
    used, wraps = 0, _wraps(table)
    for row in table.rows:
        lines = max(len(_lines_of(c, e, wraps=wraps)) for c, e in _pairs(table, row))
        if pages[-1] and used + lines > room:
            pages.append([])
            used = 0
        pages[-1].append(row)
        used += lines
    return pages


def _pairs(table: Table, row: Row) -> list[tuple[Column, Entry]]:
    return list(zip(table.columns, row.entries, strict=True))


def _is_wide(table: Table) -> bool:
    return len(table.columns) > _MANY_COLUMNS


def _wraps(table: Table) -> bool:
    """Whether words are broken: many columns share the page, or few that say much."""

    def signs(index: int) -> int:
        texts = (row.entries[index].text for row in table.rows)
        return max(map(len, (table.columns[index].label, *texts)))

    return _is_wide(table) or sum(map(signs, range(len(table.columns)))) > _MOST_SIGNS


def _lines_of(column: Column, entry: Entry, *, wraps: bool) -> list[str]:
    """Return the lines of an entry."""
    if column.numeric or not wraps:
        return [entry.text]
    return wrapped(entry.text, _WORD_SIGNS).split("\n")


class _Notes:
    """Numbers the notes of one table anew, so that each list starts at one."""

    def __init__(self, notes: Footnotes) -> None:
        self._texts = notes.texts
        self._numbers: dict[int, int] = {}

    def mark(self, entry: Entry) -> str:
        """Return the raised numbers of an entry's notes."""
        own = [self._numbers.setdefault(n, len(self._numbers) + 1) for n in entry.notes]
        return f"\\textsuperscript{{{','.join(map(str, own))}}}" if own else ""

    def written(self, marks: SignificanceMarks | None, table: Table) -> str:
        """Return the list of notes, empty where there are none."""
        items = [
            f"\\item[{number}] {escape(self._texts[known - 1])}"
            for known, number in self._numbers.items()
        ]
        if marks is not None and marks.says and _marked(table, marks):
            items.insert(0, f"\\item[] {escape(marks.says)}")
        if table.method:
            items.insert(0, f"\\item[] {escape(table.method)}")
        if not items:
            return ""
        lengths = r"\setlength{\itemsep}{0pt}\setlength{\parsep}{0pt}\setlength{\topsep}{4pt}"
        listed = "\n".join(items)
        return (
            "\\begingroup\\scriptsize\\raggedright\n"
            f"\\begin{{list}}{{}}{{{lengths}\\setlength{{\\leftmargin}}{{2em}}"
            "\\setlength{\\labelwidth}{1.5em}\\setlength{\\labelsep}{0.5em}}\n"
            f"{listed}\n\\end{{list}}\n\\endgroup\n"
        )


def _marked(table: Table, marks: SignificanceMarks) -> bool:
    labels = any(column.label == marks.column for column in table.columns)
    return labels and any(_cell(row) in marks.signs for row in table.rows)


def _cell(row: Row) -> str:
    return row.cell or row.entries[0].text.removesuffix(CONTROL)


def _environment(
    manifest: SuiteManifest, table: Table, body: str, where: str, suffix: str, notes: str
) -> str:
    label = re.sub(r"[^A-Za-z0-9]+", "-", f"{manifest.report_name}-{table.id}{suffix}")
    caption = escape(f"{table.title}. {above(table)}")
    fit = r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi"
    return (
        f"\\begin{{table}}[{where}]\n\\centering\\small\\setlength{{\\belowcaptionskip}}{{5pt}}\n"
        f"\\caption{{{caption}}}\n\\label{{tab:{label}}}\n"
        f"\\sbox0{{%\n{body}}}%\n{fit}\n{notes}\\end{{table}}\n"
    )


def _body(table: Table, notes: _Notes, marks: SignificanceMarks) -> str:
    """Return the `tabular`; controls follow a rule of their own."""
    kinds = "".join("r" if column.numeric else "l" for column in table.columns)
    lines = [f"\\begin{{tabular}}{{@{{}}{kinds}@{{}}}}", "\\toprule"]
    lines.append(_line([escape(column.label) for column in table.columns]))
    if any(column.unit for column in table.columns):
        lines.append(_line([_unit(column) for column in table.columns]))
    lines.append("\\midrule")
    wraps = _wraps(table)
    before = bool(table.rows) and table.rows[0].control
    for row in table.rows:
        if row.control and not before:
            lines.append("\\midrule")
            before = True
        fields = []
        for column, entry in _pairs(table, row):
            sign = marks.signs.get(_cell(row), "") if column.label == marks.column else ""
            raised = f"$^{{{_sign(sign)}}}$" if sign else ""
            numbers = notes.mark(entry)
            words = _lines_of(column, entry, wraps=wraps)
            whole = _field(entry) + raised + numbers
            fields.append(_stacked(words, numbers) if len(words) > 1 else whole)
        lines.append(_line(fields))
    lines += ["\\bottomrule", "\\end{tabular}", ""]
    return "\n".join(lines)


def _unit(column: Column) -> str:
    return f"\\scriptsize {escape(column.unit)}" if column.unit else ""


def _sign(sign: str) -> str:
    return "".join("{*}" if char == "*" else f"\\mbox{{{escape(char)}}}" for char in sign)


def _field(entry: Entry) -> str:
    """Return the text of an entry; a rank sets the mean, not its spread."""
    mean, spread, sd = entry.text.partition(" ± ")
    shown = f"\\textbf{{{escape(mean)}}}" if entry.rank else escape(mean)
    return f"{shown} {escape(spread + sd)}" if spread else shown


def _stacked(words: list[str], after: str) -> str:
    """Return words in several lines, the first one level with the row."""
    lines = r"\\".join(_no_argument(escape(line)) for line in words)
    return f"\\begin{{tabular}}[t]{{@{{}}l@{{}}}}{lines}{after}\\end{{tabular}}"


def _line(fields: list[str]) -> str:
    return _no_argument(" & ".join(fields)) + r" \\"


def _no_argument(line: str) -> str:
    """Return a line that is not read as an argument of the break before it."""
    return ("{}" if line.startswith(("[", "*")) else "") + line


def _plain(text: str) -> str:
    return re.sub(r"[^ -~]|\^", "?", text)
