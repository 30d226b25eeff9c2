import numpy as np
import pytest

from trmrl.references.gittins import gittins_index

# Gittins, Glazebrook & Weber (2011), tables 8.1 and following: index after s successes and f
# failures, prior Beta(1, 1).
PUBLISHED = {0.9: {(0, 0): 0.7029, (1, 0): 0.8001, (0, 1): 0.5001}, 0.99: {(0, 0): 0.8699}}


@pytest.mark.parametrize("gamma", PUBLISHED)
def test_the_published_table(gamma):
    index = gittins_index(20, gamma)
    for (success, failure), value in PUBLISHED[gamma].items():
        assert index[success, failure] == pytest.approx(value, abs=2e-4)


def test_without_a_future_it_is_the_mean():
    index = gittins_index(6, 0.0)
    for success in range(7):
        for failure in range(7 - success):
            mean = (success + 1) / (success + failure + 2)
            assert index[success, failure] == pytest.approx(mean, abs=1e-5)


def test_two_pulls_by_hand():
    """With a future of one pull only, weighing g: (1/2 - c) + g [1/2 (2/3 - c)] = 0."""
    # The horizon is far, so this bounds the index from below; beyond, pulls only add.
    gamma = 0.3
    two_pulls = (0.5 + gamma / 3) / (1 + gamma / 2)
    index = gittins_index(10, gamma)[0, 0]
    assert two_pulls < index < two_pulls + 0.02


def test_the_table_ends_at_the_last_pull():
    index = gittins_index(5, 0.9)
    assert index.shape == (6, 6)
    total = np.add.outer(np.arange(6), np.arange(6))
    assert (index[total <= 5] > 0).all()
    assert not index[total > 5].any()
