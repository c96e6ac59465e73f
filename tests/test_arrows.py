"""The house's arrows: which room may import which, and which packages stay in one room."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sca_bench"
SETTINGS = {"settings", "settings_base", "data_settings"}
GROUND = SETTINGS | {
    "types",
    "errors",
    "files",
    "batch",
    "captioner",
    "boxes",
    "variants",
    "grammar",
    "rle",
    "contract",
}
MAY_IMPORT = {
    "study": {"embedded.paths"},
    "data": set(),
    "models": {"embedded.paths"},
    "stats": set(),
    "metrics": {"stats"},
    "report": {"study", "metrics", "stats"},
    "engine": {"models", "data", "study", "metrics", "stats"},
    "embedded": {"models", "data"},
    "cli": {"study", "engine", "metrics", "report", "embedded", "data", "stats"},
}
ONE_ROOM = {"mmengine": "engine", "mlflow": "engine", "optuna": "engine", "ray": "engine"}
NO_TORCH = {"study", "metrics", "stats", "report", "cli"}
TORCH_FREE_FILES = {f"{name}.py" for name in GROUND - {"batch", "captioner", "contract"}}
BASELINES_MAY_IMPORT = {"embedded.paths"}
"""Besides the ground floor: where weights lie that ship inside a package."""
RECIPES_MAY_IMPORT = {"data.scenes"}
"""A `recipe.py` is a command that makes shipped weights out of rendered scenes; no captioner, and
nothing that a run imports, needs it (the second half of the baselines' test checks that)."""


def imports(path, for_types=False):
    """Yield what a file imports; what only a type checker sees, where that is asked for, too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only and not for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (
                f"{node.module}.{alias.name}" if node.module == "sca_bench" else node.module
                for alias in node.names
            )


FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path):
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_import_follows_an_arrow(path):
    room = room_of(path)
    for name in imports(path):
        top = name.split(".")[0]
        assert top != "baselines", f"{path} imports baselines"
        if top in ONE_ROOM:
            assert room == ONE_ROOM[top], f"{path} imports {name}"
        if top in ("torch", "torchvision", "transformers") and room:
            assert room not in NO_TORCH, f"{path} imports {name}"
        if top != "sca_bench" or name == "sca_bench":
            continue
        inner = name.removeprefix("sca_bench.")
        target = inner.split(".")[0]
        if target in GROUND or target == room or target.startswith("__"):
            continue
        if path.name == "__main__.py" and room == "":
            assert inner == "cli"
            continue
        assert room, f"{path}: the ground floor imports {name}"
        allowed = MAY_IMPORT[room]
        assert target in allowed or inner in allowed, f"{path}: no arrow to {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_what_belongs_to_one_room_is_not_even_a_type_elsewhere(path):
    tops = {name.split(".")[0] for name in imports(path, for_types=True)}
    assert {ONE_ROOM[top] for top in tops & ONE_ROOM.keys()} <= {room_of(path)}


def test_torch_free_ground_floor():
    for name in TORCH_FREE_FILES:
        tops = {found.split(".")[0] for found in imports(PACKAGE / name)}
        assert "torch" not in tops, name


def test_baselines_use_the_public_protocol_only():
    for path in (ROOT / "baselines").rglob("*.py"):
        for name in imports(path):
            if name.startswith("sca_bench."):
                inner = name.removeprefix("sca_bench.")
                allowed = inner.split(".")[0] in GROUND or inner in BASELINES_MAY_IMPORT
                is_recipe = path.name == "recipe.py" and inner in RECIPES_MAY_IMPORT
                assert allowed or is_recipe, f"{path} imports {name}"
            elif name.startswith("baselines."):
                assert not name.endswith(".recipe"), f"{path} imports a recipe"


def test_no_file_is_too_long():
    long = [p for p in [*FILES, *(ROOT / "baselines").rglob("*.py")] if _lines(p) > 350]
    assert not long


def _lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())
