"""Points on axes, names of cells, and the sentences of claims, at their edges."""

import pytest

from sca_bench.errors import InputError
from sca_bench.study.suite import axes
from sca_bench.study.suite.axes import axis_points, cell_name, check_apart, check_num_cells, is_at
from sca_bench.study.suite.claims import Claim, Side, parse_claim, parse_coordinates

TWO = {"a.x": [1, 2], "b.y": ["u", None]}


def test_a_product_varies_the_last_axis_first():
    expected = [(1, "u"), (1, None), (2, "u"), (2, None)]
    assert axis_points(TWO) == [{"a.x": x, "b.y": y} for x, y in expected]
    assert axis_points(TWO, one_at_a_time=True) == [
        {"a.x": 1},
        {"a.x": 2},
        {"b.y": "u"},
        {"b.y": None},
    ]
    assert axis_points({}) == [{}]
    assert axis_points({}, one_at_a_time=True) == []
    assert axis_points({"a": []}) == []


@pytest.mark.parametrize(
    ("unless", "left"),
    [
        ([], 4),
        ([{"a.x": 1}], 2),
        ([{"a.x": 1, "b.y": "u"}], 3),
        ([{"a.x": 1, "b.y": "u"}, {"a.x": 2}], 1),
        ([{"a.x": 3}], 4),
        ([{"b.y": None}], 2),
        ([{"c": None}], 4),  # what stands on no axis is nowhere
        ([{}], 0),
    ],
)
def test_unless_leaves_cells_out(unless, left):
    points = axis_points(TWO, unless=unless)
    assert len(points) == left
    assert not [point for point in points for rule in unless if is_at(point, rule)]


def test_a_point_is_where_all_of_a_rule_holds():
    point = {"a": 1, "b": 2.0}
    assert is_at(point, {"a": 1})
    assert is_at(point, {"a": 1, "b": 2})
    assert not is_at(point, {"a": 1, "b": 3})
    assert not is_at(point, {"a": True})  # which is 1 to Python
    assert not is_at(point, {"c": 1})


@pytest.mark.parametrize(
    ("coordinates", "name"),
    [
        ({}, "suite"),
        ({"train.steps": 5}, "steps=5"),
        ({"a.x": 1, "b.y": None}, "x=1,y=none"),
        ({"a.x": 1, "b.x": True}, "a.x=1,b.x=true"),
        ({"a": 1e-4}, "a=1e-4"),
    ],
)
def test_names_of_cells(coordinates, name):
    assert cell_name(coordinates, "suite") == name


def test_settings_of_which_one_is_a_part_of_another_are_refused():
    check_apart(["a", "ab", "b.a", "b.ab"], "axes")
    check_apart([], "axes")
    for given in (["a", "a.b"], ["a.b", "c", "a"], ["a.b.c", "a.b"]):
        part, whole = max(given, key=len), sorted(given)[0]
        with pytest.raises(InputError, match=rf"^axes\.{part}: is a part of axes\.{whole}; give"):
            check_apart(given, "axes")


@pytest.mark.parametrize(
    ("sizes", "one_at_a_time", "said"),
    [
        ((4, 5), False, None),
        ((3, 7), False, r"3 x 7 values make 21 cells; a suite has 20 .*or set one_at_a_time: true"),
        ((3, 7), True, None),
        ((13, 7), True, None),
        (
            (13, 8),
            True,
            r"13 \+ 8 values make 21 cells; a suite has 20 at most; give fewer values$",
        ),
        ((21,), False, "21 values make 21 cells"),
        ((), False, None),
    ],
)
def test_no_more_cells_than_anybody_means(monkeypatch, sizes, one_at_a_time, said):
    assert axes.MOST_CELLS == 2_000
    monkeypatch.setattr(axes, "MOST_CELLS", 20)
    given = {f"axis{n}": range(size) for n, size in enumerate(sizes)}
    if said is None:
        check_num_cells(given, one_at_a_time, "axes")
    else:
        with pytest.raises(InputError, match=f"^axes: {said}"):
            check_num_cells(given, one_at_a_time, "axes")


# --- claims -----------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [">", "<", ">=", "<="])
@pytest.mark.parametrize("space", ["", " "])
def test_a_claim(sign, space):
    text = f"train/cider_d.x(a=1,{space}b=none){space}{sign}{space}train/cider_d.x(cell=c)"
    left, right = {"a": 1, "b": "none"}, {"cell": "c"}
    claim = Claim(Side("train/cider_d.x", left), sign, Side("train/cider_d.x", right))
    assert parse_claim(text) == claim
    assert parse_claim(f"{claim.left} {claim.comparator} {claim.right}") == claim


@pytest.mark.parametrize(
    "text",
    [
        "",
        "m(a=1)",
        "m(a=1) > m(a=2) > m(a=3)",
        "m(a=1) = m(a=2)",
        "m > m(a=1)",
        "m(a=1 > m(a=2)",
        "m a=1) > m(a=2)",
        "m(a=1) > n n(a=2)",
        "(a=1) > (a=2)",
        "m(a=1)x > m(a=2)",
        "m\u00e9(a=1) > m\u00e9(a=2)",
    ],
)
def test_what_is_no_claim(text):
    with pytest.raises(InputError, match=r"^key: cannot read .*; expected metric\(axis=value\) >"):
        parse_claim(text, "key")


@pytest.mark.parametrize("inside", ["", "12", "a=1,a=2", "a=", "=1", "a=1,,b=2", "a=1,"])
def test_what_is_no_place_of_a_claim(inside):
    assert parse_coordinates(inside) is None
    with pytest.raises(InputError, match=r"^key: cannot read .* in the claim") as caught:
        parse_claim(f"m({inside}) > m(a=1)", "key")
    assert ("a cell by its name is cell=12" in str(caught.value)) == (inside == "12")


def test_a_claim_compares_one_metric():
    with pytest.raises(InputError, match=r"^key: compares m with n; a claim compares one metric"):
        parse_claim("m(a=1) > n(a=1)", "key")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a=1", {"a": 1}),
        (" a = 1 , b.c = x y ", {"a": 1, "b.c": "x y"}),
        ("a=[0.1, 2.0], b={c: 1, d: 2}", {"a": [0.1, 2.0], "b": {"c": 1, "d": 2}}),
        ('cell="one, two", a=1', {"cell": "one, two", "a": 1}),
        ("cell='a > b'", {"cell": "a > b"}),
        ("cell=it's, a=2", {"cell": "it's", "a": 2}),
        ("a=true, b=null, c=1e-4", {"a": True, "b": None, "c": 1e-4}),
        ("a=b=c", {"a": "b=c"}),
        ("a=['x, y', \"z, w\"]", {"a": ["x, y", "z, w"]}),
    ],
)
def test_coordinates(text, found):
    assert parse_coordinates(text) == found
    assert list(parse_coordinates(text)) == list(found)


def test_signs_inside_quotes_and_brackets_are_no_signs():
    claim = parse_claim("""m(cell="a > b, c") >= m(cell='d <= (e', x=[1, 2])""")
    assert claim.left.where == {"cell": "a > b, c"}
    assert claim.right.where == {"cell": "d <= (e", "x": [1, 2]}
    assert claim.comparator == ">="
