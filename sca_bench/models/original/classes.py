"""The model classes of the original code base, in this package's terms.

Not here are its class with encoders of timm and its pipeline of SAM and a captioner: neither is SCA
over SAM's own embeddings.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sca_bench.errors import InputError, did_you_mean
from sca_bench.models.sca import ScaCaptioner

MIXER, QUERIES, TASKS = (
    "mask_decoder.additional_transformer.",
    "mask_decoder.caption_tokens.",
    "task_tokens.",
)
STACKED = "language_project.0."
"""How the names of a projection begin that is a stack of layers, be it of one."""
_PARTS = {
    MIXER: "a text mixer",
    QUERIES: "caption query tokens",
    TASKS: "task tokens",
    STACKED: "a stacked projection",
}


@dataclass(frozen=True)
class OriginalClass:
    """One class.

    Attributes:
        name: As `architectures` in its configuration says it.
        variant: Registry name of the same design here.
        has: Prefixes of the trained tensors that tell classes apart.
        mixer_settings: Fields of `mixer` that its configuration decides, beside the mixer's sizes.
        label_smoothing: Of its training loss.
    """

    name: str
    variant: str
    has: frozenset[str]
    mixer_settings: tuple[str, ...] = ()
    label_smoothing: float = 0.1


_BOTH = ("num_query_tokens", "num_caption_heads")

CLASSES: dict[str, OriginalClass] = {
    model.name: model
    for model in (
        OriginalClass("ScaMultitaskV2Model", "sca", frozenset({MIXER, QUERIES, TASKS}), _BOTH),
        OriginalClass(
            "ScaMultitaskSplitMixerModel",
            "sca_split_mixer",
            frozenset({MIXER, QUERIES, TASKS}),
            _BOTH,
        ),
        OriginalClass("ScaDirectDecodingV2Model", "sca_sam_query", frozenset({MIXER, TASKS})),
        OriginalClass(
            "ScaDirectDecodingModel", "sca_sam_query_v1", frozenset({MIXER}), label_smoothing=0.0
        ),
        OriginalClass("ScaMultitaskROIPoolModel", "sca_roi_align", frozenset({TASKS, STACKED})),
        OriginalClass(
            "ScaMultitaskModel", "sca_mask_heads", frozenset({MIXER, QUERIES, TASKS}), _BOTH[:1]
        ),
        OriginalClass(
            "ScaModel",
            "sca_mask_heads",
            frozenset({MIXER, QUERIES}),
            _BOTH[:1],
            label_smoothing=0.0,
        ),
    )
}


def get_class(name: str | None) -> OriginalClass:
    """Return a class by its name.

    Raises:
        InputError: It is unknown, or not supported.
    """
    if name not in CLASSES:
        fix = did_you_mean(name, CLASSES) if name else f"name it: {', '.join(CLASSES)}"
        raise InputError(None, "architectures", f"{name} is not supported", fix)
    return CLASSES[name]


def class_of(model: ScaCaptioner) -> OriginalClass:
    """Return the class in which the original has this design.

    Raises:
        InputError: There is none.
    """
    fitting = [c for c in CLASSES.values() if c.variant == model.variant]
    if not fitting:
        known = ", ".join(sorted({c.variant for c in CLASSES.values()}))
        problem = f"the original's layout cannot express this: {model.variant} is none of {known}"
        raise InputError(None, "variant", problem)
    for candidate in fitting:
        if (TASKS in candidate.has) == (model.task_tokens is not None):
            return candidate
    wanted = "at least one is needed" if TASKS in fitting[0].has else "must be 0"
    problem = f"the original's layout cannot express this: {wanted}"
    raise InputError(None, "prefix.num_task_tokens", problem)


def check_parts(names: Iterable[str], chosen: OriginalClass) -> None:
    """Check that a checkpoint's tensors have the parts that tell the class.

    Raises:
        InputError: A part is missing or one too many; the classes that would fit are named.
    """
    names = tuple(names)
    has = {part for part in _PARTS if any(name.startswith(part) for name in names)}
    for part, words in _PARTS.items():
        if (part in has) == (part in chosen.has):
            continue
        fitting = [c.name for c in CLASSES.values() if c.has == has]
        holds = f"the weights hold {words}, {chosen.name} has none"
        lacks = f"the weights hold no {words.removeprefix('a ')}, which {chosen.name} has"
        fix = f"they fit {' or '.join(fitting)}" if fitting else "they fit no class known here"
        raise InputError(None, "architectures", holds if part in has else lacks, fix)
