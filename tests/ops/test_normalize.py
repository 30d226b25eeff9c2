import jax.numpy as jnp
import numpy as np
import pytest

from trmrl.ops.normalize import Moments, add, bound, normalize, scale, unit_moments


def draw(num_rows, seed, shape=(3,)):
    noise = np.random.default_rng(seed)
    x = (5.0 + noise.normal(size=(num_rows, *shape)) * np.arange(1, 4)).astype(np.float32)
    return x, noise.random(num_rows) < 0.6


def test_first_portion_replaces_the_unit_moments():
    x, valid = draw(20, 0)
    moments = add(unit_moments((3,)), jnp.asarray(x), jnp.asarray(valid))
    np.testing.assert_allclose(moments.mean, x[valid].mean(0), rtol=1e-5)
    np.testing.assert_allclose(moments.variance, x[valid].var(0), rtol=1e-4)
    assert float(moments.count) == valid.sum()


def test_portions_add_up_to_the_whole():
    portions = [draw(n, seed) for seed, n in enumerate((7, 30, 1, 12))]
    moments = unit_moments((3,))
    for x, valid in portions:
        moments = add(moments, jnp.asarray(x), jnp.asarray(valid))
    whole = np.concatenate([x[valid] for x, valid in portions])
    assert all(valid.any() for _, valid in portions)
    np.testing.assert_allclose(moments.mean, whole.mean(0), rtol=1e-5)
    np.testing.assert_allclose(moments.variance, whole.var(0), rtol=1e-4)
    assert float(moments.count) == len(whole)


def test_scalars_too():
    x = np.array([1.0, 2.0, 6.0, 100.0], np.float32)
    valid = jnp.array([True, True, True, False])
    moments = add(unit_moments(()), jnp.asarray(x), valid)
    assert float(moments.mean) == pytest.approx(3.0)
    assert float(moments.variance) == pytest.approx(14 / 3)


def test_without_valid_rows_nothing_changes():
    before = Moments(jnp.array([1.0]), jnp.array([2.0]), jnp.asarray(3.0))
    after = add(before, jnp.full((4, 1), 9.0), jnp.zeros(4, bool))
    for one, two in zip((before.mean, before.variance, before.count),
                        (after.mean, after.variance, after.count), strict=True):  # fmt: skip
        np.testing.assert_allclose(one, two)


def test_idle_rows_may_hold_anything_finite():
    x = jnp.array([[1.0], [3.0], [1e30]])
    moments = add(unit_moments((1,)), x, jnp.array([True, True, False]))
    np.testing.assert_allclose(moments.mean, [2.0])
    np.testing.assert_allclose(moments.variance, [1.0])


def test_normalize_and_scale_by_hand():
    moments = Moments(jnp.array([1.0, -2.0]), jnp.array([4.0, 0.25]), jnp.asarray(5.0))
    x = jnp.array([[3.0, -1.0], [-1.0, 98.0], [-99.0, -2.0]])
    expected = [[1.0, 2.0], [-1.0, 10.0], [-10.0, 0.0]]  # clipped at ten deviations
    np.testing.assert_allclose(normalize(moments, x), expected, rtol=1e-5)
    one = Moments(jnp.asarray(7.0), jnp.asarray(4.0), jnp.asarray(5.0))
    np.testing.assert_allclose(scale(one, jnp.array([0.0, -3.0, 40.0])), [0.0, -1.5, 20.0])


def test_before_anything_varied_a_first_reward_counts_as_it_is():
    """A hundred returns of zero, then a reward; and constant returns, whose variance rounds."""
    zeros = add(unit_moments(()), jnp.zeros(100), jnp.ones(100, bool))
    np.testing.assert_allclose(scale(zeros, jnp.array([0.0, 1.0, -2.0])), [0.0, 1.0, -2.0])
    alike = add(unit_moments(()), jnp.full(100, 0.1), jnp.ones(100, bool))
    np.testing.assert_allclose(scale(alike, jnp.array([3.0])), [3.0])
    rare = add(zeros, jnp.array([1.0]), jnp.ones(1, bool))
    np.testing.assert_allclose(
        scale(rare, jnp.array([1.0])), [1.0 / np.sqrt(100 / 101**2)], rtol=1e-4
    )


def test_unit_moments_change_nothing():
    x = jnp.array([[0.5, -3.0]])
    np.testing.assert_allclose(normalize(unit_moments((2,)), x), x, rtol=1e-6)


def test_rows_are_bounded_to_what_is_shown_of_them():
    """The third number has not varied: 8,000 is as good a first sign of it as any."""
    moments = Moments(jnp.array([1.0, 0.0, 5.0]), jnp.array([4.0, 1.0, 0.0]), jnp.asarray(7.0))
    x = jnp.array([[8_000.0, 3.0, 8_000.0], [-22.0, -11.0, 5.0]])
    np.testing.assert_allclose(
        bound(moments, x), [[21.0, 3.0, 8_000.0], [-19.0, -10.0, 5.0]], rtol=1e-6
    )
    shown = normalize(moments, x)
    np.testing.assert_allclose(normalize(moments, bound(moments, x)), shown, rtol=1e-5)
    np.testing.assert_array_equal(bound(unit_moments((3,)), x), x)  # nothing is known yet


def test_one_row_of_millions_does_not_rule_the_moments():
    """8,400 in one of 12 million rows would make a deviation of 0.1 one of 2.4."""
    moments = Moments(jnp.zeros(1), jnp.full(1, 0.01), jnp.asarray(12e6))
    flown = jnp.array([[8_400.0]] + [[0.1], [-0.1]] * 500)
    valid = jnp.ones(len(flown), bool)
    plain = add(moments, flown, valid)
    assert float(jnp.sqrt(plain.variance[0])) > 2.0
    bounded = add(moments, bound(moments, flown), valid)
    assert float(jnp.sqrt(bounded.variance[0])) == pytest.approx(0.1, rel=1e-3)
