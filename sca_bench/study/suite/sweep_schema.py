"""The YAML of a sweep as it is written: every key that may stand in it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sca_bench.settings.base import StrictScalars
from sca_bench.study.suite.schema import NamedPath, Stage

MOST_TRIALS, MOST_AT_ONCE = 100_000, 1_000
"""Trials of a sweep, and those that are asked for at once."""


class _Strict(StrictScalars, BaseModel):
    model_config = ConfigDict(extra="forbid")


class Dimension(_Strict):
    """One searched setting: `{choices: [...]}`, or `{low, high}` with `log` or `step`.

    Attributes:
        low: Smallest value.
        high: Largest value.
        step: Values lie this far apart; any value between the ends where it is not given.
        log: Search orders of magnitude evenly.
        choices: The values themselves, in place of a range.
    """

    low: int | float | None = None
    high: int | float | None = None
    step: int | float | None = None
    log: bool = False
    choices: list[Any] | None = None


class Objective(_Strict):
    """A number to push up or down.

    Attributes:
        metric: A metric of the validation split, or `cost.num_trainable_params` and the like.
        direction: Which way is better.
    """

    metric: str
    direction: Literal["maximize", "minimize"]


class Named(BaseModel):
    """A class of optuna by name; every other key is an argument of it.

    Attributes:
        name: Name of the class, such as `TPESampler`.
    """

    model_config = ConfigDict(extra="allow")

    name: str

    @property
    def arguments(self) -> dict[str, Any]:
        """The keys beside `name`."""
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _truth_values_are_written_out(self) -> Named:
        # Nothing here says which arguments are truth values, and every text counts as true.
        for key, value in self.arguments.items():
            if isinstance(value, str) and value.lower() in ("yes", "no", "on", "off"):
                raise ValueError(f"{key}: {value} is text; write true or false")
        return self


class Confirm(_Strict):
    """The best configuration once more, on the test split, with seeds no trial has used.

    Attributes:
        seeds: The seeds.
        default: Whether the configuration of `base` alone is trained, too, with the same seeds: the
            report then says how much better the search is than not searching.
    """

    seeds: list[int] = Field([100, 101, 102], min_length=1)
    default: bool = False


class SweepPatch(_Strict):
    """What a sweep changes for one profile; given lists and mappings replace the sweep's own."""

    base: dict[str, Any] = {}
    space: dict[str, Dimension] | None = Field(None, min_length=1)
    trials: int | None = Field(None, ge=1, le=MOST_TRIALS)
    batch: int | None = Field(None, ge=1, le=MOST_AT_ONCE)
    metrics: list[str] | None = None
    stages: dict[str, Stage] | None = None
    confirm: Confirm | None = None


class SweepFile(_Strict):
    """A search, as the YAML file of a sweep states it.

    Attributes:
        sweep: Its name: letters, digits, `_` and `-`.
        question: What it asks, one sentence.
        profile: The scale that it runs at where nobody names another one.
        base: Settings of all trials.
        space: Setting -> the values it may take.
        objectives: What is optimised; several give a front instead of one best configuration.
        metrics: Further metrics that trials and confirmation are scored by.
        trials: How many configurations are tried in all.
        batch: How many are asked at once and trained as one lockstep group.
        seed: Of the sampler.
        train_seed: Of every trial.
        pruner: Stops trials that fall behind; none where it is not given.
        prune_on: Validation value of `log.jsonl` that the pruner sees.
        storage: SQLAlchemy URL, or `journal:FILE`; SQLite in the runs folder where not given.
        sampler: The class of optuna that proposes trials.
        confirm: How the best configuration is run again.
        stages: Name -> a training before the cell's own, which `pretraining` names.
        paths: Name -> a file or folder, which settings name as `{name}`.
        profiles: Profile -> what is another way there.
    """

    sweep: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,189}$")
    question: str
    profile: str = "tiny"
    base: dict[str, Any] = {}
    space: dict[str, Dimension] = Field(min_length=1)
    objectives: list[Objective] = Field(min_length=1)
    metrics: list[str] = []
    trials: int = Field(ge=1, le=MOST_TRIALS)
    batch: int = Field(4, ge=1, le=MOST_AT_ONCE)
    seed: int = Field(0, ge=0)
    train_seed: int = Field(0, ge=0)
    sampler: Named = Named(name="TPESampler")
    pruner: Named | None = None
    prune_on: Literal["val/exact_match", "val/loss"] = "val/exact_match"
    storage: str | None = None
    confirm: Confirm = Confirm()
    stages: dict[str, Stage] = {}
    paths: dict[str, NamedPath] = {}
    profiles: dict[str, SweepPatch] = {}
