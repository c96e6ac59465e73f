"""Executes the code cells of a notebook in order, as Jupyter does, and keeps what they show.

`python tests/helpers/notebook.py NOTEBOOK OUT` writes the notebook with its outputs to OUT. Run it
in an empty folder; with OUT = NOTEBOOK it renews the outputs of docs/notebook.ipynb.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import re
import sys
from pathlib import Path
from typing import Any


def execute(notebook: dict[str, Any]) -> dict[str, Any]:
    """Run every code cell and put its outputs into it; an error of a cell is raised."""
    names: dict[str, Any] = {"__name__": "__main__"}
    count = 0
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            count += 1
            cell["outputs"] = list(_outputs("".join(cell["source"]), names, count))
            cell["execution_count"] = count
    return notebook


def _outputs(source: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    tree, printed, outputs = ast.parse(source), io.StringIO(), []
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    shown = None
    with contextlib.redirect_stdout(printed):
        exec(compile(tree, f"cell {count}", "exec"), names)
        if last is not None:
            shown = eval(compile(ast.Expression(last.value), f"cell {count}", "eval"), names)
    if printed.getvalue():
        text = printed.getvalue().splitlines(keepends=True)
        outputs.append({"output_type": "stream", "name": "stdout", "text": text})
    if shown is not None:
        plain = re.sub(r" at 0x[0-9A-Fa-f]+", "", repr(shown))
        data: dict[str, Any] = {"text/plain": plain.splitlines(keepends=True)}
        if callable(png := getattr(shown, "_repr_png_", None)):
            data["image/png"] = base64.b64encode(png()).decode() + "\n"
        elif callable(html := getattr(shown, "_repr_html_", None)) and html():
            data["text/html"] = html().splitlines(keepends=True)
        result = {"output_type": "execute_result", "execution_count": count, "metadata": {}}
        outputs.append({**result, "data": data})
    return outputs


if __name__ == "__main__":
    source, out = map(Path, sys.argv[1:])
    done = execute(json.loads(source.read_text(encoding="utf-8")))
    text = json.dumps(done, indent=1, ensure_ascii=False) + "\n"
    out.write_text(text, encoding="utf-8")
