"""Hostile pictures, weights and ONNX files, made from sound ones by changes that know their layout.

Each kind is a `Kind`: it makes its sound files, changes one, and has the package read the result. A
read may succeed, or say in one line what is wrong (`InputError`); anything else is a finding.
"""

from __future__ import annotations

import io
import json
import pickle
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from PIL import Image
from safetensors.torch import save as save_safetensors

from fuzz.harness import Target
from sca_bench.embedded import build as embedded
from sca_bench.errors import InputError
from sca_bench.formats.onnx_files import check_model, external_data
from sca_bench.formats.pixels import mark, notes_on, read_colours, read_picture, upright_hw
from sca_bench.formats.rle import encode_mask, read_mask
from sca_bench.models.sam.weights import read_tensors
from sca_bench.models.text_decoder.loading import load_text_decoder

ODD_NUMBERS = (0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1)
ODD_VALUES = (
    *(None, True, False, 0, -1, 1, 2**31, 2**62, 2**64, 1e308, float("inf"), float("nan"), ""),
    *("x", "../x", "/etc/passwd", "é" * 50, "\x1b[31m", "\ud800", [], {}, [[[[]]]], {"": {}}),
)


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        name: What it is called.
        seeds: Returns sound files: their name, and their bytes.
        mutate: Returns other bytes made from sound ones.
        check: Reads a file as the package does; raises nothing but `InputError`.
        number: Inputs that a whole run gives it.
    """

    name: str
    seeds: Callable[[], dict[str, bytes]]
    mutate: Callable[[Random, bytes], bytes]
    check: Callable[[Path], None]
    number: int = 10_000


# --- changes of any bytes ---------------------------------------------------------------------


def blunt(draw: Random, content: bytes) -> bytes:
    """Flip, cut, double, drop or overwrite some bytes."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4, 8))):
        at = (
            draw.randrange(len(data) + 1)
            if draw.random() < 0.6
            else draw.randrange(min(len(data), 200) + 1)
        )
        what = draw.randrange(7)
        if what == 0 and at < len(data):
            data[at] ^= 1 << draw.randrange(8)
        elif what == 1:
            del data[at:]
        elif what == 2:
            length = draw.randrange(1, 64)
            data[at:at] = data[at : at + length] * draw.randrange(1, 4)
        elif what == 3:
            del data[at : at + draw.randrange(1, 64)]
        elif what == 4:
            kind = draw.choice(("<B", "<H", ">H", "<I", ">I", "<Q"))
            number = draw.choice(ODD_NUMBERS) % 2 ** (8 * struct.calcsize(kind))
            data[at : at + struct.calcsize(kind)] = struct.pack(kind, number)
        elif what == 5 and at < len(data):
            data[at] = draw.choice((0, 0xFF, 0x7F, 0x80, draw.randrange(256)))
        else:
            data[at:at] = draw.randbytes(draw.randrange(1, 16))
        if not data:
            break
    return bytes(data)


def odd_json(draw: Random, value: Any) -> Any:
    """Change one value somewhere in JSON, drop it, or give it another name."""
    where: list[tuple[Any, Any]] = []
    todo = [value]
    while todo:
        one = todo.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one))
        where += [(one, key) for key in keys]
        todo += [one[key] for key in keys if isinstance(one[key], dict | list)]
    if not where:
        return draw.choice(ODD_VALUES)
    for _ in range(draw.choice((1, 1, 2, 3))):
        holder, key = draw.choice(where)
        what = draw.randrange(4)
        if isinstance(holder, dict) and what == 0:
            holder.pop(key, None)
        elif isinstance(holder, dict) and what == 1:
            holder[draw.choice(("x", "auto_map", "../x", str(key) + "s"))] = holder.get(key)
        elif isinstance(holder, dict) or (isinstance(key, int) and key < len(holder)):
            old = holder.get(key) if isinstance(holder, dict) else holder[key]
            new = draw.choice(ODD_VALUES)
            if isinstance(old, int) and draw.random() < 0.5:
                new = draw.choice((old + 1, old * 1000, -old, 10**12, 10**6))
            holder[key] = new
    return value


