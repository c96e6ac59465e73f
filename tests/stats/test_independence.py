"""The statistics know arrays and nothing of the rest of the package."""

import ast
import sys
from pathlib import Path

import sca_bench.stats

ALLOWED = {"numpy", "scipy"}


def test_only_numpy_and_scipy():
    for path in sorted(Path(sca_bench.stats.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            names += [each.name for each in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                top = name.partition(".")[0]
                own = name.startswith(("sca_bench.stats.", "sca_bench.errors"))
                assert own or top in ALLOWED | sys.stdlib_module_names, f"{path}: {name}"
