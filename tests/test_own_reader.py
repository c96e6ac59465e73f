"""A reader of another package: from an entry point to tables, without an edit inside."""

import sys
import textwrap

import numpy as np
import pytest
import yaml
from helpers.command import finish
from PIL import Image
from pydantic import ValidationError

from sca_bench.data.load import load_split
from sca_bench.errors import InputError
from sca_bench.settings import DataSettings
from sca_bench.specs.readers import READERS
from sca_bench.study.keys.cell import CellIdentity
from sca_bench.study.runs.store import Store
from sca_bench.study.suite.merge import validate

READER = '''
from pathlib import Path
from typing import Literal

from sca_bench.data.readers import (
    Collector,
    FileSplit,
    ImageFolder,
    ImageRecord,
    ReaderSpec,
    of_kind,
    upright_hw,
)


class NotesSplit(FileSplit):
    """Notes on photos, one a line: file, box and text."""

    dataset: Literal["notes"]
    notes: str = of_kind("path")
    """The file of notes."""
    shout: bool = False
    """Read every text in capitals."""


def read(split):
    folder = ImageFolder(split.images)
    collector = Collector("notes", split.notes, split)
    for number, line in enumerate(Path(split.notes).read_text().splitlines()):
        name, x, y, width, height, text = line.split("|")
        path = folder.path(name, split.notes, f"line {number + 1}")
        image_height, image_width = upright_hw(Path(path))
        image = ImageRecord(name, image_width, image_height, path)
        if collector.open_image(image, {}, 1):
            text = text.upper() if split.shout else text
            box_xywh = (float(x), float(y), float(width), float(height))
            collector.add(str(number), box_xywh, (text,))
    return collector.finish()


SPEC = ReaderSpec(
    name="notes",
    title="Notes on photos",
    settings=NotesSplit,
    read="notes_reader:read",
    summary="Notes on photos",
    licence="CC0",
    revision="1",
)
'''
SUITE = """
suite: mine
question: Does it run?
base: {variant: sca, train: {steps: 2, images_per_batch: 2}, eval: {max_new_tokens: 3}}
axes: {mixer.num_layers: [1]}
seeds: [0]
metrics: [exact_match, cider_d]
profiles: {tiny: {base: {data: {val: null}}}}
"""


@pytest.fixture
def site(tmp_path):
    """A folder of installed packages: one, with one file and one entry point."""
    folder = tmp_path / "site"
    add(folder, "notes_reader", READER)
    return folder


def add(folder, module, code, point=None):
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    name, value = point or ("notes", f"{module}:SPEC")
    (info / "entry_points.txt").write_text(f"[sca_bench.readers]\n{name} = {value}\n")
    (folder / f"{module}.py").write_text(textwrap.dedent(code), encoding="utf-8")


@pytest.fixture
def installed(site, monkeypatch):
    """Return a function that lets this process see the packages in `site`."""
    monkeypatch.syspath_prepend(site)
    find = READERS.find

    def look():
        monkeypatch.setattr(READERS, "find", lambda group: find(group=group))

    look()
    yield look
    for module in ("notes_reader", "other_reader"):
        sys.modules.pop(module, None)


@pytest.fixture
def photos(tmp_path):
    """Six pictures with a note each, in two files of notes."""
    folder, draw = tmp_path / "photos", np.random.default_rng(0)
    folder.mkdir()
    for name, numbers in (("train", range(4)), ("test", range(4, 6))):
        for number in numbers:
            pixels = draw.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
        rows = [f"{number}.png|4|5|30|20|red bus" for number in numbers]
        (tmp_path / f"{name}.txt").write_text("\n".join(rows))
    return tmp_path


def split_of(photos, name, **more):
    named = {"notes": str(photos / f"{name}.txt"), "images": str(photos / "photos")}
    return {"dataset": "notes", **named, **more}


def data_of(photos, **more):
    return {name: split_of(photos, name, **more) for name in ("train", "test")}


def test_it_is_read_by_its_own_settings(installed, photos):
    spec = READERS.get("notes")
    assert (spec.title, spec.fault, spec.is_own) == ("Notes on photos", "", False)
    data = DataSettings.model_validate(data_of(photos, shout=True))
    found = load_split(data.train)
    assert [region.references for region in found.regions] == [("RED BUS",)] * 4
    assert load_split(data.train.first_images(3)).images_left_out == {"beyond max_images": 1}
    parts = [{"weight": w, "split": split_of(photos, "train")} for w in (1, 2)]
    mixed = DataSettings.model_validate(
        {"train": {"dataset": "mixture", "parts": parts}, "test": split_of(photos, "test")}
    )
    assert list(load_split(mixed.train).images)[4] == "notes-2/0.png"


def test_its_settings_are_named_suggested_and_in_the_key(installed, photos):
    wrong = data_of(photos)
    wrong["train"]["shuot"] = True
    with pytest.raises(InputError, match=r"data.train.shuot: not a setting .*data.train.shout\?"):
        validate({"data": wrong}, {})
    keys = set()
    for more in ({}, {"shout": True}):
        settings = validate({"data": data_of(photos, **more)}, {})
        identity = CellIdentity(settings, {"data.train.notes": "d" * 8})
        assert identity.values["data.train.notes"] == "d" * 8
        assert identity.values["data.train.revision"] == "1"
        assert identity.revisions.beside_variant["reader.notes"] == "1"
        keys.add(identity.cell_key)
    assert len(keys) == 2


