"""GIT, BLIP and BLIP-2: the library's own captions, and every way to get others by accident."""

import string
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_captioners import KINDS, SPREAD
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from baselines.sam_captioner.architectures import ARCHITECTURES
from baselines.sam_captioner.image_captioner import ImageCaptioner
from baselines.sam_captioner.loading import check_parts, load_captioner
from baselines.sam_captioner.recipe import new_captioner
from baselines.sam_captioner.sizes import TINY_END, TINY_IMAGE, TINY_IMAGE_PX, TINY_START
from sca_bench.captioner import Decoding
from sca_bench.errors import InputError, at
from sca_bench.settings import BaselineSettings

GREEDY, BEAMS = Decoding(1, 8), Decoding(3, 8)


def noise(height, width, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3))
    image = Image.fromarray(pixels.astype(np.uint8))
    return image.resize((width, height), Image.Resampling.BILINEAR)


IMAGES = [noise(30, 50, 1), noise(80, 20, 2), noise(9, 9, 3), noise(3, 40, 4), noise(40, 40, 5)]


@pytest.fixture(scope="module")
def captioners(checkpoints):
    return {kind: load(kind, checkpoints(kind)) for kind in KINDS}


def load(kind, folder, chunk=64, **more):
    settings = BaselineSettings(weights=str(folder), **more)
    with at("suite.yaml"):
        return load_captioner(kind, settings, chunk=chunk)


def refused(kind, folder, **more):
    with pytest.raises(InputError) as caught:
        load(kind, folder, **more)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith("suite.yaml: baseline.")
    return line


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("decoding", [GREEDY, BEAMS], ids=["greedy", "beams"])
def test_captions_are_those_of_the_library(kind, decoding, captioners, checkpoints):
    architecture = ARCHITECTURES[kind]
    model = architecture.model_class.from_pretrained(checkpoints(kind)).eval()
    processor = architecture.image_processor.from_pretrained(checkpoints(kind))
    tokenizer = AutoTokenizer.from_pretrained(checkpoints(kind))
    pixels = processor(IMAGES, return_tensors="pt").pixel_values
    theirs = model.generate(
        pixel_values=pixels, max_new_tokens=8, num_beams=decoding.num_beams, do_sample=False
    )
    texts = [text.strip() for text in tokenizer.batch_decode(theirs, skip_special_tokens=True)]
    ours = captioners[kind].caption(IMAGES, decoding)
    assert [caption.text for caption in ours] == texts
    assert len(set(texts)) > 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("decoding", [GREEDY, BEAMS], ids=["greedy", "beams"])
def test_log_probabilities_are_those_of_the_caption_read_at_once(kind, decoding, captioners):
    captioner = captioners[kind]
    for image, caption in zip(IMAGES, captioner.caption(IMAGES, decoding), strict=True):
        pixels, new = captioner.pixels([image]), torch.tensor([caption.ids])
        logs = captioner.log_probs(pixels, *captioner.prefix(1), new)
        assert caption.log_prob == pytest.approx(logs.mean().item(), abs=1e-5)
        assert caption.log_prob < 0


@pytest.mark.parametrize("kind", KINDS)
def test_other_pixels_give_another_log_probability(kind, captioners):
    captioner = captioners[kind]
    new = torch.tensor([[5, 9, 12, TINY_END]])
    logs = [
        captioner.log_probs(captioner.pixels([image]), *captioner.prefix(1), new).mean().item()
        for image in IMAGES
    ]
    assert len({round(value, 4) for value in logs}) == len(IMAGES)


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_and_neighbours_do_not_matter(kind, captioners, checkpoints):
    together = captioners[kind].caption(IMAGES, GREEDY)
    for chunk in (1, 2, 3):
        parts = load(kind, checkpoints(kind), chunk=chunk).caption(IMAGES, GREEDY)
        assert [c.ids for c in parts] == [c.ids for c in together]
    backwards = captioners[kind].caption(IMAGES[::-1], GREEDY)[::-1]
    assert [c.ids for c in backwards] == [c.ids for c in together]


@pytest.mark.parametrize("kind", KINDS)
def test_the_limit_counts_new_tokens_only(kind, captioners):
    captioner = captioners[kind]
    for limit in (1, 3, 8):
        found = captioner.caption(IMAGES, Decoding(1, limit))
        assert max(len(caption.ids) for caption in found) == limit
    with pytest.raises(InputError, match=r"eval.max_new_tokens: 99 new tokens need 100 text pos"):
        captioner.caption(IMAGES, Decoding(1, 99))


