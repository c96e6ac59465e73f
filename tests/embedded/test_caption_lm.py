"""The text decoder for photos: what it reads, what its prefix holds, and that it can be steered."""

import json
import random

import pytest
import torch

from sca_bench.cli import main
from sca_bench.embedded.caption_lm import (
    CaptionLmRecipe,
    build_caption_lm,
    build_vocabulary,
    drop_keywords,
    encode,
    say_keywords,
    text_normalizer,
    train_caption_lm,
    words_of,
)
from sca_bench.embedded.lm_text import read_captions, read_image_ids, read_phrases
from sca_bench.embedded.lm_training import (
    NUM_PREFIX_SLOTS,
    mix_keywords,
    slot_noise,
    word_tokenizer,
)
from sca_bench.errors import InputError
from sca_bench.models.text_decoder.loading import load_text_decoder

PHRASES = ("dog", "red bus", "wall-brick", "tree", "potted plant")
NOUNS = ("dog", "bus", "cat", "tree", "boat", "horse")
VERBS = ("sits near", "stands behind", "waits by")
SMALL = CaptionLmRecipe(
    steps=120, width=32, num_heads=2, captions_per_step=32, min_count=1, learning_rate=1e-2
)


@pytest.fixture(scope="module")
def captions():
    draw = random.Random(0)
    return [
        f"A {draw.choice(NOUNS)} {draw.choice(VERBS)} the {draw.choice(NOUNS)}." for _ in range(200)
    ]


@pytest.fixture(scope="module")
def trained(captions, training):
    return train_caption_lm(captions, PHRASES, SMALL)


def write(path, content):
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A black-and-white Honda.", ["a", "black-and-white", "honda"]),
        ("wall-brick", ["wall-brick"]),
        ('a "man\'s" tie -- blue, 3 feet', ["a", "man's", "tie", "blue", "3", "feet"]),
        ("'quoted' w/ dash -", ["quoted", "w", "dash"]),
        ("  \n", []),
    ],
)
def test_text_becomes_words(text, words):
    assert words_of(text) == words


def test_rare_words_of_captions_fall_out_but_those_of_phrases_stay():
    words = build_vocabulary(["a dog", "a dog", "a Zebra"], ["red bus"], min_count=2)
    assert words == ("a", "bus", "dog", "red")


def test_phrases_come_back_as_they_went_in(trained):
    _, tokenizer, _ = trained
    for phrase in PHRASES:
        ids = tokenizer(phrase)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == phrase


def test_content_words_alone_stand_in_the_prefix():
    tokenizer = word_tokenizer(("a", "dog", "of", "on", "sofa", "the"), 64, text_normalizer())
    texts = encode(["a dog on the Sofa", "of the", "dog dog unicorn"], tokenizer, max_words=18)
    keys = [
        tokenizer.convert_ids_to_tokens(row[mask].tolist())
        for row, mask in zip(texts.keys_NK, texts.is_key_NK, strict=True)
    ]
    assert keys == [["dog", "sofa"], ["of", "the"], ["dog"]]
    assert texts.is_text_NT.sum(1).tolist() == [6, 3, 4]  # the end token counts
    assert encode(["a dog on the sofa"], tokenizer, max_words=2).is_text_NT.sum() == 3


def test_padding_keywords_do_not_enter_a_mixture():
    table_VC = torch.randn(7, 12, generator=torch.Generator().manual_seed(0))
    ids, mask = torch.tensor([[3, 5]]), torch.tensor([[True, False]])
    mixed = mix_keywords(table_VC, ids, 4, torch.Generator().manual_seed(1), mask)
    other = mix_keywords(
        table_VC, torch.tensor([[3, 6]]), 4, torch.Generator().manual_seed(1), mask
    )
    assert torch.equal(mixed, other)
    assert torch.allclose(mixed.std(-1), table_VC.std().expand(1, 4))
    direction = torch.nn.functional.cosine_similarity(mixed[0], table_VC[3].expand(4, -1))
    assert torch.allclose(direction, torch.ones(4))


def test_dropped_keywords_leave_one_and_never_touch_padding():
    is_key = torch.tensor([[True, True, True], [True, False, False]]).repeat(2000, 1)
    kept = drop_keywords(is_key, 0.3, torch.Generator().manual_seed(0))
    assert not (kept & ~is_key).any()
    assert kept.any(1).all()
    share = kept[::2].float().mean()
    assert float(share) == pytest.approx(0.7 + 0.3**3 / 3, abs=0.02)
    assert torch.equal(drop_keywords(is_key, 0.0, torch.Generator().manual_seed(0)), is_key)


def test_the_noise_has_the_stated_spread():
    table_VC = 0.3 * torch.randn(50, 64, generator=torch.Generator().manual_seed(0))
    noise = slot_noise(table_VC, 40, 2.0, torch.Generator().manual_seed(1))
    assert noise.shape == (40, NUM_PREFIX_SLOTS, 64)
    assert float(noise.std() / table_VC.std()) == pytest.approx(2.0, rel=0.02)


def test_the_loss_falls_and_the_prefix_steers(trained):
    model, tokenizer, losses = trained
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])
    said = [say_keywords(model, tokenizer, phrase) for phrase in PHRASES]
    assert sum(a == b for a, b in zip(said, PHRASES, strict=True)) >= 4
    assert len(set(said)) >= 4


