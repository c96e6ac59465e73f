"""How the tiny SAMs are trained: prompts in, masks out, never a word.

Recipe `sam_tiny` learns masks, a reconstruction of the pixels and class-free object descriptors;
`sam_tiny_no_descriptors` learns masks and reconstruction, `sam_tiny_masks_only` masks alone. The
heads for reconstruction and descriptors are thrown away afterwards: what is shipped is a plain SAM
in Meta's key layout.

Every parameter is initialised by name from one generator, so a recipe does not depend on the order
in which the model is built.

Shape legend: B images, N regions (prompts) or objects of the batch, S image tokens (= h*w),
C channels, M mask candidates, D descriptor entries.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sca_bench.embedded.sam_data import (
    DESCRIPTOR_DIM,
    GROUPS,
    SamScenes,
    descriptor_weights,
    load_scenes,
)
from sca_bench.models.sam.sam import Sam, build_sam
from sca_bench.specs.encoders import sam_dims


@dataclass(frozen=True)
class SamRecipe:
    """Settings of one SAM training; all of them enter the digest in the manifest."""

    reconstruction_weight: float
    descriptor_weight: float
    size: str = "tiny"
    seed: int = 0
    first_scene_seed: int = 1_000_000
    num_scenes: int = 1_600
    steps: int = 1_050
    images_per_step: int = 8
    prompts_per_image: int = 3
    point_share: float = 0.3
    box_jitter_px: float = 0.8
    learning_rate: float = 2e-3
    warmup_share: float = 0.15
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    focal_weight: float = 20.0
    iou_weight: float = 0.1
    eval_first_scene_seed: int = 1_900_000
    eval_num_scenes: int = 100

    def as_dict(self) -> dict[str, object]:
        """Return all settings, the model's sizes included."""
        settings = asdict(self) | {"dims": asdict(sam_dims(self.size))}
        del settings["size"]  # a name; the dims say what it means
        return settings | {"descriptor_groups": GROUPS}


RECIPES = {
    "sam_tiny": SamRecipe(reconstruction_weight=1.0, descriptor_weight=0.5),
    "sam_tiny_no_descriptors": SamRecipe(reconstruction_weight=1.0, descriptor_weight=0.0),
    "sam_tiny_masks_only": SamRecipe(reconstruction_weight=0.0, descriptor_weight=0.0),
    "sam_tiny_small": SamRecipe(1.0, 0.5, size="tiny_small"),
    "sam_tiny_large": SamRecipe(1.0, 0.5, size="tiny_large"),
}


_EMBEDDINGS = ("iou_token.", "mask_tokens.", "point_embeddings.", "_point_embed.", "_mask_embed.")
"""Parts of the names of SAM's learned tokens, which start as unit noise."""


