"""What a report shows of a sweep, taken from Optuna's study: the numbers of Optuna's own figures.

The report knows no Optuna, and a storage may lie elsewhere. So each call of a sweep leaves a file
beside the runs (`study.runs.sweep_record`).
"""

from __future__ import annotations

import math
import warnings

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial

from sca_bench.engine.sweep.sweeper import CELL, NAME, REASON, Sweeper
from sca_bench.study.plan.plan import Plan
from sca_bench.study.runs.sweep_record import (
    MOST,
    ConfirmedCell,
    SweepRecord,
    SweptAxis,
    SweptObjective,
    SweptTrial,
)
from sca_bench.study.suite.sweep import Sweep


def sweep_record(sweeper: Sweeper, confirmation: Plan | None = None) -> SweepRecord:
    """Return what a report shows of a sweep as it is now.

    Args:
        sweeper: The sweep.
        confirmation: The plan of its confirmation, where there is one yet.
    """
    sweep = sweeper.sweep
    trials = [_trial(sweep, trial) for trial in sweeper.trials]
    best = sweeper.best()
    return SweepRecord(
        sweep=sweep.spec.sweep,
        profile=sweep.profile,
        study=sweeper.name,
        question=sweep.spec.question,
        sampler=sweep.spec.sampler.name,
        planned=sweep.trials,
        train_seed=sweep.spec.train_seed,
        objectives=[
            SweptObjective(metric=o.metric, direction=o.direction) for o in sweep.spec.objectives
        ],
        axes=[
            SweptAxis(
                key=axis.key,
                kind=axis.kind,
                low=axis.low,
                high=axis.high,
                log=axis.log,
                choices=list(axis.choices),
            )
            for axis in sweep.axes
        ],
        trials=trials,
        best=[trial.number for trial in best],
        importances=importances(sweeper.study),
        seeds=list(sweep.seeds),
        confirmed=[] if confirmation is None else _confirmed(confirmation, best),
    )


def importances(study: optuna.Study) -> list[dict[str, float]]:
    """Return each objective's setting -> its share of what tells the best trials from the others.

    Shares of 0 to 1 that add up to 1, the largest first, as Optuna's figure of importances shows
    them by default (PED-ANOVA). Nothing for a study with fewer than two complete trials, or for
    one that Optuna refuses.
    """
    complete = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if len(complete) < 2:
        return []
    found = []
    for number, direction in enumerate(study.directions):
        sign = -1.0 if direction == optuna.study.StudyDirection.MAXIMIZE else 1.0

        def cost(trial: FrozenTrial, number: int = number, sign: float = sign) -> float:
            return sign * float(trial.values[number])

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it takes low values for good ones, as we give it
            try:
                shares = get_param_importances(
                    study, evaluator=PedAnovaImportanceEvaluator(), target=cost
                )
            except (ValueError, RuntimeError, ZeroDivisionError):
                shares = {}
        finite = {key: float(value) for key, value in shares.items() if math.isfinite(value)}
        found.append(finite)
    return found


def _trial(sweep: Sweep, trial: FrozenTrial) -> SweptTrial:
    facts = trial.user_attrs
    values = [float(value) for value in trial.values or ()]
    return SweptTrial(
        number=trial.number,
        state=trial.state.name.lower(),  # type: ignore[arg-type]
        values=values if all(abs(value) <= MOST for value in values) else [],
        params={
            axis.key: axis.value_of(trial.params[axis.key])
            for axis in sweep.axes
            if axis.key in trial.params
        },
        name=facts.get(NAME, ""),
        cell_id=facts.get(CELL, ""),
        reason=str(facts.get(REASON, "")),
        last_step=trial.last_step,
    )


def _confirmed(plan: Plan, best: list[FrozenTrial]) -> list[ConfirmedCell]:
    """Return the cells of a confirmation; they stand in the order of the trials."""
    numbers = [trial.number for trial in best]
    return [
        ConfirmedCell(
            name=cell.name,
            cell_id=cell.cell_id,
            trial=numbers[at] if at < len(numbers) else None,
        )
        for at, cell in enumerate(plan.cells)
    ]
