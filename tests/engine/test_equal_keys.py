"""Equal keys, equal numbers: whatever two cells differ in, and whatever runs beside them.

Every variant is tried on a miniature of two steps. An example walks from its plain settings through
single changes of a setting or an input: first some that move its key, then many that do not. Two
neighbours on that walk are a pair that differs in one thing. All pairs of equal keys are compared
at once, by the two ends of their part of the walk; where these differ, hypothesis shortens the walk
to the one change that is to blame. Of pairs with other keys, both stand in one cache folder, with
every other variant that reads features of the same key.

    SCA_BENCH_KEY_PAIRS=5000 python -m pytest -n 0 -s tests/engine/test_equal_keys.py
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from helpers import miniature, strangers
from hypothesis import HealthCheck, Phase, assume, given, note, seed, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from sca_bench import variants
from sca_bench.captioner import SharesPrefix
from sca_bench.data.pipeline.collate import collate
from sca_bench.data.pipeline.dataset import ViewDataset
from sca_bench.engine import loaders
from sca_bench.engine.features.bank import ROWS, SHARED, SHARED_KEY, Frozen
from sca_bench.engine.features.split_bank import content_of, sams_shapes
from sca_bench.engine.job import CellJob, GroupJob, Outcome, new_attempt
from sca_bench.engine.worker.cell_group import autocast
from sca_bench.engine.worker.prepare import build_member, prepare
from sca_bench.errors import InputError
from sca_bench.formats.pixels import PictureDigests
from sca_bench.models import build
from sca_bench.reading import read_jsonl
from sca_bench.settings import CellSettings, Settings, kind_of
from sca_bench.settings.base import defaults_since
from sca_bench.specs.encoders import sam_dims
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.study.keys.fingerprint import Fingerprints
from sca_bench.study.runs.store import PREDICTIONS, Store, trained_path

PENDING: frozenset[str] = frozenset()
"""Changes that no key notices yet; what is named here is left out."""

PAIRS = int(os.environ.get("SCA_BENCH_KEY_PAIRS", "0"))
"""Pairs to try by hand; 0 tries the same few hundred every time."""
EXAMPLES = 3 if not PAIRS else 3 + PAIRS // 500
"""Walks of each variant."""
KEPT = 100
"""Features and parts that are remembered at most."""
VARIANTS = sorted({*variants.all_variants(), *(spec.name for spec in strangers.SPECS)})


@dataclass
class Miniature:
    """Runs cells of the miniature in this process; what was computed once is remembered.

    Attributes:
        inputs: Folder of the inputs.
        scratch: Folder that holds one runs folder at a time.
        run_group: Prepares and runs a job.
        tried: How many pairs of equal keys, and of others, were tried.
    """

    inputs: Path
    scratch: Path
    run_group: object
    tried: Counter = field(default_factory=Counter)
    _prints: Fingerprints = field(default_factory=Fingerprints)
    _alone: dict = field(default_factory=dict)
    _files: PictureDigests = field(default_factory=PictureDigests)
    _features: dict = field(default_factory=dict)
    _parts: dict = field(default_factory=dict)

    def cell(self, variant, walk):
        """Return the cell at the end of a walk; None where its settings contradict each other."""
        changes = [item for name in walk for item in CHANGES[name].items()]
        nested = miniature.nested_settings(variant, changes, self.inputs)
        try:
            found = CellSettings.model_validate(nested)
        except ValueError:
            return None
        return CellIdentity(found, self._prints.inputs(found))

    def build(self, cell):
        """Build a cell's captioner as the engine does.

        Raises:
            InputError: A setting has no meaning for its variant.
        """
        settings = cell.settings
        named = (settings.text_decoder.weights, settings.train.precision)
        key = (cell.spec.parts, cell.prefix_key, *named)
        if key not in self._parts:
            if len(self._parts) > KEPT:
                self._parts.clear()
            self._parts[key] = cell.spec.load_parts(settings)
        job = CellJob(cell.cell_key, "", 0, cell)
        return build_member(job, self._parts[key], torch.device("cpu")).captioner

    def can_run(self, cell):
        try:
            self.build(cell)
        except InputError:
            return False
        return True

    def alone(self, cell):
        """Return what a cell gives by itself, in folders that nobody has used."""
        key = cell.settings.model_dump_json()
        if key not in self._alone:
            self._alone[key] = self.together([], cell)
        return self._alone[key]

    def together(self, before, cell):
        """Return what a cell gives after others were prepared and beside those of its group."""
        folder = self.scratch / "runs"
        shutil.rmtree(folder, ignore_errors=True)
        others = [c for c in before if c.cell_key != cell.cell_key]
        beside = {c.cell_key: c for c in others if c.prefix_key == cell.prefix_key}
        for other in others:
            if other.cell_key not in beside and other.families:
                with contextlib.suppress(InputError):
                    prepare(self._job(folder, other), Outcome(), folder / "progress")
        try:
            job = self._job(folder, *beside.values(), cell)
            failed = self.run_group(job).failed.get(job.cells[-1].key)
        except Exception as error:  # of a cell that cannot run, which is no matter of its key
            failed = f"{type(error).__name__}: {error}"
        return {"error": failed} if failed else _result(Store(folder), cell)

    def _job(self, folder, *cells):
        jobs = []
        for cell in cells:
            (folder / "cells" / cell.cell_key / "seed-0").mkdir(parents=True, exist_ok=True)
            jobs.append(CellJob(cell.cell_key, cell.settings.variant, 0, cell, cell.training_key))
        return GroupJob(str(folder), jobs, "test", new_attempt("test"), 1, "cpu", "pytest")

    def features(self, cell):
        """Return (key of a store, row, array) -> what a cell puts there; of its region features."""
        memo = cell.settings.model_dump_json()
        if memo not in self._features:
            if len(self._features) > KEPT:
                self._features.clear()
            self._features[memo] = self._compute(cell)
        return self._features[memo]

    def agree(self, path):
        """Compare the features of all variants, plain and after some changes, that share a store.

        Raises:
            AssertionError: Two cells keep other features under one key.
        """
        given = {}
        cells = [self.cell(variant, walk) for walk in ((), path) for variant in VARIANTS]
        for cell in filter(None, cells):
            for place, values in self.features(cell).items():
                name, known = given.setdefault(place, (cell.settings.variant, values))
                same = known.shape == values.shape and torch.equal(known, values)
                assert same, f"{place}: {name} and {cell.settings.variant} keep other features"

    @torch.no_grad()
    def _compute(self, cell):
        try:
            captioner = self.build(cell)
        except InputError:
            return {}
        if not isinstance(captioner, SharesPrefix):
            return {}
        found, options = {}, cell.settings.features
        sets = loaders.load_splits(cell)
        size = sam_dims(cell.settings.sam.size).image_size
        for split in ("train", "captioned"):
            if not cell.caches(split):
                continue
            shown = loaders.make_dataset(
                sets, split, cell, image_size=size, seed=0, with_pixels=True
            )
            views = ViewDataset(shown)
            batch = collate([views[position] for position in range(len(views))]).to("cpu")
            frozen = Frozen(options, None, sams_shapes(cell))
            with autocast(torch.device("cpu"), cell.settings.train.precision):
                embedded = frozen.embedded(captioner, batch)
                owners = dict.fromkeys(cell.families, captioner)
                given = frozen.features(owners, embedded)
            keys = content_of(sets[split], cell.settings, self._files).of(batch, cell.families)
            for family, names in keys.items():
                store = cell.features_key(split, family)
                arrays = {name: given.need(name) for name in ROWS[family]}
                if family == "images":  # kept as they come, and rounded again when they are read
                    arrays = {"embeddings_BChw": embedded.image_embeddings_BChw}
                for row, name in enumerate(names):
                    found |= {(store, name, array): v[row] for array, v in arrays.items()}
                for array in SHARED[family]:
                    found[store, SHARED_KEY, array] = given.need(array)
        return found


def _result(store, cell):
    """Return trained weights, captions and log-probabilities of a run."""
    folder = store.run_dir(cell.cell_key, 0)
    rows = read_jsonl(folder / PREDICTIONS)
    said = {row["region_id"]: (row["caption"], row["log_prob"]) for row in rows}
    path = trained_path(folder)
    return {"said": said, "weights": load_file(path) if path.exists() else {}}


def differences(one, other):
    """Return in what two results differ; nothing where they are equal to the bit."""
    if "error" in one or "error" in other:
        return [] if one.keys() == other.keys() else [f"{one} and {other}"[:500]]
    (ours, said), (theirs, told) = ((r["weights"], r["said"]) for r in (one, other))
    found = list(ours.keys() ^ theirs.keys())
    found += [n for n in ours.keys() & theirs.keys() if not torch.equal(ours[n], theirs[n])]
    found += [f"{n}: {said[n]} and {told.get(n)}" for n in said if said[n] != told.get(n)]
    return found


CHANGES = {n: c for n, c in miniature.all_changes().items() if n not in PENDING}
OF_FEATURES = ("sam.", "encoder.", "mixer.im", "features.", "data.", "eval.prompt", "train.pr")
"""Beginnings of changes that may move frozen features."""


@st.composite
def walks(draw):
    """Return changes to begin with, changes that follow, and a variant that stands beside."""
    near = [name for name in CHANGES if name.startswith(OF_FEATURES)]
    first = draw(st.lists(st.sampled_from(near), unique=True, max_size=3))
    first += draw(st.lists(st.sampled_from([*CHANGES]), unique=True, max_size=3))
    taken = draw(st.tuples(*[st.integers(0, 3)] * len(CHANGES)))
    then = [name for name, wanted in zip(CHANGES, taken, strict=True) if wanted]
    return list(dict.fromkeys(first)), then, draw(st.sampled_from(VARIANTS))


def _remembered(load):
    """Return a loader that loads once what it was given before; files do not change here."""
    loaded = {}

    def remembered(settings):
        key = settings.model_dump_json(include={"sam", "encoder", "text_decoder"})
        key += settings.train.precision  # a run casts what it was given
        if key not in loaded:
            loaded[key] = load(settings)
        return loaded[key]

    return remembered


@pytest.fixture(scope="module")
def registered():
    """Register the baselines and the strangers, whatever is installed."""
    points = [strangers.Point(spec) for spec in variants.all_variants().values()]
    points += [strangers.Point(spec) for spec in strangers.SPECS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(variants.VARIANTS, "find", lambda group: points)
        patch.setattr("sca_bench.engine.worker.run_record.git_commit", str)  # takes processes
        patch.setattr("os.fsync", lambda handle: None)  # nothing here outlives the machine
        for loader in ("load_frozen_parts", "load_sam_parts"):
            name = f"sca_bench.models.build.{loader}"
            patch.setattr(name, _remembered(getattr(build, loader)))
        yield


@pytest.fixture(scope="module")
def inputs(tiny_decoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    miniature.write_inputs(folder, tiny_decoder)
    return folder


@pytest.fixture
def small(registered, inputs, tmp_path, run_group):
    return Miniature(inputs, tmp_path, run_group)


def test_every_setting_has_its_turn():
    assert miniature.unnamed_settings() == []


def property_of(small, variant):
    """Return the property of a variant, to be tried on some walks."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(walks())
    def check(walk):
        compare(small, variant, *walk)

    return check