def test_a_seed_decides_every_weight(captions):
    short = CaptionLmRecipe(steps=3, width=16, num_heads=2, captions_per_step=4, min_count=1)
    one, two = (train_caption_lm(captions, PHRASES, short)[0].state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_without_phrases_all_of_a_batch_are_captions(captions):
    short = CaptionLmRecipe(steps=2, width=16, num_heads=2, captions_per_step=4, min_count=1)
    _, tokenizer, losses = train_caption_lm(captions, (), short)
    assert len(losses) == 2
    assert "wall-brick" not in tokenizer.get_vocab()


def test_the_saved_decoder_loads_as_a_text_decoder(tmp_path, captions):
    rows = [{"image_id": i, "caption": text} for i, text in enumerate(captions)]
    file = write(tmp_path / "captions.json", {"annotations": rows})
    phrases = write(
        tmp_path / "regions.json", [{"id": 1, "regions": [{"phrase": p} for p in PHRASES]}]
    )
    images = write(tmp_path / "image_data.json", [{"image_id": 7, "coco_id": 3}])
    recipe = CaptionLmRecipe(steps=2, width=16, num_heads=2, captions_per_step=4, min_count=1)
    lines: list[str] = []
    build_caption_lm(file, [phrases], [images], tmp_path / "lm", recipe, lines.append)
    assert lines[0].startswith("198 captions (2 of excluded images left out), 5 phrases")
    facts = json.loads((tmp_path / "lm" / "recipe.json").read_text())
    assert (facts["num_captions"], facts["num_captions_left_out"]) == (198, 2)
    assert [entry["role"] for entry in facts["inputs"]] == [
        "captions",
        "phrases",
        "excluded_images",
    ]
    assert str(tmp_path) not in json.dumps(facts)
    decoder = load_text_decoder(str(tmp_path / "lm"))
    tokens = decoder.tokenize(["red bus"], 18)
    assert tokens.ids_NT.shape == (1, 3)
    assert decoder.width == 16
    with pytest.raises(InputError, match="exists already"):
        build_caption_lm(file, [phrases], [images], tmp_path / "lm", recipe, lines.append)


def test_captions_of_excluded_images_are_not_read(tmp_path):
    rows = [{"image_id": 1, "caption": "one\n"}, {"image_id": "2", "caption": " two  words"}]
    file = write(tmp_path / "c.json", {"annotations": rows})
    some, others = tmp_path / "some.json", tmp_path / "others.json"
    assert read_captions(file, {some: {"1"}, others: {"1", "9"}}) == (["two words"], 1)
    with pytest.raises(InputError, match=r"no caption is left of 2 \(2 belong to excluded"):
        read_captions(file, {some: {"1"}, others: {"2"}})


@pytest.mark.parametrize("ids", [{"3", "4"}, {"000001.jpg"}, set()])
def test_a_list_of_images_without_captions_leaves_nothing_out(tmp_path, ids):
    rows = [{"image_id": 1, "caption": "one"}, {"image_id": 2, "caption": "two"}]
    file = write(tmp_path / "c.json", {"annotations": rows})
    with pytest.raises(InputError) as caught:
        read_captions(file, {tmp_path / "some.json": {"1"}, tmp_path / "others.json": ids})
    line = str(caught.value)
    assert line.startswith(
        f"{tmp_path / 'others.json'}: --exclude-images: names no image of {file}"
    )
    assert "those are 1, 2, ...; give a list made for these captions, or leave it out" in line


def test_phrases_are_read_in_every_layout(tmp_path):
    names = [{"id": 1, "name": "Cabinet/shelf"}, {"id": 2, "name": "wall-brick"}]
    coco = write(tmp_path / "coco.json", {"categories": names, "annotations": [{"bbox": []}]})
    assert read_phrases(coco) == ["Cabinet shelf", "wall-brick"]
    panoptic = {"categories": names[1:], "annotations": [{"segments_info": []}]}
    assert read_phrases(write(tmp_path / "p.json", panoptic)) == ["brick wall"]
    regions = [{"id": 1, "regions": [{"phrase": " a  dog "}]}, {"id": 2, "regions": []}]
    assert read_phrases(write(tmp_path / "vg.json", regions)) == ["a dog"]
    with pytest.raises(InputError, match=r"\[0\]\.regions\[0\]\.phrase: the key is missing"):
        read_phrases(write(tmp_path / "bad.json", [{"id": 1, "regions": [{}]}]))


def test_images_to_leave_out_are_read_in_every_layout(tmp_path):
    coco = write(tmp_path / "a.json", {"images": [{"id": 5}, {"id": 6}]})
    vg = write(
        tmp_path / "b.json", [{"image_id": 1, "coco_id": None}, {"image_id": 2, "coco_id": 9}]
    )
    plain = write(tmp_path / "c.json", [3, "4"])
    assert read_image_ids(coco) == {"5", "6"}
    assert read_image_ids(vg) == {"1", "2", "9"}
    assert read_image_ids(plain) == {"3", "4"}
    with pytest.raises(InputError, match=r"top level: expected a list"):
        read_image_ids(write(tmp_path / "d.json", "no"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "x"], "--captions: missing"),
        (["--captions", "nowhere.json"], "--out: missing"),
        (["--captions", "nowhere.json", "--out", "x"], "no such file"),
        (["--captions", "nowhere.json", "--out", "x", "--threads", "0"], "--threads: 0"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["weights", "train-lm", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
