"""Files and folders of weights that run something, claim much, or are torn: one line each."""

import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from pathlib import Path

import pytest
import torch

from sca_bench.embedded import build as embedded
from sca_bench.errors import InputError
from sca_bench.models.sam.hf_config import parse_sam_dims
from sca_bench.models.sam.weights import load_strictly, read_directory, read_tensors
from sca_bench.models.text_decoder.loading import load_text_decoder
from sca_bench.pretrained.tensors import load_tensors

FOLDER = Path(embedded.__file__).parent / "weights" / "lm_scenes"
BASE = torch.arange(24.0).reshape(6, 4)
STATE = {"a.weight": BASE, "view": BASE[1:, 2], "half": BASE.half(), "n": torch.arange(3)}


class Runs:
    def __reduce__(self):
        return os.system, ("touch ran",)


def saved(value, **options):
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def rezipped(content, change, packing=zipfile.ZIP_STORED):
    """Return a zip with each record changed: name and bytes in, bytes out, or None to drop it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w", packing) as new:
        for name in old.namelist():
            body = change(name, old.read(name))
            if body is not None:
                new.writestr(name, body)
    return buffer.getvalue()


def pickled(old, new):
    def change(name, body):
        if not name.endswith("data.pkl"):
            return body
        assert old in body
        return body.replace(old, new)

    return rezipped(saved({"a": BASE}), change)


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_sound_files_are_read_as_before(options, tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(saved(STATE, **options))
    found = read_tensors(path, "sam.weights")
    assert found.keys() == STATE.keys()
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)
    optimiser = torch.optim.AdamW([torch.nn.Parameter(BASE.clone())])
    more = {"model": STATE, "optimizer": optimiser.state_dict(), "rng": torch.get_rng_state()}
    path.write_bytes(saved(more, **options))
    assert load_tensors(path)["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.999)


FAULTY = {
    "code": (lambda: saved(Runs()), r"it holds \w+\.system, and only plain tensors are loaded"),
    "code of old": (
        lambda: saved(Runs(), _use_new_zipfile_serialization=False),
        r"it holds \w+\.system, and only plain tensors",
    ),
    "a bare pickle": (lambda: pickle.dumps(Runs()), r"\w+\.system, and only plain tensors"),
    "a sparse tensor": (lambda: saved({"a": BASE.to_sparse()}), "_rebuild_sparse_tensor"),
    "no tensors": (lambda: saved({"a": 1}), "is no mapping of names to tensors"),
    "names that are none": (lambda: saved({1: BASE}), "is no mapping of names to tensors"),
    "a list": (lambda: saved([BASE]), "is no mapping of names to tensors"),
    "a shape beyond its storage": (
        lambda: pickled(b"K\x06K\x04", b"J\xff\xff\xff\x7fK\x04"),
        r"a tensor of shape \(2147483647, 4\) in a storage of 24 numbers",
    ),
    "a shape that repeats for ever": (
        lambda: saved({"a": torch.zeros(1).expand(2**40)}),
        r"repeats its numbers to a shape \(1099511627776,\)",
    ),
    "a storage that is not there": (
        lambda: rezipped(saved({"a": BASE}), lambda n, b: None if "/data/" in n else b),
        "a storage of 96 bytes, for which it holds none",
    ),
    "half a storage": (
        lambda: rezipped(saved({"a": BASE}), lambda n, b: b[:50] if "/data/" in n else b),
        "a storage of 96 bytes, for which it holds 50 bytes",
    ),
    "a bomb": (
        lambda: rezipped(
            saved({"a": BASE}),
            lambda n, b: bytes(2**26) if "/data/" in n else b,
            zipfile.ZIP_DEFLATED,
        ),
        "its records are compressed, as torch writes none",
    ),
    "bytes without end": (
        lambda: pickled(b"ctorch._utils\n_rebuild_tensor_v2\n", b"cbuiltins\nbytearray\n"),
        "it holds builtins.bytearray",
    ),
    "a call for what lies in memory": (
        lambda: pickled_as(b"\x80\x02}X\x01\0\0\0actorch\nTensor\nK\x05\x85Rs."),
        "it calls torch.Tensor, and only plain tensors are loaded",
    ),
    "nothing": (lambda: b"", "pickle exhausted"),
    "half a file": (lambda: saved(STATE)[:900], "it is damaged"),
    "half an old file": (
        lambda: saved(STATE, _use_new_zipfile_serialization=False)[:-30],
        "it is torn: its tensors take",
    ),
    "a text": (lambda: b"no weights at all", "cannot be read as weights"),
}


@pytest.mark.parametrize("what", FAULTY)
def test_a_faulty_torch_file_is_one_line(what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make, line = FAULTY[what]
    path = tmp_path / "x.pth"
    path.write_bytes(make())
    with pytest.raises(InputError, match=line) as error:
        read_tensors(path, "sam.weights")
    assert str(error.value).startswith(f"sam.weights: {path} ")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


def test_keys_that_take_for_ever_to_look_up_are_refused(tmp_path):
    steps = b"".join(
        b"h" + bytes([n]) + b"\x86q" + bytes([n + 1]) for n in range(60)
    )  # each a pair of the one before, twice
    path = tmp_path / "x.pth"
    start = b"\x80\x02}(" + b"K\x01\x85q\x00"
    path.write_bytes(pickled_as(start + steps + b"K\x01u."))
    with pytest.raises(InputError, match="keys are neither texts nor numbers"):
        read_tensors(path, "sam.weights")


def pickled_as(content):
    def change(name, body):
        return content if name.endswith("data.pkl") else body

    return rezipped(saved({"a": BASE}), change)


def safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"12345",
        safetensors({"a": F32}, bytes(8), length=2**60),
        safetensors({"a": F32}, bytes(4)),
        safetensors({"a": F32}, bytes(12)),
        safetensors({"a": F32, "b": F32}, bytes(8)),
        safetensors({"a": {**F32, "shape": [2**62, 4]}}, bytes(8)),
        safetensors({"a": {**F32, "dtype": "F999"}}, bytes(8)),
        safetensors({"a": {**F32, "data_offsets": [8, 0]}}, bytes(8)),
        safetensors({"a": 1}, bytes(8)),
        safetensors(b"[" * 50_000),
        safetensors(b"\xff\xfe"),
    ],
)
def test_a_faulty_safetensors_file_is_one_line(content, tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x\.safetensors cannot be read as weights"):
        read_tensors(path, "sam.weights")


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_only_regular_files_are_read(name, tmp_path):
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match="is no regular file"):
        read_tensors(tmp_path / name, "sam.weights")


def test_numbers_of_another_kind_are_refused():
    layer = torch.nn.Linear(4, 6, bias=False)
    for other in (torch.complex64, torch.int64, torch.bool):
        with pytest.raises(InputError, match=f"holds weight as {other}, but the model has"):
            load_strictly(layer, {"weight": BASE.to(other)}, Path("x"), "k")
    load_strictly(layer, {"weight": BASE.half()}, Path("x"), "k")


# --- folders ----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(FOLDER, tmp_path / "lm")
    return tmp_path / "lm"


def change(file, **values):
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**content, **values}))


CONFIGS = {
    "n_embd": (16_384, "describes a model of more than "),
    "vocab_size": (10**8, "describes a model of more than "),
    "n_layer": (10**9, "config.json: n_layer: 1000000000 is more than any model has"),
    "num_labels": (10**9, "config.json: num_labels: 1000000000 is more than any model has"),
    "attn_implementation": ("somebody/attention", "is code of somebody else, which is never"),
    "auto_map": ({"AutoConfig": "x.Y", "AutoModelForCausalLM": "x.Y"}, ""),
    "model_type": (5, "cannot be loaded"),
    "architectures": (5, ""),
    "n_head": (0, "cannot be loaded"),
    "activation_function": ("nope", "cannot be loaded"),
    "transformers_weights": ("../x.safetensors", "cannot be loaded"),
}


@pytest.mark.parametrize("key", CONFIGS)
def test_a_hostile_configuration_is_one_line_or_harmless(key, folder):
    value, line = CONFIGS[key]
    change(folder / "config.json", **{key: value})
    (folder / "x.py").write_text("raise SystemExit('ran')")
    if not line:
        try:
            load_text_decoder(str(folder))
        except InputError as error:
            line = str(error)
        return
    with pytest.raises(InputError, match=line) as error:
        load_text_decoder(str(folder))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"\xff\xfe\xfa", b"7", None])
def test_a_damaged_file_of_a_folder_is_one_line(name, content, folder):
    (folder / name).unlink()
    if content is None:
        os.mkfifo(folder / name)
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        load_text_decoder(str(folder))
    assert "\n" not in str(error.value)


def test_sizes_alone_are_refused_where_no_memory_can_hold_them(folder):
    (folder / "model.safetensors").unlink()
    assert load_text_decoder(f"random:{folder}").width == 128
    change(folder / "config.json", n_embd=2**20)
    with pytest.raises(InputError, match="this machine has no memory for more"):
        load_text_decoder(f"random:{folder}")


@pytest.mark.parametrize("name", ["../x.safetensors", "/etc/passwd", "a/../../x.safetensors"])
def test_a_shard_outside_its_folder_is_never_read(name, folder):
    index = {"weight_map": {"a": name}}
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for read in (lambda: read_directory(folder, "k"), lambda: load_text_decoder(str(folder))):
        with pytest.raises(InputError, match="is not the name of a file inside its folder"):
            read()


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [
        ("vision_config", "hidden_size", "768"),
        ("vision_config", "hidden_size", 2**40),
        ("vision_config", "num_hidden_layers", None),
        ("vision_config", "mlp_ratio", float("nan")),
        ("vision_config", "mlp_ratio", 1e308),
        ("vision_config", "global_attn_indexes", 5),
        ("vision_config", "global_attn_indexes", ["x"]),
        ("mask_decoder_config", "num_multimask_outputs", -1),
        ("mask_decoder_config", "mlp_dim", [1]),
    ],
)
def test_sizes_of_a_sam_that_are_none_are_one_line(part, key, value):
    with pytest.raises(InputError, match=f"^{part}\\."):
        parse_sam_dims({part: {key: value}}, "mask_decoder_config")
    with pytest.raises(InputError, match=f"^{part}: is 5, expected an object"):
        parse_sam_dims({part: 5}, "mask_decoder_config")
