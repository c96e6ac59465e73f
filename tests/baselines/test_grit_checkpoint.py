"""Checkpoints and tokenizers: the released layout exactly, and one clear line for the rest."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from grit_parts import TINY, batch, captioner, cell_settings, images
from safetensors.torch import save_file

from baselines.grit.build import build
from baselines.grit.checkpoint import load_checkpoint, original_name, original_shapes, read_state
from baselines.grit.config import SIZES, TextDecoderConfig
from baselines.grit.model import Grit
from baselines.grit.tokenizer import BertTokenizer, WordTokenizer, load_tokenizer
from sca_bench.captioner import Decoding
from sca_bench.errors import InputError

FIXTURES = Path(__file__).parent / "fixtures"
KEY_LISTS = {
    "grit_b_densecap": "GRiT_B_DenseCap",
    "grit_b_densecap_objectdet": "GRiT_B_DenseCap_ObjectDet",
}


def key_list(name, folder=None):
    """The original's keys and shapes, from the copy that ships with the tests or a recorded one."""
    if folder is not None:
        content = json.loads((folder / f"{name}.keys.json").read_text(encoding="utf-8"))
        return {key: tuple(shape) for key, (shape, _) in content.items()}
    lines = (FIXTURES / f"{name}.keys.txt").read_text(encoding="utf-8").splitlines()
    return {key: tuple(map(int, shape)) for key, *shape in (line.split() for line in lines)}


def on_meta(size):
    with torch.device("meta"):
        return Grit(SIZES[size])


def original_state(model):
    state = {original_name(n): t.clone() for n, t in model.state_dict().items()}
    text = "roi_heads.text_decoder.textual"
    return state | {f"{text}.output.weight": state[f"{text}.embedding.words.weight"].clone()}


# --- full-size names and shapes ---------------------------------------------------------------


@pytest.mark.parametrize(("size", "name"), KEY_LISTS.items())
def test_every_key_and_shape_of_the_original(size, name):
    expected = key_list(name)
    assert len(expected) == {"GRiT_B_DenseCap": 355}.get(name, 367)
    assert original_shapes(on_meta(size)) == expected


@pytest.mark.parametrize(("size", "name"), KEY_LISTS.items())
def test_the_recorded_key_lists_are_the_same(size, name, request):
    root = Path(request.config.getoption("--parity-dir") or "no-such-folder")
    folders = [f for f in (root, root / "grit") if (f / f"{name}.keys.json").is_file()]
    if not folders:
        pytest.skip(f"--parity-dir names no folder with {name}.keys.json")
    assert original_shapes(on_meta(size)) == key_list(name, folders[0])


def test_the_original_counts_206_million_parameters():
    assert sum(p.numel() for p in on_meta("grit_b_densecap").parameters()) == pytest.approx(
        206.0e6, rel=1e-3
    )


@pytest.mark.parametrize("size", ["grit_l_objectdet", "grit_h_objectdet"])
def test_larger_encoders_build(size):
    encoder = SIZES[size].image_encoder
    shapes = original_shapes(on_meta(size))
    last = f"backbone.bottom_up.blocks.{encoder.depth - 1}"
    head = encoder.width // encoder.num_heads
    assert shapes[f"{last}.attn.qkv.weight"] == (3 * encoder.width, encoder.width)
    assert shapes[f"{last}.attn.rel_pos_h"] == (127, head)  # the last block attends globally
    assert shapes["backbone.bottom_up.blocks.0.attn.rel_pos_h"] == (27, head)


# --- files ------------------------------------------------------------------------------------


@pytest.fixture
def source():
    return captioner(seed=7).grit


@pytest.mark.parametrize("layout", ["pth", "wrapped.pth", "safetensors"])
def test_round_trip(tmp_path, source, layout):
    path = tmp_path / f"grit.{layout}"
    state = original_state(source)
    if layout == "safetensors":
        save_file(state, path)
    else:
        torch.save({"model": state, "iteration": 3} if "wrapped" in layout else state, path)
    loaded = build(cell_settings(weights=str(path)))
    assert all(torch.equal(t, source.state_dict()[n]) for n, t in loaded.grit.state_dict().items())
    regions = batch(images((40, 60)), [[(2, 2, 30, 30)]])
    (found,) = loaded.generate(regions, Decoding(1, 8))
    (expected,) = captioner(seed=7).generate(regions, Decoding(1, 8))
    assert found.caption == expected.caption


