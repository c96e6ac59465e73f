import sys
from types import SimpleNamespace

import pytest

from sca_bench.errors import InputError, at
from sca_bench.settings import CellSettings
from sca_bench.settings.base import Settings
from sca_bench.settings.splits import INDEX_FOLDER
from sca_bench.study.keys.cell import CellIdentity, Revisions
from sca_bench.study.keys.fingerprint import Fingerprints, path_settings
from sca_bench.study.suite.merge import merge, nest
from sca_bench.variants import SAM_PARTS, SCA_PARTS, VariantSpec, all_variants


def settings(**changes):
    scenes = {"dataset": "scenes", "num_images": 3, "first_seed": 0}
    nested = {
        "sam": {"size": "tiny", "weights": "random"},
        "text_decoder": {"weights": "random"},
        "data": {"train": scenes, "test": {**scenes, "first_seed": 9}},
    }
    for path, value in changes.items():
        nested = merge(nested, nest(path.replace("__", "."), value))
    return CellSettings.model_validate(nested)


def cell(inputs=None, **changes):
    return CellIdentity(settings(**changes), inputs or {})


BASE = cell()


@pytest.mark.parametrize(
    "changes",
    [
        {"mixer__num_layers": 3},
        {"train__learning_rate": 0.5},
        {"eval__num_beams": 3},
        {"data__train__first_seed": 100},
        {"data__permute_captions": True},
    ],
)
def test_settings_that_change_numbers_change_the_key(changes):
    assert cell(**changes).cell_key != BASE.cell_key


@pytest.mark.parametrize(
    "changes",
    [
        {"runtime__device": "cpu"},
        {"runtime__threads": 3},
        {"runtime__eval_regions": 7},
        {"train__val_every": 3},
        {"features__cache": False},
        {"note": "a remark"},
        {"sam__weights": "elsewhere/same_content.safetensors"},
    ],
)
def test_cost_labels_and_places_do_not_change_the_key(changes):
    assert cell(**changes).cell_key == BASE.cell_key


def test_input_contents_change_the_key():
    assert cell({"sam.weights": "a"}).cell_key != cell({"sam.weights": "b"}).cell_key


def test_a_variant_that_reads_only_data_ignores_the_rest():
    frequent = cell({"sam.weights": "a"}, variant="most_frequent")
    other = cell({"sam.weights": "b"}, variant="most_frequent", mixer__num_layers=3)
    assert frequent.cell_key == other.cell_key
    assert "mixer.num_layers" not in frequent.key_values


def test_depth_shares_the_prefix_and_the_images_do_not():
    assert cell(mixer__num_layers=3).prefix_key == BASE.prefix_key
    assert cell(data__blank_images=True).prefix_key != BASE.prefix_key
    assert cell(data__permute_captions=True).prefix_key != BASE.prefix_key
    assert cell(train__images_per_batch=3).prefix_key != BASE.prefix_key


def test_permuted_captions_share_features_blank_images_do_not():
    assert cell(data__permute_captions=True).features_key("train") == BASE.features_key("train")
    blank = cell(data__blank_images=True)
    assert blank.features_key("captioned") != BASE.features_key("captioned")
    assert BASE.features_key("train") != BASE.features_key("captioned")


def test_flip_changes_training_features_only():
    flip = cell(data__flip="unsided")
    assert flip.features_key("captioned") == BASE.features_key("captioned")
    assert flip.features_key("train") != BASE.features_key("train")


FAMILIES = ("mixed", "prompts", "images")
SCA = ("sca", "sca_split_mixer", "sca_sam_query", "sca_sam_query_v1", "sca_mask_heads")


def test_designs_share_prefix_and_features():
    variants = [cell(variant=name) for name in (*SCA, "sca_roi_align")]
    assert len({s.prefix_key for s in variants}) == 1
    for family in FAMILIES:
        assert len({s.features_key("train", family) for s in variants}) == 1
    assert len({s.cell_key for s in variants}) == len(variants)
    assert cell(variant="most_frequent").prefix_key != BASE.prefix_key


def test_families_of_features_lie_apart():
    assert len({BASE.features_key("captioned", family) for family in FAMILIES}) == 3
    pooled = cell(mixer__image_grid=4)
    same = [f for f in FAMILIES if pooled.features_key("captioned", f) == _key(f)]
    assert same == ["prompts", "images"]


def test_embeddings_are_found_from_any_split_and_suite():
    """Their rows are named by the images' bytes, so only what encodes them enters the key."""
    other = cell(data__test={"dataset": "scenes", "first_seed": 3, "num_images": 2})
    keys = {s.features_key(x, "images") for s in (BASE, other) for x in ("train", "captioned")}
    assert len(keys) == 1
    assert other.split_images("captioned") != BASE.split_images("captioned")
    assert other.split_images("train") == BASE.split_images("train")


