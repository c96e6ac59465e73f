"""The field's reference scorers, called one by one on tokenised captions.

Never through `COCOEvalCap`, which constructs all scorers at once and so fails as a whole where one
of them cannot start. Every function takes the references of each region and one caption per
region, and returns the corpus value and the regions' values in the order given; 0-1, CIDEr-D 0-10.
"""

from __future__ import annotations

from collections.abc import Sequence

from sca_bench.errors import NotComputed

References = Sequence[Sequence[str]]


def _keyed(references: References, hypotheses: Sequence[str]) -> tuple[dict, dict]:
    if len(references) != len(hypotheses):
        raise ValueError(f"{len(references)} reference groups, {len(hypotheses)} captions")
    # One document per region, also where an image has many; padded keys sort as regions stand.
    keys = [f"{index:09d}" for index in range(len(hypotheses))]
    groups = {key: list(group) for key, group in zip(keys, references, strict=True)}
    return groups, {key: [caption] for key, caption in zip(keys, hypotheses, strict=True)}


def cider_d(references: References, hypotheses: Sequence[str]) -> tuple[float, list[float]]:
    """CIDEr-D (n 1-4, sigma 6), document frequencies from the references given.

    pycocoevalcap's class is called `Cider` and computes CIDEr-D, which is what papers print as
    CIDEr. With a single region every value is 0, since log 1 is.

    Raises:
        NotComputed: No reference holds a word, so there is no document frequency.

    Source: Vedantam et al., CIDEr, CVPR 2015.
    """
    from pycocoevalcap.cider.cider import Cider

    if not any(reference.split() for group in references for reference in group):
        raise NotComputed("CIDEr-D: no reference holds a word after tokenisation")
    value, per_region = Cider().compute_score(*_keyed(references, hypotheses))
    return float(value), [float(one) for one in per_region]


def bleu(
    references: References, hypotheses: Sequence[str]
) -> tuple[list[float], list[list[float]]]:
    """BLEU-1 to BLEU-4, corpus level, closest reference length.

    Returns:
        Four corpus values, and four lists of sentence values (whose mean is not the corpus value).

    Source: Papineni et al., BLEU, ACL 2002.
    """
    from pycocoevalcap.bleu.bleu import Bleu

    values, per_region = Bleu(4).compute_score(*_keyed(references, hypotheses), verbose=0)
    return [float(value) for value in values], [[float(one) for one in row] for row in per_region]


def rouge_l(references: References, hypotheses: Sequence[str]) -> tuple[float, list[float]]:
    """ROUGE-L (beta 1.2), mean over regions.

    Source: Lin, ROUGE, ACL workshop 2004.
    """
    from pycocoevalcap.rouge.rouge import Rouge

    value, per_region = Rouge().compute_score(*_keyed(references, hypotheses))
    return float(value), [float(one) for one in per_region]
