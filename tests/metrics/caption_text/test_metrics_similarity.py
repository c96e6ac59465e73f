"""CLIPScore and sentence similarity on tiny models in the real formats."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    PreTrainedTokenizerFast,
)

from sca_bench.errors import InputError
from sca_bench.metrics.caption_text import similarity as module
from sca_bench.metrics.image_folder import FolderImages
from sca_bench.metrics.protocol import Context
from sca_bench.metrics.rows import CaptionRow
from sca_bench.metrics.score import Scorer
from sca_bench.metrics.score_file import score_file

WORDS = [
    "<pad>",
    "<unk>",
    "<s>",
    "</s>",
    *["A", "photo", "depicts", "a", "red", "blue", "dog", "cat", "car", "on", "the"],
]
ROWS = [
    CaptionRow("1", "x", "a red dog", ("a dog", "the cat on the car"), {}, (2.2, 3.7, 30.1, 9.0)),
    CaptionRow("2", "y", "", ("a blue cat",), {}, (0.0, 0.0, 64.0, 48.0)),
    CaptionRow("3", "x", "the cat " * 30, ("a car",), {}, (-5.0, 47.5, 900.0, 900.0)),
    CaptionRow("4", "y", "a car", ("a car",), {}, (10.0, 10.0, 10.0, 10.0)),
]


def _tokenizer(length):
    built = Tokenizer(models.WordLevel({w: n for n, w in enumerate(WORDS)}, unk_token="<unk>"))
    built.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("<s>", 2), ("</s>", 3)]
    built.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=built,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        model_max_length=length,
    )


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip") / "tiny-clip"
    torch.manual_seed(0)
    shared = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    shared |= {"num_hidden_layers": 2, "projection_dim": 8, "initializer_range": 0.3}
    text = {"vocab_size": len(WORDS), "max_position_embeddings": 12, "eos_token_id": 3}
    text |= {"bos_token_id": 2, "pad_token_id": 0}
    vision = {"image_size": 16, "patch_size": 8}
    config = CLIPConfig(text_config=shared | text, vision_config=shared | vision, projection_dim=8)
    model = CLIPModel(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    _tokenizer(12).save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    CLIPImageProcessor(**sizes).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def sentence_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sentence") / "tiny-bert"
    torch.manual_seed(1)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=20,
        initializer_range=0.5,
        pad_token_id=0,
    )
    BertModel(config).save_pretrained(folder)
    _tokenizer(512).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def image_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name in ("x.png", "y.bmp"):
        pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def _score(rows, metric, images=None):
    with Scorer() as scorer:
        return scorer.score(rows, [metric], images=images)


def _direct_clip(folder, image_folder, row):
    """One region at a time, as the model's documentation does it."""
    model = CLIPModel.from_pretrained(folder).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    processor = CLIPImageProcessor.from_pretrained(folder)
    image = Image.open(next(image_folder.glob(f"{row.image_id}.*"))).convert("RGB")
    left, top, right, bottom = row.box_xyxy
    left, top = int(max(left, 0)), int(min(max(top, 0), 47))
    right, bottom = min(int(np.ceil(right)), 64), min(int(np.ceil(bottom)), 48)
    region = image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    pixels = processor(region, return_tensors="pt")
    text = f"A photo depicts {row.caption}"
    words = tokenizer([text], return_tensors="pt", truncation=True, max_length=12)
    with torch.no_grad():
        out = model(
            input_ids=words["input_ids"],
            attention_mask=words["attention_mask"],
            pixel_values=pixels["pixel_values"],
        )
    return 2.5 * max(float((out.image_embeds * out.text_embeds).sum()), 0.0)


def test_clip_score_is_the_direct_computation(clip_folder, image_folder, monkeypatch):
    monkeypatch.setenv("SCA_BENCH_CLIP", str(clip_folder))
    result = _score(ROWS, "clip_score", FolderImages(image_folder))
    assert result.not_computed == {}
    expected = [_direct_clip(clip_folder, image_folder, row) for row in ROWS]
    assert result.per_region["clip_score"] == pytest.approx(expected, abs=1e-5)
    assert result.values["clip_score"] == pytest.approx(np.mean(expected), abs=1e-5)
    assert len({round(value, 4) for value in expected}) > 2
    signature = result.signatures["clip_score"]
    start = "sca_bench clip_score (2.5 * max(cos, 0), box crop, boxes "
    assert signature.scorer.startswith(start)


def test_every_image_is_opened_once_and_batches_change_nothing(
    clip_folder, image_folder, monkeypatch
):
    monkeypatch.setenv("SCA_BENCH_CLIP", str(clip_folder))
    load, opened = FolderImages(image_folder), []

    def images(image_id):
        opened.append(image_id)
        return load(image_id)

    whole = _score(ROWS, "clip_score", images)
    assert opened == ["x", "y"]
    monkeypatch.setattr(module, "_BATCH", 1)
    single = _score(ROWS, "clip_score", load)
    assert single.values["clip_score"] == pytest.approx(whole.values["clip_score"], abs=1e-6)


