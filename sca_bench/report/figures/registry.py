"""The plots of a report by name: what each shows, and what draws it; no matplotlib here.

Another package adds one through the entry-point group `sca_bench.plots`: a `PlotSpec` whose `facts`
get a `plotted.PlottedSuite` and whose `draw` gets what these return.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from sca_bench.plugins import Registry, is_address

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class PlotSpec:
    """One plot.

    Attributes:
        name: Of its files, such as `metric_over_axis.png`: small letters, digits and _.
        title: Its heading in the report.
        caption: How to read it.
        facts: `module:attribute` of a function that gets a `plotted.PlottedSuite` and returns what
            the plot shows: anything that `draw` understands, a `Shown` or a list of these where
            texts depend on what is shown, or None where there is nothing to show. Imported on use.
        draw: `module:attribute` of a function that gets these facts and returns a matplotlib
            `Figure`, or None. It is called inside the report's style; imported on use.
        alt: What the figure shows, for those who cannot see it; the title where empty.
        order: Where it stands in the report, rising; those of this package have 1 to 50.
        summary: One line for lists; the title where empty.
        fault: Why it cannot be drawn at all: a package that does not import.
    """

    name: str
    title: str
    caption: str
    facts: str
    draw: str
    alt: str = ""
    order: int = 100
    summary: str = ""
    fault: str = ""

    def named_code(self) -> dict[str, str]:
        """Return what it names as `module:attribute`, by field."""
        return {"facts": self.facts, "draw": self.draw}


@dataclass(frozen=True, slots=True)
class Shown:
    """One figure of a plot, where its texts depend on what it shows.

    Attributes:
        facts: What `draw` gets; None where there is nothing to draw, and the caption says why.
        title: Heading; the spec's where empty.
        caption: How to read it; the spec's where empty.
        alt: What the figure shows; the spec's where empty.
        name: Of its files, the spec's name or that with `_` and more behind it; the spec's where
            empty.
    """

    facts: Any = field(repr=False)
    title: str = ""
    caption: str = ""
    alt: str = ""
    name: str = ""


def _fault_of(spec: PlotSpec) -> str:
    if not _NAME.fullmatch(str(spec.name)):
        return f"names its plot {spec.name!r}, expected small letters, digits and _"
    for key, path in spec.named_code().items():
        if not is_address(path):
            return f"has {key} {path!r}, expected 'module:attribute'"
    if not isinstance(spec.title, str) or not spec.title.strip():
        return "has no title"
    return "" if isinstance(spec.order, int) else f"has order {spec.order!r}, expected a number"


def _broken(name: str, value: str, fault: str) -> PlotSpec:
    return PlotSpec(name, name, "", value, value, fault=fault)


PLOTS = Registry(
    "sca_bench.plots",
    PlotSpec,
    "plot",
    (
        "sca_bench.report.figures.headline.headline:SPEC",
        "sca_bench.report.figures.sweep.trials:SPECS",
        "sca_bench.report.figures.forest:SPEC",
        "sca_bench.report.figures.axis:SPEC",
        "sca_bench.report.figures.pareto:SPEC",
        "sca_bench.report.figures.distribution:SPEC",
        "sca_bench.report.figures.curves:SPEC",
    ),
    fault_of=_fault_of,
    broken=_broken,
)
"""The plots there are."""


def plots_in_order() -> list[PlotSpec]:
    """Return every plot in the report's order: `order`, then name."""
    return sorted(PLOTS.all().values(), key=lambda spec: (spec.order, spec.name))
