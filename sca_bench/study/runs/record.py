"""What is written about one run (one cell, one seed) and about one suite; both are plain JSON.

Old files stay readable: fields are only ever added, with defaults, and `schema_version` counts
changes of meaning.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

SCHEMA_VERSION = 1
MOST_RUNS = 100_000
"""Cells times seeds of one suite's report."""
Status = Literal["running", "done", "failed", "killed", "pruned"]


NEWER = "newer_version"
"""Kind of the fault of what a newer version of this package has written."""
WRITTEN_BY_NEWER = "written by a newer version"


def known_version(number: int) -> int:
    """Return a file's version; a newer one is a fault of kind `NEWER`."""
    if number > SCHEMA_VERSION:
        raise PydanticCustomError(NEWER, WRITTEN_BY_NEWER + " ({number})", {"number": number})
    return number


_Version = Annotated[int, AfterValidator(known_version)]


class _Stored(BaseModel):
    model_config = ConfigDict(extra="ignore", protected_namespaces=())


def _fits(value: dict[str, Any], kinds: Mapping[str, tuple[type, ...]], what: str) -> None:
    for key, kind in kinds.items():
        if key in value and not isinstance(value[key], kind):
            raise ValueError(f"{what}: {key} is no {kind[0].__name__}")


_SECTIONS = ("sam", "encoder", "mixer", "text_decoder", "data", "train", "eval", "features")


def _settings(value: dict[str, Any]) -> dict[str, Any]:
    """Check what is read of a run's settings as they are; the rest is when they are parsed."""
    stages = value.get("pretraining") or ()
    if not isinstance(stages, list | tuple) or not all(isinstance(s, dict) for s in stages):
        raise ValueError("settings: pretraining is no list of stages")
    for part in (value, *stages):
        _fits(part, dict.fromkeys((*_SECTIONS, "runtime"), (dict,)), "settings")
        for name in ("train", "test", "val"):
            _fits(part.get("data", {}), {name: (dict, list, str, NoneType)}, "settings: data")
    return value


def _provenance(value: dict[str, Any]) -> dict[str, Any]:
    kinds = {"started": (str,), "finished": (str,), "split_digests": (dict,)}
    _fits(value, kinds, "provenance")
    return value


def _stage(value: dict[str, Any]) -> dict[str, Any]:
    kinds = {"stage": (str,), "cell_id": (str,), "weights_sha256": (str,)}
    _fits(value, {**kinds, "seed": (int,), "steps": (int,)}, "lineage")
    return value


_Finite = Annotated[float, Field(allow_inf_nan=False)]
Seed = Annotated[int, Field(gt=-(2**63), lt=2**63)]
"""As many as torch takes."""


class Score(_Stored):
    """One number with what it takes to compare it.

    Attributes:
        value: In natural units (CIDEr-D 0-10, the others 0-1); None if it was not computed.
        signature: Scorer, version, tokenizer, references and region set (metrics.signature).
        reason: Why the value is None.
    """

    value: float | None
    signature: dict[str, Any] = {}
    reason: str = ""


class RunRecord(_Stored):
    """Everything needed to repeat and to compare one run.

    Attributes:
        cell_id: Key of the cell (settings that change numbers, input contents, code revision).
        seed: Seed of initialisation, data order and dropout.
        status: How it ended; `running` with no live process means that it was interrupted,
            `pruned` that a sweep stopped it early.
        settings: The resolved `CellSettings`.
        inputs: Content digest of every path setting.
        variant: Registry name; `revision` is its code revision.
        revisions: Revisions of other code in its key, `features`, `world` and `optimiser` (older
            records lack some, and were made with the first that counted: see
            `study.keys.cell.Revisions`).
        scores: Name of a value (`metrics.value_names`) -> score.
        subsets: Name of a subset that was scored -> digest of the file that says its regions.
        cost: Ledger in the unit of each name's suffix (`_s`, `_mib`, `num_`). `train_s` is the
            run's own part of its training steps, `shared_s` what its group does once for all of
            its runs (frozen features, cached or not; older records lack it).
        counters: How often the frozen parts and the optimiser ran in this attempt.
        provenance: Command, versions, machine, times.
        stage: Name of a pretraining stage, for the run of one; such a run is never evaluated.
        lineage: The trainings its own one started from, or was replaced by: `stage`, `cell_id`,
            `seed`, `steps`, `weights_sha256` of each, the first one first.
        images_dir: Folder of the captioned images, relative to the runs folder.
        masks_file: SAM's predicted masks on these, relative to the runs folder; empty where none.
        notes: Remarks a reader of the number should see.
        error: One line, where the run failed.
    """

    schema_version: _Version = SCHEMA_VERSION
    cell_id: str
    seed: Seed
    status: Status
    settings: Annotated[dict[str, Any], AfterValidator(_settings)]
    inputs: dict[str, str] = {}
    variant: str
    revision: str
    revisions: dict[str, str] = {}
    scores: dict[str, Score] = {}
    subsets: dict[str, str] = {}
    cost: dict[str, _Finite] = {}
    counters: dict[str, int] = {}
    provenance: Annotated[dict[str, Any], AfterValidator(_provenance)] = {}
    stage: str = ""
    lineage: list[Annotated[dict[str, Any], AfterValidator(_stage)]] = []
    images_dir: str = ""
    masks_file: str = ""
    notes: list[str] = []
    error: str = ""


