"""The built pages: whole, and with nothing from elsewhere."""

import re
from html.parser import HTMLParser

import pytest
from helpers.printed import ROOT

from sca_bench.settings import CellSettings
from sca_bench.study.suite.merge import known_paths

FETCHED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "link": "href",
}
"""Tag -> the attribute whose address a browser fetches by itself."""


class Addresses(HTMLParser):
    """Collects what a browser would fetch for a page, and the styles that stand in it."""

    def __init__(self):
        super().__init__()
        self.found, self.styles, self._in_style = [], "", False

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self._in_style = tag == "style"
        if tag in FETCHED and (address := named.get(FETCHED[tag])):
            self.found.append(address)
        self.styles += named.get("style") or ""

    def handle_data(self, data):
        self.styles += data if self._in_style else ""

    def handle_endtag(self, tag):
        self._in_style = False


def read(page):
    addresses = Addresses()
    addresses.feed(page.read_text(encoding="utf-8"))
    return addresses


def test_no_page_fetches_anything_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        read_page = read(page)
        outside = [a for a in read_page.found if re.match(r"(?:\w+:)?//", a)]
        assert not outside, page.name
        assert not re.search(r"url\(['\"]?(?:\w+:)?//", read_page.styles), page.name
        text = page.read_text(encoding="utf-8")
        assert "preconnect" not in text
        # What makes the theme's own script fetch more: a drawing, and a repository's stars.
        assert 'class="mermaid"' not in text
        assert 'data-md-component="source"' not in text
    for style in site.rglob("*.css"):
        assert not re.search(
            r"(?:url\(['\"]?|@import ['\"])(?:https?:)?//", style.read_text("utf-8")
        )


def test_what_a_page_shows_is_there(site):
    for page in site.rglob("*.html"):
        for address in read(page).found:
            if page.name != "404.html" and not address.startswith("data:"):
                assert (page.parent / address.partition("?")[0].partition("#")[0]).exists(), address


@pytest.fixture(scope="module")
def settings_text(site):
    return (site / "api" / "settings.html").read_text(encoding="utf-8")


def test_every_setting_has_its_place_and_its_sentence(settings_text):
    entries = re.findall(
        r"<h[34] id=[^>]*><code>([^<]+)</code>.*?</h[34]>\s*<p>(.*?)</p>", settings_text
    )
    named = {name for name, _ in entries}
    leaves = {p for p in known_paths() if not any(q.startswith(f"{p}.") for q in known_paths())}
    own = {
        p
        for p in leaves
        if not p.startswith(("data.", "pretraining.", "options.", "encoder.options."))
    }
    assert own - named == set()
    assert not [name for name, said in entries if said.startswith("<strong>type")], "no sentence"
    assert len(CellSettings.model_fields) > 10


def test_defaults_are_those_of_profiles(settings_text):
    rate = settings_text.partition('id="train-learning_rate"')[2].partition("</h3>")[2][:900]
    for said in ("1e-4", "0.003", "tiny", "photos", "above 0", "result"):
        assert said in rate


def test_one_command_serves_it():
    assert "mkdocs serve" in (ROOT / "README.md").read_text("utf-8")
