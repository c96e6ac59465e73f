"""The words of the rendered world: what its captions can say, and how to read a caption back.

A caption is `a SIZE TEXTURE COLOUR SHAPE RELATION a NEIGHBOUR_COLOUR NEIGHBOUR_SHAPE`, for example
`a small striped red cross left of a blue circle`. The first half needs the region's own pixels,
the second half needs its surroundings. Nothing here imports torch or numpy.
"""

from __future__ import annotations

from collections.abc import Mapping

WORLD_VERSION = "scenes-1"
"""Raised whenever a pixel, a box or a caption of any scene changes; part of every cell's key."""

SIZES = ("small", "large")
TEXTURES = ("plain", "striped", "dotted")
COLOURS = ("red", "green", "blue", "yellow", "purple")
SHAPES = ("circle", "square", "triangle", "cross")
RELATIONS = ("left of", "right of", "above", "below")

WORDS: dict[str, tuple[str, ...]] = {
    "size": SIZES,
    "texture": TEXTURES,
    "colour": COLOURS,
    "shape": SHAPES,
    "relation": RELATIONS,
    "neighbour_colour": COLOURS,
    "neighbour_shape": SHAPES,
}
"""The simple slots in caption order, each with its possible values."""

SIMPLE_SLOTS = tuple(WORDS)
NEIGHBOUR = "neighbour"
"""Composite slot: neighbour colour and shape together, right only if both are right."""
SLOTS = (*SIMPLE_SLOTS, NEIGHBOUR)

VOCABULARY = ("a", *SIZES, *TEXTURES, *COLOURS, *SHAPES, "left", "right", "of", "above", "below")
"""Every word a caption can hold."""

_RELATION_BY_WORD = {relation.split()[0]: relation for relation in RELATIONS}
_SUBJECT_KINDS = ("size", "texture", "colour", "shape")
_SLOT_BY_WORD = {word: slot for slot in _SUBJECT_KINDS for word in WORDS[slot]}


def make_caption(slots: Mapping[str, str]) -> str:
    """Return the caption that says exactly these slots.

    Args:
        slots: A value for each of `SIMPLE_SLOTS`; further keys (such as the composite) are ignored.

    Raises:
        ValueError: A slot is missing or its value is not a word of that slot.
    """
    for slot, words in WORDS.items():
        if slots.get(slot) not in words:
            raise ValueError(f"slot {slot}: {slots.get(slot)!r} is not one of {', '.join(words)}")
    subject = " ".join(slots[slot] for slot in _SUBJECT_KINDS)
    neighbour = f"{slots['neighbour_colour']} {slots['neighbour_shape']}"
    return f"a {subject} {slots['relation']} a {neighbour}"


CLASS_SLOTS: dict[str, tuple[str, ...]] = {
    "shape": ("shape",),
    "colour_shape": ("colour", "shape"),
    "subject": _SUBJECT_KINDS,
}
"""What a class name in place of a whole caption says, in its order: 4, 20 or 120 classes."""


def class_name(slots: Mapping[str, str], kind: str) -> tuple[str, dict[str, str]]:
    """Return a class name in place of a caption, and the slots that it fills.

    Args:
        slots: The slots of the whole caption.
        kind: A key of `CLASS_SLOTS`: `circle`, `red circle` or `small striped red circle`.
    """
    own_slots = {slot: slots[slot] for slot in CLASS_SLOTS[kind]}
    return " ".join(own_slots.values()), own_slots


def with_composite(slots: Mapping[str, str]) -> dict[str, str]:
    """Return the simple slots plus the composite neighbour slot, where both its parts are known."""
    slots_of_scene = {slot: slots[slot] for slot in SIMPLE_SLOTS if slot in slots}
    if "neighbour_colour" in slots_of_scene and "neighbour_shape" in slots_of_scene:
        slots_of_scene[NEIGHBOUR] = (
            f"{slots_of_scene['neighbour_colour']} {slots_of_scene['neighbour_shape']}"
        )
    return slots_of_scene


def class_of(caption: str) -> str:
    """Return the shape that a caption says of its region; empty where it says none."""
    return parse(caption).get("shape", "")


def parse(caption: str) -> dict[str, str]:
    """Read the slots a caption fills, however wrong the caption is.

    Words up to the first relation (or, where none is said, up to the first shape) describe the
    region itself, words after it the neighbour. The first word of a kind counts; later ones, and
    words the world does not know, are ignored.

    Returns:
        Slot -> value for every slot that the caption fills, the composite included; an empty
        dictionary for a caption without a known word. `parse(make_caption(s))` gives `s` back.
    """
    words = [word.strip(".,;:!?\"'").lower() for word in caption.split()]
    slots: dict[str, str] = {}
    prefix = ""
    for word in words:
        if word in _RELATION_BY_WORD:
            slots.setdefault("relation", _RELATION_BY_WORD[word])
            prefix = "neighbour_"
        elif word in _SLOT_BY_WORD:
            kind = _SLOT_BY_WORD[word]
            if not prefix and kind == "shape" and "shape" not in slots:
                slots["shape"] = word
                prefix = "neighbour_"
            elif prefix + kind in WORDS:
                slots.setdefault(prefix + kind, word)
    return with_composite(slots)
