"""A finished run whose inputs are other files by now, and one whose inputs are as they were."""

import json
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from sca_bench.data.load import load_split
from sca_bench.engine.finished.verify import verify_run
from sca_bench.engine.thumbnails import images_folder
from sca_bench.settings import CellSettings
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.study.keys.fingerprint import INPUTS_REVISION, Fingerprints, digest_json
from sca_bench.study.plan.plan import make_plan
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.suite import load_suite

COUNT = 70
SUITE = """
suite: demo
question: Is this file read?
base:
  variant: most_frequent
  data:
    train: {dataset: scenes, num_images: 2, first_seed: 0}
    val: null
    test: {dataset: coco_instances, annotations: ANNOTATIONS, images: IMAGES}
seeds: [0]
metrics: [exact_match]
"""


@pytest.fixture
def folder(tmp_path):
    """Annotations of pictures in a linked folder, and two folders of such pictures."""
    names = [f"{number:03d}.bmp" for number in range(COUNT)]
    for colour, place in enumerate(("red", "blue")):
        (tmp_path / place).mkdir()
        pixels = np.zeros((8, 8, 3), np.uint8)
        pixels[..., 2 * colour] = 255
        for number, name in enumerate(names):
            pixels[0, 0, 1] = number
            Image.fromarray(pixels).save(tmp_path / place / name)
    images = [
        {"id": k, "width": 8, "height": 8, "file_name": f"VG/{name}"}
        for k, name in enumerate(names)
    ]
    boxes = [
        {"id": k, "image_id": k, "category_id": 1, "bbox": [1, 1, 5, 5], "iscrowd": 0}
        for k in range(COUNT)
    ]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "dot"}]}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "VG").symlink_to("../red")
    text = SUITE.replace("ANNOTATIONS", str(tmp_path / "annotations.json"))
    (tmp_path / "demo.yaml").write_text(text.replace("IMAGES", str(tmp_path / "images")))
    return tmp_path


def finish(folder, **changes):
    """Note the suite's one run as done, as today's code does, with changes."""
    store = Store(folder / "runs")
    (job,) = make_plan(load_suite(folder / "demo.yaml"), store).left
    cell = job.cell.identity
    inputs = cell.inputs | changes.pop("inputs", {})
    cell = replace(cell, inputs=inputs)
    facts = {
        "cell_id": cell.cell_key,
        "seed": 0,
        "status": "done",
        "settings": cell.settings.model_dump(mode="json"),
        "inputs": inputs,
        "variant": cell.settings.variant,
        "revision": cell.revisions.variant,
        "revisions": {**cell.revisions.beside_variant, "inputs": INPUTS_REVISION},
    }
    record = RunRecord(**(facts | changes))
    store.save(record)
    return store, record


def inputs_check(store, record):
    _, check = islice(verify_run(store, record.cell_id, 1), 2)
    assert check.name == "inputs"
    return check


def plan(folder):
    return make_plan(load_suite(folder / "demo.yaml"), Store(folder / "runs"))


def other_link(folder):
    (folder / "images" / "VG").unlink()
    (folder / "images" / "VG").symlink_to("../blue")


def other_picture(folder):
    file, other = folder / "red" / "042.bmp", folder / "blue" / "042.bmp"
    assert file.stat().st_size == other.stat().st_size
    file.write_bytes(other.read_bytes())


@pytest.mark.parametrize("change", [other_link, other_picture])
def test_other_pictures_under_the_same_names_are_another_cell(folder, change):
    store, record = finish(folder)
    assert plan(folder).left == []
    assert inputs_check(store, record).text == "5 of 5 have the content the run read"
    change(folder)
    assert len(plan(folder).left) == 1
    check = inputs_check(store, record)
    assert not check.passed
    assert "data.test.images: has changed since the run" in check.text


def test_thumbnails_of_other_pictures_are_others(folder):
    def place():
        settings = load_suite(folder / "demo.yaml").cells[0].settings
        cell = CellIdentity(settings, Fingerprints().inputs(settings))
        return images_folder(folder, load_split(settings.data.test), cell)

    before = place()
    assert place() == before
    other_link(folder)
    assert place() != before
    scenes = {"dataset": "scenes", "num_images": 1, "first_seed": 3}
    settings = CellSettings.model_validate({"data": {"train": scenes, "test": scenes}})
    region_set = load_split(settings.data.test)
    rendered = images_folder(folder, region_set, CellIdentity(settings, {}))
    assert rendered.name == region_set.digest()[:12]


OF_OLDER_CODE = {"revisions": {"features": "3", "world": "scenes-1"}}


def test_a_run_whose_links_were_not_entered_still_holds_and_says_what_is_open(folder):
    old = {"data.test.images": digest_json([])}
    store, record = finish(folder, inputs=old, **OF_OLDER_CODE)
    check = inputs_check(store, record)
    assert check.passed
    assert check.text == (
        "4 of 5 have the content the run read; all that was recorded of data.test.images by "
        "older code fits, too"
    )
    today = record.model_copy(update={"revisions": {"inputs": INPUTS_REVISION}})
    store.save(today)
    assert not inputs_check(store, today).passed


def test_a_run_whose_many_images_counted_by_size_still_holds(folder):
    (folder / "images" / "VG").unlink()
    (folder / "red").rename(folder / "images" / "VG")
    files = sorted((folder / "images" / "VG").iterdir())
    sizes = digest_json([[f"VG/{file.name}", file.stat().st_size] for file in files])
    store, record = finish(folder, inputs={"data.test.images": sizes}, **OF_OLDER_CODE)
    assert inputs_check(store, record).passed
    files[3].write_bytes(b"of another size")
    assert not inputs_check(store, record).passed
