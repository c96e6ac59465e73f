"""Which folders of real data tests read: those that are named, else those beside the checkout."""

import os

import pytest
from helpers import given


@pytest.fixture
def beside(tmp_path, monkeypatch):
    for variable in (*given.FOLDERS, given._FOUND):
        monkeypatch.setenv(variable, "")  # so that it is put back
        monkeypatch.delenv(variable)
    monkeypatch.setattr(given, "BESIDE", tmp_path / "shared")
    return tmp_path / "shared"


def test_a_folder_beside_the_checkout_is_read_and_the_other_is_said_to_be_missing(beside):
    (beside / "data").mkdir(parents=True)
    given.look_beside()
    data, weights = given.which_folders()
    assert data.endswith(f"read {beside / 'data'} (found beside the checkout)")
    assert "SKIPPED, for SCA_BENCH_WEIGHTS_DIR is not set" in weights
    assert os.environ["SCA_BENCH_DATA_DIR"] == str(beside / "data")
    assert not given.is_named("SCA_BENCH_DATA_DIR")
    with pytest.raises(pytest.skip.Exception, match=r"there is no .*shared/weights: it holds x"):
        given.given_folder("SCA_BENCH_WEIGHTS_DIR", "x")


def test_a_named_folder_wins(beside, tmp_path, monkeypatch):
    (beside / "data").mkdir(parents=True)
    monkeypatch.setenv("SCA_BENCH_DATA_DIR", str(tmp_path))
    given.look_beside()
    assert given.which_folders()[0].endswith(f"read {tmp_path} (named)")
    assert given.is_named("SCA_BENCH_DATA_DIR")
    with pytest.raises(pytest.fail.Exception, match="lacks y"):
        given.given_folder("SCA_BENCH_DATA_DIR", "y")


def test_pytest_says_so_before_the_tests(pytestconfig):
    lines = pytestconfig.hook.pytest_report_header(
        config=pytestconfig, start_path=pytestconfig.rootpath
    )
    assert given.which_folders() in lines
