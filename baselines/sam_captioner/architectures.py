"""GIT, BLIP and BLIP-2 of transformers behind the same few calls.

Each class hides one library model: how its prefix is made, where its text stands in the output, and
what its checkpoints can get silently wrong (see `check`).
Shape legend: N images, S side in pixels, P prefix tokens, L generated tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

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


class Architecture(Protocol):
    """One kind of image captioner.

    Attributes:
        model_type: What transformers calls it in `config.json`.
        model_class: Its class in transformers.
        image_processor: Its image processor, of the PIL backend: the torchvision backend resizes
            differently, and which of the two the automatic choice gives depends on what is
            installed.
        answers: Whether it takes a text prompt that names what to say.
        model: The model itself.
        image_size: Side S of its images.
        start_id: Token in front of every caption.
        end_ids: Tokens that end a caption.
        pad_id: Token behind the end.
        max_tokens: Positions for start token, prompt and caption.
        num_placeholders: Tokens that hold the image's place in front of them.
    """

    model_type: str
    model_class: Any
    image_processor: Any
    answers: bool
    model: Any
    image_size: int
    start_id: int
    end_ids: tuple[int, ...]
    pad_id: int
    max_tokens: int
    num_placeholders: int

    def __init__(self, model: Any) -> None: ...

    def vocab_size(self) -> int:
        """Return the number of token ids the model embeds."""
        ...

    def check(self, written: Mapping[str, Any], tokenizer: Any, name: str, where: str) -> None:
        """Refuse a checkpoint that would run and say the wrong thing.

        Args:
            written: `config.json` as it is written, without the defaults of the library.
            tokenizer: The tokenizer that will read the model's ids.
            name: The checkpoint.
            where: File to name in an error.

        Raises:
            InputError: Something does not fit, or is left to a default that is wrong.
        """
        ...

    def prefix(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Return token ids and attention mask (N, P) of what stands in front of N captions.

        Args:
            prompts: Token ids of each caption's text prompt, without a start token.
        """
        ...

    def generate(
        self, pixels_N3SS: Tensor, ids_NP: Tensor, mask_NP: Tensor, **options: Any
    ) -> Tensor:
        """Return new token ids (N, L), without the prefix."""
        ...

    def logits(self, pixels_N3SS: Tensor, ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
        """Return the logits (N, T, V) of the token that follows each of T text tokens."""
        ...


class Git(nn.Module):
    """GIT: image tokens and text tokens in one transformer; only the text is counted.

    Source: Wang et al., GIT: A Generative Image-to-text Transformer for Vision and Language, 2022.
    """

    model_type = "git"
    model_class = GitForCausalLM
    image_processor = CLIPImageProcessorPil
    answers = False
    num_placeholders = 0

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        config = model.config
        self.image_size = int(config.vision_config.image_size)
        self.start_id, self.end_ids = config.bos_token_id, _take_end_ids(model)
        self.pad_id, self.max_tokens = config.pad_token_id, config.max_position_embeddings

    def vocab_size(self) -> int:
        return int(self.model.config.vocab_size)

    def check(self, written: Mapping[str, Any], tokenizer: Any, name: str, where: str) -> None:
        _check_special(tokenizer, "cls_token", self.start_id, name, where)
        _check_special(tokenizer, "sep_token", self.end_ids[0], name, where)

    def prefix(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        return _start_only(self.start_id, prompts, self._device())

    def generate(
        self, pixels_N3SS: Tensor, ids_NP: Tensor, mask_NP: Tensor, **options: Any
    ) -> Tensor:
        found: Tensor = self.model.generate(
            pixel_values=pixels_N3SS, input_ids=ids_NP, attention_mask=mask_NP, **options
        )
        return found[:, ids_NP.shape[1] :]

    def logits(self, pixels_N3SS: Tensor, ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
        out = self.model(input_ids=ids_NT, attention_mask=mask_NT, pixel_values=pixels_N3SS)
        logits: Tensor = out.logits[:, -ids_NT.shape[1] :]  # those of the image come first
        return logits

    def _device(self) -> torch.device:
        return self.model.output.weight.device  # type: ignore[no-any-return]


class Blip(nn.Module):
    """BLIP: a text decoder that attends to the image tokens.

    Source: Li et al., BLIP: Bootstrapping Language-Image Pre-training, ICML 2022.
    """

    model_type = "blip"
    model_class = BlipForConditionalGeneration
    image_processor = BlipImageProcessorPil
    answers = False
    num_placeholders = 0

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        text = model.config.text_config
        self.image_size = int(model.config.vision_config.image_size)
        # The library's own `generate` ends at the separator, whatever `eos_token_id` says.
        self.start_id = text.bos_token_id
        self.end_ids: tuple[int, ...] = (text.sep_token_id,)
        _take_end_ids(model.text_decoder)
        self.pad_id, self.max_tokens = text.pad_token_id, text.max_position_embeddings

    def vocab_size(self) -> int:
        return int(self.model.config.text_config.vocab_size)

    def check(self, written: Mapping[str, Any], tokenizer: Any, name: str, where: str) -> None:
        texts = [written.get(key) or {} for key in ("text_config", "text_config_dict")]
        if not any("num_attention_heads" in text for text in texts):
            raise InputError(
                where,
                KEY,
                f"config.json of {name!r} does not state text_config.num_attention_heads, and the"
                " library would take 8, while published BLIP captioners have 12",
                "write the number into config.json",
            )
        _check_special(tokenizer, "sep_token", self.end_ids[0], name, where)

    def prefix(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        return _start_only(self.start_id, prompts, self._device())

    def generate(
        self, pixels_N3SS: Tensor, ids_NP: Tensor, mask_NP: Tensor, **options: Any
    ) -> Tensor:
        image_NKC = self.model.vision_model(pixel_values=pixels_N3SS).last_hidden_state
        found: Tensor = self.model.text_decoder.generate(
            input_ids=ids_NP,
            attention_mask=mask_NP,
            encoder_hidden_states=image_NKC,
            encoder_attention_mask=torch.ones(
                image_NKC.shape[:2], dtype=torch.long, device=image_NKC.device
            ),
            **options,
        )
        return found[:, ids_NP.shape[1] :]

    def logits(self, pixels_N3SS: Tensor, ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
        out = self.model(pixel_values=pixels_N3SS, input_ids=ids_NT, attention_mask=mask_NT)
        logits: Tensor = out.logits
        return logits

    def _device(self) -> torch.device:
        return self.model.text_decoder.get_input_embeddings().weight.device  # type: ignore[no-any-return]


class Blip2(nn.Module):
    """BLIP-2 with OPT: query outputs take the place of image tokens in front of the text.

    Source: Li et al., BLIP-2: Bootstrapping Language-Image Pre-training with Frozen Image Encoders
    and Large Language Models, ICML 2023.
    """

    model_type = "blip-2"
    model_class = Blip2ForConditionalGeneration
    image_processor = BlipImageProcessorPil
    answers = True

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        config, text = model.config, model.config.text_config
        self.image_size = int(config.vision_config.image_size)
        self.image_token_id: int | None = config.image_token_index
        self.num_placeholders = int(config.num_query_tokens)
        # The library generates with the language model's own settings, which come from
        # `text_config`; what generation_config.json says of the whole model is not read.
        self.start_id, self.end_ids = text.bos_token_id, _take_end_ids(model.language_model)
        self.pad_id = text.pad_token_id
        self.max_tokens = int(getattr(text, "max_position_embeddings", 0)) - self.num_placeholders

    def vocab_size(self) -> int:
        return int(self.model.get_input_embeddings().num_embeddings)

    def check(self, written: Mapping[str, Any], tokenizer: Any, name: str, where: str) -> None:
        if self.model.config.text_config.model_type != "opt":
            kind = self.model.config.text_config.model_type
            raise InputError(where, KEY, f"{name!r} is a BLIP-2 with {kind}", "use one with OPT")
        self._check_placeholder(tokenizer, name, where)
        known = tokenizer.get_vocab()
        newline = next((known[word] for word in NEWLINES if word in known), None)
        if newline is not None and newline not in self.end_ids:
            raise InputError(
                where,
                KEY,
                f"{name!r} ends captions at {list(self.end_ids)}, but OPT captioners of BLIP-2 end"
                f" at the newline ({newline}) and go on with other text behind it",
                f'write "eos_token_id": {newline} into text_config of config.json',
            )
        _check_special(tokenizer, "bos_token", self.start_id, name, where)

    def _check_placeholder(self, tokenizer: Any, name: str, where: str) -> None:
        """Without placeholders in front of the text the model runs and ignores the image."""
        index, rows = self.image_token_id, self.vocab_size()
        if index is None or not 0 <= index < rows:
            raise InputError(
                where,
                KEY,
                f"config.json of {name!r} has image_token_index {index!r}, so the image would"
                " have no place in front of the caption",
                f"state the id of {IMAGE_TOKEN}, 0 to {rows - 1} (published OPT models: 50265)",
            )
        known = tokenizer.get_vocab()
        token = next((word for word, at in known.items() if at == index), IMAGE_TOKEN)
        if token != IMAGE_TOKEN or known.get(IMAGE_TOKEN, index) != index:
            raise InputError(
                where,
                KEY,
                f"config.json of {name!r} has image_token_index {index}, but its tokenizer has"
                f" {token!r} there and {IMAGE_TOKEN} at {known.get(IMAGE_TOKEN)}",
                "use the tokenizer that belongs to the model",
            )

    def prefix(self, prompts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        # Shorter prefixes are filled up on the left: on the right they would change the caption.
        images = [self.image_token_id] * self.num_placeholders
        rows = [[*images, self.start_id, *prompt] for prompt in prompts]
        width = max(map(len, rows))
        device = self.model.get_input_embeddings().weight.device
        ids_NP = torch.tensor([[self.pad_id] * (width - len(r)) + r for r in rows], device=device)
        lengths_N1 = torch.tensor([[len(row)] for row in rows], device=device)
        mask_NP = (torch.arange(width, device=device) >= width - lengths_N1).long()
        return ids_NP, mask_NP

    def generate(
        self, pixels_N3SS: Tensor, ids_NP: Tensor, mask_NP: Tensor, **options: Any
    ) -> Tensor:
        found: Tensor = self.model.generate(
            pixel_values=pixels_N3SS, input_ids=ids_NP, attention_mask=mask_NP, **options
        )
        return found[:, ids_NP.shape[1] :]

    def logits(self, pixels_N3SS: Tensor, ids_NT: Tensor, mask_NT: Tensor) -> Tensor:
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


def _take_end_ids(generator: Any) -> tuple[int, ...]:
    """Return the end tokens a model generates with, and forget all else a checkpoint asks for.

    What is not said in a call (penalties, forced tokens, lengths) would be taken from there.
    """
    found: Any = generator.generation_config.eos_token_id
    if found is None:
        found = generator.config.eos_token_id
    generator.generation_config = GenerationConfig()
    return tuple(found) if isinstance(found, list | tuple) else (found,)


def _start_only(
    start_id: int, prompts: Sequence[Sequence[int]], device: torch.device
) -> tuple[Tensor, Tensor]:
    ids_N1 = torch.full((len(prompts), 1), start_id, device=device)
    return ids_N1, torch.ones_like(ids_N1)


def _check_special(tokenizer: Any, token: str, wanted: int, name: str, where: str) -> None:
    found = getattr(tokenizer, f"{token}_id")
    if found != wanted:
        raise InputError(
            where,
            "baseline.tokenizer",
            f"has {token} {found!r}, but {name!r} was trained with {wanted!r}",
            "use the tokenizer that belongs to the model",
        )
