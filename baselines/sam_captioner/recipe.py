"""How the shipped tiny captioners were made: trained on crops and whole rendered scenes.

    python -m baselines.sam_captioner.recipe --out FOLDER [--only NAME]

Each is a small model of the library's own class. Three of four training images are crops of single
objects with a random margin, captioned with the subject phrase ("a small striped red cross"); the
others are whole scenes, captioned with the full caption of one of their objects. No mask, no box
and no SAM takes part: like the published captioners, these describe images, not regions. About 3
CPU-minutes each.

Scenes have seeds from 2,000,000 (training) and 2,900,000 (the measured figures), which no split of
a suite and no other shipped weights use.

Shape legend: N images, P prefix tokens, T caption tokens, end token included, V vocabulary.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from baselines.sam_captioner import crops
from baselines.sam_captioner.architectures import ARCHITECTURES
from baselines.sam_captioner.image_captioner import ImageCaptioner
from baselines.sam_captioner.loading import load_captioner, new_processor
from baselines.sam_captioner.sizes import TINY_WORDS, size_config
from sca_bench.captioner import Decoding
from sca_bench.data.readers.scenes import Scene, render_scene
from sca_bench.digests import file_sha256
from sca_bench.errors import InputError, did_you_mean
from sca_bench.files import write_atomic
from sca_bench.scene_grammar import WORLD_VERSION, parse
from sca_bench.settings import BaselineSettings

WEIGHTS_DIR = Path(__file__).parent / "weights"
MANIFEST = "manifest.json"
NAMES = {f"{kind}_scenes": kind for kind in ARCHITECTURES}
"""Shipped weights -> architecture."""
IGNORED = -100
NUM_RECORDED_LOSSES = 3
SUBJECT_WORDS = 5
"""A subject phrase is the first five words of a caption: "a small striped red cross"."""


@dataclass(frozen=True)
class Recipe:
    """Settings of a training."""

    seed: int = 0
    first_scene: int = 2_000_000
    num_scenes: int = 4000
    first_test_scene: int = 2_900_000
    num_test_scenes: int = 100
    whole_share: float = 0.4
    max_margin: float = 0.3
    steps: int = 1000
    images_per_step: int = 48
    learning_rate: float = 2.0e-3
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    init_std: float = 0.05


RECIPES = {"git": Recipe(), "blip": Recipe(), "blip2": Recipe(steps=1600)}
"""By architecture. BLIP-2's queries take longest to find the shapes."""


def recipe_settings(name: str) -> dict[str, Any]:
    """Return what decides the weights `name`, beside the tiny sizes: recipe, words, world."""
    settings = {"recipe": asdict(RECIPES[NAMES[name]]), "world": WORLD_VERSION, "words": TINY_WORDS}
    stored: dict[str, Any] = json.loads(json.dumps(settings))  # as it will be read back
    return stored


def scene_tokenizer() -> PreTrainedTokenizerFast:
    """Return the tokenizer of the tiny captioners: one token a word of the grammar."""
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(TINY_WORDS)}, "[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        bos_token="[CLS]",
        eos_token="[SEP]",
        extra_special_tokens=["<image>"],
        clean_up_tokenization_spaces=False,
    )


def new_captioner(kind: str, recipe: Recipe | None = None) -> ImageCaptioner:
    """Return an untrained tiny captioner; every parameter is drawn from the recipe's seed."""
    recipe = recipe or RECIPES[kind]
    architecture = ARCHITECTURES[kind]
    wrapped = architecture(architecture.model_class(size_config(kind, "tiny")))
    generator = torch.Generator().manual_seed(recipe.seed)
    with torch.no_grad():
        for name, parameter in sorted(wrapped.model.named_parameters()):
            if parameter.ndim >= 2:
                drawn = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(recipe.init_std * drawn)
            else:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
    processor = new_processor(architecture, wrapped.image_size)
    return ImageCaptioner(wrapped, processor, scene_tokenizer(), chunk=64, name=kind)


