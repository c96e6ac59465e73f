"""Models of `clip_score` and `sentence_similarity`: local folders, safetensors, no remote code.

Only the two model families named here are built, by classes of transformers; nothing that a folder
names as code is run, and no weights are read from a pickle. They compute in float32.

On a CPU every image and every text is embedded by itself and without padding, so that its score
does not depend, in any digit, on what else is scored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModel, AutoTokenizer, CLIPImageProcessor, CLIPModel

from sca_bench.devices.arithmetic import arithmetic
from sca_bench.devices.gpu import is_gpu, resolve_device
from sca_bench.digests import file_sha256
from sca_bench.errors import InputError
from sca_bench.pretrained.folders import check_folder, check_size
from sca_bench.reading import RECORD_BYTES, read_json
from sca_bench.weight_paths import shards_of

_BATCH = 64
"""Images, or texts, that a GPU embeds at a time."""
_OFFLINE = {"local_files_only": True, "trust_remote_code": False}


class Clip:
    """A CLIP model with its preprocessing.

    Args:
        model: The model, frozen.
        tokenizer: Cuts texts; longer ones are cut off at the model's length.
        processor: Resizes, crops and normalises images.
        name: Folder and content of the weights, and whether a GPU computes, for a signature.
    """

    def __init__(self, model: Any, tokenizer: Any, processor: Any, name: str) -> None:
        self._model, self._tokenizer, self._processor, self.name = model, tokenizer, processor, name
        self._length = int(model.config.text_config.max_position_embeddings)

    @torch.no_grad()
    def cosines(
        self, images: Sequence[NDArray[np.uint8]], texts: Sequence[str]
    ) -> NDArray[np.float32]:
        """Return the cosine of every image with its own text, (len(images),) float32.

        Args:
            images: RGB uint8 (H, W, 3), any sizes.
            texts: One text per image.
        """
        step = _at_a_time(self._model.device)
        with arithmetic(self._model.device):
            parts = [
                self._cosines(images[first : first + step], texts[first : first + step])
                for first in range(0, len(images), step)
            ]
        return np.concatenate(parts)

    def _cosines(
        self, images: Sequence[NDArray[np.uint8]], texts: Sequence[str]
    ) -> NDArray[np.float32]:
        pixels = torch.cat(
            [
                self._processor(
                    np.array(image),  # a copy: torch takes no read-only pixels
                    return_tensors="pt",
                    input_data_format="channels_last",
                )["pixel_values"]
                for image in images
            ]
        )
        words = _cut(self._tokenizer, texts, self._length, self._model.device)
        seen = self._model.vision_model(pixel_values=pixels.to(self._model.device, torch.float32))
        read = self._model.text_model(**words)
        left = self._model.visual_projection(seen.pooler_output)
        right = self._model.text_projection(read.pooler_output)
        return _numpy(F.cosine_similarity(left, right))


class SentenceModel:
    """An encoder whose mean-pooled last hidden states embed a text.

    Args:
        model: The model, frozen.
        tokenizer: Cuts texts; longer ones are cut off at the model's length.
        name: Folder and content of the weights, and whether a GPU computes, for a signature.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self._model, self._tokenizer, self.name = model, tokenizer, name
        longest = getattr(model.config, "max_position_embeddings", 512)
        self._length = min(int(longest), int(tokenizer.model_max_length))

    @torch.no_grad()
    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, (len(texts), width) float32, in the order of the texts."""
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        embeddings: list[NDArray[np.float32] | None] = [None] * len(texts)
        step = _at_a_time(self._model.device)
        for first in range(0, len(order), step):
            indices = order[first : first + step]
            chosen = [texts[index] for index in indices]
            words = _cut(self._tokenizer, chosen, self._length, self._model.device)
            with arithmetic(self._model.device):
                hidden = self._model(**words).last_hidden_state
            mask = words["attention_mask"][..., None].to(hidden.dtype)
            mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            for index, unit in zip(indices, _numpy(F.normalize(mean, dim=-1)), strict=True):
                embeddings[index] = unit
        return np.stack([unit for unit in embeddings if unit is not None])


_READ = ("*.safetensors", "*.json", "*.txt", "*.model")
"""What a model's numbers depend on: weights, settings, vocabulary."""


def load_clip(folder: Path, device: str = "auto") -> Clip:
    """Load a CLIP model in transformers' layout.

    Args:
        folder: With config.json, safetensors, tokenizer and preprocessor_config.json.
        device: Where it computes, as `runtime.device` names it.

    Raises:
        InputError: Something is missing or damaged, it is another kind of model, or there is no
            such device.
    """
    kind = _config(folder).get("model_type")
    if kind != "clip":
        raise InputError(
            folder / "config.json", "model_type", f"{kind!r} is no CLIP model", "expected 'clip'"
        )
    digest = weights_digest(folder)
    model = _frozen(folder, CLIPModel, device)
    tokenizer = _loaded(folder, "tokenizer", AutoTokenizer.from_pretrained)
    processor = _loaded(folder, "preprocessor_config.json", CLIPImageProcessor.from_pretrained)
    return Clip(model, tokenizer, processor, _signed(folder, digest, model.device))


