"""One image captioner over any number of images, whatever the architecture.

Shape legend: N images, S side in pixels, P prefix tokens, L generated tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from baselines.sam_captioner.architectures import Architecture
from sca_bench.captioner import Decoding
from sca_bench.errors import InputError


@dataclass(frozen=True)
class ImageCaption:
    """One caption of one image.

    Attributes:
        text: Without special tokens and outer blanks.
        log_prob: Mean log-probability per generated token, end token included.
        ids: Generated token ids, end token included.
    """

    text: str
    log_prob: float
    ids: tuple[int, ...]


class ImageCaptioner(nn.Module):
    """GIT, BLIP or BLIP-2 with its image processor and its tokenizer."""

    def __init__(
        self, architecture: Architecture, processor: Any, tokenizer: Any, *, chunk: int, name: str
    ) -> None:
        """Put a captioner together from parts that fit each other (see `loading.check_parts`).

        Args:
            architecture: The model.
            processor: Image processor, of the PIL backend.
            tokenizer: Its tokenizer.
            chunk: Images captioned at a time; moves no number beyond rounding.
            name: What errors call it.
        """
        super().__init__()
        self.architecture = architecture
        self.processor, self.tokenizer = processor, tokenizer
        self.chunk, self.name = chunk, name

    def freeze(self) -> Self:
        """Put the model into evaluation mode, without gradients; return the captioner."""
        return self.eval().requires_grad_(False)

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """Turn RGB images of any sizes into model input, (N, 3, S, S), on the model's device.

        Images go in as PIL images: of an array three pixels high the library could not tell
        which axis holds the channels.
        """
        made: Tensor = self.processor(list(images), return_tensors="pt").pixel_values
        weight = next(iter(self.parameters()))
        return made.to(weight.device, weight.dtype)

    @torch.no_grad()
    def caption(
        self,
        images: Sequence[Image.Image],
        decoding: Decoding,
        prompts: Sequence[str] | None = None,
    ) -> list[ImageCaption]:
        """Caption images greedily or by beam search, length normalised, without any sampling.

        Args:
            images: RGB images.
            decoding: `max_new_tokens` counts what is generated and the end token; what stands in
                front (start token, image placeholders, prompt) does not count.
            prompts: A text for each image that its caption answers; none where None.

        Raises:
            InputError: The architecture takes no prompts, or has too few positions.
        """
        if prompts is not None and not self.architecture.answers:
            kind = self.architecture.model_type
            raise InputError(self.name, "crop.prompt", f"a {kind} captioner answers no questions")
        captions: list[ImageCaption] = []
        for start in range(0, len(images), self.chunk):
            part = slice(start, start + self.chunk)
            asked = None if prompts is None else prompts[part]
            captions += self._chunk(images[part], decoding, asked)
        return captions

    def prefix(self, count: int, prompts: Sequence[str] | None = None) -> tuple[Tensor, Tensor]:
        """Return ids and attention mask (N, P) of what stands in front of `count` captions."""
        rows: list[list[int]] = [[] for _ in range(count)]
        if prompts is not None:
            rows = self.tokenizer(list(prompts), add_special_tokens=False)["input_ids"]
        return self.architecture.prefix(rows)

    def _chunk(
        self, images: Sequence[Image.Image], decoding: Decoding, prompts: Sequence[str] | None
    ) -> list[ImageCaption]:
        pixels_N3SS = self.pixels(images)
        ids_NP, mask_NP = self.prefix(len(images), prompts)
        self._check_length(ids_NP.shape[1], decoding)
        recorder = _GreedyLogProbs()
        greedy = decoding.num_beams == 1
        new_NL = self.architecture.generate(
            pixels_N3SS,
            ids_NP,
            mask_NP,
            # Whatever a checkpoint asks for (sampling, lengths, penalties) would silently change
            # captions, and `max_length` would count the prefix.
            generation_config=GenerationConfig(
                max_new_tokens=decoding.max_new_tokens,
                num_beams=decoding.num_beams,
                do_sample=False,
                length_penalty=1.0,
                early_stopping=False,
                eos_token_id=list(self.architecture.end_ids),
                pad_token_id=self.architecture.pad_id,
            ),
            logits_processor=LogitsProcessorList([recorder] if greedy else []),
        )
        lengths = [self._length(ids) for ids in new_NL.tolist()]
        if greedy:
            log_probs_NL = torch.stack(recorder.steps, dim=1)
        else:
            # transformers would have to keep the scores of every beam, step and word instead.
            log_probs_NL = self.log_probs(pixels_N3SS, ids_NP, mask_NP, new_NL)
        rows = zip(new_NL.tolist(), log_probs_NL.tolist(), lengths, strict=True)
        return [
            ImageCaption(
                text=self._text(ids[:length]),
                log_prob=math.fsum(logs[:length]) / length,
                ids=tuple(ids[:length]),
            )
            for ids, logs, length in rows
        ]

    def log_probs(
        self, pixels_N3SS: Tensor, ids_NP: Tensor, mask_NP: Tensor, new_NL: Tensor
    ) -> Tensor:
        """Return the log-probability (N, L) of each token after a prefix, all read at once."""
        ids_NT = torch.cat([ids_NP, new_NL[:, :-1]], dim=1)
        mask_NT = torch.cat([mask_NP, torch.ones_like(new_NL[:, :-1])], dim=1)
        logits_NTV = self.architecture.logits(pixels_N3SS, ids_NT, mask_NT)
        logits_NLV = logits_NTV[:, -new_NL.shape[1] :].float()
        return logits_NLV.log_softmax(-1).gather(2, new_NL[..., None])[..., 0]

    def _length(self, ids: list[int]) -> int:
        """Return how many tokens were generated: up to the first end token, that one included."""
        ends = [index for index, token in enumerate(ids) if token in self.architecture.end_ids]
        return ends[0] + 1 if ends else len(ids)

    def _text(self, ids: list[int]) -> str:
        before_end = [token for token in ids if token not in self.architecture.end_ids]
        return str(self.tokenizer.decode(before_end, skip_special_tokens=True)).strip()

    def _check_length(self, num_prefix: int, decoding: Decoding) -> None:
        needed = num_prefix - self.architecture.num_placeholders + decoding.max_new_tokens
        if needed > self.architecture.max_tokens:
            raise InputError(
                self.name,
                "eval.max_new_tokens",
                f"{decoding.max_new_tokens} new tokens need {needed} text positions, but the"
                f" captioner has {self.architecture.max_tokens}",
                "lower it",
            )


class _GreedyLogProbs(LogitsProcessor):  # type: ignore[misc]
    """Keeps the log-probability of the best token of every step; changes no score."""

    def __init__(self) -> None:
        self.steps: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        values = scores.float()
        self.steps.append(values.amax(-1) - values.logsumexp(-1))
        return scores