def draw(
    render: Callable[[int], Scene], recipe: Recipe, rng: np.random.Generator
) -> tuple[list[Image.Image], list[str]]:
    """Draw one step's images and captions; `render` makes a scene of its seed."""
    images: list[Image.Image] = []
    captions: list[str] = []
    for index in rng.integers(recipe.num_scenes, size=recipe.images_per_step).tolist():
        scene = render(recipe.first_scene + index)
        region = scene.regions[int(rng.integers(len(scene.regions)))]
        whole, margin = rng.random() < recipe.whole_share, recipe.max_margin * rng.random()
        if whole:
            images.append(Image.fromarray(scene.image))
            captions.append(region.caption)
        else:
            images.append(object_crop(scene.image, region.box_xyxy, margin))
            captions.append(subject_of(region.caption))
    return images, captions


def object_crop(
    image_HW3: NDArray[np.uint8], box_xyxy: tuple[float, ...], margin: float
) -> Image.Image:
    """Cut an object out of its scene, with a margin around its tight box."""
    hw = (image_HW3.shape[0], image_HW3.shape[1])
    return crops.cut(image_HW3, crops.widen(crops.prompt_box(box_xyxy, hw), margin, hw))


def subject_of(caption: str) -> str:
    """Return the half of a caption that needs only the object itself."""
    return " ".join(caption.split()[:SUBJECT_WORDS])


def caption_loss(
    captioner: ImageCaptioner, images: list[Image.Image], captions: list[str]
) -> Tensor:
    """Return the mean cross entropy of the captions' tokens, end tokens included, in nats."""
    ends = captioner.architecture.end_ids[:1]
    rows = [
        [*ids, *ends] for ids in captioner.tokenizer(captions, add_special_tokens=False).input_ids
    ]
    width, pad = max(map(len, rows)), captioner.architecture.pad_id
    ids_NT = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    labels_NT = torch.tensor([row + [IGNORED] * (width - len(row)) for row in rows])
    ids_NP, mask_NP = captioner.prefix(len(images))
    # Padding stands on the right, where no token that counts can see it.
    fed_NT = torch.cat([ids_NP, ids_NT[:, :-1]], dim=1)
    mask_NT = torch.cat([mask_NP, torch.ones_like(ids_NT[:, :-1])], dim=1)
    logits_NTV = captioner.architecture.logits(captioner.pixels(images), fed_NT, mask_NT)
    return F.cross_entropy(logits_NTV[:, -width:].flatten(0, 1), labels_NT.flatten())


def train(
    kind: str,
    recipe: Recipe,
    *,
    max_steps: int | None = None,
    report: Callable[[int, float], None] | None = None,
) -> tuple[ImageCaptioner, list[float]]:
    """Train one captioner.

    Args:
        kind: `git`, `blip` or `blip2`.
        recipe: The settings.
        max_steps: Stop after so many steps of the full schedule (to check the first losses).
        report: Called with step and loss after every step.

    Returns:
        The captioner in evaluation mode, and the loss of every step.
    """
    captioner = new_captioner(kind, recipe)
    rng = np.random.default_rng(recipe.seed)
    render = functools.cache(render_scene)
    optimizer = torch.optim.AdamW(
        captioner.parameters(),
        lr=recipe.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=recipe.weight_decay,
    )
    losses: list[float] = []
    captioner.train()
    for step in range(recipe.steps if max_steps is None else max_steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * _schedule(step, recipe)
        loss = caption_loss(captioner, *draw(render, recipe, rng))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(captioner.parameters(), recipe.clip_norm)
        optimizer.step()
        losses.append(float(loss.detach()))
        if report:
            report(step, losses[-1])
    return captioner.freeze(), losses


def _schedule(step: int, recipe: Recipe) -> float:
    """Return the share of the rate: a linear rise, then half a cosine down."""
    warmup = max(1, round(recipe.steps * recipe.warmup_share))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (recipe.steps - warmup)))


