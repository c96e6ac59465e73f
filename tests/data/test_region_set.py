import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from sca_bench import scene_grammar
from sca_bench.data.load import load_split
from sca_bench.data.readers.scenes import render_scene
from sca_bench.data.region_set import RegionSet
from sca_bench.errors import InputError
from sca_bench.formats.rle import read_mask
from sca_bench.settings import ScenesSplit
from sca_bench.types import ImageRecord, Region

IMAGES = {"a": ImageRecord("a", 9, 9), "b": ImageRecord("b", 9, 9)}


def region(region_id, image_id="a", box=(0, 0, 2, 2), text="x"):
    return Region(region_id, image_id, box, (text,))


def test_region_ids_are_unique_and_images_known():
    with pytest.raises(InputError, match="toy: 1: two regions have this id"):
        RegionSet("toy", IMAGES, (region("1"), region("1", "b")))
    with pytest.raises(InputError, match="toy: 1: lies in unknown image 'c'"):
        RegionSet("toy", IMAGES, (region("1", "c"),))


def test_regions_of_one_image():
    region_set = RegionSet("toy", IMAGES, (region("1"), region("2", "b"), region("3")))
    assert [r.region_id for r in region_set.regions_of("a")] == ["1", "3"]
    with pytest.raises(KeyError):
        region_set.regions_of("c")


def test_the_summary_is_one_line_with_all_counts():
    region_set = RegionSet(
        "toy", IMAGES, (region("1"),), {"crowd": 3, "empty phrase": 1}, {"not of val": 2}, 1
    )
    assert region_set.summary() == (
        "toy: 1 regions in 2 images kept (1 clipped at the image border); "
        "4 annotations dropped (crowd: 3, empty phrase: 1); 2 images left out (not of val: 2)"
    )


def test_the_digest_follows_the_content():
    digests = {
        RegionSet("toy", IMAGES, regions).digest()
        for regions in (
            (region("1"),),
            (region("2"),),
            (region("1", "b"),),
            (region("1", box=(0, 0, 2, 3)),),
            (region("1", text="y"),),
        )
    }
    assert len(digests) == 5
    same = RegionSet("other name", IMAGES, (region("1"),), {"crowd": 1})
    assert same.digest() in digests


def test_missing_images_are_named_with_their_number(instances, make_photo):
    region_set = load_split(instances.split())
    with pytest.raises(InputError, match=r"images: images: no such folder \(3 of 3 images"):
        region_set.check_images()
    with pytest.raises(InputError, match="images: images: no such folder; name the folder"):
        region_set.load_image("7")
    make_photo(instances.images / "7.png", 8, 6)
    with pytest.raises(InputError, match=r"8.png: images: no such image file \(2 of 3 .*fetch it"):
        region_set.check_images()
    with pytest.raises(InputError, match=r"8.png: images: no such image file; fetch it"):
        region_set.load_image("8")
    assert region_set.load_image("7").shape == (6, 8, 3)


def test_a_broken_or_wrong_image_is_one_clear_line(instances, make_photo):
    region_set = load_split(instances.split())
    make_photo(instances.images / "7.png", 6, 8)
    with pytest.raises(InputError, match=r"7.png: is 6 x 8 pixels, but .* for 8 x 6"):
        region_set.load_image("7")
    make_photo(instances.images / "8.png", 8, 6)
    whole = (instances.images / "8.png").read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"<html>not found</html>"):
        (instances.images / "8.png").write_bytes(broken)
        with pytest.raises(InputError, match=r"8.png: cannot be decoded: .*fetch the image again"):
            region_set.load_image("8")


def test_grey_palette_and_alpha_images_come_as_rgb(instances, make_photo):
    from PIL import Image

    make_photo(instances.images / "7.png", 8, 6)
    region_set = load_split(instances.split())
    for mode in ("L", "P", "RGBA", "1"):
        Image.open(instances.images / "7.png").convert(mode).save(instances.images / "7.png")
        assert region_set.load_image("7").shape == (6, 8, 3)


