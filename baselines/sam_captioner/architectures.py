"""GIT, BLIP and BLIP-2 of transformers, called in one way.

Each class hides one library model: how its prefix is made, where its text stands in the output, and
what its checkpoints can get silently wrong (see `check`).
Shape legend: N images, S side in pixels, P prefix tokens, L generated tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    Blip2ForConditionalGeneration,
    BlipForConditionalGeneration,
    BlipImageProcessorPil,
    CLIPImageProcessorPil,
    GenerationConfig,
    GitForCausalLM,
)

from sca_bench.errors import InputError

IMAGE_TOKEN = "<image>"
NEWLINES = ("Ċ", "\n")
"""How a vocabulary may spell the newline: as byte-level tokenizers do, or as it is."""
KEY = "baseline.weights"


class Architecture(nn.Module):
    """One kind of image captioner; abstract.

    Attributes:
        model_type: What transformers calls it in `config.json`.
        model_class: Its class in transformers.
        image_processor: Its image processor, of the PIL backend: the torchvision backend resizes
            differently, and which of the two the automatic choice gives depends on what is
            installed.
        answers: Whether it takes a text prompt that names what to say.
        num_placeholders: Tokens in front of the text that hold the image's place.
        model: The model itself.
        generator: The part of it that generates tokens.
        image_size: Side S of its images.
        start_id: Token in front of every caption.
        end_ids: Tokens that end a caption.
        pad_id: Token after the end.
        max_tokens: Positions for start token, prompt and caption.
    """

    model_type: str
    model_class: Any
    image_processor: Any
    answers = False

    def __init__(self, model: Any) -> None:
        """Wrap a model of `model_class`."""
        super().__init__()
        generator, text = self.text_half(model)
        self.model, self.generator = model, generator
        self.num_placeholders = 0
        self.image_size = int(model.config.vision_config.image_size)
        self.start_id, self.pad_id = text.bos_token_id, text.pad_token_id
        self.end_ids = _end_ids(generator)
        self.max_tokens = int(text.max_position_embeddings)

    @staticmethod
    def text_half(model: Any) -> tuple[Any, Any]:
        """Return the part of a model that generates tokens, and its configuration."""
        raise NotImplementedError

    @property
    def vocab_size(self) -> int:
        """Number of token ids the model embeds."""
        return int(self.generator.get_input_embeddings().num_embeddings)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.generator.get_input_embeddings().weight.device  # type: ignore[no-any-return]

    def check(self, written: Mapping[str, Any], tokenizer: Any, name: str) -> None:
        """Refuse a checkpoint that would run and say the wrong thing.

        Args:
            written: `config.json` as it is written, without the defaults of the library.
            tokenizer: The tokenizer that will read the model's ids.
            name: The checkpoint.

        Raises:
            InputError: Something does not fit, or is left to a default that is wrong.
        """
        raise NotImplementedError

    def prefix(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Return token ids and attention mask (N, P) of what stands in front of N captions.

        Args:
            prompts: Token ids of each caption's text prompt, without a start token.
        """
        ids_N1 = torch.full((len(prompts), 1), self.start_id, device=self.device)
        return ids_N1, torch.ones_like(ids_N1)

    def generate(
        self, pixels_N3SS: Tensor, ids_NP: Tensor, mask_NP: Tensor, **options: Any
    ) -> Tensor:
        """Return new token ids (N, L), without the prefix."""
        sequences_NT: Tensor = self.model.generate(
            pixel_values=pixels_N3SS, input_ids=ids_NP, attention_mask=mask_NP, **options
        )
        return sequences_NT[:, ids_NP.shape[1] :]

    def logits(self, pixels_N3SS: Tensor, ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """Return the logits (N, T, V) of the token that follows each of T text tokens."""
        out = self.model(pixel_values=pixels_N3SS, input_ids=ids_NT, attention_mask=mask_NT)
        logits: Tensor = out.logits[:, -ids_NT.shape[1] :]  # GIT's image tokens come first
        return logits


class Git(Architecture):
    """GIT: image tokens and text tokens in one transformer; only the text is counted.

    Source: Wang et al., GIT: A Generative Image-to-text Transformer for Vision and Language, 2022.
    """

    model_type = "git"
    model_class = GitForCausalLM
    image_processor = CLIPImageProcessorPil

    @staticmethod
    def text_half(model: Any) -> tuple[Any, Any]:
        """Return the model itself: text and image have one transformer."""
        return model, model.config

    def check(self, written: Mapping[str, Any], tokenizer: Any, name: str) -> None:
        """Refuse a tokenizer with other special tokens."""
        _check_special(tokenizer, "cls_token", self.start_id, name)
        _check_special(tokenizer, "sep_token", self.end_ids[0], name)


class Blip(Architecture):
    """BLIP: a text decoder that attends to the image tokens.

    Source: Li et al., BLIP: Bootstrapping Language-Image Pre-training, ICML 2022.
    """

    model_type = "blip"
    model_class = BlipForConditionalGeneration
    image_processor = BlipImageProcessorPil

    def __init__(self, model: Any) -> None:
        """Wrap a `BlipForConditionalGeneration`."""
        super().__init__(model)
        # The library's own `generate` ends at the separator, whatever `eos_token_id` says.
        self.end_ids = (model.config.text_config.sep_token_id,)

    @staticmethod
    def text_half(model: Any) -> tuple[Any, Any]:
        """Return the text decoder."""
        return model.text_decoder, model.config.text_config

    def check(self, written: Mapping[str, Any], tokenizer: Any, name: str) -> None:
        """Refuse attention heads left to the library's default, and other special tokens."""
        texts = [written.get(key) or {} for key in ("text_config", "text_config_dict")]
        if not any("num_attention_heads" in text for text in texts):
            raise InputError(
                None,
                KEY,
                f"config.json of {name!r} does not state text_config.num_attention_heads, and the"
                " library would take 8, while published BLIP captioners have 12",
                "write the number into config.json",
            )
        _check_special(tokenizer, "sep_token", self.end_ids[0], name)

    def generate(
        self, pixels_N3SS: Tensor, ids_NP: Tensor, mask_NP: Tensor, **options: Any
    ) -> Tensor:
        """Return new token ids (N, L), without the prefix."""
        # The library's own `generate` replaces start and end of what it is given.
        image_NKC = self.model.vision_model(pixel_values=pixels_N3SS).last_hidden_state
        sequences_NT: Tensor = self.model.text_decoder.generate(
            input_ids=ids_NP,
            attention_mask=mask_NP,
            encoder_hidden_states=image_NKC,
            encoder_attention_mask=torch.ones(
                image_NKC.shape[:2], dtype=torch.long, device=image_NKC.device
            ),
            **options,
        )
        return sequences_NT[:, ids_NP.shape[1] :]


class Blip2(Architecture):
    """BLIP-2 with OPT: query outputs take the place of image tokens in front of the text.

    Source: Li et al., BLIP-2: Bootstrapping Language-Image Pre-training with Frozen Image Encoders
    and Large Language Models, ICML 2023.
    """

    model_type = "blip-2"
    model_class = Blip2ForConditionalGeneration
    image_processor = BlipImageProcessorPil
    answers = True

    def __init__(self, model: Any) -> None:
        """Wrap a `Blip2ForConditionalGeneration`."""
        super().__init__(model)
        self.image_token_id: int | None = model.config.image_token_index
        self.num_placeholders = int(model.config.num_query_tokens)
        self.max_tokens -= self.num_placeholders

    @staticmethod
    def text_half(model: Any) -> tuple[Any, Any]:
        """Return the language model.

        The library generates with its own settings, which come from `text_config`; what
        generation_config.json says of the whole model is not read.
        """
        return model.language_model, model.config.text_config

    def check(self, written: Mapping[str, Any], tokenizer: Any, name: str) -> None:
        """Refuse a model without OPT, without a place for its image, or that does not end."""
        if self.model.config.text_config.model_type != "opt":
            kind = self.model.config.text_config.model_type
            raise InputError(None, KEY, f"{name!r} is a BLIP-2 with {kind}", "use one with OPT")
        self._check_placeholder(tokenizer, name)
        known = tokenizer.get_vocab()
        newline = next((known[word] for word in NEWLINES if word in known), None)
        if newline is not None and newline not in self.end_ids:
            raise InputError(
                None,
                KEY,
                f"{name!r} ends captions at {list(self.end_ids)}, but OPT captioners of BLIP-2 end"
                f" at the newline ({newline}) and go on with other text after it",
                f'write "eos_token_id": {newline} into text_config of config.json',
            )
        _check_special(tokenizer, "bos_token", self.start_id, name)

    def _check_placeholder(self, tokenizer: Any, name: str) -> None:
        """Without placeholders in front of the text the model runs and ignores the image."""
        index, rows = self.image_token_id, self.vocab_size
        if index is None or not 0 <= index < rows:
            raise InputError(
                None,
                KEY,
                f"config.json of {name!r} has image_token_index {index!r}, so the image would"
                " have no place in front of the caption",
                f"state the id of {IMAGE_TOKEN}, 0 to {rows - 1} (published OPT models: 50265)",
            )
        known = tokenizer.get_vocab()
        token = next((word for word, at in known.items() if at == index), IMAGE_TOKEN)
        if token != IMAGE_TOKEN or known.get(IMAGE_TOKEN, index) != index:
            raise InputError(
                None,
                KEY,
                f"config.json of {name!r} has image_token_index {index}, but its tokenizer has"
                f" {token!r} there and {IMAGE_TOKEN} at {known.get(IMAGE_TOKEN)}",
                "use the tokenizer that belongs to the model",
            )

    def prefix(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Return placeholders, start token and prompts, and where they stand, (N, P)."""
        # Shorter prefixes are filled up on the left: on the right they would change the caption.
        images = [self.image_token_id] * self.num_placeholders
        rows = [[*images, self.start_id, *prompt] for prompt in prompts]
        width = max(map(len, rows))
        device = self.device
        ids_NP = torch.tensor([[self.pad_id] * (width - len(r)) + r for r in rows], device=device)
        lengths_N1 = torch.tensor([[len(row)] for row in rows], device=device)
        mask_NP = (torch.arange(width, device=device) >= width - lengths_N1).long()
        return ids_NP, mask_NP

    def logits(self, pixels_N3SS: Tensor, ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """Return the logits (N, T, V) of the token that follows each of T text tokens."""
        # The model's own forward pass looks for placeholders by id, and would take one that was
        # generated for a place of the image.
        queries_NKC = self.model.get_image_features(pixels_N3SS, return_dict=True).pooler_output
        is_place_NT = (mask_NT == 1) & (mask_NT.cumsum(1) <= self.num_placeholders)
        embedded_NTC = self.model.get_input_embeddings()(ids_NT)
        embedded_NTC = embedded_NTC.masked_scatter(
            is_place_NT[..., None], queries_NKC.to(embedded_NTC.dtype)
        )
        out = self.model.language_model(inputs_embeds=embedded_NTC, attention_mask=mask_NT)
        logits: Tensor = out.logits
        return logits


ARCHITECTURES: dict[str, type[Architecture]] = {"git": Git, "blip": Blip, "blip2": Blip2}
"""By the names that variants use."""


def _end_ids(generator: Any) -> tuple[int, ...]:
    """Return the end tokens that a checkpoint generates with."""
    end_ids: Any = generator.generation_config.eos_token_id
    if end_ids is None:
        end_ids = generator.config.eos_token_id
    return tuple(end_ids) if isinstance(end_ids, list | tuple) else (end_ids,)


def forget_generation_settings(architecture: Architecture) -> None:
    """Drop what a checkpoint asks of generation: penalties, forced tokens, lengths, sampling.

    The library would take from there whatever a call does not say, and change captions silently.
    """
    architecture.generator.generation_config = GenerationConfig()


def _check_special(tokenizer: Any, token: str, wanted: int, name: str) -> None:
    token_id = getattr(tokenizer, f"{token}_id")
    if token_id != wanted:
        raise InputError(
            None,
            "baseline.tokenizer",
            f"has {token} {token_id!r}, but {name!r} was trained with {wanted!r}",
            "use the tokenizer that belongs to the model",
        )
