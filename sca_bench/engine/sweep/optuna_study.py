"""All contact with optuna's parts: storage, sampler, pruner and distributions from a sweep's YAML.

A sampler is built anew for every trial, from the sweep's seed and the trial's number, so that what
it suggests depends on the storage alone and an interrupted sweep goes on as if nothing had been.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy.exc import SQLAlchemyError

from sca_bench.engine.databases import check_database, sqlite_file, sqlite_url
from sca_bench.errors import InputError, at, did_you_mean
from sca_bench.metrics.registry import get_metric, values_of
from sca_bench.output import hide_secrets, without_secrets
from sca_bench.study.keys.fingerprint import digest_json
from sca_bench.study.suite.search_space import Axis
from sca_bench.study.suite.sweep import CONFIRMED, Sweep
from sca_bench.study.suite.sweep_schema import Named
from sca_bench.study.suite.yaml_values import show_value

optuna.logging.set_verbosity(optuna.logging.ERROR)

_SAME_SEED = ("GridSampler", "QMCSampler")
"""Samplers that walk through one sequence and keep their place in the storage."""

_COSTS = ("num_trainable_params", "num_total_params")
"""Costs that a repetition gives again; those that are measured depend on what else is running."""


def default_storage(root: Path) -> str:
    """Return the SQLite file of all sweeps of a runs folder."""
    return sqlite_url(root.resolve() / "sweeps.db")


def open_study(sweep: Sweep, name: str, url: str) -> optuna.Study:
    """Open the sweep's study in its storage, or begin it.

    Raises:
        InputError: The storage cannot be opened.
    """
    if (file := sqlite_file(url)) is not None:
        check_database(file)
    directions = [objective.direction for objective in sweep.spec.objectives]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # journal storages call themselves experimental
            study = optuna.create_study(
                study_name=name,
                storage=_storage(url),
                directions=directions,
                load_if_exists=True,
                pruner=make_pruner(sweep),
            )
            _describe(study, sweep)
            return study
    except Exception as error:
        reason = hide_secrets(" ".join(str(error).split()), url)[:200]
        problem = f"{without_secrets(url)!r} cannot be opened: {type(error).__name__}: {reason}"
        fix = "give an SQLAlchemy URL such as sqlite:///FILE, or journal:FILE"
        raise InputError(sweep.file, "storage", problem, fix) from None


def _describe(study: optuna.Study, sweep: Sweep) -> None:
    """Let whoever opens the storage see what the numbers are, what was asked, and how to report it.

    Nothing is written where it stands there already.
    """
    names = [objective.metric for objective in sweep.spec.objectives]
    if study.metric_names != names:
        study.set_metric_names(names)
    name = sweep.spec.sweep
    about = {
        "question": sweep.spec.question,
        "report": f"sca-bench report {name} {name}{CONFIRMED}",
    }
    known = study.user_attrs
    for key, text in about.items():
        if known.get(key) != text:
            study.set_user_attr(key, text)


@contextlib.contextmanager
def storage_at_work(sweep: Sweep, url: str) -> Iterator[None]:
    """Say in one line if the sweep's storage cannot be read or written any more, inside.

    Raises:
        InputError: Its disk is full or broken, its server is gone, or somebody deleted it.
    """
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        cause = error.__cause__ or error
        reason = hide_secrets(" ".join(str(getattr(cause, "orig", None) or cause).split()), url)
        problem = f"{without_secrets(url)!r} was lost: {reason[:200]}"
        fix = "no run is; see to it and run it again"
        raise InputError(sweep.file, "storage", problem, fix) from None


def _storage(url: str) -> Any:
    kind, _, file = url.partition(":")
    if kind != "journal":
        return url
    from optuna.storages.journal import JournalFileBackend

    return optuna.storages.JournalStorage(JournalFileBackend(file))


def make_sampler(sweep: Sweep, number: int) -> Any:
    """Return the sampler of one trial.

    Raises:
        InputError: No such sampler, or not these arguments.
    """
    named, seed = sweep.spec.sampler, sweep.spec.seed
    more: dict[str, Any] = {}
    if named.name == "GridSampler":
        more["search_space"] = {axis.key: _grid(axis, sweep.file) for axis in sweep.axes}
    if named.name == "TPESampler":
        more["constant_liar"] = True  # trials asked at once keep their distance
    if named.name not in _SAME_SEED:
        seed = int(digest_json([seed, number])[:8], 16)
    return _build(optuna.samplers, "Sampler", named, sweep.file, "sampler", {**more, "seed": seed})


def make_pruner(sweep: Sweep) -> Any:
    """Return the pruner, one that never prunes where none is named.

    Raises:
        InputError: No such pruner, or not these arguments.
    """
    named = sweep.spec.pruner or Named(name="NopPruner")
    return _build(optuna.pruners, "Pruner", named, sweep.file, "pruner", {})


def _build(
    module: Any, kind: str, named: Named, path: Path, section: str, more: Mapping[str, Any]
) -> Any:
    known = sorted(n for n in dir(module) if n.endswith(kind) and not n.startswith(("_", "Base")))
    if named.name not in known:
        raise InputError(path, f"{section}.name", repr(named.name), did_you_mean(named.name, known))
    maker: Callable[..., Any] = getattr(module, named.name)
    parameters = inspect.signature(maker).parameters
    takes = set(parameters)
    arguments = dict(named.arguments)
    for key in arguments:
        if key not in takes - {"seed"}:
            fix = "seed: of the sweep is it" if key == "seed" else did_you_mean(key, takes)
            raise InputError(path, f"{section}.{key}", f"no argument of {named.name}", fix)
        kinds = set(re.findall(r"\w+", str(parameters[key].annotation)))
        if isinstance(arguments[key], bool) and "bool" not in kinds and kinds & {"int", "float"}:
            problem = f"{show_value(arguments[key])} is wrong"
            raise InputError(path, f"{section}.{key}", problem, "expected a number")
    if isinstance(inner := arguments.get("wrapped_pruner"), dict):
        inner_named = Named.model_validate(inner)
        arguments["wrapped_pruner"] = _build(module, kind, inner_named, path, section, {})
    arguments = {key: value for key, value in more.items() if key in takes} | arguments
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # arguments that optuna calls experimental
            if section == "sampler" and "cmaes" in named.name.lower():
                importlib.import_module("cmaes")
            return maker(**arguments)
    except ImportError as error:
        fix = f"pip install {error.name}"
        raise InputError(path, f"{section}.name", f"{named.name} needs {error.name}", fix) from None
    except (TypeError, ValueError, AttributeError, AssertionError) as error:
        problem = f"{named.name} refuses its arguments: {error}"
        raise InputError(path, section, problem) from None


def suggest(trial: optuna.Trial, axis: Axis) -> None:
    """Let the sampler choose a setting of a trial, unless it has one already."""
    if axis.kind == "choices":
        trial.suggest_categorical(axis.key, axis.labels)
    elif axis.kind == "int":
        step = 1 if axis.step is None else int(axis.step)
        trial.suggest_int(axis.key, int(axis.low), int(axis.high), step=step, log=axis.log)
    else:
        low, high = float(axis.low), float(axis.high)
        trial.suggest_float(axis.key, low, high, step=axis.step, log=axis.log)


def _grid(axis: Axis, path: Path) -> list[Any]:
    if axis.kind == "choices":
        return list(axis.labels)
    step = axis.step or (1 if axis.kind == "int" and not axis.log else None)
    if step is None:
        fix = "give choices or a step, or take another sampler"
        raise InputError(path, f"space.{axis.key}", "GridSampler needs single values", fix)
    count = round((axis.high - axis.low) / step)
    return [min(axis.high, axis.low + step * number) for number in range(count + 1)]


def check_objectives(sweep: Sweep) -> None:
    """Check the names that the study layer cannot know.

    Raises:
        InputError: No such metric, cost, sampler or pruner; or a pruner that would never be asked.
    """
    for number, objective in enumerate(sweep.spec.objectives):
        entry = f"{sweep.file}: objectives.{number}"
        kind, _, cost = objective.metric.partition(".")
        if kind == "cost" and cost not in _COSTS:
            fix = f"take {' or '.join(f'cost.{name}' for name in _COSTS)}"
            raise InputError(entry, "metric", f"{objective.metric!r} is measured, or unknown", fix)
        values = values_of(objective.metric)
        if objective.metric not in values:
            problem = f"{objective.metric!r} is {len(values)} numbers"
            raise InputError(entry, "metric", problem, f"take {values[-1]}")
    with at(sweep.file):
        for metric in sweep.metrics:
            get_metric(metric)
    make_sampler(sweep, 0)
    make_pruner(sweep)
    if sweep.spec.pruner is None:
        return
    if len(sweep.spec.objectives) > 1:
        raise InputError(sweep.file, "pruner", "prunes by one objective only", "leave it out")
    for settings in sweep.probes:
        if settings.data.val is None or settings.train.val_every >= settings.train.steps:
            problem = "is never asked: no validation comes before the last step"
            raise InputError(sweep.file, "pruner", problem, "lower train.val_every")
