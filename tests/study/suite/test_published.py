"""The published numbers: a sample re-typed table by table, and how a suite refers to them."""

from pathlib import Path

import pytest

from sca_bench.errors import InputError, at
from sca_bench.study.plan.manifest import manifest_of
from sca_bench.study.plan.plan import make_plan
from sca_bench.study.runs.record import CellEntry, SuiteManifest
from sca_bench.study.runs.store import Store
from sca_bench.study.suite import published_rows
from sca_bench.study.suite.claims import parse_claim, parse_coordinates
from sca_bench.study.suite.merge import known_paths
from sca_bench.study.suite.published import (
    COLUMNS,
    PROTOCOL,
    Published,
    find_published,
    read_published,
)
from sca_bench.study.suite.sides import claim_cells, point_of
from sca_bench.study.suite.suite import load_suite

ROOT = Path(__file__).parents[3]
CMS = ("cider_d", "meteor", "spice")
ALL = (
    *("cider_d", "meteor", "spice", "bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l"),
    *("noun_recall", "verb_recall", "noun_recall_fuzzy", "verb_recall_fuzzy"),
)
# Typed a second time, from the paper's tables: (table, row, metrics, printed values).
SAMPLE = [
    ("table_1", "SAM+BLIP-base", ALL, "43.8 9.6 12.6 16.8 7.8 3.9 2.1 19.8 21.4 3.0 49.6 8.2"),
    ("table_1", "SAM+BLIP-large", ALL, "25.3 11.0 12.7 14.1 6.5 3.2 1.6 18.5 27.3 4.3 56.2 12.4"),
    ("table_1", "SAM+GIT-large-coco", ALL,
     "71.8 12.2 18.8 24.6 12.9 7.7 4.9 24.4 28.9 3.4 55.8 6.7"),
    ("table_1", "SAM+BLIP2-OPT-6.7B", ALL,
     "56.6 11.7 16.2 19.0 9.5 5.0 2.8 22.3 26.7 4.4 53.9 10.1"),
    ("table_1", "GRiT", ALL, "142.2 17.2 30.5 36.0 22.1 15.2 11.2 34.5 39.5 4.3 63.3 7.2"),
    ("table_1", "SCA (GPT2-large, VG)", ALL,
     "148.8 17.4 31.2 38.0 23.9 16.6 12.1 35.5 41.5 4.8 65.0 7.6"),
    ("table_1", "SCA (LLAMA-3B, VG)", ALL,
     "149.8 17.4 31.3 38.0 23.9 16.7 12.2 35.5 41.2 4.5 64.6 7.1"),
    ("table_1", "SCA (GPT2-large, Pretrain+VG)", ALL,
     "149.8 17.5 31.4 38.2 24.1 16.8 12.2 35.7 41.7 4.8 65.1 7.5"),
    ("table_2", "No pretraining", CMS, "127.9 15.8 27.7"),
    ("table_2", "COCO", CMS, "130.2 16.0 28.0"),
    ("table_2", "V3Det", CMS, "130.4 16.0 28.0"),
    ("table_2", "Objects365", CMS, "134.5 16.3 28.7"),
    ("table_3", "GPT2-large, mixer 1e-4, decoder 5e-6", CMS, "135.6 16.3 28.5"),
    ("table_3", "GPT2-large, mixer 1e-4, decoder frozen", CMS, "136.0 16.5 28.9"),
    ("table_3", "GPT2-large, mixer 5e-5, decoder 1e-7", CMS, "132.5 16.1 28.2"),
    ("table_3", "GPT2, mixer 1e-4, decoder 1e-6", CMS, "134.7 16.3 28.7"),
    ("table_3", "GPT2, mixer 5e-5, decoder frozen", CMS, "126.3 15.4 27.9"),
    ("table_4", "2 layers", (*CMS, "num_params_mixer"), "108.8 13.6 24.6 3.3"),
    ("table_4", "4 layers", (*CMS, "num_params_mixer"), "109.8 14.0 25.6 6.5"),
    ("table_4", "8 layers", (*CMS, "num_params_mixer"), "127.0 15.3 27.8 12.8"),
    ("table_4", "12 layers", (*CMS, "num_params_mixer"), "127.7 15.3 27.9 19.1"),
    ("table_4", "24 layers", (*CMS, "num_params_mixer"), "124.5 15.0 27.3 38.0"),
    ("table_5", "ROI Align", CMS, "45.2 9.4 11.6"),
    ("table_5", "ROI Align + MLP", CMS, "82.5 12.1 19.3"),
    ("table_5", "SAM Query", CMS, "130.6 15.9 28.4"),
    ("table_5", "Text Query w/o SAM Tokens", CMS, "136.6 16.4 29.2"),
    ("table_5", "Text Query w/ SAM Tokens", CMS, "137.4 16.5 29.3"),
    ("table_6", "SAM-ViT-base", (*CMS, "num_params_image_encoder"), "130.2 16.0 28.2 86"),
    ("table_6", "SAM-ViT-large", (*CMS, "num_params_image_encoder"), "129.6 15.9 28.3 307"),
    ("table_6", "SAM-ViT-huge", (*CMS, "num_params_image_encoder"), "130.9 16.0 28.5 632"),
    ("table_7", "GPT2-large, no LSJ", CMS, "137.6 16.5 29.3"),
    ("table_7", "GPT2-large, LSJ (1.0, 2.0)", CMS, "140.2 16.7 29.9"),
    ("table_7", "LLAMA-3B, no LSJ", CMS, "137.7 16.4 29.2"),
    ("table_7", "LLAMA-3B, LSJ (0.1, 2.0)", CMS, "142.6 16.8 30.1"),
    ("not_in_paper", "GPT4RoI-7B-delta-V0, VG densecap test", (*CMS, "rouge_l", *ALL[8:]),
     "112.25 16.39 30.28 32.41 39.13 4.0 62.94 6.58"),
    ("not_in_paper", "GPT4RoI-7B-delta-V0, RefCOCOg-google val", (*CMS, "rouge_l"),
     "107.95 23.1 31.47 47.69"),
]  # fmt: skip
# Table -> (rows, values).
COUNTS = {
    "table_1": (16, 16 * 12),
    "table_2": (4, 4 * 3),
    "table_3": (20, 20 * 3),
    "table_4": (5, 5 * 4),
    "table_5": (5, 5 * 3),
    "table_6": (3, 3 * 4),
    "table_7": (6, 6 * 3),
    "not_in_paper": (2, 8 + 4),
}


