"""Which cells a claim reads: a main effect where both sides balance, or one line that says why not.

Everything is met while the suite is loaded, before anything is trained.
"""

import pytest

from sca_bench.errors import InputError
from sca_bench.study.suite.claims import parse_claim
from sca_bench.study.suite.schema import Patch
from sca_bench.study.suite.sides import (
    NoSuchCell,
    Point,
    averaged_axes,
    claim_cells,
    find,
    points_of,
)
from sca_bench.study.suite.suite import load_suite

AXES = "{mixer.num_layers: [1, 2], mixer.num_query_tokens: [4, 8]}"
CONTROLS = """
cells:
  - {name: blank images, set: {data.blank_images: true}, control: true}
  - {name: permuted captions, set: {data.permute_captions: true}, control: true}
  - {name: "deep, narrow", set: {mixer.num_layers: 3, mixer.num_query_tokens: 2}}
"""


def suite_of(write, suite_text, says, axes=AXES, more="", **claim):
    text = suite_text.replace("{mixer.num_layers: [1, 2]}", axes)
    entry = {"id": "it", "says": says, **claim}
    return load_suite(write(f"{text}claims: [{entry}]\n{more}"))


def read(suite, says=None):
    points = points_of(suite.spec, Patch())
    left, right = claim_cells(parse_claim(says or suite.claims[0].says), points)
    return [[point.name for point in side] for side in (left, right)]


@pytest.mark.parametrize(
    "says",
    [
        "cider_d(mixer.num_layers=2) > cider_d(mixer.num_layers=1)",
        "cider_d(num_layers=2) > cider_d(num_layers=1)",
        "cider_d( num_layers = 2 ) > cider_d(mixer.num_layers=1)",
    ],
)
def test_an_open_axis_is_averaged_over(write, suite_text, says):
    suite = suite_of(write, suite_text, says)
    assert read(suite) == [
        ["num_layers=2,num_query_tokens=4", "num_layers=2,num_query_tokens=8"],
        ["num_layers=1,num_query_tokens=4", "num_layers=1,num_query_tokens=8"],
    ]
    points = points_of(suite.spec, Patch())
    claim = parse_claim(says)
    assert averaged_axes(claim, claim_cells(claim, points)[0]) == ["mixer.num_query_tokens"]


@pytest.mark.parametrize(
    ("says", "left", "right"),
    [
        ("cider_d(num_layers=2, num_query_tokens=4) > cider_d(num_layers=1,num_query_tokens=8)",
         "num_layers=2,num_query_tokens=4", "num_layers=1,num_query_tokens=8"),
        ("cider_d(cell='num_layers=2, num_query_tokens=4') > cider_d(cell=blank images)",
         "num_layers=2,num_query_tokens=4", "blank images"),
        ("cider_d(cell='deep, narrow') > cider_d(cell='num_layers=1,num_query_tokens=4')",
         "deep, narrow", "num_layers=1,num_query_tokens=4"),
    ],
)  # fmt: skip
def test_single_cells_by_coordinates_and_by_name(write, suite_text, says, left, right):
    assert read(suite_of(write, suite_text, says, more=CONTROLS)) == [[left], [right]]


BALANCE = "claims.it: does not balance: "


@pytest.mark.parametrize(
    ("says", "more", "message"),
    [
        ("cider_d(num_layers=2, num_query_tokens=8) > cider_d(num_layers=1)", "",
         "leaves no axis open on the left, mixer.num_query_tokens on the right; name the same"),
        ("cider_d(num_layers=2) > cider_d(num_query_tokens=4)", "",
         "leaves mixer.num_query_tokens open on the left, mixer.num_layers on the right"),
        ("cider_d(num_layers=2) > cider_d(cell=blank images)", CONTROLS,
         "leaves mixer.num_query_tokens open on the left, no axis on the right"),
        ("cider_d(num_layers=2) > cider_d(num_layers=1)",
         "unless: [{mixer.num_layers: 2, mixer.num_query_tokens: 4}]\n",
         "the left side lacks mixer.num_query_tokens=4; name mixer.num_query_tokens on both"),
        ("cider_d(num_layers=2) > cider_d(num_layers=1)",
         "unless: [{mixer.num_layers: 2, mixer.num_query_tokens: 4},"
         " {mixer.num_layers: 1, mixer.num_query_tokens: 8}]\n",
         "the left side lacks mixer.num_query_tokens=4; the right side lacks mixer.num_query_"),
    ],
)  # fmt: skip
def test_sides_that_do_not_balance_are_refused(write, suite_text, says, more, message):
    with pytest.raises(InputError) as caught:
        suite_of(write, suite_text, says, more=more)
    line = str(caught.value)
    assert BALANCE in line
    assert message in line
    assert line.startswith(str(caught.value.where))
    assert "num_layers=2" in line  # the cells it reads


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ("cider_d(variant=sca) > cider_d(cell=blank images)", "do not stand on the same axes"),
        ("cider_d(mixer.num_layers=24) > cider_d(num_layers=1)",
         "no cell for cider_d(mixer.num_layers=24); mixer.num_layers has 1, 2"),
        ("cider_d(num_heads=2) > cider_d(num_layers=1)", "num_heads is no axis of the suite; kn"),
        ("cider_d(num_layer=2) > cider_d(num_layers=1)", "unknown setting"),
        ("cider_d(cell=blank image) > cider_d(cell=permuted captions)",
         "no cell for cider_d(cell=blank image); did you mean blank images?"),
        ("cider_d(blank images) > cider_d(num_layers=1)", "by its name is cell=blank images"),
        ("cider_d(num_layers=2) > cider_d(mixer.num_layers=2)", "reads num_layers=2,num_query_tok"),
        ("cider_d(num_layers=2, mixer.num_layers=1) > cider_d(num_layers=1)", "is named twice"),
        ("cider_d(cell=deep) > cider_d(num_layers=1)", "(a name with a comma stands in quotes)"),
        ("cider_d(cell=blank images) > cider_d(cell=blank images)",
         "reads blank images on both sides"),
    ],
)  # fmt: skip
def test_what_means_no_cell_or_one_twice_is_refused(write, suite_text, says, message):
    with pytest.raises(InputError) as caught:
        suite_of(write, suite_text, says, more=CONTROLS)
    assert "claims.it: " in str(caught.value)
    assert message in str(caught.value)


