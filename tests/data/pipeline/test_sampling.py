from itertools import islice

import numpy as np
import pytest

from sca_bench.data.pipeline.sampling import Draw, EvalSampler, SeekableSampler


def first(sampler, count):
    return list(islice(sampler, count))


def test_every_epoch_is_another_permutation():
    draws = first(SeekableSampler(7, seed=3), 21)
    epochs = [[d.index for d in draws[k : k + 7]] for k in (0, 7, 14)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [d.number for d in draws] == list(range(21))


@pytest.mark.parametrize("start", [0, 1, 6, 7, 8, 20])
def test_seeking_equals_replaying(start):
    whole = first(SeekableSampler(7, seed=5), 40)
    assert first(SeekableSampler(7, seed=5, start=start), 40 - start) == whole[start:]


def test_far_positions_are_reached_at_once():
    draw = next(iter(SeekableSampler(77_398, seed=0, start=1_600_000)))
    assert draw.number == 1_600_000


def test_seeds_give_other_orders_and_iterating_twice_gives_the_same():
    sampler = SeekableSampler(50, seed=1)
    assert first(sampler, 50) == first(sampler, 50)
    assert first(sampler, 50) != first(SeekableSampler(50, seed=2), 50)


def test_order_and_draw_randomness_are_apart():
    """Draw 0's own numbers must not be those that made the order of epoch 0."""
    order = [d.index for d in first(SeekableSampler(50, seed=1), 50)]
    assert order != np.random.default_rng([1, 0]).permutation(50).tolist()


@pytest.mark.parametrize("bad", [{"num_images": 0}, {"start": -1}, {"seed": -1}])
def test_impossible_arguments_are_refused(bad):
    with pytest.raises(ValueError, match="must be positive"):
        SeekableSampler(**({"num_images": 3, "seed": 0} | bad))


def test_evaluation_visits_every_image_once_in_order():
    sampler = EvalSampler(3)
    assert len(sampler) == 3
    assert list(sampler) == [Draw(0, 0), Draw(1, 1), Draw(2, 2)]
