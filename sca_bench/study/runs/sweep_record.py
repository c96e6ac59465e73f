"""What is written about one sweep beside its storage: all that a report shows of its search.

`sweeps/<sweep>.<profile>.json` in the runs folder, plain JSON, written anew after every batch. It
can be rebuilt from the storage by running the sweep again, which trains nothing anew.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from sca_bench.errors import InputError
from sca_bench.files import inside, path_name, write_atomic
from sca_bench.reading import RECORD_BYTES, read_bytes
from sca_bench.study.runs.record import MOST_RUNS, NEWER, Seed, known_version
from sca_bench.study.runs.store import MOST_STEPS, SWEEPS, Store

VERSION = 1
State = Literal["complete", "pruned", "fail", "running", "waiting"]
MOST = 1e15
"""More than any objective has, and few enough for a figure's axis."""
_Value = Annotated[float, Field(ge=-MOST, le=MOST, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1.001, allow_inf_nan=False)]
_Count = Annotated[int, Field(ge=0, le=MOST_STEPS)]
_REBUILD = "delete it and run the sweep again, which trains nothing anew"


class _Stored(BaseModel):
    model_config = ConfigDict(extra="ignore")


class SweptObjective(_Stored):
    """A number that was pushed up or down."""

    metric: str
    direction: Literal["maximize", "minimize"]


class SweptAxis(_Stored):
    """A setting that was searched.

    Attributes:
        key: Dotted name of the setting.
        kind: Whole numbers, numbers, or named values.
        low: Lower end of the range.
        high: Upper end.
        log: Whether it was searched by powers.
        choices: The values, for named ones.
    """

    key: str
    kind: Literal["int", "float", "choices"]
    low: _Value = 0.0
    high: _Value = 0.0
    log: bool = False
    choices: list[Any] = []


class SweptTrial(_Stored):
    """One configuration that was tried.

    Attributes:
        number: Its number, from 0.
        state: How it ended.
        values: One for each objective, natural units; empty where it has none.
        params: Searched setting -> its value.
        name: Name of its cell; empty where its parameters made none.
        cell_id: Key of its cell, captioned on the validation split.
        reason: Why it has no values.
        last_step: Step of its last validation that a pruner saw; None where none was asked.
    """

    number: _Count
    state: State
    values: list[_Value] = []
    params: dict[str, Any] = {}
    name: str = ""
    cell_id: str = ""
    reason: str = ""
    last_step: _Count | None = None


class ConfirmedCell(_Stored):
    """A cell that was trained with fresh seeds and scored on the test split.

    Attributes:
        name: Its name.
        cell_id: Its key.
        trial: Number of the trial that it confirms; None for the configuration of `base` alone.
    """

    name: str
    cell_id: str
    trial: int | None = None


class SweepRecord(_Stored):
    """A sweep as it was last run.

    Attributes:
        version: Of this form.
        sweep: Its name.
        profile: Its profile.
        study: Name of its study in the storage.
        question: What it asks.
        sampler: Name of Optuna's sampler.
        planned: How many trials were asked for in all.
        train_seed: The seed of every trial.
        objectives: What was optimised.
        axes: What was searched.
        trials: What was tried, by number.
        best: Number of the best trial, or those of the front.
        importances: For each objective, setting -> its share (0 to 1) by Optuna's PED-ANOVA; empty
            with fewer than two complete trials.
        seeds: Seeds of the confirmation.
        confirmed: Its cells.
    """

    version: Annotated[int, AfterValidator(known_version)] = VERSION
    sweep: str
    profile: str
    study: str = ""
    question: str = ""
    sampler: str = ""
    planned: int = 0
    train_seed: Seed = 0
    objectives: list[SweptObjective] = Field(min_length=1)
    axes: list[SweptAxis] = Field(min_length=1)
    trials: list[SweptTrial] = []
    best: list[int] = []
    importances: list[dict[str, _Share]] = []
    seeds: list[Seed] = []
    confirmed: list[ConfirmedCell] = []

    @property
    def complete(self) -> list[SweptTrial]:
        """The trials that have a value for each objective."""
        return [t for t in self.trials if t.state == "complete" and self._is_whole(t)]

    def _is_whole(self, trial: SweptTrial) -> bool:
        return len(trial.values) == len(self.objectives)


def sweep_path(store: Store, sweep: str, profile: str) -> Path:
    """Return the file of a sweep (it may not exist yet).

    Raises:
        InputError: A name can be no file's, or a link leads out of the runs folder.
    """
    names = path_name(sweep, store.root, "sweep"), path_name(profile, store.root, "profile")
    return inside(store.root, store.root / SWEEPS / f"{'.'.join(names)}.json")


def save_sweep(store: Store, record: SweepRecord) -> Path:
    """Write what a report shows of a sweep, atomically."""
    path = sweep_path(store, record.sweep, record.profile)
    write_atomic(path, record.model_dump_json(indent=1) + "\n")
    return path


def read_sweep(store: Store, sweep: str, profile: str) -> SweepRecord | None:
    """Return what was written about a sweep; None where nothing was.

    Raises:
        InputError: The file is damaged, of another sweep, or of a newer version.
    """
    path = sweep_path(store, sweep, profile)
    if not path.exists():
        return None
    try:
        record = SweepRecord.model_validate_json(read_bytes(path, RECORD_BYTES))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == NEWER:
            raise InputError(path, "", first["msg"][:200], "update sca_bench") from None
        reason = ": ".join((*(str(part)[:40] for part in first["loc"]), first["msg"][:200]))
        raise InputError(path, "", f"damaged file ({reason})", _REBUILD) from None
    if (record.sweep, record.profile) != (sweep, profile):
        problem = f"is the record of {record.sweep}.{record.profile}, not of this name"
        raise InputError(path, "", problem, _REBUILD)
    if len(record.confirmed) * len(record.seeds) > MOST_RUNS:
        raise InputError(path, "confirmed", f"more than {MOST_RUNS:,} runs", _REBUILD)
    for number, trial in enumerate(record.trials, start=1):
        if trial.cell_id:
            path_name(trial.cell_id, path, f"trials: {number}: cell_id")
    for number, cell in enumerate(record.confirmed, start=1):
        path_name(cell.cell_id, path, f"confirmed: {number}: cell_id")
    return record