@pytest.mark.parametrize("kind", KINDS)
def test_settings_of_the_checkpoint_change_nothing(kind, captioners, edited):
    def change(content):
        content.update(max_length=3, num_beams=4, do_sample=True, repetition_penalty=9.0)

    folder = edited(kind, "generation_config.json", change)
    ours = load(kind, folder).caption(IMAGES, GREEDY)
    assert [c.ids for c in ours] == [c.ids for c in captioners[kind].caption(IMAGES, GREEDY)]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_trained(kind, captioners):
    captioner = captioners[kind]
    assert not captioner.training
    assert not any(parameter.requires_grad for parameter in captioner.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_images_go_through_pillow(kind, captioners):
    # The torchvision backend resizes differently: which one is used must not depend on chance.
    assert type(captioners[kind].processor).__name__.endswith("Pil")


def test_a_crop_three_pixels_high_keeps_its_channels():
    captioner = new_captioner("blip")
    red = Image.new("RGB", (40, 3), (255, 0, 0))
    means = captioner.pixels([red]).mean((0, 2, 3))
    assert means.argmax() == 0
    assert means[0] > means[1] + 1


def test_git_cuts_the_ends_off_thin_regions_and_blip_does_not():
    left_red = Image.new("RGB", (90, 30), (0, 0, 255))
    left_red.paste((255, 0, 0), (0, 0, 25, 30))
    shown = {kind: new_captioner(kind).pixels([left_red])[0, 0] for kind in ("git", "blip")}
    assert shown["git"].std() < 1e-3  # one colour: the red end lies outside
    assert shown["blip"][:, :8].mean() > shown["blip"][:, 20:].mean() + 1


# What a checkpoint can get wrong


@pytest.mark.parametrize(
    ("kind", "weights"), [("git", "blip"), ("blip", "git"), ("blip2", "blip"), ("blip", "blip2")]
)
def test_weights_of_another_kind(kind, weights, checkpoints):
    wanted, given = (ARCHITECTURES[k].model_class.__name__ for k in (kind, weights))
    line = refused(kind, checkpoints(weights))
    assert f"is a {given}, but this variant takes a {wanted}" in line


def test_a_blip_that_is_no_captioner(edited):
    change = lambda c: c.update(architectures=["BlipForQuestionAnswering"])  # noqa: E731
    assert "is a BlipForQuestionAnswering" in refused("blip", edited("blip", "config.json", change))


def test_no_such_weights(tmp_path):
    assert "neither a folder nor a hub id" in refused("git", tmp_path / "nowhere")
    assert "no package 'no_such_package'" in refused("git", "package:no_such_package/weights")
    assert "no such file or folder" in refused("git", "package:baselines.sam_captioner/nothing")
    assert "has no config.json" in refused("git", "nobody/no-such-model")


def test_a_tensor_is_missing(edited):
    folder = edited("git", "config.json", lambda c: None)
    tensors = load_file(folder / "model.safetensors")
    del tensors["git.visual_projection.visual_projection.0.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert "lacks git.visual_projection" in refused("git", folder)


def test_torch_files_are_not_read_from_a_folder(edited):
    folder = edited("git", "config.json", lambda c: None)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "cannot be loaded" in refused("git", folder)


@pytest.mark.parametrize("kind", KINDS)
def test_no_image_processor(kind, edited):
    folder = edited(kind, "config.json", lambda c: None)
    (folder / "processor_config.json").unlink()
    line = refused(kind, folder)
    assert "has no image processor" in line
    assert "preprocessor_config.json" in line


@pytest.mark.parametrize("kind", KINDS)
def test_a_processor_for_another_size(kind, edited):
    def change(content):
        square = {"height": 64, "width": 64}
        size = {"shortest_edge": 64} if kind == "git" else square
        content["image_processor"].update(size=size, crop_size=square)

    line = refused(kind, edited(kind, "processor_config.json", change))
    assert f"makes 64 x 64 pixels of an image, but the model takes {TINY_IMAGE_PX} x" in line


def test_a_git_processor_that_does_not_crop(edited):
    change = lambda c: c["image_processor"].update(do_center_crop=False)  # noqa: E731
    line = refused("git", edited("git", "processor_config.json", change))
    assert f"makes 97 x {TINY_IMAGE_PX} pixels" in line


@pytest.mark.parametrize("kind", KINDS)
def test_no_tokenizer(kind, edited):
    folder = edited(kind, "config.json", lambda c: None)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    line = refused(kind, folder)
    assert line.startswith("suite.yaml: baseline.tokenizer: ")


@pytest.mark.parametrize("count", [1, 5])
def test_a_made_up_tokenizer(count, checkpoints, tmp_path):
    # What the library answers when a vocabulary file is missing, instead of an error.
    words = {f"[{letter}]": i for i, letter in enumerate(string.ascii_uppercase[:count])}
    core = Tokenizer(models.WordLevel(words, "[A]"))
    PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[A]").save_pretrained(tmp_path)
    line = refused("git", checkpoints("git"), tokenizer=str(tmp_path))
    assert f"baseline.tokenizer: knows {count} tokens" in line
    assert "its vocabulary file is missing" in line


def test_a_tokenizer_with_more_words_than_the_model(checkpoints, tmp_path):
    words = {f"w{i}": i for i in range(99)}
    core = Tokenizer(models.WordLevel(words, "w0"))
    PreTrainedTokenizerFast(tokenizer_object=core, unk_token="w0").save_pretrained(tmp_path)
    line = refused("blip", checkpoints("blip"), tokenizer=str(tmp_path))
    assert "knows 99 tokens, ids up to 98, but" in line


@pytest.mark.parametrize(
    ("kind", "token"), [("git", "cls_token"), ("blip", "sep_token"), ("blip2", "bos_token")]
)
def test_a_tokenizer_of_another_model(kind, token, edited):
    change = lambda c: c.update({token: "red"})  # noqa: E731
    line = refused(kind, edited(kind, "tokenizer_config.json", change))
    assert f"baseline.tokenizer: has {token} " in line


def test_blip_must_state_its_attention_heads(edited):
    change = lambda c: c["text_config"].pop("num_attention_heads")  # noqa: E731
    line = refused("blip", edited("blip", "config.json", change))
    assert "does not state text_config.num_attention_heads, and the library would take 8" in line


@pytest.mark.parametrize("index", [None, 5, 26])
def test_blip2_needs_a_place_for_its_image(index, edited):
    change = lambda c: c.update(image_token_index=index)  # noqa: E731
    line = refused("blip2", edited("blip2", "config.json", change))
    assert f"image_token_index {index}" in line


def test_blip2_with_another_number_of_queries(edited):
    change = lambda c: c.update(num_query_tokens=4)  # noqa: E731
    line = refused("blip2", edited("blip2", "config.json", change))
    assert "lacks query_tokens, or has it in another shape" in line


def test_blip2_ignores_the_image_without_placeholders_so_they_are_always_there(captioners):
    captioner = captioners["blip2"]
    ids, mask = captioner.prefix(2, ["a red", "a"])
    assert (ids == TINY_IMAGE).sum(1).tolist() == [8, 8]
    assert mask.tolist() == [[1] * 11, [0] + [1] * 10]  # filled up on the left
    model, bare = captioner.architecture.model, torch.full((1, 1), TINY_START)
    blind = [
        model(pixel_values=captioner.pixels([image]), input_ids=bare).logits for image in IMAGES[:2]
    ]
    assert torch.equal(*blind)  # the trap is still there: this is what the prefix prevents


def test_blip2_of_opt_must_end_at_the_newline(checkpoints):
    captioner = new_captioner("blip2", SPREAD)
    words = captioner.tokenizer.get_vocab()
    words["Ċ"] = words.pop("below")
    core = Tokenizer(models.WordLevel(words, "[UNK]"))
    special = {"bos_token": "[CLS]", "unk_token": "[UNK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **special)
    parts = (captioner.architecture, {}, captioner.processor, tokenizer, "mine")
    with pytest.raises(InputError, match=r"ends captions at \[3\].*newline \(\d+\).*eos_token_id"):
        check_parts(*parts)
    captioner.architecture.end_ids = (words["Ċ"],)
    check_parts(*parts)


def test_end_tokens_are_those_the_library_ends_at(edited):
    change = lambda c: c.update(eos_token_id=[7, 9])  # noqa: E731
    folder = edited("blip2", "generation_config.json", change)
    assert load("blip2", folder).architecture.end_ids == (TINY_END,)  # not read: see the class
    change = lambda c: c["text_config"].update(eos_token_id=[7, 9])  # noqa: E731
    assert load("blip2", edited("blip2", "config.json", change)).architecture.end_ids == (7, 9)


def test_blip2_answers_prompts_of_any_length_beside_each_other(captioners):
    captioner = captioners["blip2"]
    prompts = ["a small striped red", "a", "left of a", "circle", "a b"]
    together = captioner.caption(IMAGES, GREEDY, prompts)
    alone = [captioner.caption([i], GREEDY, [p])[0] for i, p in zip(IMAGES, prompts, strict=True)]
    assert [c.ids for c in together] == [c.ids for c in alone]
    assert [c.ids for c in together] != [c.ids for c in captioner.caption(IMAGES, GREEDY)]


@pytest.mark.parametrize("kind", ["git", "blip"])
def test_others_answer_no_prompts(kind, captioners):
    with pytest.raises(InputError, match=r"crop.prompt: a .* captioner answers no questions"):
        captioners[kind].caption(IMAGES[:1], GREEDY, ["a"])


# Untrained captioners


def test_an_untrained_captioner_needs_words_and_keeps_its_seed(checkpoints):
    assert "an untrained captioner has no words" in refused("git", "random", size="tiny")
    words = str(checkpoints("git"))
    state = torch.get_rng_state()
    first, again, other = (
        load("git", "random", size="tiny", tokenizer=words, random_seed=seed) for seed in (0, 0, 1)
    )
    assert torch.equal(torch.get_rng_state(), state)
    weights = [c.architecture.model.output.weight for c in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert isinstance(first, ImageCaptioner)
    assert len(first.caption(IMAGES[:2], GREEDY)) == 2


def test_no_version_of_the_library_is_admitted_that_reads_past_git_s_positions():
    """5.17 and older do while they generate; on a GPU that ends every cell of the process."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    lines = tomllib.loads(text)["project"]["dependencies"]
    (admitted,) = (Requirement(line) for line in lines if line.startswith("transformers"))
    assert [admitted.specifier.contains(each) for each in ("5.17.0", "5.18.0")] == [False, True]
