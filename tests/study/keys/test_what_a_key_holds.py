"""What must be in a key for its runs to be found again: code revisions, and content of folders."""

import dataclasses

import pytest

from sca_bench.settings import CellSettings
from sca_bench.study.keys.cell import CellIdentity, todays_revisions
from sca_bench.study.keys.fingerprint import Fingerprints
from sca_bench.variants import all_variants, get_variant

SCENES = {"dataset": "scenes", "num_images": 3, "first_seed": 0}


def settings(train, variant="sca"):
    return CellSettings.model_validate(
        {
            "variant": variant,
            "sam": {"size": "tiny", "weights": "random"},
            "text_decoder": {"weights": "random"},
            "data": {"train": train, "test": {**SCENES, "first_seed": 9}},
        }
    )


@pytest.mark.parametrize("variant", sorted(all_variants()))
def test_the_revision_of_its_variants_code_is_part_of_every_key(variant):
    """Code that moves a number raises its revision: runs of the older code must not be taken."""
    cell = settings(SCENES, variant)
    today = CellIdentity(cell, {})
    assert today.key_values["variant.revision"] == get_variant(variant).revision
    raised = dataclasses.replace(todays_revisions(variant), variant="raised")
    other = CellIdentity(cell, {}, raised)
    assert other.cell_key != today.cell_key
    if get_variant(variant).trains == "gradient":
        assert other.training_key != today.training_key
    else:
        assert other.training_key == today.training_key == ""


@pytest.fixture
def digest_of(tmp_path):
    """Return a function that digests an image folder, which is `tmp_path`, as a run would."""
    train = {"dataset": "coco_instances", "images": str(tmp_path), "annotations": __file__}

    def digest():
        return Fingerprints().inputs(settings(train))["data.train.images"]

    return digest


def write_images(folder, count):
    for number in range(count):
        (folder / f"{number:03d}.bmp").write_bytes(b"pixels")


@pytest.mark.parametrize("count", [1, 5, 64])
def test_other_pixels_of_equal_size_are_noticed_in_folders_of_up_to_64_images(
    count, digest_of, tmp_path
):
    write_images(tmp_path, count)
    before = digest_of()
    assert digest_of() == before
    (tmp_path / "000.bmp").write_bytes(b"others")
    assert digest_of() != before


@pytest.mark.parametrize("count", [5, 64, 65, 200])
def test_another_size_or_name_is_noticed_however_many_images_there_are(count, digest_of, tmp_path):
    write_images(tmp_path, count)
    before = digest_of()
    (tmp_path / "003.bmp").write_bytes(b"pixels and more")
    longer = digest_of()
    (tmp_path / "003.bmp").write_bytes(b"pixels")
    assert digest_of() == before
    (tmp_path / "003.bmp").rename(tmp_path / "003b.bmp")
    assert len({before, longer, digest_of()}) == 3