@pytest.fixture(scope="module")
def published() -> Published:
    path = find_published()
    assert path == ROOT / "reports" / "published.csv"
    return read_published(path)


@pytest.mark.parametrize(("table", "row", "metrics", "values"), SAMPLE, ids=lambda v: str(v)[:40])
def test_numbers_are_those_of_the_paper(published, table, row, metrics, values):
    found = published.row(table, row, "row")
    assert {m: found[m].printed for m in found} == dict(zip(metrics, values.split(), strict=True))


def test_every_table_is_complete(published):
    counts = {
        table: (len(published.rows(table)), sum(v.table == table for v in published.values))
        for table in published.tables()
    }
    assert counts == COUNTS


def test_every_value_says_what_it_is(published):
    for value in published.values:
        assert value.source
        if value.unit == "x100":
            assert value.natural == pytest.approx(value.value / 100)
            assert value.protocol["scorer"] not in ("", "-")
            assert value.protocol["data_set"] in ("visual_genome", "refcoco")
            assert value.protocol["prompt"] == "box"
        else:
            assert value.unit == "million parameters"
            assert value.metric.startswith("num_params_")
            assert value.natural == value.value
        not_in_paper = value.table == "not_in_paper"
        assert ("NOT IN THE PAPER" in value.note) == not_in_paper
        assert (
            value.source.startswith(f"arXiv 2312.00869v2 table {value.table[-1]}") != not_in_paper
        )


def test_coordinates_are_settings(published):
    axes = known_paths()
    for value in published.values:
        for part in filter(None, value.coordinates.split(";")):
            (axis,) = parse_coordinates(part) or {}
            assert axis in axes, value
    found = published.row("table_7", "LLAMA-3B, LSJ (0.1, 2.0)", "row")["cider_d"]
    assert found.coordinates == "text_decoder.weights=open_llama_3b_v2;data.lsj_scale=[0.1, 2.0]"


def test_caveats_are_kept(published):
    notes = {
        ("table_2", "COCO"): "100K steps on VG, after 100K of pretraining",
        ("table_3", "GPT2, mixer 5e-5, decoder 5e-6"): "structure re-aligned",
        ("table_4", "12 layers"): "comparable only inside this table",
        ("table_5", "SAM Query"): "only the first of three mask tokens",
    }
    for (table, row), note in notes.items():
        assert note in published.row(table, row, "row")["cider_d"].note
    steps = [published.row("table_2", r, "r")["meteor"] for r in ("No pretraining", "COCO")]
    assert [value.protocol["steps"] for value in steps] == ["100000", "100000 + 100000"]


