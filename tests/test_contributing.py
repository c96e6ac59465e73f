"""What CONTRIBUTING.md names is there: files, folders, constants; and it names every room."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
CODE = set(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", TEXT, flags=re.DOTALL)))
ROWS = [line.split("|")[1:-1] for line in TEXT.splitlines() if line.startswith("| `")]
ROOMS = {name for row in ROWS for name in re.findall(r"`([^`]+)`", row[0])}


def is_there(name):
    """Say whether a path is in the repository or, as rooms are named, in the package."""
    return any(any(folder.glob(name)) for folder in (ROOT, ROOT / "sca_bench"))


def test_every_path_it_names_is_there():
    paths = {n for n in CODE if re.fullmatch(r"[\w.*/]+", n) and ("/" in n or n in ROOMS)}
    assert len(paths) > 60
    assert not [name for name in sorted(paths) if not is_there(name)]


def test_every_room_has_a_row():
    package = ROOT / "sca_bench"
    folders = {path.parent.relative_to(package).as_posix() for path in package.rglob("*.py")}
    wanted = folders - {".", "study"} | {"sca_bench/*.py", "baselines"}  # study is its sub-rooms
    assert wanted - ROOMS == set()


def test_every_row_names_a_test():
    assert not [row[0] for row in ROWS if len(row) == 3 and "`tests/" not in row[2]]


def test_every_constant_it_names_is_in_the_code():
    code = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "sca_bench").rglob("*.py"))
    names = {name for name in CODE if re.fullmatch(r"[A-Z]+_[A-Z_]+|[A-Z][a-z]+[A-Z]\w+", name)}
    assert len(names) >= 3
    assert not [name for name in names if not re.search(rf"\b{name}\b", code)]