def load_sentence(folder: Path, device: str = "auto") -> SentenceModel:
    """Load an encoder in transformers' layout, such as a sentence-transformers folder.

    Args:
        folder: With config.json, safetensors and tokenizer.
        device: Where it computes, as `runtime.device` names it.

    Raises:
        InputError: Something is missing or damaged, the folder asks for another pooling, or there
            is no such device.
    """
    _config(folder)
    pooling = folder / "1_Pooling" / "config.json"
    if pooling.is_file():
        modes = {k for k, v in _json(pooling).items() if k.startswith("pooling_mode_") and v}
        if modes != {"pooling_mode_mean_tokens"}:
            named = ", ".join(sorted(modes)) or "none"
            fix = "give a model that is pooled by its mean"
            raise InputError(pooling, "pooling_mode", f"the model asks for {named}", fix)
    modules = folder / "modules.json"
    if modules.is_file():
        kinds = [str(one.get("type", "")).rpartition(".")[2] for one in _list(modules)]
        other = [kind for kind in kinds if kind not in ("Transformer", "Pooling", "Normalize")]
        if other:
            fix = "give a model of Transformer, mean Pooling and Normalize"
            raise InputError(modules, "type", f"the model has a {other[0]} module", fix)
    digest = weights_digest(folder)
    model = _frozen(folder, AutoModel, device)
    tokenizer = _loaded(folder, "tokenizer", AutoTokenizer.from_pretrained)
    return SentenceModel(model, tokenizer, _signed(folder, digest, model.device))


def weights_digest(folder: Path) -> str:
    """Return a SHA-256 over a folder's weights, settings and vocabulary, by name and content.

    Raises:
        InputError: There are no safetensors.
    """
    files = sorted(path for kind in _READ for path in folder.glob(kind))
    below = (folder / name for name in shards_of(folder) if "/" in name)
    files += [path for path in below if path.is_file()]
    if not any(path.suffix == ".safetensors" for path in files):
        fix = "save the model with safetensors; pickled weights are not read"
        raise InputError(folder, "*.safetensors", "there are none", fix)
    digest = hashlib.sha256()
    for file in files:
        name = file.relative_to(folder).as_posix()
        digest.update(f"{name} {file_sha256(file)}\n".encode())
    return digest.hexdigest()


def _signed(folder: Path, digest: str, device: torch.device) -> str:
    """Return what a signature says of a model. On a GPU a value's last digits are its batch's."""
    where = ", in batches on a GPU" if is_gpu(device) else ""
    return f"{folder.resolve().name} {digest[:12]}{where}"


def _frozen(folder: Path, architecture: Any, device: str) -> Any:
    """Build a model with all its weights, for evaluation on a device."""

    def build(source: str, **options: Any) -> None:
        config = AutoConfig.from_pretrained(source, **options)
        own = getattr(architecture, "from_config", architecture)
        check_size(folder, lambda: own(config))

    check_folder(folder)
    _loaded(folder, "config.json", build)
    model, report = _loaded(
        folder,
        "weights",
        architecture.from_pretrained,
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        problem = f"{missing[0]} and {len(missing) - 1} more are missing"
        raise InputError(folder, "weights", problem, "give the folder of a whole model")
    return model.requires_grad_(False).eval().to(torch.device(resolve_device(device)))


def _loaded(folder: Path, part: str, load: Callable[..., Any], **options: Any) -> Any:
    try:
        return load(str(folder), **_OFFLINE, **options)
    except InputError:
        raise
    except Exception as error:  # transformers raises of many kinds on what it cannot read
        why = " ".join(str(error).split())[:200]
        raise InputError(folder, part, f"cannot be loaded ({why})", "check the folder") from error


def _at_a_time(device: torch.device) -> int:
    return 1 if device.type == "cpu" else _BATCH


def _cut(tokenizer: Any, texts: Sequence[str], length: int, device: Any) -> Any:
    return tokenizer(
        list(texts), return_tensors="pt", padding=True, truncation=True, max_length=length
    ).to(device)


def _config(folder: Path) -> dict[str, Any]:
    return _json(folder / "config.json")


def _json(path: Path) -> dict[str, Any]:
    content = _read(path)
    if not isinstance(content, dict):
        raise InputError(path, "", "is no JSON object", "name a model's folder")
    return content


def _list(path: Path) -> list[dict[str, Any]]:
    content = _read(path)
    return [one for one in content if isinstance(one, dict)] if isinstance(content, list) else []


def _read(path: Path) -> Any:
    try:
        return read_json(path, RECORD_BYTES)
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        raise InputError(path, "", problem, "name a model's folder") from error


def _numpy(values: torch.Tensor) -> NDArray[np.float32]:
    return np.asarray(values.float().cpu().numpy(), np.float32)