EVERYWHERE = {(split, family) for split in ("train", "captioned") for family in FAMILIES}
BY_REGION = {(split, family) for split, family in EVERYWHERE if family != "images"}


def _key(family, split="captioned"):
    return BASE.features_key(split, family)


@pytest.mark.parametrize(
    ("changes", "moved"),
    [
        ({"eval__prompt": "point"}, {("captioned", "mixed"), ("captioned", "prompts")}),
        ({"train__prompt": "point"}, {("train", "mixed"), ("train", "prompts")}),
        ({"eval__prompt_seed": 3}, set()),
        ({"data__lsj_scale": [0.5, 1.0]}, {("train", "mixed"), ("train", "prompts")}),
        ({"data__flip": "always"}, {("train", "mixed"), ("train", "prompts")}),
        ({"features__dtype": "float16"}, BY_REGION),
        ({"features__encoder_dtype": "float16"}, EVERYWHERE),
        ({"features__cache": "encoder"}, set()),
        ({"mixer__num_layers": 3, "eval__select": "first"}, set()),
        ({"encoder__type": "untrained"}, EVERYWHERE),
    ],
)
def test_features_depend_on_what_makes_them(changes, moved):
    changed = cell(**changes)
    assert {
        (split, family)
        for split in ("train", "captioned")
        for family in FAMILIES
        if changed.features_key(split, family) != _key(family, split)
    } == moved


@pytest.mark.parametrize("prompt", ["random_point", "mask_point", "sam_mask_point"])
def test_points_drawn_at_random_depend_on_their_seed(prompt):
    keys = {
        cell(eval__prompt=prompt, eval__prompt_seed=seed).features_key("captioned")
        for seed in (0, 1)
    }
    assert len(keys) == 2


def test_kinds_of_mirroring_are_different_views():
    keys = {cell(data__flip=flip).features_key("train") for flip in ("unsided", "always")}
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("variant", "changes", "same"),
    [
        ("sca", {"mixer__as_published": True}, True),
        ("sca_split_mixer", {"mixer__as_published": True}, True),
        ("sca_sam_query", {"mixer__as_published": True}, False),
        ("sca_mask_heads", {"mixer__as_published": True}, False),
        ("sca_roi_align", {"mixer__num_layers": 3, "mixer__mlp_dim": 64}, True),
        ("sca_roi_align", {"mixer__init_std": 0.1}, False),
        ("sca_split_mixer", {"mixer__num_layers": 3}, False),
    ],
)
def test_what_a_design_has_no_use_for_makes_no_new_cell(variant, changes, same):
    plain, changed = cell(variant=variant), cell(variant=variant, **changes)
    assert (plain.cell_key == changed.cell_key) == same


def test_prompts_and_jitter_of_training_are_part_of_the_group():
    assert cell(train__prompt="point").prefix_key != BASE.prefix_key
    assert cell(data__lsj_scale=[0.5, 1.0]).prefix_key != BASE.prefix_key
    assert cell(eval__select="first").prefix_key == BASE.prefix_key
    assert cell(eval__select="first").cell_key != BASE.cell_key


def test_each_split_has_the_features_of_its_own_prompt():
    points = cell(train__prompt="point")
    assert points.features_key("train") != BASE.features_key("train")
    assert points.features_key("captioned") == BASE.features_key("captioned")
    masks = cell(eval__prompt="mask_point")
    assert masks.features_key("train") == BASE.features_key("train")
    assert masks.features_key("captioned") != BASE.features_key("captioned")
    assert points.prefix_key != BASE.prefix_key


def test_the_seed_of_points_matters_where_points_are_random():
    again = cell(eval__prompt_seed=5)
    assert again.features_key("captioned") == BASE.features_key("captioned")
    masks = {"eval__prompt": "mask_point"}
    one, two = cell(**masks), cell(**masks, eval__prompt_seed=5)
    assert one.features_key("captioned") != two.features_key("captioned")
    assert one.cell_key != two.cell_key


def test_jitter_is_part_of_the_data_order():
    jitter = cell(data__lsj_scale=[0.1, 2.0])
    assert jitter.prefix_key != BASE.prefix_key
    assert jitter.features_key("captioned") == BASE.features_key("captioned")


def test_the_weights_and_worlds_of_a_mixture_are_part_of_the_key():
    scenes = {"dataset": "scenes", "num_images": 3, "first_seed": 0}

    def mixture(weight):
        parts = [{"weight": weight, "split": scenes}, {"weight": 1, "split": scenes}]
        return cell(data__train={"dataset": "mixture", "parts": parts})

    assert mixture(10).cell_key != mixture(1).cell_key
    assert mixture(10).key_values["data.train.parts.0.split.world"]