def test_scenes_become_a_region_set():
    region_set = load_split(ScenesSplit(dataset="scenes", num_images=3, first_seed=40))
    assert list(region_set.images) == ["scene_40", "scene_41", "scene_42"]
    scene = render_scene(41)
    regions = region_set.regions_of("scene_41")
    assert [r.references[0] for r in regions] == [r.caption for r in scene.regions]
    for kept, rendered in zip(regions, scene.regions, strict=True):
        assert kept.box_xyxy == rendered.box_xyxy
        assert dict(kept.slots) == dict(rendered.slots)
        mask = read_mask(kept.segmentation, *rendered.mask.shape)
        np.testing.assert_array_equal(mask, rendered.mask)
    np.testing.assert_array_equal(region_set.load_image("scene_41"), scene.image)
    region_set.check_images()


def test_a_region_set_travels_to_loader_workers():
    region_set = load_split(ScenesSplit(dataset="scenes", num_images=1, first_seed=4))
    again = pickle.loads(pickle.dumps(region_set))
    assert again.digest() == region_set.digest()
    np.testing.assert_array_equal(again.load_image("scene_4"), region_set.load_image("scene_4"))


def test_readers_do_not_import_torch():
    code = (
        "import sys, sca_bench.data.load, sca_bench.data.pipeline.sampling\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("captions", "pattern", "slots"),
    [
        ("shape", "{shape}", {"shape"}),
        ("colour_shape", "{colour} {shape}", {"colour", "shape"}),
        (
            "subject",
            "{size} {texture} {colour} {shape}",
            {"size", "texture", "colour", "shape"},
        ),
    ],
)
def test_class_names_stand_in_for_captions(captions, pattern, slots):
    settings = {"dataset": "scenes", "num_images": 4, "first_seed": 40}
    full = load_split(ScenesSplit(**settings))
    named = load_split(ScenesSplit(**settings, captions=captions, task="recognition"))
    assert named.task == "recognition"
    for region, whole in zip(named.regions, full.regions, strict=True):
        assert region.references == (pattern.format(**whole.slots),)
        assert set(region.slots) == slots
        assert dict(region.slots) == scene_grammar.parse(region.references[0])
        assert (region.region_id, region.box_xyxy) == (whole.region_id, whole.box_xyxy)
        assert region.segmentation == whole.segmentation


def test_there_are_as_many_classes_as_said():
    for captions, count in (("shape", 4), ("colour_shape", 20), ("subject", 120)):
        words = [scene_grammar.WORDS[slot] for slot in scene_grammar.CLASS_SLOTS[captions]]
        assert len(list(itertools.product(*words))) == count


def test_places_of_images():
    region_set = RegionSet("toy", IMAGES, (region("1"),))
    assert [region_set.image_id(k) for k in (0, 1)] == ["a", "b"]
    with pytest.raises(IndexError):
        region_set.image_id(2)


def test_what_is_done_to_pictures_is_counted_once_for_the_split(tmp_path):
    grey16 = np.zeros((4, 6), np.uint16)
    names = {"plain.png": None, "upright.webp": 6, "stored.webp": 6, "upside.webp": 3}
    for name, orientation in names.items():
        exif = Image.Exif()
        if orientation:
            exif[0x0112] = orientation
        Image.new("RGB", (6, 4)).save(tmp_path / name, exif=exif)
    Image.fromarray(grey16).save(tmp_path / "deep.png")
    sizes = dict.fromkeys((*names, "deep.png"), (6, 4)) | {"upright.webp": (4, 6)}
    records = [ImageRecord(n, *sizes[n], str(tmp_path / n)) for n in sizes]
    regions = tuple(region(name, name) for name in sizes)
    region_set = RegionSet("toy", {r.image_id: r for r in records}, regions)
    assert region_set.picture_notes() == [
        "toy: images: 1 left as stored, against EXIF: only so they have the annotated size; "
        "1 of 16 bits a channel, the upper 8 are kept; 2 turned upright as EXIF says"
    ]
    plain = RegionSet("toy", {"plain.png": records[0]}, (region("1", "plain.png"),))
    assert plain.picture_notes() == []
    assert (
        load_split(ScenesSplit(dataset="scenes", num_images=1, first_seed=0)).picture_notes() == []
    )
