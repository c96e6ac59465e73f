"""The YAML of a suite as it is written: every key that may stand in it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from sca_bench.settings.base import StrictScalars


class _Strict(StrictScalars, BaseModel):
    model_config = ConfigDict(extra="forbid")


MOST_OF_CLAUSE = 200
"""Characters of a claim in words."""


def _clause(text: str) -> str:
    """Return a claim in words on one line, without the full stop that a sentence adds."""
    text = " ".join(text.split()).rstrip(".")
    if not text:
        raise ValueError("give a clause, such as: two layers beat one; or leave it out")
    if len(text) > MOST_OF_CLAUSE:
        raise ValueError(f"{len(text)} characters; a claim in words has {MOST_OF_CLAUSE} at most")
    return text


class ClaimEntry(_Strict):
    """A sentence that the suite's numbers support or contradict.

    Attributes:
        id: Its name, by which reports call it.
        says: Two sides and a comparison, such as `cider_d(num_layers=2) > cider_d(num_layers=1)`.
        text: What it says in words, a clause (`two layers beat one`): reports make their sentence
            of it, and of `says` where there is none. It changes no number and no cell.
        margin: For `<=` and `>=`: the largest difference (natural units) that still counts as no
            better; a share of the right side's score where none is given.
        family: Claims of one family share one error rate (Holm); all claims of a suite where none
            is named.
    """

    id: str
    says: str
    text: Annotated[str, AfterValidator(_clause)] = ""
    margin: float | None = Field(None, gt=0, allow_inf_nan=False, strict=True)
    family: str = ""


class Adjust(_Strict):
    """Settings that follow from others: where every `when` value matches, `set` applies.

    Attributes:
        when: Setting -> the value that it has in the cells that are meant.
        set: Setting -> the value that it gets there.
    """

    when: dict[str, Any]
    set: dict[str, Any]


class ExplicitCell(_Strict):
    """A cell beside the axes: an exception or a control.

    Attributes:
        name: What tables and claims call it.
        set: Setting -> the value that it has in this cell.
        control: Whether it shows what a score is worth, and competes with no other cell.
    """

    name: str
    set: dict[str, Any]
    control: bool = False


class Stage(_Strict):
    """A pretraining stage by name: what it changes of the cell's own data and recipe.

    Attributes:
        data: The data that it trains on, as under `data:` of a cell.
        train: What differs from the cell's own `train:`.
    """

    data: dict[str, Any]
    train: dict[str, Any] = {}


class PathSpec(_Strict):
    """A named file or folder: its default, if there is one, and where a user gets it from.

    Attributes:
        default: The path where nobody gives another one; null for one that the user has to give.
        get: Where a user gets it from, in words.
    """

    default: str | None = None
    get: str = ""


def _as_spec(value: Any) -> Any:
    return {"default": value} if value is None or isinstance(value, str) else value


NamedPath = Annotated[PathSpec, BeforeValidator(_as_spec)]
"""Written as a path, as null for one the user has to give, or as `{default: ..., get: ...}`."""


class Patch(_Strict):
    """What a suite changes for one profile; given lists replace the suite's own."""

    base: dict[str, Any] = {}
    axes: dict[str, list[Any]] | None = None
    seeds: list[int] | None = None
    cells: list[ExplicitCell] | None = None
    adjust: list[Adjust] | None = None
    metrics: list[str] | None = Field(None, min_length=1)
    subsets: dict[str, str] | None = None
    claims: list[ClaimEntry] | None = None
    stages: dict[str, Stage] | None = None
    reference: str | None = None


class SuiteFile(_Strict):
    """A question, as the YAML file of a suite states it.

    Attributes:
        suite: Its name: letters, digits, `_` and `-`.
        question: What it asks, one sentence.
        paper: Table of `published.csv` that the suite repeats, such as `table_4`.
        published: Cell (its name, or coordinates as in a claim) -> row of that table. Cells may
            be of any profile.
        reference: The cell (likewise) that all others are compared with; the first one where none
            is named.
        profile: The scale that it runs at where nobody names another one.
        base: Settings of all cells.
        axes: Setting -> the values that are compared. Several axes are combined.
        one_at_a_time: Vary one axis at a time, the others as `base` has them, in place of all
            combinations.
        seeds: Every cell runs once with each of them.
        metrics: What cells are scored by, the main one first.
        subsets: Name -> regions that are scored by themselves as well: `first_of_image`, or a file
            of region ids or of annotations (`score --subset`).
        claims: What the numbers are to support or contradict.
        cells: Cells beside the axes: exceptions and controls.
        adjust: Settings that follow from others.
        unless: Combinations of the axes that are left out.
        stages: Name -> a training before the cell's own, which `pretraining` names.
        paths: Name -> a file or folder, which settings name as `{name}`.
        profiles: Profile -> what is another way there.
    """

    suite: str = Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,199}$")
    question: str
    paper: str | None = None
    published: dict[str, str] = {}
    reference: str | None = None
    profile: str = "tiny"
    base: dict[str, Any] = {}
    axes: dict[str, list[Any]] = {}
    one_at_a_time: bool = False
    seeds: list[int] = Field([0], min_length=1)
    metrics: list[str] = Field(["cider_d"], min_length=1)
    subsets: dict[str, str] = {}
    claims: list[ClaimEntry] = []
    cells: list[ExplicitCell] = []
    adjust: list[Adjust] = []
    unless: list[dict[str, Any]] = []
    stages: dict[str, Stage] = {}
    paths: dict[str, NamedPath] = {}
    profiles: dict[str, Patch] = {}
