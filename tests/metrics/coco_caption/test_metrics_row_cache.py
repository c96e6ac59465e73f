import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sca_bench.metrics.coco_caption.row_cache import RowMemo


@given(st.integers(1, 6), st.lists(st.lists(st.integers(0, 9), max_size=8), max_size=8))
def test_rows_are_those_of_the_keys(most, calls):
    memo = RowMemo(2, most)
    for keys in calls:
        asked = []

        def compute(places, keys=keys, asked=asked):
            asked.extend(keys[place] for place in places)
            return np.array([[keys[place], -keys[place]] for place in places], dtype=float)

        rows = memo.rows(keys, compute)
        assert rows.shape == (len(keys), 2)
        assert rows[:, 0].tolist() == keys
        assert rows[:, 1].tolist() == [-key for key in keys]
        assert len(asked) == len(set(asked))
        assert len(memo) <= most


def test_the_oldest_go_first():
    memo, asked = RowMemo(1, 2), []

    def ask(*keys):
        asked.clear()
        memo.rows(
            keys, lambda places: asked.extend(keys[p] for p in places) or np.zeros((len(places), 1))
        )
        return list(asked)

    assert ask("a", "b", "a") == ["a", "b"]
    assert ask("c") == ["c"]
    assert ask("b", "c") == []
    assert ask("a") == ["a"]


def test_many_rows_grow_the_table():
    memo = RowMemo(1, 5000)
    keys = list(range(3000))
    for _ in range(2):
        rows = memo.rows(keys, lambda places: np.array([[float(p)] for p in places]))
        assert rows[:, 0].tolist() == keys
    rows[0] = 7
    assert memo.rows([0], lambda places: np.ones((1, 1)))[0, 0] == 0, "a copy was handed out"