class _Heads(nn.Module):
    """Linear heads for the side tasks; they exist only while SAM is trained."""

    def __init__(self, embed_dim: int, patch_px: int) -> None:
        super().__init__()
        self.pixels = nn.Linear(embed_dim, 3 * (patch_px // 2) ** 2)
        self.neck = nn.Linear(embed_dim, DESCRIPTOR_DIM)
        self.mixed = nn.Linear(embed_dim, DESCRIPTOR_DIM)
        self.prompted = nn.Linear(embed_dim, DESCRIPTOR_DIM)


@dataclass(frozen=True)
class _Prompts:
    """N prompts of a batch: the object each means, its image's place in the batch, its tokens."""

    objects_N: Tensor
    image_index_N: Tensor
    sparse_NPC: Tensor


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Set every parameter by its name and shape: norms to 1 and 0, the rest to small noise."""
    with torch.no_grad():
        for name, parameter in sorted(module.named_parameters()):
            is_matrix = parameter.ndim >= 2
            if not is_matrix:
                # The only vectors called `weight` are those of LayerNorms.
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
            elif name.endswith(("pos_embed", "rel_pos_h", "rel_pos_w")):
                parameter.copy_(0.02 * torch.randn(parameter.shape, generator=generator))
            elif any(word in name for word in _EMBEDDINGS):
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            else:
                fan_in = parameter[0].numel()
                noise = torch.rand(parameter.shape, generator=generator) * 2 - 1
                parameter.copy_(noise / math.sqrt(fan_in))
        for name, buffer in sorted(module.named_buffers()):
            if name.endswith("positional_encoding_gaussian_matrix"):
                buffer.copy_(torch.randn(buffer.shape, generator=generator))


def learning_rate_at(step: int, steps: int, peak: float, warmup_share: float) -> float:
    """Return the rate of a step: a linear rise, then half a cosine down to almost nothing."""
    warmup = max(1, round(steps * warmup_share))
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) + 1e-3)


def train_sam(
    recipe: SamRecipe,
    *,
    max_steps: int | None = None,
    report: Callable[[int, float], None] | None = None,
) -> tuple[Sam, list[float]]:
    """Train one SAM.

    Args:
        recipe: The settings.
        max_steps: Stop after so many steps of the full schedule (to check the first losses).
        report: Called with step and loss after every step.

    Returns:
        The model, frozen and in evaluation mode, and the loss of every step.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    sam = build_sam(recipe.size).requires_grad_(True).train()
    heads = _Heads(sam.dims.embed_dim, sam.dims.patch_size)
    initialise(sam, generator)
    initialise(heads, generator)
    parameters = [*sam.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(
        parameters, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=recipe.weight_decay
    )
    losses = []
    order: list[int] = []
    for step in range(recipe.steps if max_steps is None else max_steps):
        if len(order) < recipe.images_per_step:
            order = torch.randperm(recipe.num_scenes, generator=generator).tolist()
        drawn, order = order[: recipe.images_per_step], order[recipe.images_per_step :]
        scenes = load_scenes(recipe.first_scene_seed + index for index in drawn)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(
                step, recipe.steps, recipe.learning_rate, recipe.warmup_share
            )
        loss = _batch_loss(recipe, sam, heads, scenes, generator)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, recipe.clip_norm)
        optimizer.step()
        losses.append(float(loss.detach()))
        if report:
            report(step, losses[-1])
    return sam.eval().requires_grad_(False), losses


def _batch_loss(
    recipe: SamRecipe,
    sam: Sam,
    heads: _Heads,
    scenes: SamScenes,
    generator: torch.Generator,
) -> Tensor:
    embeddings_BChw = sam.encode_images(scenes.pixel_values_B3HW)
    prompts = _draw_prompts(recipe, sam, scenes, generator)
    tokens_NTC, keys_NSC = sam.mix(embeddings_BChw, prompts.image_index_N, prompts.sparse_NPC)
    logits_NMhw = sam.mask_logits(tokens_NTC, keys_NSC)
    loss = _mask_loss(recipe, sam, tokens_NTC, logits_NMhw, scenes.masks_NHW[prompts.objects_N])
    if recipe.reconstruction_weight:
        neck_BSC = embeddings_BChw.flatten(2).transpose(1, 2)
        half = F.avg_pool2d(scenes.pixel_values_B3HW, 2)
        target = F.pixel_unshuffle(half, sam.dims.patch_size // 2).flatten(2).transpose(1, 2)
        loss = loss + recipe.reconstruction_weight * F.mse_loss(heads.pixels(neck_BSC), target)
    if recipe.descriptor_weight:
        neck_BSC = embeddings_BChw.flatten(2).transpose(1, 2)
        loss = loss + recipe.descriptor_weight * _descriptor_loss(
            heads, scenes, prompts, neck_BSC, tokens_NTC, keys_NSC
        )
    return loss


def _draw_prompts(
    recipe: SamRecipe,
    sam: Sam,
    scenes: SamScenes,
    generator: torch.Generator,
) -> _Prompts:
    """Draw objects of each image and a jittered box or a point inside the mask for each."""
    drawn = []
    for image in range(len(scenes.pixel_values_B3HW)):
        candidates = (scenes.image_index_N == image).nonzero()[:, 0]
        shuffled = candidates[torch.randperm(len(candidates), generator=generator)]
        drawn.append(shuffled[: recipe.prompts_per_image])
    objects_N = torch.cat(drawn)
    noise = torch.randn(len(objects_N), 4, generator=generator)
    boxes_N4 = scenes.boxes_xyxy_N4[objects_N] + recipe.box_jitter_px * noise
    points_NP2 = _points_inside(scenes.masks_NHW[objects_N], generator)
    is_point_N = torch.rand(len(objects_N), generator=generator) < recipe.point_share
    sparse_NPC = torch.where(
        is_point_N[:, None, None],
        sam.encode_prompts(None, points_NP2),
        sam.encode_prompts(boxes_N4),
    )
    return _Prompts(objects_N, scenes.image_index_N[objects_N], sparse_NPC)


def _points_inside(masks_NHW: Tensor, generator: torch.Generator) -> Tensor:
    """Return one random pixel (x, y) inside each mask, (N, 1, 2)."""
    score = torch.rand(masks_NHW.shape, generator=generator).masked_fill(~masks_NHW, -1.0)
    chosen_N = score.flatten(1).argmax(1)
    width = masks_NHW.shape[-1]
    return torch.stack([chosen_N % width, chosen_N // width], -1).float()[:, None]


def _mask_loss(
    recipe: SamRecipe, sam: Sam, tokens_NTC: Tensor, logits_NMhw: Tensor, masks_NHW: Tensor
) -> Tensor:
    """Focal and dice loss of the single mask and of the best candidate; error of predicted IoUs."""
    target_N1hw = F.adaptive_avg_pool2d(masks_NHW[:, None].float(), logits_NMhw.shape[-1])
    target_NMhw = target_N1hw.expand_as(logits_NMhw)
    probability = logits_NMhw.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits_NMhw, target_NMhw, reduction="none")
    focal_NM = ((probability - target_NMhw) ** 2 * entropy).mean((-1, -2))
    overlap = (probability * target_NMhw).sum((-1, -2))
    total = probability.sum((-1, -2)) + target_NMhw.sum((-1, -2))
    dice_NM = 1 - (2 * overlap + 1) / (total + 1)
    each_NM = recipe.focal_weight * focal_NM + dice_NM
    predicted = logits_NMhw.detach() > 0
    meant = target_NMhw > 0.5
    iou_NM = (predicted & meant).sum((-1, -2)) / (predicted | meant).sum((-1, -2)).clamp(min=1)
    iou_loss = F.mse_loss(sam.predicted_ious(tokens_NTC), iou_NM)
    return each_NM[:, 0].mean() + each_NM[:, 1:].amin(1).mean() + recipe.iou_weight * iou_loss


def _descriptor_loss(
    heads: _Heads,
    scenes: SamScenes,
    prompts: _Prompts,
    neck_BSC: Tensor,
    tokens_NTC: Tensor,
    keys_NSC: Tensor,
) -> Tensor:
    """Let tokens that lie on an object say what it looks like and where it is.

    Every object of an image is asked for, not only the prompted one, at the encoder's tokens and
    again at the tokens that have passed the SAM mixer; SAM's mask token speaks for the prompted.
    """
    side = math.isqrt(neck_BSC.shape[1])
    covered_NS = F.adaptive_avg_pool2d(scenes.masks_NHW[:, None].float(), side).flatten(1)
    owner, token = (covered_NS > 0.4).nonzero(as_tuple=True)
    wanted, image_index = scenes.descriptors_ND[owner], scenes.image_index_N[owner]
    weights = descriptor_weights()

    def error(predicted: Tensor, meant: Tensor) -> Tensor:
        return ((predicted - meant) ** 2 * weights).sum(-1).mean()

    at_neck = error(heads.neck(neck_BSC[image_index, token]), wanted)
    pair_region, pair_row = (prompts.image_index_N[:, None] == image_index).nonzero(as_tuple=True)
    mixed = heads.mixed(keys_NSC[pair_region, token[pair_row]])
    at_mixed = error(mixed, wanted[pair_row])
    at_token = error(heads.prompted(tokens_NTC[:, 1]), scenes.descriptors_ND[prompts.objects_N])
    return at_neck + at_mixed + at_token
