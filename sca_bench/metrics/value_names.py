"""What a value is called: one name in results, records, tables, claims and MLflow.

    cider_d, bleu_4, slots         a metric over all regions that were captioned
    NAME.PART                      a further value of another package's metric
    slot/colour                    the share of captions that fill one slot rightly
    slot_by_objects/3/colour       the same over the images that hold three regions;
                                   `mean_of_slots` in place of a slot is `slots` over them
    train/cider_d                  any of these over other regions: those of the training split
                                   (`train`), test regions with a reference known from training
                                   (`seen`), or a subset by the name that its suite gives it

Signatures alone spell slots otherwise, see `signature_name`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

SLOTS = "slots"
"""The metric that all names of slots belong to, and its mean over the simple slots."""
SLOT = "slot/"
SLOT_BY_OBJECTS = "slot_by_objects/"
MEAN_OF_SLOTS = "mean_of_slots"
TRAIN, SEEN = "train", "seen"


@dataclass(frozen=True, slots=True)
class ValueName:
    """A value's name, taken apart; `str` puts it together again.

    Attributes:
        metric: What a suite asks for to get it (of BLEU: the single value); `slots` of every slot.
        slot: One slot, or `mean_of_slots` by the number of objects; else empty.
        num_objects: Regions that an image holds; None for all images.
        part: Which regions count, where it is not all that were captioned.
    """

    metric: str
    slot: str = ""
    num_objects: int | None = None
    part: str = ""

    def __str__(self) -> str:
        name = self.metric
        if self.num_objects is not None:
            name = f"{SLOT_BY_OBJECTS}{self.num_objects}/{self.slot}"
        elif self.slot:
            name = SLOT + self.slot
        return f"{self.part}/{name}" if self.part else name

    @classmethod
    def parse(cls, name: str) -> ValueName:
        """Take a name apart; one of no known form is a metric by itself."""
        first, _, rest = name.partition("/")
        if not rest:
            return cls(name)
        if name.startswith(SLOT):
            return cls(SLOTS, rest)
        if name.startswith(SLOT_BY_OBJECTS):
            number, _, slot = rest.partition("/")
            return cls(SLOTS, slot, int(number)) if slot and number.isdecimal() else cls(name)
        inner = cls.parse(rest)
        return replace(inner, part=f"{first}/{inner.part}" if inner.part else first)

    @property
    def whole(self) -> ValueName:
        """The same value over all regions that were captioned."""
        return replace(self, part="")


def signature_name(name: str) -> str:
    """Return what the signature of a value over all regions calls it.

    That of a slot says `slots.colour` for `slot/colour`, `slots.colour.objects_3` for
    `slot_by_objects/3/colour` and `slots.objects_3` for its `mean_of_slots`: numbers stand in one
    column under equal signatures only, and those of older runs say so.
    """
    value = ValueName.parse(name)
    if not value.slot:
        return name
    signed = SLOTS if value.slot == MEAN_OF_SLOTS else f"{SLOTS}.{value.slot}"
    return signed if value.num_objects is None else f"{signed}.objects_{value.num_objects}"