def test_fingerprints_follow_content_not_place(tmp_path):
    one, two = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    one.write_bytes(b"same")
    two.write_bytes(b"same")
    memory = tmp_path / "memory.sqlite"
    first = Fingerprints(memory).inputs(settings(sam__weights=str(one)))
    assert first == Fingerprints(memory).inputs(settings(sam__weights=str(two)))
    assert memory.exists()
    two.write_bytes(b"other")
    assert first != Fingerprints(memory).inputs(settings(sam__weights=str(two)))
    assert first["text_decoder.weights"] == "random"


def test_a_missing_weight_file_is_named(tmp_path):
    line = r"suite.yaml: sam.weights: .*no such file"
    with pytest.raises(InputError, match=line), at("suite.yaml"):
        Fingerprints().inputs(settings(sam__weights=str(tmp_path / "no")))


def hub_digest():
    found = Fingerprints().inputs(settings(text_decoder__weights="openai-community/gpt2"))
    return found["text_decoder.weights"]


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
    """An empty local cache of the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path / "models--openai-community--gpt2"


def test_a_hub_id_counts_by_the_commit_in_the_local_cache(hub_cache):
    assert hub_digest() == "hub:openai-community/gpt2"  # nothing cached, and offline
    for commit in ("a" * 40, "b" * 40):
        snapshot = hub_cache / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").write_text("{}")
        (hub_cache / "refs").mkdir(exist_ok=True)
        (hub_cache / "refs" / "main").write_text(commit)
        assert hub_digest() == f"hub:openai-community/gpt2@{commit}"


def test_before_its_download_a_hub_id_counts_by_the_commit_it_would_get(hub_cache, monkeypatch):
    class Info:
        sha = "c" * 40

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *args, **more: Info)
    assert hub_digest() == f"hub:openai-community/gpt2@{'c' * 40}"

    def no_network(*args, **more):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", no_network)
    assert hub_digest() == "hub:openai-community/gpt2"


def test_a_folder_of_weights_counts_by_content_however_many_files(tmp_path):
    for number in range(70):
        (tmp_path / f"shard-{number}.bin").write_bytes(b"1")

    def digests():
        weights = settings(text_decoder__weights=str(tmp_path))
        data = {"dataset": "coco_instances", "images": str(tmp_path), "annotations": __file__}
        images = settings(data__train=data)
        return (
            Fingerprints().inputs(weights)["text_decoder.weights"],
            Fingerprints().inputs(images)["data.train.images"],
        )

    weights, images = digests()
    (tmp_path / "shard-3.bin").write_bytes(b"2")
    assert weights != digests()[0]
    assert images != digests()[1]
    (tmp_path / ".cache").mkdir()
    before = digests()
    (tmp_path / ".cache" / "lock").write_text("a download's book-keeping")
    (tmp_path / "annotations" / INDEX_FOLDER / "v3det_train").mkdir(parents=True)
    (tmp_path / "annotations" / INDEX_FOLDER / "v3det_train" / "index.json").write_text("{}")
    assert digests() == before


def test_path_settings_are_found_in_split_unions(tmp_path):
    split = {"dataset": "coco_instances", "images": "i", "annotations": "a"}
    found = dict(path_settings(settings(data__train=split)))
    assert found["data.train.images"] == "i"
    assert found["data.train.annotations"] == "a"


def test_the_rendered_world_is_part_of_the_key(monkeypatch):
    before = cell().cell_key
    monkeypatch.setattr("sca_bench.study.keys.cell.WORLD_VERSION", "scenes-of-the-future")
    assert cell().cell_key != before


@pytest.mark.parametrize("variant", sorted(all_variants()))
def test_which_split_is_captioned_always_counts(variant):
    val = {"dataset": "scenes", "num_images": 3, "first_seed": 20}
    keys = {
        cell(variant=variant, data__val=val, eval__split=split).cell_key
        for split in ("test", "val")
    }
    assert len(keys) == 2


def test_retrieval_depends_on_who_deals_the_captions():
    dealt = [
        cell(variant="retrieval", data__permute_captions=True, train__order_seed=seed)
        for seed in (0, 1)
    ]
    assert len({s.cell_key for s in dealt}) == 2


@pytest.fixture
def registered(monkeypatch):
    """Register a variant of another package beside the others."""

    def register(**facts):
        spec = VariantSpec(**{"name": "mine", "builder": "mine:build", "summary": "Mine", **facts})
        known = {**all_variants(), "mine": spec}
        monkeypatch.setattr("sca_bench.variants.VARIANTS.own", lambda: known)
        return lambda **changes: cell(variant="mine", **changes)

    return register


def keys_of_features(one):
    return [one.features_key(split, f) for split in ("train", "captioned") for f in FAMILIES]


OWN = (
    {"baseline__random_seed": 2},
    {"baseline__size": "large"},
    {"crop__margin": 0.5},
    {"mixer__num_query_tokens": 3},
    {"prefix__gain": 0.5},
    {"eval__select": "first"},
)


@pytest.mark.parametrize("parts", ["", "mine:load", SAM_PARTS])
@pytest.mark.parametrize("changes", OWN)
def test_features_of_a_stranger_depend_on_all_that_it_reads(registered, parts, changes):
    mine = registered(parts=parts)
    plain, changed = mine(), mine(**changes)
    assert not set(keys_of_features(plain)) & set(keys_of_features(changed))
    assert plain.prefix_key != changed.prefix_key
    assert plain.masks_key != changed.masks_key
    assert not set(keys_of_features(plain)) & set(keys_of_features(BASE))
    assert plain.prefix_key != BASE.prefix_key


def test_the_content_of_a_strangers_weights_is_in_the_keys_of_its_features(registered):
    mine = registered()().settings
    one, two = (CellIdentity(mine, {"baseline.weights": digest}) for digest in "ab")
    assert not set(keys_of_features(one)) & set(keys_of_features(two))


def test_the_recipe_leaves_a_strangers_features_shared(registered):
    mine = registered()
    for changes in ({"train__learning_rate": 0.5}, {"train__weight_decay": 0.5}):
        assert keys_of_features(mine(**changes)) == keys_of_features(mine())
        assert mine(**changes).prefix_key == mine().prefix_key


def test_a_stranger_may_say_what_its_features_depend_on(registered):
    mine = registered(frozen_reads=("baseline.weights", "crop"))
    assert keys_of_features(mine(mixer__num_layers=3)) == keys_of_features(mine())
    assert mine(mixer__num_layers=3).prefix_key == mine().prefix_key
    assert not set(keys_of_features(mine(crop__margin=0.5))) & set(keys_of_features(mine()))


def test_a_stranger_may_say_that_its_features_are_sams(registered):
    mine = registered(parts=SCA_PARTS, has_sams_features=True)
    assert keys_of_features(mine(baseline__random_seed=2)) == keys_of_features(BASE)
    assert mine(mixer__num_layers=3).prefix_key == BASE.prefix_key


class Depth(Settings):
    """Settings of a variant of its own."""

    depth: int = 1


@pytest.mark.parametrize(("parts", "shares"), [(SCA_PARTS, True), ("mine:load", False)])
def test_a_loader_of_its_own_may_read_the_options_beside_sams_features(
    registered, monkeypatch, parts, shares
):
    monkeypatch.setitem(sys.modules, "mine", SimpleNamespace(Depth=Depth))
    mine = registered(parts=parts, has_sams_features=True, options="mine:Depth")
    one, two = mine(), mine(options__depth=2)
    assert one.cell_key != two.cell_key
    assert (one.prefix_key == two.prefix_key) == shares
    assert keys_of_features(one) == keys_of_features(two) == keys_of_features(BASE)
    assert mine(baseline__random_seed=2).prefix_key == one.prefix_key


@pytest.mark.parametrize(
    ("facts", "changes"),
    [
        ({}, {"train__precision": "bf16"}),
        ({}, {"sam__size": "tiny_large"}),
        ({}, {"eval__num_beams": 2}),
        ({}, {"data__blank_images": True}),
        ({"looks": False, "trains": "once"}, {"data__train__first_seed": 5}),
        ({"looks": False}, {"train__learning_rate": 0.5}),
        ({"ignores": ("train", "eval")}, {"train__steps": 5}),
    ],
)
def test_what_the_engine_reads_counts_whatever_a_variant_says(registered, facts, changes):
    mine = registered(**{"reads": ("baseline",), **facts})
    assert mine(**changes).cell_key != mine().cell_key
    assert mine(prefix__gain=0.5).cell_key == mine().cell_key


def test_retrieval_pools_what_it_compares():
    plain, pooled = (cell(variant="retrieval", mixer__image_grid=g) for g in (None, 4))
    assert plain.cell_key != pooled.cell_key
    older = CellIdentity(pooled.settings, {}, Revisions("2", "3"))
    assert "mixer.image_grid" not in older.key_values


def test_captions_of_training_regions_depend_on_the_prompt_of_training():
    also = {"variant": "sam_git", "eval__also_train": True}
    assert cell(**also).cell_key != cell(**also, train__prompt="point").cell_key
    never = {"variant": "sam_git"}
    assert cell(**never).cell_key == cell(**never, train__prompt="point").cell_key
