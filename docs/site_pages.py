"""Pages of the site that are made from the code when it is built, and files from outside `docs/`.

MkDocs calls the two functions whose names begin with `on_` (`hooks:` in mkdocs.yml).
"""

from __future__ import annotations

import argparse
import posixpath
import re
from pathlib import Path
from typing import Any

import settings_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from sca_bench.cli import build_parser

ROOT = Path(__file__).parents[1]
OUTSIDE = {
    "CONTRIBUTING.md": "contributing.md",
    "reports/comparison/metric_over_axis.png": "pictures/comparison.png",
}
"""Files of the repository that pages show or link to, and where the site has them."""
_LINK = re.compile(rf"\]\(((?:\.\./)+(?:{'|'.join(map(re.escape, OUTSIDE))}))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here, and the files from outside of `docs/`."""
    for path, name in OUTSIDE.items():
        content = (ROOT / path).read_bytes()
        if path.endswith(".md"):  # its links into docs/ are links to its neighbours now
            content = content.replace(b"](docs/", b"](")
        files.append(File.generated(config, name, content=content))
    for name, make in (("settings", settings_page.text), ("commands", commands_page)):
        files.append(File.generated(config, f"api/{name}.md", content=make()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to files outside of `docs/` to where the site has them.

    In the repository `docs/index.md` shows `../reports/x.png`; the site has it elsewhere.
    """
    here = posixpath.dirname(page.file.src_uri)

    def inside(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join("docs", here, found[1]))
        return f"]({posixpath.relpath(OUTSIDE[path], here or '.')}"

    return _LINK.sub(inside, markdown)


def commands_page() -> str:
    """Return a page with every command and all of its options, read from the parser."""
    parts = [
        "# Every command and its options",
        "Made from the parser when the site is built; `sca-bench COMMAND --help` prints the same. "
        "[The command line](../commands.md) says which command is for what.",
    ]
    for name, parser in build_parser().actions_by_name().items():
        parts += [f"## `{name}`", *_command(parser)]
        for action, inner in parser.actions_by_name().items():
            parts += [f"### `{name} {action}`", *_command(inner)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _command(parser: argparse.ArgumentParser) -> list[str]:
    """Return what one command does, how it is called, what it takes, and examples."""
    usage = " ".join(parser.format_usage().split()).replace("usage: sca_bench", "sca-bench", 1)
    rows = ["| argument | meaning |", "| --- | --- |"]
    for action in parser._actions:
        hidden = action.help == argparse.SUPPRESS or action.dest in ("help", "action")
        if not hidden:
            rows.append(f"| `{_cell(_name(action))}` | {_cell(action.help)} |")
    examples = (parser.epilog or "").replace("python -m sca_bench", "sca-bench")
    return [
        _cell(parser.description),
        f"```text\n{usage}\n```",
        "\n".join(rows) if len(rows) > 2 else "",
        f"```text\n{examples}\n```" if examples else "",
    ]


def _name(action: argparse.Action) -> str:
    value: Any = action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper()
    value = " ".join(value) if isinstance(value, tuple) else value
    if not action.option_strings:
        return value
    flag = action.option_strings[-1]
    return flag if action.nargs == 0 else f"{flag} {value}"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|").replace("<", "&lt;")