def test_equal_keys_are_equal_numbers(small):
    """See the module."""
    for number, variant in enumerate(VARIANTS):
        check = property_of(small, variant)
        (check if PAIRS else seed(number)(check))()
    tried, total = small.tried, small.tried.total()
    print(f"{total} pairs, {tried['equal']} of equal keys")
    assert total >= max(200, PAIRS)
    assert tried["equal"] >= total / 2


def compare(small, variant, first, then, beside):
    """Walk from a variant's plain settings, and compare what must be equal on the way."""
    base = here = small.cell(variant, ())
    path = []
    for name in first:
        there = small.cell(variant, [*path, name])
        if there is not None and small.can_run(there):
            small.tried["equal" if there.cell_key == here.cell_key else "other"] += 1
            here = there
            path.append(name)
    start, kept = here, []
    for name in then:
        there = small.cell(variant, [*path, *kept, name])
        if there is not None and there.cell_key == start.cell_key:
            small.tried["equal"] += 1
            here = there
            kept.append(name)
    note(f"{variant}: {', '.join(path) or 'as it is'}; then {', '.join(kept) or 'nothing'}")
    small.agree(path)
    plain = small.alone(start)
    assume("error" not in plain)  # its settings fit together, and yet it cannot run
    assert differences(plain, small.alone(here)) == [], f"{variant}: equal keys, other numbers"
    others = [base, small.cell(beside, path)]
    found = small.together([cell for cell in others if cell is not None], here)
    assert differences(plain, found) == [], f"{variant}: alone, and after or beside {beside}"