class Exploit:
    """Would write a file if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_is_executed(tmp_path):
    path, trace = tmp_path / "evil.pth", tmp_path / "trace"
    torch.save({"model": Exploit(trace)}, path)
    with pytest.raises(InputError, match="cannot be read as a checkpoint of plain tensors"):
        read_state(path)
    path.write_bytes(pickle.dumps(Exploit(trace), protocol=2))
    with pytest.raises(InputError, match="cannot be read as a checkpoint of plain tensors"):
        read_state(path)
    assert not trace.exists()


def spoil(state, how):
    name = "backbone.bottom_up.blocks.0.norm1.weight"
    if how == "missing":
        del state[name]
    elif how == "unknown":
        state["head.weight"] = torch.zeros(1)
    elif how == "shape":
        state[name] = torch.zeros(3)
    else:
        state["roi_heads.text_decoder.textual.output.weight"] += 1
    return state


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("missing", "blocks.0.norm1.weight missing"),
        ("unknown", "head.weight unknown"),
        ("shape", r"blocks.0.norm1.weight has shape \[3\], expected \[64\]"),
        ("untied", r"output.weight: differs from .*words.weight, to which it is tied"),
    ],
)
def test_a_checkpoint_at_fault_is_named(tmp_path, source, how, said):
    path = tmp_path / "grit.safetensors"
    save_file(spoil(original_state(source), how), path)
    with pytest.raises(InputError, match=said) as caught:
        load_checkpoint(source, path)
    assert "\n" not in str(caught.value)


def meta_state(size):
    return {n: torch.empty(s, device="meta") for n, s in original_shapes(on_meta(size)).items()}


@pytest.mark.parametrize(
    ("checkpoint", "size"),
    [
        ("grit_b_densecap_objectdet", "grit_b_densecap"),
        ("grit_b_densecap", "grit_b_densecap_objectdet"),
    ],
)
def test_the_wrong_size_is_named_with_the_right_one(checkpoint, size):
    """Their begin tokens differ, so the one loaded as the other would caption wrongly."""
    from baselines.grit.checkpoint import load_original_state

    with pytest.raises(InputError, match=f"it fits baseline.size {checkpoint}"):
        load_original_state(on_meta(size), meta_state(checkpoint))


def test_no_such_file(tmp_path):
    with pytest.raises(InputError, match=r"baseline.weights: .*no such file"):
        build(cell_settings(weights=str(tmp_path / "absent.pth")))


# --- tokenizers -------------------------------------------------------------------------------


@pytest.fixture
def bert_folder(tmp_path):
    """A folder as bert-base-uncased has it, with a small vocabulary."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "car", "##s", "."]
    folder = tmp_path / "bert"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True}), encoding="utf-8"
    )
    return folder


def text_config(**sizes):
    return TextDecoderConfig(**{"vocab_size": 10, "end_token": 3, **sizes})


def test_bert_words(bert_folder):
    tokenizer = BertTokenizer(bert_folder, text_config())
    assert tokenizer.encode("A red CARS.") == [5, 6, 7, 8, 9]
    assert tokenizer.decode([5, 6, 7, 8, 3, 0]) == "a red cars"


def test_a_tokenizer_of_another_size_is_refused(bert_folder):
    with pytest.raises(InputError, match="has 10 tokens, the text decoder 30522"):
        BertTokenizer(bert_folder, TextDecoderConfig())


def test_a_folder_without_a_vocabulary_is_refused(bert_folder):
    """transformers makes a tokenizer of five special tokens of it, without a word."""
    (bert_folder / "vocab.txt").unlink()
    with pytest.raises(InputError, match=r"has \d+ tokens, the text decoder 10|cannot be read"):
        BertTokenizer(bert_folder, text_config())


def test_a_tokenizer_with_another_end_is_refused(bert_folder):
    with pytest.raises(InputError, match="ends captions with token 3; the text decoder expects 2"):
        BertTokenizer(bert_folder, text_config(end_token=2))


def test_no_folder(tmp_path):
    with pytest.raises(InputError, match="is no folder"):
        BertTokenizer(tmp_path / "absent", text_config())
    with pytest.raises(InputError, match=r"baseline.tokenizer: missing; GRiT reads and writes"):
        load_tokenizer(None, TextDecoderConfig())


def test_the_tiny_size_brings_its_own_words():
    tokenizer = load_tokenizer(None, TINY.text_decoder)
    assert isinstance(tokenizer, WordTokenizer)
    text = "a small striped red cross left of a blue circle"
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.decode(tokenizer.encode("a photograph")) == "a"