def test_controls_have_no_mean(write, suite_text):
    points = [Point(name, {}, "other", control=True) for name in ("blank", "permuted")]
    claim = parse_claim("cider_d(variant=other) > cider_d(cell=blank)")
    with pytest.raises(InputError, match="which are controls and have no mean; name one of them"):
        claim_cells(claim, points)


@pytest.mark.parametrize(
    ("axis", "message"),
    [
        (
            "eval.prompt: [box, point]",
            "averages over cells that are captioned unalike (eval.prompt)",
        ),
        ("eval.num_beams: [1, 3]", "captioned unalike (eval.num_beams); name its value on both"),
        ("data.test.num_images: [3, 4]", "scored on other regions (data.test.num_images)"),
    ],
)
def test_a_mean_over_protocols_is_refused(write, suite_text, axis, message):
    axes = "{mixer.num_layers: [1, 2], " + axis + "}"
    with pytest.raises(InputError) as caught:
        suite_of(write, suite_text, "cider_d(num_layers=2) > cider_d(num_layers=1)", axes)
    assert message in str(caught.value)


def test_the_protocol_itself_may_be_compared(write, suite_text):
    axes = "{mixer.num_layers: [1, 2], eval.prompt: [box, point]}"
    says = "cider_d(eval.prompt=box) > cider_d(prompt=point)"
    assert len(read(suite_of(write, suite_text, says, axes))[0]) == 2


def test_cells_of_other_regions_are_not_compared(write, suite_text):
    axes = "{data.test.num_images: [3, 4]}"
    says = "cider_d(data.test.num_images=3) > cider_d(data.test.num_images=4)"
    with pytest.raises(InputError, match=r"scored on other regions \(data\.test\.num_images\)"):
        suite_of(write, suite_text, says, axes)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("cider_d(num_layers=2) > cider_d(num_layers=1)", None),
        ("cider_d(mixer.num_layers=2) > cider_d(num_layers=1)",
         "cider_d(num_layers=1) < cider_d(num_layers=2)"),
        ("cider_d(num_layers=2) <= cider_d(num_layers=1)",
         "cider_d(num_layers=1) >= cider_d(mixer.num_layers=2)"),
    ],
)  # fmt: skip
def test_a_claim_stated_twice_is_refused(write, suite_text, one, other):
    claims = [{"id": "a", "says": one}, {"id": "b", "says": other or one}]
    with pytest.raises(InputError, match=r"claims\.b: says what a says already"):
        load_suite(write(f"{suite_text}claims: {claims}\n"))


def test_a_claim_taken_over_may_be_about_cells_of_another_profile(write, suite_text):
    says = "cider_d(num_layers=12) > cider_d(num_layers=24)"
    own = f"claims: [{{id: it, says: '{says}'}}]\n"
    small = "profiles: {small: {axes: {mixer.num_layers: [12, 24]}}}\n"
    with pytest.raises(NoSuchCell):
        load_suite(write(suite_text + own))
    assert load_suite(write(suite_text + own + small)).claims[0].says == says


