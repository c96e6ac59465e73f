"""A sweep: the YAML that names settings to search, read, checked, and turned into cells.

A trial is a cell like any other, captioned on the validation split; the best configuration's cells
differ from it in their seeds and in `eval.split: test` alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sca_bench.errors import InputError, at
from sca_bench.reading import is_number
from sca_bench.settings import CellSettings
from sca_bench.study.keys.cell import KEY_LENGTH, CellIdentity
from sca_bench.study.keys.fingerprint import Fingerprints, digest_json
from sca_bench.study.suite import merge as m
from sca_bench.study.suite.axes import cell_name, check_apart
from sca_bench.study.suite.no_difference import identity_of, idle_flags, is_read
from sca_bench.study.suite.profiles import Profile, load_profile, patch_of
from sca_bench.study.suite.resolve import ResolvedCell, Resolver
from sca_bench.study.suite.schema import Patch, SuiteFile
from sca_bench.study.suite.search_space import Axis, read_axis
from sca_bench.study.suite.suite import Suite, check_suite_keys, header_of, read_spec
from sca_bench.study.suite.sweep_schema import MOST_TRIALS, Dimension, SweepFile, SweepPatch

DEFAULT = "default"
"""Begins the name of the cell that a confirmation is compared with."""
CONFIRMED = "_confirmed"
"""Ends the name under which the confirmation of a sweep is reported."""
CHOSEN_BY = (
    "A sweep chose by these numbers, so the best of them flatters itself; what holds is the "
    f"confirmation (the suite whose name ends in {CONFIRMED})."
)
"""Ends the statement of every suite of trials."""
_MOST_PROBES = 512
Split = Literal["val", "test"]


@dataclass(frozen=True)
class Sweep:
    """A parsed sweep in one profile.

    Attributes:
        axes: The searched settings.
        trials: Configurations to try in all.
        batch: Configurations to ask at once.
        metrics: All metrics, those of the objectives first.
        seeds: Fresh seeds of the confirmation.
        beside_default: Whether the configuration of `base` alone is confirmed, too.
        probes: Settings at the corners of the space, all valid.
        notes: Of flags that no trial reads.
    """

    file: Path
    spec: SweepFile
    suite_spec: SuiteFile
    profile: str
    scale: Profile
    axes: tuple[Axis, ...]
    trials: int
    batch: int
    metrics: tuple[str, ...]
    seeds: tuple[int, ...]
    beside_default: bool
    overrides: tuple[str, ...]
    probes: tuple[CellSettings, ...]
    resolver: Resolver
    notes: tuple[str, ...] = ()

    def cell(self, number: int, params: Mapping[str, Any], split: Split) -> ResolvedCell:
        """Return the cell of a trial's parameters, captioned on one split.

        Raises:
            InputError: These values do not go together.
        """
        values = {axis.key: axis.value_of(params[axis.key]) for axis in self.axes}
        return _cell(self.resolver, self.spec.sweep, number, values, split)

    def default_cell(self) -> ResolvedCell:
        """Return the cell of whoever searches nothing: what `base` says, on the test split.

        Raises:
            InputError: `base` alone is no whole configuration.
        """
        bare = self.resolver.cell(DEFAULT, {}, {"eval.split": "test"})
        settings = bare.settings.model_dump(mode="json")
        values = {axis.key: m.get(settings, axis.key) for axis in self.axes}
        short = {key: _rounded(value) for key, value in values.items()}
        name = f"{DEFAULT} {cell_name(short, self.spec.sweep)}"
        return replace(bare, name=name, coordinates=values)

    def suite(
        self,
        cells: Iterable[ResolvedCell],
        *,
        confirmed: bool = False,
        reference: str = "",
    ) -> Suite:
        """Return a suite of trials, or of their confirmation, for planner, launcher and report.

        Args:
            cells: Its cells.
            confirmed: Whether it is the confirmation.
            reference: Name of the cell that the others are compared with; the first where empty.
        """
        cells, name, what = tuple(cells), self.spec.sweep, "trials, on the validation split"
        seeds = self.seeds if confirmed else (self.spec.train_seed,)
        statement = f"{self.scale.statement} {CHOSEN_BY}"
        if confirmed:
            name, what = name + CONFIRMED, "the best trial again, on the test split"
            statement = self.scale.statement
        about = {"suite": name, "question": f"{self.spec.question} ({what})"}
        ranges_first = sorted(self.axes, key=lambda axis: axis.kind == "choices")  # for the plot
        axes = {axis.key: _seen(axis, cells) for axis in ranges_first}
        return Suite(
            file=self.file,
            spec=self.suite_spec.model_copy(update=about),
            profile=self.profile,
            statement=statement,
            header=header_of(self.file),
            cells=cells,
            seeds=seeds,
            own_seeds=seeds,
            metrics=self.metrics,
            claims=(),
            axes=axes,
            overrides=self.overrides,
            paths=self.resolver.used,
            needs=self.scale.needs,
            reference=reference,
        )

    def study_name(self, prints: Fingerprints) -> str:
        """Return the name under which a storage keeps this sweep, and no other one.

        It covers whatever moves a trial's parameters or values, files included; how many trials
        there are to be, and how many at a time, may change from one call to the next.
        """
        spec = self.spec
        with at(self.file):
            keys = [CellIdentity(s, prints.inputs(s)).cell_key for s in self.probes]
        what: list[Any] = [
            keys,
            [asdict(axis) for axis in self.axes],
            [objective.model_dump() for objective in spec.objectives],
            [spec.seed, spec.train_seed, spec.sampler.model_dump()],
        ]
        if spec.pruner is not None:
            every = [settings.train.val_every for settings in self.probes]
            what.append([spec.pruner.model_dump(), spec.prune_on, every])
        return f"{spec.sweep}.{self.profile}.{digest_json(what)[:KEY_LENGTH]}"


def load_sweep(
    path: Path | str,
    *,
    profile: str | None = None,
    overrides: Sequence[str] = (),
    trials: int | None = None,
) -> Sweep:
    """Read and check a sweep; every value that a bound or a choice names is validated.

    Args:
        path: The YAML file.
        profile: Profile to use; the sweep's own default where None.
        overrides: `path=value` settings that win over everything but what is searched.
        trials: Trials to make in place of the sweep's.

    Raises:
        InputError: Any fault in the file or the overrides, in one line.
    """
    path = Path(path)
    if trials is not None and trials > MOST_TRIALS:
        raise InputError("--trials", "", f"{trials:,}", f"a sweep has {MOST_TRIALS:,} at most")
    spec = read_spec(path, SweepFile, "sweep, question, space, ...", {"suite": "use `run`"})
    name = profile or spec.profile
    with at(path if profile is None else "--profile"):
        scale = load_profile(name)
    patched, given = patch_of(spec.profiles, name, scale)
    patch = given or SweepPatch()
    suite_spec = _suite_spec(spec)
    with at(path):
        check_suite_keys(suite_spec)
        _check_split(spec)
        for other in spec.profiles.values():
            _axes(other.space or {}, spec.base, other.base)
        axes = _axes(patch.space or spec.space, scale.base, spec.base, patch.base)
    suite_patch = Patch(base=patch.base, stages=patch.stages)
    resolver = Resolver(
        path,
        suite_spec,
        suite_patch,
        name,
        scale,
        overrides,
        patched=patched,
        axes_key=f"profiles.{patched}.space" if patch.space else "space",
    )
    _check_flags(resolver)
    confirm = patch.confirm or spec.confirm
    _check_seeds(confirm.seeds, spec.train_seed, path)
    asked = [o.metric for o in spec.objectives if not o.metric.startswith("cost.")]
    more = spec.metrics if patch.metrics is None else patch.metrics
    probes = [_cell(resolver, spec.sweep, 0, values, "val") for values in _corners(axes)]
    _check_read(probes, axes, resolver)
    sweep = Sweep(
        file=path,
        spec=spec,
        suite_spec=suite_spec,
        profile=name,
        scale=scale,
        axes=axes,
        trials=trials or patch.trials or spec.trials,
        batch=patch.batch or spec.batch,
        metrics=tuple(dict.fromkeys([*asked, *more])) or ("cider_d",),
        seeds=tuple(confirm.seeds),
        beside_default=confirm.default,
        overrides=tuple(overrides),
        probes=tuple(probe.settings for probe in probes),
        resolver=resolver,
        notes=tuple(idle_flags(probes, resolver)),
    )
    if sweep.beside_default:
        sweep.default_cell()  # a fault of it is to be known before anything runs
    return sweep


def _suite_spec(spec: SweepFile) -> SuiteFile:
    """Return the part of a sweep that a suite has, too."""
    return SuiteFile(
        suite=spec.sweep,
        question=spec.question,
        profile=spec.profile,
        base=spec.base,
        stages=spec.stages,
        paths=spec.paths,
        profiles={
            name: Patch(base=patch.base, stages=patch.stages)
            for name, patch in spec.profiles.items()
        },
    )


def _cell(
    resolver: Resolver, name: str, number: int, values: dict[str, Any], split: Split
) -> ResolvedCell:
    short = {key: _rounded(value) for key, value in values.items()}
    name = f"#{number} {cell_name(short, name)}"
    cell = resolver.cell(name, values, {"eval.split": split})
    if split == "test":
        return cell
    # One lockstep group a batch, on all cores, unless more processes were asked for.
    runtime = cell.settings.runtime
    runtime = runtime.model_copy(update={"jobs": runtime.jobs or 1})
    return replace(cell, settings=cell.settings.model_copy(update={"runtime": runtime}))


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) and math.isfinite(value) else value


def _seen(axis: Axis, cells: Sequence[ResolvedCell]) -> list[Any]:
    """Return the values of an axis that some cell has, in order."""
    values = [cell.coordinates[axis.key] for cell in cells]
    if axis.choices:
        others = [value for value in values if value not in axis.choices]  # of the default
        return [choice for choice in axis.choices if choice in values] + others
    numbers = [value for value in values if is_number(value)]
    return sorted(set(numbers)) + [None] * (len(numbers) < len(values))


def _corners(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """Return the corners of the space; one setting at a time where there are too many."""
    keys = [axis.key for axis in axes]
    if math.prod(len(axis.probes) for axis in axes) <= _MOST_PROBES:
        points = itertools.product(*(axis.probes for axis in axes))
        return [dict(zip(keys, point, strict=True)) for point in points]
    first = {axis.key: axis.probes[0] for axis in axes}
    return [{**first, axis.key: value} for axis in axes for value in axis.probes]


def _axes(space: Mapping[str, Dimension], *bases: Mapping[str, Any]) -> tuple[Axis, ...]:
    """Read the space that is searched; the last base that names a variant says whose it is."""
    check_apart(space, "space")
    named = [base for base in bases if "variant" in base]
    said = named[-1] if named and "variant" not in space else None
    return tuple(read_axis(key, given, said) for key, given in space.items())


def _check_split(spec: SweepFile) -> None:
    layers = {"base": spec.base} | {f"profiles.{n}.base": p.base for n, p in spec.profiles.items()}
    for key, layer in layers.items():
        if m.get(layer, "eval.split") is not None:
            raise InputError(None, f"{key}.eval.split", *_OWN_SPLITS)


_OWN_SPLITS = ("trials are captioned on val, the best one again on test", "leave it out")


def _check_flags(resolver: Resolver) -> None:
    """Refuse flags about the split; that none touches what is searched, the probes find out."""
    for key, value, text in resolver.flags:
        if any(path.startswith("eval.split") for path, _ in m.leaves(m.nest(key, value))):
            raise InputError("--set", text, *_OWN_SPLITS)


def _check_read(probes: Sequence[ResolvedCell], axes: Sequence[Axis], resolver: Resolver) -> None:
    """Refuse a searched setting that moves no number of any trial: they would all be one cell."""
    identities = [identity_of(probe) for probe in probes]
    for axis in axes:
        if not any(is_read(identity, axis.key) for identity in identities):
            names = ", ".join(dict.fromkeys(probe.settings.variant for probe in probes))
            problem = f"moves no number of {names}"
            fix = "search another setting"
            raise InputError(resolver.path, f"{resolver.axes_key}.{axis.key}", problem, fix)


def _check_seeds(seeds: Sequence[int], train_seed: int, path: Path) -> None:
    if len(set(seeds)) != len(seeds) or min(seeds) < 0 or train_seed in seeds:
        fix = f"give distinct seeds >= 0 other than train_seed ({train_seed})"
        raise InputError(path, "confirm.seeds", f"{list(seeds)}", fix)
