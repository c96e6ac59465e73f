"""What a batch costs the training process on its way: kept features and images, before and after.

    OMP_NUM_THREADS=1 python -m pytest tests/bench/test_data_path.py -m bench -s

Features: 8 image embeddings of SAM's size (34 MB in float32) a step. Before, the step read them: a
copy of each row, one of all of them, and a checksum at first sight. After, the loader reads them,
one copy a row; with `runtime.loader_workers` its processes do. CPU seconds of the training process,
all its threads, medians of alternating rounds.

Images: one picture of 640 x 480 pixels as SAM's input of 1024 x 1024. Before, floats; after, whole
numbers, of which the device makes floats.
"""

import time
from statistics import median
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sca_bench.batch import RawPixels, RegionBatch
from sca_bench.data.pipeline.dataset import RegionDataset
from sca_bench.data.pipeline.preprocess import raw_pixels, resize_longest_side
from sca_bench.data.region_set import RegionSet
from sca_bench.engine import loaders
from sca_bench.engine.features.bank import FeatureBank, Keys, image_key, to_rows
from sca_bench.engine.features.shards import Rows, ShardStore
from sca_bench.settings import FeatureSettings
from sca_bench.specs.encoders import IMAGENET
from sca_bench.types import ImageRecord, Region

pytestmark = pytest.mark.bench
IMAGES, SHAPE, SIDE, ROUNDS, AT_ONCE = 32, (256, 64, 64), 1024, 9, 8
IN_THE_STEP, ALL_IN_ALL, IN_PROCESSES, IMAGE = 0.1, 0.75, 0.4, 0.7
"""Bars: ratios to before of the step alone, of loader and step in one process, of loader and step
where processes load, and of making an image ready."""


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    store = ShardStore(tmp_path_factory.mktemp("kept") / "s")
    for first in range(0, IMAGES, AT_ONCE):
        keys = [image_key(0, f"image{n}") for n in range(first, first + AT_ONCE)]
        rows = to_rows(torch.rand(AT_ONCE, *SHAPE), torch.float32)
        store.append(keys, {"embeddings_BChw": rows}, {})
    store.refresh()
    return FeatureBank({"images": store}, ("images",), Keys(str), FeatureSettings())


def paint(record):
    return np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def region_set():
    records = {f"image{n}": ImageRecord(f"image{n}", 640, 480) for n in range(IMAGES)}
    regions = [Region(f"r{image}", image, (1.0, 1.0, 90.0, 90.0), ("x",)) for image in records]
    return RegionSet("toy", records, tuple(regions), loader=paint)


def as_it_was(store, keys):
    """Read rows as version 0.1 did: copied one by one, then all of them."""
    raws, kind = [], None
    for key in keys:
        shard, row = store._rows[key]
        arrays = store._arrays(shard)
        assert shard.is_sound(row, arrays)
        raw, *kind = arrays["embeddings_BChw"]
        raws.append(raw[row].copy())
    rows = Rows(np.stack(raws), *kind)
    tensor = torch.from_numpy(rows.raw).view(torch.float32).reshape(len(keys), *rows.shape)
    return torch.stack(list(tensor.to("cpu").float()))


def timed(action, *given):
    """Call a function; return its CPU seconds in this process, and what it returns."""
    began = time.process_time()
    returned = action(*given)
    return time.process_time() - began, returned


def step(bank: FeatureBank, batch: RegionBatch):
    """Do what a step does with kept embeddings."""
    return bank.embeddings(batch.to("cpu")).of_all_images()


def test_kept_features(bank, region_set):
    dataset = RegionDataset(region_set, image_size=SIDE, with_pixels=False, training=True)
    plain, ahead = {}, {}
    for workers in (0, 1):
        settings = SimpleNamespace(
            train=SimpleNamespace(images_per_batch=AT_ONCE),
            runtime=SimpleNamespace(loader_workers=workers),
        )
        more = {"seed": 0, "start": 0}
        plain[workers] = iter(loaders.train_loader(dataset, settings, **more))
        ahead[workers] = iter(loaders.train_loader(dataset, settings, ahead=bank.attach, **more))

    def before(workers):
        return as_it_was(bank.stores["images"], bank.keys.images(next(plain[workers])))

    for _ in range(2 * IMAGES // AT_ONCE):  # checksums are looked at once
        for loader in ahead.values():
            step(bank, next(loader))
    found = {name: [] for name in ("before", "before, processes", "step", "all", "processes")}
    for _ in range(ROUNDS):
        found["before"].append(timed(before, 0)[0])
        found["before, processes"].append(timed(before, 1)[0])
        loading, batch = timed(next, ahead[0])
        found["step"].append(timed(step, bank, batch)[0])
        found["all"].append(loading + found["step"][-1])
        time.sleep(0.3)  # a step of some length, in which the next batch is read
        found["processes"].append(timed(lambda: step(bank, next(ahead[1])))[0])
    ms = {name: 1000 * median(times) for name, times in found.items()}
    print("\nCPU ms a step of 8 images: " + ", ".join(f"{n} {t:.1f}" for n, t in ms.items()))
    assert ms["step"] <= IN_THE_STEP * ms["before"]
    assert ms["all"] <= ALL_IN_ALL * ms["before"]
    assert ms["processes"] <= IN_PROCESSES * ms["before, processes"]


def floats_as_they_were(image_HW3):
    """Make the model's input of one image as version 0.1 did."""
    image_hw3 = resize_longest_side(image_HW3, SIDE)
    height, width = image_hw3.shape[:2]
    pixels_3hw = torch.from_numpy(np.array(image_hw3)).permute(2, 0, 1).to(torch.float32)
    mean_311, std_311 = (torch.tensor(numbers).view(3, 1, 1) for numbers in IMAGENET)
    padded_3SS = torch.zeros(3, SIDE, SIDE)
    padded_3SS[:, :height, :width] = (pixels_3hw - mean_311) / std_311
    return padded_3SS


def test_images():
    picture = paint(None)
    kinds = {
        "resize alone": lambda: resize_longest_side(picture, SIDE),
        "before": lambda: torch.stack([floats_as_they_were(picture) for _ in range(AT_ONCE)]),
        "after": lambda: torch.cat([raw_pixels(picture, SIDE).values_B3SS for _ in range(AT_ONCE)]),
    }
    one = raw_pixels(picture, SIDE)
    raw = RawPixels(one.values_B3SS.repeat(AT_ONCE, 1, 1, 1), one.shown_hw * AT_ONCE, *IMAGENET)
    kinds["after, on the device"] = raw.normalised
    found = {name: [] for name in kinds}
    for _ in range(ROUNDS):
        for name, action in kinds.items():
            found[name].append(timed(action)[0])
    each = {name: 1000 * median(times) / AT_ONCE for name, times in found.items()}
    each["resize alone"] *= AT_ONCE
    print("\nCPU ms an image: " + ", ".join(f"{n} {t:.1f}" for n, t in each.items()))
    print(f"bytes an image: {raw.normalised()[0].nbytes:,} before, {one.values_B3SS.nbytes:,} now")
    rates = [1000 / each[name] for name in ("before", "after")]
    print("images a second of one loading process: {:.0f} before, {:.0f} now".format(*rates))
    assert torch.equal(raw.normalised()[0], floats_as_they_were(picture))
    assert each["after"] <= IMAGE * each["before"]