def test_the_nearest_table_and_row_are_named(published):
    line = r"^s\.yaml: paper: 'table_44' .*did you mean table_4\?"
    with pytest.raises(InputError, match=line), at("s.yaml"):
        published.row("table_44", "2 layers", "published.x")
    line = r"^s\.yaml: published\.x: '12 layer' .*12 layers\?"
    with pytest.raises(InputError, match=line), at("s.yaml"):
        published.row("table_4", "12 layer", "published.x")


LINE = ["t", "r", "", "cider_d", "1.0", "x100", *([""] * len(PROTOCOL)), "somewhere", ""]


def csv_of(tmp_path: Path, header: str, *lines: list[str]) -> Path:
    path = tmp_path / "published.csv"
    path.write_text("\n".join([header, *(",".join(line) for line in lines), ""]), encoding="utf-8")
    return path


def changed(**fields: str) -> list[str]:
    return [fields.get(name, value) for name, value in zip(COLUMNS, LINE, strict=True)]


@pytest.mark.parametrize(
    ("header", "lines", "message"),
    [
        (",".join(COLUMNS[1:]), [], "line 1: the header lacks table"),
        (",".join((*COLUMNS, "colour")), [], "line 1: the header has unknown colour"),
        (",".join(reversed(COLUMNS)), [], "columns in another order"),
        (",".join(COLUMNS), [LINE[1:]], f"line 2: {len(COLUMNS) - 1} fields"),
        (",".join(COLUMNS), [LINE, changed(metric="b", value="")], "line 3: value: is empty"),
        (",".join(COLUMNS), [changed(value="much")], "line 2: value: 'much' is not a number"),
        (",".join(COLUMNS), [changed(value="nan")], "line 2: value: 'nan' is not a number"),
        (",".join(COLUMNS), [changed(source="")], "line 2: source: is empty"),
        (",".join(COLUMNS), [LINE, LINE], "line 3: t / r / cider_d stands there twice"),
        (",".join(COLUMNS), [changed(row='"a')], "not a CSV file"),
    ],
)  # fmt: skip
def test_a_malformed_file_is_one_clear_line(tmp_path, header, lines, message):
    path = csv_of(tmp_path, header, *lines)
    with pytest.raises(InputError) as caught:
        read_published(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_bytes_that_are_no_text_are_named(tmp_path):
    path = tmp_path / "published.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="line 1: byte 0xFF is not UTF-8"):
        read_published(path)


def test_a_folder_of_reports_comes_before_the_package(tmp_path):
    assert find_published(tmp_path) == find_published()
    own = csv_of(tmp_path, ",".join(COLUMNS), LINE)
    assert find_published(tmp_path) == own


def suite_with(write, suite_text, mapping: str, extra: str = ""):
    return load_suite(write(suite_text + f"paper: table_4\npublished: {mapping}\n{extra}"))


def test_cells_are_named_or_given_by_coordinates(write, suite_text):
    mapping = "{num_layers=1: 2 layers, mixer.num_layers=2: 4 layers}"
    suite = suite_with(write, suite_text, mapping)
    assert suite.published.cells == {"num_layers=1": "2 layers", "num_layers=2": "4 layers"}


def test_cells_may_be_of_another_profile(write, suite_text):
    extra = "profiles: {small: {axes: {mixer.num_layers: [12]}}}\n"
    suite = suite_with(write, suite_text, "{num_layers=12: 12 layers}", extra)
    assert suite.published.cells == {"num_layers=12": "12 layers"}


AXES = "axes: {mixer.num_layers: [1, 2], data.lsj_scale: [null, [0.1, 2.0]]}"


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("{num_layers=1: 2 layer}", "published.num_layers=1: '2 layer' is no row of table_4"),
        ("{num_layers=3: 2 layers}",
         "published.num_layers=3: no profile has such a cell; did you mean num_layers="),
        ("{mixer.num_layers=3: 2 layers}", "no profile has such a cell"),
        ("{mixer.num_layers=1: 2 layers, num_layers=1: 4 layers}",
         "published.num_layers=1: num_layers=1 has the row '2 layers' already"),
        ("[a]", "published: ['a'] is wrong"),
        ("{num_layers=1: 2}", "published.num_layers=1: 2 is wrong"),
    ],
)  # fmt: skip
def test_every_fault_of_the_mapping_is_one_clear_line(write, suite_text, mapping, message):
    with pytest.raises(InputError) as caught:
        suite_with(write, suite_text, mapping)
    assert message in str(caught.value)


