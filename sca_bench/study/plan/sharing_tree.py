"""What the cells of a plan share, as a tree: each level is a part that its cells compute alike.

From the root down: preprocessing, image encoder, prompt encoder and SAM mixer, text decoder, data
order, pretraining; below stand the cells. Cells that are still together after the data order run
as one group for each seed (`prefix_key`); text mixer and projection are each cell's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from sca_bench.settings import CellSettings, SplitSettings
from sca_bench.specs.encoders import in_sam
from sca_bench.study.keys.fingerprint import digest_json
from sca_bench.study.plan.plan import Job


@dataclass(frozen=True)
class Node:
    """Runs that share everything down to here.

    Attributes:
        part: The part they share.
        what: What that part is.
        jobs: The runs.
        children: The same runs, divided by the next part; empty below the last one.
    """

    part: str
    what: str
    jobs: tuple[Job, ...]
    children: tuple[Node, ...] = ()

    @property
    def num_cells(self) -> int:
        """How many cells hang on it."""
        return len({job.cell.cell_id for job in self.jobs})


_Level = tuple[str, Callable[[Job], tuple[Any, str]]]


def sharing_tree(jobs: Iterable[Job]) -> tuple[Node, ...]:
    """Return what runs share, divided part by part."""
    return _divide(tuple(jobs), _LEVELS)


def _divide(jobs: tuple[Job, ...], levels: tuple[_Level, ...]) -> tuple[Node, ...]:
    if not levels:
        return ()
    (part, level), *rest = levels
    parts: dict[str, tuple[str, list[Job]]] = {}
    for job in jobs:
        key, what = level(job)
        parts.setdefault(digest_json(key), (what, []))[1].append(job)
    return tuple(
        Node(part, what, tuple(kept), _divide(tuple(kept), tuple(rest)))
        for what, kept in parts.values()
    )


def _values(job: Job, *sections: str) -> dict[str, Any]:
    """Return what enters a cell's key from some sections of its settings, or from single ones."""
    values, wanted = job.cell.identity.values, tuple(f"{section}." for section in sections)
    return {key: value for key, value in values.items() if f"{key}.".startswith(wanted)}


def _preprocessing(job: Job) -> tuple[Any, str]:
    data = job.cell.settings.data
    splits = [f"{n} {s.in_words()}" for n, s in _splits(job.cell.settings).items()]
    done = [f"flip {data.flip}"] if data.flip != "never" else []
    if data.lsj_scale is not None:
        how = " as published" if data.lsj_as_published else ""
        done.append("jitter {} to {}".format(*data.lsj_scale) + how)
    done += ["blank images"] if data.blank_images else []
    done += ["captions dealt to other regions"] if data.permute_captions else []
    return _values(job, "data"), ", ".join([*splits, *done])


def _splits(settings: CellSettings) -> dict[str, SplitSettings]:
    named = {name: getattr(settings.data, name) for name in ("train", "val", "test")}
    return {name: split for name, split in named.items() if split is not None}


def _image_encoder(job: Job) -> tuple[Any, str]:
    settings, spec = job.cell.settings, job.cell.identity.spec
    code = [spec.looks, spec.parts or spec.name, job.cell.identity.features_code]
    key = [_values(job, "sam", "encoder", "features", "train.precision"), code]
    if not spec.looks:
        return key, "none: it reads no pixels"
    if not spec.parts:
        return key, f"{spec.name}'s own"
    encoder, kept = settings.encoder, "kept" if settings.features.cache != "off" else ""
    put_in = in_sam(encoder.type)
    own = [put_in.name, *(f"{name} {value}" for name, value in encoder.options)]
    weights = encoder.path or ("" if put_in.build else settings.sam.weights)
    what = [settings.sam.size, *(own if put_in.build else ()), weights]
    what += ["untrained"] if put_in.draws_weights else []
    what += [settings.train.precision, kept or "computed as it comes"]
    return key, ", ".join(filter(None, what))


def _sam_mixer(job: Job) -> tuple[Any, str]:
    settings = job.cell.settings
    key = [_values(job, "crop", "eval.prompt", "eval.prompt_seed", "mixer.image_grid")]
    what = f"{settings.train.prompt} in training, {settings.eval.prompt} at evaluation"
    return [key, settings.train.prompt], what


def _text_decoder(job: Job) -> tuple[Any, str]:
    decoder, spec = job.cell.settings.text_decoder, job.cell.identity.spec
    key = [_values(job, "text_decoder"), spec.trains, spec.parts or spec.name]
    if spec.trains == "never" or not spec.design:
        return key, f"{spec.name}'s own"
    how = "trained, one for each cell" if decoder.trainable else "frozen, once in memory"
    return key, f"{decoder.weights}, {how}"


def _data_order(job: Job) -> tuple[Any, str]:
    train, identity = job.cell.settings.train, job.cell.identity
    what = "nothing is trained by steps"
    if identity.spec.trains == "gradient":
        order = "each seed's own" if train.order_seed is None else f"seed {train.order_seed}"
        what = (
            f"{order}; {train.steps} steps x {train.images_per_batch} images"
            f" x up to {train.regions_per_image} regions"
        )
    return [identity.prefix_key, train.order_seed], what


def _pretraining(job: Job) -> tuple[Any, str]:
    names = [stage.name for stage in job.cell.settings.pretraining]
    return job.cell.starts_from, " -> ".join(names) or "none"


_LEVELS: tuple[_Level, ...] = (
    ("preprocessing", _preprocessing),
    ("image encoder", _image_encoder),
    ("prompt encoder + SAM mixer", _sam_mixer),
    ("text decoder", _text_decoder),
    ("data order", _data_order),
    ("pretraining", _pretraining),
)
