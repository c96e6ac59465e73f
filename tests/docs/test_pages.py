"""README and pages keep their promises: short, linked, complete, in words that are explained."""

import re
from pathlib import Path

import pytest
import yaml
from helpers.printed import PAGES, ROOT, all_blocks, prose

from sca_bench import __version__
from sca_bench.cli import build_parser
from sca_bench.metrics.registry import METRICS
from sca_bench.report.figures.registry import PLOTS
from sca_bench.specs.designs import DESIGNS
from sca_bench.specs.encoders import ENCODERS
from sca_bench.specs.readers import READERS
from sca_bench.variants import VARIANTS

MARKS = ("run", "tests", "file: ", "not run: ")
PRIVATE = {
    "cell": r"cells?",
    "suite": r"suites?",
    "profile": r"profiles?",
    "control": r"controls?",
    "claim": r"claims?",
    "verdict": r"verdicts?",
    "signature": r"signatures?",
    "group": r"in (?:one|a) group|groups? of runs|form a group",
    "lockstep": r"lockstep",
    "frozen features": r"frozen features",
    "frozen prefix": r"frozen prefix",
    "noise floor": r"noise floor",
    "lineage": r"lineage",
    "revision": r"revisions?",
    "runs folder": r"runs folders?",
    "stage": r"stages?",
    "spec": r"specs?",
}
"""A word of ours -> how it is written; a page that uses it explains it or links to the glossary."""
FREE = ("README.md", "docs/glossary.md", "docs/statistics.md")
"""Pages that explain words themselves, or by their use."""


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_every_block_of_commands_is_run_or_says_why_not():
    unsaid = [
        f"{b.page}:{b.line}: {words[0]}"
        for b in all_blocks("bash")
        if not b.mark
        for words in b.commands()
        if words[0] != "sca-bench"
    ]
    assert not unsaid, "mark these blocks with <!-- not run: REASON -->"
    assert not [
        f"{b.page}:{b.line}" for b in all_blocks() if not f"{b.mark} ".startswith(("", *MARKS))
    ]
    shells = {b.kind for b in all_blocks()} & {"sh", "shell", "console", "zsh"}
    assert not shells, "commands stand in ```bash blocks"


def test_a_reason_names_tests_that_are_there():
    for block in all_blocks():
        for path in re.findall(r"(?:tests/|\.ci/)[\w/.]+\w", block.mark):
            assert (ROOT / path).exists(), f"{block.page}:{block.line}: no {path}"


def heading_id(heading):
    """Return the anchor that GitHub and MkDocs give a heading."""
    plain = re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    """On the repository's own pages, too; the built site has its strict build."""
    for target, anchor in re.findall(r"\]\(([^()#\s]*)(?:#([\w-]+))?\)", page.read_text("utf-8")):
        if target.startswith("https:"):
            continue
        file = (page.parent / target).resolve() if target else page
        generated = file.parent == ROOT / "docs/api" and file.suffix == ".md"
        assert file.exists() or generated, target
        if anchor and file.exists() and file.suffix == ".md":
            headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), flags=re.M)
            assert anchor in map(heading_id, headings), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_page_needs_another_pages_word(page):
    name = page.relative_to(ROOT).as_posix()
    if name in FREE:
        return
    text, source = prose(page), page.read_text("utf-8")
    for word, written in PRIVATE.items():
        said = re.search(rf"\b(?:{written})\b", text, flags=re.I)
        anchor = word.replace(" ", "-")
        explained = re.search(
            rf"glossary\.md#{anchor}\)|\*{{1,2}}(?:{written})\*", source, flags=re.I
        )
        assert not said or explained, f"{word}: link it to glossary.md#{anchor}, or explain it"


@pytest.mark.parametrize(
    "registry", [VARIANTS, DESIGNS, METRICS, READERS, ENCODERS, PLOTS], ids=lambda r: r.group
)
def test_everything_that_comes_with_the_package_is_mentioned(registry):
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    specs = registry.all().values()
    own = [s.name for s in specs if not s.fault and (s.name in registry.own() or s.is_own)]
    assert own
    assert not [name for name in own if f"`{name}`" not in text]


def test_every_command_is_mentioned():
    page = (ROOT / "docs/commands.md").read_text("utf-8")
    assert not [n for n in build_parser().actions_by_name() if not re.search(rf"`{n}\b", page)]


def test_the_page_of_the_profile_tells_the_scores_of_the_reports():
    table = (ROOT / "reports/mixer_layers/table.md").read_text("utf-8")
    for number in ("899", "909", "906"):
        assert re.search(rf"\b{int(number) - 1}\.[5-9]|\b{number}\.[0-4]", table), number


def test_the_citation_is_of_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors", "version"} <= cited.keys()
    assert cited["version"] == __version__
    (paper,) = cited["references"]
    assert paper["year"] == 2024
    assert paper["url"].endswith("2312.00869")
    assert all({"family-names", "given-names"} <= author.keys() for author in paper["authors"])


def test_the_map_of_the_site_names_every_page():
    """MkDocs says so, too; here it costs no build."""
    config = (ROOT / "mkdocs.yml").read_text("utf-8")
    named = set(re.findall(r"- ([\w/-]+\.md)", config))
    there = {
        p.relative_to(ROOT / "docs").as_posix() for p in PAGES if Path(ROOT / "docs") in p.parents
    }
    made = {"contributing.md", "api/settings.md", "api/commands.md"}
    assert named == there | made
