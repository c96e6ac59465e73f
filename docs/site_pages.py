"""Pages of the site that are made from the code when it is built, and files from outside `docs/`.

MkDocs calls the two functions whose names begin with `on_` (`hooks:` in mkdocs.yml).
"""

from __future__ import annotations

import argparse
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import settings_page
from sca_bench.cli import build_parser

ROOT = Path(__file__).parents[1]
OUTSIDE = {
    "CONTRIBUTING.md": "contributing.md",
    "reports/performance.md": "performance.md",
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
    (commands,) = (a for a in build_parser()._actions if a.dest == "command")
    helps = {a.dest: a.help for a in commands._choices_actions}  # type: ignore[attr-defined]
    parts = [
        "# Every command and its options",
        "Made from the parser when the site is built. [The command line](../commands.md) says what "
        "is used for what.",
    ]
    for name, parser in dict(commands.choices or {}).items():
        parts += [f"## `{name}`", _sentence(helps.get(name) or parser.description or "")]
        parts += _options(parser)
        for verb, inner in _verbs(parser).items():
            parts += [f"### `{name} {verb}`", _sentence(inner.description or ""), *_options(inner)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _verbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    nested = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    return {name: inner for action in nested for name, inner in action.choices.items()}


def _options(parser: argparse.ArgumentParser) -> list[str]:
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    rows = ["| argument | meaning |", "| --- | --- |"]
    for action in parser._actions:
        if action.dest != "help" and not isinstance(action, argparse._SubParsersAction):
            rows.append(f"| {_name(action)} | {_cell(action.help)} |")
    return [f"```text\n{usage}\n```", "\n".join(rows) if len(rows) > 2 else ""]


def _name(action: argparse.Action) -> str:
    value: Any = action.metavar or (action.choices and "|".join(map(str, action.choices)))
    value = " ".join(value) if isinstance(value, tuple) else value
    if not action.option_strings:
        return f"`{_cell(value or action.dest)}`"
    takes = "" if action.nargs == 0 else f" {value or action.dest.upper()}"
    return f"`{_cell(action.option_strings[-1] + takes)}`"


def _cell(text: Any) -> str:
    return " ".join(str(text or "").split()).replace("|", "\\|").replace("<", "&lt;")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text and not text.endswith(".") else text
