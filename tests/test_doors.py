"""Files of others are opened and parsed in `sca_bench/reading.py`, and nowhere else."""

import ast

import pytest
from test_arrows import BASELINES, FILES, PACKAGE, ROOT

MODES = {"r", "rb", "rt"}
PARSERS = {"json.load", "json.loads", "yaml.load", "pickle.load", "pickle.loads"}
READS = {"read_text", "read_bytes"}
ALLOWED = {
    "reading": "the one reader",
    "formats/rle": "the mask that a region holds, which its reader has parsed once",
    "study/runs/soundness": "the header of weights, of a size that was checked",
    "metrics/coco_caption/spice": "the answer of a child, in a folder of its own",
    "engine/job": "what a worker and its parent tell each other",
    "engine/worker/pool": "what a worker and its parent tell each other",
    "engine/worker/pruning": "what a worker and its parent tell each other",
    "engine/measure/main": "what a probe and its parent tell each other",
    "engine/measure/probe": "what a probe and its parent tell each other",
    "engine/forecast/costs": "what a probe and its parent tell each other",
    "engine/mlflow_mirror/mirror": "what the mirror and its parent tell each other",
    "engine/mlflow_mirror/child": "what the mirror and its parent tell each other",
    "models/sam/onnx_child": "what the child and its parent tell each other",
    "models/sam/onnx_encoder": "what the child and its parent tell each other",
    "cli/plan": "what a probe and its parent tell each other",
    "engine/writers": "the kernel's word on a process",
    "study/runs/heartbeat": "the kernel's word on a process",
    "engine/provenance": "the kernel's word on the processor",
    "report/page/page": "a template of this package",
    "cli/init/__init__": "a template of this package",
    "contract/captioners/variant": "what it has just pickled itself",
    "contract/reader": "files that the contract wrote itself",
    "embedded/build": "a copy of plain settings",
    "../baselines/sam_captioner/recipe": "a copy of plain settings",
}
"""Module -> why it reads something without `reading.py`."""


def reads_alone(path):
    """Return the lines on which a file opens to read, or parses, by itself."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        last = name.rpartition(".")[2]
        texts = [a.value for a in node.args if isinstance(a, ast.Constant)]
        opens = last == "open" and not name.startswith(("os.", "Image.", "self.", "tarfile.", "_"))
        if name in PARSERS or (last in READS and "." in name) or (opens and reads(node, name)):
            found.append(f"{path.relative_to(ROOT)}:{node.lineno} {name}({texts or ''})")
    return found


def reads(node, name):
    mode = node.args[1 if name == "open" else 0 :][:1]
    mode += [keyword.value for keyword in node.keywords if keyword.arg == "mode"]
    return not mode or (isinstance(mode[0], ast.Constant) and mode[0].value in MODES)


@pytest.mark.parametrize("package", [FILES, BASELINES], ids=["sca_bench", "baselines"])
def test_files_are_read_through_one_door(package):
    alone = {}
    for path in package:
        top = PACKAGE if path.is_relative_to(PACKAGE) else ROOT
        name = path.relative_to(top).with_suffix("").as_posix()
        name = name if top == PACKAGE else f"../{name}"
        if name not in ALLOWED and (lines := reads_alone(path)):
            alone[name] = lines
    assert not alone, "read it with `sca_bench.reading`, or say why not"


def test_every_exception_is_needed():
    idle = {name for name in ALLOWED if not reads_alone((PACKAGE / f"{name}.py").resolve())}
    assert not idle