class CellEntry(_Stored):
    """One row of a suite: a cell and where it stands on the axes.

    Attributes:
        published_row: Row of the suite's table in `published.csv`; empty where it has none.
        also: Its other names, where the suite names it more than once.
        ignored: Axis that moves no number of it -> the values that it stands for.
        note: Why it has other names; empty where it has none.
        stated: Settings that an explicit cell states (older manifests lack them).
    """

    cell_id: str
    name: str
    coordinates: dict[str, Any]
    variant: str
    control: bool = False
    adjusted: dict[str, Any] = {}
    published_row: str = ""
    also: list[str] = []
    ignored: dict[str, list[Any]] = {}
    note: str = ""
    stated: dict[str, Any] = {}


class PublishedClaim(_Stored):
    """A claim both of whose sides have a published row.

    Attributes:
        says: The claim the rows belong to; a profile with cells of its own may state another one.
        left: Row of the left side.
        right: Row of the right side.
    """

    says: str
    left: str
    right: str


class SuiteManifest(_Stored):
    """A suite as it was last run: all that `report` needs beside the records.

    Attributes:
        file: Name of the suite's file.
        path: Where that lay (older manifests lack it), absolute.
        digest: SHA-256 of its content.
        header: The comment at the top of the suite file.
        statement: What the profile says about its weights and data.
        paper: Table of `published.csv` that the suite repeats.
        published_claims: Id of a claim -> the rows its published difference is made of.
        reference: The cell that all others are compared with, by name or coordinates.
        subsets: Name -> regions that are scored by themselves as well (scores `name/metric`).
        overrides: Settings given on the command line, shown with every table.
        seeds: The seeds that a report shows: those last asked for, and what else there is of the
            suite's own and of those asked for before.
        own_seeds: The seeds that the suite itself names (older manifests lack them).
    """

    schema_version: _Version = SCHEMA_VERSION
    suite: str
    profile: str
    default_profile: str
    file: str
    path: str = ""
    digest: str = ""
    question: str
    header: str = ""
    paper: str | None = None
    statement: str = ""
    axes: dict[str, list[Any]] = {}
    one_at_a_time: bool = False
    seeds: list[Seed]
    own_seeds: list[Seed] = []
    metrics: list[str] = Field(min_length=1)
    subsets: dict[str, str] = {}
    claims: list[dict[str, Any]] = []
    cells: list[CellEntry]
    published_claims: dict[str, PublishedClaim] = {}
    reference: str = ""
    overrides: list[str] = []
    command: str = ""
    created: str = ""

    def is_called(self, name: str) -> bool:
        """Say whether somebody who says `suite`, `suite.profile` or a report's name means it."""
        return name in (self.suite, self.report_name, f"{self.suite}.{self.profile}")

    @property
    def report_name(self) -> str:
        """Folder under `reports/`."""
        same = self.profile == self.default_profile
        return self.suite if same else f"{self.suite}.{self.profile}"

    @property
    def remarks(self) -> list[str]:
        """What a report says of itself at its head: what it leaves out."""
        lacking = [seed for seed in self.own_seeds if seed not in self.seeds]
        if not lacking:
            return []
        named, shown, missing = (
            ", ".join(map(str, seeds)) for seeds in (self.own_seeds, self.seeds, lacking)
        )
        return [
            f"Not all seeds of the suite: it names {named}; shown is what --seeds asked for, "
            f"{shown}. Never run: {missing}."
        ]
