"""The SCA captioner: an assembly of injected parts.

image encoder -> prompt encoder -> SAM mixer (all frozen) -> text mixer -> projection -> text
decoder. All computation runs on the N real regions of a batch; padding is never computed.

Shape legend: B images, R padded regions per image, N real regions in row-major (image, region)
order, P points or prefix positions, T tokens, S image tokens (= h*w), C channels, M mask
candidates, H caption heads, Q caption query tokens per head, K task tokens, D width of the text
decoder, L generated tokens. Flattened rows of N*H run head fastest.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the name the whole field uses)

from sca_bench.batch import RegionBatch, RegionFeatures
from sca_bench.captioner import Decoding
from sca_bench.errors import InputError, did_you_mean
from sca_bench.models.mixer import TwoWayMixer
from sca_bench.models.queries import CaptionQueries
from sca_bench.models.sam import Sam
from sca_bench.models.text_decoder import Generated, TextDecoder
from sca_bench.types import Prediction

TASKS = {"recognition": 0, "caption": 1}
"""Row block of the task tokens by task name."""


class ScaCaptioner(nn.Module):
    """Captions regions by letting caption queries read SAM's tokens.

    Trained stages: text mixer, caption queries, projection, task tokens, and the text decoder if
    `train_text_decoder`. Everything else has `requires_grad` off, and SAM stays in evaluation
    mode. The text decoder may be shared by several captioners, so its mode is set at each use.

    Source: Huang et al., Segment and Caption Anything, CVPR 2024.
    """

    def __init__(
        self,
        sam: Sam,
        queries: CaptionQueries & nn.Module if False else nn.Module,  # type: ignore  # noqa
        text_mixer: TwoWayMixer,
        projection: nn.Linear,
        task_tokens: nn.Embedding | None,
        text_decoder: TextDecoder,
    ) -> None:
        super().__init__()
