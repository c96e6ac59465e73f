"""A number's signature: everything that must agree before two numbers stand in one column."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from sca_bench.metrics.rows import CaptionRow


@dataclass(frozen=True, slots=True)
class Signature:
    """How and on what a number was computed.

    Attributes:
        metric: Name of the value.
        scorer: The program, with the parameters that move its scores.
        version: The scorer's version.
        tokenizer: What both sides were cut into words by.
        document_frequency: Where CIDEr-D's word frequencies come from; `none` for other metrics.
        references_min: Fewest references of a region.
        references_max: Most references of a region.
        num_regions: Regions the value is computed from.
        region_set: SHA-256 over the region ids, sorted, each with its references in order.
        language: Language of scorer and captions.
    """

    metric: str
    scorer: str
    version: str
    tokenizer: str
    document_frequency: str
    references_min: int
    references_max: int
    num_regions: int
    region_set: str
    language: str = "en"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `Signature(**d)` gives it back."""
        return asdict(self)

    def short(self) -> str:
        """Return one line for a table's foot, with the region-set hash cut to 12 digits."""
        low, high = self.references_min, self.references_max
        references = str(low) if low == high else f"{low}-{high}"
        return "|".join(
            (
                self.metric,
                f"{self.scorer} {self.version}",
                f"tok:{self.tokenizer}",
                f"df:{self.document_frequency}",
                f"refs:{references}",
                f"regions:{self.num_regions}",
                f"set:{self.region_set[:12]}",
                f"lang:{self.language}",
            )
        )


def comparable(a: Signature | Mapping[str, Any], b: Signature | Mapping[str, Any]) -> list[str]:
    """Return the fields in which two signatures differ; empty when the numbers compare.

    A record's dictionary may come from another release: a field only one of them has differs.
    """
    first = a.to_dict() if isinstance(a, Signature) else dict(a)
    second = b.to_dict() if isinstance(b, Signature) else dict(b)
    known = [field.name for field in fields(Signature)]
    extra = sorted((first.keys() | second.keys()) - set(known))
    absent = object()
    return [key for key in (*known, *extra) if first.get(key, absent) != second.get(key, absent)]


def region_set_hash(rows: Sequence[CaptionRow]) -> str:
    """Return the SHA-256 of the regions and references scored, whatever the order of the rows."""
    digest = hashlib.sha256()
    for row in sorted(rows, key=lambda row: row.region_id):
        digest.update(json.dumps([row.region_id, *row.references]).encode())
    return digest.hexdigest()
