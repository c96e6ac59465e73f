"""What must be in a key for its runs to be found again: code revisions, and content of folders."""

import dataclasses
import json
import os

import pytest
from pydantic import ValidationError

from sca_bench import variants
from sca_bench.data.image_files import ImageFolder
from sca_bench.errors import InputError
from sca_bench.settings import CellSettings
from sca_bench.settings.splits import INDEX_FOLDER
from sca_bench.study.keys.cell import CellIdentity, todays_revisions
from sca_bench.study.keys.fingerprint import Fingerprints
from sca_bench.variants import all_variants, get_variant
from sca_bench.weight_paths import WEIGHTS_DIR

SCENES = {"dataset": "scenes", "num_images": 3, "first_seed": 0}


def settings(train, variant="sca", decoder=None, recipe=None):
    return CellSettings.model_validate(
        {
            "variant": variant,
            "sam": {"size": "tiny", "weights": "random"},
            "text_decoder": decoder or {"weights": "random"},
            "train": recipe or {},
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


def test_the_revision_of_the_encoder_that_is_named_is_part_of_the_key():
    """Whether `sam.size` or `encoder.type` names it; one that nobody names is in no key."""
    cell, today = settings(SCENES), todays_revisions("sca")
    plain = CellIdentity(cell, {}, today)
    sized, typed, other = (
        CellIdentity(cell, {}, dataclasses.replace(today, encoders={name: "7"}))
        for name in ("tiny", "sam", "other")
    )
    assert sized.key_values == {**plain.key_values, "sam.size.revision": "7"}
    assert typed.key_values == {**plain.key_values, "encoder.type.revision": "7"}
    assert len({one.cell_key for one in (plain, sized, typed, other)}) == 3
    assert other.cell_key == plain.cell_key


OPTIMISER = {
    "a frozen decoder": ({}, False),
    "one that ships": ({"weights": "embedded:lm_scenes", "trainable": True}, False),
    "one of others": ({"weights": "some/llama", "trainable": True}, True),
}


@pytest.mark.parametrize("case", OPTIMISER)
@pytest.mark.parametrize("variant", ["sca", "sca_roi_align"])
def test_the_optimisers_revision_counts_where_a_module_of_others_is_trained(variant, case):
    """Its norms may be of kinds that no module of this package has."""
    decoder, counts = OPTIMISER[case]
    cell = settings(SCENES, variant, decoder)
    today = CellIdentity(cell, {"text_decoder.weights": "1234"})
    older = dataclasses.replace(todays_revisions(variant), optimiser="1")
    before = CellIdentity(cell, {"text_decoder.weights": "1234"}, older)
    assert (before.cell_key != today.cell_key) == counts
    assert (before.training_key != today.training_key) == counts
    assert "optimiser.revision" not in before.key_values  # as its runs were keyed


def test_every_decoder_that_ships_has_norms_that_were_never_decayed():
    shipped = sorted(WEIGHTS_DIR.glob("*/config.json"))
    assert shipped
    assert {json.loads(path.read_text())["model_type"] for path in shipped} == {"gpt2"}


def test_the_optimisers_revision_counts_for_every_variant_of_others(monkeypatch):
    class Point:
        name, value = "mine", "my_package:SPEC"

        def load(self):
            return variants.VariantSpec("mine", "my_package:build", "Mine")

    monkeypatch.setattr(variants.VARIANTS, "find", lambda group: [Point()])
    assert "optimiser.revision" in CellIdentity(settings(SCENES, "mine"), {}).key_values
    assert "optimiser.revision" not in CellIdentity(settings(SCENES), {}).key_values


PUBLISHED = ("train.as_published", "data.train.as_published")


def test_what_is_read_and_trained_as_published_is_keyed_in_whatever_order():
    photos = {"dataset": "coco_instances", "images": "i", "annotations": "a"}
    plain = CellIdentity(settings(photos), {})
    assert not set(PUBLISHED) & set(plain.key_values)
    keys = {plain.cell_key}
    for words in (["warmup"], ["loss"], ["loss", "warmup"]):
        changed = [
            CellIdentity(settings(photos, recipe={"as_published": order}), {})
            for order in (words, words[::-1], words * 2)
        ]
        assert len({cell.cell_key for cell in changed}) == 1
        assert {cell.prefix_key for cell in changed} == {plain.prefix_key}  # one lockstep group
        keys.add(changed[0].cell_key)
    for words in (["regions"], ["white_space"]):
        cell = CellIdentity(settings({**photos, "as_published": words}), {})
        keys.add(cell.cell_key)
        assert cell.features_key("train") != plain.features_key("train")
        assert cell.features_key("train", "images") == plain.features_key("train", "images")
    assert len(keys) == 6


@pytest.mark.parametrize("words", [["losses"], "loss", [True], ["regions"]])
def test_another_word_is_refused(words):
    with pytest.raises(ValidationError):
        settings(SCENES, recipe={"as_published": words})


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


@pytest.mark.parametrize("count", [1, 5, 64, 65, 200])
def test_other_pixels_of_equal_size_are_noticed_however_many_images_there_are(
    count, digest_of, tmp_path
):
    write_images(tmp_path, count)
    before = digest_of()
    assert digest_of() == before
    (tmp_path / "000.bmp").write_bytes(b"others")
    assert digest_of() != before


@pytest.mark.parametrize("count", [5, 65])
def test_another_size_or_name_is_noticed_however_many_images_there_are(count, digest_of, tmp_path):
    write_images(tmp_path, count)
    before = digest_of()
    (tmp_path / "003.bmp").write_bytes(b"pixels and more")
    longer = digest_of()
    (tmp_path / "003.bmp").write_bytes(b"pixels")
    assert digest_of() == before
    (tmp_path / "003.bmp").rename(tmp_path / "003b.bmp")
    assert len({before, longer, digest_of()}) == 3


def test_a_change_is_noticed_with_size_and_time_put_back_and_a_memory(tmp_path):
    (tmp_path / "i").mkdir()
    write_images(tmp_path / "i", 70)
    train = {"dataset": "coco_instances", "images": str(tmp_path / "i"), "annotations": __file__}

    def digest():
        prints = Fingerprints(tmp_path / "memory.sqlite")
        return prints.inputs(settings(train))["data.train.images"]

    before, file = digest(), tmp_path / "i" / "042.bmp"
    times = file.stat()
    file.write_bytes(b"others")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    changed = digest()
    assert changed != before
    file.write_bytes(b"pixels")
    assert digest() == before


@pytest.mark.parametrize("which", ["images", "weights", "tokenizer"])
def test_a_linked_folder_counts_by_what_it_leads_to(which, tmp_path):
    """`VG_100K` as a link to another disk: its pictures are read, so they are in the key."""
    for name, content in (("a", b"one"), ("b", b"two"), ("c", b"one")):
        (tmp_path / name / "deeper").mkdir(parents=True)
        (tmp_path / name / "deeper" / "1.png").write_bytes(content)
    folder = tmp_path / "folder"
    folder.mkdir()

    def digest():
        if which == "images":
            data = {"dataset": "coco_instances", "images": str(folder), "annotations": __file__}
            return Fingerprints().inputs(settings(data))["data.train.images"]
        cell = settings(SCENES).model_dump() | {"baseline": {which: str(folder)}}
        return Fingerprints().inputs(CellSettings.model_validate(cell))[f"baseline.{which}"]

    found = [digest()]
    for name in ("a", "b", "c"):
        (folder / "sub").unlink(missing_ok=True)
        (folder / "sub").symlink_to(tmp_path / name)
        found.append(digest())
    assert found[1] == found[3]
    assert len(set(found)) == 3


def test_a_link_that_leads_nowhere_is_named_with_the_setting(digest_of, tmp_path):
    (tmp_path / "VG_100K").symlink_to("/not/mounted")
    with pytest.raises(
        InputError, match=r"VG_100K: data\.train\.images: is a link to /not/mounted"
    ):
        digest_of()


def test_hidden_images_count_for_no_key_and_are_not_read(tmp_path):
    folder = ImageFolder(str(tmp_path))
    for name in (".a.png", ".b/1.png", f"{INDEX_FOLDER}/1.png"):
        with pytest.raises(InputError, match="is not the name of a file inside the images folder"):
            folder.path(name, "annotations.json", "images", 0)
    assert folder.path("./1.png", "annotations.json") == f"{tmp_path}/1.png"


def test_sizes_of_an_untrained_decoder_count_by_content(tmp_path, monkeypatch):
    """`random:FOLDER` takes them from that folder's config.json."""

    def digest(weights):
        cell = settings(SCENES).model_dump() | {"text_decoder": {"weights": weights}}
        return Fingerprints().inputs(CellSettings.model_validate(cell))["text_decoder.weights"]

    for name, layers in (("a", 1), ("b", 2), ("c", 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"n_layer": layers}))
    one, two, again = (digest(f"random:{tmp_path / name}") for name in "abc")
    assert one == again != two
    assert digest("random:gpt2") == "random:gpt2"
    assert digest("random") == "random"