def measure(captioner: ImageCaptioner, recipe: Recipe) -> dict[str, float]:
    """Return accuracies over all objects of unseen scenes.

    `crop_WORD`: share of tight crops whose caption has the right size, texture, colour or shape;
    `crop_exact`: all four in a subject phrase; `whole_subject`: share of whole scenes whose caption
    begins with the subject phrase of one of their objects; `whole_true`: share of those whose
    caption is the full caption of one.
    """
    scenes = [render_scene(recipe.first_test_scene + i) for i in range(recipe.num_test_scenes)]
    decoding = Decoding(num_beams=1, max_new_tokens=19)
    objects = [(scene, region) for scene in scenes for region in scene.regions]
    pieces = [object_crop(scene.image, region.box_xyxy, 0.0) for scene, region in objects]
    captions = [caption.text for caption in captioner.caption(pieces, decoding)]
    accuracies: dict[str, float] = {}
    for slot in ("size", "texture", "colour", "shape"):
        hits = [
            parse(text).get(slot) == region.slots[slot]
            for text, (_, region) in zip(captions, objects, strict=True)
        ]
        accuracies[f"crop_{slot}"] = sum(hits) / len(hits)
    exact = [
        text == subject_of(region.caption)
        for text, (_, region) in zip(captions, objects, strict=True)
    ]
    accuracies["crop_exact"] = sum(exact) / len(exact)
    wholes = captioner.caption([Image.fromarray(scene.image) for scene in scenes], decoding)
    for key, half in (("whole_subject", subject_of), ("whole_true", str)):
        true = [
            half(caption.text) in {half(region.caption) for region in scene.regions}
            for caption, scene in zip(wholes, scenes, strict=True)
        ]
        accuracies[key] = sum(true) / len(true)
    return {key: round(value, 4) for key, value in accuracies.items()}


def save(captioner: ImageCaptioner, folder: Path) -> None:
    """Write a captioner as transformers does, in half precision."""
    # The library halves the model in place: what is measured later is what a user will load.
    captioner.architecture.model.half().save_pretrained(folder)
    captioner.processor.save_pretrained(folder)
    captioner.tokenizer.save_pretrained(folder)


def build(out_dir: Path, only: str | None = None, say: Callable[[str], None] = print) -> Path:
    """Train the captioners, write them and their manifest; return the manifest's path.

    Args:
        out_dir: Folder to write to; other captioners in it stay as they are.
        only: One of `NAMES`; all where None.
        say: Called with one line of progress now and then.

    Raises:
        InputError: The name is unknown.
    """
    if only is not None and only not in NAMES:
        raise InputError("recipe", only, "no such captioner", did_you_mean(only, NAMES))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name in [only] if only else NAMES:
            _build_one(name, out_dir, say)
    finally:
        torch.set_num_threads(threads)
    return out_dir / MANIFEST


def _build_one(name: str, out_dir: Path, say: Callable[[str], None]) -> None:
    started, kind = time.process_time(), NAMES[name]
    recipe = RECIPES[kind]

    def report(step: int, loss: float) -> None:
        if (step + 1) % 50 == 0:
            say(f"{name}: step {step + 1} of {recipe.steps}, loss {loss:.4f}")

    captioner, losses = train(kind, recipe, report=report)
    save(captioner, out_dir / name)
    loaded = load_captioner(kind, BaselineSettings(weights=str(out_dir / name)), chunk=64)
    entry = {
        **recipe_settings(name),
        "files": {p.name: file_sha256(p) for p in sorted((out_dir / name).iterdir())},
        "first_losses": losses[:NUM_RECORDED_LOSSES],
        "last_loss": sum(losses[-20:]) / len(losses[-20:]),
        "measured": measure(loaded, recipe),
        "num_params": sum(p.numel() for p in loaded.parameters()),
        "cpu_seconds": round(time.process_time() - started, 1),
        "made_with": {"torch": torch.__version__, "machine": platform.machine()},
    }
    path = out_dir / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    manifest[name] = entry
    write_atomic(path, json.dumps(manifest, indent=2, sort_keys=True) + "\n")
    say(f"{name}: {entry['measured']}, {entry['cpu_seconds']} CPU-s")


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Train the tiny captioners of rendered scenes.")
    parser.add_argument("--out", type=Path, default=WEIGHTS_DIR, help="folder to write to")
    parser.add_argument("--only", help=f"one of {', '.join(NAMES)}")
    arguments = parser.parse_args()
    build(arguments.out, arguments.only)


if __name__ == "__main__":
    main()
