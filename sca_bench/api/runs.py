"""A runs folder from Python: scores, captions, verdicts as pandas frames, and figures. No torch."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sca_bench.errors import InputError, did_you_mean
from sca_bench.study.runs.record import SuiteManifest
from sca_bench.study.runs.store import Store

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from sca_bench.report.findings.headline import Headline
    from sca_bench.report.read.suite_data import CellRuns, SuiteData
    from sca_bench.study.suite.suite import Suite

_HEADLINE = "headline_figure"
"""The plot that answers the suite's question."""


class Runs:
    """A runs folder, read only. Every method reads the files as they are when it is called.

    A suite is given by its name as `list runs` and reports print it (`mixer_layers`, or
    `mixer_layers.small` for another profile than its own), or as `load_suite` returned it.

    Args:
        runs_dir: The runs folder.
        reports_dir: Folder of the reports; a `published.csv` in it is read in place of that of the
            package.
    """

    def __init__(
        self, runs_dir: str | Path = "runs", *, reports_dir: str | Path = "reports"
    ) -> None:
        self.store, self.reports_dir = Store(runs_dir), Path(reports_dir)

    def __repr__(self) -> str:
        """Name the folder."""
        return f"Runs({str(self.store.root)!r})"

    def suites(self) -> pd.DataFrame:
        """Return the suites that were run into the folder, one a row.

        Columns: suite (the name that all methods take), profile, question, cells and seeds (how
        many), metrics, created (UTC).

        Raises:
            InputError: A file of a suite is damaged.
        """
        import pandas as pd

        columns = ["suite", "profile", "question", "cells", "seeds", "metrics", "created"]
        rows = [
            (
                one.report_name,
                one.profile,
                one.question,
                len(one.cells),
                len(one.seeds),
                ", ".join(one.metrics),
                one.created,
            )
            for one in self.store.manifests()
        ]
        return pd.DataFrame.from_records(rows, columns=columns)

    def scores(self, suite: str | Suite) -> pd.DataFrame:
        """Return every score and cost of every run, one value a row.

        Columns: suite, cell, control, a column for each axis (such as `mixer.num_layers`), seed,
        metric (costs begin with `cost/`), value (natural units: CIDEr-D ends at 10, nearly all
        others at 1), printed (as papers print it: a score times 100, counts as they are), signature
        and region_set (short hashes of how it was measured), reason (why there is none), cell_id.
        A missing value is NaN.

        Raises:
            InputError: No such suite, or numbers of one metric were measured in different ways.
        """
        from sca_bench.report.names import metric_scale
        from sca_bench.report.read.suite_data import COST
        from sca_bench.report.tables.csv import coordinate_of

        data = self._data(suite)
        frame = data.scores.frame
        cells = {cell.entry.cell_id: cell.entry for cell in data.cells}
        scale = {
            m: 1.0 if m.startswith(COST) else metric_scale(m) for m in frame["metric"].unique()
        }
        printed = frame["value"] * frame["metric"].map(scale)
        axes = {
            axis: [coordinate_of(cells[cell], axis) for cell in frame["cell_id"]]
            for axis in data.manifest.axes
        }
        order = [*("suite", "cell", "control"), *axes, *("seed", "metric", "value", "printed")]
        order += ["signature", "region_set", "reason", "cell_id"]
        return frame.assign(printed=printed, **axes)[order]

    def predictions(
        self, suite: str | Suite, cell: str | None = None, *, metrics: Sequence[str] = ()
    ) -> pd.DataFrame:
        """Return the captions of every finished run, one region a row.

        Args:
            suite: The suite.
            cell: Name of one cell; all where None.
            metrics: Values such as `cider_d` whose score of each region becomes a column (natural
                units; NaN where a metric has none by region).

        Returns:
            Columns: cell, seed, image_id, region_id, caption, references (a tuple of texts),
            box_xyxy (left, top, right, bottom in pixels of the original image; None where the run
            did not keep it), then the metrics.

        Raises:
            InputError: No such suite or cell, or a file of a run is damaged.
        """
        import pandas as pd

        from sca_bench.report.read.suite_data import load_region_scores

        data = self._data(suite)
        columns = ["cell", "seed", "image_id", "region_id", "caption", "references", "box_xyxy"]
        rows: list[tuple[Any, ...]] = []
        for one in _named(data, cell):
            for record in one.done:
                run = (one.entry.cell_id, record.seed)
                scores = [load_region_scores(data.store, *run, metric) for metric in metrics]
                rows += [
                    (
                        *(one.entry.name, record.seed, row.image_id, name),
                        *(row.caption, row.references, row.box_xyxy),
                        *(of.get(name, float("nan")) for of in scores),
                    )
                    for name, row in data.store.predictions(*run).items()
                ]
        for fault in data.store.faults.values():
            raise fault
        return pd.DataFrame.from_records(rows, columns=[*columns, *metrics])

    def verdicts(self, suite: str | Suite) -> pd.DataFrame:
        """Return the verdict on each claim, one a row: the columns of a report's `claims.csv`.

        Among them: claim, says, metric, left and right (names of cells), verdict (`reproduced`,
        `contradicted`, `undecided`, `not comparable`), difference (left minus right), low and high
        (its 95 % interval), all in natural units; p, p_holm; sentence (the answer in words). A
        suite without claims has its best cell beside each other one, and no verdicts.

        Raises:
            InputError: No such suite, or a claim cannot be read.
        """
        from sca_bench.report.findings.answer import answer_of
        from sca_bench.report.findings.claims import claim_results
        from sca_bench.report.findings.paper import read_paper
        from sca_bench.report.read.samples import Samples
        from sca_bench.report.tables.csv import claims_frame

        data = self._data(suite)
        samples = Samples(data)
        paper = read_paper(data, self.reports_dir)
        answer = answer_of(data, samples, claim_results(data, samples), paper)
        headline = answer.headline
        return claims_frame(answer.results, headline.sentences, headline.scope)

    def headline(self, suite: str | Suite) -> Headline:
        """Return the answer in words: `print` it, or read its `sentences`, `sure` and `cost`.

        Raises:
            InputError: No such suite, or a claim cannot be read.
        """
        from sca_bench.report.findings.answer import read_headline

        return read_headline(self.store, self._manifest(suite), self.reports_dir)

    def figures(self, suite: str | Suite) -> list[str]:
        """Return the names of the figures that the suite's report has, in its order.

        Raises:
            InputError: No such suite.
        """
        from sca_bench.plugins import is_own
        from sca_bench.report.figures.plotted import read_plotted
        from sca_bench.report.figures.registry import plots_in_order
        from sca_bench.report.figures.write_figures import shown_by

        plotted = read_plotted(self.store, self._manifest(suite), self.reports_dir)
        names: list[str] = []
        for spec in plots_in_order():
            try:
                shown = [] if spec.fault else shown_by(spec, plotted)
            except (Exception, SystemExit) as error:
                if is_own(spec.facts):
                    raise
                warnings.warn(f"the plot {spec.name} cannot be drawn: {error!r}", stacklevel=2)
                continue
            names += [one.name for one in shown if one.facts is not None]
        return names

    def figure(self, suite: str | Suite, name: str = _HEADLINE) -> Figure:
        """Draw one figure of the suite's report; a notebook shows it where it ends a cell.

        Args:
            suite: The suite.
            name: Its name (see `figures`); the figure that answers the question if not given.

        Raises:
            InputError: No such suite or figure, or it has nothing to show.
        """
        from sca_bench.report.figures.plotted import read_plotted
        from sca_bench.report.figures.registry import plots_in_order
        from sca_bench.report.figures.style import figure_style
        from sca_bench.report.figures.write_figures import drawn, shown_by

        specs = [spec for spec in plots_in_order() if not spec.fault]
        fitting = [spec for spec in specs if name == spec.name or name.startswith(f"{spec.name}_")]
        if not fitting:
            fix = did_you_mean(name, [spec.name for spec in specs], "list plots")
            raise InputError(None, "figure", f"{name!r} is unknown", fix)
        plotted = read_plotted(self.store, self._manifest(suite), self.reports_dir)
        why = ""
        for spec in fitting:
            for shown in shown_by(spec, plotted):
                if shown.name == name:
                    with figure_style():
                        figure = drawn(spec, shown)
                    if figure is not None:
                        figure._repr_png_ = partial(_png, figure)  # type: ignore[attr-defined]
                        return figure
                    why = f" ({shown.caption})"
        names = ", ".join(self.figures(suite)) or "none"
        problem = f"{name!r} has nothing to show of this suite{why}"
        raise InputError(None, "figure", problem, f"it has {names}")

    def _data(self, suite: str | Suite) -> SuiteData:
        from sca_bench.report.read.suite_data import collect

        return collect(self.store, self._manifest(suite))

    def _manifest(self, suite: str | Suite) -> SuiteManifest:
        name = suite if isinstance(suite, str) else f"{suite.spec.suite}.{suite.profile}"
        found = self.store.manifests(faults=[])
        named = [one for one in found if one.is_called(name)]
        exact = [one for one in named if one.report_name == name] or named
        if len(exact) == 1:
            return exact[0]
        if exact:
            fix = f"name one: {', '.join(one.report_name for one in exact)}"
            raise InputError(self.store.root, name, "was run in several profiles", fix)
        self.store.manifests()  # a damaged file may be the one that is meant
        fix = did_you_mean(name, [one.report_name for one in found])
        if not found:
            fix = "run a suite first"
        raise InputError(self.store.root, name, "was not run into this folder", fix)


def _named(data: SuiteData, cell: str | None) -> list[CellRuns]:
    """Return the cells of a suite, or the one that is called so.

    Raises:
        InputError: None is.
    """
    cells = [one for one in data.cells if cell in (None, one.entry.name, *one.entry.also)]
    if not cells:
        known = [one.entry.name for one in data.cells]
        where = data.manifest.report_name
        raise InputError(where, str(cell), "no cell is called so", did_you_mean(str(cell), known))
    return cells


def _png(figure: Figure) -> bytes:
    """Return a figure as a notebook shows it, whatever pyplot was told."""
    from sca_bench.report.figures.style import figure_style

    with figure_style(), io.BytesIO() as drawn:
        figure.savefig(drawn, format="png", dpi=110, bbox_inches=None)
        return drawn.getvalue()