# --- pictures ---------------------------------------------------------------------------------


def pictures() -> dict[str, bytes]:
    """Small pictures of every format that is read, and of some that are not."""
    draw = np.random.default_rng(0)
    rgb = Image.fromarray(draw.integers(0, 256, (13, 17, 3), dtype=np.uint8))
    deep = Image.fromarray(draw.integers(0, 65536, (13, 17), dtype=np.uint16))
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    made: dict[str, bytes] = {}

    def add(name: str, image: Image.Image, kind: str, **options: Any) -> None:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        made[name] = buffer.getvalue()

    add("rgb.png", rgb, "PNG", exif=exif)
    add("alpha.png", rgb.convert("RGBA"), "PNG")
    add("palette.png", rgb.convert("P"), "PNG", transparency=3)
    add("deep.png", deep, "PNG")
    add("bits.png", rgb.convert("1"), "PNG")
    add("moving.png", rgb, "PNG", save_all=True, append_images=[rgb.rotate(90)])
    add("rgb.jpg", rgb, "JPEG", exif=exif)
    add("cmyk.jpg", rgb.convert("CMYK"), "JPEG")
    add("progressive.jpg", rgb, "JPEG", progressive=True)
    add("phone.jpg", rgb, "MPO", save_all=True, append_images=[rgb])
    for name, packed in (("raw", None), ("lzw", "tiff_lzw"), ("jpeg", "jpeg"), ("fax", "group4")):
        image = rgb.convert("1") if name == "fax" else rgb
        add(f"{name}.tif", image, "TIFF", compression=packed, exif=exif)
    add("deep.tif", deep, "TIFF")
    add("pages.tif", rgb, "TIFF", save_all=True, append_images=[rgb, rgb])
    add("rgb.webp", rgb, "WEBP", exif=exif)
    add("moving.webp", rgb, "WEBP", save_all=True, append_images=[rgb.rotate(90)])
    add("rgb.gif", rgb.convert("P"), "GIF")
    add("moving.gif", rgb.convert("P"), "GIF", save_all=True, append_images=[rgb.rotate(90)])
    add("rgb.bmp", rgb, "BMP")
    add("few.bmp", rgb.convert("P"), "BMP")
    for name, kind in (("x.eps", "EPS"), ("x.ico", "ICO"), ("x.ppm", "PPM"), ("x.tga", "TGA")):
        add(name, rgb, kind)
    return made


def mutate_picture(draw: Random, content: bytes) -> bytes:
    """Change the chunks of a PNG and put their checksums right, or any bytes."""
    if not content.startswith(b"\x89PNG") or draw.random() < 0.3:
        return blunt(draw, content)
    chunks, at = [], 8
    while at + 8 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    which = draw.randrange(len(chunks))
    kind, body = chunks[which]
    what = draw.randrange(5)
    if what == 0:
        chunks[which] = (kind, blunt(draw, body) if body else draw.randbytes(4))
    elif what == 1:
        chunks.insert(which, chunks[draw.randrange(len(chunks))])
    elif what == 2:
        del chunks[which]
    elif what == 3:
        text = zlib.compress(bytes(draw.choice((10, 10**6, 10**7))))
        kind = draw.choice((b"zTXt", b"iCCP", b"iTXt", b"eXIf", b"tRNS", b"PLTE", b"acTL", b"fcTL"))
        chunks.insert(which, (kind, draw.choice((b"k\0\0" + text, b"", draw.randbytes(26)))))
    else:
        header = bytearray(chunks[0][1] or bytes(13))
        sides = struct.pack(">II", draw.choice(ODD_NUMBERS), draw.choice(ODD_NUMBERS))
        header[:8] = draw.choice((sides, header[:8]))
        header[8:10] = bytes((draw.choice((1, 2, 4, 8, 16, 3)), draw.choice((0, 2, 3, 4, 6, 5))))
        chunks[0] = (chunks[0][0], bytes(header))
    made = content[:8]
    for kind, body in chunks:
        made += struct.pack(">I", len(body)) + kind + body
        made += struct.pack(">I", zlib.crc32(kind + body))
    return made


