"""What a plot must keep to, as tests that a third party's own tests inherit.

    from sca_bench.contract import PlotContract

    class TestMine(PlotContract):
        spec = my_package.SPEC

It is drawn of a made-up suite (three depths, a control, two seeds), and of one without any run.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from sca_bench.contract.broken import Broken, expect, skip
from sca_bench.contract.fake_suite import fake_suite
from sca_bench.contract.spec import SpecContract
from sca_bench.digests import file_sha256
from sca_bench.plugins import Registry, attribute
from sca_bench.report.figures.plotted import PlottedSuite
from sca_bench.report.figures.registry import PLOTS, PlotSpec, Shown
from sca_bench.report.figures.style import figure_style
from sca_bench.report.findings.claims import claim_results
from sca_bench.report.findings.differences import differences
from sca_bench.report.findings.paper import read_paper
from sca_bench.report.read.samples import Samples
from sca_bench.report.read.suite_data import collect
from sca_bench.walk import walk


class PlotContract(SpecContract):
    """Tests of one plot; see the module.

    Attributes:
        spec: The plot.
    """

    spec: PlotSpec
    code = ("facts", "draw")

    @classmethod
    def registry(cls) -> Registry[Any]:
        """Return the registry of plots."""
        return PLOTS

    def summary(self) -> str:
        """Return the line by which lists show it: its title, where it has no summary."""
        return self.spec.summary or self.spec.title

    def suite(self, *, with_runs: bool = True) -> PlottedSuite:
        """Return the made-up suite as plots get it."""
        root = self.folder / ("runs" if with_runs else "no_runs")
        data = collect(*fake_suite(root, with_runs=with_runs))
        samples = Samples(data)
        compared = differences(data, samples, data.main_metric)
        claims = claim_results(data, samples)
        return PlottedSuite(data, samples, compared, claims, read_paper(data, self.folder))

    def test_it_is_drawn(self) -> None:
        """Facts of a suite with runs are drawn as a figure, or there is nothing to show."""
        drawn = [self._drawn(shown) for shown in self._shown(self.suite())]
        if not any(drawn):
            skip("it has nothing to show of the made-up suite")

    def test_it_is_drawn_without_runs(self) -> None:
        """A suite none of whose runs is done makes no error: a figure, or nothing."""
        for shown in self._shown(self.suite(with_runs=False)):
            self._drawn(shown)

    def test_facts_come_before_drawing(self) -> None:
        """What `facts` returns is data: no figure, and nothing is drawn to find it."""
        from matplotlib import pyplot

        before = pyplot.get_fignums()
        rule, fix = "facts that are data", "draw in `draw`, from what `facts` returns"
        for shown in self._shown(self.suite()):
            right = not isinstance(shown.facts, Figure)
            expect(right, rule, type(shown.facts).__name__, fix)
        opened = pyplot.get_fignums() != before
        expect(not opened, f"{rule}, and no figure of pyplot", "pyplot has one open", fix)

    def test_the_same_picture_twice(self) -> None:
        """The same suite gives the same bytes."""
        pictures = []
        for _ in range(2):
            figures = [self._drawn(shown) for shown in self._shown(self.suite())]
            pictures.append([_bytes(figure) for figure in figures if figure is not None])
        rule = "the same picture a second time"
        fix = "draw nothing at random, write no time of day, and put sets in order"
        expect(pictures[0] == pictures[1], rule, "another one", fix)

    def test_it_leaves_no_figure_open(self) -> None:
        """A report draws many figures; those that pyplot keeps stay in memory."""
        from matplotlib import pyplot

        before = pyplot.get_fignums()
        for shown in self._shown(self.suite()):
            self._drawn(shown)
        rule = "no figure that pyplot keeps open"
        fix = "make it by `matplotlib.figure.Figure(...)`, not by pyplot"
        expect(pyplot.get_fignums() == before, rule, "one is left", fix)

    def test_it_writes_nothing(self) -> None:
        """The report writes its figures; the runs folder and the working directory stay alone."""
        suite, here = self.suite(), self.folder / "here"
        here.mkdir()
        before = _files(self.folder)
        with contextlib.chdir(here):
            for shown in self._shown(suite):
                self._drawn(shown)
        changed = sorted(name for name, _ in before ^ _files(self.folder))
        rule, fix = "folders that are as they were", "return the figure; the report writes it"
        expect(not changed, rule, f"written: {', '.join(changed[:3])}", fix)

    def _shown(self, suite: PlottedSuite) -> list[Shown]:
        try:
            facts = attribute(self.spec.facts)(suite)
        except Exception as error:
            rule = "facts, or None where there is nothing to show"
            fix = "look whether there are cells, runs and scores before you compute with them"
            raise Broken(rule, f"{type(error).__name__}: {error}", fix) from error
        several = isinstance(facts, list | tuple) and all(isinstance(f, Shown) for f in facts)
        found = list(facts) if several else [facts]
        return [f if isinstance(f, Shown) else Shown(f) for f in found]

    def _drawn(self, shown: Shown) -> Figure | None:
        if shown.facts is None:
            return None
        rule, fix = "a matplotlib Figure, or None", "return the figure from `draw`"
        with figure_style():
            try:
                figure: Any = attribute(self.spec.draw)(shown.facts)
            except Exception as error:
                raise Broken(rule, f"{type(error).__name__}: {error}", fix) from error
        expect(figure is None or isinstance(figure, Figure), rule, type(figure).__name__, fix)
        return figure if isinstance(figure, Figure) else None


def _bytes(figure: Figure) -> str:
    with io.BytesIO() as file, figure_style():
        figure.savefig(file, format="png", metadata={"Software": None})
        return hashlib.sha256(file.getvalue()).hexdigest()


def _files(folder: Path) -> set[tuple[str, str]]:
    return {(name, file_sha256(path)) for name, path in walk(folder)}
