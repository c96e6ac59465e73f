"""The house's arrows: which room may import which, and which packages stay in one room.

A room is a folder of `sca_bench/`; its *places* are its sub-folders and its loose files. An arrow
goes from room to room as `MAY_IMPORT` says, and inside a room only down its `FLOORS`. Files of one
place import each other as they like, but never in a circle.
"""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sca_bench"

GROUND = [
    {"output", "lifetime"},
    {"errors", "types", "scene_grammar"},
    {"walk", "plugins", "reading", "devices"},
    {"specs", "batch"},
    {"variants"},
    {"boxes", "files", "captioner", "settings", "weight_paths"},
    {"digests"},
    {"formats"},
    {"pretrained"},
]
"""The ground floor, lowest first: what every room may import."""

MAY_IMPORT = {
    "stats": set(),
    "study": set(),
    "data": set(),
    "models": set(),
    "metrics": {"stats"},
    "report": {"study", "metrics", "stats"},
    "engine": {"models", "data", "study", "metrics"},
    "embedded": {"models", "data"},
    "contract": {"study", "data", "models", "metrics", "engine", "report"},
    "cli": {"study", "engine", "metrics", "report", "embedded", "data", "contract"},
}
"""Room -> the rooms it may import beside the ground floor."""

FLOORS = {
    "stats": [{"bootstrap", "holm"}, {"seeds", "variance"}, {"compare"}, {"power"}, {"verdict"}],
    "study": [{"keys"}, {"runs"}, {"suite"}, {"plan", "find_run"}],
    "data": [
        {"image_files"},
        {"region_set"},
        {"readers", "mixture", "pipeline", "overlap"},
        {"index"},
        {"load"},
        {"catalogue"},
    ],
    "models": [
        {"products"},
        {
            "caption_memory",
            "cast_together",
            "compiled_blocks",
            "few_tokens",
            "frozen_matrices",
            "score_models",
            "seeding",
        },
        {"mixer"},
        {"sam", "text_decoder"},
        {"encoders"},
        {"designs"},
        {"sca"},
        {"build"},
        {"original"},
    ],
    "metrics": [
        {"rows", "value_names", "coco_caption"},
        {"shared", "signature", "subsets"},
        {"protocol", "spec"},
        {"field_scorers", "caption_text", "detection", "image_folder"},
        {"registry"},
        {"score"},
        {"score_file"},
    ],
    "engine": [
        {
            "caption_batch",
            "databases",
            "device",
            "job",
            "process",
            "provenance",
            "thumbnails",
            "writers",
        },
        {"fork_servers"},
        {"loaders"},
        {"features"},
        {"worker", "forecast", "score_runs", "mlflow_mirror"},
        {"launch", "measure", "finished", "sweep"},
    ],
    "report": [
        {"names"},
        {"read"},
        {"findings"},
        {"tables"},
        {"figures"},
        {"in_short"},
        {"page"},
        {"write", "compare"},
    ],
    "embedded": [
        {"lm_text", "sam_data"},
        {"sam_recipe"},
        {"sam_eval", "lm_training"},
        {"lm_recipe", "caption_lm"},
        {"build"},
        {"verify"},
    ],
    "contract": [
        {"broken", "fake_suite"},
        {"examples", "spec"},
        {"captioners", "metric", "plot", "reader"},
        {"encoder"},
        {"find"},
        {"plugin", "printed"},
        {"run"},
    ],
    "cli": [
        {"frame"},
        {
            "cache",
            "caption",
            "checkpoints",
            "compare",
            "data",
            "lookup",
            "plan_text",
            "report",
            "score",
            "suite_files",
            "test",
            "track",
            "weights",
        },
        {"check", "init", "plan", "run", "sweep"},
    ],
}
"""Room -> its floors, lowest first; a place imports from lower floors of its own room only."""

ONE_ROOM = {"mmengine": "engine", "mlflow": "engine", "optuna": "engine", "ray": "engine"}
HEAVY = {"torch", "torchvision", "transformers"}
NO_TORCH = {"stats", "study", "metrics", "report", "cli"}
NO_TORCH_PLACES = {
    "models.encoders",
    "data.readers",
    "data.index",
    "data.catalogue",
    "engine.forecast",
    "engine.mlflow_mirror",
}
WITH_TORCH_ON_THE_GROUND = {"batch", "captioner", "devices", "pretrained"}
MOST_FILES = 16
MOST_LINES = 500
RECIPES_MAY_IMPORT = {"data.readers.scenes"}
"""A `recipe.py` is a command that makes shipped weights out of rendered scenes; no captioner, and
nothing that a run imports, needs it (the second half of the baselines' test checks that)."""


def module_of(path):
    name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    return name.removesuffix(".__init__")


FILES = sorted(PACKAGE.rglob("*.py"))
BASELINES = sorted((ROOT / "baselines").rglob("*.py"))
MODULES = {module_of(path): path for path in [*FILES, *BASELINES]}


