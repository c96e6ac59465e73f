"""Cells of the published size with random weights, for benchmarks: built as a suite builds them.

SAM ViT-B at 1024 px, GPT-2 small, one image with 8 boxes, captions of 11 ids; or, for a quick run,
the tiny SAM at 96 px.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from sca_bench.batch import RegionBatch, RegionFeatures
from sca_bench.captioner import Decoding
from sca_bench.engine.features.bank import FeatureBank, Keys, image_key, to_rows
from sca_bench.engine.features.shards import ShardStore
from sca_bench.engine.worker.cell_group import CellGroup, Member
from sca_bench.engine.worker.mmengine_runner import build_optimiser
from sca_bench.engine.worker.rng import RngStream
from sca_bench.models.build import FrozenParts, build_sca, load_frozen_parts
from sca_bench.settings import CellSettings
from sca_bench.study.keys.cell import CellIdentity, families_of

QUICK = bool(os.environ.get("SCA_BENCH_QUICK"))
"""Small shapes, once: to see that the benchmark runs. No bar is held, no page written."""
MOST_REPEATS = 1 if QUICK else int(os.environ.get("SCA_BENCH_REPEATS", "3"))
DEPTHS = (1, 2) if QUICK else (2, 4, 8, 12)
SAM_SIZE, SIDE = ("tiny", 96) if QUICK else ("vit_b", 1024)
REGIONS = 8
CAPTION_WORDS = 10
NEW_TOKENS = 19
CPU = torch.device("cpu")
WORDS = [f"w{i}" for i in range(100)]


def settings(depth: int, variant: str = "sca") -> CellSettings:
    """Return the settings of one cell."""
    scenes = {"dataset": "scenes", "num_images": 1, "first_seed": 0}
    return CellSettings.model_validate(
        {
            "variant": variant,
            "sam": {"size": SAM_SIZE, "weights": "random"},
            "text_decoder": {"weights": "random:gpt2"},
            "mixer": {"num_layers": depth, **({"num_heads": 4} if QUICK else {})},
            "prefix": {"num_task_tokens": 6},
            "data": {"train": scenes, "test": scenes},
            "runtime": {"device": "cpu", "threads": 1},
        }
    )


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer of a word an id: untrained decoders have none."""
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<unk>", *WORDS])}, "<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


def load_parts() -> FrozenParts:
    """Return the frozen parts that all cells share."""
    parts = load_frozen_parts(settings(DEPTHS[0]))
    parts.text_decoder.tokenizer = tokenizer()
    return parts


def make_batch() -> RegionBatch:
    """Return one image of noise with 8 boxes and captions."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(1, REGIONS, 2, generator=generator) * 0.6 * SIDE
    return RegionBatch(
        image_ids=["image"],
        region_ids=[f"region {i}" for i in range(REGIONS)],
        region_mask_BR=torch.ones(1, REGIONS, dtype=torch.bool),
        boxes_xyxy_input_BR4=torch.cat([corners, corners + 0.25 * SIDE], dim=-1),
        pixel_values_B3HW=torch.randn(1, 3, SIDE, SIDE, generator=generator),
        input_sizes_hw=[(SIDE, SIDE)],
        captions=[" ".join(WORDS[i : i + CAPTION_WORDS]) for i in range(REGIONS)],
    )


@dataclass
class Cells:
    """Members with their optimisers, over shared frozen parts."""

    parts: FrozenParts
    members: list[Member]
    wrappers: dict[str, object]
    batch: RegionBatch

    @classmethod
    def build(cls, depths: tuple[int, ...], variant: str = "sca") -> Cells:
        """Build one cell per depth."""
        parts = load_parts()
        members = []
        for depth in depths:
            rng = RngStream(0, CPU)
            with rng.active():
                captioner = build_sca(settings(depth, variant), parts)
            identity = CellIdentity(settings(depth, variant), {})
            members.append(Member(str(depth), captioner, identity, rng))
        wrappers = {m.key: build_optimiser(m, CPU) for m in members}
        return cls(parts, members, wrappers, make_batch())

    def group(self, *keys: str, banks: dict | None = None) -> CellGroup:
        """Return the group of some members (all where none is named), ready to train."""
        members = [m for m in self.members if not keys or m.key in keys]
        group = CellGroup(members, CPU, banks or {}, Decoding(1, NEW_TOKENS))
        for member in members:
            member.captioner.train()
        return group

    def step(self, group: CellGroup) -> None:
        """Make one training step of a group, on an image that was not seen before."""
        self.batch = replace(
            self.batch, pixel_values_B3HW=self.batch.pixel_values_B3HW.roll(1, dims=-1)
        )
        losses = group.train_step(self.batch, self.wrappers)
        assert len(losses) == len(group.members), [m.error for m in group.members]

    @cached_property
    def embeddings(self) -> Tensor:
        """The image's embedding, as an encoder cache holds it."""
        with torch.no_grad():
            return self.parts.sam.encode_images(self.batch.pixel_values_B3HW)

    def encoder_cache(self, folder: Path) -> FeatureBank:
        """Return a bank that keeps the image's embedding on disk, and nothing else."""
        store = ShardStore(folder)
        rows = {"embeddings_BChw": to_rows(self.embeddings, torch.float32)}
        store.append([image_key(0, self.batch.image_ids[0])], rows, {})
        store.refresh()
        families = families_of(m.identity for m in self.members)
        features = self.members[0].settings.features
        return FeatureBank({"images": store}, families, Keys(str), features)

    def features(self) -> RegionFeatures:
        """Compute the frozen features from the embedding: prompts and SAM's mixer."""
        encoder = self.members[0].captioner.region_encoder
        return encoder.from_embeddings(
            self.embeddings,
            self.batch.image_index(),
            self.parts.sam.encode_prompts(self.batch.prompt_boxes()),
            families=families_of(m.identity for m in self.members),
        )


def rows_of(features: RegionFeatures, rows: list[int]) -> RegionFeatures:
    """Return the features of some regions (those that the main design reads)."""
    return replace(
        features,
        ious_NM=features.ious_NM[rows],
        image_index_N=features.image_index_N[rows],
        tokens_NTC=features.need("tokens_NTC")[rows],
        image_tokens_NSC=features.need("image_tokens_NSC")[rows],
    )


class Cost(NamedTuple):
    """CPU seconds (user and system, all threads) and wall seconds."""

    cpu_s: float
    wall_s: float


def cost_of(work) -> Cost:
    """Return what a piece of work costs."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return Cost(time.process_time() - cpu, time.perf_counter() - wall)


def alternate(pieces, repeats: int) -> dict[str, Cost]:
    """Run pieces of work in turn, several times; return of each the run of least CPU seconds."""
    least: dict[str, Cost] = {}
    for _ in range(min(repeats, MOST_REPEATS)):
        for name, work in pieces.items():
            found = cost_of(work)
            least[name] = min(found, least.get(name, found))
    return least


def main(depths: list[int]) -> None:
    """Take two training steps of a group; print peak memory and the second step's CPU seconds."""
    torch.set_num_threads(1)
    cells = Cells.build(tuple(depths))
    group = cells.group()
    cells.step(group)
    second = cost_of(lambda: cells.step(group))
    # ru_maxrss would do, but a process starts with that of the one that started it.
    status = dict(x.split(":", 1) for x in Path("/proc/self/status").read_text().splitlines())
    peak_kib = int(status["VmHWM"].split()[0])
    print(json.dumps({"peak_gib": peak_kib / 2**20, "cpu_s": second.cpu_s}))


if __name__ == "__main__":
    main([int(depth) for depth in sys.argv[1:]])