def check_picture(path: Path) -> None:
    """Read a picture in every way that the package does."""
    mark(path)
    notes_on(path)
    for read in (upright_hw, read_colours, read_picture):
        try:
            read(path)
        except InputError:
            if read is read_picture:
                raise


# --- masks ------------------------------------------------------------------------------------


def masks() -> dict[str, bytes]:
    """Masks of an image of 40 x 60 in every form."""
    polygon = [5.5, 5, 30, 6, 31.25, 28, 4, 30]
    forms = {
        "polygon.json": [polygon],
        "polygons.json": [polygon, [1, 1, 9, 1, 9, 9]],
        "runs.json": {"size": [40, 60], "counts": [100, 50, 2250]},
        "text.json": {
            "size": [40, 60],
            "counts": encode_mask(np.tri(40, 60, dtype=bool))["counts"],
        },
    }
    return {name: json.dumps(value).encode() for name, value in forms.items()}


def mutate_mask(draw: Random, content: bytes) -> bytes:
    """Change numbers of a mask, or its text."""
    given = json.loads(content)
    if isinstance(given, dict) and isinstance(given["counts"], str) and draw.random() < 0.5:
        text = blunt(draw, given["counts"].encode())
        given["counts"] = text.decode("utf-8", "surrogateescape")
        return json.dumps(given).encode()
    changed = odd_json(draw, given)
    return json.dumps(changed).encode()


def check_mask(path: Path) -> None:
    """Read a mask; its readers raise a `ValueError`, to which callers add file and key."""
    try:
        read_mask(path.read_text(encoding="utf-8"), 40, 60)
    except ValueError as error:
        raise InputError(path, "segmentation", str(error)) from error


# --- files of tensors -------------------------------------------------------------------------


def _tensors() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    base = torch.randn(6, 4, generator=draw)
    return {"a.weight": base, "a.view": base[2:, 1], "half": base.half(), "n": torch.arange(3)}


def torch_files() -> dict[str, bytes]:
    """Files of `torch.save`, new and old, with tensors and with more than these."""
    made: dict[str, bytes] = {}

    def add(name: str, value: Any, **options: Any) -> None:
        buffer = io.BytesIO()
        torch.save(value, buffer, **options)
        made[name] = buffer.getvalue()

    state = _tensors()
    add("plain.pth", state)
    add("older.pth", state, _use_new_zipfile_serialization=False)
    add("nested.pth", {"model": state, "step": 3, "betas": (0.9, 0.999)})
    add("parameter.pt", {"a": torch.nn.Parameter(state["half"])})
    add("sparse.pt", {"a": state["a.weight"].to_sparse()})
    made["code.pth"] = pickle.dumps({"a": exit})
    made["safe.safetensors"] = save_safetensors({k: v.contiguous() for k, v in state.items()})
    return made


def _mutate_pickle(draw: Random, content: bytes) -> bytes:
    what = draw.randrange(4)
    if what == 0:
        return blunt(draw, content)
    pairs = [
        (b"FloatStorage", b"LongStorage"),
        (b"_rebuild_tensor_v2", b"_rebuild_sparse_tensor"),
        (b"OrderedDict", b"Counter"),
        (b"ctorch._utils\n_rebuild_tensor_v2", b"cbuiltins\nbytearray"),
        (b"ctorch\nFloatStorage", b"cos\nsystem"),
        (b"K\x06", b"J\xff\xff\xff\x7f"),
        (b"K\x04", b"\x8a\x08\0\0\0\0\0\0\x01\0"),
        (b"K\x18", b"J\x00\x00\x00\x40"),
        (b"\x85", b"\x86"),
        (b"K\x01", b"K\x00"),
        (b"Q", b"R"),
    ]
    for old, new in draw.sample(pairs, draw.choice((1, 1, 2))):
        content = content.replace(old, new, draw.choice((1, 1, 9)))
    return content