@cache
def imports(path, for_types=False, in_functions=True):
    """Return what a file imports, by default whenever it does so, but not for a type checker only.

    Args:
        path: The file.
        for_types: Return what only a type checker sees, too.
        in_functions: Return what a function imports when it is called, too.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    left_out = set()
    for node in ast.walk(tree):
        typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        called_only = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (typing_only and not for_types) or (called_only and not in_functions):
            left_out |= {id(inner) for inner in ast.walk(node)}
    found = []
    for node in ast.walk(tree):
        if id(node) in left_out:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if name in MODULES else node.module for name in full]
    return tuple(found)


def place_of(module):
    """Return room and place of a module of ours: `sca_bench.data.readers.coco` is data, readers."""
    parts = module.split(".")[1:] or ["__init__"]
    if parts[0] not in MAY_IMPORT:
        return "", parts[0]  # a package of the ground floor is one place
    return parts[0], parts[1] if len(parts) > 1 else "__init__"


def is_light(module):
    """Say whether a module of ours has promised to do without torch."""
    room, place = place_of(module)
    if room == "":
        return place not in WITH_TORCH_ON_THE_GROUND
    return room in NO_TORCH or f"{room}.{place}" in NO_TORCH_PLACES


def loaded_with(module):
    """Return our modules that are loaded where this one is: its packages, what they import, ..."""
    loaded, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name in MODULES and name not in loaded:
            loaded.add(name)
            todo += [name.rpartition(".")[0], *imports(MODULES[name], in_functions=False)]
    return loaded


def floor_of(room, place):
    floors = FLOORS[room] if room else GROUND
    found = [number for number, places in enumerate(floors) if place in places]
    assert len(found) == 1, f"{room or 'ground'}: {place} stands on {len(found)} floors"
    return found[0]


def wrong_arrow(path, name):
    """Return why a file may not import a module of ours, or nothing."""
    (room, place), (other, target) = place_of(module_of(path)), place_of(name)
    if room == "" and place in ("__main__", "__init__"):
        known = name == "sca_bench.cli" or target == "lifetime"
        return "" if known else "only the command line starts here"
    if target == "__init__" and other == "":
        return ""  # the version
    if (room, place) == (other, target):
        return ""
    if room != other:
        if other == "":
            return ""
        return "" if other in MAY_IMPORT.get(room, ()) else f"no arrow from {room or 'the ground'}"
    lower = place == "__init__" or floor_of(room, target) < floor_of(room, place)
    return "" if lower else "an arrow up, or along a floor"


def test_every_import_follows_an_arrow():
    wrong = []
    for path in FILES:
        for name in imports(path):
            if name.split(".")[0] == "baselines":
                wrong.append(f"{path} imports {name}")
            if name.split(".")[0] == "sca_bench" and (why := wrong_arrow(path, name)):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}: {why}")
    assert not wrong, "\n".join(wrong)


def test_every_place_stands_on_one_floor():
    standing = {place_of(module_of(path)) for path in FILES}
    for room, place in standing:
        if place not in ("__init__", "__main__"):
            floor_of(room, place)
    named = {(room, place) for room, floors in FLOORS.items() for f in floors for place in f}
    named |= {("", place) for floor in GROUND for place in floor}
    named |= {tuple(name.split(".")) for name in NO_TORCH_PLACES}
    named |= {("", place) for place in WITH_TORCH_ON_THE_GROUND}
    assert not named - standing, "something is named that is not there"


def test_what_belongs_to_one_room_is_not_even_a_type_elsewhere():
    wrong = [
        f"{path} imports {name}"
        for path in [*FILES, *BASELINES]
        for name in imports(path, for_types=True)
        if ONE_ROOM.get(name.split(".")[0], place_of(module_of(path))[0])
        != place_of(module_of(path))[0]
    ]
    assert not wrong, "\n".join(wrong)


def test_light_rooms_do_without_torch():
    wrong = [
        f"{path} imports {name}"
        for path in FILES
        if is_light(module_of(path))
        for name in imports(path)
        if name.split(".")[0] in HEAVY
    ]
    assert not wrong, "\n".join(wrong)


def test_light_rooms_load_no_torch_through_others():
    wrong = [
        f"{module} loads {name}, which imports {heavy}"
        for module in map(module_of, FILES)
        if is_light(module)
        for name in loaded_with(module)
        for heavy in imports(MODULES[name], in_functions=False)
        if heavy.split(".")[0] in HEAVY | ONE_ROOM.keys()
    ]
    assert not wrong, "\n".join(wrong)


def test_no_files_import_each_other_in_a_circle():
    graph = {m: [n for n in imports(path) if n in MODULES] for m, path in MODULES.items()}
    TopologicalSorter(graph).prepare()  # a CycleError names the circle


def test_baselines_use_the_public_protocol_only():
    ground = set().union(*GROUND)
    for path in BASELINES:
        for name in imports(path):
            if name.startswith("sca_bench."):
                inner = name.removeprefix("sca_bench.")
                is_recipe = path.name == "recipe.py" and inner in RECIPES_MAY_IMPORT
                assert inner.split(".")[0] in ground or is_recipe, f"{path} imports {name}"
            elif name.startswith("baselines."):
                assert not name.endswith(".recipe"), f"{path} imports a recipe"


@pytest.mark.parametrize("top", ["sca_bench", "baselines"])
def test_a_reader_sees_a_folder_at_a_glance(top):
    crowded = {
        str(folder.relative_to(ROOT)): count
        for folder in {path.parent for path in (ROOT / top).rglob("*.py")}
        if (count := sum(p.name != "__init__.py" for p in folder.glob("*.py"))) > MOST_FILES
    }
    assert not crowded


def test_no_file_is_too_long():
    long = {str(p): n for p in [*FILES, *BASELINES] if (n := _lines(p)) > MOST_LINES}
    assert not long


def _lines(path):
    return len(path.read_text(encoding="utf-8").splitlines())