def test_what_follows_a_claim_about_another_profile_s_cells_is_checked(write, suite_text):
    far = "cider_d(num_layers=12) > cider_d(num_layers=24)"
    near = "cider_d(num_layers=2) > cider_d(num_layers=1)"
    says = {"far": far, "a": near, "b": near}
    claims = [{"id": name, "says": text} for name, text in says.items()]
    small = "profiles: {small: {axes: {mixer.num_layers: [12, 24]}}}\n"
    with pytest.raises(InputError, match=r"claims\.b: says what a says already"):
        load_suite(write(f"{suite_text}claims: {claims}\n{small}"))


def test_claims_of_profiles_not_in_use_are_checked(write, suite_text):
    says = "cider_d(num_layers=12) > cider_d(num_layers=1)"
    text = suite_text + f"profiles: {{small: {{claims: [{{id: it, says: '{says}'}}]}}}}\n"
    with pytest.raises(InputError, match=r"profiles\.small\.claims\.it: no cell for"):
        load_suite(write(text))


@pytest.mark.parametrize("named", ["num_layers=1, num_query_tokens=8",
                                   "num_query_tokens=8, mixer.num_layers=1"])  # fmt: skip
def test_reference_and_published_rows_take_what_a_claim_takes(write, suite_text, named):
    text = suite_text.replace("{mixer.num_layers: [1, 2]}", AXES)
    more = f"reference: '{named}'\npaper: table_4\npublished: {{'{named}': 2 layers}}\n"
    suite = load_suite(write(text + more))
    assert suite.reference == "num_layers=1,num_query_tokens=8"
    assert suite.published.cells == {suite.reference: "2 layers"}


@pytest.mark.parametrize("key", ["reference: num_layers=1", "published: {num_layers=1: 2 layers}"])
def test_a_row_is_no_mean(write, suite_text, key):
    text = suite_text.replace("{mixer.num_layers: [1, 2]}", AXES)
    with pytest.raises(InputError, match=r"means 2 cells.*give all coordinates"):
        load_suite(write(f"{text}paper: table_4\n{key}\n"))


def test_a_last_part_of_two_axes_is_asked_back():
    points = [
        Point(f"{a}{b}", {"data.train.num_images": a, "data.test.num_images": b}, "sca")
        for a in (1, 2)
        for b in (3, 4)
    ]
    claim = parse_claim("cider_d(num_images=1) > cider_d(data.train.num_images=2)")
    with pytest.raises(NoSuchCell, match=r"may be data\.train\.num_images or data\.test\.num_im"):
        claim_cells(claim, points)
    assert len(find("data.train.num_images=1", points, "reference")) == 2


FIXED = {"variant": "fixed"}
JOINED = [
    Point("sca,1", {"variant": "sca", "mixer.num_layers": 1}, "sca"),
    Point("sca,2", {"variant": "sca", "mixer.num_layers": 2}, "sca"),
    Point("fixed", FIXED, "fixed", also=("fixed,1",), ignored={"mixer.num_layers": [1, 2]}),
]


@pytest.mark.parametrize(
    ("says", "left", "right"),
    [
        ("cider_d(variant=sca) > cider_d(variant=fixed)", ["sca,1", "sca,2"], ["fixed", "fixed"]),
        ("cider_d(variant=sca, num_layers=2) > cider_d(variant=fixed, num_layers=1)",
         ["sca,2"], ["fixed"]),
        ("cider_d(variant=sca, num_layers=2) > cider_d(variant=fixed)", ["sca,2"], ["fixed"]),
        ("cider_d(cell='sca,1') > cider_d(cell='fixed, 1')", ["sca,1"], ["fixed"]),
    ],
)  # fmt: skip
def test_a_cell_stands_for_every_value_of_an_axis_that_it_does_not_read(says, left, right):
    sides = claim_cells(parse_claim(says), JOINED)
    assert [[point.name for point in side] for side in sides] == [left, right]


def test_a_cell_on_both_sides_is_refused():
    claim = parse_claim("cider_d(num_layers=2) > cider_d(num_layers=1)")
    with pytest.raises(InputError, match="reads fixed on both sides"):
        claim_cells(claim, JOINED)
    assert [point.name for point in find("variant=fixed", JOINED, "reference")] == ["fixed"]
    assert [point.name for point in find("fixed, 1", JOINED, "reference")] == ["fixed"]


def test_claims_of_the_suite_are_checked_where_the_profile_has_its_own_too(write, suite_text):
    claims = 'claims: [{id: deep, says: "cider_d(num_layers=9) > cider_d(num_layers=1)"}]\n'
    says = "cider_d(num_layers=2) > cider_d(num_layers=1)"
    own = f'profiles: {{tiny: {{claims: [{{id: own, says: "{says}"}}]}}}}\n'
    with pytest.raises(InputError, match=r"claims\.deep"):
        load_suite(write(suite_text + claims + own))
    assert [claim.id for claim in load_suite(write(suite_text + own)).claims] == ["own"]
