"""Values computed again by the field's own scorers, to see that none has moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sca_bench.metrics.coco_caption import reference_scorers
from sca_bench.metrics.coco_caption.meteor import Meteor

TOLERANCE = 1e-9


def largest_differences(
    references: reference_scorers.References,
    captions: Sequence[str],
    values: Mapping[str, float | None],
    per_region: Mapping[str, Sequence[float]],
    meteor: Meteor,
) -> dict[str, float]:
    """Return how far values are from those of pycocoevalcap's classes and of METEOR's own `EVAL`.

    Args:
        references: Tokenised references of each region.
        captions: One tokenised caption per region.
        values: Corpus values by key; what is None or no value of the field is left out.
        per_region: Regions' values by key.
        meteor: The process to ask; it is asked for every region.

    Returns:
        Key -> largest absolute difference over regions and corpus.

    Raises:
        NotComputed: A scorer cannot be run.
    """
    largest: dict[str, float] = {}
    computed = {key: value for key, value in values.items() if value is not None}

    def compare(key: str, value: float, regions: Sequence[float]) -> None:
        pairs = zip(per_region[key], regions, strict=True)
        largest[key] = max(abs(computed[key] - value), *(abs(a - b) for a, b in pairs))

    if "cider_d" in computed:
        compare("cider_d", *reference_scorers.cider_d(references, captions))
    if any(f"bleu_{n}" in computed for n in range(1, 5)):
        for n, both in enumerate(
            zip(*reference_scorers.bleu(references, captions), strict=True), start=1
        ):
            if f"bleu_{n}" in computed:
                compare(f"bleu_{n}", *both)
    if "rouge_l" in computed:
        compare("rouge_l", *reference_scorers.rouge_l(references, captions))
    if "meteor" in computed:
        compare("meteor", *meteor.score_by_jar(references, captions))
    return largest
