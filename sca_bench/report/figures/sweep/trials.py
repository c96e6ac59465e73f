"""What the figures of a sweep show: slices, history, importance and front of its trials.

They show the numbers of Optuna's own figures, which a call of `sweep` left beside the runs; pruned
and failed trials are shown, too. `trials_draw` draws them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from sca_bench.metrics.registry import spec_of_value
from sca_bench.reading import is_number
from sca_bench.report.figures.plotted import PlottedSuite
from sca_bench.report.figures.registry import PlotSpec, Shown
from sca_bench.report.names import (
    COSTS,
    metric_label,
    metric_scale,
    metric_unit,
    short_axes,
    shown_number,
)
from sca_bench.report.read.sweeps import is_search, sweep_part
from sca_bench.study.runs.sweep_record import SweepRecord, SweptAxis, SweptObjective
from sca_bench.study.suite.yaml_values import same_value, show_value

_DRAW = "sca_bench.report.figures.sweep.trials_draw"
SLICES = PlotSpec(
    "sweep_slices",
    "What was searched, and what it gave",
    "Every trial by each searched setting.",
    facts=f"{__name__}:slices",
    draw=f"{_DRAW}:draw_slices",
    order=2,
)
HISTORY = PlotSpec(
    "sweep_history",
    "History of the search",
    "Every trial in its order.",
    facts=f"{__name__}:history",
    draw=f"{_DRAW}:draw_history",
    order=3,
)
IMPORTANCE = PlotSpec(
    "sweep_importance",
    "Which setting mattered",
    "How much each setting tells the best trials from the others.",
    facts=f"{__name__}:importance",
    draw=f"{_DRAW}:draw_importance",
    order=4,
)
FRONT = PlotSpec(
    "sweep_front",
    "The front of the search",
    "Every trial by two objectives.",
    facts=f"{__name__}:front",
    draw=f"{_DRAW}:draw_front",
    order=5,
)
SPECS = (SLICES, HISTORY, IMPORTANCE, FRONT)
MOST_SLICES = 6
FEW_TRIALS = 30
"""With fewer complete trials an importance is a hint."""
_IN_ALT = 8
_MISSING = (
    "Slices, history, importance and front were not kept when this sweep was last run. Run it "
    "again to get them; trials that are done are not trained again."
)
State = Literal["complete", "pruned", "fail"]


@dataclass(frozen=True, slots=True)
class Goal:
    """One objective as an axis.

    Attributes:
        label: In words, with the unit.
        name: In words, without one.
        factor: From natural units to those of the axis.
        maximize: Whether more is better.
        is_score: Whether it is a metric's score, which has tenths.
    """

    label: str
    name: str
    factor: float
    maximize: bool
    is_score: bool = False

    def shown(self, value: float) -> str:
        """Return a value (natural units) as texts show it."""
        return f"{value * self.factor:.1f}" if self.is_score else shown_number(value * self.factor)


@dataclass(frozen=True, slots=True)
class Tried:
    """One trial.

    Attributes:
        number: Its number.
        state: How it ended.
        values: One for each goal, units of the axes; empty where it has none.
        is_best: Whether it is the best one, or on the front.
        params: Searched setting -> its value.
    """

    number: int
    state: State
    values: tuple[float, ...]
    is_best: bool
    params: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Trials:
    """The data of history and front: every trial that ended, by number."""

    goals: tuple[Goal, ...]
    tried: tuple[Tried, ...]

    @property
    def complete(self) -> list[Tried]:
        """The trials with values."""
        return [one for one in self.tried if one.values]

    def best_so_far(self, goal: int) -> list[float]:
        """Return the best value of a goal up to each complete trial."""
        better = max if self.goals[goal].maximize else min
        return list(accumulate((one.values[goal] for one in self.complete), better))


@dataclass(frozen=True, slots=True)
class Slice:
    """One searched setting as a horizontal axis.

    Attributes:
        label: In words.
        key: Dotted name.
        is_log: Whether it was searched by powers.
        choices: Its values in words, where they are names or few; empty for a range.
        at: Number of a trial -> where it stands: its value, or the place of its choice.
    """

    label: str
    key: str
    is_log: bool
    choices: tuple[str, ...]
    at: dict[int, float]


@dataclass(frozen=True, slots=True)
class Slices:
    """The data of the slices: settings by falling importance, and the trials."""

    settings: tuple[Slice, ...]
    trials: Trials


@dataclass(frozen=True, slots=True)
class Importance:
    """The data of the importances: for each goal, (setting in words, share), largest first."""

    goals: tuple[str, ...]
    shares: tuple[tuple[tuple[str, float], ...], ...]


def history(suite: PlottedSuite) -> Shown | None:
    """Return `history_of` a suite's sweep; None for a suite of no sweep.

    Raises:
        InputError: A file of the runs folder cannot be read.
    """
    record = _searched(suite)
    if record is None and is_search(suite.data):
        return Shown(None, caption=_MISSING)
    return None if record is None else history_of(record)


def slices(suite: PlottedSuite) -> Shown | None:
    """Return `slices_of` a suite's sweep; None for a suite of no sweep.

    Raises:
        InputError: A file of the runs folder cannot be read.
    """
    record = _searched(suite)
    return None if record is None else slices_of(record)


def importance(suite: PlottedSuite) -> Shown | None:
    """Return `importance_of` a suite's sweep; None for a suite of no sweep.

    Raises:
        InputError: A file of the runs folder cannot be read.
    """
    record = _searched(suite)
    return None if record is None else importance_of(record)


def front(suite: PlottedSuite) -> Shown | None:
    """Return `front_of` a suite's sweep; None for a suite of no sweep.

    Raises:
        InputError: A file of the runs folder cannot be read.
    """
    record = _searched(suite)
    return None if record is None else front_of(record)


def _searched(suite: PlottedSuite) -> SweepRecord | None:
    """Return the sweep whose trials a suite is."""
    part = sweep_part(suite.data)
    return part.record if part is not None and part.is_search else None


def history_of(record: SweepRecord) -> Shown | None:
    """Return every trial in its order, with the best so far; None where none has ended."""
    trials = trials_of(record)
    if not trials.tried:
        return None
    line = " Line: the best so far." if len(trials.goals) == 1 else ""
    caption = f"Dots: trials, in their order.{line} {_ended(record)}"
    return Shown(trials, caption=caption, alt=f"Trials in their order. {_found(record)}")


def slices_of(record: SweepRecord) -> Shown | None:
    """Return every trial by each searched setting; None where no trial is complete."""
    if not record.complete:
        return None
    names = short_axes(axis.key for axis in record.axes)
    ordered = sorted(record.axes, key=lambda axis: -_weight(record, axis.key))  # stable
    shown = Slices(
        tuple(_slice(record, axis, names[axis.key]) for axis in ordered[:MOST_SLICES]),
        trials_of(record),
    )
    found = _found(record)
    caption = f"{found} Each dot is a trial with one seed on the validation split; earlier ones "
    caption += "are fainter. The confirmation on the test split says what holds."
    if left := [names[axis.key] for axis in ordered[MOST_SLICES:]]:
        caption += f" Not drawn: {', '.join(left)}."
    return Shown(shown, caption=caption, alt=f"Trials by each searched setting. {found}")


def importance_of(record: SweepRecord) -> Shown | None:
    """Return how much each setting mattered; None with fewer than two settings or trials."""
    names = short_axes(axis.key for axis in record.axes)
    pairs = zip(record.objectives, record.importances, strict=False)
    known = [(goal_of(objective).name, shares) for objective, shares in pairs if shares]
    if len(record.axes) < 2 or not known:
        return None
    shown = Importance(
        tuple(name for name, _ in known),
        tuple(
            tuple((names.get(key, key), share) for key, share in shares.items())
            for _, shares in known
        ),
    )
    said = "; ".join(
        f"{goal}: " + ", ".join(f"{name} {share:.2f}" for name, share in shares)
        for goal, shares in zip(shown.goals, shown.shares, strict=True)
    )
    count = len(record.complete)
    caption = "Share of what tells the best tenth of the trials from all (PED-ANOVA, by Optuna)."
    if count < FEW_TRIALS:
        caption += f" From {count} trials it is a hint."
    return Shown(shown, caption=caption, alt=f"Importance of settings. {said}")


def front_of(record: SweepRecord) -> Shown | None:
    """Return every trial by the objectives; None with one, or without complete trials."""
    trials = trials_of(record)
    if len(record.objectives) < 2 or not trials.complete:
        return None
    caption = "Squares on the line: no other trial is at least as good in all objectives and "
    caption += "better in one. One seed each: differences within the noise are none."
    return Shown(trials, caption=caption, alt=f"Front of the search. {_found(record)}")


def trials_of(record: SweepRecord) -> Trials:
    """Return the trials of a sweep that ended, in displayed units."""
    goals = tuple(map(goal_of, record.objectives))
    complete = {trial.number for trial in record.complete}
    ended: dict[str, State] = {"complete": "complete", "pruned": "pruned", "fail": "fail"}
    tried = [
        Tried(
            trial.number,
            ended[trial.state] if trial.state != "complete" or trial.number in complete else "fail",
            tuple(v * goal.factor for v, goal in zip(trial.values, goals, strict=True))
            if trial.number in complete
            else (),
            trial.number in record.best,
            trial.params,
        )
        for trial in record.trials
        if trial.state in ended
    ]
    return Trials(goals, tuple(sorted(tried, key=lambda one: one.number)))


def goal_of(objective: SweptObjective) -> Goal:
    """Return an objective as an axis: a score times 100, a cost as it is."""
    maximize = objective.direction == "maximize"
    kind, _, cost = objective.metric.partition(".")
    if kind == "cost":
        known = next((column for column in COSTS if column.key == cost), None)
        words = cost.replace("_", " ") if known is None else f"{known.label} {known.unit}"
        factor = 1.0 if known is None else known.factor
        return Goal(words, words, factor, maximize)
    if spec_of_value(objective.metric) is None:  # a metric of a package that is not here
        return Goal(objective.metric, objective.metric, 1.0, maximize)
    label = metric_label(objective.metric)
    unit = f"{label} ({metric_unit(objective.metric)})"
    return Goal(unit, label, metric_scale(objective.metric), maximize, True)


def _slice(record: SweepRecord, axis: SweptAxis, label: str) -> Slice:
    values = {t.number: t.params[axis.key] for t in record.complete if axis.key in t.params}
    if axis.kind != "choices" and all(map(is_number, values.values())):
        at = {number: float(value) for number, value in values.items()}
        return Slice(label, axis.key, axis.log, (), at)
    choices: list[Any] = list(axis.choices)
    for value in values.values():
        if not any(same_value(value, choice) for choice in choices):
            choices.append(value)
    if all(map(is_number, choices)):
        choices.sort()
    places = {
        number: float(next(i for i, choice in enumerate(choices) if same_value(choice, value)))
        for number, value in values.items()
    }
    return Slice(label, axis.key, False, tuple(map(show_value, choices)), places)


def _weight(record: SweepRecord, key: str) -> float:
    return sum(shares.get(key, 0.0) for shares in record.importances)


def _ended(record: SweepRecord) -> str:
    """Return how many trials ended how."""
    states = [trial.state for trial in record.trials]
    words = {"complete": "complete", "pruned": "pruned", "fail": "failed"}
    counts = [f"{states.count(s)} {word}" for s, word in words.items() if s in states]  # type: ignore[arg-type]
    return f"{len(states)} trials: {', '.join(counts)}."


def _found(record: SweepRecord) -> str:
    """Return the best trial, or the front, in a sentence."""
    best = [trial for trial in record.complete if trial.number in record.best]
    if not best:
        return "No trial has a value."
    goals = [goal_of(objective) for objective in record.objectives]
    names = short_axes(axis.key for axis in record.axes)

    def said(number: int, values: Sequence[float], params: dict[str, Any]) -> str:
        scores = ", ".join(
            f"{goal.name} {goal.shown(value)}" for goal, value in zip(goals, values, strict=True)
        )
        where = ", ".join(f"{names.get(key, key)} {short(value)}" for key, value in params.items())
        return f"#{number} ({where}) with {scores}"

    each = [said(trial.number, trial.values, trial.params) for trial in best[:_IN_ALT]]
    more = f"; and {len(best) - len(each)} more" if len(best) > len(each) else ""
    kind = "Best trial" if len(goals) == 1 else "On the front"
    return f"{kind}: {'; '.join(each)}{more}."


def short(value: Any) -> str:
    """Return a searched value in three digits, or as suites write it."""
    if isinstance(value, float):
        return show_value(float(f"{value:.3g}"))
    return show_value(value)