def mutate_torch_file(draw: Random, content: bytes) -> bytes:
    """Change the pickle or the records of a zip, the header of a safetensors file, or any bytes."""
    if content[:4] == b"PK\3\4" and draw.random() < 0.75:
        return _mutate_zip(draw, content)
    if content[8:9] == b"{" and draw.random() < 0.75:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        text = json.dumps(odd_json(draw, header)).encode()
        size = draw.choice((len(text), len(text), len(text), 2**60, 0, len(text) + 9))
        return struct.pack("<Q", size) + text + content[8 + length :]
    if content[:1] == b"\x80" and draw.random() < 0.5:
        return _mutate_pickle(draw, content)
    return blunt(draw, content)


def _mutate_zip(draw: Random, content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        records = [(record.filename, opened.read(record)) for record in opened.infolist()]
    which = draw.randrange(len(records))
    if draw.random() < 0.6:
        which = next(i for i, (name, _) in enumerate(records) if name.endswith("data.pkl"))
    name, body = records[which]
    what = draw.randrange(6)
    packing = zipfile.ZIP_STORED
    if what <= 2:
        pickled = name.endswith(".pkl")
        records[which] = (name, (_mutate_pickle if pickled else blunt)(draw, body or b"\0"))
    elif what == 3:
        records[which] = (name, body[: len(body) // 2])
    elif what == 4:
        packing = zipfile.ZIP_DEFLATED
        records[which] = (name, bytes(draw.choice((10, 10**6))))
    else:
        del records[which]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", packing) as opened:
        for name, body in records:
            opened.writestr(name, body)
    made = buffer.getvalue()
    return blunt(draw, made) if draw.random() < 0.1 else made


def check_torch_file(path: Path) -> None:
    """Read a file of tensors."""
    read_tensors(path, "sam.weights")


# --- folders of transformers ------------------------------------------------------------------

_FOLDER = Path(embedded.__file__).parent / "weights" / "lm_scenes"


def folders() -> dict[str, bytes]:
    """Each file of a text decoder's folder; the others are put beside it to read it."""
    return {path.name: path.read_bytes() for path in sorted(_FOLDER.iterdir())}


def mutate_folder_file(draw: Random, content: bytes) -> bytes:
    """Change a value of JSON, or a file of tensors."""
    if content[8:9] == b"{":
        return mutate_torch_file(draw, content)
    if draw.random() < 0.2:
        return blunt(draw, content)
    value = json.loads(content)
    if "model_type" in value and draw.random() < 0.3:
        extra = {
            "auto_map": {"AutoConfig": "x.Y", "AutoModelForCausalLM": "x.Y"},
            "attn_implementation": "somebody/attention",
            "num_hidden_layers": 10**9,
            "num_labels": 10**9,
            "n_embd": 10**5,
            "quantization_config": {"quant_method": "bitsandbytes"},
            "transformers_weights": "../x.safetensors",
        }
        key = draw.choice(list(extra))
        return json.dumps({**value, key: extra[key]}).encode()
    return json.dumps(odd_json(draw, value)).encode()


def check_folder_file(path: Path) -> None:
    """Load a text decoder from a folder that has this file."""
    folder = path.with_name("folder")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(_FOLDER, folder)
    shutil.copyfile(path, folder / path.name)
    load_text_decoder(str(folder))


# --- ONNX -------------------------------------------------------------------------------------


def onnx_files() -> dict[str, bytes]:
    """Small encoders, plain and with branches and loops."""
    weight = numpy_helper.from_array(np.ones((4, 3, 8, 8), np.float32), "w")
    shape = numpy_helper.from_array(np.array([1, 4, 2, 2]), "s")
    once = numpy_helper.from_array(np.array(3), "m")
    value = helper.make_tensor_value_info
    ends = [value("x", 1, [1, 3, 16, 16])], [value("y", 1, [1, 4, 2, 2])]
    conv = helper.make_node("Conv", ["x", "w"], ["c"], strides=[8, 8])
    zeros = helper.make_node("ConstantOfShape", ["s"], ["z"])
    add = helper.make_node("Add", ["c", "z"], ["y"])
    inner = helper.make_graph(
        [helper.make_node("Identity", ["b"], ["b2"]), helper.make_node("Add", ["v", "v"], ["v2"])],
        "body",
        [value("i", 7, []), value("b", 9, []), value("v", 1, None)],
        [value("b2", 9, []), value("v2", 1, None)],
    )
    loop = helper.make_node("Loop", ["m", "", "c"], ["y"], body=inner)
    graphs = {
        "plain.onnx": ([conv, zeros, add], [weight, shape]),
        "loop.onnx": ([conv, loop], [weight, once]),
    }
    made = {}
    for name, (nodes, constants) in graphs.items():
        graph = helper.make_graph(nodes, "g", *ends, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
        model.ir_version = 8
        made[name] = model.SerializeToString()
    return made


def mutate_onnx(draw: Random, content: bytes) -> bytes:
    """Change a field of a model, or any bytes."""
    if draw.random() < 0.4:
        return blunt(draw, content)
    model = onnx.load_from_string(content)
    graph = model.graph
    what = draw.randrange(8)
    if what == 0:
        node = draw.choice(graph.node)
        node.op_type = draw.choice(("Loop", "Expand", "Tile", "Range", "If", "Nope", ""))
    elif what == 1:
        draw.choice(graph.node).domain = draw.choice(("my.code", "ai.onnx.ml", "com.microsoft"))
    elif what == 2:
        tensor = draw.choice(graph.initializer)
        tensor.dims[:] = [draw.choice((*ODD_NUMBERS, 2**36, -5)) for _ in range(draw.randrange(4))]
    elif what == 3:
        tensor = draw.choice(graph.initializer)
        values = np.array([draw.choice((*ODD_NUMBERS, 2**40, -1)) for _ in range(2)])
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    elif what == 4:
        tensor = draw.choice(graph.initializer)
        tensor.data_location = 1
        where = draw.choice(("../x", "/etc/passwd", "none.data", ""))
        tensor.external_data.add(key="location", value=where)
    elif what == 5:
        for _ in range(draw.choice((1, 50))):
            graph.node.add().CopyFrom(draw.choice(graph.node))
    elif what == 6:
        node = draw.choice(graph.node)
        node.input[:] = [draw.choice(("x", "w", "s", "c", "", "nobody")) for _ in node.input]
    else:
        branch = helper.make_graph(list(graph.node), "b", [], list(graph.output))
        for _ in range(draw.choice((1, 5, 18))):
            one = helper.make_node("If", ["x"], ["y"], then_branch=branch)
            branch = helper.make_graph([one], "b", [], list(graph.output))
        graph.node.add().CopyFrom(branch.node[0])
    return model.SerializeToString()


def check_onnx(path: Path) -> None:
    """Look a model through; loading it is left to the process that does that."""
    external_data(path)
    check_model(path)


def _target(kind: Kind) -> Target:
    """Return a kind as the frame of fuzzing takes it."""

    def write(folder: Path) -> None:
        for name, content in kind.seeds().items():
            (folder / name).write_bytes(content)

    def damage(draw: Random, seeds: Path, folder: Path) -> None:
        chosen = draw.choice(sorted(seeds.iterdir()))
        (folder / chosen.name).write_bytes(kind.mutate(draw, chosen.read_bytes()))

    def check(folder: Path) -> None:
        (path,) = (path for path in folder.iterdir() if path.is_file())
        kind.check(path)

    return Target(kind.name, write, damage, check, number=kind.number)


KINDS = {
    kind.name: kind
    for kind in (
        Kind("pictures", pictures, mutate_picture, check_picture),
        Kind("masks", masks, mutate_mask, check_mask),
        Kind("weights", torch_files, mutate_torch_file, check_torch_file),
        Kind("folders", folders, mutate_folder_file, check_folder_file, 1_000),
        Kind("onnx", onnx_files, mutate_onnx, check_onnx),
    )
}
TARGETS = {name: _target(kind) for name, kind in KINDS.items()}