BESIDE = [
    ("retrieval", "sca", ["mixer.image_grid=4"], ["mixer.image_grid=4"]),
    ("sca", "retrieval", ["mixer.image_grid=4"], ["mixer.image_grid=4"]),
    ("retrieval", "sca_mask_heads", ['train.precision="bf16"'], ['train.precision="bf16"']),
    *((spec.name, spec.name, [], ["baseline.random_seed=3"]) for spec in strangers.SPECS),
    *((spec.name, spec.name, ["crop.margin=0.25"], []) for spec in strangers.SPECS),
]


@pytest.mark.parametrize(("first", "then", "settings_of_first", "settings_of_then"), BESIDE)
def test_who_came_first_decides_nothing(small, first, then, settings_of_first, settings_of_then):
    one, other = small.cell(first, settings_of_first), small.cell(then, settings_of_then)
    alone = small.alone(other)
    assert "error" not in alone
    assert differences(alone, small.together([one], other)) == []
    if first == then:
        assert one.cell_key != other.cell_key
        assert differences(alone, small.alone(one)) != []


SECTIONS = {CellSettings: ""} | {
    info.annotation: f"{name}."
    for name, info in CellSettings.model_fields.items()
    if isinstance(info.annotation, type) and issubclass(info.annotation, Settings)
}
"""Class of settings -> how their paths begin."""
COMPUTES = ("baselines/", "sca_bench/models/", "tests/helpers/strangers")
"""Where the code of variants lies."""
ENGINE = tuple(
    f"sca_bench/engine/{name}" for name in ("worker/", "loaders", "features/bank", "features/fill")
)
DRAWN = ("train.regions_per_image",)
"""Read for every data set, and used where training draws from one."""


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_the_code_of_a_variant_reads_is_in_its_key(small, monkeypatch, variant):
    """Every setting that is read while it runs, by its own code or by the engine for it."""
    cell, read = small.cell(variant, ()), set()
    wanted = COMPUTES + (ENGINE if cell.spec.looks else ())
    plain = object.__getattribute__

    def noted(self, name):
        value, kind = plain(self, name), type(self)
        if kind in SECTIONS and name in kind.model_fields and not isinstance(value, Settings):
            file = sys._getframe(1).f_code.co_filename
            by_path = kind_of(kind, name) == "path" and value is not None
            as_before = name in (later := defaults_since(kind)) and value == later[name]
            enters = by_path or (kind_of(kind, name) == "result" and not as_before)
            if enters and any(w in file for w in wanted):
                read.add(f"{SECTIONS[kind]}{name}")
        return value

    monkeypatch.setattr(Settings, "__getattribute__", noted, raising=False)
    assert "error" not in small.together([], cell)
    monkeypatch.undo()
    unused = () if cell.spec.trains == "gradient" else DRAWN
    apart = ("data.", *unused, *cell.spec.ignores)  # `data` always counts as a whole
    assert {path for path in read if not path.startswith(apart)} <= cell.key_values.keys()
    assert len(read) > 3 or not cell.spec.looks