def _direct_embedding(folder, text):
    model = BertModel.from_pretrained(folder).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    words = tokenizer([text], return_tensors="pt", truncation=True, max_length=20)
    with torch.no_grad():
        hidden = model(words["input_ids"], words["attention_mask"]).last_hidden_state[0]
    mean = hidden.mean(0)
    return mean / mean.norm()


def test_sentence_similarity_is_the_direct_computation(sentence_folder, monkeypatch):
    monkeypatch.setenv("SCA_BENCH_SENTENCE_MODEL", str(sentence_folder))
    result = _score(ROWS, "sentence_similarity")
    expected = []
    for row in ROWS:
        own = _direct_embedding(sentence_folder, row.caption)
        expected.append(
            max(float(own @ _direct_embedding(sentence_folder, r)) for r in row.references)
        )
    assert result.per_region["sentence_similarity"] == pytest.approx(expected, abs=1e-5)
    assert expected[3] == pytest.approx(1, abs=1e-6)
    assert expected[0] < 0.999
    start = "sca_bench sentence_similarity (mean pooling, best reference, tiny-bert "
    assert result.signatures["sentence_similarity"].scorer.startswith(start)


def test_the_signature_follows_the_weights(sentence_folder, tmp_path, monkeypatch):
    other = tmp_path / "tiny-bert"
    shutil.copytree(sentence_folder, other)
    names = []
    for folder in (sentence_folder, other):
        monkeypatch.setenv("SCA_BENCH_SENTENCE_MODEL", str(folder))
        names.append(_score(ROWS, "sentence_similarity").signatures["sentence_similarity"].scorer)
    assert names[0] == names[1]
    model = BertModel.from_pretrained(other)
    torch.nn.init.zeros_(model.embeddings.LayerNorm.bias)
    torch.nn.init.constant_(model.embeddings.LayerNorm.weight, 2.0)
    model.save_pretrained(other)
    assert _score(ROWS, "sentence_similarity").signatures["sentence_similarity"].scorer != names[0]


@pytest.mark.parametrize("metric", ["clip_score", "sentence_similarity"])
def test_without_a_model(metric, monkeypatch, tmp_path):
    variable = {"clip_score": "SCA_BENCH_CLIP"}.get(metric, "SCA_BENCH_SENTENCE_MODEL")
    monkeypatch.delenv(variable, raising=False)
    assert f"set {variable} to its folder" in _score(ROWS, metric).not_computed[metric]
    monkeypatch.setenv(variable, str(tmp_path / "none"))
    assert f"{variable}={tmp_path}/none is no folder" in _score(ROWS, metric).not_computed[metric]
    monkeypatch.setenv(variable, str(tmp_path))
    source = lambda image_id: np.zeros((4, 4, 3), np.uint8)  # noqa: E731
    assert "config.json: cannot be read" in _score(ROWS, metric, source).not_computed[metric]


