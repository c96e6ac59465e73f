"""Revisions and digests of older code: which differ today, and what an old record still tells."""

import json

import pytest

from sca_bench.digests import file_sha256
from sca_bench.errors import InputError
from sca_bench.settings import CellSettings
from sca_bench.study.keys.cell import OF_ENCODER, OF_READER, CellIdentity
from sca_bench.study.keys.fingerprint import digest_json
from sca_bench.study.runs import older_inputs
from sca_bench.study.runs.older_inputs import fits_as_recorded
from sca_bench.study.runs.record import RunRecord
from sca_bench.study.runs.revisions import age_of, had_setting, identity_of, made_with, raised

SCENES = {"dataset": "scenes", "num_images": 3, "first_seed": 0}
SETTINGS = {
    "sam": {"size": "tiny", "weights": "random"},
    "text_decoder": {"weights": "random"},
    "data": {"train": SCENES, "test": {**SCENES, "first_seed": 9}},
}


def record(**changes):
    settings = CellSettings.model_validate(SETTINGS)
    identity = CellIdentity(settings, {})
    fields = {
        "cell_id": identity.cell_key,
        "seed": 0,
        "status": "done",
        "settings": settings.model_dump(mode="json"),
        "variant": "sca",
        "revision": identity.revisions.variant,
        "revisions": identity.revisions.beside_variant,
    }
    return RunRecord.model_validate({**fields, **changes})


def parsed(one):
    return CellSettings.model_validate(one.settings)


def test_what_differs_is_said_in_one_order():
    one = record()
    assert raised(one, parsed(one)) == []
    assert raised(one) == []
    older = one.model_copy(
        update={
            "revision": "0",
            "revisions": {
                **one.revisions,
                "features": "1",
                "world": "scenes-0",
                f"{OF_READER}mine": "4",
                f"{OF_ENCODER}theirs": "5",
            },
        }
    )
    today = made_with(one)
    assert raised(older, parsed(older)) == [
        f"sca revision 0, today {today.variant}",
        f"features revision 1, today {today.features}",
        f"world scenes-0, today {today.world}",
        "reader mine revision 4, today none",
        "encoder theirs revision 5, today none",
    ]
    assert raised(older) == [f"sca revision 0, today {today.variant}"]
    assert age_of(older) == ", ".join(raised(older, parsed(older)))
    known = made_with(older)
    assert (known.readers, known.encoders) == ({"mine": "4"}, {"theirs": "5"})
    assert identity_of(older).revisions == known


def test_a_record_without_settings_says_its_variant_s_revision_alone():
    torn = record(settings={"train": {}}, revision="0")
    assert age_of(torn) == f"sca revision 0, today {made_with(record()).variant}"
    assert age_of(torn.model_copy(update={"variant": "gone"})) == ""
    with pytest.raises(InputError):
        raised(torn.model_copy(update={"variant": "gone"}))


def test_a_stage_s_id_is_the_key_of_its_training():
    one = record()
    training = CellIdentity(parsed(one), {}).training_key
    assert training != one.cell_id
    assert age_of(one) == ""
    stage = one.model_copy(update={"stage": "first", "cell_id": training})
    assert age_of(stage) == ""
    wrong = stage.model_copy(update={"cell_id": one.cell_id})
    assert age_of(wrong) == f"its settings give the id {training} today"


def test_settings_that_a_record_has():
    one = record(settings={"a": {"b": None}, "c": [{"d": 1}], "train": {}})
    assert [had_setting(one, key) for key in ("a", "a.b", "c.0.d", "train")] == [True] * 4
    assert [had_setting(one, key) for key in ("b", "a.c", "a.b.c", "c.0.e")] == [False] * 4


# --- digests of before ------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "in").mkdir(parents=True)
    for name in ("b.bmp", "a.bmp", "in/c.bmp"):
        (folder / name).write_bytes(name.encode())
    (folder / ".hidden").write_bytes(b"aside")
    return folder


def recorded(key, value):
    return record().model_copy(update={"inputs": {key: value}, "revisions": {}})


KEY = "data.test.images"


def test_few_files_were_digested_by_content(images):
    files = [[name, file_sha256(images / name)] for name in ("a.bmp", "b.bmp", "in/c.bmp")]
    one = recorded(KEY, digest_json(files))
    assert fits_as_recorded(one, KEY, str(images))
    assert not fits_as_recorded(one, "data.train.images", str(images))
    whole = one.model_copy(update={"revisions": {"inputs": "1"}})
    assert not fits_as_recorded(whole, KEY, str(images))
    (images / "a.bmp").write_bytes(b"other")
    assert not fits_as_recorded(one, KEY, str(images))


@pytest.mark.parametrize("more", [0, 1])
def test_many_images_were_digested_by_name_and_size(images, more, monkeypatch):
    monkeypatch.setattr(older_inputs, "_FEW", 3 - more)
    names = ("a.bmp", "b.bmp", "in/c.bmp")
    by_size = recorded(KEY, digest_json([[n, (images / n).stat().st_size] for n in names]))
    assert fits_as_recorded(by_size, KEY, str(images)) == bool(more)
    weights = "sam.weights"
    by_content = digest_json([[n, file_sha256(images / n)] for n in names])
    assert fits_as_recorded(recorded(weights, by_content), weights, str(images))
    assert fits_as_recorded(recorded(KEY, by_content), KEY, str(images)) != bool(more)


def test_more_than_64_images_are_many(tmp_path):
    for count in (64, 65):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            (folder / f"{number:02d}.bmp").write_bytes(b"1")
        by_size = digest_json([[f"{n:02d}.bmp", 1] for n in range(count)])
        assert fits_as_recorded(recorded(KEY, by_size), KEY, str(folder)) == (count == 65)


def test_a_file_was_digested_whole_and_what_is_drawn_by_its_name(tmp_path):
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps([]))
    key = "data.test.annotations"
    assert fits_as_recorded(recorded(key, file_sha256(path)), key, str(path))
    drawn = recorded("text_decoder.weights", "random:gpt2")
    assert fits_as_recorded(drawn, "text_decoder.weights", "random:gpt2")
    assert not fits_as_recorded(drawn, "text_decoder.weights", "random:gpt2-large")
