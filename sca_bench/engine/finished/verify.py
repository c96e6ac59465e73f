"""Does a finished run still hold? Its record, inputs, weights and predictions, and its captions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from sca_bench.captioner import Decoding
from sca_bench.data.pipeline.dataset import RegionDataset
from sca_bench.data.region_set import RegionSet
from sca_bench.devices.gpu import is_gpu, resolve_device
from sca_bench.engine import loaders
from sca_bench.engine.device import computing
from sca_bench.engine.finished.caption import build_finished
from sca_bench.engine.worker.cell_group import CellGroup, Member
from sca_bench.engine.worker.fit_once import fit_once
from sca_bench.engine.worker.rng import RngStream
from sca_bench.errors import InputError, at
from sca_bench.metrics.rows import read_rows
from sca_bench.specs.encoders import sam_dims
from sca_bench.study.find_run import find_finished
from sca_bench.study.keys.cell import RunSplit
from sca_bench.study.keys.fingerprint import Fingerprints, path_settings
from sca_bench.study.runs.older_inputs import fits_as_recorded
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.revisions import OLDER, had_setting, identity_of, raised
from sca_bench.study.runs.store import PREDICTIONS, Store


@dataclass(frozen=True)
class Check:
    """One checked property.

    Attributes:
        name: What was looked at.
        passed: Whether it holds.
        text: What was found.
    """

    name: str
    passed: bool
    text: str

    def line(self) -> str:
        """Return the check as one line."""
        return f"{self.name + ':':<13}{'' if self.passed else 'FAILED: '}{self.text}"


def verify_run(store: Store, run: str, num_regions: int) -> Iterator[Check]:
    """Check a finished run; a check that cannot be made without a failed one is not made.

    Args:
        store: The runs folder.
        run: `CELL`, `CELL/SEED` or a run folder.
        num_regions: Regions to caption again, at least; they come in the run's own batches.

    Raises:
        InputError: No such finished run.
    """
    try:
        record, folder = find_finished(store, run)
    except InputError as error:
        if Path(error.where).name != "record.json":
            raise
        yield Check("record", False, str(error))
        return
    try:
        verifier = _Verifier(record, folder)
    except InputError as error:
        yield Check("record", False, str(error))
        return
    checks: tuple[tuple[str, Callable[[], str]], ...] = (
        ("record", verifier.record_holds),
        ("inputs", verifier.inputs_are_the_same),
        ("weights", verifier.weights_load),
        ("predictions", verifier.predictions_are_complete),
        ("captions", lambda: verifier.captions_repeat(num_regions)),
    )
    passed: set[str] = set()
    for name, check in checks:
        if record.stage and name in ("predictions", "captions"):
            continue  # a pretraining stage is never evaluated
        if name == "captions" and not {"inputs", "weights", "predictions"} <= passed:
            yield Check(name, False, "not captioned again: a check before failed")
            continue
        try:
            with at(folder):
                held = check()
        except InputError as error:
            yield Check(name, False, str(error))
        else:
            yield Check(name, True, held)
            passed.add(name)


class _Verifier:
    def __init__(self, record: RunRecord, folder: Path) -> None:
        self.record, self.folder = record, folder
        with at(folder / "record.json"):
            self.identity = identity_of(record)
        self.settings = self.identity.settings
        self.raised = raised(record, self.settings)
        self.captioner: Any = None
        self._read: dict[RunSplit, RegionSet] = {}

    def record_holds(self) -> str:
        """Compare the record's id with the key of what it says, its own revisions of code used."""
        record = self.record
        key = self.identity.training_key if record.stage else self.identity.cell_key
        if key != record.cell_id:
            gives = f"settings and inputs give the id {key} with revision {record.revision}"
            problem = f"{gives}, the record says {record.cell_id}"
            raise InputError(self.folder, "cell_id", problem)
        summary = f"{record.variant} revision {record.revision}, seed {record.seed}, id agrees"
        return f"{summary}; {OLDER}: {', '.join(self.raised)}" if self.raised else summary

    def inputs_are_the_same(self) -> str:
        """Digest every file that the settings name again."""
        here = Fingerprints().inputs(self.settings)
        here = {key: digest for key, digest in here.items() if had_setting(self.record, key)}
        moved = sorted(k for k in here if here[k] != self.record.inputs.get(k))
        values = dict(path_settings(self.settings))
        changed = [k for k in moved if not fits_as_recorded(self.record, k, values[k])]
        if changed:
            problem = f"has changed since the run, as have {len(changed) - 1} more inputs"
            raise InputError(self.folder, changed[0], problem)
        whole = f"{len(here) - len(moved)} of {len(here)} have the content the run read"
        if not moved:
            return whole
        return f"{whole}; all that was recorded of {', '.join(moved)} by older code fits, too"

    def weights_load(self) -> str:
        """Build the captioner and load what the run trained, name by name."""
        self.captioner = build_finished(self.record, self.identity, self.folder)
        spec = self.identity.spec
        if spec.trains != "gradient":
            return f"variant {spec.name} has none"
        state = self.captioner.trainable_state()
        count = sum(tensor.numel() for tensor in state.values())
        return f"{len(state)} trained tensors ({count:,} parameters) load strictly"

    def predictions_are_complete(self) -> str:
        """Compare the captioned split with the run's, and the predictions' ids with its regions."""
        captioned, split = self._sets()["captioned"], self.identity.data_split("captioned")
        digest = self.record.provenance.get("split_digests", {}).get(split)
        if digest != captioned.digest():
            raise InputError(captioned.name, "", f"is not the {split} split that the run captioned")
        path = self.folder / PREDICTIONS
        if not path.is_file():
            raise InputError(path, "", "missing")
        ids = {row.region_id for row in read_rows(path)}
        expected = {region.region_id for region in captioned.regions}
        for names, problem in (
            (sorted(expected - ids), "regions have no caption"),
            (sorted(ids - expected), "captions belong to no region"),
        ):
            if names:
                raise InputError(path, names[0], f"{len(names)} {problem}, the first is this")
        return f"{len(ids)} captions for the {len(expected)} regions of {captioned.name}"

    @torch.no_grad()
    def captions_repeat(self, num_regions: int) -> str:
        """Caption regions of that split again, in the batches of the run.

        Code of another revision may say something else; how often it does is counted.
        """
        device = torch.device(resolve_device(self.settings.runtime.device))
        with computing(self.settings, device):
            return self._captions_repeat(num_regions, device)

    def _captions_repeat(self, num_regions: int, device: torch.device) -> str:
        settings = self.settings
        sets = self._sets()
        if isinstance(self.captioner, nn.Module):
            self.captioner.to(device)
        member = Member("run", self.captioner, self.identity, RngStream(self.record.seed, device))
        decoding = Decoding(settings.eval.num_beams, settings.eval.max_new_tokens)
        group = CellGroup([member], device, {}, decoding)
        fit_once(
            self.captioner,
            group,
            sets["train"],
            lambda: self._dataset(sets, "train", training=True),
            settings,
        )
        before = {row.region_id: row.caption for row in read_rows(self.folder / PREDICTIONS)}
        after: dict[str, str] = {}
        for batch in self._batches(sets, num_regions):
            rows = group.test_step(batch)
            if member.error:
                raise InputError(self.folder, "", f"captioning failed: {member.error}")
            after |= {row.prediction.region_id: row.prediction.caption for row in rows}
        other = [region_id for region_id in after if after[region_id] != before[region_id]]
        if other:
            first = f"the first is {before[other[0]]!r}, now {after[other[0]]!r}"
            if self.raised:
                head = f"{len(other)} of {len(after)} captions differ under today's code"
                return f"{head} ({', '.join(self.raised)}), {first}"
            problem = f"{len(other)} of {len(after)} regions get another caption, {first}"
            raise InputError(self.folder / PREDICTIONS, other[0], problem)
        return f"{len(after)} regions captioned again on {device}, word for word the same"

    def _dataset(
        self, sets: dict[RunSplit, RegionSet], split: RunSplit, *, training: bool
    ) -> RegionDataset:
        return loaders.make_dataset(
            sets,
            split,
            self.identity,
            image_size=sam_dims(self.settings.sam.size).image_size,
            seed=self.settings.train.order(self.record.seed),
            with_pixels=self.identity.spec.takes_pixels,
            training=training,
        )

    def _batches(self, sets: dict[RunSplit, RegionSet], num_regions: int) -> Iterator[Any]:
        """Yield whole batches of the run, evenly spread, that hold at least so many regions."""
        dataset = self._dataset(sets, "captioned", training=False)
        machine, used = self.record.provenance.get("machine"), 0
        # A CPU computes 64 at a time; older records do not say.
        if is_gpu(resolve_device(self.settings.runtime.device)) and isinstance(machine, dict):
            said = machine.get("eval_regions")
            used = said if isinstance(said, int) else 0
        loader: DataLoader[Any] = loaders.eval_loader(dataset, self.settings, used)
        size, images = loader.batch_size or 1, len(dataset)
        starts = range(0, images, size)
        per_batch = len(sets["captioned"].regions) / len(starts)
        count = min(len(starts), max(1, -(-num_regions // max(1, int(per_batch)))))
        draws = list(loader.sampler)
        for number in range(count):
            start = starts[(2 * number + 1) * len(starts) // (2 * count)]
            samples = [dataset[draw] for draw in draws[start : start + size]]
            assert loader.collate_fn is not None
            yield loader.collate_fn(samples)

    def _sets(self) -> dict[RunSplit, RegionSet]:
        if not self._read:
            self._read = loaders.load_splits(self.identity)
        return self._read