def test_a_setting_of_another_reader_is_not_suggested(installed, photos):
    wrong = data_of(photos)
    wrong["train"] = {"dataset": "scenes", "num_images": 1, "first_seed": 0, "first_sed": 1}
    with pytest.raises(InputError, match=r"did you mean data.train.first_seed\?"):
        validate({"data": wrong}, {})
    wrong["train"] = {"dataset": "scenes", "num_images": 1, "first_seed": 0, "notes": "x"}
    with pytest.raises(InputError, match=r"data.train.notes: not a setting here") as raised:
        validate({"data": wrong}, {})
    assert "min_side_px" not in str(raised.value)


def test_an_older_revision_of_it_gives_the_older_key(installed, photos):
    settings = validate({"data": data_of(photos)}, {})
    today = CellIdentity(settings, {})
    older = CellIdentity(settings, {}, today.revisions.__class__(today.revisions.variant))
    assert "data.train.revision" not in older.values
    assert today.cell_key != older.cell_key


def test_a_name_that_is_no_reader_is_told_the_nearest(installed, photos):
    wrong = data_of(photos)
    wrong["test"]["dataset"] = "note"
    with pytest.raises(
        InputError, match=r"data.test.dataset: 'note' is wrong; did you mean notes\?"
    ):
        validate({"data": wrong}, {})


FAULTS = {
    "gone": ("nowhere:SPEC", "", "cannot be loaded (ModuleNotFoundError"),
    "raises": ("other_reader:SPEC", "1 / 0", "cannot be loaded (ZeroDivisionError"),
    "no_spec": ("other_reader:SPEC", "SPEC = 3", "is int, expected a ReaderSpec"),
    "no_split": ("other_reader:SPEC", "SPEC = spec(settings=dict)", "has settings <class 'dict'>"),
    "other_name": ("other_reader:SPEC", "SPEC = spec(name='bad')", "is no Literal['bad']"),
    "no_read": ("other_reader:SPEC", "SPEC = spec(read='')", "has no read, expected module:attr"),
    "no_address": ("other_reader:SPEC", "SPEC = spec(read='x')", "has read 'x', expected module:"),
}
_HEAD = """
import dataclasses
from notes_reader import SPEC as NOTES


def spec(**changes):
    return dataclasses.replace(NOTES, **changes)


"""


@pytest.mark.parametrize("case", FAULTS)
def test_a_broken_one_is_listed_with_its_fault_and_hurts_nobody(site, installed, photos, case):
    value, code, fault = FAULTS[case]
    add(site, "other_reader", _HEAD + code, ("bad", value))
    installed()
    assert fault in READERS.all()["bad"].fault
    assert DataSettings.model_validate(data_of(photos)).train.dataset == "notes"
    wrong = data_of(photos)
    wrong["test"]["dataset"] = "bad"
    with pytest.raises(ValidationError, match="it cannot be used: the entry point bad = "):
        DataSettings.model_validate(wrong)


@pytest.mark.parametrize("name", ["scenes", "notes"])
def test_a_name_that_is_taken_is_refused(site, installed, name):
    code = f"""
    from typing import Literal

    class OtherSplit(NOTES.settings):
        dataset: Literal["{name}"]

    SPEC = spec(name="{name}", settings=OtherSplit, read="other_reader:read")
    """
    add(site, "other_reader", _HEAD + textwrap.dedent(code), (name, "other_reader:SPEC"))
    installed()
    found = READERS.all()
    if name == "scenes":
        assert found["scenes"].is_own
        assert "is called as one of sca_bench's own" in found["scenes (other_reader:SPEC)"].fault
    else:
        assert found["notes"].fault.startswith("registered twice, by ")


def test_a_read_that_returns_something_else_is_refused(site, installed, photos):
    code = 'SPEC = spec(read="other_reader:read")\n\n\ndef read(split):\n    return []\n'
    (site / "notes_reader-1.0.dist-info" / "entry_points.txt").write_text("")
    add(site, "other_reader", _HEAD + code)
    installed()
    data = DataSettings.model_validate(data_of(photos))
    with pytest.raises(InputError, match="other_reader:read returned list, expected a RegionSet"):
        load_split(data.train)


def test_a_suite_runs_from_yaml_to_report(site, photos, tmp_path, process):
    suite = yaml.safe_load(SUITE)
    suite["profiles"]["tiny"]["base"]["data"] |= data_of(photos)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(suite))

    def command(name, *more):
        return finish(process(name, "mine.yaml", "--runs-dir", "runs", *more, site=site))

    assert "train notes, test notes" in command("plan")
    assert "train: notes: 4 regions in 4 images kept" in command("check")
    command("run", "--no-mlflow")
    (record,) = Store(tmp_path / "runs").records()
    assert record.status == "done"
    assert record.settings["data"]["train"]["dataset"] == "notes"
    assert record.inputs["data.train.notes"] != record.inputs["data.test.notes"]
    assert record.revisions["reader.notes"] == "1"
    command("report", "--out", "report", "--no-mlflow")
    page = (tmp_path / "report" / "mine" / "index.html").read_text(encoding="utf-8")
    assert "red bus" in page