def test_a_mapping_needs_a_table(write, suite_text):
    with pytest.raises(InputError, match="published: needs `paper:`"):
        load_suite(write(suite_text + "published: {num_layers=1: 2 layers}\n"))


def test_coordinates_of_several_cells_are_refused(write, suite_text):
    text = suite_text.replace("axes: {mixer.num_layers: [1, 2]}", AXES)
    with pytest.raises(InputError, match=r"means 2 cells \(num_layers=1,lsj_scale=none, "):
        suite_with(write, text, "{mixer.num_layers=1: 2 layers}")
    key = "'mixer.num_layers=1, data.lsj_scale=[0.1, 2.0]'"
    suite = suite_with(write, text, f"{{{key}: 2 layers}}")
    assert suite.published.cells == {"num_layers=1,lsj_scale=[0.1, 2.0]": "2 layers"}


def test_claims_with_two_published_sides(write, suite_text):
    extra = """
claims: [{id: deep, says: "cider_d(mixer.num_layers=2) > cider_d(mixer.num_layers=1)"}]
profiles:
  tiny:
    claims:
      - {id: deep, says: "cider_d(mixer.num_layers=2) > cider_d(mixer.num_layers=1)"}
  small:
    axes: {mixer.num_layers: [5, 6]}
    claims:
      - {id: deep, says: "cider_d(mixer.num_layers=6) > cider_d(mixer.num_layers=5)"}
"""
    both = suite_with(write, suite_text, "{num_layers=1: 2 layers, num_layers=2: 12 layers}", extra)
    found = both.published.claims["deep"]
    assert (found.left, found.right) == ("12 layers", "2 layers")
    small = load_suite(both.file, profile="small")  # its own cells have no row: the suite's do
    assert small.published.claims["deep"] == found
    one = suite_with(write, suite_text, "{num_layers=1: 2 layers}", extra)
    assert one.published.claims == {}


def test_rows_reach_the_manifest_and_old_manifests_stay_readable(write, suite_text, tmp_path):
    suite = suite_with(write, suite_text, "{num_layers=1: 2 layers}")
    store = Store(tmp_path / "runs")
    manifest = manifest_of(make_plan(suite, store), store, "run", "now")
    assert [cell.published_row for cell in manifest.cells] == ["2 layers", ""]
    old = manifest.model_dump()
    del old["published_claims"]
    for cell in old["cells"]:
        del cell["published_row"]
    again = SuiteManifest.model_validate(old)
    assert again.published_claims == {}
    assert isinstance(again.cells[0], CellEntry)
    assert again.cells[0].published_row == ""


def test_an_installation_without_the_file_leaves_rows_to_the_report(write, suite_text, monkeypatch):
    monkeypatch.setattr(published_rows, "find_published", lambda: None)
    suite = suite_with(write, suite_text, "{num_layers=1: no such row}")
    assert suite.published.cells == {"num_layers=1": "no such row"}


def test_shipped_suites_name_rows_that_exist():
    suite = load_suite(ROOT / "ablations" / "mixer_layers.yaml")
    assert suite.published.cells["num_layers=24"] == "24 layers"
    assert suite.published.claims["depth_helps"].left == "12 layers"


SUITES = sorted((ROOT / "ablations").glob("*.yaml"))


@pytest.mark.parametrize("profile", ["tiny", "paper"])
@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_every_claim_of_a_shipped_suite_means_two_cells(path, profile):
    """And where both have a published row, the paper's own difference stands beside it."""
    own = path.stem == "photos"
    suite = load_suite(path, profile=None if own else profile, allow_missing=True)
    for claim in suite.claims:
        parsed = parse_claim(claim.says)
        sides = claim_cells(parsed, [point_of(cell) for cell in suite.cells])
        names = [[point.name for point in side] for side in sides]
        assert [len(found) for found in names] == [1, 1], (claim.says, names)
        rows = [suite.published.cells.get(found[0]) for found in names]
        paper = {one.id: one.says for one in suite.spec.claims}
        if all(rows) and paper.get(claim.id, claim.says) == claim.says:
            found = suite.published.claims[claim.id]
            assert [found.left, found.right] == rows


def test_a_profile_s_own_claim_keeps_the_paper_s_difference():
    """At tiny, 4 layers against 2 stands for 24 against 12, though all four are published."""
    suite = load_suite(ROOT / "ablations" / "mixer_layers.yaml", profile="tiny")
    found = suite.published.claims["depth_saturates"]
    assert (found.left, found.right) == ("24 layers", "12 layers")