def test_what_clip_score_lacks(clip_folder, sentence_folder, image_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SCA_BENCH_CLIP", str(clip_folder))
    source = FolderImages(image_folder)

    def why(rows, images):
        return _score(rows, "clip_score", images).not_computed["clip_score"]

    assert why(ROWS, None) == "clip_score looks at images: score FILE --images FOLDER"
    assert "region 9 has no box" in why([CaptionRow("9", "x", "a", ("a",))], source)
    gone = CaptionRow("9", "z", "a", ("a",), {}, (0, 0, 1, 1))
    assert "z: no such image (tried z.jpg, " in why([gone], source)
    escape = CaptionRow("9", "../x", "a", ("a",), {}, (0, 0, 1, 1))
    assert "leads out of the folder" in why([escape], source)
    monkeypatch.setenv("SCA_BENCH_CLIP", str(sentence_folder))
    assert "model_type: 'bert' is no CLIP model; expected 'clip'" in why(ROWS, source)
    pickled = tmp_path / "pickled"
    shutil.copytree(clip_folder, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    monkeypatch.setenv("SCA_BENCH_CLIP", str(pickled))
    assert "*.safetensors: there are none; save the model with" in why(ROWS, source)
    with pytest.raises(InputError, match=r"--images: .* is no folder"):
        FolderImages(tmp_path / "none")
    (tmp_path / "broken.png").write_text("no image")
    with pytest.raises(InputError, match=r"broken.png: cannot be decoded"):
        FolderImages(tmp_path)("broken")


def test_a_damaged_model(sentence_folder, tmp_path, monkeypatch):
    damaged = tmp_path / "damaged"
    shutil.copytree(sentence_folder, damaged)
    (damaged / "model.safetensors").write_bytes(b"nothing")
    monkeypatch.setenv("SCA_BENCH_SENTENCE_MODEL", str(damaged))
    reason = _score(ROWS, "sentence_similarity").not_computed["sentence_similarity"]
    assert reason.startswith(f"{damaged}: weights: cannot be loaded")


def test_another_pooling_is_refused(sentence_folder, tmp_path, monkeypatch):
    other = tmp_path / "cls"
    shutil.copytree(sentence_folder, other)
    (other / "1_Pooling").mkdir()
    asked = {"word_embedding_dimension": 16, "pooling_mode_cls_token": True}
    (other / "1_Pooling" / "config.json").write_text(json.dumps(asked))
    monkeypatch.setenv("SCA_BENCH_SENTENCE_MODEL", str(other))
    reason = _score(ROWS, "sentence_similarity").not_computed["sentence_similarity"]
    assert "the model asks for pooling_mode_cls_token; give a model that is pooled by" in reason


def test_score_file_with_images(clip_folder, image_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SCA_BENCH_CLIP", str(clip_folder))
    path = tmp_path / "rows.jsonl"
    keys = ("region_id", "image_id", "caption", "references", "box_xyxy")
    path.write_text("\n".join(json.dumps({k: getattr(r, k) for k in keys}) for r in ROWS))
    found = score_file(path, ["clip_score"], images=image_folder)
    assert found["values"]["clip_score"] > 0
    assert "tiny-clip" in found["signatures"]["clip_score"]["scorer"]


def test_a_model_that_fails_is_a_reason(sentence_folder, monkeypatch):
    from sca_bench.models.score_models import SentenceModel

    def full(self, texts):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to")

    monkeypatch.setenv("SCA_BENCH_SENTENCE_MODEL", str(sentence_folder))
    monkeypatch.setattr(SentenceModel, "embed", full)
    reason = _score(ROWS, "sentence_similarity").not_computed["sentence_similarity"]
    assert reason == "the model failed (OutOfMemoryError: CUDA out of memory. Tried to)"


def test_crops_go_through_the_model_64_at_a_time_image_by_image(monkeypatch, tmp_path):
    sizes, looked = [], []

    class Fake:
        name = "fake"

        def cosines(self, crops, texts):
            assert len(crops) == len(texts)
            sizes.append(len(crops))
            return np.full(len(crops), len(sizes) / 8)

    def image(name):
        looked.append(name)
        return np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr(module, "_model", lambda *given: Fake())
    monkeypatch.setenv(module.CLIP_VARIABLE, str(tmp_path))
    box = (0.0, 0.0, 2.0, 2.0)
    rows = [CaptionRow(str(n), f"i{n % 2}", "a", ("a",), {}, box) for n in range(130)]
    (one,) = module.clip_score(rows, Context("clip_score", image))
    assert sizes == [64, 64, 2]
    assert looked == ["i0", "i1"]  # each is read once
    first, second = 2.5 / 8, 5.0 / 8  # even numbers come first
    assert one.per_region[:128:2] == [first] * 64
    assert [one.per_region[n] for n in (128, 1, 125, 127, 129)] == [
        second,
        second,
        second,
        7.5 / 8,
        7.5 / 8,
    ]


def test_a_model_computes_where_the_run_does(clip_folder, image_folder, monkeypatch):
    """Beside a training on the GPU, say, whose memory is not asked for."""
    monkeypatch.setenv("SCA_BENCH_CLIP", str(clip_folder))
    source = FolderImages(image_folder)
    with Scorer(device="cpu") as scorer:
        usual = scorer.score(ROWS, ["clip_score"], images=source)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        assert scorer.score(ROWS, ["clip_score"], images=source) == usual
    with Scorer(device="cpu") as scorer:
        assert scorer.score(ROWS, ["clip_score"], images=source) == usual
    with Scorer(device="cuda:2") as scorer:
        why = scorer.score(ROWS, ["clip_score"], images=source).not_computed["clip_score"]
    assert "'cuda:2': this machine has 2 CUDA devices" in why
    moved = []
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, where: moved.append(where) or self)
    for device, index in (("auto", None), ("cuda:1", 1)):
        with Scorer(device=device) as scorer:
            scorer.score(ROWS, ["clip_score"], images=source)
        assert moved.pop() == torch.device("cuda", index) if index else torch.device("cuda")


def test_a_signature_says_that_a_gpu_computed(tmp_path):
    from sca_bench.models.score_models import _signed

    folder = tmp_path / "clip"
    assert _signed(folder, "0123456789abcdef", torch.device("cpu")) == "clip 0123456789ab"
    on_gpu = _signed(folder, "0123456789abcdef", torch.device("cuda:1"))
    assert on_gpu == "clip 0123456789ab, in batches on a GPU"
