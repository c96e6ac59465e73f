"""The tracked files by themselves: what a reader of the repository on the web finds."""

import re
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "reports/index.html", "reports/index.md", "reports/*/table.md")
_MARKDOWN = re.compile(r"\]\(([^()\s]+)\)")
_HTML = re.compile(r"<[^<>]*\s(?:href|src)=\"([^\"]+)\"")


@pytest.fixture(scope="module")
def tracked() -> set[str]:
    """Paths of all tracked files, from the root of the repository."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False
    )
    if listed.returncode:  # another owner's checkout, for instance
        pytest.skip(f"git lists no files: {listed.stderr.strip()}")
    return set(listed.stdout.split("\0")) - {""}


def relative_links(page: str, text: str) -> list[str]:
    """Return what a page links to inside the repository, as paths from its root.

    Args:
        page: The page's own path from the root.
        text: Its Markdown or HTML.
    """
    found = []
    for link in (_HTML if page.endswith(".html") else _MARKDOWN).findall(text):
        parts = urlsplit(link)
        if parts.path and not parts.scheme and not parts.netloc:
            target = (ROOT / page).parent / unquote(parts.path)
            found.append(target.resolve().relative_to(ROOT.resolve()).as_posix())
    return found


def test_links_are_read_from_markdown_and_html() -> None:
    text = "[a](reports/b.md#c) [d](https://x.org/y) ![e](f%20g.png) [h](#i)"
    assert relative_links("README.md", text) == ["reports/b.md", "f g.png"]
    text = '<img src="data:image/png;base64,eA=="/><a class="k" href="b/table.md">t</a>'
    assert relative_links("reports/index.html", text) == ["reports/b/table.md"]


def test_every_relative_link_leads_to_a_tracked_file(tracked: set[str]) -> None:
    pages = [path for glob in PAGES for path in sorted(tracked) if Path(path).match(glob)]
    assert {"README.md", "reports/index.html", "reports/index.md"} <= set(pages)
    links = {page: relative_links(page, (ROOT / page).read_text("utf-8")) for page in pages}
    assert "reports/mixer_layers/table.md" in links["reports/index.html"]
    lost = [(page, link) for page, found in links.items() for link in found if link not in tracked]
    assert not lost


def test_pages_of_single_suites_are_not_kept(tracked: set[str]) -> None:
    assert not [path for path in tracked if Path(path).match("reports/*/index.html")]
