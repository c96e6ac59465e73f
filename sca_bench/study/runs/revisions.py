"""Of which revisions of code a run is: those of today, or older ones.

A raised revision gives a cell another key, so `run` makes its runs anew beside the older ones.
These stay what they are: `list runs` and `report` mark them, and `verify` checks them against the
key that their own revisions give. No torch.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from sca_bench.errors import InputError
from sca_bench.settings import CellSettings
from sca_bench.study.keys.cell import (
    OF_ENCODER,
    OF_READER,
    CellIdentity,
    Revisions,
    todays_revisions,
)
from sca_bench.study.runs.record import RunRecord

OLDER = "older revision"
"""What marks such a run wherever it is listed."""
_BESIDE = ("features", "world", "optimiser")


def made_with(record: RunRecord) -> Revisions:
    """Return the revisions that a run was made with, as far as its record says them."""
    known = {name: record.revisions[name] for name in _BESIDE if name in record.revisions}
    readers, encoders = (_below(record, beginning) for beginning in (OF_READER, OF_ENCODER))
    return Revisions(record.revision, **known, readers=readers, encoders=encoders)


def _below(record: RunRecord, beginning: str) -> dict[str, str]:
    """Return the revisions of a record whose names begin so, by the rest of their names."""
    return {
        name.removeprefix(beginning): text
        for name, text in record.revisions.items()
        if name.startswith(beginning)
    }


def identity_of(record: RunRecord) -> CellIdentity:
    """Return the identity of a run's cell, with the revisions that the run was made with.

    Raises:
        InputError: Its settings are none of today's code.
    """
    return CellIdentity.stored(record.settings, record.inputs, made_with(record))


def raised(record: RunRecord, settings: CellSettings | None = None) -> list[str]:
    """Return every revision that is another one today: `sca revision 1, today 2`.

    Args:
        record: The run.
        settings: Its settings; without them only the variant's revision is looked at.

    Raises:
        InputError: Its variant is not registered.
    """
    old, today = made_with(record), todays_revisions(record.variant, settings)
    pairs = [(f"{record.variant} revision", old.variant, today.variant)]
    if settings is not None:
        then, now = (CellIdentity(settings, record.inputs, c).key_values for c in (old, today))
        if then.get("features.revision") != now.get("features.revision"):
            pairs.append(("features revision", old.features, today.features))
        if then.get("optimiser.revision") != now.get("optimiser.revision"):
            pairs.append(("optimiser revision", old.optimiser, today.optimiser))
        if any(then[key] != now[key] for key in then if key.endswith(".world")):
            pairs.append(("world", old.world, today.world))
        for kind, older, newer in (
            ("reader", old.readers, today.readers),
            ("encoder", old.encoders, today.encoders),
        ):
            for name in sorted(older.keys() | newer):
                pair = older.get(name, "none"), newer.get(name, "none")
                pairs.append((f"{kind} {name} revision", *pair))
    return [f"{what} {a}, today {b}" for what, a, b in pairs if a != b]


def age_of(record: RunRecord) -> str:
    """Return what makes a run one of older code, in one line; empty where `run` would take it.

    A record whose settings cannot be read, or whose variant is not installed, says its variant's
    revision at most.
    """
    try:
        settings = CellSettings.model_validate(record.settings)
    except ValidationError:
        settings = None
    except InputError:
        return ""
    try:
        newer = raised(record, settings)
        if newer or settings is None:
            return ", ".join(newer)
        today = CellIdentity(settings, record.inputs)
        key = today.training_key if record.stage else today.cell_key
    except InputError:
        return ""
    return "" if key == record.cell_id else f"its settings give the id {key} today"


def had_setting(record: RunRecord, key: str) -> bool:
    """Say whether a run was made with a setting, which may have been added since.

    Args:
        record: The run.
        key: Dotted path of the setting.
    """
    value: Any = record.settings
    for part in key.split("."):
        if isinstance(value, list):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            return False
    return True
